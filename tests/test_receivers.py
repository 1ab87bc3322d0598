"""Sessions end with the right to them: on signing out, where the site wants it, and with the account."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth import user_logged_out
from django.contrib.auth.models import AnonymousUser, User
from django.core import serializers
from django.db import OperationalError, connection, models, transaction
from django.test import Client, override_settings

from chatkit_sessions import receivers
from chatkit_sessions.models import ChatSession
from chatkit_sessions.receivers import PATIENCE
from chatkit_sessions.services import cancel, issue_session
from chatkit_sessions.signals import session_cancelled
from chatkit_sessions.standin import Fault, StandIn
from tests.api.conftest import session_of
from tests.services.conftest import database_fails_at

pytestmark = pytest.mark.django_db(transaction=True)

SIGN_OUT = "/accounts/logout/"


@pytest.fixture(autouse=True)
def _impatient(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One attempt a call, and sessions end with signing out; no test uses up the patience of the next."""
    monkeypatch.setattr(receivers, "_patience", receivers._Patience())
    changes = {"MAX_RETRIES": 0, "CANCEL_ON_LOGOUT": True}
    with override_settings(CHATKIT_SESSIONS={**settings.CHATKIT_SESSIONS, **changes}):
        yield


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada")


@pytest.fixture
def bobs(standin: StandIn) -> Iterator[ChatSession]:
    """The session of somebody else, which goes on whatever happens."""
    session = issue_session(user=User.objects.create_user("bob")).session
    yield session
    session.refresh_from_db()
    assert (session.status, standin.sessions[session.upstream_id]["status"]) == ("active", "active")


def signed_in(user: User) -> Client:
    browser = Client()
    browser.force_login(user)
    return browser


def deactivate(user: User) -> None:
    user.is_active = False
    user.save()


def start_again(user: User) -> ChatSession:
    """Activate the account, and start another session."""
    user.is_active = True
    user.save()
    return issue_session(user=user).session


WAYS: dict[str, tuple[Callable[[User], Any], str, bool]] = {
    "signing out": (lambda user: signed_in(user).post(SIGN_OUT), "signed out", True),
    "deactivation": (deactivate, "account deactivated", False),
    "deletion": (lambda user: user.delete(), "account deleted", False),
    "deletion of many": (lambda user: User.objects.filter(pk=user.pk).delete(), "account deleted", False),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_sessions_of_the_account_end_here_and_at_the_api(
    ada: User, bobs: ChatSession, standin: StandIn, way: str
) -> None:
    act, reason, by_herself = WAYS[way]
    sessions = [issue_session(user=ada).session for _ in range(2)]
    act(ada)
    for session in sessions:
        session.refresh_from_db()
        assert (session.status, session.end_reason) == ("cancelled", reason)
        assert (session.ended_by == ada) is by_herself
        assert session.cancel_requested_at is None
        assert standin.sessions[session.upstream_id]["status"] == "cancelled"


def test_signing_out_ends_nothing_unless_the_site_wants_it(ada: User, standin: StandIn) -> None:
    session = issue_session(user=ada).session
    with override_settings(CHATKIT_SESSIONS={**settings.CHATKIT_SESSIONS, "CANCEL_ON_LOGOUT": False}):
        signed_in(ada).post(SIGN_OUT)
    session.refresh_from_db()
    assert (session.status, len(standin.requests)) == ("active", 1)


@pytest.mark.parametrize("nobody", [None, AnonymousUser()])
def test_whoever_was_not_signed_in_has_nothing_to_end(bobs: ChatSession, nobody: Any) -> None:
    visitors = issue_session(identifier="visitor-1").session
    user_logged_out.send(User, request=None, user=nobody)
    visitors.refresh_from_db()
    assert visitors.status == "active"


def test_an_account_that_stays_active_keeps_its_sessions(ada: User, standin: StandIn) -> None:
    session = issue_session(user=ada).session
    ada.first_name = "Ada"
    ada.save()
    session.refresh_from_db()
    assert session.status == "active"


def test_a_fixture_that_is_loaded_ends_nothing(ada: User, standin: StandIn) -> None:
    session = issue_session(user=ada).session
    ada.is_active = False
    [loaded] = serializers.deserialize("json", serializers.serialize("json", [ada]))
    loaded.save()
    session.refresh_from_db()
    assert session.status == "active"


@pytest.mark.parametrize("way", WAYS)
def test_a_hanging_api_delays_it_by_less_than_a_second(ada: User, standin: StandIn, way: str) -> None:
    act = WAYS[way][0]
    sessions = [issue_session(user=ada).session for _ in range(6)]
    browser = signed_in(ada)
    standin.misbehave(Fault(delay=30), times=100)
    began = time.monotonic()
    browser.post(SIGN_OUT) if way == "signing out" else act(ada)
    assert time.monotonic() - began < 1
    rows = ChatSession.objects.filter(pk__in=[session.pk for session in sessions])
    assert {(row.status, row.cancel_requested_at is None) for row in rows} == {("cancelled", False)}


@pytest.mark.parametrize("way", WAYS)
def test_a_failing_database_keeps_nobody_from_it(
    ada: User, standin: StandIn, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    session = issue_session(user=ada).session

    def run(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if "UPDATE" in sql and "end_reason" in sql:
            raise OperationalError("the disk is full")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(run):
        WAYS[way][0](ada)
    session.refresh_from_db()
    assert session.status == "active"
    assert f"could not be ended ({WAYS[way][1]})" in caplog.text


def test_what_a_failing_database_took_back_is_told_to_nobody(
    ada: User, standin: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        issue_session(user=ada)
    monkeypatch.setattr(cancel, "BATCH", 1)
    with database_fails_at("UPDATE", "ended_at", after=1), transaction.atomic():
        deactivate(ada)
    assert not User.objects.get().is_active
    assert ChatSession.objects.running().count() == 2
    assert len(standin.requests) == 2


def test_what_is_rolled_back_is_heard_of_nowhere(ada: User, standin: StandIn) -> None:
    heard: list[Any] = []
    session = issue_session(user=ada).session
    session_cancelled.connect(lambda **arguments: heard.append(arguments), weak=False, dispatch_uid="heard")
    try:
        with transaction.atomic():
            deactivate(ada)
            assert not ChatSession.objects.running().exists()
            transaction.set_rollback(True)
    finally:
        session_cancelled.disconnect(dispatch_uid="heard")
    session.refresh_from_db()
    assert (session.status, len(standin.requests), heard) == ("active", 1, [])


@pytest.fixture
def customers() -> Iterator[type[User]]:
    """A proxy of the accounts, such as a site has for a page of the admin of its own."""

    class Customer(User):
        class Meta:
            app_label = "auth"
            proxy = True

    receivers.connect()  # which the app does once all models are there
    yield Customer
    del apps.all_models["auth"]["customer"]
    apps.clear_cache()


@pytest.mark.parametrize("way", ["deactivation", "deletion"])
def test_an_account_that_goes_by_way_of_a_proxy_is_the_same(
    ada: User, standin: StandIn, customers: type[User], way: str
) -> None:
    """Django names the proxy as the sender, not the model behind it."""
    session = issue_session(user=ada).session
    WAYS[way][0](customers._default_manager.get(pk=ada.pk))
    session.refresh_from_db()
    assert (session.status, session.end_reason) == ("cancelled", WAYS[way][1])
    assert standin.sessions[session.upstream_id]["status"] == "cancelled"


def test_a_child_of_the_user_model_may_have_a_key_of_its_own(ada: User, bobs: ChatSession) -> None:
    class Employee(User):
        number = models.BigAutoField(primary_key=True)
        account = models.OneToOneField(User, models.CASCADE, parent_link=True)

        class Meta:
            app_label = "auth"

    try:
        session = issue_session(user=ada).session
        assert bobs.user is not None
        # Of all numbers, the one that is the key of somebody else's account.
        employee = Employee(number=bobs.user.pk, account=ada, id=ada.pk, is_active=False)
        receivers.on_save(Employee, employee)
    finally:
        del apps.all_models["auth"]["employee"]
        apps.clear_cache()
    session.refresh_from_db()
    assert session.status == "cancelled"


def test_what_began_before_the_deactivation_was_committed_ends_after_it(ada: User, standin: StandIn) -> None:
    with transaction.atomic():
        deactivate(ada)
        # Nobody else knows of it yet, so another connection may still start a session; SQLite would not let
        # it write now, so it is done by hand.
        meanwhile = session_of(ada, status="active")
    meanwhile.refresh_from_db()
    assert (meanwhile.status, meanwhile.end_reason) == ("cancelled", "account deactivated")


@pytest.mark.parametrize("way", WAYS)
def test_where_no_thread_is_to_be_had_nobody_is_kept_from_it(
    ada: User, standin: StandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("can't start new thread")

    session = issue_session(user=ada).session
    browser = signed_in(ada)
    monkeypatch.setattr(threading.Thread, "start", fail)
    if way == "signing out":
        assert browser.post(SIGN_OUT).status_code == 302
        assert "_auth_user_id" not in browser.session
    else:
        WAYS[way][0](ada)
    session.refresh_from_db()
    assert (session.status, session.cancel_requested_at is None) == ("cancelled", False)
    assert "The API is not told of the end of any session now: can't start new thread" in caplog.text


@pytest.mark.parametrize("step", ["announce_all", "tell_all"])
def test_whatever_happens_while_it_is_told_keeps_nobody_from_it(
    ada: User, standin: StandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, step: str
) -> None:
    def fail(*args: Any, **kwargs: Any) -> int:
        raise LookupError("not foreseen")

    issue_session(user=ada)
    monkeypatch.setattr(receivers, step, fail)
    deactivate(ada)
    assert not User.objects.get().is_active
    assert "The end of sessions could not be told." in caplog.text


def test_many_accounts_at_once_take_no_longer_than_one(standin: StandIn) -> None:
    people = [User.objects.create_user(f"person {number}") for number in range(5)]
    for person in people:
        issue_session(user=person)
    standin.misbehave(Fault(delay=30), times=100)
    began = time.monotonic()
    User.objects.filter(pk__in=[person.pk for person in people]).delete()
    assert time.monotonic() - began < 2 * PATIENCE
    assert ChatSession.objects.due().count() == 5


def test_a_thread_that_waited_may_wait_again_later(
    ada: User, standin: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin.misbehave(Fault(delay=30), path="*/cancel")
    session = issue_session(user=ada).session
    deactivate(ada)
    session = start_again(ada)
    deactivate(ada)
    session.refresh_from_db()
    assert session.cancel_requested_at is not None
    monkeypatch.setattr(receivers, "RENEWED_AFTER", 0)
    session = start_again(ada)
    deactivate(ada)
    session.refresh_from_db()
    assert session.cancel_requested_at is None


def test_a_site_whose_settings_are_broken_lets_people_go(ada: User, standin: StandIn) -> None:
    session = issue_session(user=ada).session
    with override_settings(CHATKIT_SESSIONS={"TIMEOUT": "soon", "CANCEL_ON_LOGOUT": True}):
        assert signed_in(ada).post(SIGN_OUT).status_code == 302
        ada.delete()
    session.refresh_from_db()
    assert (session.status, session.user, session.end_reason) == ("cancelled", None, "signed out")
    assert session.cancel_requested_at is not None
