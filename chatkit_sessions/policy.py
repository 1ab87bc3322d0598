"""The cascade: every value of a session, resolved through layers, and the layer that each came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from . import rules
from .conf import Settings
from .exceptions import NotConfigured, WorkflowNotFound
from .models import Issuer, Workflow

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser


class Layer(StrEnum):
    """Where a value came from; later layers win."""

    DEFAULT = "default"
    SETTING = "setting"
    WORKFLOW_SETTING = "workflow_setting"
    WORKFLOW = "workflow"
    ARGUMENT = "argument"


LAYER_LABELS: Mapping[Layer, Any] = {
    Layer.DEFAULT: gettext_lazy("the API's default"),
    Layer.SETTING: gettext_lazy("the settings"),
    Layer.WORKFLOW_SETTING: gettext_lazy("the workflow in the settings"),
    Layer.WORKFLOW: gettext_lazy("the workflow in the admin"),
    Layer.ARGUMENT: gettext_lazy("the call itself"),
}

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
ROW_FIELDS = tuple(name for name in rules.workflow_rules(0) if name != "groups")
# Where each value of CHATKIT_CONFIGURATION stands among ours.
CONFIGURATION_FIELDS: Mapping[str, tuple[str, str]] = {
    "automatic_thread_titling_enabled": ("automatic_thread_titling", "enabled"),
    "file_upload_enabled": ("file_upload", "enabled"),
    "file_upload_max_file_size": ("file_upload", "max_file_size"),
    "file_upload_max_files": ("file_upload", "max_files"),
    "history_enabled": ("history", "enabled"),
    "history_recent_threads": ("history", "recent_threads"),
}


@dataclass(frozen=True)
class Resolved:
    """A value and the layer that supplied it."""

    value: Any
    layer: Layer


@dataclass(frozen=True, kw_only=True)
class WorkflowConfig:
    """A workflow as the settings and the admin describe it together.

    Attributes:
        values: each field that is set, with its layer.
        is_member: whether the person is in a group that the admin names for it; None where it names none.
    """

    slug: str
    values: Mapping[str, Resolved]
    is_member: bool | None = None

    def get(self, field: str, default: Any = None) -> Any:
        """Return a field's value, or ``default`` where no layer sets it."""
        return self.values[field].value if field in self.values else default

    @property
    def name(self) -> str:
        """Return the name for people."""
        return self.get("name") or self.slug

    @property
    def is_usable(self) -> bool:
        """Return whether sessions of it can be issued at all."""
        return bool(self.get("is_active", True) and self.get("workflow_id"))

    def is_open_to(self, user: AbstractBaseUser | None) -> bool:
        """Return whether this person may start a session of it."""
        if not self.is_usable:
            return False
        if self.is_member is not None:
            return self.is_member
        names = self.get("groups")
        return not names or (user is not None and user.groups.filter(name__in=names).exists())  # type: ignore[attr-defined]  # PermissionsMixin's


@dataclass(frozen=True, kw_only=True)
class SessionPolicy:
    """Everything that is decided about a session, and by which layer."""

    workflow: WorkflowConfig
    values: Mapping[str, Resolved]

    def __getitem__(self, field: str) -> Any:
        return self.values[field].value

    def set_values(self) -> dict[str, Any]:
        """Return the values that some layer set: what the API has to be told."""
        return {name: item.value for name, item in self.values.items() if item.layer is not Layer.DEFAULT}

    def as_json(self) -> dict[str, dict[str, Any]]:
        """Return the values with their layers, as the audit row keeps them."""
        return {name: {"value": item.value, "layer": item.layer.value} for name, item in self.values.items()}


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


def open_workflows(settings: Settings, user: AbstractBaseUser | None) -> list[WorkflowConfig]:
    """Return the workflows that this person may start, by slug."""
    rows = {row.slug: row for row in _rows(user)}
    workflows = [_workflow_config(settings, slug, rows.get(slug)) for slug in {*settings.workflows, *rows}]
    return sorted(
        (workflow for workflow in workflows if workflow.is_open_to(user)), key=lambda workflow: workflow.slug
    )


def find_workflow(settings: Settings, name: str | None, user: AbstractBaseUser | None) -> WorkflowConfig:
    """Return the workflow of a slug or of a configured workflow id; None names the default one.

    Raises:
        WorkflowNotFound: it is unknown, inactive or not open to this person.
        NotConfigured: no name is given and the default one is missing or inactive.
    """
    wanted = settings.default_workflow if name is None else name
    slugs = {
        wanted,
        *(slug for slug, fields in settings.workflows.items() if fields.get("workflow_id") == wanted),
    }
    rows = {row.slug: row for row in _rows(user).filter(Q(slug__in=slugs) | Q(workflow_id=wanted))}
    found = [
        workflow
        for workflow in (_workflow_config(settings, slug, rows.get(slug)) for slug in sorted({*slugs, *rows}))
        if wanted in (workflow.slug, workflow.get("workflow_id"))
    ]
    # The slug before an id that happens to be spelled like it.
    found.sort(key=lambda workflow: workflow.slug != wanted)
    for workflow in found:
        if workflow.is_open_to(user):
            return workflow
    if name is None and not any(workflow.is_usable for workflow in found):
        raise NotConfigured(
            _(
                "The default workflow %(slug)r is missing or inactive: set CHATKIT_WORKFLOW_ID "
                "in the environment, or add it to WORKFLOWS in CHATKIT_SESSIONS or in the admin."
            )
            % {"slug": wanted}
        )
    raise WorkflowNotFound


def resolve_policy(
    settings: Settings, workflow: WorkflowConfig, arguments: Mapping[str, Any]
) -> SessionPolicy:
    """Resolve every value of a session of this workflow; ``arguments`` are those of the service call.

    The layers of groups and users belong between the workflow and the arguments.
    """
    site = {name: getattr(settings, name) for name in SITE_FIELDS}
    site = {name: value for name, value in site.items() if value != getattr(Settings, name)}
    return SessionPolicy(
        workflow=workflow,
        values={
            **_at(Layer.DEFAULT, DEFAULTS),
            **_at(Layer.SETTING, {**from_configuration(settings.chatkit_configuration), **site}),
            **{name: item for name, item in workflow.values.items() if name in DEFAULTS},
            **_at(Layer.ARGUMENT, arguments),
        },
    )


def _at(layer: Layer, values: Mapping[str, Any]) -> dict[str, Resolved]:
    return {name: Resolved(value, layer) for name, value in values.items()}


def _rows(user: AbstractBaseUser | None) -> QuerySet[Workflow]:
    """Return the admin's workflows, each knowing whether it names groups and whether the person is in one."""
    named = Workflow.groups.through.objects.filter(workflow=OuterRef("pk"))
    member = named.filter(group__user=user.pk) if user is not None else named.none()
    return Workflow.objects.annotate(names_groups=Exists(named), has_member=Exists(member))


def _workflow_config(settings: Settings, slug: str, row: Workflow | None) -> WorkflowConfig:
    fields = settings.workflows.get(slug, {})
    values = _at(Layer.WORKFLOW_SETTING, {name: value for name, value in fields.items() if value is not None})
    if row is None:
        return WorkflowConfig(slug=slug, values=values)
    own = {name: getattr(row, name) for name in ROW_FIELDS}
    values |= _at(Layer.WORKFLOW, {name: value for name, value in own.items() if value not in (None, "")})
    if "state_variables" in fields and row.state_variables:
        merged = {**(fields["state_variables"] or {}), **row.state_variables}
        values["state_variables"] = Resolved(merged, Layer.WORKFLOW)
    is_member = row.has_member if row.names_groups else None  # type: ignore[attr-defined]  # annotated in _rows
    return WorkflowConfig(slug=slug, values=values, is_member=is_member)
