"""What a child does until it is killed, by name."""

from collections.abc import Callable, Mapping
from typing import Any

from chatkit_sessions.models import ChatSession
from chatkit_sessions.services import cancel_session, cancel_sessions, issue_session, reconcile


def issue(**arguments: Any) -> None:
    """Issue a session, or hand one out again."""
    issue_session(**arguments)


def cancel(identifier: str) -> None:
    """Cancel somebody's only session."""
    cancel_session(ChatSession.objects.get(identifier=identifier))


def cancel_all(identifier: str) -> None:
    """Cancel all of somebody's sessions."""
    cancel_sessions(ChatSession.objects.filter(identifier=identifier))


def settle() -> dict[str, int]:
    """Reconcile and return what was settled."""
    return vars(reconcile())


ACTIONS: Mapping[str, Callable[..., Any]] = {
    action.__name__: action for action in (issue, cancel, cancel_all, settle)
}
