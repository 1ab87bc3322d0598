import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from django.contrib.auth.models import User

from chatkit_sessions.client import APIConnectionError, APIError, InternalServerError
from chatkit_sessions.conf import get_settings
from chatkit_sessions.exceptions import ChatKitSessionsError, InvalidRequest, UpstreamUnavailable
from chatkit_sessions.models import ChatSession
from chatkit_sessions.services import IssuedSession, cancel_session, cancel_sessions, conversations, gate
from chatkit_sessions.services.gate import FULL_RETRY_AFTER, PATIENCE, IssuingPass, Places
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
        yield lambda: stack.enter_context(places.taken(1_000, "", wait=0, for_session=True))


@pytest.fixture
def _slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call that has begun is slow at once."""
    monkeypatch.setattr(gate.Places, "_stuck_from", lambda places, for_session: 0.0)


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
    monkeypatch.setattr(gate.Places, "_stuck_from", lambda places, for_session: 0.0)
    cancel_session(first)  # it would wait, if calls were quick
    assert (first.status, first.cancel_requested_at is None) == ("cancelled", False)
    # What no worker waits for takes no place.
    assert cancel_sessions(ChatSession.objects.filter(pk=second.pk)).due == 0
    assert not issue().reused


def test_behind_quick_calls_one_waits_for_a_place(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "SLOW", 3600)

    def pass_through() -> None:
        with places.taken(1, "", wait=3600):
            pass

    waiting = threading.Thread(target=pass_through, daemon=True)
    with places.taken(1, "", wait=0):
        waiting.start()
        waiting.join(timeout=0.1)
        assert waiting.is_alive()
    waiting.join(timeout=10)
    assert not waiting.is_alive()


def test_a_place_that_becomes_free_goes_to_whoever_may_have_it(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One who waits for fewer places is not woken in place of one who could go on."""
    monkeypatch.setattr(gate, "SLOW", 3600)
    passed: list[int] = []

    def pass_through(number: int) -> None:
        with suppress(APIConnectionError), places.taken(number, "", wait=5):
            passed.append(number)

    with places.taken(2, "", wait=0):
        with places.taken(2, "", wait=0):
            for number in (1, 2):  # in this order: the first one is woken first
                threading.Thread(target=pass_through, args=[number], daemon=True).start()
                until = time.monotonic() + 5
                while len(places._change._waiters) < number and time.monotonic() < until:  # type: ignore[attr-defined]  # of the standard library
                    time.sleep(0.01)
        until = time.monotonic() + 2
        while not passed and time.monotonic() < until:
            time.sleep(0.01)
        assert passed == [2]


def test_a_call_that_takes_more_than_a_second_is_waited_for(places: Places, api: Api, issue: Issue) -> None:
    """OpenAI may take so long on a slow day: more people than places are no reason to refuse some of them."""
    place, entered = threading.Event(), threading.Event()

    def hold() -> None:
        with places.taken(4, api.base_url, wait=0):
            entered.set()
            place.wait(timeout=10)

    holders = [threading.Thread(target=hold, daemon=True) for _ in range(4)]
    for holder in holders:
        holder.start()
    assert entered.wait(timeout=5)
    threading.Timer(1.1, place.set).start()
    assert not issue().reused
    for holder in holders:
        holder.join(timeout=5)


def test_a_call_that_takes_much_longer_than_the_last_one_is_not_waited_for(places: Places, api: Api) -> None:
    def session() -> Any:
        return places.taken(1, api.base_url, wait=PATIENCE, for_session=True)

    with session():
        pass
    began = time.monotonic()
    with session(), pytest.raises(APIConnectionError), session():
        pass
    assert gate.SLOW <= time.monotonic() - began < PATIENCE


def test_a_slow_call_makes_nobody_patient_for_longer(
    places: Places, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An API that takes six seconds for each would hold every worker, two seconds at a time."""
    monkeypatch.setattr(gate, "SLOW", 0.1)
    monkeypatch.setattr(gate, "PATIENCE", 0.8)
    monkeypatch.setattr(places, "_last", 6.0)
    with places.taken(1, api.base_url, wait=0, for_session=True):
        assert not places.is_hopeless(1, api.base_url)
        time.sleep(0.9)
        assert places.is_hopeless(1, api.base_url)


def test_whatever_else_hangs_refuses_no_session(
    places: Places, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are places for sessions alone, and those change hands."""
    monkeypatch.setattr(gate, "SLOW", 0.0)

    def session(wait: float) -> Any:
        return places.taken(2, api.base_url, wait=wait, for_session=True)

    with session(0):
        pass  # quickly
    with places.taken(1, api.base_url, wait=0):
        time.sleep(0.05)
        assert not places.is_hopeless(1, api.base_url)
        with session(0):
            time.sleep(0.5)
            # This one is slow itself.
            assert places.is_hopeless(2, api.base_url)


@pytest.mark.parametrize("api_hangs", [False, True])
def test_the_end_of_the_one_that_made_room_keeps_no_more_workers_than_there_are_places(
    take: Callable[[], None], api: Api, issue: Issue, configure: Configure, *, api_hangs: bool
) -> None:
    configure(MAX_CONCURRENT_CALLS=2, MAX_ACTIVE_SESSIONS=1, ON_MAX_ACTIVE="cancel_oldest")
    first = issue().session
    if api_hangs:
        api.misbehave(Fault(delay=30), path="*/cancel")
    else:
        take()  # and so half of the places are
    began = time.monotonic()
    assert not issue().reused
    assert time.monotonic() - began < (3.5 if api_hangs else 1.8)
    first.refresh_from_db()
    # What the API was not told now, chatkit_reconcile tells.
    assert (first.status, first.cancel_requested_at is None) == ("cancelled", False)
    assert [path.endswith("/cancel") for path in api.paths] == [False, False] + [True] * api_hangs


def test_however_many_make_room_their_ends_take_no_longer(
    api: Api, issue: Issue, configure: Configure
) -> None:
    for _ in range(3):
        issue()
    configure(MAX_ACTIVE_SESSIONS=1, ON_MAX_ACTIVE="cancel_oldest")
    api.misbehave(Fault(delay=30), path="*/cancel", times=3)
    began = time.monotonic()
    assert not issue().reused
    assert time.monotonic() - began < 3.5
    assert ChatSession.objects.due().count() == 3


def test_the_wait_for_a_place_is_part_of_the_time_for_cancelling(
    take: Callable[[], None], api: Api, issue: Issue, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(MAX_CONCURRENT_CALLS=2, DEADLINE=0.3)
    monkeypatch.setattr(gate, "SLOW", 3600)
    session = issue().session
    take()
    began = time.monotonic()
    cancel_session(session)
    assert 0.3 <= time.monotonic() - began < 1.5
    assert session.cancel_requested_at is not None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Processes are not forked there.")
def test_a_forked_child_begins_with_all_places(take: Callable[[], None], places: Places) -> None:
    take()
    places.failing.add("")
    gate._begin_anew()  # which the system does in the child
    assert not gate._places.is_hopeless(1, "")


def test_the_wait_is_bounded(
    take: Callable[[], None], places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "SLOW", 3600)
    take()
    with pytest.raises(APIConnectionError), places.taken(1, "", wait=0.05):
        pass


def test_who_loses_the_race_for_a_place_leaves_a_failed_row(
    places: Places, api: Api, issue: Issue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(number: int, base_url: str, **options: Any) -> Any:
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
