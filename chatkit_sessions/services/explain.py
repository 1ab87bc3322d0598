"""What the policy says of a person and a workflow, and whether a session would be granted now."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from chatkit_sessions.conf import get_settings
from chatkit_sessions.exceptions import ChatKitSessionsError
from chatkit_sessions.identity import resolve_identity
from chatkit_sessions.policy import describe_policy, resolve_policy
from chatkit_sessions.workflows import find_workflow

from . import limits
from .order import place_order


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The effective policy.

    Attributes:
        identifier: what the API would know the person by.
        values: each resolved value as the audit row would keep it; empty where there is no such workflow.
        refusal: why a session would be refused now, or None where it would be granted.
    """

    workflow: str
    identifier: str
    values: Mapping[str, Mapping[str, Any]]
    refusal: ChatKitSessionsError | None

    def rows(self) -> list[tuple[str, str, str]]:
        """Return label, value and provenance of each value, in words."""
        return describe_policy(self.values)

    @property
    def retry_after(self) -> int | None:
        """Return the whole seconds after which a place becomes free, or None."""
        seconds = self.refusal.retry_after if self.refusal is not None else None
        return None if seconds is None else math.ceil(seconds)


def explain_policy(*, user: Any, workflow: str | None = None) -> Explanation:
    """Explain what this account would get; nothing is written and nothing is sent."""
    slug, identifier, values = workflow or "", "", {}
    try:
        settings = get_settings()
        identity = resolve_identity(settings, user=user)
        identifier = identity.identifier
        config = find_workflow(settings, workflow, identity)
        slug, policy = config.slug, resolve_policy(settings, config, identity, {})
        values = policy.as_json()
        identifier = identity.identifier_for(slug, isolate_history=policy["isolate_history"])
        order = place_order(user=user, workflow=slug)
        limits.check(order, timezone.now())
    except ChatKitSessionsError as error:
        return Explanation(workflow=slug, identifier=identifier, values=values, refusal=error)
    return Explanation(workflow=slug, identifier=identifier, values=order.policy.as_json(), refusal=None)
