from collections.abc import Callable
from typing import Any

import pytest
import requests

from chatkit_sessions.standin import StandIn, items

from .conftest import Caller, Clock, error_of

THREADS = "/v1/chatkit/threads"


@pytest.fixture
def titles(api: StandIn, call: Caller) -> Callable[[str], list[str]]:
    """Store five threads, four of them ada's, and read back the titles of a list."""
    for number in range(1, 5):
        api.add_thread(user="ada", title=f"t{number}")
    api.add_thread(user="bob", title="b1")

    def read(query: str) -> list[str]:
        return [thread["title"] for thread in call("GET", f"{THREADS}?{query}").json()["data"]]

    return read


def test_lists_are_newest_first(titles: Callable[[str], list[str]]) -> None:
    assert titles("") == ["b1", "t4", "t3", "t2", "t1"]
    assert titles("order=asc") == ["t1", "t2", "t3", "t4", "b1"]
    assert titles("user=ada&limit=2") == ["t4", "t3"]
    assert titles("user=carol") == []


def test_cursors_cut_the_list(api: StandIn, titles: Callable[[str], list[str]]) -> None:
    ids = {thread["title"]: key for key, thread in api.threads.items()}
    assert titles(f"user=ada&after={ids['t3']}") == ["t2", "t1"]
    assert titles(f"user=ada&before={ids['t2']}") == ["t4", "t3"]
    assert titles(f"user=ada&before={ids['t1']}&limit=1") == ["t2"]
    assert titles(f"user=ada&after={ids['t4']}&before={ids['t1']}") == ["t3", "t2"]
    assert titles(f"user=ada&after={ids['t4']}&before={ids['t1']}&limit=1") == ["t3"]
    assert titles(f"order=asc&after={ids['t1']}&limit=2") == ["t2", "t3"]
    assert titles(f"user=ada&after={ids['t1']}&before={ids['t4']}") == []


def test_a_page_names_its_ends_and_says_whether_more_follows(api: StandIn, call: Caller) -> None:
    ids = [api.add_thread(user="ada")["id"] for _ in range(3)]
    page = call("GET", f"{THREADS}?order=asc&limit=2").json()
    assert [page[name] for name in ("object", "first_id", "last_id", "has_more")] == ["list", *ids[:2], True]
    assert call("GET", f"{THREADS}?order=asc&after={ids[1]}").json()["has_more"] is False
    empty: dict[str, Any] = {"object": "list", "data": [], "first_id": None, "last_id": None}
    assert call("GET", f"{THREADS}?limit=0").json() == {**empty, "has_more": True}
    assert call("GET", f"{THREADS}?user=bob").json() == {**empty, "has_more": False}


def test_twenty_is_the_default_limit(api: StandIn, call: Caller) -> None:
    for _ in range(21):
        api.add_thread(user="ada")
    page = call("GET", THREADS).json()
    assert (len(page["data"]), page["has_more"]) == (20, True)
    assert len(call("GET", f"{THREADS}?limit=100").json()["data"]) == 21


@pytest.mark.parametrize("name", ["after", "before"])
def test_an_unknown_cursor_is_refused(api: StandIn, call: Caller, name: str) -> None:
    foreign = api.add_thread(user="bob")["id"]
    answer = call("GET", f"{THREADS}?user=ada&{name}={foreign}")
    assert answer.status_code == 400
    assert error_of(answer)["param"] == name


def test_a_thread_is_retrieved_and_deleted(api: StandIn, call: Caller, clock: Clock) -> None:
    thread = api.add_thread(user="ada", title="Parcel")
    assert thread == {
        "id": thread["id"],
        "object": "chatkit.thread",
        "created_at": int(clock.now),
        "title": "Parcel",
        "status": {"type": "active"},
        "user": "ada",
    }
    path = f"{THREADS}/{thread['id']}"
    assert call("GET", path).json() == thread
    assert call("DELETE", path).json() == {
        "id": thread["id"],
        "object": "chatkit.thread.deleted",
        "deleted": True,
    }
    assert not api.threads
    for method in ("GET", "DELETE"):
        assert call(method, path).status_code == 404
    answer = call("GET", f"{path}/items")
    assert error_of(answer)["message"] == f"Thread with id '{thread['id']}' not found."


@pytest.mark.parametrize("status", ["locked", "closed"])
def test_a_thread_can_be_out_of_use(api: StandIn, status: str) -> None:
    thread = api.add_thread(user="ada", status=status, created_at=5)
    assert (thread["status"], thread["created_at"]) == ({"type": status, "reason": None}, 5)


def test_items_of_all_six_types_are_listed(api: StandIn, call: Caller, clock: Clock) -> None:
    thread = api.add_thread(user="ada", items=items.one_of_each())
    data = call("GET", f"{THREADS}/{thread['id']}/items?order=asc").json()["data"]
    assert data == api.items(thread["id"])
    assert [item["type"] for item in data] == [
        "chatkit.user_message",
        "chatkit.task",
        "chatkit.task_group",
        "chatkit.client_tool_call",
        "chatkit.widget",
        "chatkit.assistant_message",
    ]
    for item in data:
        assert item["id"].startswith("cthi_")
        assert item["object"] == "chatkit.thread_item"
        assert (item["thread_id"], item["created_at"]) == (thread["id"], int(clock.now))
    newest = call("GET", f"{THREADS}/{thread['id']}/items?limit=1").json()
    assert newest["data"] == data[-1:]
    following = call("GET", f"{THREADS}/{thread['id']}/items?limit=1&after={newest['last_id']}").json()
    assert following["data"] == data[-2:-1]


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (
            items.user_message("hi"),
            {
                "type": "chatkit.user_message",
                "content": [{"type": "input_text", "text": "hi"}],
                "attachments": [],
                "inference_options": None,
            },
        ),
        (
            items.client_tool_call("open", {"a": 1}),
            {
                "type": "chatkit.client_tool_call",
                "status": "in_progress",
                "call_id": "call_open",
                "name": "open",
                "arguments": '{"a": 1}',
                "output": None,
            },
        ),
        (
            items.task(None),
            {"type": "chatkit.task", "task_type": "custom", "heading": None, "summary": None},
        ),
    ],
)
def test_items_left_plain_have_their_optional_parts_null(
    item: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert item == expected


def test_list_items_refuses_a_user(api: StandIn, call: Caller) -> None:
    thread = api.add_thread(user="ada")
    answer = call("GET", f"{THREADS}/{thread['id']}/items?user=ada")
    assert error_of(answer)["code"] == "unknown_parameter"


def test_examples_stay_answerable(start: Callable[..., StandIn], http: requests.Session) -> None:
    api = start(examples=True)
    call = Caller(api, http)
    for _ in range(2):
        assert call("POST", "/chatkit/sessions/cksess_123/cancel").json()["status"] == "cancelled"
        assert call("DELETE", f"{THREADS}/cthr_123").json()["deleted"] is True
        assert call("GET", f"{THREADS}/cthr_123").json()["id"] == "cthr_123"
        assert len(call("GET", f"{THREADS}/cthr_123/items").json()["data"]) == 6
    page = call("GET", f"{THREADS}?after=after&before=before&limit=0&order=asc&user=x")
    assert page.json() == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    other = api.add_thread(user="ada")["id"]
    call("DELETE", f"{THREADS}/{other}")
    assert list(api.threads) == ["cthr_123"]
