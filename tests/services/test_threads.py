import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User

from chatkit_sessions.exceptions import (
    ChatKitSessionsError,
    InvalidRequest,
    NotAuthenticated,
    ThreadNotFound,
    UpstreamError,
    UpstreamTimeout,
    WorkflowNotFound,
)
from chatkit_sessions.services import Conversations, conversations
from chatkit_sessions.standin import Fault, items

from .conftest import Api

Configure = Callable[..., None]


@pytest.fixture
def mine(api: Api, user: User) -> Conversations:
    return conversations(user=user)


@pytest.fixture
def thread(api: Api, user: User) -> str:
    """The id of a thread of ``user``, with an item of each type."""
    found = api.add_thread(user=str(user.pk), title="Mine", items=items.one_of_each())
    return str(found["id"])


@pytest.fixture
def theirs(api: Api, other: User) -> str:
    return str(api.add_thread(user=str(other.pk), title="Theirs", items=items.one_of_each())["id"])


CALLS: dict[str, Callable[[Conversations, str], Any]] = {
    "retrieve": lambda mine, thread: mine.retrieve(thread),
    "items": lambda mine, thread: mine.items(thread),
    "delete": lambda mine, thread: mine.delete(thread),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


def test_the_list_holds_the_persons_own_threads(
    mine: Conversations, thread: str, theirs: str, api: Api
) -> None:
    assert [found.id for found in mine.list().data] == [thread]
    [request] = api.requests
    assert request.query == {"user": mine.identifier}


def test_a_thread_of_ones_own_is_read_and_deleted(mine: Conversations, thread: str, api: Api) -> None:
    assert mine.retrieve(thread).title == "Mine"
    assert len(mine.items(thread).data) == 6
    assert mine.delete(thread).deleted
    assert api.threads == {}


@pytest.mark.parametrize("call", [CALLS["items"], CALLS["delete"]], ids=["items", "delete"])
def test_two_calls_of_the_api_have_one_deadline(
    configure: Configure, user: User, thread: str, api: Api, call: Callable[[Conversations, str], Any]
) -> None:
    configure(DEADLINE=2)
    api.misbehave(Fault(delay=1.2), times=2)
    began = time.monotonic()
    with pytest.raises(UpstreamTimeout):
        call(conversations(user=user), thread)
    assert time.monotonic() - began < 3
    assert len(api.requests) == 2


@every_call
def test_somebody_elses_thread_is_not_found(
    mine: Conversations, theirs: str, api: Api, call: Callable[[Conversations, str], Any]
) -> None:
    with pytest.raises(ThreadNotFound):
        call(mine, theirs)
    assert [request.method for request in api.requests] == ["GET"]
    assert theirs in api.threads


@every_call
@pytest.mark.parametrize("identifier", ["cthr_none", "", "..", "a" * 256, "a\x00b"])
def test_a_thread_that_does_not_exist_is_not_found(
    mine: Conversations, call: Callable[[Conversations, str], Any], identifier: str
) -> None:
    with pytest.raises(ThreadNotFound) as caught:
        call(mine, identifier)
    assert str(caught.value) == "There is no such conversation of yours."


def test_pages_are_asked_for_as_in_the_api(mine: Conversations, user: User, thread: str, api: Api) -> None:
    second = str(api.add_thread(user=str(user.pk))["id"])
    page = mine.list(limit=1, order="asc")
    assert ([found.id for found in page.data], page.has_more) == ([thread], True)
    assert [found.id for found in mine.list(limit=1, order="asc", after=thread).data] == [second]
    assert len(mine.items(thread, limit=2, order="desc").data) == 2


@pytest.mark.parametrize(
    ("paging", "errors"),
    [
        ({"limit": -1}, {"limit": ["must be an integer from 0 to 100, not -1."]}),
        ({"limit": 101}, {"limit": ["must be an integer from 0 to 100, not 101."]}),
        ({"order": "up"}, {"order": ["must be 'asc' or 'desc'."]}),
        ({"after": ""}, {"after": ["must be a string of at least 1 character, not 0 characters."]}),
    ],
)
def test_paging_has_its_bounds(
    mine: Conversations, api: Api, paging: dict[str, Any], errors: dict[str, list[str]]
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        mine.list(**paging)
    assert (caught.value.errors, api.requests) == (errors, [])


def test_a_cursor_that_the_api_refuses_is_the_callers_mistake(mine: Conversations, api: Api) -> None:
    refusal = {"error": {"message": "No such cursor.", "param": "after", "code": None}}
    api.misbehave(Fault(status=400, body=refusal))
    with pytest.raises(InvalidRequest) as caught:
        mine.list(after="cthr_none")
    assert caught.value.errors == {"after": ["is not accepted by the API."]}


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "upstream_rejected"),
        (401, "upstream_rejected"),
        (429, "upstream_rate_limited"),
        (500, "upstream_unavailable"),
    ],
)
def test_other_failures_are_those_of_the_table(mine: Conversations, api: Api, status: int, code: str) -> None:
    api.misbehave(Fault(status=status))
    with pytest.raises(UpstreamError) as caught:
        mine.list()
    assert (caught.value.code, caught.value.reference) == (code, None)
    assert "stand-in" not in str(caught.value)


def test_a_workflow_with_its_own_history_has_its_own_threads(
    user: User, thread: str, api: Api, configure: Configure
) -> None:
    configure(WORKFLOWS={"default": {"id": "wf_1"}, "legal": {"id": "wf_2", "isolate_history": True}})
    api.add_thread(user=f"{user.pk}#legal", title="Legal")
    assert [found.title for found in conversations(user=user, workflow="legal").list().data] == ["Legal"]
    assert [found.title for found in conversations(user=user).list().data] == ["Mine"]


@pytest.mark.parametrize(
    ("arguments", "error"), [({"workflow": "none"}, WorkflowNotFound), ({"user": None}, NotAuthenticated)]
)
def test_nobody_sees_what_is_not_open_to_them(
    api: Api, user: User, arguments: dict[str, Any], error: type[ChatKitSessionsError]
) -> None:
    with pytest.raises(error):
        conversations(**{"user": user, **arguments})
    assert api.requests == []


def test_a_thread_that_was_not_deleted_after_all_is_told(mine: Conversations, thread: str, api: Api) -> None:
    kept = {"id": thread, "object": "chatkit.thread.deleted", "deleted": False}
    api.misbehave(Fault(body=kept), method="DELETE")
    with pytest.raises(UpstreamError) as caught:
        mine.delete(thread)
    assert caught.value.code == "upstream_invalid_response"


def test_that_there_is_no_list_is_no_unknown_thread(mine: Conversations, api: Api) -> None:
    api.misbehave(Fault(status=404))
    with pytest.raises(UpstreamError) as caught:
        mine.list()
    assert caught.value.code == "upstream_rejected"
