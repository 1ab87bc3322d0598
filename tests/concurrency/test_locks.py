import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import pytest
from django.contrib.auth.models import User
from django.db import connections, transaction
from django.http import HttpRequest
from django.test import RequestFactory
from django.utils import timezone

from chatkit_sessions.conf import get_settings
from chatkit_sessions.exceptions import SessionRefused, StorageUnavailable
from chatkit_sessions.identity import resolve_identity
from chatkit_sessions.models import ChatSession, LimitLock
from chatkit_sessions.services import IssuedSession, cancel_session, issue_session, limits, reserve, storage
from chatkit_sessions.services.order import place_order
from chatkit_sessions.standin import Fault, StandIn
from chatkit_sessions.visitors import address_digest

from .conftest import ISSUED, ROUNDS
from .waits import wait_at_most
from .worker import issue, together

pytestmark = pytest.mark.concurrency

one_writer_at_a_time = pytest.mark.skipif(
    "connections['default'].vendor == 'sqlite'",
    reason="SQLite lets one transaction write at a time, whosever it is.",
)


@contextmanager
def in_a_transaction(work: Callable[[], Any]) -> Iterator[None]:
    """Do something in a transaction of another connection, which stays open for the length of the block."""
    begun, over = threading.Event(), threading.Event()
    trouble: list[BaseException] = []

    def run() -> None:
        try:
            with transaction.atomic():
                work()
                begun.set()
                over.wait(timeout=60)
        except BaseException as error:
            trouble.append(error)
        finally:
            begun.set()
            connections.close_all()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert begun.wait(timeout=30)
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=60)
        assert trouble == []


def reserve_for(**arguments: Any) -> None:
    """Lock, count and insert as issuing does, in whichever transaction is open."""
    order = place_order(**arguments)
    limits.lock(order, timezone.now())
    reserve._pending_row(order, timezone.now()).save()


@one_writer_at_a_time
@pytest.mark.parametrize(
    "site", [{"MAX_ACTIVE_SESSIONS": 2, "ON_MAX_ACTIVE": "cancel_oldest"}], indirect=True
)
@pytest.mark.parametrize("known", [True, False], ids=["known before", "new"])
def test_different_people_do_not_wait_for_each_other(site: StandIn, known: bool) -> None:
    """Neither where one has a row to lock already, nor where both are new and their keys are neighbours."""
    accounts = User.objects.bulk_create(User(username=f"user {n}") for n in range(40))
    held, *others = User.objects.filter(pk__in=[account.pk for account in accounts])
    if known:
        for account in (held, *others):
            for _ in range(2):
                issue_session(user=account)
    with in_a_transaction(partial(reserve_for, user=held)), wait_at_most(2):
        for account in others:
            assert issue_session(user=account).session.status == "active"
    assert ChatSession.objects.filter(user=held, status="pending").count() == 1


@pytest.mark.parametrize("site", [{"MAX_SESSIONS_PER_HOUR": 1}], indirect=True)
def test_the_same_person_waits_and_is_counted(site: StandIn) -> None:
    results: list[list[str]] = []

    def ask() -> None:
        results.append(together([partial(issue, "ada")], at=time.time()))

    with in_a_transaction(partial(reserve_for, identifier="ada")):
        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.4)
        assert results == []
    thread.join(timeout=30)
    assert results == [["session_limit_reached"]]
    assert ChatSession.objects.count() == 1


def test_the_same_person_does_not_wait_for_an_answer_of_the_api(site: StandIn) -> None:
    site.misbehave(Fault(delay=1.5))
    slow = threading.Thread(target=together, args=([partial(issue, "ada")],), kwargs={"at": time.time()})
    slow.start()
    while not site.requests:
        time.sleep(0.01)
    started = time.monotonic()
    assert issue_session(identifier="ada").session.status == "active"
    assert time.monotonic() - started < 1
    slow.join(timeout=30)
    assert ChatSession.objects.filter(status="active").count() == 2


@one_writer_at_a_time
@pytest.mark.parametrize(
    "site", [{"ALLOW_ANONYMOUS": True, "ANONYMOUS_RATE": "1000/hour", "TIMEOUT": (3, 10)}], indirect=True
)
def test_a_deadlock_is_lost_by_nobody(site: StandIn, rf: RequestFactory) -> None:
    """A visitor needs two locks. Somebody who takes them in the wrong order is met halfway."""
    visitor = rf.post("/")
    first, second = sorted(keys_of(visitor))
    taken, met = threading.Event(), threading.Event()
    lost: list[str] = []

    def contrary() -> None:
        """Hold the second key and then want the first, which the visitor has by now."""
        try:
            with transaction.atomic():
                LimitLock.objects.take([second], timezone.now())
                # The more a transaction has written, the less a database likes to give it up.
                LimitLock.objects.take([f"filler {n}" for n in range(500)], timezone.now())
                taken.set()
                met.wait(timeout=30)
                LimitLock.objects.take([first], timezone.now())
        except Exception as error:
            lost.append(str(error))
        finally:
            taken.set()
            connections.close_all()

    thread = threading.Thread(target=contrary, daemon=True)
    thread.start()
    assert taken.wait(timeout=30)
    threading.Timer(0.4, met.set).start()
    attempt = reserve._try_to_reserve
    with mock.patch.object(reserve, "_try_to_reserve", side_effect=attempt) as attempts:
        session = issue_session(request=visitor).session
    thread.join(timeout=60)
    assert lost == []
    assert session.status == "active"
    # The database gave our transaction up, and we began again; on a slow machine perhaps more than once.
    assert 2 <= attempts.call_count <= storage.ATTEMPTS


def visit(request: HttpRequest) -> str:
    try:
        issue_session(request=request)
    except SessionRefused as error:
        return error.code
    return ISSUED


def keys_of(request: HttpRequest) -> list[str]:
    return [resolve_identity(get_settings(), request=request).key, address_digest(request)]


@pytest.mark.parametrize(
    "site", [{"ALLOW_ANONYMOUS": True, "ANONYMOUS_RATE": "5/hour", "MAX_SESSIONS_PER_HOUR": 3}], indirect=True
)
def test_visitors_of_one_address_are_counted_together(site: StandIn, rf: RequestFactory) -> None:
    """Each needs its own lock and the address's, and nobody waits in a circle."""
    for number in range(ROUNDS):
        visits = [partial(visit, rf.post("/", REMOTE_ADDR=f"192.0.2.{number}")) for _ in range(20)]
        outcomes = together(visits, at=time.time() + 0.1)
        assert sorted(outcomes) == [ISSUED] * 5 + ["throttled"] * 15


@pytest.mark.parametrize("site", [{"MAX_SESSIONS_PER_HOUR": 1}], indirect=True)
def test_whoever_cannot_have_the_lock_gets_nothing(site: StandIn) -> None:
    with in_a_transaction(partial(reserve_for, identifier="ada")):
        with wait_at_most(1), pytest.raises(StorageUnavailable):
            issue_session(identifier="ada")
        assert site.requests == []


def test_after_a_cancellation_nobody_gets_the_secret_any_more(site: StandIn) -> None:
    for number in range(ROUNDS):
        first = issue_session(identifier=f"person {number}")
        cancelled = threading.Event()
        cancel = partial(cancel_and_tell, first.session, cancelled)
        ask = partial(ask_again_and_again, first, cancelled)
        # Not one was begun after the cancellation and got it all the same.
        assert together([cancel, ask, ask, ask], at=time.time() + 0.05) == [None, [], [], []]
        row = ChatSession.objects.get(pk=first.session.pk)
        assert (row.status, row.secret_digest) == ("cancelled", first.session.secret_digest)


def cancel_and_tell(session: ChatSession, cancelled: threading.Event) -> None:
    cancel_session(ChatSession.objects.get(pk=session.pk))
    cancelled.set()


def ask_again_and_again(first: IssuedSession, cancelled: threading.Event) -> list[str]:
    """Return what should never be: a secret that was handed out after its session was cancelled."""
    wrong = []
    for _ in range(5):
        ended = cancelled.is_set()
        again = issue_session(identifier=first.session.identifier, current_client_secret=first.client_secret)
        if ended and again.reused:
            wrong.append(str(again.session))
    return wrong
