"""Try the real thing: create a session and cancel it at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _

from chatkit_sessions.exceptions import ChatKitSessionsError
from chatkit_sessions.identity import SITE_IDENTIFIER
from chatkit_sessions.models import ChatSession

from .cancel import cancel_session
from .issue import issue_session

CURES: Mapping[str, Any] = {
    "workflow_not_found": _(
        "Name a workflow of WORKFLOWS in CHATKIT_SESSIONS or of the admin that is active."
    ),
    "session_limit_reached": _("Wait, or raise max_sessions_per_hour; the doctor's own sessions count too."),
    "upstream_rejected": _(
        "Look at the answer: 401 means the key is wrong, 403 that its project may not use ChatKit, "
        "404 that the workflow belongs to another project than the key (see CREDENTIALS)."
    ),
    "upstream_rate_limited": _("Wait a minute; if it stays so, raise the limits of your OpenAI project."),
    "upstream_unavailable": _("Check BASE_URL, the network, the proxy and OpenAI's status page."),
    "upstream_timeout": _("Check the network and the proxy, or raise TIMEOUT and DEADLINE."),
    "upstream_invalid_response": _("Check that BASE_URL is the API's address and no proxy answers instead."),
    "storage_unavailable": _("Run migrate, and check the database."),
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What came of the attempt.

    Attributes:
        session: the audit row, where one was written.
        error: why it failed, or None.
        is_running: whether it was created, but the API could not be told of its end.
    """

    session: ChatSession | None
    error: ChatKitSessionsError | None = None
    is_running: bool = False

    @property
    def cure(self) -> str:
        """Return what to do about the error."""
        return "" if self.error is None else str(CURES.get(self.error.code, ""))


def examine(workflow: str | None = None) -> Finding:
    """Create a session for ``chatkit-doctor`` and cancel it at once; it is real and has its row."""
    try:
        session = issue_session(identifier=SITE_IDENTIFIER, workflow=workflow).session
    except ChatKitSessionsError as error:
        row = ChatSession.objects.filter(reference=error.reference).first() if error.reference else None
        return Finding(session=row, error=error)
    cancel_session(session, reason="chatkit_doctor")
    return Finding(session=session, is_running=session.cancel_requested_at is not None)
