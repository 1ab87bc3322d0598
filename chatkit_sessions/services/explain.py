"""What the policy says of a person and a workflow, whether a session would be granted now, and why not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from chatkit_sessions.conf import get_settings
from chatkit_sessions.exceptions import Blocked, ChatKitSessionsError, WorkflowNotFound
from chatkit_sessions.identity import resolve_identity
from chatkit_sessions.layers import describe
from chatkit_sessions.policy import describe_policy, resolve_policy
from chatkit_sessions.workflows import named_workflows

from . import limits
from .order import place_order


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The effective policy.

    Attributes:
        identifier: what the API would know the person by.
        values: each resolved value as the audit row would keep it; empty where there is no such workflow.
        closed: why the workflow is not open to the person, for the operator, or None.
        blocked_by: where an override that blocks the person comes from, or None.
        refusal: why a session would be refused now, or None where it would be granted.
    """

    workflow: str
    identifier: str = ""
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    closed: str | None = None
    blocked_by: Mapping[str, Any] | None = None
    refusal: ChatKitSessionsError | None = None

    def rows(self) -> list[tuple[str, str, str]]:
        """Return label, value and provenance of each value, in words."""
        return describe_policy(self.values)

    @property
    def retry_after(self) -> int | None:
        """Return the whole seconds after which a place becomes free, or None."""
        seconds = self.refusal.retry_after if self.refusal is not None else None
        return None if seconds is None else math.ceil(seconds)

    @property
    def verdict(self) -> str:
        """Return in words whether a session would be granted now, why not, and when again."""
        if self.refusal is None:
            return _("A session would be granted now.")
        text = _("A session would be refused now (%(code)s): %(reason)s") % {
            "code": self.refusal.code,
            "reason": self._reason(self.refusal),
        }
        if self.retry_after is None:
            return text
        seconds = ngettext(
            "A place becomes free in %(n)d second.",
            "A place becomes free in %(n)d seconds.",
            self.retry_after,
        )
        return f"{text} {seconds % {'n': self.retry_after}}"

    def _reason(self, refusal: ChatKitSessionsError) -> str:
        """Return the reason for the operator, who may know more than the person is told."""
        if isinstance(refusal, Blocked) and self.blocked_by is not None:
            return _("blocked by the %(override)s.") % {"override": describe({"source": self.blocked_by})}
        if isinstance(refusal, WorkflowNotFound):
            closed = self.closed or _("there is no such workflow")
            return f"{self.workflow}: {closed}."
        return str(refusal)


def explain_policy(*, user: Any, workflow: str | None = None) -> Explanation:
    """Explain what this account would get; nothing is written and nothing is sent."""
    explained = Explanation(workflow=workflow or "")
    try:
        settings = get_settings()
        wanted = settings.default_workflow if workflow is None else workflow
        identity = resolve_identity(settings, user=user)
        explained = Explanation(workflow=wanted, identifier=identity.identifier)
        found = named_workflows(settings, wanted, identity)
        if found:
            config = next((config for config in found if config.is_open_to(identity)), found[0])
            policy = resolve_policy(settings, config, identity, {})
            explained = Explanation(
                workflow=config.slug,
                identifier=identity.identifier_for(config.slug, isolate_history=policy["isolate_history"]),
                values=policy.as_json(),
                closed=config.why_closed_to(identity),
                blocked_by=policy.blocked_by,
            )
        order = place_order(user=user, workflow=workflow)
        limits.check(order, timezone.now())
    except ChatKitSessionsError as error:
        return replace(explained, refusal=error)
    return replace(explained, values=order.policy.as_json())
