from collections.abc import Callable
from typing import Any

import pytest

from chatkit_sessions.client import ChatKitClient, InternalServerError
from chatkit_sessions.standin import Fault, StandIn, items

from . import answers


@pytest.mark.parametrize(
    ("count", "limit", "pages"), [(0, 2, 1), (2, 2, 1), (3, 2, 2), (7, 3, 3), (45, None, 3)]
)
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_all_threads_are_yielded_once_and_in_order(
    standin: StandIn, client: ChatKitClient, count: int, limit: int | None, pages: int, order: Any
) -> None:
    ids = [standin.add_thread(user="ada")["id"] for _ in range(count)]
    standin.add_thread(user="bob")
    found = [thread.id for thread in client.iter_threads(user="ada", limit=limit, order=order)]
    assert found == (ids if order == "asc" else ids[::-1])
    assert len(standin.requests) == pages
    assert all(request.query["user"] == "ada" for request in standin.requests)


def test_all_items_are_yielded_once_and_in_order(standin: StandIn, client: ChatKitClient) -> None:
    thread = standin.add_thread(user="ada", items=[items.user_message(str(n)) for n in range(5)])["id"]
    found = [item.id for item in client.iter_thread_items(thread, limit=2, order="asc")]
    assert found == [item["id"] for item in standin.items(thread)]
    assert [request.query for request in standin.requests] == [
        {"limit": "2", "order": "asc"},
        {"limit": "2", "order": "asc", "after": found[1]},
        {"limit": "2", "order": "asc", "after": found[3]},
    ]


def test_pages_are_asked_for_as_they_are_needed(standin: StandIn, client: ChatKitClient) -> None:
    for _ in range(5):
        standin.add_thread(user="ada")
    threads = client.iter_threads(user="ada", limit=2)
    assert standin.requests == []
    next(threads), next(threads)
    assert len(standin.requests) == 1
    next(threads)
    assert len(standin.requests) == 2


def thread(name: str) -> dict[str, Any]:
    return {**answers.THREAD, "id": name}


@pytest.mark.parametrize(
    ("pages", "found"),
    [
        ([answers.page(has_more=True)], []),
        ([answers.page(has_more=True, last_id="a")], []),
        ([answers.page(thread("a"), has_more=True, last_id=None)], ["a"]),
        ([answers.page(thread("a"), has_more=True)] * 2, ["a", "a"]),
        ([answers.page(thread("a"), has_more=True), answers.page(has_more=True, last_id="b")], ["a"]),
        (
            [
                answers.page(thread("a"), has_more=True),
                answers.page(thread("b"), has_more=True, last_id=None),
            ],
            ["a", "b"],
        ),
    ],
    ids=["empty", "empty with a cursor", "no cursor", "the same page again", "then empty", "then no cursor"],
)
def test_a_list_that_does_not_move_on_ends(
    standin: StandIn, client: ChatKitClient, pages: list[dict[str, Any]], found: list[str]
) -> None:
    for page in pages:
        standin.misbehave(Fault(status=200, body=page))
    assert [thread.id for thread in client.iter_threads(user="ada")] == found
    assert len(standin.requests) == len(pages)


def test_an_error_on_a_later_page_reaches_the_caller(
    standin: StandIn, make: Callable[..., ChatKitClient]
) -> None:
    for _ in range(3):
        standin.add_thread(user="ada")
    threads = make(max_retries=0).iter_threads(user="ada", limit=2)
    next(threads), next(threads)
    standin.misbehave(Fault(status=500))
    with pytest.raises(InternalServerError):
        next(threads)
