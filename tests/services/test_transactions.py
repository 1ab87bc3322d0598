import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from django.db import DEFAULT_DB_ALIAS, OperationalError, transaction
from django.test import TestCase

from chatkit_sessions import testing
from chatkit_sessions.exceptions import StorageUnavailable
from chatkit_sessions.models import ChatSession, LimitLock
from chatkit_sessions.services import IssuedSession, cancel_session, issue_session
from chatkit_sessions.services.storage import is_deadlock

from .conftest import Api, database_fails_at

Issue = Callable[..., IssuedSession]

INSIDE = (
    "A session cannot be issued inside transaction.atomic(): a rollback would erase its audit row. "
    "Call issue_session() outside the block; for a view under ATOMIC_REQUESTS, decorate it with "
    "transaction.non_atomic_requests."
)


@pytest.mark.django_db(transaction=True)
def test_an_outer_transaction_is_refused(issue: Issue, api: Api) -> None:
    with transaction.atomic(), pytest.raises(StorageUnavailable) as caught:
        issue()
    assert (str(caught.value), caught.value.reference) == (INSIDE, None)
    assert (api.requests, ChatSession.objects.count(), LimitLock.objects.count()) == ([], 0, 0)


@pytest.mark.django_db(transaction=True)
def test_an_outer_transaction_is_refused_for_handing_out_too(issue: Issue, api: Api) -> None:
    """It would otherwise work or not, depending on what the browser happens to hold."""
    issued = issue()
    with transaction.atomic(), pytest.raises(StorageUnavailable) as caught:
        issue(current_client_secret=issued.client_secret)
    assert str(caught.value) == INSIDE
    assert ChatSession.objects.get().handed_out_count == 1


@pytest.mark.django_db(transaction=True)
def test_a_connection_without_autocommit_is_refused(issue: Issue, api: Api) -> None:
    transaction.set_autocommit(False)
    try:
        with pytest.raises(StorageUnavailable) as caught:
            issue()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert str(caught.value) == INSIDE
    assert (api.requests, ChatSession.objects.count()) == ([], 0)


class SiteTestCase(TestCase):
    """What an adopter's own test looks like."""

    def test_a_django_test_case_is_exempt(self) -> None:
        with testing.standin() as api:
            issued = issue_session(identifier="ada")
            again = issue_session(identifier="ada", current_client_secret=issued.client_secret)
            cancel_session(issued.session)
            assert (again.reused, len(api.requests)) == (True, 2)
        assert ChatSession.objects.get().status == "cancelled"


class WithSqlstate(Exception):
    sqlstate = "40P01"


class WithPgcode(Exception):
    pgcode = "40001"


def wrapped(cause: Exception | None) -> OperationalError:
    """Return the error as Django raises it for the driver's."""
    error = OperationalError("deadlock")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (WithSqlstate(), True),
        (WithPgcode(), True),
        (Exception(1213, "Deadlock found when trying to get lock"), True),
        (Exception(1020, "Record has changed since last read"), True),
        (Exception(2006, "Server has gone away"), False),
        (Exception(), False),
        (sqlite3.OperationalError("database is locked"), False),
        (None, False),
    ],
)
def test_a_deadlock_is_recognised(cause: Exception | None, expected: bool) -> None:
    assert is_deadlock(wrapped(cause)) is expected


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "words", [("INSERT INTO", "chatkit_sessions_limitlock"), ("INSERT INTO", "chatkit_sessions_chatsession")]
)
def test_a_deadlock_is_tried_again(
    issue: Issue, api: Api, words: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    with database_fails_at(*words, error=wrapped(WithSqlstate()), times=2):
        issued = issue()
    assert ChatSession.objects.get() == issued.session
    assert len(api.requests) == 1
    assert caplog.records == []


@pytest.mark.django_db(transaction=True)
def test_a_deadlock_that_persists_is_a_storage_error(issue: Issue, api: Api) -> None:
    failing = database_fails_at("chatkit_sessions_limitlock", error=wrapped(WithPgcode()), times=3)
    with failing, pytest.raises(StorageUnavailable):
        issue()
    assert (api.requests, ChatSession.objects.count()) == ([], 0)


@pytest.mark.django_db(transaction=True)
def test_another_failure_is_not_tried_again(issue: Issue, api: Api) -> None:
    with database_fails_at("chatkit_sessions_limitlock", times=1), pytest.raises(StorageUnavailable):
        issue()
    assert api.requests == []


class ReadsElsewhere:
    """Send reads of sessions to a replica that does not exist: whoever asks it fails."""

    def db_for_read(self, model: type, **hints: Any) -> str | None:
        return "replica" if model in (ChatSession, LimitLock) else None

    def db_for_write(self, model: type, **hints: Any) -> str:
        return DEFAULT_DB_ALIAS


def test_nothing_is_counted_on_a_replica(
    issue: Issue, api: Api, settings: Any, configure: Callable[..., None]
) -> None:
    configure(MAX_SESSIONS_PER_HOUR=3, MAX_ACTIVE_SESSIONS=1, ON_MAX_ACTIVE="cancel_oldest")
    settings.DATABASE_ROUTERS = [f"{__name__}.ReadsElsewhere"]
    first = issue()
    second = issue()
    cancel_session(second.session)
    cancel_session(second.session)
    settings.DATABASE_ROUTERS = []
    assert ChatSession.objects.filter(status="cancelled").count() == 2
    assert ChatSession.objects.get(pk=first.session.pk).end_reason == "replaced by a newer session"
