"""The six endpoints against the stand-in, with the ``openai`` package's client for a second opinion."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

import openai
import pytest

from chatkit_sessions.client import (
    AssistantMessageItem,
    ChatKitClient,
    ClientToolCallItem,
    NotFoundError,
    ParameterError,
    TaskGroupItem,
    TaskItem,
    UserMessageItem,
    WidgetMessageItem,
)
from chatkit_sessions.standin import Fault, RecordedRequest, StandIn, items

from .conftest import KEY, SESSION

FULL: dict[str, Any] = {
    "user": "ada",
    "workflow": {
        "id": "wf_1",
        "version": "3",
        "state_variables": {"text": "é", "n": 1, "f": 0.5, "yes": True},
        "tracing": {"enabled": False},
    },
    "chatkit_configuration": {
        "automatic_thread_titling": {"enabled": False},
        "file_upload": {"enabled": True, "max_file_size": 5, "max_files": 2},
        "history": {"enabled": True, "recent_threads": 7},
    },
    "expires_after": {"anchor": "created_at", "seconds": 120},
    "rate_limits": {"max_requests_per_1_minute": 4},
}


@pytest.fixture
def official(standin: StandIn) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        api_key=KEY, base_url=standin.base_url, max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


def sent(request: RecordedRequest) -> tuple[Any, ...]:
    names = ("authorization", "openai-beta", "openai-organization", "openai-project")
    return (
        request.method,
        request.path,
        request.query,
        request.body and request.json,
        {name: request.headers.get(name) for name in names},
    )


def test_a_session_is_created(standin: StandIn, client: ChatKitClient) -> None:
    session = client.create_session(**FULL)
    [stored] = standin.sessions.values()
    assert {name: getattr(session, name) for name in stored} == stored
    assert session.raw == {name: value for name, value in stored.items() if name != "client_secret"}
    assert session.request_id.startswith("req_")
    assert session.attempts == 1


def test_a_session_is_cancelled(standin: StandIn, client: ChatKitClient) -> None:
    created = client.create_session(**SESSION)
    cancelled = client.cancel_session(created.id)
    assert (cancelled.id, cancelled.status, cancelled.client_secret) == (created.id, "cancelled", "")
    request = standin.requests[1]
    assert (request.method, request.path) == ("POST", f"/v1/chatkit/sessions/{created.id}/cancel")
    assert (request.body, request.headers["content-length"]) == (b"", "0")


def test_a_users_threads_are_listed(standin: StandIn, client: ChatKitClient) -> None:
    ids = [standin.add_thread(user="ada & bob", title=f"Chat {n}")["id"] for n in range(3)]
    standin.add_thread(user="ada")
    page = client.list_threads(user="ada & bob", limit=2, order="asc")
    assert [thread.id for thread in page.data] == ids[:2]
    assert (page.first_id, page.last_id, page.has_more) == (ids[0], ids[1], True)
    assert page.request_id.startswith("req_")
    assert page.attempts == 1
    assert standin.requests[0].query == {"user": "ada & bob", "limit": "2", "order": "asc"}
    later = client.list_threads(user="ada & bob", after=ids[1], order="asc")
    assert [thread.id for thread in later.data] == ids[2:]
    earlier = client.list_threads(user="ada & bob", before=ids[1], order="asc")
    assert [thread.id for thread in earlier.data] == ids[:1]


def test_a_thread_is_retrieved(standin: StandIn, client: ChatKitClient) -> None:
    stored = standin.add_thread(user="ada", title="Refunds", status="closed")
    thread = client.retrieve_thread(stored["id"])
    assert {name: getattr(thread, name) for name in stored} == stored
    assert thread.raw == stored
    assert (standin.requests[0].method, standin.requests[0].query) == ("GET", {})


def test_a_thread_is_deleted(standin: StandIn, client: ChatKitClient) -> None:
    thread_id = standin.add_thread(user="ada")["id"]
    gone = client.delete_thread(thread_id)
    assert (gone.id, gone.deleted, gone.object) == (thread_id, True, "chatkit.thread.deleted")
    assert standin.requests[0].method == "DELETE"
    assert standin.threads == {}


def test_a_threads_items_are_listed_each_as_its_type(standin: StandIn, client: ChatKitClient) -> None:
    thread_id = standin.add_thread(user="ada", items=items.one_of_each())["id"]
    page = client.list_thread_items(thread_id, order="asc")
    assert {item.type: type(item) for item in page.data} == {
        "chatkit.user_message": UserMessageItem,
        "chatkit.assistant_message": AssistantMessageItem,
        "chatkit.widget": WidgetMessageItem,
        "chatkit.client_tool_call": ClientToolCallItem,
        "chatkit.task": TaskItem,
        "chatkit.task_group": TaskGroupItem,
    }
    stored = standin.items(thread_id)
    assert [{name: getattr(item, name) for name in item.raw} for item in page.data] == stored
    last = client.list_thread_items(thread_id, limit=1, before=stored[1]["id"], order="asc")
    assert [item.id for item in last.data] == [stored[0]["id"]]


CALLS: dict[str, tuple[Callable[[ChatKitClient, str], Any], Callable[[openai.OpenAI, str], Any]]] = {
    "create plain": (
        lambda ours, _: ours.create_session(**SESSION),
        lambda theirs, _: theirs.beta.chatkit.sessions.create(**SESSION),
    ),
    "create full": (
        lambda ours, _: ours.create_session(**FULL),
        lambda theirs, _: theirs.beta.chatkit.sessions.create(**FULL),
    ),
    "list": (
        lambda ours, _: ours.list_threads(user="ada", limit=3, order="desc"),
        lambda theirs, _: theirs.beta.chatkit.threads.list(user="ada", limit=3, order="desc"),
    ),
    "list behind a cursor": (
        lambda ours, thread: ours.list_threads(user="ada", after=thread),
        lambda theirs, thread: theirs.beta.chatkit.threads.list(user="ada", after=thread),
    ),
    "retrieve": (
        lambda ours, thread: ours.retrieve_thread(thread),
        lambda theirs, thread: theirs.beta.chatkit.threads.retrieve(thread),
    ),
    "list items": (
        lambda ours, thread: ours.list_thread_items(thread, limit=0, order="asc"),
        lambda theirs, thread: theirs.beta.chatkit.threads.list_items(thread, limit=0, order="asc"),
    ),
}


@pytest.mark.parametrize(("ours", "theirs"), CALLS.values(), ids=CALLS)
def test_the_official_client_sends_the_same(
    standin: StandIn,
    client: ChatKitClient,
    official: openai.OpenAI,
    ours: Callable[[ChatKitClient, str], Any],
    theirs: Callable[[openai.OpenAI, str], Any],
) -> None:
    thread_id = standin.add_thread(user="ada", items=items.one_of_each())["id"]
    ours(client, thread_id)
    theirs(official, thread_id)
    assert sent(standin.requests[0]) == sent(standin.requests[1])


def test_the_official_client_reads_the_same(
    standin: StandIn, client: ChatKitClient, official: openai.OpenAI
) -> None:
    created = client.create_session(**FULL)
    cancelled = official.beta.chatkit.sessions.cancel(created.id).model_dump()
    again = client.cancel_session(created.id)
    assert {**again.raw, "client_secret": again.client_secret} == cancelled


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"limit": -1}, "limit must be an integer from 0 to 100, not -1."),
    ({"limit": 101}, "limit must be an integer from 0 to 100, not 101."),
    ({"limit": "20"}, "limit must be an integer from 0 to 100, not str."),
    ({"order": "newest"}, "order must be 'asc' or 'desc'."),
    ({"after": ""}, "after must be a string of at least 1 character, not 0 characters."),
    ({"before": 3}, "before must be a string of at least 1 character, not int."),
    ({"after": "\ud83d"}, "after must be valid text without null characters."),
]


@pytest.mark.parametrize(("paging", "message"), REFUSED)
def test_paging_out_of_bounds_is_not_sent(
    standin: StandIn, client: ChatKitClient, paging: dict[str, Any], message: str
) -> None:
    for call in (
        lambda: client.list_threads(user="ada", **paging),
        lambda: client.list_thread_items("cthr_1", **paging),
    ):
        with pytest.raises(ParameterError) as refused:
            call()
        assert str(refused.value) == message
    assert standin.requests == []


@pytest.mark.parametrize(
    ("user", "message"),
    [
        (None, "user must be a string of 1 to 512 characters, not NoneType."),
        ("", "user must be a string of 1 to 512 characters, not 0 characters."),
        ("u" * 513, "user must be a string of 1 to 512 characters, not 513 characters."),
    ],
)
def test_threads_are_never_asked_for_without_a_user(
    standin: StandIn, client: ChatKitClient, user: Any, message: str
) -> None:
    for call in (client.list_threads, lambda **options: next(client.iter_threads(**options))):
        with pytest.raises(ParameterError) as refused:
            call(user=user)
        assert str(refused.value) == message
    assert standin.requests == []


def test_paging_at_its_edges_is_sent(standin: StandIn, client: ChatKitClient) -> None:
    for limit in (0, 100):
        client.list_threads(user="u" * 512, limit=limit)
    assert [request.query["limit"] for request in standin.requests] == ["0", "100"]


@pytest.mark.parametrize(
    "identifier",
    ["../x", "a/b", "..a", "%2e%2e", "a?b#c", "a b", "é", "~:@!$&'()*+,;=-_.", "\\..\\", "a\nb", "x" * 255],
)
def test_an_id_stays_one_segment_of_the_path(
    standin: StandIn, client: ChatKitClient, identifier: str
) -> None:
    for call in (client.retrieve_thread, client.delete_thread):
        with pytest.raises(NotFoundError, match=r"^Thread with id "):
            call(identifier)
    with pytest.raises(NotFoundError, match=r"^Session with id "):
        client.cancel_session(identifier)
    with pytest.raises(NotFoundError, match=r"^Thread with id "):
        client.list_thread_items(identifier)
    segments = [request.path.split("/")[4] for request in standin.requests]
    assert [unquote(segment) for segment in segments] == [identifier] * 4


@pytest.mark.parametrize(
    ("identifier", "message"),
    [
        (".", "id must not consist of dots."),
        ("..", "id must not consist of dots."),
        ("", "id must be a string of 1 to 255 characters, not 0 characters."),
        ("x" * 256, "id must be a string of 1 to 255 characters, not 256 characters."),
        (None, "id must be a string of 1 to 255 characters, not NoneType."),
        ("a\x00", "id must be valid text without null characters."),
    ],
)
def test_an_id_that_would_lead_elsewhere_is_not_sent(
    standin: StandIn, client: ChatKitClient, identifier: Any, message: str
) -> None:
    for call in (
        client.cancel_session,
        client.retrieve_thread,
        client.delete_thread,
        client.list_thread_items,
    ):
        with pytest.raises(ParameterError) as refused:
            call(identifier)
        assert str(refused.value) == message
    assert standin.requests == []


def test_every_answer_tells_its_attempts_and_request_id(standin: StandIn, client: ChatKitClient) -> None:
    thread_id = standin.add_thread(user="ada")["id"]
    calls: list[Callable[[], Any]] = [
        lambda: client.create_session(**SESSION),
        lambda: client.cancel_session(next(iter(standin.sessions))),
        lambda: client.list_threads(user="ada"),
        lambda: client.retrieve_thread(thread_id),
        lambda: client.list_thread_items(thread_id),
        lambda: client.delete_thread(thread_id),
    ]
    for call in calls:
        standin.misbehave(Fault(status=500))
        answer = call()
        assert answer.attempts == 2
        assert answer.request_id.startswith("req_")
