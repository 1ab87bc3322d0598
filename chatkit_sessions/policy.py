"""The cascade: every value of a session, resolved through layers, and the layer that each came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .conf import Settings
from .identity import Identity
from .layers import Layer, Resolved, describe, supplied_by
from .models import Issuer, PolicyOverride, Workflow
from .workflows import WorkflowConfig

# What the API, or this package, does where no layer says anything. Sources: the API's OpenAPI description.
DEFAULTS: Mapping[str, Any] = {
    "tracing_enabled": True,
    "automatic_thread_titling_enabled": True,
    "file_upload_enabled": False,
    "file_upload_max_file_size": 512,
    "file_upload_max_files": 10,
    "history_enabled": True,
    "history_recent_threads": None,
    "expires_after": 600,
    "max_requests_per_1_minute": 10,
    "max_active_sessions": None,
    "max_sessions_per_hour": 60,
    "issuer": Issuer.OPENAI.value,
    "credentials": "",
    "workflow_id": "",
    "version": None,
    "isolate_history": False,
}
SITE_FIELDS = ("expires_after", "max_requests_per_1_minute", "max_active_sessions", "max_sessions_per_hour")
# What an override may set. For all of them a smaller value is the stricter one.
OVERRIDE_FIELDS = SITE_FIELDS
_UNITS = {"expires_after": "s", "file_upload_max_file_size": "MB"}
_WITHOUT = {
    "version": _("the latest deployment"),
    "credentials": _("the site's own"),
    "history_recent_threads": _("unlimited"),
    "max_active_sessions": _("unlimited"),
    "max_sessions_per_hour": _("unlimited"),
}
# Where each value of CHATKIT_CONFIGURATION stands among ours.
CONFIGURATION_FIELDS: Mapping[str, tuple[str, str]] = {
    "automatic_thread_titling_enabled": ("automatic_thread_titling", "enabled"),
    "file_upload_enabled": ("file_upload", "enabled"),
    "file_upload_max_file_size": ("file_upload", "max_file_size"),
    "file_upload_max_files": ("file_upload", "max_files"),
    "history_enabled": ("history", "enabled"),
    "history_recent_threads": ("history", "recent_threads"),
}


@dataclass(frozen=True, kw_only=True)
class SessionPolicy:
    """Everything that is decided about a session, and by which layer.

    Attributes:
        blocked_by: where an override that blocks this person comes from, or None.
    """

    workflow: WorkflowConfig
    values: Mapping[str, Resolved]
    blocked_by: Mapping[str, Any] | None = None

    def __getitem__(self, field: str) -> Any:
        return self.values[field].value

    def set_values(self) -> dict[str, Any]:
        """Return the values that some layer set: what the API has to be told."""
        return {name: item.value for name, item in self.values.items() if item.layer is not Layer.DEFAULT}

    def as_json(self) -> dict[str, dict[str, Any]]:
        """Return the values with their layers, as the audit row keeps them."""
        return {name: item.as_json() for name, item in self.values.items()}

    def is_same_as(self, stored: Mapping[str, Mapping[str, Any]]) -> bool:
        """Return whether a stored policy decides the same, from whichever layers."""
        decided = {name: item.value for name, item in self.values.items()}
        return decided == {name: item["value"] for name, item in stored.items()}

    def with_values(self, values: Mapping[str, Resolved]) -> SessionPolicy:
        """Return this policy with more values, for the record."""
        return replace(self, values={**self.values, **values})


def describe_policy(stored: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Return label, value with its unit, and provenance of each value of a stored policy, in words."""
    return [(_label(name), _in_words(name, item["value"]), describe(item)) for name, item in stored.items()]


def _label(name: str) -> str:
    return str(Workflow._meta.get_field(name).verbose_name)  # type: ignore[union-attr]  # none is a relation


def _in_words(name: str, value: Any) -> str:
    if name == "state_variables":
        return ", ".join(value["names"])
    if isinstance(value, bool):
        return str(_("yes") if value else _("no"))
    if value in (None, ""):
        return str(_WITHOUT.get(name, _("none")))
    return f"{value} {_UNITS[name]}" if name in _UNITS else str(value)


def as_configuration(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return those of the values that belong to ``chatkit_configuration``, in the API's shape."""
    configuration: dict[str, dict[str, Any]] = {}
    for name, (section, leaf) in CONFIGURATION_FIELDS.items():
        if name in values:
            configuration.setdefault(section, {})[leaf] = values[name]
    return configuration


def from_configuration(configuration: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the values that a ``chatkit_configuration`` sets, under our names."""
    return {
        name: configuration[section][leaf]
        for name, (section, leaf) in CONFIGURATION_FIELDS.items()
        if leaf in configuration.get(section, {})
    }


def resolve_policy(
    settings: Settings, workflow: WorkflowConfig, identity: Identity, arguments: Mapping[str, Any]
) -> SessionPolicy:
    """Resolve every value of a session of this workflow; ``arguments`` are those of the service call."""
    site = {name: getattr(settings, name) for name in SITE_FIELDS}
    site = {name: value for name, value in site.items() if value != getattr(Settings, name)}
    overrides = _overrides(identity, workflow.slug)
    return SessionPolicy(
        workflow=workflow,
        values={
            **supplied_by(Layer.DEFAULT, DEFAULTS),
            **supplied_by(Layer.SETTING, {**from_configuration(settings.chatkit_configuration), **site}),
            **{name: item for name, item in workflow.values.items() if name in DEFAULTS},
            **_override_values(overrides),
            **supplied_by(Layer.ARGUMENT, arguments),
        },
        blocked_by=next((_source(override) for override in overrides if override.is_blocked), None),
    )


def _overrides(identity: Identity, slug: str) -> list[PolicyOverride]:
    if identity.user is None:
        return []
    overrides = PolicyOverride.objects.for_user(identity.user).for_workflow(slug).in_force(timezone.now())
    rows = overrides.select_related("user", "group").order_by("pk")
    # Compared here once more: to some databases upper and lower case are the same.
    return [row for row in rows if row.workflow_slug in ("", slug)]


def _override_values(overrides: list[PolicyOverride]) -> dict[str, Resolved]:
    """Return the winner of each value: user over group, then one workflow over all, then the stricter."""
    values = {}
    for name in OVERRIDE_FIELDS:
        setting_it = [override for override in overrides if getattr(override, name) is not None]
        if setting_it:
            winner = max(setting_it, key=lambda row: (*_specificity(row), -getattr(row, name)))
            layer = Layer.USER_OVERRIDE if winner.user_id is not None else Layer.GROUP_OVERRIDE
            values[name] = Resolved(getattr(winner, name), layer, _source(winner))
    return values


def _specificity(override: PolicyOverride) -> tuple[bool, bool]:
    return override.user_id is not None, bool(override.workflow_slug)


def _source(override: PolicyOverride) -> dict[str, Any]:
    # Names and no words: what the audit keeps is told later, in the reader's language.
    target = {"user": str(override.user)} if override.user_id is not None else {"group": str(override.group)}
    source: dict[str, Any] = {"override": override.pk, **target}
    if override.workflow_slug:
        source["workflow"] = override.workflow_slug
    if override.valid_until:
        source["valid_until"] = override.valid_until.isoformat()
    return source
