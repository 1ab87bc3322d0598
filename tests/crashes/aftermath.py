"""What must be true after a process was killed, and after the housekeeping that follows."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from unittest import mock

from django.utils import timezone

from chatkit_sessions.conf import get_settings
from chatkit_sessions.models import ISSUED, ChatSession, Status
from chatkit_sessions.services import Reconciliation, reconcile
from chatkit_sessions.services.reserve import SETTLE_GRACE
from chatkit_sessions.standin import StandIn

from .truth import impossible_rows

NOTHING = Reconciliation(lost=0, expired=0, told=0, due=0)


@contextmanager
def later(seconds: float) -> Iterator[None]:
    """Let it be later, in this process."""
    now = timezone.now

    def moved() -> datetime:
        return now() + timedelta(seconds=seconds)

    with mock.patch("django.utils.timezone.now", moved):
        yield


def seconds_until_lost() -> float:
    """Return how long after it was written a pending row is certainly given up."""
    return get_settings().deadline + SETTLE_GRACE.total_seconds() + 1


def unrecorded(api: StandIn) -> list[str]:
    """Return what the API issued without a row: one with its id, or one that nobody settled."""
    rows = ChatSession.objects.values_list("upstream_id", "identifier", "status")
    known = {upstream_id for upstream_id, _, _ in rows}
    unsettled = Counter(who for _, who, status in rows if status in (Status.PENDING, Status.LOST))
    unsettled.subtract(session["user"] for key, session in api.sessions.items() if key not in known)
    return [f"{who} has {-left} at the API without a row" for who, left in unsettled.items() if left < 0]


def disagreements(api: StandIn) -> list[str]:
    """Return the rows that say of a session whose time is not over what is not so at the API.

    Of those that are due there, nothing can be said: who told it may have died before writing it down.
    """
    remote = api.sessions
    settled = ChatSession.objects.filter(status__in=ISSUED, expires_at__gt=timezone.now())
    stated = settled.filter(cancel_requested_at=None).values_list("upstream_id", "status")
    actual = {key: remote[key]["status"] if key in remote else "unknown" for key, _ in stated}
    return [f"{key} is {status}, and {actual[key]} there" for key, status in stated if status != actual[key]]


def assert_true(api: StandIn) -> None:
    """Hold the table against itself and against the API."""
    wrong = [*impossible_rows(), *unrecorded(api), *disagreements(api)]
    assert not wrong, wrong


def settle_all(api: StandIn) -> Reconciliation:
    """Reconcile once the pending rows' time is over: nothing is left to do, and the table is still true."""
    with later(seconds_until_lost()):
        settled = reconcile()
        left = ChatSession.objects.filter(status=Status.PENDING) | ChatSession.objects.due()
        assert not left, [(row.status, row.cancel_requested_at) for row in left]
        again = reconcile()
        assert again == NOTHING, again
    assert settled.due == 0
    assert_true(api)
    return settled
