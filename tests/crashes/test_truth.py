"""The rules that rows are held against notice what breaks them."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from chatkit_sessions.exceptions import UpstreamError
from chatkit_sessions.models import ChatSession
from chatkit_sessions.services import cancel_session, issue_session
from chatkit_sessions.standin import Fault

from .aftermath import disagreements, unrecorded
from .api import Api
from .truth import flaws, impossible_rows

ISSUED = "an issued session has what the API gave"
NOT_ISSUED = "one that was not issued has nothing of it"
END = "pending and active ones alone have no end"
DUE = "what failed or goes on is not to be cancelled at the API"
ERROR = "a failed one alone has an error"
ORDER = "its moments are in order"


@pytest.fixture
def session(api: Api) -> ChatSession:
    return issue_session(identifier="ada").session


def test_what_issuing_and_cancelling_write_is_possible(api: Api, session: ChatSession) -> None:
    cancel_session(issue_session(identifier="ada").session)
    api.misbehave(Fault(status=400), times=2)
    with pytest.raises(UpstreamError):
        issue_session(identifier="ada")
    assert cancel_session(session).cancel_requested_at is not None
    assert sorted(row.status for row in ChatSession.objects.all()) == ["cancelled", "cancelled", "failed"]
    assert (impossible_rows(), unrecorded(api), disagreements(api)) == ([], [], [])


@pytest.mark.parametrize(
    ("values", "rules"),
    [
        ({"upstream_id": ""}, [ISSUED]),
        ({"secret_digest": ""}, [ISSUED]),
        ({"response": {}}, [ISSUED]),
        ({"upstream_status": None}, [ISSUED]),
        ({"latency_ms": None}, [ISSUED]),
        ({"handed_out_count": 0}, [ISSUED]),
        ({"status": "pending"}, [NOT_ISSUED]),
        ({"status": "lost"}, [NOT_ISSUED, END]),
        ({"status": "failed"}, [NOT_ISSUED, END, ERROR]),
        ({"status": "cancelled"}, [END]),
        ({"status": "expired"}, [END]),
        ({"ended_at": timezone.now() + timedelta(days=1)}, [END]),
        ({"cancel_requested_at": timezone.now() + timedelta(days=1)}, [DUE]),
        ({"error_code": "upstream_timeout"}, [ERROR]),
        ({"expires_at": timezone.now() - timedelta(hours=1)}, [ORDER]),
        ({"issued_at": timezone.now() - timedelta(hours=1)}, [ORDER]),
        ({"last_handed_out_at": timezone.now() - timedelta(hours=1)}, [ORDER]),
        ({"status": "cancelled", "ended_at": timezone.now() - timedelta(hours=1)}, [ORDER]),
        ({"attempts": 0}, ["it was attempted"]),
        ({"identifier": ""}, ["it is somebody's"]),
        ({"identity_key": ""}, ["it is somebody's"]),
        ({"policy": {}}, ["it has a policy"]),
    ],
)
def test_an_impossible_row_is_noticed(session: ChatSession, values: dict[str, Any], rules: list[str]) -> None:
    assert flaws(session) == []
    for name, value in values.items():
        setattr(session, name, value)
    assert flaws(session) == rules


def test_a_session_without_a_row_is_noticed(api: Api, session: ChatSession) -> None:
    assert unrecorded(api) == []
    pending = ChatSession.objects.filter(pk=session.pk)
    pending.update(upstream_id="", status="pending")
    assert unrecorded(api) == []
    pending.delete()
    assert unrecorded(api) == ["ada has 1 at the API without a row"]


def test_what_the_api_knows_otherwise_is_noticed(api: Api, session: ChatSession) -> None:
    assert disagreements(api) == []
    ChatSession.objects.update(status="cancelled", ended_at=timezone.now())
    assert disagreements(api) == [f"{session.upstream_id} is cancelled, and active there"]
    ChatSession.objects.update(cancel_requested_at=timezone.now())
    assert disagreements(api) == []
    ChatSession.objects.update(upstream_id="cksess_none", cancel_requested_at=None)
    assert disagreements(api) == ["cksess_none is cancelled, and unknown there"]
