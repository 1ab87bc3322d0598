"""The arguments of creating a session, typed as in the API's description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NotRequired, TypedDict

Order = Literal["asc", "desc"]
StateVariables = Mapping[str, str | bool | int | float]


class EnabledParam(TypedDict, total=False):
    """A feature that is on or off."""

    enabled: bool


class WorkflowParam(TypedDict):
    """The workflow of a session. Leave ``version`` out for the latest deployment."""

    id: str
    version: NotRequired[str]
    state_variables: NotRequired[StateVariables]
    tracing: NotRequired[EnabledParam]


class FileUploadParam(EnabledParam, total=False):
    """Uploads: ``max_file_size`` in megabytes."""

    max_file_size: int
    max_files: int


class HistoryParam(EnabledParam, total=False):
    """How many earlier threads the user may see."""

    recent_threads: int


class ChatKitConfigurationParam(TypedDict, total=False):
    """Features of the widget, per session."""

    automatic_thread_titling: EnabledParam
    file_upload: FileUploadParam
    history: HistoryParam


class ExpiresAfterParam(TypedDict):
    """Lifetime in seconds, counted from creation."""

    anchor: Literal["created_at"]
    seconds: int


class RateLimitsParam(TypedDict, total=False):
    """Requests a minute that the session may make."""

    max_requests_per_1_minute: int
