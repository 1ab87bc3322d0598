"""Workflows as the settings and the admin describe them together, and who may start them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import Group
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils.translation import gettext as _

from . import bounds, rules
from .bounds import ParameterError
from .conf import Settings
from .exceptions import NotConfigured, WorkflowNotFound
from .identity import Identity
from .layers import Layer, Resolved, supplied_by
from .models import Workflow

ROW_FIELDS = tuple(name for name in rules.workflow_rules(0) if name != "groups")


@dataclass(frozen=True, kw_only=True)
class WorkflowConfig:
    """A workflow as the settings and the admin describe it together.

    Attributes:
        values: each field that is set, with its layer.
        state_variables: those of the settings and then those of the admin, with their layers.
        is_member: whether the person is in a group that the admin names for it; None where it names none.
    """

    slug: str
    values: Mapping[str, Resolved]
    state_variables: Sequence[tuple[Layer, Any]] = ()
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

    def is_open_to(self, identity: Identity) -> bool:
        """Return whether this person may start a session of it."""
        return self.why_closed_to(identity) is None

    def why_closed_to(self, identity: Identity) -> str | None:
        """Return, for the operator's eyes, why this person may not start a session of it, or None."""
        if not self.get("is_active", True):
            return _("it is not active")
        if not self.get("workflow_id"):
            return _("it has no workflow id")
        if identity.is_visitor and not self.get("allow_anonymous", True):
            return _("it is not open to visitors without an account")
        if not identity.is_site and not self._has_member(identity):
            return _("it is open to groups only, and this person is in none of them")
        return None

    def _has_member(self, identity: Identity) -> bool:
        if self.is_member is not None:
            return self.is_member
        names = self.get("groups")
        return not names or not identity.group_names.isdisjoint(names)


def open_workflows(settings: Settings, identity: Identity) -> list[WorkflowConfig]:
    """Return the workflows that this person may start, by slug."""
    rows = {row.slug: row for row in _rows(identity)}
    slugs = sorted({*settings.workflows, *rows})
    workflows = [_workflow_config(settings, slug, rows.get(slug)) for slug in slugs]
    return [workflow for workflow in workflows if workflow.is_open_to(identity)]


def find_workflow(settings: Settings, name: str | None, identity: Identity) -> WorkflowConfig:
    """Return the workflow of a slug or of a configured workflow id; None names the default one.

    Raises:
        WorkflowNotFound: it is unknown, inactive or not open to this person.
        NotConfigured: no name is given and the default one is missing or inactive.
    """
    wanted = settings.default_workflow if name is None else name
    found = named_workflows(settings, wanted, identity)
    for workflow in found:
        if workflow.is_open_to(identity):
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


def named_workflows(settings: Settings, wanted: str, identity: Identity) -> list[WorkflowConfig]:
    """Return the workflows of this slug or workflow id, the slug's first, open to this person or not."""
    try:
        bounds.text(maximum=255)("workflow", wanted)
    except ParameterError:  # no workflow is called so, and some databases refuse to look
        return []
    slugs = {
        slug for slug, fields in settings.workflows.items() if wanted in (slug, fields.get("workflow_id"))
    }
    named = Q(slug__in={*slugs, wanted}) | Q(workflow_id=wanted)
    rows = {row.slug: row for row in _rows(identity).filter(named)}
    workflows = [_workflow_config(settings, slug, rows.get(slug)) for slug in sorted({*slugs, *rows})]
    # Compared here once more: to some databases upper and lower case are the same.
    found = [workflow for workflow in workflows if wanted in (workflow.slug, workflow.get("workflow_id"))]
    return sorted(found, key=lambda workflow: workflow.slug != wanted)


def _groups_of(identity: Identity) -> QuerySet[Group]:
    # A user model need not have groups.
    groups: QuerySet[Group] | None = getattr(identity.user, "groups", None)
    return Group.objects.none() if groups is None else groups.all()


def _rows(identity: Identity) -> QuerySet[Workflow]:
    """Return the admin's workflows, each knowing whether it names groups and whether the person is in one."""
    named = Workflow.groups.through.objects.filter(workflow=OuterRef("pk"))
    member = named.filter(group__in=_groups_of(identity).values("pk"))
    return Workflow.objects.annotate(names_groups=Exists(named), has_member=Exists(member))


def _workflow_config(settings: Settings, slug: str, row: Workflow | None) -> WorkflowConfig:
    fields = settings.workflows.get(slug, {})
    values = supplied_by(
        Layer.WORKFLOW_SETTING, {name: value for name, value in fields.items() if value is not None}
    )
    variables = [(Layer.WORKFLOW_SETTING, fields.get("state_variables") or {})]
    if row is None:
        return WorkflowConfig(slug=slug, values=values, state_variables=variables)
    own = {name: getattr(row, name) for name in ROW_FIELDS}
    values |= supplied_by(
        Layer.WORKFLOW, {name: value for name, value in own.items() if value not in (None, "")}
    )
    variables.append((Layer.WORKFLOW, row.state_variables or {}))
    is_member = row.has_member if row.names_groups else None  # type: ignore[attr-defined]  # annotated in _rows
    return WorkflowConfig(slug=slug, values=values, state_variables=variables, is_member=is_member)
