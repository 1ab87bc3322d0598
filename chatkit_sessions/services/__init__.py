"""What the app does."""

from .cancel import BulkCancellation, acancel_session, cancel_session, cancel_sessions
from .explain import Explanation, explain_policy
from .housekeeping import Reconciliation, reconcile
from .issue import IssuedSession, aissue_session, issue_session
from .threads import Conversations, conversations

__all__ = [
    "BulkCancellation",
    "Conversations",
    "Explanation",
    "IssuedSession",
    "Reconciliation",
    "acancel_session",
    "aissue_session",
    "cancel_session",
    "cancel_sessions",
    "conversations",
    "explain_policy",
    "issue_session",
    "reconcile",
]
