"""What the API answers, as frozen objects with the API's field names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field
from typing import Any, Generic, Self, TypeVar

from chatkit_sessions.secret import Secret, redact

from .errors import APIResponseValidationError

JSON = Mapping[str, Any]


def _is_integer(value: Any) -> bool:
    return type(value) is int


def _is_timestamp(value: Any) -> bool:
    # Up to the year 9999, the last that a datetime can hold.
    return type(value) is int and 0 <= value < 253_402_300_800


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_boolean(value: Any) -> bool:
    return isinstance(value, bool)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _nullable(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or test(value)


def _shape(**tests: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Test a mapping's known keys where they are present; others may be anything."""

    def test(value: Any) -> bool:
        return isinstance(value, Mapping) and all(
            check(value[key]) for key, check in tests.items() if key in value
        )

    return test


_ENABLED = _shape(enabled=_is_boolean)
_CONFIGURATION = _shape(
    automatic_thread_titling=_ENABLED,
    file_upload=_shape(
        enabled=_is_boolean,
        max_file_size=_nullable(_is_integer),
        max_files=_nullable(_is_integer),
    ),
    history=_shape(enabled=_is_boolean, recent_threads=_nullable(_is_integer)),
)


def _field(test: Callable[[Any], bool], **options: Any) -> Any:
    return field(metadata={"test": test}, **options)


@dataclass(frozen=True, kw_only=True)
class Resource:
    """An answer of the API.

    Attributes:
        raw: the answer as it came, unknown fields included, without a secret.
        request_id: ``x-request-id`` of the answer, for OpenAI's support.
        attempts: how many requests were sent for it.
    """

    raw: JSON = field(default_factory=dict, repr=False, compare=False)
    request_id: str = field(default="", compare=False)
    attempts: int = field(default=1, compare=False)

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Read one answer.

        Raises:
            APIResponseValidationError: it is no object, or a field is missing or of a wrong type.
        """
        if not isinstance(data, Mapping):
            raise APIResponseValidationError(f"The answer is not an object but {type(data).__name__}.")
        known: dict[str, Any] = {}
        for item in dataclasses.fields(cls):
            if item.name in data and "test" in item.metadata:
                if not item.metadata["test"](data[item.name]):
                    raise APIResponseValidationError(f"The answer has a wrong type in {item.name!r}.")
                known[item.name] = data[item.name]
            elif item.default is MISSING and item.default_factory is MISSING:
                raise APIResponseValidationError(f"The answer lacks {item.name!r}.")
        return cls(**known, raw=data)


@dataclass(frozen=True, kw_only=True)
class ChatKitSession(Resource):
    """A session. The API reference shows two shapes of it; both are read.

    The older one has no ``id``, ``object`` and ``user``: only the secret and the expiry are indispensable.

    Attributes:
        client_secret: lets the browser chat; empty once cancelled.
        expires_at: unix seconds.
    """

    client_secret: Secret = _field(_is_text, repr=False)
    expires_at: int = _field(_is_timestamp)
    id: str = _field(_is_text, default="")
    object: str = _field(_is_text, default="chatkit.session")
    status: str = _field(_is_text, default="active")
    user: str = _field(_is_text, default="")
    workflow: JSON = _field(
        _shape(id=_is_text, version=_nullable(_is_text), tracing=_ENABLED),
        default_factory=dict,
    )
    rate_limits: JSON = _field(_shape(max_requests_per_1_minute=_is_integer), default_factory=dict)
    max_requests_per_1_minute: int | None = _field(_nullable(_is_integer), default=None)
    chatkit_configuration: JSON = _field(_CONFIGURATION, default_factory=dict)

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Read a session, and keep its secret in one place only."""
        session = super().parse(data)
        secret = Secret(session.client_secret)
        raw = {key: value for key, value in session.raw.items() if key != "client_secret"}
        return dataclasses.replace(session, client_secret=secret, raw=redact(raw, secret))


@dataclass(frozen=True, kw_only=True)
class ChatKitThread(Resource):
    """A conversation of one user. It names no workflow."""

    id: str = _field(_is_text)
    created_at: int = _field(_is_integer)
    user: str = _field(_is_text)
    title: str | None = _field(_nullable(_is_text), default=None)
    status: JSON = _field(_shape(type=_is_text, reason=_nullable(_is_text)), default_factory=dict)
    object: str = _field(_is_text, default="chatkit.thread")


@dataclass(frozen=True, kw_only=True)
class ThreadDeleted(Resource):
    """The confirmation that a thread is gone."""

    id: str = _field(_is_text)
    deleted: bool = _field(_is_boolean)
    object: str = _field(_is_text, default="chatkit.thread.deleted")


@dataclass(frozen=True, kw_only=True)
class ThreadItem(Resource):
    """One entry of a thread; a type that is not known yet is read as this class."""

    id: str = _field(_is_text)
    type: str = _field(_is_text)
    thread_id: str = _field(_is_text)
    created_at: int = _field(_is_integer)
    object: str = _field(_is_text, default="chatkit.thread_item")


@dataclass(frozen=True, kw_only=True)
class UserMessageItem(ThreadItem):
    """What the user wrote, quoted and attached."""

    content: list[JSON] = _field(_is_list, repr=False)
    attachments: list[JSON] = _field(_is_list, default_factory=list)
    inference_options: JSON | None = _field(_nullable(_is_mapping), default=None)


@dataclass(frozen=True, kw_only=True)
class AssistantMessageItem(ThreadItem):
    """What the workflow answered."""

    content: list[JSON] = _field(_is_list, repr=False)


@dataclass(frozen=True, kw_only=True)
class WidgetMessageItem(ThreadItem):
    """A widget, serialized."""

    widget: str = _field(_is_text, repr=False)


@dataclass(frozen=True, kw_only=True)
class ClientToolCallItem(ThreadItem):
    """A call of a tool in the browser; ``arguments`` and ``output`` are JSON texts."""

    status: str = _field(_is_text)
    call_id: str = _field(_is_text)
    name: str = _field(_is_text)
    arguments: str = _field(_is_text, repr=False)
    output: str | None = _field(_nullable(_is_text), default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class TaskItem(ThreadItem):
    """A step that the workflow reports."""

    task_type: str = _field(_is_text)
    heading: str | None = _field(_nullable(_is_text), default=None)
    summary: str | None = _field(_nullable(_is_text), default=None)


@dataclass(frozen=True, kw_only=True)
class TaskGroupItem(ThreadItem):
    """Steps that belong together."""

    tasks: list[JSON] = _field(_is_list)


_ITEM_CLASSES: dict[str, type[ThreadItem]] = {
    "chatkit.user_message": UserMessageItem,
    "chatkit.assistant_message": AssistantMessageItem,
    "chatkit.widget": WidgetMessageItem,
    "chatkit.client_tool_call": ClientToolCallItem,
    "chatkit.task": TaskItem,
    "chatkit.task_group": TaskGroupItem,
}


def parse_item(data: Any) -> ThreadItem:
    """Read an item as the class of its type."""
    kind = data.get("type") if isinstance(data, Mapping) else None
    known = _ITEM_CLASSES.get(kind, ThreadItem) if isinstance(kind, str) else ThreadItem
    return known.parse(data)


T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    """One page of a list; ``last_id`` is the cursor to the next one."""

    data: tuple[T, ...]
    first_id: str | None
    last_id: str | None
    has_more: bool
    raw: JSON = field(repr=False, compare=False)
    request_id: str = field(default="", compare=False)
    attempts: int = field(default=1, compare=False)

    @classmethod
    def parse(cls, data: Any, parse_one: Callable[[Any], T]) -> Self:
        """Read a page, each entry with ``parse_one``.

        Raises:
            APIResponseValidationError: it, or something on it, is not as the description says.
        """
        shape = _shape(
            data=_is_list,
            first_id=_nullable(_is_text),
            last_id=_nullable(_is_text),
            has_more=_is_boolean,
        )
        if not shape(data) or "data" not in data or "has_more" not in data:
            raise APIResponseValidationError("Expected a page with 'data' and 'has_more'.")
        return cls(
            data=tuple(parse_one(item) for item in data["data"]),
            first_id=data.get("first_id"),
            last_id=data.get("last_id"),
            has_more=data["has_more"],
            raw=data,
        )
