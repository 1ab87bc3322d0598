import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User

from chatkit_sessions.client import APIError, APITimeoutError, InternalServerError
from chatkit_sessions.conf import get_settings
from chatkit_sessions.exceptions import ChatKitSessionsError, InvalidRequest, UpstreamUnavailable
from chatkit_sessions.models import ChatSession
from chatkit_sessions.services import IssuedSession, conversations, gate
from chatkit_sessions.services.gate import FULL_RETRY_AFTER, PATIENCE, Pass
from chatkit_sessions.standin import Fault

from .conftest import Api

Issue = Callable[..., IssuedSession]
Configure = Callable[..., None]


class Door:
    """The gate as the test passes it; all places are free in the end."""

    def __init__(self, api: Api) -> None:
        self.base_url = api.base_url
        self.inside: list[Pass] = []

    def enter(self, **options: Any) -> Pass:
        self.inside.append(gate.enter(get_settings(), self.base_url, **options))
        return self.inside[-1]


@pytest.fixture
def door(api: Api) -> Iterator[Door]:
    door = Door(api)
    yield door
    for leave in door.inside:
        leave.give_back()


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """The gate's clock, which stands still until it is set."""

    def set_clock(seconds: float) -> None:
        monkeypatch.setattr(gate, "time", SimpleNamespace(monotonic=lambda: seconds))

    set_clock(0)
    return set_clock


def raising(error: APIError) -> Callable[[], Any]:
    def ask() -> Any:
        raise error

    return ask


def test_when_all_places_are_taken_by_slow_calls_it_fails_at_once(
    door: Door, api: Api, issue: Issue, configure: Configure, now: Callable[[float], None]
) -> None:
    configure(MAX_CONCURRENT_CALLS=2)
    door.enter()
    door.enter()
    now(PATIENCE)
    with pytest.raises(UpstreamUnavailable) as caught:
        issue()
    assert (caught.value.retry_after, caught.value.reference) == (FULL_RETRY_AFTER, None)
    # Nothing is sent and nothing is written.
    assert (api.requests, ChatSession.objects.count()) == ([], 0)


def test_behind_quick_calls_one_waits_for_a_place(door: Door, configure: Configure) -> None:
    configure(MAX_CONCURRENT_CALLS=1)
    first = door.enter()
    timer = threading.Timer(0.05, first.give_back)
    timer.start()
    door.enter()
    timer.join()


def test_the_wait_is_bounded(door: Door, configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "PATIENCE", 0.05)
    configure(MAX_CONCURRENT_CALLS=1)
    door.enter()
    with pytest.raises(UpstreamUnavailable):
        door.enter()


def test_behind_a_failing_api_nobody_waits(
    door: Door, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "PATIENCE", 3600)
    configure(MAX_CONCURRENT_CALLS=1)
    with pytest.raises(APIError):
        door.enter().call(raising(InternalServerError("down", status_code=500)))
    last = door.enter()
    with pytest.raises(UpstreamUnavailable):
        door.enter()
    last.call(lambda: None)
    assert door.enter().call(lambda: "answered") == "answered"


def test_a_timeout_of_an_impatient_call_is_no_failure(door: Door, configure: Configure, issue: Issue) -> None:
    configure(COOLDOWN=(1, 30))
    with pytest.raises(APIError):
        door.enter().call(raising(APITimeoutError("late")), is_patient=False)
    assert not issue().reused


def test_what_no_worker_waits_for_takes_no_place(
    door: Door, configure: Configure, now: Callable[[float], None]
) -> None:
    configure(MAX_CONCURRENT_CALLS=1)
    door.enter()
    now(PATIENCE)
    door.enter(takes_place=False)


def test_none_sets_no_bound(door: Door, configure: Configure, issue: Issue) -> None:
    configure(MAX_CONCURRENT_CALLS=None)
    for _ in range(99):
        door.enter()
    assert not issue().reused


def test_a_place_is_given_back_whatever_happens(
    api: Api, issue: Issue, configure: Configure, user: User
) -> None:
    configure(MAX_CONCURRENT_CALLS=1, COOLDOWN=None, MAX_SESSIONS_PER_HOUR=1)
    api.misbehave(Fault(status=500))
    with pytest.raises(UpstreamUnavailable):
        issue()
    issue()
    with pytest.raises(ChatKitSessionsError, match="1 chat an hour"):
        issue()
    with pytest.raises(InvalidRequest):
        conversations(user=user).list(limit=1000)
    configure(MAX_SESSIONS_PER_HOUR=None)
    assert not issue().reused


def test_a_place_whose_thread_is_gone_becomes_free(
    door: Door, configure: Configure, now: Callable[[float], None]
) -> None:
    configure(MAX_CONCURRENT_CALLS=1, DEADLINE=5)
    door.enter()  # and never heard of again
    now(34.9)
    with pytest.raises(UpstreamUnavailable):
        door.enter()
    now(35.1)
    door.enter()
