import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.contrib.auth.models import User

from chatkit_sessions.client import APIConnectionError, APIError, InternalServerError
from chatkit_sessions.conf import get_settings
from chatkit_sessions.exceptions import ChatKitSessionsError, InvalidRequest, UpstreamUnavailable
from chatkit_sessions.models import ChatSession
from chatkit_sessions.services import IssuedSession, cancel_session, cancel_sessions, conversations, gate
from chatkit_sessions.services.gate import FULL_RETRY_AFTER, IssuingPass, Places
from chatkit_sessions.standin import Fault

from .conftest import Api

Issue = Callable[..., IssuedSession]
Configure = Callable[..., None]


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> Places:
    """The places, all of them free."""
    places = Places()
    monkeypatch.setattr(gate, "_places", places)
    return places


@pytest.fixture
def take(places: Places) -> Iterator[Callable[[], None]]:
    """Take a place for the rest of the test."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(places.taken(1_000, ""))


@pytest.fixture
def _slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call that has begun is slow at once."""
    monkeypatch.setattr(gate, "SLOW", 0.0)


def leave(api: Api) -> IssuingPass:
    return gate.enter(get_settings(), api.base_url)


def raising(error: APIError) -> Callable[[], Any]:
    def ask() -> Any:
        raise error

    return ask


@pytest.mark.usefixtures("_slow")
def test_when_slow_calls_hold_all_places_it_fails_at_once(
    take: Callable[[], None], api: Api, issue: Issue, configure: Configure
) -> None:
    configure(MAX_CONCURRENT_CALLS=2)
    take()
    issue()
    take()
    sent, rows = len(api.requests), ChatSession.objects.count()
    with pytest.raises(UpstreamUnavailable) as caught:
        issue()
    assert (caught.value.retry_after, caught.value.reference) == (FULL_RETRY_AFTER, None)
    # Nothing is sent, and no row is written.
    assert (len(api.requests), ChatSession.objects.count()) == (sent, rows)


def test_half_of_the_places_are_for_sessions_alone(
    take: Callable[[], None],
    api: Api,
    issue: Issue,
    configure: Configure,
    user: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configure(MAX_CONCURRENT_CALLS=4)
    first, second = issue().session, issue().session
    take()
    assert conversations(user=user).list().data == ()
    take()
    with pytest.raises(UpstreamUnavailable) as caught:
        conversations(user=user).list()
    assert caught.value.retry_after == FULL_RETRY_AFTER
    monkeypatch.setattr(gate, "SLOW", 0.0)
    cancel_session(first)  # it would wait, if calls were quick
    assert (first.status, first.cancel_requested_at is None) == ("cancelled", False)
    # What no worker waits for takes no place.
    assert cancel_sessions(ChatSession.objects.filter(pk=second.pk)).due == 0
    assert not issue().reused


def test_behind_quick_calls_one_waits_for_a_place(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "SLOW", 3600)
    monkeypatch.setattr(gate, "PATIENCE", 3600)

    def pass_through() -> None:
        with places.taken(1, ""):
            pass

    waiting = threading.Thread(target=pass_through, daemon=True)
    with places.taken(1, ""):
        waiting.start()
        waiting.join(timeout=0.1)
        assert waiting.is_alive()
    waiting.join(timeout=10)
    assert not waiting.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Processes are not forked there.")
def test_a_forked_child_begins_with_all_places(take: Callable[[], None], places: Places) -> None:
    take()
    places.failing.add("")
    gate._begin_anew()  # which the system does in the child
    assert not gate._places.is_hopeless(1, "")


def test_the_wait_is_bounded(
    take: Callable[[], None], places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "PATIENCE", 0.05)
    monkeypatch.setattr(gate, "SLOW", 3600)
    take()
    with pytest.raises(APIConnectionError), places.taken(1, ""):
        pass


def test_who_loses_the_race_for_a_place_leaves_a_failed_row(
    places: Places, api: Api, issue: Issue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(number: int, base_url: str) -> Any:
        raise APIConnectionError("Too many requests of this process wait for the API already.")

    monkeypatch.setattr(places, "taken", taken)
    with pytest.raises(UpstreamUnavailable) as caught:
        issue()
    row = ChatSession.objects.get()
    assert (str(row.reference), row.status, row.attempts) == (caught.value.reference, "failed", 0)
    assert api.requests == []


def test_behind_a_failing_api_nobody_waits(
    take: Callable[[], None], places: Places, api: Api, configure: Configure
) -> None:
    configure(MAX_CONCURRENT_CALLS=1)
    with pytest.raises(APIError):
        leave(api).call(raising(InternalServerError("down", status_code=500)))
    assert not places.is_hopeless(1, api.base_url)
    take()
    assert places.is_hopeless(1, api.base_url)
    with pytest.raises(UpstreamUnavailable):
        leave(api)
    # Another address is not held to account for it.
    assert not places.is_hopeless(1, "https://elsewhere.example/v1")


def test_once_the_api_answers_one_waits_again(take: Callable[[], None], places: Places, api: Api) -> None:
    places.failing.add(api.base_url)
    leave(api).call(lambda: None)
    take()
    assert not places.is_hopeless(1, api.base_url)


@pytest.mark.usefixtures("_slow")
def test_none_sets_no_bound(take: Callable[[], None], configure: Configure, issue: Issue) -> None:
    configure(MAX_CONCURRENT_CALLS=None)
    for _ in range(99):
        take()
    session = issue().session
    cancel_session(session)
    assert session.cancel_requested_at is None


@pytest.mark.usefixtures("_slow")
def test_a_place_is_given_back_whatever_happens(
    places: Places, api: Api, issue: Issue, configure: Configure, user: User
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
