import json
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import OperationalError
from django.http import Http404
from rest_framework import exceptions

from chatkit_sessions.api.errors import handle_exception
from chatkit_sessions.exceptions import ChatKitSessionsError
from chatkit_sessions.models import ChatSession, ChatSessionQuerySet, Status, Workflow
from chatkit_sessions.standin import Fault, StandIn

from .conftest import ENDPOINTS, Browser, assert_error

# What the API says and no browser may read.
UPSTREAM_WORDS = "Project proj_77 of acme says no to sk-leaked-key"
REJECTED = "The chat service refused the request. The site's operator has to look at this."
UNUSABLE = "The chat service gave an answer that cannot be used. Try again in a moment."
BUSY = "The chat service is busy. Try again in a moment."
UNAVAILABLE = "The chat service is not available. Try again in a moment."
TIMEOUT = "The chat service did not answer in time. Try again in a moment."
NOT_SET_UP = "The chat is not set up on this site."
NOT_RECORDED = "The chat could not be recorded, so it was not started. Try again in a moment."


def refusal(status: int, **headers: str) -> Fault:
    error = {"message": UPSTREAM_WORDS, "type": UPSTREAM_WORDS, "param": UPSTREAM_WORDS, "code": "words"}
    return Fault(status=status, body={"error": error}, headers=headers)


def words(value: Any) -> str:
    """Name a parameter by its first line, or a fault by what it does."""
    if isinstance(value, Fault):
        shown = {name: item for name, item in vars(value).items() if item and name != "body"}
        return f"{shown} {str(value.body or '')[:30]}"
    return str(value)[:30]


# A fault of the API; then the status, code, sentence and Retry-After of the answer to the browser.
FAULTS = [
    *((refusal(status), 502, "upstream_rejected", REJECTED, None) for status in (401, 403, 409, 418, 422)),
    (refusal(408), 503, "upstream_unavailable", UNAVAILABLE, "5"),
    (refusal(429), 503, "upstream_rate_limited", BUSY, "5"),
    (refusal(429, **{"Retry-After": "17"}), 503, "upstream_rate_limited", BUSY, "17"),
    (refusal(429, **{"retry-after-ms": "1200"}), 503, "upstream_rate_limited", BUSY, "2"),
    (refusal(429, **{"Retry-After": "0"}), 503, "upstream_rate_limited", BUSY, "1"),
    (refusal(500), 503, "upstream_unavailable", UNAVAILABLE, "5"),
    (refusal(503, **{"Retry-After": "120"}), 503, "upstream_unavailable", UNAVAILABLE, "120"),
    (Fault(drop=True), 503, "upstream_unavailable", UNAVAILABLE, "5"),
    (Fault(delay=1), 504, "upstream_timeout", TIMEOUT, None),
    (refusal(302, Location="/v1/elsewhere"), 502, "upstream_invalid_response", UNUSABLE, None),
    (Fault(status=204), 502, "upstream_invalid_response", UNUSABLE, None),
    (Fault(body=UPSTREAM_WORDS), 502, "upstream_invalid_response", UNUSABLE, None),
    (Fault(body=[UPSTREAM_WORDS]), 502, "upstream_invalid_response", UNUSABLE, None),
    (Fault(body={"error": UPSTREAM_WORDS}), 502, "upstream_invalid_response", UNUSABLE, None),
    (Fault(body="{" + " " * 1024 * 1024 + "}"), 502, "upstream_invalid_response", UNUSABLE, None),
    (Fault(truncate=20), 502, "upstream_invalid_response", UNUSABLE, None),
]
# Answers that are of use for a list of threads, but not for a session.
HALF_SESSIONS = [
    {"expires_at": 4_102_444_800},
    {"client_secret": "ek_1"},
    {"client_secret": 5, "expires_at": 4_102_444_800},
    {"client_secret": "ek_1", "expires_at": "2100-01-01"},
    {"client_secret": "ek_1", "expires_at": 4_102_444_800, "id": 5},
]


@pytest.fixture(autouse=True)
def _one_attempt(configure: Callable[..., None]) -> None:
    configure(MAX_RETRIES=0)


@pytest.fixture
def misbehave(standin: StandIn, configure: Callable[..., None]) -> Callable[[Fault], None]:
    """Let the API misbehave, with no more patience than its delay needs."""

    def wrong(fault: Fault) -> None:
        standin.misbehave(fault)
        if fault.delay:
            configure(TIMEOUT=(1, fault.delay / 4))

    return wrong


@pytest.mark.parametrize(
    ("fault", "status", "code", "detail", "retry_after"),
    [
        (refusal(400), 502, "upstream_rejected", REJECTED, None),
        (refusal(404), 502, "upstream_rejected", REJECTED, None),
        *FAULTS,
        *((Fault(body=body), 502, "upstream_invalid_response", UNUSABLE, None) for body in HALF_SESSIONS),
    ],
    ids=words,
)
def test_a_session_that_is_not_issued_is_answered_by_the_table(
    browser: Browser,
    standin: StandIn,
    misbehave: Callable[[Fault], None],
    fault: Fault,
    status: int,
    code: str,
    detail: str,
    retry_after: str | None,
) -> None:
    misbehave(fault)
    answer = browser.post("sessions/", {})
    row = ChatSession.objects.get()
    assert_error(answer, status, code, detail, reference=str(row.reference), retry_after=retry_after)
    assert (row.status, row.error_code) == (Status.FAILED, code)
    assert_no_upstream_words(answer)
    assert len(standin.requests) == 1


@pytest.mark.parametrize(("fault", "status", "code", "detail", "retry_after"), FAULTS, ids=words)
@pytest.mark.parametrize("path", ["threads/", "threads/{}/", "threads/{}/items/"])
def test_threads_are_answered_by_the_same_table(
    ada: User,
    browser: Browser,
    standin: StandIn,
    misbehave: Callable[[Fault], None],
    path: str,
    fault: Fault,
    status: int,
    code: str,
    detail: str,
    retry_after: str | None,
) -> None:
    thread = standin.add_thread(user=str(ada.pk))
    misbehave(fault)
    answer = browser.get(path.format(thread["id"]))
    assert_error(answer, status, code, detail, retry_after=retry_after)
    assert_no_upstream_words(answer)


def test_what_the_api_said_is_for_the_operator(browser: Browser, standin: StandIn) -> None:
    standin.misbehave(refusal(401))
    browser.post("sessions/", {})
    row = ChatSession.objects.get()
    assert row.error_message == "Project proj_77 of acme says no to [removed]"
    assert row.upstream_status == 401
    assert row.upstream_request_id.startswith("req_")


def test_no_connection_is_unavailable(browser: Browser, configure: Callable[..., None]) -> None:
    configure(BASE_URL="http://127.0.0.1:9/v1")
    answer = browser.post("sessions/", {})
    reference = str(ChatSession.objects.get().reference)
    assert_error(answer, 503, "upstream_unavailable", UNAVAILABLE, reference=reference, retry_after="5")


@pytest.mark.parametrize(
    ("changes", "logged"),
    [
        ({"API_KEY": None}, "There is no API key: set OPENAI_API_KEY in the environment,"),
        ({"DEFAULT_WORKFLOW": "nowhere"}, "The default workflow 'nowhere' is missing or inactive:"),
        (
            {"WORKFLOWS": {"default": {"id": "wf_tests", "is_active": False}}},
            "The default workflow 'default' is missing or inactive:",
        ),
        (
            {"STATE_VARIABLES": "tests.nowhere.variables"},
            'CHATKIT_SESSIONS["STATE_VARIABLES"]: No module named',
        ),
        ({"USER_IDENTIFIER": lambda user, request: 5}, 'CHATKIT_SESSIONS["USER_IDENTIFIER"] must return a'),
    ],
    ids=lambda value: "",
)
def test_a_site_that_is_not_set_up_says_so(
    browser: Browser,
    standin: StandIn,
    configure: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    changes: dict[str, Any],
    logged: str,
) -> None:
    configure(**changes)
    assert_error(browser.post("sessions/", {}), 503, "not_configured", NOT_SET_UP)
    assert f"Answered not_configured: {logged}" in caplog.text
    assert standin.requests == []
    assert not ChatSession.objects.exists()


def test_a_default_workflow_switched_off_in_the_admin_is_not_configured(browser: Browser) -> None:
    Workflow.objects.create(slug="default", is_active=False)
    assert_error(browser.post("sessions/", {}), 503, "not_configured", NOT_SET_UP)


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
@pytest.mark.parametrize(
    "invalid",
    [
        {"API_KEY": 12345678},
        {"EXPIRES_AFTER": 601},
        {"SECRET_PROJECT_NAME": 1},
        {"PERMISSION_CLASSES": ["nowhere.secret_project_name.Permission"]},
        {"AUTHENTICATION_CLASSES": ["nowhere.secret_project_name.Authentication"]},
        {"THROTTLE_CLASSES": ["nowhere.secret_project_name.Throttle"]},
    ],
    ids=lambda value: next(iter(value)),
)
def test_settings_that_are_not_valid_are_the_operators_business(
    browser: Browser,
    standin: StandIn,
    configure: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    method: str,
    path: str,
    invalid: dict[str, Any],
) -> None:
    configure(**invalid)
    answer = browser(method, path)
    assert_error(answer, 503, "not_configured", NOT_SET_UP)
    # The setting is named to the operator, and to nobody else.
    (name,) = invalid
    assert f'CHATKIT_SESSIONS["{name}"]' in caplog.text
    assert standin.requests == []


def test_a_row_that_cannot_be_written_stops_everything(
    browser: Browser, standin: StandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise OperationalError("disk of db-7.internal is full")

    monkeypatch.setattr(ChatSession, "save", fail)
    answer = browser.post("sessions/", {})
    assert_error(answer, 503, "storage_unavailable", NOT_RECORDED)
    assert standin.requests == []
    assert "db-7.internal" in caplog.text


def test_a_row_that_cannot_be_settled_keeps_its_secret(
    browser: Browser, standin: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise OperationalError("disk of db-7.internal is full")

    monkeypatch.setattr(ChatSessionQuerySet, "update", fail)
    answer = browser.post("sessions/", {})
    row = ChatSession.objects.get()
    assert_error(answer, 503, "storage_unavailable", NOT_RECORDED, reference=str(row.reference))
    assert row.status == Status.PENDING
    assert [request.endpoint for request in standin.requests] == [
        "/chatkit/sessions",
        f"/chatkit/sessions/{next(iter(standin.sessions))}/cancel",
    ]


@pytest.mark.parametrize(
    ("error", "status", "body", "headers"),
    [
        (Http404("row 5"), 404, {"detail": "Not found.", "code": "not_found"}, {}),
        (
            PermissionDenied("row 5"),
            403,
            {
                "detail": "You do not have permission to perform this action.",
                "code": "permission_denied",
            },
            {},
        ),
        (
            exceptions.ValidationError({"page": ["Too wide."]}),
            400,
            {"detail": "The request is not valid.", "code": "invalid", "errors": {"page": ["Too wide."]}},
            {},
        ),
        (
            exceptions.PermissionDenied({"page": "Not this one."}),
            403,
            {
                "detail": "You do not have permission to perform this action.",
                "code": "permission_denied",
            },
            {},
        ),
        (
            exceptions.Throttled(wait=1.2),
            429,
            {
                "detail": "Request was throttled. Expected available in 2 seconds.",
                "code": "throttled",
            },
            {"Retry-After": "2"},
        ),
        (
            exceptions.Throttled(),
            429,
            {"detail": "Request was throttled.", "code": "throttled"},
            {"Retry-After": "60"},
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors_of_the_frameworks_take_the_same_shape(
    error: Exception, status: int, body: dict[str, Any], headers: dict[str, str]
) -> None:
    answer = handle_exception(error, {})
    assert answer
    assert (answer.status_code, answer.data) == (status, {"reference": None, **body})
    assert {name: answer.headers[name] for name in headers} == headers


def test_a_defect_is_left_to_django() -> None:
    assert handle_exception(RuntimeError("A defect."), {}) is None


def every_error(base: type[ChatKitSessionsError] = ChatKitSessionsError) -> set[type[ChatKitSessionsError]]:
    return {base}.union(*(every_error(error) for error in base.__subclasses__()))


def test_every_error_of_the_services_has_its_status() -> None:
    codes = {error.code for error in every_error() if "code" in vars(error)} - {ChatKitSessionsError.code}
    for code in codes:
        error = ChatKitSessionsError("Words.", reference="r", retry_after=3.5)
        error.code = code  # type: ignore[misc]  # stands for any error of this code
        answer = handle_exception(error, {})
        assert answer
        assert answer.data == {"detail": "Words.", "code": code, "reference": "r"}
        assert answer.headers["Retry-After"] == "4"
        assert answer.status_code >= 400


def assert_no_upstream_words(answer: Any) -> None:
    """Nothing that the API said, and no key, reached the browser."""
    everything = json.dumps([answer.content.decode(), dict(answer.headers)])
    for words in ("proj_77", "acme", "sk-", "words", "ek_", "elsewhere"):
        assert not re.search(rf"\b{words}", everything), words


def test_the_log_names_the_row(browser: Browser, standin: StandIn, caplog: pytest.LogCaptureFixture) -> None:
    standin.misbehave(refusal(403))
    with caplog.at_level(logging.WARNING, logger="chatkit_sessions"):
        answer = browser.post("sessions/", {})
    assert f"Session {answer.json()['reference']} failed (upstream_rejected, HTTP 403," in caplog.text
