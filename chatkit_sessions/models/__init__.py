"""What is stored."""

from .override import PolicyOverride
from .session import ISSUED, ChatSession, ChatSessionQuerySet, Status
from .workflow import Issuer, Workflow

__all__ = ["ISSUED", "ChatSession", "ChatSessionQuerySet", "Issuer", "PolicyOverride", "Status", "Workflow"]
