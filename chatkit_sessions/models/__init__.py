"""What is stored."""

from .lock import LimitLock
from .override import PolicyOverride, PolicyOverrideQuerySet
from .session import ISSUED, OVERDUE, ChatSession, ChatSessionQuerySet, Status
from .workflow import Issuer, Workflow, known_slugs

__all__ = [
    "ISSUED",
    "OVERDUE",
    "ChatSession",
    "ChatSessionQuerySet",
    "Issuer",
    "LimitLock",
    "PolicyOverride",
    "PolicyOverrideQuerySet",
    "Status",
    "Workflow",
    "known_slugs",
]
