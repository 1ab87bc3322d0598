"""What is stored."""

from .lock import LimitLock
from .override import PolicyOverride, PolicyOverrideQuerySet
from .session import ISSUED, ChatSession, ChatSessionQuerySet, Status
from .workflow import Issuer, Workflow, known_slugs

__all__ = [
    "ISSUED",
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
