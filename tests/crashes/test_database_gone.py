"""The database goes away at the worst moment, and comes back."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import pytest
from django.db import OperationalError, connection

from chatkit_sessions.client import ChatKitClient, ChatKitSession
from chatkit_sessions.exceptions import SessionLimitReached, StorageUnavailable
from chatkit_sessions.models import ChatSession
from chatkit_sessions.services import cancel_session, issue_session, settle
from chatkit_sessions.standin import Fault
from tests.services.conftest import database_fails_at

from .aftermath import NOTHING, assert_true, settle_all
from .api import Api

pytestmark = pytest.mark.crash

ONE_AT_A_TIME = {"MAX_ACTIVE_SESSIONS": 1}
MAKING_ROOM = {**ONE_AT_A_TIME, "ON_MAX_ACTIVE": "cancel_oldest"}

Gone = Callable[[], AbstractContextManager[None]]


@contextmanager
def refusing() -> Iterator[None]:
    """Let every statement fail from the API's answer on."""
    with ExitStack() as stack, after_the_call(lambda: stack.enter_context(database_fails_at())):
        yield


@contextmanager
def disconnected() -> Iterator[None]:
    """Cut this thread's connection at the API's answer; as in a site, the next request gets a new one."""
    try:
        with after_the_call(cut):
            yield
    finally:
        connection.close()


def cut() -> None:
    """Let the server end this thread's connection; there is none to SQLite, so close the file."""
    mine = connection.connection
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [mine.info.backend_pid])
            elif connection.vendor == "mysql":
                cursor.execute("KILL %s", [mine.thread_id()])
            else:
                mine.close()
    finally:
        other.close()


@contextmanager
def after_the_call(happen: Callable[[], object]) -> Iterator[None]:
    create = ChatKitClient.create_session

    def create_and_let_happen(client: ChatKitClient, **parameters: Any) -> ChatKitSession:
        answer = create(client, **parameters)
        happen()
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ChatKitClient, "create_session", create_and_let_happen)
        yield


both_ways = pytest.mark.parametrize("gone", [refusing, disconnected])


@both_ways
@pytest.mark.parametrize("api", [ONE_AT_A_TIME], indirect=True)
def test_a_database_that_is_gone_after_the_call_costs_a_place_for_a_while(api: Api, gone: Gone) -> None:
    with gone(), pytest.raises(StorageUnavailable) as caught:
        issue_session(identifier="ada")
    row = ChatSession.objects.get()
    assert (row.status, caught.value.reference) == ("pending", str(row.reference))
    assert [session["status"] for session in api.of("ada")] == ["cancelled"]
    with pytest.raises(SessionLimitReached):
        issue_session(identifier="ada")
    assert settle_all(api).lost == 1
    assert ChatSession.objects.get().status == "lost"
    assert issue_session(identifier="ada").session.status == "active"


def test_an_update_whose_answer_was_lost_with_the_connection_is_withdrawn_in_the_row(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row says active already: whoever reads it must not think that somebody got the secret."""
    update = settle._update

    def unheard(*arguments: Any) -> bool:
        assert update(*arguments)
        if connection.vendor == "sqlite":  # a file has no connection to lose
            raise OperationalError("the disk is gone")
        cut()
        return ChatSession.objects.exists()

    monkeypatch.setattr(settle, "_update", unheard)
    with pytest.raises(StorageUnavailable):
        issue_session(identifier="ada")
    row = ChatSession.objects.get()
    assert (row.status, row.end_reason) == ("cancelled", settle.WITHHELD)
    assert (row.handed_out_count, row.last_handed_out_at, row.cancel_requested_at) == (0, None, None)
    assert [session["status"] for session in api.of("ada")] == ["cancelled"]


@both_ways
def test_what_neither_database_nor_api_hears_of_runs_out_by_itself(api: Api, gone: Gone) -> None:
    api.misbehave(Fault(status=400), path="*/cancel")
    with gone(), pytest.raises(StorageUnavailable):
        issue_session(identifier="ada")
    assert [session["status"] for session in api.of("ada")] == ["active"]
    assert_true(api)
    assert settle_all(api).lost == 1


@both_ways
@pytest.mark.parametrize("api", [MAKING_ROOM], indirect=True)
def test_whoever_made_room_stays_ended_without_the_database(api: Api, gone: Gone) -> None:
    first = issue_session(identifier="ada")
    with gone(), pytest.raises(StorageUnavailable):
        issue_session(identifier="ada")
    assert [session["status"] for session in api.of("ada")] == ["cancelled", "cancelled"]
    old, new = ChatSession.objects.order_by("pk")
    assert (old.pk, old.status, new.status) == (first.session.pk, "cancelled", "pending")
    # With a new connection it is written down that the API was told. Without a database it is told once more,
    # which is harmless.
    is_written = gone is disconnected
    assert (old.cancel_requested_at is None) is is_written
    assert_true(api)
    settled = settle_all(api)
    assert (settled.lost, settled.told) == (1, 0 if is_written else 1)


def test_a_cancellation_without_a_database_is_refused_and_can_be_repeated(api: Api) -> None:
    issued = issue_session(identifier="ada")
    with database_fails_at(), pytest.raises(StorageUnavailable):
        cancel_session(issued.session)
    assert ChatSession.objects.get().status == "active"
    assert_true(api)
    again = issue_session(identifier="ada", current_client_secret=issued.client_secret)
    assert again.reused
    assert cancel_session(issued.session).status == "cancelled"
    assert settle_all(api) == NOTHING


def test_handing_out_again_without_a_database_is_refused_and_can_be_repeated(api: Api) -> None:
    issued = issue_session(identifier="ada")
    with database_fails_at("UPDATE", "handed_out_count"), pytest.raises(StorageUnavailable):
        issue_session(identifier="ada", current_client_secret=issued.client_secret)
    assert ChatSession.objects.get().handed_out_count == 1
    assert issue_session(identifier="ada", current_client_secret=issued.client_secret).reused
    assert api.carried_out == 1
    assert settle_all(api) == NOTHING
