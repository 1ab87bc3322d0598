import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from chatkit_sessions.exceptions import SessionRefused
from chatkit_sessions.models import PolicyOverride, Workflow
from chatkit_sessions.services import IssuedSession, cancel_session

Issue = Callable[..., IssuedSession]
Configure = Callable[..., None]

NOT_OURS = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE", "ROLLBACK", "SET", "PRAGMA")


@pytest.fixture(autouse=True)
def _much_of_everything(user: User, configure: Configure) -> None:
    """Fill the tables: none of it may cost another statement."""
    groups = Group.objects.bulk_create(Group(name=f"group {n}") for n in range(20))
    user.groups.set(groups[:10])
    workflows = Workflow.objects.bulk_create(
        Workflow(slug=f"w{n}", workflow_id=f"wf_{n}", max_sessions_per_hour=n + 1) for n in range(20)
    )
    for workflow in workflows:
        workflow.groups.set(groups[:15])
    for slug in ("", "w19", "default"):
        PolicyOverride.objects.create(user=user, workflow_slug=slug, expires_after=300)
        PolicyOverride.objects.bulk_create(
            PolicyOverride(group=group, workflow_slug=slug, max_active_sessions=50) for group in groups
        )
    configure(MAX_ACTIVE_SESSIONS=50, MAX_SESSIONS_PER_HOUR=50)


@pytest.fixture
def statements() -> Callable[..., list[str]]:
    """Run something and return the statements of ours, each by its verb and table."""

    def run(call: Callable[..., Any], *arguments: Any, **named: Any) -> list[str]:
        with CaptureQueriesContext(connection) as captured:
            call(*arguments, **named)
        sent = [query["sql"].replace('"', "").replace("`", "") for query in captured.captured_queries]
        return [_named(sql) for sql in sent if not sql.startswith(NOT_OURS)]

    return run


Statements = Callable[..., list[str]]


def _named(sql: str) -> str:
    while (flat := re.sub(r"\([^()]*\)", "", sql)) != sql:  # what is nested is part of its statement
        sql = flat
    words = sql.split()
    marker = {"SELECT": "FROM", "INSERT": "INTO", "UPDATE": "UPDATE"}[words[0]]
    table = words[words.index(marker) + 1]
    return f"{words[0]} {table.removeprefix('chatkit_sessions_')}"


ORDER = ["SELECT workflow", "SELECT policyoverride"]
LOCK = "INSERT limitlock"
LIMITS = "SELECT chatsession"
LOOK_UP = "SELECT chatsession"
RESERVE = "INSERT chatsession"
# Is the account still active? By then a while has passed.
ACCOUNT = "SELECT auth_user"
SETTLE = "UPDATE chatsession"
COUNT = "UPDATE chatsession"


@pytest.mark.parametrize("workflow", [None, "default", "w19", "wf_19"])
def test_issuing_takes_seven_statements(issue: Issue, statements: Statements, workflow: str | None) -> None:
    assert statements(issue, workflow=workflow) == [*ORDER, LOCK, LIMITS, RESERVE, ACCOUNT, SETTLE]


def test_issuing_to_a_browser_with_an_old_secret_takes_eight(issue: Issue, statements: Statements) -> None:
    first = issue()
    cancel_session(first.session)
    taken = statements(issue, current_client_secret=first.client_secret)
    assert taken == [*ORDER, LOOK_UP, LOCK, LIMITS, RESERVE, ACCOUNT, SETTLE]


def test_handing_out_again_takes_four(issue: Issue, statements: Statements) -> None:
    first = issue()
    assert statements(issue, current_client_secret=first.client_secret) == [*ORDER, LOOK_UP, COUNT]


def test_a_refusal_takes_no_more(issue: Issue, statements: Statements, configure: Configure) -> None:
    configure(MAX_SESSIONS_PER_HOUR=1)
    issue()

    def refused() -> None:
        with pytest.raises(SessionRefused):
            issue()

    assert statements(refused) == [*ORDER, LOCK, LIMITS]


def test_without_limits_there_is_nothing_to_count(
    issue: Issue, statements: Statements, configure: Configure
) -> None:
    PolicyOverride.objects.filter(max_active_sessions__isnull=False).delete()
    configure(MAX_ACTIVE_SESSIONS=None, MAX_SESSIONS_PER_HOUR=None)
    assert statements(issue) == [*ORDER, LOCK, RESERVE, ACCOUNT, SETTLE]


def test_a_visitor_takes_less_than_an_account(
    issue: Issue, statements: Statements, configure: Configure, rf: RequestFactory
) -> None:
    configure(ALLOW_ANONYMOUS=True)
    taken = statements(issue, user=None, request=rf.post("/"))
    assert taken == ["SELECT workflow", LOCK, LIMITS, RESERVE, SETTLE]


def test_making_room_takes_three_more_for_each_session(
    issue: Issue, user: User, statements: Statements, configure: Configure
) -> None:
    """To find it, to end it here, and to write down that the API was told."""
    PolicyOverride.objects.filter(max_active_sessions__isnull=False).delete()
    configure(MAX_ACTIVE_SESSIONS=1, ON_MAX_ACTIVE="cancel_oldest")
    issue()
    find, end, told = "SELECT chatsession", "UPDATE chatsession", "UPDATE chatsession"
    assert statements(issue) == [*ORDER, LOCK, LIMITS, find, end, RESERVE, ACCOUNT, SETTLE, told]


def test_cancelling_takes_two(issue: Issue, statements: Statements) -> None:
    session = issue().session
    assert statements(cancel_session, session) == ["UPDATE chatsession", "UPDATE chatsession"]


def test_locks_are_taken_in_the_same_order_by_everyone(
    issue: Issue, configure: Configure, rf: RequestFactory
) -> None:
    """Two that need the same two locks could otherwise wait for each other."""
    configure(ALLOW_ANONYMOUS=True)
    for number in range(8):
        with CaptureQueriesContext(connection) as captured:
            row = issue(user=None, request=rf.post("/", REMOTE_ADDR=f"192.0.2.{number}")).session
        [sql] = [query["sql"] for query in captured.captured_queries if "limitlock" in query["sql"]]
        first, second = sorted([row.identity_key, row.address_digest])
        assert 0 < sql.index(first) < sql.index(second)
