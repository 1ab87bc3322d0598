from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from openai.pagination import SyncConversationCursorPage
from openai.types.beta.chatkit import ChatKitThread, ChatKitThreadItemList
from pytest_django import DjangoAssertNumQueries

from chatkit_sessions.models import ChatSession, Workflow
from chatkit_sessions.standin import Fault, StandIn, items

from .conftest import Browser, assert_error, assert_invalid

NO_SUCH_THREAD = "There is no such conversation of yours."
NO_SUCH_WORKFLOW = "There is no such workflow for you. Ask the site's operator if there should be."
REJECTED = "The chat service refused the request. The site's operator has to look at this."
PATHS = (
    ("GET", "threads/{}/"),
    ("DELETE", "threads/{}/"),
    ("GET", "threads/{}/items/"),
)


@pytest.fixture
def threads(ada: User, bob: User, standin: StandIn) -> list[str]:
    """The ids of five conversations of Ada's, oldest first, among those of others."""
    made = []
    for number in range(5):
        made.append(standin.add_thread(user=str(ada.pk), title=f"Talk {number}", items=items.one_of_each()))
        standin.add_thread(user=str(bob.pk))
    return [thread["id"] for thread in made]


def ids(answer: Any) -> list[str]:
    """Return the ids on a page."""
    return [entry["id"] for entry in answer.json()["data"]]


def test_the_caller_sees_own_threads_only(
    ada: User, browser: Browser, standin: StandIn, threads: list[str]
) -> None:
    answer = browser.get("threads/")
    assert answer.status_code == 200
    assert answer.json() == {
        "object": "list",
        "data": [standin.threads[name] for name in reversed(threads)],
        "first_id": threads[-1],
        "last_id": threads[0],
        "has_more": False,
    }
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert dict(standin.requests[0].query) == {"user": str(ada.pk), "limit": "20", "order": "desc"}
    page = SyncConversationCursorPage[ChatKitThread].model_validate(answer.json(), strict=True)
    assert [thread.id for thread in page.data] == threads[::-1]


@pytest.mark.parametrize(
    ("query", "expected", "has_more"),
    [
        ("limit=2", slice(4, 2, -1), True),
        ("limit=2&order=asc", slice(0, 2), True),
        ("limit=2&after=[2]", slice(1, None, -1), False),
        ("limit=2&before=[2]", slice(4, 2, -1), False),
        ("limit=100&order=asc&after=[0]&before=[3]", slice(1, 3), False),
        ("limit=&after=&before=&workflow=", slice(None, None, -1), False),
    ],
)
def test_pages_are_turned_as_in_the_api(
    browser: Browser, threads: list[str], query: str, expected: slice, has_more: bool
) -> None:
    for index, name in enumerate(threads):
        query = query.replace(f"[{index}]", name)
    answer = browser.get(f"threads/?{query}")
    assert (ids(answer), answer.json()["has_more"]) == (threads[expected], has_more)


def test_a_thread_is_shown_as_the_api_shows_it(
    browser: Browser, standin: StandIn, threads: list[str]
) -> None:
    answer = browser.get(f"threads/{threads[0]}/")
    assert (answer.status_code, answer.json()) == (200, standin.threads[threads[0]])
    assert ChatKitThread.model_validate(answer.json(), strict=True).id == threads[0]


def test_items_are_shown_as_the_api_shows_them(
    browser: Browser, standin: StandIn, threads: list[str]
) -> None:
    expected = standin.items(threads[0])
    answer = browser.get(f"threads/{threads[0]}/items/?order=asc")
    assert (answer.status_code, answer.json()["data"]) == (200, expected)
    assert len({item["type"] for item in expected}) == 6
    page = ChatKitThreadItemList.model_validate(answer.json(), strict=True)
    assert len({type(item) for item in page.data}) == 6
    some = browser.get(f"threads/{threads[0]}/items/?limit=2&after={expected[3]['id']}")
    assert ids(some) == [expected[2]["id"], expected[1]["id"]]
    assert some.json()["has_more"] is True


def test_a_thread_is_deleted(browser: Browser, standin: StandIn, threads: list[str]) -> None:
    answer = browser("DELETE", f"threads/{threads[0]}/")
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert threads[0] not in standin.threads
    assert len(standin.threads) == 9
    assert_error(browser("DELETE", f"threads/{threads[0]}/"), 404, "thread_not_found", NO_SUCH_THREAD)


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_the_threads_of_others_are_as_unknown_ones(
    bob: User, browser: Browser, standin: StandIn, threads: list[str], method: str, path: str
) -> None:
    foreign = standin.add_thread(user=str(bob.pk), items=items.one_of_each())["id"]
    for name in (foreign, "cthr_none", "%2E%2E", "%00", "a%20b", "c" * 256):
        assert_error(browser(method, path.format(name)), 404, "thread_not_found", NO_SUCH_THREAD)
    assert foreign in standin.threads


@pytest.mark.parametrize("path", ["threads/", "threads/{}/items/"])
@pytest.mark.parametrize("name", ["after", "before"])
def test_an_unknown_cursor_is_refused(browser: Browser, threads: list[str], path: str, name: str) -> None:
    answer = browser.get(f"{path.format(threads[0])}?{name}=nothing")
    assert_invalid(answer, **{name: ["is not accepted by the API."]})


def test_a_request_that_the_api_finds_wrong_is_not_the_browsers_fault(
    browser: Browser, standin: StandIn
) -> None:
    error = {"message": "No such user.", "type": "invalid_request_error", "param": "user", "code": None}
    standin.misbehave(Fault(status=400, body={"error": error}))
    assert_error(browser.get("threads/"), 502, "upstream_rejected", REJECTED)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_failure_behind_the_first_answer_counts_too(
    browser: Browser, standin: StandIn, threads: list[str], configure: Callable[..., None], method: str
) -> None:
    configure(MAX_RETRIES=0)
    path = f"threads/{threads[0]}/" + ("items/" if method == "GET" else "")
    pattern = "/chatkit/threads/*/items" if method == "GET" else "/chatkit/threads/*"
    standin.misbehave(Fault(status=403), path=pattern, method=method)
    assert_error(browser(method, path), 502, "upstream_rejected", REJECTED)
    assert threads[0] in standin.threads


@pytest.fixture
def apart(ada: User, standin: StandIn, configure: Callable[..., None]) -> str:
    """The id of a conversation with a workflow that keeps its own history."""
    configure(
        WORKFLOWS={
            "default": {"id": "wf_tests"},
            "apart": {"id": "wf_apart", "isolate_history": True},
            "staff": {"id": "wf_staff", "groups": ["staff"]},
        }
    )
    thread: str = standin.add_thread(user=f"{ada.pk}#apart", items=items.one_of_each())["id"]
    return thread


def test_a_workflow_may_keep_its_own_history(
    ada: User, browser: Browser, standin: StandIn, threads: list[str], apart: str
) -> None:
    assert ids(browser.get("threads/")) == threads[::-1]
    for name in ("apart", "wf_apart"):
        assert ids(browser.get(f"threads/?workflow={name}")) == [apart]
        assert browser.get(f"threads/{apart}/?workflow={name}").json() == standin.threads[apart]
        assert len(ids(browser.get(f"threads/{apart}/items/?workflow={name}"))) == 6
    for path in (f"threads/{apart}/", f"threads/{apart}/items/", f"threads/{threads[0]}/?workflow=apart"):
        assert_error(browser.get(path), 404, "thread_not_found", NO_SUCH_THREAD)
    assert browser("DELETE", f"threads/{apart}/").status_code == 404
    assert browser("DELETE", f"threads/{apart}/?workflow=apart").status_code == 204
    assert apart not in standin.threads


@pytest.mark.parametrize("path", ["threads/", "threads/{}/", "threads/{}/items/"])
@pytest.mark.parametrize("name", ["none", "staff"])
@pytest.mark.usefixtures("threads")
def test_an_unknown_workflow_has_no_threads(
    browser: Browser, standin: StandIn, apart: str, path: str, name: str
) -> None:
    Group.objects.create(name="staff")
    answer = browser.get(f"{path.format(apart)}?workflow={name}")
    assert_error(answer, 404, "workflow_not_found", NO_SUCH_WORKFLOW)
    assert standin.requests == []


@pytest.mark.parametrize(("method", "path"), [("GET", "threads/"), *PATHS])
def test_a_workflow_name_out_of_its_bounds_is_refused(
    browser: Browser, standin: StandIn, method: str, path: str
) -> None:
    for name, reason in (
        ("w" * 256, "Ensure this field has no more than 255 characters."),
        ("%00", "Null characters are not allowed."),
    ):
        assert_invalid(browser(method, f"{path.format('cthr_1')}?workflow={name}"), workflow=[reason])
    assert standin.requests == []


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_an_empty_workflow_name_is_none(browser: Browser, threads: list[str], method: str, path: str) -> None:
    assert browser(method, f"{path.format(threads[0])}?workflow=").status_code in {200, 204}


def test_threads_are_read_with_the_workflows_own_credentials(
    browser: Browser, standin: StandIn, configure: Callable[..., None]
) -> None:
    configure(CREDENTIALS={"other": {"API_KEY": "sk-other"}})
    Workflow.objects.create(slug="elsewhere", workflow_id="wf_e", credentials="other")
    browser.get("threads/?workflow=elsewhere")
    assert standin.requests[0].bearer == "sk-other"


@pytest.mark.parametrize(("method", "path"), [("GET", "threads/"), *PATHS])
def test_threads_take_few_queries(
    browser: Browser,
    threads: list[str],
    django_assert_num_queries: DjangoAssertNumQueries,
    method: str,
    path: str,
) -> None:
    # The web session, the user, the workflow, the overrides.
    with django_assert_num_queries(4):
        assert browser(method, path.format(threads[0])).status_code in {200, 204}
    assert not ChatSession.objects.exists()
