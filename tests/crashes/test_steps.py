"""A process is killed at every step of issuing, cancelling and reconciling, one after the other."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from chatkit_sessions.exceptions import SessionLimitReached
from chatkit_sessions.models import ChatSession, Status
from chatkit_sessions.services import IssuedSession, cancel_session, issue_session
from chatkit_sessions.standin import Fault

from .aftermath import assert_true, later, seconds_until_lost, settle_all
from .api import Api
from .nursery import Life, Nursery
from .steps import ANSWERED, CALL, COMMIT, COMMITTED, READ, SENT

pytestmark = pytest.mark.crash

ONE_AT_A_TIME = {"MAX_ACTIVE_SESSIONS": 1}
MAKING_ROOM = {**ONE_AT_A_TIME, "ON_MAX_ACTIVE": "cancel_oldest"}

Check = Callable[[str, Life], None]


def rows(person: str, *statuses: str) -> Any:
    sessions = ChatSession.objects.filter(identifier=person)
    return sessions.filter(status__in=statuses) if statuses else sessions


def lives(nursery: Nursery, api: Api, action: str, prepare: Callable[[str], dict[str, Any]]) -> Iterator[Any]:
    """Let a child do something unharmed, then one child die at each of the steps that the first one took."""
    steps: int | None = None
    number = 0
    while steps is None or number <= steps:
        ChatSession.objects.all().delete()
        api.forget()
        person = f"person {number}"
        arguments = prepare(person)
        done = api.carried_out
        life = nursery.run(action, die_at=number, **arguments)
        assert life.was_killed if number else life.status == 0, life
        steps = steps or len(life.steps)
        # What was sent is carried out, whoever waits for it.
        api.wait_for(done + life.steps.count(SENT))
        yield person, life
        number += 1


def die_everywhere(
    nursery: Nursery, api: Api, action: str, prepare: Callable[[str], dict[str, Any]], check: Check
) -> Counter[str]:
    """Check what each death leaves, and what one reconciliation makes of it; return the last steps."""
    last: Counter[str] = Counter()
    for person, life in lives(nursery, api, action, prepare):
        try:
            assert_true(api)
            check(person, life)
            settle_all(api)
        except BaseException as error:
            error.add_note(f"It died at step {len(life.steps)}: {life.steps}")
            raise
        last[life.steps[-1]] += life.was_killed
    return last


def person_only(person: str) -> dict[str, Any]:
    return {"identifier": person}


def with_a_session(person: str) -> dict[str, Any]:
    issue_session(identifier=person)
    return {"identifier": person}


@pytest.mark.parametrize("api", [ONE_AT_A_TIME, {"MAX_SESSIONS_PER_HOUR": 1}], indirect=True)
def test_issuing_may_end_anywhere(nursery: Nursery, api: Api) -> None:
    def check(person: str, life: Life) -> None:
        found = list(rows(person))
        assert len(api.of(person)) <= len(found) <= 1
        assert [row.status for row in found] in ([], ["pending"], ["active"])
        assert bool(found) or SENT not in life.steps
        if not found:
            assert issue_session(identifier=person).session.status == "active"
            return
        # It counts: a session until it is over, and what nobody settled until it is given up.
        with pytest.raises(SessionLimitReached):
            issue_session(identifier=person)
        with later(seconds_until_lost()):
            if found[0].status == "pending":
                issue_session(identifier=person)
            with pytest.raises(SessionLimitReached):
                issue_session(identifier=person)

    last = die_everywhere(nursery, api, "issue", person_only, check)
    assert min(last[step] for step in (CALL, SENT, ANSWERED, READ, COMMIT, COMMITTED)) == 1
    assert len(last) > 12


@pytest.mark.parametrize("api", [MAKING_ROOM], indirect=True)
def test_issuing_in_another_ones_place_may_end_anywhere(nursery: Nursery, api: Api) -> None:
    def check(person: str, life: Life) -> None:
        old, *new = list(rows(person).order_by("pk"))
        assert (old.status, len(new)) in [("active", 0), ("cancelled", 1)]
        assert rows(person).occupying(timezone.now()).count() == 1
        if new and new[0].status == "pending":
            with pytest.raises(SessionLimitReached):  # nobody knows yet whether there is anything to cancel
                issue_session(identifier=person)
        else:
            issue_session(identifier=person)
            assert rows(person).running().count() == 1

    last = die_everywhere(nursery, api, "issue", with_a_session, check)
    # The new one is issued, and the old one withdrawn.
    assert (last[SENT], last[ANSWERED], last[READ]) == (2, 2, 2)


def test_handing_out_again_may_end_anywhere(nursery: Nursery, api: Api) -> None:
    held: dict[str, IssuedSession] = {}

    def prepare(person: str) -> dict[str, Any]:
        held[person] = issue_session(identifier=person)
        return {"identifier": person, "current_client_secret": held[person].client_secret}

    def check(person: str, life: Life) -> None:
        row = rows(person).get()
        assert (row.status, row.handed_out_count) in [("active", 1), ("active", 2)]
        again = issue_session(identifier=person, current_client_secret=held[person].client_secret)
        assert (again.reused, again.session.handed_out_count) == (True, row.handed_out_count + 1)

    last = die_everywhere(nursery, api, "issue", prepare, check)
    assert (last[SENT], last[COMMITTED]) == (0, 1)


def test_cancelling_may_end_anywhere(nursery: Nursery, api: Api) -> None:
    held: dict[str, IssuedSession] = {}

    def prepare(person: str) -> dict[str, Any]:
        held[person] = issue_session(identifier=person)
        return {"identifier": person}

    def check(person: str, life: Life) -> None:
        row = rows(person).get()
        assert row.status in ("active", "cancelled")
        assert row.status == "cancelled" or CALL not in life.steps  # here first, then at the API
        again = issue_session(identifier=person, current_client_secret=held[person].client_secret)
        assert again.reused is (row.status == "active")

    last = die_everywhere(nursery, api, "cancel", prepare, check)
    assert (last[CALL], last[SENT], last[ANSWERED], last[READ]) == (1, 1, 1, 1)


def test_cancelling_many_may_end_anywhere(nursery: Nursery, api: Api) -> None:
    held: dict[str, list[IssuedSession]] = {}

    def prepare(person: str) -> dict[str, Any]:
        held[person] = [issue_session(identifier=person) for _ in range(3)]
        return {"identifier": person}

    def check(person: str, life: Life) -> None:
        for issued in held[person]:
            row = rows(person).get(pk=issued.session.pk)
            assert row.status in ("active", "cancelled")
            again = issue_session(identifier=person, current_client_secret=issued.client_secret)
            assert again.reused is (row.status == "active")

    last = die_everywhere(nursery, api, "cancel_all", prepare, check)
    # Several are told at a time: which of these steps comes when is never the same.
    assert last[CALL] + last[SENT] + last[ANSWERED] + last[READ] > 6


def test_reconciling_may_end_anywhere(nursery: Nursery, api: Api) -> None:
    def prepare(person: str) -> dict[str, Any]:
        leave_one_of_each(api, person)
        return {}

    def check(person: str, life: Life) -> None:
        theirs = ChatSession.objects.filter(identifier__startswith=f"{person} ")
        shown = Counter(row.shown_status for row in theirs)
        assert shown == {"lost": 1, "pending": 1, "expired": 1, "cancelled": 2, "active": 1}
        if not life.was_killed:
            stored = Counter(theirs.values_list("status", flat=True))
            assert (stored, theirs.due().count()) == (shown, 0)

    last = die_everywhere(nursery, api, "settle", prepare, check)
    assert (last[CALL], last[SENT], last[ANSWERED], last[READ]) == (1, 1, 1, 1)


def leave_one_of_each(api: Api, person: str) -> None:
    """Write every kind of row that housekeeping meets, and one that it has to leave alone."""
    issued = [issue_session(identifier=f"{person} {number}").session for number in range(6)]
    running, expired, moot, due, pending, lost = issued
    api.misbehave(Fault(status=400), times=2, path="*/cancel")
    for session in (moot, due):
        cancel_session(session)
        assert session.cancel_requested_at is not None
    for session in (expired, moot, lost):
        age(session)
    for session in (pending, lost):
        unsettle(session)
    assert running.status == Status.ACTIVE


def age(session: ChatSession) -> None:
    """Let a session have run out an hour ago."""
    names = ("created_at", "issued_at", "last_handed_out_at", "ended_at", "cancel_requested_at", "expires_at")
    for name in names:
        moment = getattr(session, name)
        setattr(session, name, moment and moment - timedelta(hours=1))
    session.save()


def unsettle(session: ChatSession) -> None:
    """Make a row pending again: nobody has settled it."""
    session.status, session.upstream_id, session.secret_digest, session.response = "pending", "", "", {}
    session.issued_at = session.last_handed_out_at = session.upstream_status = session.latency_ms = None
    session.handed_out_count = 0
    session.expires_at = session.created_at + timedelta(seconds=seconds_until_lost())
    session.save()
