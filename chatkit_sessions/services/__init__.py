"""What the app does."""

from .cancel import acancel_session, cancel_session
from .issue import IssuedSession, aissue_session, issue_session
from .threads import Conversations, conversations

__all__ = [
    "Conversations",
    "IssuedSession",
    "acancel_session",
    "aissue_session",
    "cancel_session",
    "conversations",
    "issue_session",
]
