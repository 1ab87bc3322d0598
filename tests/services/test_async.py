import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import User

from chatkit_sessions.exceptions import UpstreamError, WorkflowNotFound
from chatkit_sessions.models import ChatSession
from chatkit_sessions.services import acancel_session, aissue_session
from chatkit_sessions.standin import Fault

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
    done: list[str] = []

    async def chat() -> None:
        await aissue_session(user=user)
        done.append("chat")

    async def look() -> None:
        while not api.requests:
            await asyncio.sleep(0.01)
        done.append(f"pending: {await sync_to_async(ChatSession.objects.filter(status='pending').count)()}")

    async def both() -> None:
        await asyncio.gather(chat(), look())

    api.misbehave(Fault(delay=0.5))
    async_to_sync(both)()
    assert done == ["pending: 1", "chat"]
