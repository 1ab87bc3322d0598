import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import User

from chatkit_sessions.exceptions import UpstreamError, WorkflowNotFound
from chatkit_sessions.models import ChatSession
from chatkit_sessions.services import IssuedSession, acancel_session, aissue_session
from chatkit_sessions.standin import Fault
from chatkit_sessions.standin.exchange import RecordedRequest

from .conftest import Api, Heard


@pytest.mark.django_db(transaction=True)
def test_async_callers_issue_hand_out_and_cancel(api: Api, user: User, heard: Heard) -> None:
    async def chat() -> list[Any]:
        first = await aissue_session(user=user, expires_after=300)
        again = await aissue_session(
            user=user, expires_after=300, current_client_secret=str(first.client_secret)
        )
        ended = await acancel_session(first.session, by=user, reason="left the page")
        return [first, again, ended]

    first, again, ended = async_to_sync(chat)()
    assert (first.reused, again.reused, again.client_secret) == (False, True, first.client_secret)
    assert (ended.status, ended.ended_by, ended.end_reason) == ("cancelled", user, "left the page")
    assert heard.names == ["session_issued", "session_reused", "session_cancelled"]
    assert api.paths == ["/chatkit/sessions", f"/chatkit/sessions/{ended.upstream_id}/cancel"]


def test_async_callers_get_the_same_errors(api: Api, user: User) -> None:
    with pytest.raises(WorkflowNotFound):
        async_to_sync(aissue_session)(user=user, workflow="none")
    assert api.requests == []
    api.misbehave(Fault(status=500))
    with pytest.raises(UpstreamError):
        async_to_sync(aissue_session)(user=user)
    assert ChatSession.objects.get().status == "failed"


def test_a_misspelt_argument_is_refused(api: Api, user: User) -> None:
    misspelt: Callable[..., Any] = aissue_session
    with pytest.raises(TypeError) as caught:
        async_to_sync(misspelt)(user=user, worklfow="support")
    assert str(caught.value) == "aissue_session() got an unexpected keyword argument 'worklfow'"
    assert ChatSession.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_while_one_waits_for_the_api_another_uses_the_database(api: Api, user: User) -> None:
    """The database's thread is one for all of them."""
    asked, looked = threading.Event(), threading.Event()
    in_time: list[bool] = []

    def watch(request: RecordedRequest) -> None:
        asked.set()
        in_time.append(looked.wait(timeout=5))

    async def look() -> int:
        await asyncio.to_thread(asked.wait, 5)
        pending = await sync_to_async(ChatSession.objects.filter(status="pending").count)()
        looked.set()
        return pending

    async def both() -> tuple[IssuedSession, int]:
        return await asyncio.gather(aissue_session(user=user), look())

    api.watch = watch
    issued, pending = async_to_sync(both)()
    assert (issued.session.status, pending, in_time) == ("active", 1, [True])


@pytest.mark.django_db(transaction=True)
def test_one_that_makes_room_is_told_without_keeping_the_database(
    api: Api, user: User, configure: Callable[..., None]
) -> None:
    configure(MAX_ACTIVE_SESSIONS=1, ON_MAX_ACTIVE="cancel_oldest")
    told, looked = threading.Event(), threading.Event()
    in_time: list[bool] = []

    def watch(request: RecordedRequest) -> None:
        if request.endpoint.endswith("/cancel"):
            told.set()
            in_time.append(looked.wait(timeout=5))

    async def look() -> None:
        await asyncio.to_thread(told.wait, 5)
        await sync_to_async(ChatSession.objects.count)()
        looked.set()

    async def all_of_it() -> list[Any]:
        first = await aissue_session(user=user)
        second, _ = await asyncio.gather(aissue_session(user=user), look())
        again = await acancel_session(first.session)  # it has ended, and the API knows
        return [first, second, again]

    api.watch = watch
    first, second, again = async_to_sync(all_of_it)()
    assert (again.status, second.session.status, in_time) == ("cancelled", "active", [True])
    assert api.sessions[first.session.upstream_id]["status"] == "cancelled"


@pytest.mark.django_db(transaction=True)
def test_what_was_begun_for_somebody_who_has_gone_is_brought_to_its_end(api: Api, user: User) -> None:
    asked, gone = threading.Event(), threading.Event()

    def watch(request: RecordedRequest) -> None:
        asked.set()
        gone.wait(timeout=5)

    async def go_away() -> None:
        asking = asyncio.create_task(aissue_session(user=user))
        await asyncio.to_thread(asked.wait, 5)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        gone.set()
        running = ChatSession.objects.filter(status="active")
        for _ in range(500):
            if await sync_to_async(running.exists)():
                return
            await asyncio.sleep(0.01)

    api.watch = watch
    async_to_sync(go_away)()
    assert ChatSession.objects.get().status == "active"
