"""The layers of the cascade, and values that know theirs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy


class Layer(StrEnum):
    """Where a value came from; later layers win."""

    DEFAULT = "default"
    BROWSER = "browser"
    SETTING = "setting"
    WORKFLOW_SETTING = "workflow_setting"
    WORKFLOW = "workflow"
    GROUP_OVERRIDE = "group_override"
    USER_OVERRIDE = "user_override"
    ARGUMENT = "argument"


LAYER_LABELS: Mapping[Layer, Any] = {
    Layer.DEFAULT: gettext_lazy("the default"),
    Layer.BROWSER: gettext_lazy("the browser"),
    Layer.SETTING: gettext_lazy("the settings"),
    Layer.WORKFLOW_SETTING: gettext_lazy("the workflow in the settings"),
    Layer.WORKFLOW: gettext_lazy("the workflow in the admin"),
    Layer.GROUP_OVERRIDE: gettext_lazy("an override for a group"),
    Layer.USER_OVERRIDE: gettext_lazy("an override for the user"),
    Layer.ARGUMENT: gettext_lazy("the call itself"),
}


@dataclass(frozen=True)
class Resolved:
    """A value and the layer that supplied it.

    Attributes:
        source: more of where it came from, in JSON: for an override its id, target, workflow and end.
    """

    value: Any
    layer: Layer
    source: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return what the audit row keeps."""
        return {
            "value": self.value,
            "layer": self.layer.value,
            **({"source": self.source} if self.source else {}),
        }


def describe(item: Mapping[str, Any]) -> str:
    """Return in words where a value of a stored policy came from, such as "override for group Trial"."""
    source = item.get("source")
    if not source:
        return str(LAYER_LABELS[Layer(item["layer"])])
    if "group" in source:
        text = _("override for group %(name)s") % {"name": source["group"]}
    else:
        text = _("override for user %(name)s") % {"name": source["user"]}
    if "workflow" in source:
        text += _(", for %(workflow)s only") % {"workflow": source["workflow"]}
    if "valid_until" in source:
        until = localtime(datetime.fromisoformat(source["valid_until"]))
        text += _(", valid until %(until)s") % {"until": date_format(until, "DATETIME_FORMAT")}
    return text


def supplied_by(layer: Layer, values: Mapping[str, Any]) -> dict[str, Resolved]:
    """Return the values, each marked with the layer."""
    return {name: Resolved(value, layer) for name, value in values.items()}
