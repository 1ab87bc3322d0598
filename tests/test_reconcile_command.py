import io
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.utils import timezone

from chatkit_sessions.models import ChatSession
from chatkit_sessions.services import cancel_sessions, issue_session
from chatkit_sessions.standin import Fault, StandIn

pytestmark = pytest.mark.django_db


def said(**options: Any) -> str:
    out = io.StringIO()
    call_command("chatkit_reconcile", stdout=out, no_color=True, **options)
    return out.getvalue()


@pytest.fixture
def left_open(standin: StandIn) -> None:
    """One lost, one expired, one of whose end the API needs no telling any more, and two of which it does."""
    rows = [issue_session(identifier=f"person {number}").session.pk for number in range(5)]
    cancel_sessions(ChatSession.objects.filter(pk__in=rows[2:]), seconds=0)
    over = timezone.now() - timedelta(seconds=1)
    ChatSession.objects.filter(pk=rows[0]).update(status="pending", expires_at=over)
    ChatSession.objects.filter(pk__in=rows[1:3]).update(expires_at=over)


@pytest.mark.usefixtures("left_open")
def test_it_settles_what_was_left_open_and_says_so(standin: StandIn) -> None:
    assert said() == "lost: 1, expired: 1, cancellations told: 2.\n"
    assert said() == "There was nothing to settle.\n"


@pytest.mark.usefixtures("left_open")
def test_it_says_what_is_still_due(standin: StandIn) -> None:
    standin.misbehave(Fault(status=400), times=2)
    assert said().endswith("cancellations still due: 2.\n")
    assert said(seconds=0) == "cancellations still due: 2.\n"
    assert said() == "cancellations told: 2.\n"


@pytest.mark.usefixtures("left_open")
def test_without_verbosity_it_settles_and_says_nothing() -> None:
    assert said(verbosity=0) == ""
    assert said() == "There was nothing to settle.\n"


def test_a_failing_database_is_told() -> None:
    def run(*args: Any) -> Any:
        raise OperationalError("no such table")

    with connection.execute_wrapper(run), pytest.raises(CommandError) as caught:
        said()
    assert str(caught.value) == "The database failed: no such table\nRun migrate, and check the database."
