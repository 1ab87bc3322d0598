from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests

from chatkit_sessions.standin import StandIn

CREATE = {"user": "ada", "workflow": {"id": "wf_1"}}
API_HEADERS = {"Authorization": "Bearer sk-test", "OpenAI-Beta": "chatkit_beta=v1"}


class Clock:
    """Time that moves when a test says so."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Caller:
    """Send requests to a stand-in as its API's client, or as the page that holds a client secret."""

    api: StandIn
    http: requests.Session
    headers: dict[str, str] = field(default_factory=lambda: dict(API_HEADERS))

    def __call__(self, method: str, path: str, **options: Any) -> requests.Response:
        origin = self.api.base_url.removesuffix("/v1")
        options.setdefault("headers", self.headers)
        return self.http.request(method, origin + path, timeout=10, **options)

    def create(self, **body: Any) -> dict[str, Any]:
        answer = self("POST", "/v1/chatkit/sessions", json={**CREATE, **body})
        assert answer.status_code == 200, answer.text
        session: dict[str, Any] = answer.json()
        return session

    def page(self, **body: Any) -> "Caller":
        """Create a session and return a caller that holds its secret."""
        secret = self.create(**body)["client_secret"]
        return Caller(self.api, self.http, {"Authorization": f"Bearer {secret}"})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False  # neither a proxy nor a ~/.netrc of this machine
        yield session


@pytest.fixture
def start(clock: Clock) -> Iterator[Callable[..., StandIn]]:
    """Start stand-ins that are closed at the end of the test."""
    started: list[StandIn] = []

    def run(**options: Any) -> StandIn:
        started.append(StandIn(clock=clock, **options).start())
        return started[-1]

    yield run
    for api in started:
        api.close()


@pytest.fixture
def api(start: Callable[..., StandIn]) -> StandIn:
    return start()


@pytest.fixture
def call(api: StandIn, http: requests.Session) -> Caller:
    return Caller(api, http)


def error_of(answer: requests.Response) -> dict[str, Any]:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return dict(error)
