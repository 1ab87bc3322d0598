import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import DataError, OperationalError
from django.forms.models import model_to_dict

from chatkit_sessions.client import APIStatusError, APITimeoutError
from chatkit_sessions.exceptions import ChatKitSessionsError, StorageUnavailable, UpstreamError
from chatkit_sessions.models import ChatSession, LimitLock
from chatkit_sessions.services import IssuedSession
from chatkit_sessions.services.upstream import translate
from chatkit_sessions.standin import Fault
from chatkit_sessions.standin.exchange import RecordedRequest

from .conftest import KEY, Api, Clock, Heard, database_fails_at, settling_fails

Issue = Callable[..., IssuedSession]
Configure = Callable[..., None]

REJECTED = "The chat service refused the request. The site's operator has to look at this."
INVALID = "The chat service gave an answer that cannot be used. Try again in a moment."
BUSY = "The chat service is busy. Try again in a moment."
UNAVAILABLE = "The chat service is not available. Try again in a moment."
LATE = "The chat service did not answer in time. Try again in a moment."
UNRECORDED = "The chat could not be recorded, so it was not started. Try again in a moment."

ANSWER: dict[str, Any] = {"client_secret": "ek_1", "expires_at": 1_793_615_400, "id": "cksess_1"}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in ANSWER.items() if key != name}


def told(status: int) -> str:
    return f"The stand-in was told to answer {status}."


FAILURES: dict[str, tuple[Fault, str, str, float | None, int | None, str]] = {
    # fault: our code, our sentence, retry_after, the row's HTTP status and error message
    "400": (Fault(status=400), "upstream_rejected", REJECTED, None, 400, told(400)),
    "401": (Fault(status=401), "upstream_rejected", REJECTED, None, 401, told(401)),
    "402": (Fault(status=402), "upstream_rejected", REJECTED, None, 402, told(402)),
    "403": (Fault(status=403), "upstream_rejected", REJECTED, None, 403, told(403)),
    "404": (Fault(status=404), "upstream_rejected", REJECTED, None, 404, told(404)),
    "408": (Fault(status=408), "upstream_unavailable", UNAVAILABLE, 5.0, 408, told(408)),
    "409": (Fault(status=409), "upstream_rejected", REJECTED, None, 409, told(409)),
    "422": (Fault(status=422), "upstream_rejected", REJECTED, None, 422, told(422)),
    "429": (Fault(status=429), "upstream_rate_limited", BUSY, 5.0, 429, told(429)),
    "429 with Retry-After": (
        Fault(status=429, headers={"Retry-After": "17"}),
        "upstream_rate_limited",
        BUSY,
        17.0,
        429,
        told(429),
    ),
    "500": (Fault(status=500), "upstream_unavailable", UNAVAILABLE, 5.0, 500, told(500)),
    "503 with Retry-After": (
        Fault(status=503, headers={"Retry-After": "2"}),
        "upstream_unavailable",
        UNAVAILABLE,
        2.0,
        503,
        told(503),
    ),
    "an error without a body": (
        Fault(status=502, body=b""),
        "upstream_unavailable",
        UNAVAILABLE,
        5.0,
        502,
        "Bad Gateway",
    ),
    "no answer in time": (
        Fault(delay=3),
        "upstream_timeout",
        LATE,
        None,
        None,
        "The API did not answer in time.",
    ),
    "a page": (
        Fault(body="<html>"),
        "upstream_invalid_response",
        INVALID,
        None,
        200,
        "The answer is not JSON that can be used.",
    ),
    "no object": (
        Fault(body=[]),
        "upstream_invalid_response",
        INVALID,
        None,
        200,
        "The answer is not an object but list.",
    ),
    "no secret": (
        Fault(body=without("client_secret")),
        "upstream_invalid_response",
        INVALID,
        None,
        200,
        "The answer lacks 'client_secret'.",
    ),
    "an empty secret": (
        Fault(body={**ANSWER, "client_secret": ""}),
        "upstream_invalid_response",
        INVALID,
        None,
        200,
        "The answer has an empty 'client_secret'.",
    ),
    "no expiry": (
        Fault(body=without("expires_at")),
        "upstream_invalid_response",
        INVALID,
        None,
        200,
        "The answer lacks 'expires_at'.",
    ),
    "an expiry of a wrong type": (
        Fault(body={**ANSWER, "expires_at": "soon"}),
        "upstream_invalid_response",
        INVALID,
        None,
        200,
        "The answer has a wrong type in 'expires_at'.",
    ),
    "a redirect": (
        Fault(status=302, headers={"Location": "http://127.0.0.1:9/elsewhere"}),
        "upstream_invalid_response",
        INVALID,
        None,
        302,
        "The answer is a redirect, which is never followed.",
    ),
    "more than 1 MiB": (
        Fault(body={**ANSWER, "extra": "x" * 1024 * 1024}),
        "upstream_invalid_response",
        INVALID,
        None,
        200,
        "The answer is longer than 1048576 bytes.",
    ),
    "a body cut short": (
        Fault(truncate=20),
        "upstream_invalid_response",
        INVALID,
        None,
        200,
        "The answer was cut short.",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failed_call_leaves_a_failed_row(
    issue: Issue, user: User, api: Api, clock: Clock, configure: Configure, heard: Heard, case: str
) -> None:
    fault, code, sentence, retry_after, status, message = FAILURES[case]
    configure(TIMEOUT=(1, 0.3))
    api.misbehave(fault)
    with pytest.raises(UpstreamError) as caught:
        issue()
    row = ChatSession.objects.get()
    error = caught.value
    assert (error.code, str(error), error.retry_after) == (code, sentence, retry_after)
    assert error.reference == str(row.reference)
    assert (row.status, row.error_code, row.error_message) == ("failed", code, message)
    assert (row.upstream_status, row.attempts, row.ended_at) == (status, 1, clock.now)
    assert row.upstream_request_id.startswith("req_" if status else "")
    assert row.latency_ms is not None
    assert (row.latency_ms >= 300) is (case == "no answer in time")
    assert (row.user, row.secret_digest, row.upstream_id, row.response) == (user, "", "", {})
    assert (row.issued_at, row.handed_out_count, row.last_handed_out_at) == (None, 0, None)
    assert api.paths == ["/chatkit/sessions"]
    [(name, arguments)] = heard.calls
    assert (name, arguments) == ("session_failed", {"session": row, "error": error})
    assert model_to_dict(arguments["session"]) == model_to_dict(row)


@pytest.mark.parametrize(
    ("fault", "address", "message"),
    [
        (Fault(drop=True), None, "No connection to the API: "),
        (Fault(), "http://127.0.0.1:9/v1", "No connection to the API: "),
        (Fault(), "http://no-such-host.invalid/v1", "No connection to the API: "),
    ],
)
def test_a_broken_connection_leaves_a_failed_row(
    issue: Issue, api: Api, configure: Configure, fault: Fault, address: str | None, message: str
) -> None:
    if address:
        configure(BASE_URL=address)
    api.misbehave(fault)
    with pytest.raises(UpstreamError) as caught:
        issue()
    row = ChatSession.objects.get()
    assert (caught.value.code, caught.value.retry_after) == ("upstream_unavailable", 5.0)
    assert (row.status, row.error_code, row.upstream_status) == ("failed", "upstream_unavailable", None)
    assert (row.attempts, row.upstream_request_id) == (1, "")
    assert row.error_message.startswith(message)


def test_the_attempts_of_a_failure_are_counted(issue: Issue, api: Api, configure: Configure) -> None:
    configure(MAX_RETRIES=2)
    api.misbehave(Fault(status=503, headers={"retry-after-ms": "1"}), times=9)
    with pytest.raises(UpstreamError):
        issue()
    assert ChatSession.objects.get().attempts == 3
    assert len(api.requests) == 3


def test_what_the_api_said_is_kept_without_secrets(
    issue: Issue, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    said = f"Incorrect API key {KEY}: sk-sen****nel, Bearer abc ek_123 and cks_456\x00 are \x00known."
    api.misbehave(Fault(status=401, body={"error": {"message": said}}))
    with pytest.raises(UpstreamError) as caught:
        issue()
    row = ChatSession.objects.get()
    removed = "[removed]"
    assert row.error_message == (
        f"Incorrect API key {removed}: {removed}, {removed} {removed} and {removed} are known."
    )
    [record] = caplog.records
    assert record.getMessage() == (
        f"Session {row.reference} failed (upstream_rejected, HTTP 401, "
        f"request id '{row.upstream_request_id}'): {row.error_message}"
    )
    for text in (caplog.text, str(caught.value), repr(caught.value)):
        assert "sentinel" not in text
        assert "sk-" not in text
    assert "key" not in str(caught.value)


def test_an_error_of_the_api_without_a_reference_can_be_translated() -> None:
    error = translate(APITimeoutError("late"))
    assert (error.code, error.reference, error.retry_after) == ("upstream_timeout", None, None)
    error = translate(APIStatusError("odd", status_code=418, retry_after=3))
    assert (error.code, error.retry_after) == ("upstream_rejected", None)


@pytest.mark.django_db(transaction=True)
def test_a_session_that_cannot_be_settled_is_withdrawn(
    issue: Issue, api: Api, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    with settling_fails(), pytest.raises(StorageUnavailable) as caught:
        issue()
    row = ChatSession.objects.get()
    [(upstream_id, remote)] = api.sessions.items()
    assert (caught.value.reference, str(caught.value)) == (str(row.reference), UNRECORDED)
    assert (row.status, row.secret_digest, row.upstream_id) == ("pending", "", "")
    assert api.paths == ["/chatkit/sessions", f"/chatkit/sessions/{upstream_id}/cancel"]
    assert remote["status"] == "cancelled"
    assert heard.calls == []
    [record] = caplog.records
    # What is needed to ask OpenAI about it.
    assert re.fullmatch(
        f"Session {row.reference} was issued \\({upstream_id}, request id 'req_[0-9a-f]+'\\) "
        "but could not be settled; its secret is withheld\\.",
        record.getMessage(),
    )


@pytest.mark.django_db(transaction=True)
def test_a_secret_that_is_withheld_is_not_logged_either(
    issue: Issue, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even one that looks like nothing."""
    body = {**ANSWER, "client_secret": "plainsecret"}
    api.misbehave(Fault(body=body, headers={"x-request-id": "req_plainsecret"}), path="/chatkit/sessions")
    with settling_fails(), pytest.raises(StorageUnavailable):
        issue()
    assert caplog.records[0].getMessage() == (
        f"Session {ChatSession.objects.get().reference} was issued (cksess_1, request id "
        "'req_[removed]') but could not be settled; its secret is withheld."
    )


@pytest.mark.django_db(transaction=True)
def test_a_withdrawal_that_fails_is_logged(issue: Issue, api: Api, caplog: pytest.LogCaptureFixture) -> None:
    api.misbehave(Fault(status=500), path="*/cancel")
    with settling_fails(), pytest.raises(StorageUnavailable):
        issue()
    row = ChatSession.objects.get()
    assert caplog.records[-1].getMessage() == (
        f"The API was not told of the end of session {row.reference}: The stand-in was told to answer 500."
    )


@pytest.mark.django_db(transaction=True)
def test_a_session_without_an_id_cannot_be_withdrawn(
    issue: Issue, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    api.misbehave(Fault(body=without("id")))
    with settling_fails(), pytest.raises(StorageUnavailable):
        issue()
    assert (api.paths, len(caplog.records)) == (["/chatkit/sessions"], 1)


@pytest.mark.django_db(transaction=True)
def test_a_failure_that_cannot_be_recorded_is_a_storage_error(
    issue: Issue, api: Api, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    api.misbehave(Fault(status=500))
    with settling_fails(), pytest.raises(StorageUnavailable) as caught:
        issue()
    row = ChatSession.objects.get()
    assert (row.status, caught.value.reference) == ("pending", str(row.reference))
    assert heard.calls == []
    assert caplog.records[-1].getMessage() == (
        f"The failure of session {row.reference} could not be recorded; its row stays pending."
    )


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "words", [("INSERT INTO", "chatkit_sessions_chatsession"), ("chatkit_sessions_limitlock",)]
)
def test_nothing_is_sent_without_a_row(
    issue: Issue, api: Api, words: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    with database_fails_at(*words), pytest.raises(StorageUnavailable) as caught:
        issue()
    assert (caught.value.reference, str(caught.value)) == (None, UNRECORDED)
    assert (api.requests, ChatSession.objects.count(), LimitLock.objects.count()) == ([], 0, 0)
    assert caplog.records[-1].getMessage() == (
        "The row of a session could not be written; the API was not asked."
    )


@pytest.mark.django_db(transaction=True)
def test_a_database_that_fails_early_is_a_storage_error(issue: Issue, api: Api) -> None:
    with database_fails_at("chatkit_sessions_workflow"), pytest.raises(StorageUnavailable):
        issue()
    assert api.requests == []


@pytest.mark.django_db(transaction=True)
def test_an_answer_after_the_place_was_given_up_is_withheld(issue: Issue, api: Api, clock: Clock) -> None:
    def watch(request: RecordedRequest) -> None:
        if not request.endpoint.endswith("/cancel"):
            clock.advance(45)  # DEADLINE and the time to settle

    api.watch = watch
    with pytest.raises(StorageUnavailable):
        issue()
    assert ChatSession.objects.get().status == "pending"
    assert [session["status"] for session in api.sessions.values()] == ["cancelled"]


def test_an_answer_just_before_its_place_is_given_up_is_used(issue: Issue, api: Api, clock: Clock) -> None:
    api.watch = lambda request: clock.advance(44.999)
    assert issue().session.status == "active"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fault", [None, Fault(status=500)])
def test_a_row_that_housekeeping_gave_up_stays_so(issue: Issue, api: Api, fault: Fault | None) -> None:
    api.watch = lambda request: ChatSession.objects.update(status="lost")
    if fault:
        api.misbehave(fault)
    with pytest.raises(StorageUnavailable):
        issue()
    row = ChatSession.objects.get()
    assert (row.status, row.secret_digest, row.error_code) == ("lost", "", "")


@pytest.mark.django_db(transaction=True)
def test_a_failure_may_be_recorded_late(issue: Issue, api: Api, clock: Clock) -> None:
    """It takes no place, so it may say what became of the row as long as nobody else has."""
    api.watch = lambda request: clock.advance(3600)
    api.misbehave(Fault(status=500))
    with pytest.raises(UpstreamError):
        issue()
    assert ChatSession.objects.get().status == "failed"


@pytest.mark.parametrize("error", [OperationalError("gone"), DataError("odd")])
@pytest.mark.django_db(transaction=True)
def test_no_frame_of_ours_shows_the_secret(issue: Issue, error: Exception) -> None:
    """Debug pages print the local variables of every frame, and of those of every cause."""
    secret = "ek_" + "held" * 8
    with (
        database_fails_at("SELECT", "secret_digest", error=error),
        pytest.raises(ChatKitSessionsError) as caught,
    ):
        issue(current_client_secret=secret)
    frames = []
    chain: BaseException | None = caught.value
    while chain is not None:
        trace = chain.__traceback__
        while trace is not None:
            if "chatkit_sessions" in trace.tb_frame.f_code.co_filename.replace("\\", "/").split("/"):
                frames.append(trace.tb_frame)
            trace = trace.tb_next
        chain = chain.__cause__ or chain.__context__
    assert len(frames) > 3
    for frame in frames:
        assert secret not in repr(frame.f_locals), frame.f_code.co_name
