"""OpenAI's ChatKit API over ``requests``."""

from chatkit_sessions.bounds import ParameterError
from chatkit_sessions.secret import Secret

from .client import ChatKitClient
from .errors import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    UnprocessableEntityError,
)
from .resources import (
    AssistantMessageItem,
    ChatKitSession,
    ChatKitThread,
    ClientToolCallItem,
    Page,
    TaskGroupItem,
    TaskItem,
    ThreadDeleted,
    ThreadItem,
    UserMessageItem,
    WidgetMessageItem,
)

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIResponseValidationError",
    "APIStatusError",
    "APITimeoutError",
    "AssistantMessageItem",
    "AuthenticationError",
    "BadRequestError",
    "ChatKitClient",
    "ChatKitSession",
    "ChatKitThread",
    "ClientToolCallItem",
    "ConflictError",
    "InternalServerError",
    "NotFoundError",
    "Page",
    "ParameterError",
    "PermissionDeniedError",
    "RateLimitError",
    "Secret",
    "TaskGroupItem",
    "TaskItem",
    "ThreadDeleted",
    "ThreadItem",
    "UnprocessableEntityError",
    "UserMessageItem",
    "WidgetMessageItem",
]
