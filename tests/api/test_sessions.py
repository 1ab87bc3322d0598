import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from openai.pagination import SyncConversationCursorPage
from openai.types.beta.chatkit import ChatSession as PublishedSession
from pytest_django import DjangoAssertNumQueries

from chatkit_sessions.models import ChatSession, Status
from chatkit_sessions.standin import Fault, StandIn

from .conftest import Browser, assert_error, assert_invalid, session_of

NO_SUCH_SESSION = "There is no such chat session of yours."
CANCEL = "sessions/{}/cancel/"


def test_a_session_is_shown_without_its_secret(browser: Browser, standin: StandIn) -> None:
    issued = browser.issue()
    answer = browser.get(f"sessions/{issued['id']}/")
    assert (answer.status_code, answer.json()) == (200, {**issued, "client_secret": ""})
    assert answer.headers["Cache-Control"] == "private, no-store"


def test_a_session_shows_as_expired_at_once(ada: User, browser: Browser) -> None:
    over = session_of(ada, expires_at=timezone.now() - timedelta(seconds=1))
    assert browser.get(f"sessions/{over.upstream_id}/").json()["status"] == "expired"
    over.refresh_from_db()
    assert over.status == Status.ACTIVE  # no housekeeping has run


def test_a_row_that_knows_less_is_shown_with_the_defaults(ada: User, browser: Browser) -> None:
    row = session_of(ada, policy={}, response={})
    shown = browser.get(f"sessions/{row.upstream_id}/").json()
    assert PublishedSession.model_validate(shown, strict=True).workflow.tracing.enabled is True
    assert shown["chatkit_configuration"]["file_upload"]["max_file_size"] == 512


def test_only_issued_sessions_are_shown(ada: User, browser: Browser) -> None:
    rows = {status: session_of(ada, status=status) for status in Status}
    shown = [rows[status] for status in (Status.CANCELLED, Status.EXPIRED, Status.ACTIVE)]
    assert ids(browser.get("sessions/")) == [row.upstream_id for row in shown]
    for status, row in rows.items():
        found = browser.get(f"sessions/{row.upstream_id}/").status_code
        assert found == (200 if row in shown else 404), status


def test_the_sessions_of_others_are_as_unknown_ones(
    ada: User, bob: User, browser: Browser, standin: StandIn
) -> None:
    named = session_of(bob)
    nameless = session_of(bob, upstream_id="")
    # Somebody without an account whom the API knows by the same identifier.
    visitor = session_of(None, identifier=str(ada.pk))
    unknown = ["cksess_none", str(uuid.uuid4()), "0", "%20", "a%20b"]
    for name in [named.upstream_id, nameless.reference, visitor.upstream_id, named.reference, *unknown]:
        for answer in (browser.get(f"sessions/{name}/"), browser.post(CANCEL.format(name))):
            assert_error(answer, 404, "session_not_found", NO_SUCH_SESSION)
    assert ids(browser.get("sessions/")) == []
    assert browser.get("sessions/").json() == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }
    assert standin.requests == []
    assert ChatSession.objects.running().count() == 3


def test_a_session_goes_by_the_apis_id_or_else_by_its_reference(ada: User, browser: Browser) -> None:
    named, nameless = session_of(ada), session_of(ada, upstream_id="")
    assert browser.get(f"sessions/{nameless.reference}/").json()["id"] == str(nameless.reference)
    assert browser.get(f"sessions/{named.reference}/").status_code == 404


def test_sessions_stay_with_their_account_when_its_identifier_changes(
    ada: User, browser: Browser, configure: Callable[..., None]
) -> None:
    session = session_of(ada)
    configure(USER_IDENTIFIER_PREFIX="staging-")
    assert ids(browser.get("sessions/")) == [session.upstream_id]


def test_cancelling_ends_it_here_and_at_the_api(ada: User, browser: Browser, standin: StandIn) -> None:
    issued = browser.issue()
    answer = browser.post(CANCEL.format(issued["id"]))
    row = ChatSession.objects.get()
    assert (answer.status_code, answer.json()) == (
        200,
        {**issued, "status": "cancelled", "client_secret": ""},
    )
    assert PublishedSession.model_validate(answer.json(), strict=True).status == "cancelled"
    assert (row.ended_by, row.end_reason, row.cancel_requested_at) == (ada, "cancelled by its user", None)
    assert standin.sessions[issued["id"]]["status"] == "cancelled"


def test_cancelling_again_is_harmless(browser: Browser, standin: StandIn) -> None:
    name = browser.issue()["id"]
    first = browser.post(CANCEL.format(name))
    row = ChatSession.objects.get()
    again = browser.post(CANCEL.format(name), {"reason": "once more"})
    assert (again.status_code, again.json()) == (200, first.json())
    assert ChatSession.objects.get().ended_at == row.ended_at
    assert len(standin.requests) == 2  # issuing, and cancelling once


def test_cancelling_an_expired_session_changes_nothing(ada: User, browser: Browser, standin: StandIn) -> None:
    over = session_of(ada, expires_at=timezone.now() - timedelta(seconds=1))
    assert browser.post(CANCEL.format(over.upstream_id)).json()["status"] == "expired"
    assert standin.requests == []


@pytest.mark.parametrize("fault", [Fault(status=500), Fault(drop=True), Fault(status=401)])
def test_cancelling_takes_effect_while_the_api_is_down(
    browser: Browser, standin: StandIn, configure: Callable[..., None], fault: Fault
) -> None:
    configure(MAX_RETRIES=0)
    name = browser.issue()["id"]
    standin.misbehave(fault)
    answer = browser.post(CANCEL.format(name))
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert ChatSession.objects.get().cancel_requested_at is not None


def test_a_list_is_shaped_as_the_apis(ada: User, browser: Browser, standin: StandIn) -> None:
    older, newer = browser.issue(), browser.issue()
    answer = browser.get("sessions/")
    assert answer.status_code == 200
    assert answer.json() == {
        "object": "list",
        "data": [{**newer, "client_secret": ""}, {**older, "client_secret": ""}],
        "first_id": newer["id"],
        "last_id": older["id"],
        "has_more": False,
    }
    page = SyncConversationCursorPage[PublishedSession].model_validate(answer.json(), strict=True)
    assert [session.id for session in page.data] == [newer["id"], older["id"]]


@pytest.fixture
def many(ada: User, bob: User) -> list[str]:
    """The ids of 105 sessions of Ada's, oldest first, among those of others."""
    rows = []
    for number in range(105):
        nameless = {"upstream_id": ""} if number == 50 else {}
        rows.append(session_of(ada, **nameless))
        session_of(bob)
    return [row.public_id for row in rows]


@pytest.mark.parametrize(
    ("query", "expected", "has_more"),
    [
        ("", slice(104, 84, -1), True),
        ("limit=1", slice(104, 103, -1), True),
        ("limit=100", slice(104, 4, -1), True),
        ("order=desc&limit=3", slice(104, 101, -1), True),
        ("order=asc&limit=3", slice(0, 3), True),
        ("after=[102]&limit=3", slice(101, 98, -1), True),
        ("after=[3]&limit=3", slice(2, None, -1), False),
        ("after=[2]&limit=3", slice(1, None, -1), False),
        ("after=[0]", slice(0, 0), False),
        ("before=[101]&limit=3", slice(104, 101, -1), False),
        ("before=[100]&limit=3", slice(103, 100, -1), True),
        ("before=[104]", slice(0, 0), False),
        ("order=asc&after=[3]&limit=2", slice(4, 6), True),
        ("order=asc&after=[102]&limit=2", slice(103, 105), False),
        ("order=asc&before=[4]&limit=2", slice(2, 4), True),
        ("order=asc&before=[2]&limit=2", slice(0, 2), False),
        ("after=[10]&before=[4]&limit=20", slice(9, 4, -1), False),
        ("after=[10]&before=[4]&limit=2", slice(9, 7, -1), True),
        ("order=asc&after=[4]&before=[10]&limit=20", slice(5, 10), False),
        ("after=[4]&before=[10]", slice(0, 0), False),
        ("after=[50]&limit=1", slice(49, 48, -1), True),
    ],
)
def test_pages_are_turned_by_cursor(
    browser: Browser, many: list[str], query: str, expected: slice, has_more: bool
) -> None:
    for index in range(105):
        query = query.replace(f"[{index}]", many[index])
    page = browser.get(f"sessions/?{query}").json()
    found = [entry["id"] for entry in page["data"]]
    assert found == many[expected]
    assert page["has_more"] is has_more
    assert page["first_id"] == (found[0] if found else None)
    assert page["last_id"] == (found[-1] if found else None)


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_all_pages_together_hold_every_session_once(browser: Browser, many: list[str], order: str) -> None:
    seen: list[str] = []
    cursor = ""
    while True:
        page = browser.get(f"sessions/?limit=25&order={order}{cursor}").json()
        seen += [entry["id"] for entry in page["data"]]
        if not page["has_more"]:
            break
        cursor = f"&after={page['last_id']}"
    assert seen == (many if order == "asc" else many[::-1])


@pytest.mark.parametrize("name", ["sessions/", "threads/", "threads/cthr_1/items/"])
@pytest.mark.parametrize(
    ("query", "errors"),
    [
        ("limit=0", {"limit": ["Ensure this value is greater than or equal to 1."]}),
        ("limit=101", {"limit": ["Ensure this value is less than or equal to 100."]}),
        ("limit=-1", {"limit": ["Ensure this value is greater than or equal to 1."]}),
        ("limit=ten", {"limit": ["A valid integer is required."]}),
        ("order=up", {"order": ['"up" is not a valid choice.']}),
        ("order=ASC", {"order": ['"ASC" is not a valid choice.']}),
        (f"after={'a' * 256}", {"after": ["Ensure this field has no more than 255 characters."]}),
        (f"before={'a' * 256}", {"before": ["Ensure this field has no more than 255 characters."]}),
        ("after=%00", {"after": ["Null characters are not allowed."]}),
    ],
)
def test_a_query_out_of_its_bounds_is_refused(
    browser: Browser, standin: StandIn, name: str, query: str, errors: dict[str, list[str]]
) -> None:
    assert_invalid(browser.get(f"{name}?{query}"), **errors)
    assert standin.requests == []


@pytest.mark.parametrize("query", ["limit=", "order=", "after=", "before=", "unknown=1"])
def test_an_empty_query_is_no_query(ada: User, browser: Browser, query: str) -> None:
    session = session_of(ada)
    assert ids(browser.get(f"sessions/?{query}")) == [session.upstream_id]


@pytest.mark.parametrize("name", ["after", "before"])
def test_a_cursor_that_names_no_session_of_the_callers_is_refused(
    bob: User, browser: Browser, name: str
) -> None:
    foreign = session_of(bob).upstream_id
    for cursor in (foreign, "cksess_none", str(uuid.uuid4())):
        answer = browser.get(f"sessions/?{name}={cursor}")
        assert_invalid(answer, **{name: ["is not the id of one of your sessions."]})


@pytest.mark.parametrize(
    ("path", "queries"),
    [
        # The web session and the user; then the sessions.
        ("sessions/?limit=100", 3),
        ("sessions/?after={}", 4),
        ("sessions/?after={}&before={}", 5),
        ("sessions/{}/", 3),
    ],
)
def test_reading_takes_few_queries(
    ada: User,
    browser: Browser,
    django_assert_num_queries: DjangoAssertNumQueries,
    path: str,
    queries: int,
) -> None:
    session = [session_of(ada) for _ in range(30)][15]
    with django_assert_num_queries(queries):
        assert browser.get(path.replace("{}", session.upstream_id)).status_code == 200


def test_cancelling_takes_few_queries(
    browser: Browser, standin: StandIn, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    name = browser.issue()["id"]
    # The web session, the user, the session; ended, told.
    with django_assert_num_queries(5):
        browser.post(CANCEL.format(name))


def ids(answer: Any) -> list[str]:
    """Return the ids on a page."""
    return [entry["id"] for entry in answer.json()["data"]]
