"""The operator's and the auditor's screens."""

from .session import ChatSessionAdmin
from .workflow import WorkflowAdmin

__all__ = ["ChatSessionAdmin", "WorkflowAdmin"]
