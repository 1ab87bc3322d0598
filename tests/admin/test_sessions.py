import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from chatkit_sessions.models import ChatSession, Status, Workflow
from chatkit_sessions.policy import DEFAULTS
from chatkit_sessions.standin import StandIn
from tests.api.conftest import Browser, session_of

from .conftest import SESSIONS, Desk, staff


@override_settings(TIME_ZONE="UTC")
def test_the_list_shows_who_got_what_and_until_when(auditor: Desk, ada: User) -> None:
    moment = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
    session_of(
        ada,
        upstream_id="cksess_1",
        identifier="ada@example.com",
        workflow_slug="support",
        created_at=moment,
        expires_at=moment + timedelta(minutes=10),
    )
    session_of(
        None, upstream_id="", identifier="visitor-7", status=Status.FAILED, error_code="upstream_timeout"
    )
    heads, failed, expired = auditor.page(SESSIONS).rows
    assert heads == ["Created", "Person", "Status", "Workflow", "Expires", "Session"]
    assert expired == [
        "March 4, 2026, 5:06 a.m.",
        "ada",
        "expired",
        "support",
        "March 4, 2026, 5:16 a.m.",
        "cksess_1",
    ]
    reference = str(ChatSession.objects.get(upstream_id="").reference)
    assert (failed[1], failed[2], failed[5]) == ("visitor-7", "failed: upstream_timeout", reference)


@pytest.fixture
def each_status(ada: User) -> dict[str, str]:
    """A session of each status, and one whose time is over although its row does not say so yet."""
    over = timezone.now() - timedelta(seconds=1)
    made = {status: session_of(ada, status=status, upstream_id=f"cksess_{status}") for status in Status}
    session_of(ada, status=Status.ACTIVE, upstream_id="cksess_over", expires_at=over)
    return {status: row.upstream_id for status, row in made.items()}


@pytest.mark.parametrize("status", Status.values)
def test_the_status_filter_knows_what_a_session_is_by_now(
    auditor: Desk, each_status: dict[str, str], status: str
) -> None:
    found = set(auditor.page(f"{SESSIONS}?status={status}").column("Session"))
    over = {"cksess_over"} if status == Status.EXPIRED else set()
    assert found == {each_status[status]} | over


def test_what_is_cancelled_and_the_api_has_yet_to_be_told_of_can_be_seen_and_found(
    auditor: Desk, ada: User
) -> None:
    now = timezone.now()
    cancelled: dict[str, Any] = {"user": ada, "status": Status.CANCELLED, "cancel_requested_at": now}
    session_of(**cancelled, upstream_id="cksess_due")
    session_of(**{**cancelled, "cancel_requested_at": None}, upstream_id="cksess_told")
    session_of(**cancelled, upstream_id="cksess_over", expires_at=now - timedelta(seconds=1))
    session_of(ada, status=Status.PENDING, cancel_requested_at=now, upstream_id="")
    page = auditor.page(SESSIONS)
    assert page.column("Status") == ["pending", "cancelled", "cancelled", "cancelled, API not told yet"]
    assert "?status=due" in page.links
    due = auditor.page(f"{SESSIONS}?status=due")
    assert due.column("Session") == ["cksess_due"]
    row = ChatSession.objects.get(upstream_id="cksess_due")
    assert "Status: cancelled, API not told yet" in auditor.page(f"{SESSIONS}{row.pk}/change/").text


@pytest.mark.parametrize("query", ["", "?status=", "?status=nonsense"])
def test_without_a_status_all_are_listed(auditor: Desk, each_status: dict[str, str], query: str) -> None:
    assert len(auditor.page(SESSIONS + query).column("Session")) == 7


@override_settings(CHATKIT_SESSIONS={"WORKFLOWS": {"sales": {"id": "wf_1"}}})
def test_the_workflow_filter_offers_what_is_configured(auditor: Desk, ada: User) -> None:
    Workflow.objects.create(slug="row", workflow_id="wf_2")
    sales, row = (session_of(ada, workflow_slug=slug) for slug in ("sales", "row"))
    gone = session_of(ada, workflow_slug="gone")
    links = auditor.page(SESSIONS).links
    offered = {link.partition("=")[2] for link in links if link.startswith("?workflow=")}
    assert offered == {"sales", "row"}
    for session in (sales, row, gone):
        found = auditor.page(f"{SESSIONS}?workflow={session.workflow_slug}").column("Session")
        assert found == [session.upstream_id]


@pytest.mark.parametrize(
    ("term", "found"),
    [
        ("cksess_1", True),
        ("  cksess_1 ", True),
        ("REFERENCE", True),
        ("ada@example.com", True),
        ("ada", True),
        ("cksess", False),
        ("cksess_2", False),
        ("example.com", False),
        ("ad", False),
        ("ADA@example.com", False),
        ("%", False),
        ("cksess_1 nothing", False),
    ],
)
def test_the_search_finds_whole_values_only(auditor: Desk, ada: User, term: str, found: bool) -> None:
    session = session_of(ada, upstream_id="cksess_1", identifier="ada@example.com")
    session_of(None, upstream_id="cksess_other", identifier="other")
    answer = auditor.http.get(SESSIONS, {"q": term.replace("REFERENCE", str(session.reference))})
    listed = [row.upstream_id for row in answer.context["cl"].result_list]
    assert listed == (["cksess_1"] if found else [])


@pytest.mark.parametrize("term", ["", "   "])
def test_an_empty_search_finds_all(auditor: Desk, each_status: dict[str, str], term: str) -> None:
    assert len(auditor.page(f"{SESSIONS}?q={term}").column("Session")) == 7


def test_a_search_for_what_cannot_be_stored_finds_nothing_bad(auditor: Desk, ada: User) -> None:
    session_of(ada)
    assert auditor.get(f"{SESSIONS}?q=%00").status_code == 200


def test_the_dates_narrow_the_list(auditor: Desk, ada: User) -> None:
    for year in (2024, 2025):
        session_of(ada, upstream_id=f"cksess_{year}", created_at=datetime(year, 3, 4, tzinfo=UTC))
    assert "?created_at__year=2024" in auditor.page(SESSIONS).links
    assert auditor.page(f"{SESSIONS}?created_at__year=2024").column("Session") == ["cksess_2024"]


@pytest.mark.parametrize("path", ["", "?status=expired", "?workflow=default", "?q=ada"])
def test_a_long_list_takes_as_few_queries_as_a_short_one(auditor: Desk, ada: User, path: str) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert auditor.get(SESSIONS + path).status_code == 200
        return len(queries)

    over = timezone.now() - timedelta(seconds=1)
    session_of(ada, expires_at=over)
    few = count()
    for number in range(60):
        session_of(User.objects.create_user(f"user{number}"), expires_at=over)
        session_of(ada, expires_at=over)
    assert count() == few <= 10


def test_the_list_counts_no_more_than_it_must(auditor: Desk, ada: User) -> None:
    session_of(ada)
    assert auditor.get(SESSIONS).context["cl"].show_full_result_count is False


def test_a_session_is_shown_with_all_that_an_audit_asks(
    auditor: Desk, operator: Desk, ada: User, standin: StandIn
) -> None:
    issued = Browser(ada).issue()
    Browser(ada).post(f"sessions/{issued['id']}/cancel/")
    row = ChatSession.objects.get()
    page = auditor.page(f"{SESSIONS}{row.pk}/change/")
    for words in (
        issued["id"],
        str(row.reference),
        "cancelled",
        "cancelled by its user",
        "wf_tests",
        row.upstream_request_id,
    ):
        assert words in page.text, words
    assert issued["client_secret"] not in page.text
    assert row.secret_digest not in page.text
    assert json.loads(re.search(r"\{.*\}", page.text).group()) == row.response  # type: ignore[union-attr]  # there
    # Whoever may see accounts gets there from here.
    assert f"/admin/auth/user/{ada.pk}/change/" in operator.page(f"{SESSIONS}{row.pk}/change/").links


def test_each_value_of_the_policy_has_a_label_and_an_origin(auditor: Desk, ada: User) -> None:
    policy = {name: {"value": value, "layer": "default"} for name, value in DEFAULTS.items()}
    policy["expires_after"] = {"value": 300, "layer": "workflow"}
    policy["history_enabled"] = {"value": False, "layer": "setting"}
    row = session_of(ada, policy=policy)
    shown = {cells[0]: cells[1:] for cells in auditor.page(f"{SESSIONS}{row.pk}/change/").rows if cells}
    assert len(shown) == len(policy) + 1
    assert shown["value of"] == ["value", "from"]
    assert shown["lifetime"][0].startswith("300")
    assert shown["lifetime"][1] == "the workflow in the admin"
    assert shown["history"] == ["no", "the settings"]
    assert shown["tracing"] == ["yes", "the default"]
    assert not any("_" in label for label in shown)


@override_settings(TIME_ZONE="UTC")
def test_each_column_of_the_row_is_in_view(auditor: Desk, ada: User, bob: User) -> None:
    moments = [datetime(2026, 3, 4, hour, tzinfo=UTC) for hour in range(13, 19)]
    row = session_of(
        ada,
        upstream_id="cksess_1",
        identifier="known-as",
        workflow_slug="support",
        workflow_id="wf_shown",
        workflow_version="7",
        status=Status.CANCELLED,
        created_at=moments[0],
        issued_at=moments[1],
        expires_at=moments[2],
        last_handed_out_at=moments[3],
        ended_at=moments[4],
        cancel_requested_at=moments[5],
        ended_by=bob,
        end_reason="Left.",
        max_requests_per_1_minute=41,
        handed_out_count=42,
        upstream_request_id="req_shown",
        upstream_status=200,
        error_code="upstream_rejected",
        error_message="Said no.",
        attempts=43,
        latency_ms=44,
        ip_address="192.0.2.7",
        user_agent="Lynx",
    )
    text = auditor.page(f"{SESSIONS}{row.pk}/change/").text
    for label, value in {
        "Session": "cksess_1",
        "Reference": str(row.reference),
        "Status": "cancelled",
        "User": "ada",
        "Identifier": "known-as",
        "IP address": "192.0.2.7",
        "User agent": "Lynx",
        "Workflow": "support",
        "Workflow id": "wf_shown",
        "Workflow version": "7",
        "Created": "March 4, 2026, 1 p.m.",
        "Issued": "March 4, 2026, 2 p.m.",
        "Expires": "March 4, 2026, 3 p.m.",
        "Last handed out": "March 4, 2026, 4 p.m.",
        "Ended": "March 4, 2026, 5 p.m.",
        "Cancellation due, last tried": "March 4, 2026, 6 p.m.",
        "Ended by": "bob",
        "Reason of the end": "Left.",
        "Requests a minute": "41",
        "Times handed out": "42",
        "Session id": "cksess_1",
        "HTTP status": "200",
        "Request id": "req_shown",
        "Attempts": "43",
        "Latency in milliseconds": "44",
        "Error code": "upstream_rejected",
        "Error message": "Said no.",
    }.items():
        # Between them there may be a sentence of help.
        assert re.search(rf"\b{label}: (?:[^|]*?\. )?{re.escape(value)}(?: |$)", text), label


@pytest.mark.parametrize("status", Status.values)
def test_a_row_in_any_state_can_be_read(auditor: Desk, status: str) -> None:
    row = session_of(None, status=status, policy={}, response={})
    assert row.identifier in auditor.page(f"{SESSIONS}{row.pk}/change/").text


def test_what_people_wrote_stays_text(auditor: Desk) -> None:
    hostile = "<script>alert(1)</script>"
    row = session_of(
        None,
        identifier=hostile,
        user_agent=hostile,
        end_reason=hostile,
        error_message=hostile,
        response={"workflow": {"id": hostile}},
        policy={"version": {"value": hostile, "layer": "workflow"}},
    )
    for path in (SESSIONS, f"{SESSIONS}{row.pk}/change/"):
        content = auditor.get(path).content.decode()
        assert hostile not in content
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in content


def test_nobody_writes_the_audit(operator: Desk, ada: User) -> None:
    row = session_of(ada)
    before = ChatSession.objects.values().get()
    changed: dict[str, Any] = {"identifier": "somebody else", "status": "failed"}
    assert operator.get(f"{SESSIONS}add/").status_code == 403
    assert operator.post(f"{SESSIONS}add/", **changed).status_code == 403
    assert operator.post(f"{SESSIONS}{row.pk}/change/", **changed).status_code == 403
    assert operator.get(f"{SESSIONS}{row.pk}/delete/").status_code == 403
    assert operator.post(f"{SESSIONS}{row.pk}/delete/", post="yes").status_code == 403
    page = operator.page(f"{SESSIONS}{row.pk}/change/")
    assert not [field for field in page.inputs if field.get("name") in {"_save", "_addanother", "identifier"}]
    delete = {"action": "delete_selected", "_selected_action": row.pk, "post": "yes"}
    operator.post(SESSIONS, **delete)
    assert ChatSession.objects.values().get() == before


def test_only_those_with_the_permission_see_sessions(ada: User) -> None:
    row = session_of(ada)
    outsider = staff("outsider", "view_workflow")
    for path in (SESSIONS, f"{SESSIONS}{row.pk}/change/"):
        assert outsider.get(path).status_code == 403
    assert "Chat sessions" not in outsider.page("/admin/").text
    assert "Chat sessions" in staff("insider", "view_chatsession").page("/admin/").text
