import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.http import HttpRequest
from django.test import RequestFactory

from chatkit_sessions.exceptions import SessionLimitReached, Throttled, UpstreamError
from chatkit_sessions.models import ChatSession, PolicyOverride, Workflow
from chatkit_sessions.services import IssuedSession, cancel_session
from chatkit_sessions.services import limits as limits_module
from chatkit_sessions.services.reserve import REPLACED
from chatkit_sessions.standin import Fault
from chatkit_sessions.standin.exchange import RecordedRequest

from .conftest import Api, Clock, Heard

Issue = Callable[..., IssuedSession]
Configure = Callable[..., None]

WORKFLOWS: dict[str, dict[str, Any]] = {"default": {"id": "wf_tests"}, "support": {"id": "wf_2"}}
MICROSECOND = 0.000_001


@pytest.fixture(autouse=True)
def _two_workflows(configure: Configure) -> None:
    configure(WORKFLOWS=WORKFLOWS)


def refused(issue: Issue, **arguments: Any) -> SessionLimitReached:
    with pytest.raises(SessionLimitReached) as caught:
        issue(**arguments)
    assert (caught.value.code, caught.value.reference) == ("session_limit_reached", None)
    return caught.value


def repeat(session: ChatSession, times: int) -> None:
    """Let there be so many more sessions like this one."""
    values = {field.attname: getattr(session, field.attname) for field in ChatSession._meta.concrete_fields}
    for name in ("id", "reference"):
        del values[name]
    ChatSession.objects.bulk_create(ChatSession(**values) for _ in range(times))


def statuses() -> list[str]:
    """Return the sessions' states as they show now, oldest first."""
    return [row.shown_status for row in ChatSession.objects.order_by("pk")]


def test_an_hour_has_so_many_sessions(issue: Issue, api: Api, configure: Configure) -> None:
    configure(MAX_SESSIONS_PER_HOUR=3)
    for _ in range(3):
        issue()
    error = refused(issue)
    assert (str(error), error.retry_after) == ("You may start 3 chats an hour. Try again later.", 3600)
    assert (ChatSession.objects.count(), len(api.requests)) == (3, 3)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"MAX_SESSIONS_PER_HOUR": 1}, "You may start 1 chat an hour. Try again later."),
        (
            {"MAX_ACTIVE_SESSIONS": 1},
            "You may have 1 chat open at a time. Close another one, or try again later.",
        ),
    ],
)
def test_one_is_said_in_the_singular(
    issue: Issue, configure: Configure, keys: dict[str, Any], message: str
) -> None:
    configure(**keys)
    issue()
    assert str(refused(issue)) == message


def test_the_hour_looks_back_3600_seconds(issue: Issue, clock: Clock, configure: Configure) -> None:
    configure(MAX_SESSIONS_PER_HOUR=2)
    issue()
    clock.advance(1000)
    issue()
    clock.advance(2600 - MICROSECOND)
    assert refused(issue).retry_after == pytest.approx(MICROSECOND, abs=1e-9)
    clock.advance(MICROSECOND)
    issue()
    assert refused(issue).retry_after == 1000


def test_retry_after_is_the_moment_at_which_a_place_becomes_free(
    issue: Issue, clock: Clock, configure: Configure
) -> None:
    configure(MAX_SESSIONS_PER_HOUR=2)
    for _ in range(2):
        issue()
        clock.advance(7)
    wait = refused(issue).retry_after
    assert wait is not None
    clock.advance(wait - MICROSECOND)
    refused(issue)
    clock.advance(MICROSECOND)
    issue()


def test_a_limit_that_was_lowered_waits_for_enough_to_leave(
    issue: Issue, clock: Clock, configure: Configure
) -> None:
    for _ in range(4):
        issue()
        clock.advance(100)
    configure(MAX_SESSIONS_PER_HOUR=2)
    # The third of the four has to leave: it was started 200 seconds ago.
    assert refused(issue).retry_after == 3600 - 200


@pytest.mark.parametrize(
    ("status", "counts"),
    [
        ("pending", True),
        ("active", True),
        ("expired", True),
        ("cancelled", True),
        ("failed", False),
        ("lost", False),
    ],
)
def test_what_counts_in_the_hour(issue: Issue, configure: Configure, status: str, counts: bool) -> None:
    configure(MAX_SESSIONS_PER_HOUR=1)
    issue()
    ChatSession.objects.update(status=status)
    if counts:
        assert refused(issue).retry_after == 3600
    else:
        issue()


@pytest.mark.parametrize(
    ("status", "counts"),
    [
        ("pending", True),
        ("active", True),
        ("expired", False),
        ("cancelled", False),
        ("failed", False),
        ("lost", False),
    ],
)
def test_what_counts_as_active(issue: Issue, configure: Configure, status: str, counts: bool) -> None:
    configure(MAX_ACTIVE_SESSIONS=1)
    issue()
    ChatSession.objects.update(status=status)
    if counts:
        assert refused(issue).retry_after == 600
    else:
        issue()


@pytest.mark.parametrize("keys", [{"MAX_SESSIONS_PER_HOUR": 1}, {"MAX_ACTIVE_SESSIONS": 1}])
def test_a_pending_row_that_is_overdue_does_not_count(
    issue: Issue, clock: Clock, configure: Configure, keys: dict[str, Any]
) -> None:
    configure(**keys)
    issue()
    ChatSession.objects.update(status="pending", expires_at=clock.now + timedelta(seconds=45))
    clock.advance(45 - MICROSECOND)
    refused(issue)
    clock.advance(MICROSECOND)
    issue()


def test_a_failed_call_gives_its_place_back(issue: Issue, api: Api, configure: Configure) -> None:
    configure(MAX_SESSIONS_PER_HOUR=1, MAX_ACTIVE_SESSIONS=1)
    api.misbehave(Fault(status=500), times=3)
    for _ in range(3):
        with pytest.raises(UpstreamError):
            issue()
    issue()
    refused(issue)


def test_a_request_under_way_counts(issue: Issue, api: Api, configure: Configure) -> None:
    configure(MAX_SESSIONS_PER_HOUR=1)
    issue()
    ChatSession.objects.update(status="pending")
    refused(issue)


def test_none_is_no_limit(issue: Issue, configure: Configure) -> None:
    configure(MAX_SESSIONS_PER_HOUR=None, MAX_ACTIVE_SESSIONS=None)
    repeat(issue().session, 100)
    issue()


def test_sixty_an_hour_is_the_default(issue: Issue) -> None:
    repeat(issue().session, 58)
    issue()
    assert str(refused(issue)) == "You may start 60 chats an hour. Try again later."


@pytest.mark.parametrize("layer", ["setting", "workflow_row", "override"])
def test_a_limit_can_be_set_in_any_layer(issue: Issue, user: User, configure: Configure, layer: str) -> None:
    if layer == "setting":
        configure(MAX_SESSIONS_PER_HOUR=1)
    elif layer == "workflow_row":
        Workflow.objects.create(slug="default", max_sessions_per_hour=1)
    else:
        PolicyOverride.objects.create(user=user, max_sessions_per_hour=1)
    issue()
    refused(issue)


def test_a_limit_is_each_persons_own(issue: Issue, other: User, configure: Configure) -> None:
    configure(MAX_SESSIONS_PER_HOUR=1, MAX_ACTIVE_SESSIONS=1)
    issue()
    issue(user=other)
    issue(identifier="kiosk")
    refused(issue)
    refused(issue, user=other)
    refused(issue, identifier="kiosk")


def test_so_many_may_be_active_at_a_time(issue: Issue, clock: Clock, configure: Configure) -> None:
    configure(MAX_ACTIVE_SESSIONS=2)
    issue(expires_after=100)
    clock.advance(10)
    issue(expires_after=50)
    error = refused(issue)
    assert (str(error), error.retry_after) == (
        "You may have 2 chats open at a time. Close another one, or try again later.",
        50,
    )
    clock.advance(50 - MICROSECOND)
    refused(issue)
    clock.advance(MICROSECOND)
    issue(expires_after=300)
    # Now the one that was started first is the next to go.
    assert refused(issue).retry_after == 40


def test_a_lowered_number_of_active_sessions_waits_for_enough_to_end(
    issue: Issue, configure: Configure
) -> None:
    for seconds in (400, 100, 300, 200):
        issue(expires_after=seconds)
    configure(MAX_ACTIVE_SESSIONS=2)
    assert refused(issue).retry_after == 300


def test_a_cancelled_session_makes_room_at_once(issue: Issue, configure: Configure) -> None:
    configure(MAX_ACTIVE_SESSIONS=1)
    cancel_session(issue().session)
    issue()


def test_the_wait_is_for_the_last_of_the_limits(issue: Issue, clock: Clock, configure: Configure) -> None:
    configure(MAX_SESSIONS_PER_HOUR=2, MAX_ACTIVE_SESSIONS=1)
    issue(expires_after=600)
    clock.advance(3500)
    issue(expires_after=600)
    # A place of the hour is free in 100 seconds, but the session runs for 600.
    error = refused(issue)
    assert (error.retry_after, str(error)[:28]) == (600, "You may have 1 chat open at ")
    clock.advance(600 - MICROSECOND)
    refused(issue)
    clock.advance(MICROSECOND)
    issue(expires_after=1)
    clock.advance(1)
    # Now nothing runs, and the hour is full.
    assert refused(issue).retry_after == 3600 - 601


@pytest.fixture
def _oldest(configure: Configure) -> None:
    configure(ON_MAX_ACTIVE="cancel_oldest", MAX_ACTIVE_SESSIONS=2)


@pytest.mark.usefixtures("_oldest")
def test_the_oldest_session_makes_room(
    issue: Issue, user: User, api: Api, clock: Clock, heard: Heard
) -> None:
    oldest = issue(expires_after=600).session
    clock.advance(5)
    # It expires sooner, but it is not the oldest.
    issue(expires_after=60)
    clock.advance(5)
    newest = issue()
    oldest = ChatSession.objects.get(pk=oldest.pk)
    assert statuses() == ["cancelled", "active", "active"]
    assert (oldest.ended_at, oldest.ended_by, oldest.end_reason) == (clock.now, user, REPLACED)
    assert oldest.cancel_requested_at is None
    assert api.sessions[oldest.upstream_id]["status"] == "cancelled"
    # The browser is not kept waiting for the end of the old one.
    assert api.paths[-2:] == ["/chatkit/sessions", f"/chatkit/sessions/{oldest.upstream_id}/cancel"]
    assert heard.names == ["session_issued", "session_issued", "session_cancelled", "session_issued"]
    assert heard.calls[2][1] == {"session": oldest, "by": user, "reason": REPLACED}
    assert not newest.reused


@pytest.mark.usefixtures("_oldest")
def test_as_many_make_room_as_a_lowered_limit_asks_for(issue: Issue, configure: Configure) -> None:
    configure(MAX_ACTIVE_SESSIONS=5)
    for _ in range(5):
        issue()
    configure(MAX_ACTIVE_SESSIONS=2)
    issue()
    assert statuses() == ["cancelled"] * 4 + ["active"] * 2


@pytest.mark.usefixtures("_oldest")
def test_a_pending_session_never_makes_room(issue: Issue) -> None:
    pending = issue().session
    ChatSession.objects.update(status="pending")
    issue()
    issue()
    issue()
    assert statuses() == ["pending", "cancelled", "cancelled", "active"]
    assert ChatSession.objects.get(pk=pending.pk).status == "pending"


@pytest.mark.usefixtures("_oldest")
def test_where_all_are_pending_the_request_is_refused(issue: Issue, clock: Clock) -> None:
    issue()
    issue()
    for row, seconds in zip(ChatSession.objects.order_by("pk"), (20, 45), strict=True):
        row.status, row.expires_at = "pending", clock.now + timedelta(seconds=seconds)
        row.save()
    assert refused(issue).retry_after == 20
    clock.advance(20 - MICROSECOND)
    refused(issue)
    clock.advance(MICROSECOND)
    issue()


@pytest.mark.usefixtures("_oldest")
def test_running_ones_do_not_prolong_the_wait_for_pending_ones(
    issue: Issue, clock: Clock, configure: Configure
) -> None:
    """Once one of the pending ones is given up, the running one makes room at once."""
    configure(MAX_ACTIVE_SESSIONS=3)
    running, *pending = (issue().session for _ in range(3))
    for row, seconds in zip(pending, (20, 45), strict=True):
        expires_at = clock.now + timedelta(seconds=seconds)
        ChatSession.objects.filter(pk=row.pk).update(status="pending", expires_at=expires_at)
    configure(MAX_ACTIVE_SESSIONS=2)
    assert refused(issue).retry_after == 20
    clock.advance(20)
    issue()
    assert ChatSession.objects.get(pk=running.pk).status == "cancelled"


@pytest.mark.usefixtures("_oldest")
def test_nothing_is_cancelled_for_a_request_that_is_refused(issue: Issue, configure: Configure) -> None:
    configure(MAX_SESSIONS_PER_HOUR=2)
    issue()
    issue()
    assert str(refused(issue)).startswith("You may start 2 chats an hour.")
    assert statuses() == ["active", "active"]


@pytest.mark.usefixtures("_oldest")
def test_room_that_was_made_stays_made_when_the_call_fails(issue: Issue, api: Api) -> None:
    first = issue().session
    issue()
    api.misbehave(Fault(status=500), path="/chatkit/sessions")
    with pytest.raises(UpstreamError):
        issue()
    assert statuses() == ["cancelled", "active", "failed"]
    assert api.sessions[first.upstream_id]["status"] == "cancelled"


@pytest.mark.usefixtures("_oldest")
def test_while_the_api_is_slow_the_end_of_the_old_one_waits(
    issue: Issue, api: Api, configure: Configure
) -> None:
    """One issue may take DEADLINE in all: what is left of it is too short for another call."""
    configure(DEADLINE=2, MAX_ACTIVE_SESSIONS=1)
    old = issue().session
    api.misbehave(Fault(delay=1.2), path="/chatkit/sessions")
    api.misbehave(Fault(delay=9), path="*/cancel")
    started = time.monotonic()
    issue()
    assert time.monotonic() - started < 3
    old = ChatSession.objects.get(pk=old.pk)
    assert old.status == "cancelled"
    assert old.cancel_requested_at is not None


@pytest.mark.usefixtures("_oldest")
def test_a_session_without_an_id_makes_room_too(issue: Issue, api: Api) -> None:
    issue()
    issue()
    ChatSession.objects.update(upstream_id="")
    issue()
    assert statuses() == ["cancelled", "active", "active"]
    assert api.paths == ["/chatkit/sessions"] * 3
    assert ChatSession.objects.filter(cancel_requested_at__isnull=False).count() == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_oldest")
def test_one_that_ends_meanwhile_needs_no_replacing(
    issue: Issue, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue()
    issue()
    oldest = limits_module._oldest

    def end_meanwhile(limit: Any) -> list[ChatSession]:
        found = oldest(limit)
        cancel_session(ChatSession.objects.get(pk=found[0].pk), reason="by hand")
        return found

    monkeypatch.setattr(limits_module, "_oldest", end_meanwhile)
    issue()
    assert statuses() == ["cancelled", "active", "active"]
    assert ChatSession.objects.order_by("pk")[0].end_reason == "by hand"
    assert heard.names.count("session_cancelled") == 1


@pytest.mark.usefixtures("_oldest")
def test_pending_ones_that_end_meanwhile_leave_nothing_to_cancel(
    issue: Issue, monkeypatch: pytest.MonkeyPatch, configure: Configure
) -> None:
    configure(MAX_ACTIVE_SESSIONS=4)
    issue()
    issue()
    for _ in range(2):
        ChatSession.objects.filter(pk=issue().session.pk).update(status="pending")
    oldest = limits_module._oldest

    def fail_meanwhile(limit: Any) -> list[ChatSession]:
        ChatSession.objects.filter(status="pending").update(status="failed")
        return oldest(limit)

    monkeypatch.setattr(limits_module, "_oldest", fail_meanwhile)
    issue()
    assert statuses() == ["active", "active", "failed", "failed", "active"]


LIMITS: list[dict[str, Any]] = [{"max_sessions_per_hour": 1}, {"max_active_sessions": 1}]
both_limits = pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: next(iter(limit)))


@both_limits
def test_a_site_wide_limit_counts_every_workflow(
    issue: Issue, configure: Configure, limit: dict[str, int]
) -> None:
    configure(**{name.upper(): value for name, value in limit.items()})
    issue(workflow="support")
    refused(issue)


@both_limits
@pytest.mark.parametrize("isolated", [True, False])
def test_a_workflow_that_keeps_its_own_history_counts_too(
    issue: Issue, configure: Configure, limit: dict[str, int], isolated: bool
) -> None:
    configure(
        WORKFLOWS={**WORKFLOWS, "support": {"id": "wf_2", "isolate_history": isolated}},
        **{name.upper(): value for name, value in limit.items()},
    )
    issue(workflow="support")
    refused(issue)


@both_limits
def test_an_override_for_every_workflow_counts_them_all(
    issue: Issue, user: User, limit: dict[str, int]
) -> None:
    PolicyOverride.objects.create(user=user, **limit)
    issue(workflow="support")
    refused(issue)


@both_limits
@pytest.mark.parametrize("source", ["setting", "row"])
def test_a_limit_of_a_workflow_counts_that_workflow(
    issue: Issue, configure: Configure, limit: dict[str, int], source: str
) -> None:
    if source == "setting":
        configure(WORKFLOWS={**WORKFLOWS, "support": {"id": "wf_2", **limit}})
    else:
        Workflow.objects.create(slug="support", **limit)
    issue()
    issue()
    issue(workflow="support")
    refused(issue, workflow="support")
    issue()


@both_limits
@pytest.mark.parametrize("for_group", [True, False])
def test_an_override_for_one_workflow_counts_that_workflow(
    issue: Issue, user: User, limit: dict[str, int], for_group: bool
) -> None:
    group = Group.objects.create(name="trial")
    user.groups.add(group)
    target: dict[str, Any] = {"group": group} if for_group else {"user": user}
    PolicyOverride.objects.create(workflow_slug="support", **target, **limit)
    issue()
    issue(workflow="support")
    refused(issue, workflow="support")
    issue()


def test_the_oldest_of_the_workflow_makes_room(issue: Issue, configure: Configure) -> None:
    configure(
        ON_MAX_ACTIVE="cancel_oldest",
        WORKFLOWS={**WORKFLOWS, "support": {"id": "wf_2", "max_active_sessions": 1}},
    )
    issue()
    issue(workflow="support")
    issue(workflow="support")
    assert statuses() == ["active", "cancelled", "active"]


@pytest.fixture
def visit(issue: Issue, configure: Configure, rf: RequestFactory) -> Callable[..., IssuedSession]:
    """Issue a session for a new visitor, whose address is known."""
    configure(ALLOW_ANONYMOUS=True, ANONYMOUS_RATE="2/minute")

    def run(address: str = "192.0.2.1", request: HttpRequest | None = None) -> IssuedSession:
        return issue(user=None, request=request or rf.post("/", REMOTE_ADDR=address))

    return run


def test_an_address_has_so_many_visitors_in_a_period(
    visit: Callable[..., IssuedSession], issue: Issue, rf: RequestFactory, clock: Clock
) -> None:
    visit()
    clock.advance(10)
    visit()
    clock.advance(10)
    with pytest.raises(Throttled) as caught:
        visit()
    assert (caught.value.code, caught.value.retry_after) == ("throttled", 40)
    visit("192.0.2.2")
    # Whoever has signed in does not count, and is not counted.
    issue(request=rf.post("/", REMOTE_ADDR="192.0.2.1"))
    clock.advance(40 - MICROSECOND)
    with pytest.raises(Throttled):
        visit()
    clock.advance(MICROSECOND)
    visit()


def test_the_last_limit_of_a_visitor_speaks(
    visit: Callable[..., IssuedSession], configure: Configure, rf: RequestFactory
) -> None:
    configure(MAX_SESSIONS_PER_HOUR=1, ANONYMOUS_RATE="1/minute")
    request = rf.post("/", REMOTE_ADDR="192.0.2.1")
    visit(request=request)
    with pytest.raises(SessionLimitReached) as caught:
        visit(request=request)
    assert caught.value.retry_after == 3600
    configure(ANONYMOUS_RATE="1/day")
    with pytest.raises(Throttled) as throttled:
        visit(request=request)
    assert throttled.value.retry_after == 86_400


def test_a_session_counts_from_before_the_api_is_asked(issue: Issue, api: Api, clock: Clock) -> None:
    """However long the API takes: the hour begins when the place was taken."""
    started = clock.now

    def watch(request: RecordedRequest) -> None:
        clock.advance(12)

    api.watch = watch
    row = issue().session
    assert (row.created_at, row.issued_at) == (started, started + timedelta(seconds=12))
