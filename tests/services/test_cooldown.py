import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.locmem import LocMemCache
from django.test import override_settings

from chatkit_sessions.client import InternalServerError
from chatkit_sessions.conf import get_settings
from chatkit_sessions.exceptions import ChatKitSessionsError, ThreadNotFound, UpstreamUnavailable
from chatkit_sessions.models import ChatSession
from chatkit_sessions.services import IssuedSession, cancel_session, conversations, gate
from chatkit_sessions.services.cooldown import PROBE_RETRY_AFTER, Cooldown
from chatkit_sessions.services.doctor import examine
from chatkit_sessions.standin import Fault, StandIn

from .conftest import Api, Clock

Issue = Callable[..., IssuedSession]
Configure = Callable[..., None]

UNAVAILABLE: dict[str, Fault] = {
    "500": Fault(status=500),
    "503": Fault(status=503),
    "408": Fault(status=408),
    "no connection": Fault(drop=True),
    "no answer in time": Fault(delay=3),
}
# The API is there, whatever it says.
THERE: dict[str, Fault] = {
    "200": Fault(),
    "400": Fault(status=400),
    "401": Fault(status=401),
    "404": Fault(status=404),
    "409": Fault(status=409),
    "429": Fault(status=429),
    "not JSON": Fault(body="<html>"),
    "redirect": Fault(status=302),
}


class BrokenCache(BaseCache):
    """A cache that is gone."""

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)

    def _fail(self, *args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("redis://user:password@cache is gone")

    add = get = set = delete = incr = delete_many = clear = _fail


class FullCache(LocMemCache):
    """A cache that can be read and takes nothing more, as a Redis without memory."""

    is_full = False

    def add(self, *args: Any, **kwargs: Any) -> bool:
        if FullCache.is_full:
            raise ConnectionError("OOM command not allowed when used memory > 'maxmemory'")
        return super().add(*args, **kwargs)


@pytest.fixture(autouse=True)
def _rule(configure: Configure) -> None:
    configure(COOLDOWN=(3, 30), TIMEOUT=(1, 1))


@pytest.fixture
def code(issue: Issue) -> Callable[..., str]:
    """Ask for a session and return what came of it."""

    def run(**arguments: Any) -> str:
        try:
            issue(**arguments)
        except ChatKitSessionsError as error:
            return error.code
        return "issued"

    return run


def fail(api: Api, code: Callable[[], str], *, times: int, fault: Fault = UNAVAILABLE["503"]) -> None:
    api.misbehave(fault, times=times)
    for _ in range(times):
        assert code() != "issued"


@pytest.mark.parametrize("case", UNAVAILABLE)
def test_after_so_many_unavailable_answers_it_fails_at_once(
    api: Api, issue: Issue, code: Callable[[], str], clock: Clock, case: str
) -> None:
    fail(api, code, times=3, fault=UNAVAILABLE[case])
    clock.advance(10)
    rows = ChatSession.objects.count()
    with pytest.raises(UpstreamUnavailable) as caught:
        issue()
    assert (caught.value.retry_after, caught.value.reference) == (20, None)
    # Nothing is sent and nothing is written.
    assert (len(api.requests), ChatSession.objects.count()) == (3, rows)


@pytest.mark.parametrize("case", THERE)
def test_only_failures_in_a_row_count(api: Api, code: Callable[[], str], case: str) -> None:
    fail(api, code, times=2)
    api.misbehave(THERE[case])
    code()
    fail(api, code, times=2)
    assert code() == "issued"
    assert len(api.requests) == 6


def test_one_probe_is_let_through_after_the_pause(api: Api, code: Callable[[], str], clock: Clock) -> None:
    fail(api, code, times=3)
    clock.advance(30)
    meanwhile: list[float | None] = []

    def ask_meanwhile(request: object) -> None:
        with pytest.raises(UpstreamUnavailable) as caught:
            gate.enter(get_settings(), api.base_url)
        meanwhile.append(caught.value.retry_after)

    api.watch = ask_meanwhile
    api.misbehave(Fault(status=503))
    assert code() == "upstream_unavailable"
    assert (len(api.requests), meanwhile) == (4, [PROBE_RETRY_AFTER])
    api.watch = None
    # It failed: the pause begins again.
    clock.advance(29)
    assert (code(), len(api.requests)) == ("upstream_unavailable", 4)
    clock.advance(1)
    assert code() == "issued"
    # That one was answered: everybody is let through, until there are so many failures once more.
    fail(api, code, times=2)
    assert code() == "issued"


def test_a_probe_that_was_not_made_is_left_to_the_next_call(
    api: Api, code: Callable[..., str], clock: Clock, configure: Configure
) -> None:
    fail(api, code, times=3)
    clock.advance(30)
    ChatSession.objects.update(status="active", issued_at=clock.now)
    configure(MAX_SESSIONS_PER_HOUR=1)
    assert (code(), len(api.requests)) == ("session_limit_reached", 3)
    assert code(identifier="somebody else") == "issued"


def test_a_probe_that_died_keeps_the_next_one_waiting_for_a_deadline_only(
    api: Api, code: Callable[[], str], clock: Clock, configure: Configure
) -> None:
    configure(DEADLINE=1)
    fail(api, code, times=3)
    clock.advance(30)
    gate.enter(get_settings(), api.base_url)  # and never heard of again
    assert (code(), len(api.requests)) == ("upstream_unavailable", 3)
    time.sleep(2.2)
    assert code() == "issued"


def test_a_probe_that_comes_back_late_does_not_let_a_third_one_through(
    api: Api, code: Callable[[], str], clock: Clock
) -> None:
    fail(api, code, times=3)
    clock.advance(30)
    late = gate.enter(get_settings(), api.base_url)
    cache.delete(Cooldown(get_settings(), api.base_url)._probe)  # its time is over
    assert gate.enter(get_settings(), api.base_url).is_probe
    late.give_back()
    with pytest.raises(UpstreamUnavailable) as caught:
        gate.enter(get_settings(), api.base_url)
    assert caught.value.retry_after == PROBE_RETRY_AFTER


def test_a_probe_that_fails_begins_the_pause_again_although_the_count_was_forgotten(
    api: Api, code: Callable[[], str], clock: Clock
) -> None:
    fail(api, code, times=3)
    clock.advance(30)
    cache.delete(Cooldown(get_settings(), api.base_url)._failures)  # as after a quiet hour
    fail(api, code, times=1)
    assert (code(), len(api.requests)) == ("upstream_unavailable", 4)


def test_other_processes_know_through_the_cache(api: Api, code: Callable[[], str]) -> None:
    fail(api, code, times=2)
    elsewhere = Cooldown(get_settings(), api.base_url)
    elsewhere.record(InternalServerError("down", status_code=500), is_probe=False)
    assert (code(), len(api.requests)) == ("upstream_unavailable", 2)


def test_another_address_is_not_kept_waiting(api: Api, code: Callable[[], str], configure: Configure) -> None:
    fail(api, code, times=3)
    with StandIn() as other:
        configure(BASE_URL=other.base_url)
        assert (code(), len(other.requests)) == ("issued", 1)


def test_a_running_session_is_handed_out_meanwhile(api: Api, issue: Issue, code: Callable[[], str]) -> None:
    first = issue()
    fail(api, code, times=3)
    assert issue(current_client_secret=first.client_secret).reused


def test_conversations_and_cancellations_wait_too(
    api: Api, issue: Issue, code: Callable[[], str], user: User, clock: Clock
) -> None:
    session = issue().session
    fail(api, code, times=3)
    sent = len(api.requests)
    with pytest.raises(UpstreamUnavailable) as caught:
        conversations(user=user).list()
    assert caught.value.retry_after == 30
    cancel_session(session)
    row = ChatSession.objects.get(pk=session.pk)
    assert (row.status, len(api.requests)) == ("cancelled", sent)
    assert row.cancel_requested_at is not None
    # After the pause they go through, and leave the probe to who asks for a session.
    clock.advance(30)
    assert conversations(user=user).list().data == ()
    assert code() == "issued"


def test_they_neither_begin_nor_prevent_it(
    api: Api, issue: Issue, code: Callable[[], str], user: User
) -> None:
    """What somebody provokes with a conversation of their own is no reason to refuse sessions to others."""
    session, talk = issue().session, conversations(user=user)
    api.misbehave(Fault(status=500), times=9)
    for _ in range(4):
        with pytest.raises(UpstreamUnavailable):
            talk.list()
    for _ in range(5):
        cancel_session(session)
    assert code() == "issued"
    for _ in range(2):
        fail(api, code, times=1)
        with pytest.raises(ThreadNotFound):
            talk.retrieve("cthr_none")
    fail(api, code, times=1)
    sent = len(api.requests)
    assert (code(), len(api.requests)) == ("upstream_unavailable", sent)


def test_a_pause_that_a_wrong_clock_began_is_over(api: Api, code: Callable[[], str], clock: Clock) -> None:
    clock.advance(86_400)
    fail(api, code, times=3)
    clock.advance(-86_400)
    assert code() == "issued"


def test_the_doctor_tries_all_the_same(api: Api, code: Callable[[], str]) -> None:
    fail(api, code, times=3)
    api.misbehave(Fault(status=503))
    assert not examine().ok
    assert (code(), len(api.requests)) == ("upstream_unavailable", 4)
    assert examine().ok
    assert code() == "issued"


def test_none_switches_it_off(api: Api, code: Callable[[], str], configure: Configure) -> None:
    configure(COOLDOWN=None)
    fail(api, code, times=9)
    assert code() == "issued"


def test_the_log_says_so_once(api: Api, code: Callable[[], str], caplog: pytest.LogCaptureFixture) -> None:
    fail(api, code, times=3)
    code()
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        f"The API at {api.base_url} was unavailable 3 times in a row: it is not asked for 30 seconds."
    ]


def test_calls_that_were_under_way_do_not_prolong_it(
    api: Api, code: Callable[[], str], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    fail(api, code, times=3)
    clock.advance(10)
    late = Cooldown(get_settings(), api.base_url)
    late.record(InternalServerError("down", status_code=500), is_probe=False)
    clock.advance(20)
    assert code() == "issued"
    assert sum(record.levelname == "ERROR" for record in caplog.records) == 1


def test_without_a_cache_there_is_no_cooldown_and_no_failure(
    api: Api, code: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    gone = f"{__name__}.BrokenCache"
    with override_settings(CACHES={"default": {"BACKEND": gone, "LOCATION": "redis://gone"}}):
        fail(api, code, times=5)
        assert code() == "issued"
    assert "ConnectionError" in caplog.text
    assert "password" not in caplog.text


def test_a_cache_that_takes_nothing_more_does_not_prolong_it(
    api: Api, code: Callable[[], str], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = {"BACKEND": f"{__name__}.FullCache", "LOCATION": "full"}
    with override_settings(CACHES={"default": backend}):
        fail(api, code, times=3)
        monkeypatch.setattr(FullCache, "is_full", True)
        assert code() == "upstream_unavailable"
        clock.advance(30)
        assert code() == "issued"
        cache.clear()
