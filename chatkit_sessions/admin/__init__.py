"""The operator's and the auditor's screens."""

from .override import PolicyOverrideAdmin
from .session import ChatSessionAdmin
from .workflow import WorkflowAdmin

__all__ = ["ChatSessionAdmin", "PolicyOverrideAdmin", "WorkflowAdmin"]
