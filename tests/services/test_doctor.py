import pytest
from django.contrib.auth.models import Group

from chatkit_sessions.models import ChatSession, Workflow
from chatkit_sessions.services.doctor import CURES, Finding, examine
from chatkit_sessions.standin import Fault, StandIn
from chatkit_sessions.testing import standin as pointed_at

pytestmark = pytest.mark.django_db

FOR_GOOD = {"x-should-retry": "false"}
CANCEL = "/chatkit/sessions/*/cancel"


def test_the_session_is_real_and_cancelled_at_once(standin: StandIn) -> None:
    finding = examine()
    row = ChatSession.objects.get()
    assert (finding, finding.cure) == (Finding(session=row), "")
    assert (row.identifier, row.status, row.end_reason) == ("chatkit-doctor", "cancelled", "chatkit_doctor")
    assert (row.user, row.ended_by) == (None, None)
    assert [session["status"] for session in standin.sessions.values()] == ["cancelled"]


def test_the_prefix_stands_before_the_doctor_too() -> None:
    with pointed_at(USER_IDENTIFIER_PREFIX="staging-"):
        examine()
    assert ChatSession.objects.get().identifier == "staging-chatkit-doctor"


def test_a_workflow_of_groups_can_be_tried(standin: StandIn) -> None:
    Workflow.objects.create(slug="staff", workflow_id="wf_staff").groups.add(Group.objects.create(name="a"))
    assert examine("staff").error is None
    assert standin.requests[0].json["workflow"] == {"id": "wf_staff"}


def test_an_end_that_the_api_was_not_told_of_is_found(standin: StandIn) -> None:
    standin.misbehave(Fault(status=500, headers=FOR_GOOD), path=CANCEL)
    finding = examine()
    assert (finding.error, finding.is_running) == (None, True)
    row = ChatSession.objects.get()
    assert row.status == "cancelled"
    assert row.cancel_requested_at is not None


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(status=401), "upstream_rejected"),
        (Fault(status=429, headers=FOR_GOOD), "upstream_rate_limited"),
        (Fault(status=503, headers=FOR_GOOD), "upstream_unavailable"),
        (Fault(body=b"<html>"), "upstream_invalid_response"),
    ],
)
def test_what_the_api_did_wrong_has_its_row_and_its_cure(standin: StandIn, fault: Fault, code: str) -> None:
    standin.misbehave(fault, times=9)
    finding = examine()
    assert finding.error is not None
    assert finding.error.code == code
    assert finding.session == ChatSession.objects.get()
    assert finding.cure == str(CURES[code]) != ""


def test_an_absent_workflow_has_a_cure_and_no_row(standin: StandIn) -> None:
    finding = examine("nowhere")
    assert finding.error is not None
    assert (finding.session, finding.error.code) == (None, "workflow_not_found")
    assert finding.cure == "Name a workflow of WORKFLOWS in CHATKIT_SESSIONS or of the admin that is active."


def test_a_message_that_names_its_cure_needs_no_other() -> None:
    with pointed_at(API_KEY=None):
        finding = examine()
    assert finding.error is not None
    assert (finding.error.code, finding.cure) == ("not_configured", "")


def test_the_doctor_keeps_to_the_limits() -> None:
    with pointed_at(MAX_SESSIONS_PER_HOUR=1):
        assert examine().error is None
        finding = examine()
    assert finding.error is not None
    assert finding.error.code == "session_limit_reached"
    assert finding.cure == "Wait, or raise max_sessions_per_hour; the doctor's own sessions count too."
