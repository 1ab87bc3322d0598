import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chatkit_sessions.client import ChatKitClient, transport
from chatkit_sessions.client import answers as client_answers
from chatkit_sessions.standin import StandIn
from tests.raw_server import RawServer, saying
from tests.tls import server_context

from . import answers

KEY = "sk-" + "sentinel" * 3

# Parameters of a session that is as plain as can be.
SESSION: dict[str, Any] = {"user": "ada", "workflow": {"id": "wf_1"}}


class Clock:
    """Time as the client sees it: real, but a wait is over at once and is written down."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return time.monotonic() + sum(self.waits)

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Wait for nothing, and take no chance out of the jitter."""
    clock = Clock()
    monkeypatch.setattr(transport, "time", clock)
    monkeypatch.setattr(client_answers, "time", clock)
    monkeypatch.setattr(random, "random", lambda: 0.0)
    return clock


@pytest.fixture
def make(standin: StandIn) -> Callable[..., ChatKitClient]:
    """Make clients of the stand-in."""

    def client(api_key: str = KEY, **options: Any) -> ChatKitClient:
        return ChatKitClient(api_key, **{"base_url": standin.base_url, **options})

    return client


@pytest.fixture
def client(make: Callable[..., ChatKitClient], clock: Clock) -> ChatKitClient:
    return make()


@pytest.fixture
def elsewhere() -> Iterator[StandIn]:
    """Another server, to which nothing should ever be sent."""
    with StandIn() as other:
        yield other


@pytest.fixture
def secured(certificate: tuple[Path, Path]) -> Iterator[RawServer]:
    """An API behind a certificate that signed itself."""
    good = saying("200 OK", json.dumps(answers.NEWER).encode())
    with RawServer(good, tls=server_context(certificate)) as server:
        yield server


def port_of(standin: StandIn) -> int:
    """Return the port of a stand-in."""
    return int(standin.base_url.rsplit(":", 1)[1].removesuffix("/v1"))
