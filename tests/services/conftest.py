from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection, connections
from django.dispatch import Signal

from chatkit_sessions import signals, testing
from chatkit_sessions.models import ChatSession
from chatkit_sessions.services import IssuedSession, issue_session
from chatkit_sessions.standin import StandIn
from chatkit_sessions.standin.exchange import Answer, ApiError, RecordedRequest
from chatkit_sessions.standin.faults import Fault

KEY = "sk-" + "sentinel" * 3


class Clock:
    """Time that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Api(StandIn):
    """A stand-in that a test can watch: ``watch`` is called before each answer, in the server's thread."""

    watch: Callable[[RecordedRequest], object] | None = None
    trouble: Exception | None = None

    def _respond(self, request: RecordedRequest, refusal: ApiError | None) -> tuple[Answer, Fault]:
        try:
            if self.watch is not None:
                self.watch(request)
        except Exception as error:
            self.trouble = error
        finally:
            connections.close_all()
        return super()._respond(request, refusal)

    @property
    def paths(self) -> list[str]:
        """Return what was asked for, without the version."""
        return [request.endpoint for request in self.requests]


@dataclass
class Heard:
    """The signals that were sent, by name."""

    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("django.utils.timezone.now", clock)
    return clock


@pytest.fixture
def api(clock: Clock) -> Iterator[Api]:
    """The API, with the same clock as the site; one attempt a call, unless a test wants more."""
    standin = Api(clock=lambda: clock.now.timestamp())
    with testing.standin(standin, API_KEY=KEY, MAX_RETRIES=0):
        yield standin
    if standin.trouble is not None:
        raise standin.trouble


@pytest.fixture
def configure(api: Api, settings: Any) -> Callable[..., None]:
    """Change keys of CHATKIT_SESSIONS."""

    def change(**keys: Any) -> None:
        settings.CHATKIT_SESSIONS = {**settings.CHATKIT_SESSIONS, **keys}

    return change


@pytest.fixture
def user(db: None) -> User:
    return User.objects.create_user("ada")


@pytest.fixture
def other(db: None) -> User:
    return User.objects.create_user("bob")


@pytest.fixture
def issue(api: Api, user: User) -> Callable[..., IssuedSession]:
    """Issue a session, for ``user`` unless told otherwise."""

    def run(**arguments: Any) -> IssuedSession:
        if "identifier" not in arguments:
            arguments.setdefault("user", user)
        return issue_session(**arguments)

    return run


@pytest.fixture
def heard() -> Iterator[Heard]:
    heard = Heard()
    names = ("session_issued", "session_reused", "session_failed", "session_cancelled")
    sent: dict[str, Signal] = {name: getattr(signals, name) for name in names}

    def listener(name: str) -> Callable[..., None]:
        def listen(sender: Any, signal: Signal, **arguments: Any) -> None:
            assert sender is ChatSession
            heard.calls.append((name, arguments))

        return listen

    listeners = {name: listener(name) for name in names}
    for name, signal in sent.items():
        signal.connect(listeners[name])
    yield heard
    for name, signal in sent.items():
        signal.disconnect(listeners[name])


@contextmanager
def database_fails_at(
    *words: str, error: Exception | None = None, times: int = 1_000, after: int = 0
) -> Iterator[None]:
    """Let statements with all of these words fail: so many of them, once so many have passed."""
    passed = 0

    def run(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal passed
        if all(word in sql for word in words):
            passed += 1
            if after < passed <= after + times:
                raise error or OperationalError("the disk is full")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(run):
        yield


def settling_fails() -> AbstractContextManager[None]:
    """Let the update fail that would make a row active or failed."""
    return database_fails_at("UPDATE", "chatkit_sessions_chatsession", "latency_ms")
