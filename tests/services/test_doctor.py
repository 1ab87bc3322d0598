import time
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import OperationalError, connection

from chatkit_sessions.exceptions import UpstreamUnavailable
from chatkit_sessions.models import ChatSession, Workflow
from chatkit_sessions.services.doctor import Diagnosis, Finding, Level, Outcome, attempt, examine
from chatkit_sessions.standin import Fault, StandIn
from chatkit_sessions.testing import standin as pointed_at

from .conftest import database_fails_at, settling_fails

pytestmark = pytest.mark.django_db

FOR_GOOD = {"x-should-retry": "false"}
CANCEL = "/chatkit/sessions/*/cancel"


def found(diagnosis: Diagnosis, check: str) -> Finding:
    """Return the one finding of a check."""
    (finding,) = (finding for finding in diagnosis.findings if finding.check == check)
    return finding


def failure(diagnosis: Diagnosis) -> Finding:
    """Return the one error."""
    (finding,) = (finding for finding in diagnosis.findings if finding.level is Level.ERROR)
    assert not diagnosis.ok
    return finding


def test_the_session_is_real_and_cancelled_at_once(standin: StandIn) -> None:
    diagnosis = examine()
    row = ChatSession.objects.get()
    assert (diagnosis.ok, diagnosis.outcome, diagnosis.session) == (True, Outcome.CANCELLED, row)
    assert (row.identifier, row.status, row.end_reason) == ("chatkit-doctor", "cancelled", "chatkit_doctor")
    assert (row.user, row.ended_by) == (None, None)
    assert [session["status"] for session in standin.sessions.values()] == ["cancelled"]
    assert found(diagnosis, "session") == Finding(
        "session", Level.OK, f"{row.upstream_id} was created in {row.latency_ms} ms, and cancelled."
    )


def test_it_looks_at_everything_once_and_in_order(standin: StandIn) -> None:
    assert [(finding.check, finding.level.value) for finding in examine().findings] == [
        ("settings", "ok"),
        ("database", "ok"),
        ("workflow", "ok"),
        ("key", "ok"),
        ("session", "ok"),
        ("cache", found(examine(), "cache").level.value),  # whichever the suite is run on
        ("headers", "ok"),
        ("allow-list", "info"),
    ]


def test_the_prefix_stands_before_the_doctor_too() -> None:
    with pointed_at(USER_IDENTIFIER_PREFIX="staging-"):
        examine()
    assert ChatSession.objects.get().identifier == "staging-chatkit-doctor"


def test_a_workflow_of_groups_can_be_tried(standin: StandIn) -> None:
    Workflow.objects.create(slug="staff", workflow_id="wf_staff").groups.add(Group.objects.create(name="a"))
    assert examine("staff").ok
    assert standin.requests[0].json["workflow"] == {"id": "wf_staff"}


@pytest.mark.parametrize(
    ("version", "words"),
    [(None, "support (wf_1), its latest deployment."), ("3", "support (wf_1), version 3.")],
)
def test_it_says_which_workflow_is_tried(standin: StandIn, version: str | None, words: str) -> None:
    Workflow.objects.create(slug="support", workflow_id="wf_1", version=version or "")
    assert found(examine("support"), "workflow") == Finding("workflow", Level.OK, words)


def test_a_workflow_can_be_named_by_its_id(standin: StandIn) -> None:
    assert examine("wf_tests").ok


@pytest.mark.parametrize(
    ("fault", "check", "message", "cure"),
    [
        (
            Fault(status=403),
            "permission",
            "The API does not permit this (403): The stand-in was told to answer 403.",
            "Let the key write ChatKit sessions at https://platform.openai.com/api-keys, "
            "and see what its project is allowed.",
        ),
        (
            Fault(status=404),
            "workflow",
            "The API does not find the workflow or the address (404): The stand-in was told to answer 404.",
            "If the workflow was made in another project than the key, put a key of that project into "
            "CREDENTIALS and name it in the workflow. Else check the workflow id, that it is published, "
            "and that BASE_URL ends in /v1.",
        ),
        (
            Fault(status=400),
            "request",
            "The API does not take the request (400): The stand-in was told to answer 400.",
            "Correct the value that the API names, in CHATKIT_SESSIONS or in the workflow in the admin.",
        ),
        (
            Fault(status=429, headers={**FOR_GOOD, "Retry-After": "7"}),
            "rate-limit",
            "The API gets too many requests from this project (429): The stand-in was told to answer 429.",
            "Wait 7 seconds; if it stays so, see the project's limits at "
            "https://platform.openai.com/settings/organization/limits.",
        ),
        (
            Fault(status=429, headers=FOR_GOOD),
            "rate-limit",
            "The API gets too many requests from this project (429): The stand-in was told to answer 429.",
            "Wait a minute; if it stays so, see the project's limits at "
            "https://platform.openai.com/settings/organization/limits.",
        ),
        (
            Fault(
                status=429,
                headers=FOR_GOOD,
                body={"error": {"message": "You exceeded\nyour quota.", "code": "insufficient_quota"}},
            ),
            "quota",
            "The OpenAI project has no credit left (429): You exceeded your quota.",
            "Add credit at https://platform.openai.com/settings/organization/billing.",
        ),
        (
            Fault(status=503, headers=FOR_GOOD),
            "api",
            "The API is failing (503): The stand-in was told to answer 503.",
            "Wait, and look at https://status.openai.com; if there is a proxy in between, look at that too.",
        ),
        (
            Fault(status=408, headers=FOR_GOOD),
            "api",
            "The API is failing (408): The stand-in was told to answer 408.",
            "Wait, and look at https://status.openai.com; if there is a proxy in between, look at that too.",
        ),
    ],
)
def test_what_the_api_refuses_has_its_cause_and_its_cure(
    standin: StandIn, fault: Fault, check: str, message: str, cure: str
) -> None:
    standin.misbehave(fault)
    diagnosis = examine()
    assert failure(diagnosis) == Finding(check, Level.ERROR, message, cure)
    assert found(diagnosis, check) == failure(diagnosis)  # what looked well before is not said as well
    assert (diagnosis.session, diagnosis.outcome) == (ChatSession.objects.get(), Outcome.REFUSED)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(body=b"<html>"), "The answer is not JSON that can be used."),
        (
            Fault(status=302, headers={"Location": "/login"}),
            "The answer is a redirect, which is never followed.",
        ),
    ],
)
def test_an_answer_that_is_not_the_apis_is_told_as_such(standin: StandIn, fault: Fault, said: str) -> None:
    standin.misbehave(fault)
    host = standin.base_url.split("/")[2]
    assert failure(examine()) == Finding(
        "answer",
        Level.ERROR,
        f"{host} answers, but not as the API does: {said}",
        "Check that BASE_URL is the API's address with its /v1, and that no proxy answers instead.",
    )


def test_no_answer_in_time_names_the_settings_that_bound_it() -> None:
    with pointed_at(TIMEOUT=(5, 0.01)) as api:
        api.misbehave(Fault(delay=2))
        error = failure(examine())
    host = api._address
    assert error == Finding(
        "timeout",
        Level.ERROR,
        f"{host[0]}:{host[1]} did not answer in time (TIMEOUT (5, 0.01), DEADLINE 15 seconds).",
        "Check the network, the proxy and https://status.openai.com, or raise TIMEOUT and DEADLINE.",
    )


@pytest.mark.parametrize(
    ("fault", "check", "message", "cure"),
    [
        (
            Fault(status=500, headers=FOR_GOOD),
            "api",
            "The API is failing (500): The stand-in was told to answer 500.",
            "Wait, and look at https://status.openai.com; if there is a proxy in between, look at that too.",
        ),
        (
            Fault(status=401),
            "key",
            "The API refused the key (401: The stand-in was told to answer 401). "
            'It was ***, from CHATKIT_SESSIONS["API_KEY"].',
            "Make a new key at https://platform.openai.com/api-keys and put it where this one came from.",
        ),
        (
            Fault(status=403),
            "permission",
            "The API does not permit this (403): The stand-in was told to answer 403.",
            "Let the key write ChatKit sessions at https://platform.openai.com/api-keys, "
            "and see what its project is allowed.",
        ),
    ],
)
def test_an_end_that_the_api_was_not_told_of_has_its_cause_and_its_cure(
    standin: StandIn, fault: Fault, check: str, message: str, cure: str
) -> None:
    standin.misbehave(fault, times=2, path=CANCEL)
    diagnosis = examine()
    row = ChatSession.objects.get()
    assert failure(diagnosis) == Finding(check, Level.ERROR, message, cure)
    assert found(diagnosis, check) == failure(diagnosis)  # what looked well before is not said as well
    assert found(diagnosis, "session") == Finding(
        "session",
        Level.INFO,
        f"The session {row.upstream_id} was created, but the API could not be told of its end.",
        "It ends by itself, and chatkit_reconcile tries to tell the API until then.",
    )
    assert (diagnosis.outcome, row.cancel_requested_at is not None) == (Outcome.CREATED, True)


def test_an_end_that_the_api_hears_of_when_asked_once_more_is_well(standin: StandIn) -> None:
    standin.misbehave(Fault(status=500, headers=FOR_GOOD), path=CANCEL)
    diagnosis = examine()
    row = ChatSession.objects.get()
    assert diagnosis.ok
    assert found(diagnosis, "session").message == (
        f"{row.upstream_id} was created in {row.latency_ms} ms, and cancelled."
    )
    assert (row.status, row.cancel_requested_at) == ("cancelled", None)
    assert standin.sessions[row.upstream_id]["status"] == "cancelled"


@pytest.mark.django_db(transaction=True)
def test_an_end_that_the_api_was_told_of_and_nobody_could_record_is_told(standin: StandIn) -> None:
    standin.misbehave(Fault(status=500, headers=FOR_GOOD), path=CANCEL)
    with database_fails_at(f"SET {connection.ops.quote_name('cancel_requested_at')}"):
        diagnosis = examine()
    assert (failure(diagnosis).check, diagnosis.outcome) == ("storage", Outcome.CREATED)
    assert [session["status"] for session in standin.sessions.values()] == ["cancelled"]


def test_an_id_that_cannot_be_asked_for_stops_no_doctor(standin: StandIn) -> None:
    answer = {"id": "..", "client_secret": "ek_1", "expires_at": int(time.time()) + 600}
    standin.misbehave(Fault(body=answer))
    diagnosis = examine()
    assert (failure(diagnosis).check, failure(diagnosis).message) == (
        "settings",
        "id must not consist of dots.",
    )
    assert diagnosis.outcome is Outcome.CREATED


def test_a_session_that_is_gone_at_the_api_is_as_good_as_cancelled(standin: StandIn) -> None:
    standin.misbehave(Fault(status=404), path=CANCEL)
    assert examine().ok


def test_an_answer_without_an_id_is_a_warning(standin: StandIn) -> None:
    answer = {"client_secret": "ek_1", "expires_at": int(time.time()) + 600}
    standin.misbehave(Fault(body=answer))
    diagnosis = examine()
    assert diagnosis.ok
    assert found(diagnosis, "session").level is Level.WARNING
    assert found(diagnosis, "session").message.endswith(
        "was created, but the API gave no id to cancel it by."
    )


@pytest.mark.parametrize("lifetime", [None, 90])
@pytest.mark.parametrize(("shift", "sooner", "clock"), [(100, "later", "behind"), (-60, "earlier", "ahead")])
def test_an_end_that_was_not_expected_is_told_with_seconds_and_both_causes(
    lifetime: int | None, shift: int, sooner: str, clock: str
) -> None:
    with pointed_at(StandIn(clock=lambda: time.time() + shift), EXPIRES_AFTER=lifetime):
        diagnosis = examine()
    told = found(diagnosis, "clock")
    seconds = int(told.message.split()[3])
    assert diagnosis.ok
    assert abs(seconds - abs(shift)) <= 1
    assert told == Finding(
        "clock",
        Level.WARNING,
        f"The session ends {seconds} seconds {sooner} than expected: either this machine's clock is {clock}, "
        f"or the API gave it another lifetime than {lifetime or 600} seconds.",
        "Compare this machine's clock first (NTP): a wrong one ends sessions too early or too late here.",
    )


def test_another_lifetime_than_asked_for_is_not_taken_for_a_wrong_clock(standin: StandIn) -> None:
    answer = {"id": "cksess_1", "client_secret": "ek_1", "expires_at": int(time.time()) + 300}
    standin.misbehave(Fault(body=answer))
    assert found(examine(), "clock").message.endswith("or the API gave it another lifetime than 600 seconds.")


@pytest.mark.parametrize("shift", [-25, 25])
def test_a_clock_that_is_a_little_wrong_does_not_matter(shift: int) -> None:
    with pointed_at(StandIn(clock=lambda: time.time() + shift), EXPIRES_AFTER=60):
        assert "clock" not in {finding.check for finding in examine().findings}


def test_a_clock_so_wrong_that_sessions_are_over_at_once_is_an_error() -> None:
    with pointed_at(StandIn(clock=lambda: time.time() - 700)):
        diagnosis = examine()
    row = ChatSession.objects.get()
    assert failure(diagnosis) == Finding(
        "session",
        Level.ERROR,
        f"The session {row.upstream_id} was created, but is over by this machine's clock already.",
        "Set the clock by NTP.",
    )
    assert found(diagnosis, "clock").level is Level.WARNING


def test_a_smaller_rate_than_asked_for_is_told(standin: StandIn) -> None:
    answer = {
        "id": "cksess_1",
        "client_secret": "ek_1",
        "expires_at": int(time.time()) + 600,
        "max_requests_per_1_minute": 4,
    }
    standin.misbehave(Fault(body=answer))
    assert found(examine(), "rate") == Finding(
        "rate", Level.INFO, "The API grants 4 requests a minute, not the 10 asked for."
    )


def test_without_a_default_workflow_nothing_is_sent(standin: StandIn, settings: Any) -> None:
    settings.CHATKIT_SESSIONS = {**settings.CHATKIT_SESSIONS, "WORKFLOWS": {}}
    diagnosis = examine()
    assert failure(diagnosis) == Finding(
        "workflow",
        Level.ERROR,
        "There is no workflow 'default'.",
        "Set CHATKIT_WORKFLOW_ID in the environment, or add it to WORKFLOWS in CHATKIT_SESSIONS or in the "
        "admin.",
    )
    assert found(diagnosis, "session") == Finding(
        "session", Level.INFO, "No session was tried: first put right what is wrong above."
    )
    assert (standin.requests, ChatSession.objects.count()) == ([], 0)


def test_a_workflow_that_is_named_and_absent_has_a_cure(standin: StandIn) -> None:
    assert failure(examine("nowhere")) == Finding(
        "workflow",
        Level.ERROR,
        "There is no workflow 'nowhere'.",
        "Add it to WORKFLOWS in CHATKIT_SESSIONS or in the admin, or name another with --workflow.",
    )


def test_an_inactive_workflow_is_told_apart_from_an_absent_one(standin: StandIn) -> None:
    Workflow.objects.create(slug="default", is_active=False)
    assert failure(examine()) == Finding(
        "workflow",
        Level.ERROR,
        "The workflow 'default' cannot be used: it is not active.",
        "Change that in the admin or in WORKFLOWS in CHATKIT_SESSIONS.",
    )
    assert standin.requests == []


def test_the_version_latest_is_not_sent(standin: StandIn) -> None:
    Workflow.objects.create(slug="support", workflow_id="wf_1", version="latest")
    error = failure(examine("support"))
    assert (error.check, error.cure) == (
        "version",
        "Clear its version in the admin, or name one of its deployments.",
    )
    assert error.message.startswith(
        "The workflow 'support' names an impossible version: version must not be "
    )
    assert standin.requests == []


def test_the_doctor_keeps_to_the_limits() -> None:
    with pointed_at(MAX_SESSIONS_PER_HOUR=1):
        assert examine().ok
        error = failure(examine())
    assert error.check == "limits"
    assert error.message.startswith("You may start 1 chat an hour.")
    assert error.cure == "Wait, or raise max_sessions_per_hour; the doctor's own sessions count too."


@pytest.mark.parametrize("prefix", ["p" * 512])
def test_what_the_sites_own_values_make_impossible_is_told(prefix: str) -> None:
    with pointed_at(USER_IDENTIFIER_PREFIX=prefix) as api:
        error = failure(examine())
        assert api.requests == []
    assert error.check == "settings"
    assert error.message.startswith("identifier: ")
    assert error.cure == "Look at CHATKIT_SESSIONS and the workflow in the admin."


def test_a_function_of_the_site_that_fails_is_told() -> None:
    def fail(*arguments: Any) -> None:
        raise LookupError

    with pointed_at(STATE_VARIABLES=fail):
        error = failure(examine())
    assert error.check == "settings"
    assert error.message.startswith('CHATKIT_SESSIONS["STATE_VARIABLES"] raised LookupError;')


def test_while_nothing_is_sent_at_all_it_says_so(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**arguments: Any) -> None:
        raise UpstreamUnavailable(retry_after=12)

    monkeypatch.setattr(attempt, "issue_session", refuse)
    diagnosis = examine()
    assert failure(diagnosis) == Finding(
        "api",
        Level.ERROR,
        "The API was not asked: The chat service is not available. Try again in a moment.",
        "Try again in 12 seconds.",
    )
    assert diagnosis.session is None


def test_a_row_that_cannot_be_written_is_told(standin: StandIn) -> None:
    with database_fails_at("INSERT", "chatkit_sessions_chatsession"):
        error = failure(examine())
    assert error == Finding(
        "database",
        Level.ERROR,
        "The database failed: the disk is full",
        "Check that it runs, that DATABASES in the settings is right, and that migrate was run.",
    )
    assert standin.requests == []


@pytest.mark.django_db(transaction=True)
def test_a_row_that_cannot_be_settled_is_told(standin: StandIn) -> None:
    with settling_fails():
        diagnosis = examine()
    assert failure(diagnosis) == Finding(
        "storage",
        Level.ERROR,
        "The chat could not be recorded, so it was not started. Try again in a moment.",
        "Check the database; the log has the details.",
    )
    assert diagnosis.session == ChatSession.objects.get()


def test_a_database_that_goes_on_failing_hides_the_row_alone(standin: StandIn) -> None:
    standin.misbehave(Fault(status=403))
    with database_fails_at("SELECT", "upstream_request_id", "reference"):
        diagnosis = examine()
    assert (failure(diagnosis).check, diagnosis.session) == ("permission", None)


@pytest.mark.django_db(transaction=True)
def test_an_end_that_cannot_be_recorded_is_told(standin: StandIn) -> None:
    with database_fails_at("UPDATE", "chatkit_sessions_chatsession", "end_reason"):
        diagnosis = examine()
    row = ChatSession.objects.get()
    assert failure(diagnosis) == Finding(
        "storage",
        Level.ERROR,
        f"The session {row.upstream_id} was created, but its end could not be recorded.",
        "Check the database; the session ends by itself.",
    )
    assert (diagnosis.session, diagnosis.outcome) == (row, Outcome.CREATED)


def test_a_workflow_that_cannot_be_looked_up_is_a_failing_database(standin: StandIn) -> None:
    with database_fails_at("SELECT", "chatkit_sessions_workflow", error=OperationalError("no such table")):
        error = failure(examine())
    assert (error.check, error.message) == ("database", "The database failed: no such table")
    assert standin.requests == []


def test_without_a_session_nothing_is_well_even_where_nothing_is_wrong() -> None:
    assert not Diagnosis(findings=(Finding("session", Level.INFO, "None was tried."),)).ok


def test_the_whole_can_be_read_by_programs(standin: StandIn) -> None:
    told = examine().as_json()
    row = ChatSession.objects.get()
    assert (told["ok"], told["session"], told["reference"]) == (True, row.upstream_id, str(row.reference))
    assert told["findings"][0] == {
        "check": "settings",
        "level": "ok",
        "message": "They are valid.",
        "cure": "",
    }
    standin.misbehave(Fault(status=401))
    told = examine().as_json()
    assert (told["ok"], told["session"], told["reference"]) == (
        False,
        None,
        str(ChatSession.objects.latest("pk").reference),
    )
    assert examine("nowhere").as_json()["reference"] is None
