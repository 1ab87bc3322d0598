"""What people who mean no good send as a body: nothing is written, and nothing is sent."""

import bz2
import json
import logging
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from django.contrib.auth.models import User
from django.core.handlers.asgi import ASGIHandler

from chatkit_sessions.models import ChatSession, PolicyOverride, Workflow
from chatkit_sessions.standin import StandIn

from .conftest import JSON, Browser, assert_error, assert_invalid, session_of

SESSIONS = "/api/chatkit/sessions/"
Configure = Callable[..., None]
NO_SUCH_WORKFLOW = "There is no such workflow for you. Ask the site's operator if there should be."


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """What the package logged."""
    with caplog.at_level(logging.DEBUG):
        yield lambda: [
            record.getMessage() for record in caplog.records if record.name.startswith("chatkit_sessions")
        ]


def assert_nothing_happened(standin: StandIn) -> None:
    assert standin.requests == []
    assert not ChatSession.objects.exists()


# --- bodies


@pytest.mark.parametrize("length", ["", "none", "2"])
def test_only_so_much_is_read_as_the_length_says(browser: Browser, standin: StandIn, length: str) -> None:
    """Without a length there is no body; what follows is another request's."""
    body = b"{}" + b'"workflow": "nowhere"' * 100_000
    answer = browser.http.generic("POST", SESSIONS, body, JSON, CONTENT_LENGTH=length)
    assert answer.status_code == 201


IN_CHUNKS = {"body": ["Must not come in chunks: send it with Content-Length."]}


@pytest.mark.parametrize("body", [b'{"workflow": "nowhere"}', b"{}", b""])
def test_a_body_in_chunks_is_refused_and_not_taken_for_none(
    browser: Browser, standin: StandIn, body: bytes
) -> None:
    answer = browser.http.generic(
        "POST", SESSIONS, body, JSON, CONTENT_LENGTH="", HTTP_TRANSFER_ENCODING="chunked"
    )
    assert_invalid(answer, **IN_CHUNKS)
    assert_nothing_happened(standin)


@pytest.mark.parametrize(
    ("header", "status", "errors"),
    [
        ((b"transfer-encoding", b"chunked"), 400, IN_CHUNKS),
        ((b"content-length", b"23"), 404, None),  # it was read: there is no such workflow
    ],
)
@pytest.mark.django_db(transaction=True)  # it answers in a thread of its own
def test_a_body_in_chunks_is_refused_by_an_asynchronous_server_too(
    ada: User,
    standin: StandIn,
    configure: Configure,
    header: tuple[bytes, bytes],
    status: int,
    errors: Any,
) -> None:
    configure(AUTHENTICATION_CLASSES=["tests.api.test_access.LetterAuthentication"])
    answer = async_to_sync(_post_in_pieces)([b'{"workflow": ', b'"nowhere"}'], header, (b"x-letter", b"ada"))
    assert (answer["status"], answer["body"].get("errors")) == (status, errors)
    assert_nothing_happened(standin)


async def _post_in_pieces(pieces: list[bytes], *headers: tuple[bytes, bytes]) -> Any:
    declared = [(b"host", b"testserver"), (b"content-type", JSON.encode()), *headers]
    scope = {"type": "http", "method": "POST", "path": SESSIONS, "query_string": b"", "headers": declared}
    server: Any = ApplicationCommunicator(ASGIHandler(), scope)  # type: ignore[no-untyped-call]  # as it is
    for piece in pieces:
        await server.send_input({"type": "http.request", "body": piece, "more_body": True})
    await server.send_input({"type": "http.request"})
    start, rest = await server.receive_output(), await server.receive_output()
    await server.wait()
    return {"status": start["status"], "body": json.loads(rest["body"])}


def test_a_length_that_cannot_be_is_refused(browser: Browser, standin: StandIn) -> None:
    answer = browser.http.generic("POST", SESSIONS, b"{}", JSON, CONTENT_LENGTH="-1")
    assert_error(answer, 400, "invalid", "JSON parse error - Expecting value: line 1 column 1 (char 0)")
    assert_nothing_happened(standin)


@pytest.mark.parametrize(
    ("charset", "compress"), [("bz2_codec", bz2.compress), ("zlib_codec", zlib.compress)]
)
def test_a_charset_decompresses_nothing(
    browser: Browser, standin: StandIn, charset: str, compress: Callable[[bytes], bytes]
) -> None:
    body = compress(b'{"workflow": "default"}')
    answer = browser("POST", "sessions/", body, content_type=f"{JSON}; charset={charset}")
    assert answer.json()["detail"].startswith("JSON parse error - 'utf-8' codec can't decode byte")
    assert_error(answer, 400, "invalid", answer.json()["detail"])
    assert_nothing_happened(standin)


@pytest.mark.parametrize(
    "content_type", [";;;", "text/html", "application/xml", "application/json/json", "\x00", f"{JSON}-seq"]
)
def test_what_is_not_json_is_refused_in_our_shape(
    browser: Browser, standin: StandIn, content_type: str
) -> None:
    answer = browser("POST", "sessions/", b"{}", content_type=content_type)
    detail = f'Unsupported media type "{content_type}" in request.'
    assert_error(answer, 415, "unsupported_media_type", detail)
    assert_nothing_happened(standin)


def test_thousands_of_keys_are_nothing_to_us(ada: User, browser: Browser, standin: StandIn) -> None:
    issued = browser.issue(**{f"key{number}": number for number in range(3_000)})
    assert issued["user"] == str(ada.pk)
    [request] = standin.requests
    assert request.json == {"user": str(ada.pk), "workflow": {"id": "wf_tests"}}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({f"k{number}": 1 for number in range(4_000)}, "must have at most 64 entries, not 4000."),
        (
            {"page": json.loads("[" * 800 + "]" * 800)},
            "page must be a string, a number or a boolean, not list.",
        ),
        ({"page": 10**4000}, "page must be a finite number."),
        ({"page": -(10**400)}, "page must be a finite number."),
        ({"\u202egnp.exe": 1}, r"must not have '\u202egnp.exe': CLIENT_STATE_VARIABLES does not list it."),
        ({"pag\u0435": 1}, "must not have 'pag\u0435': CLIENT_STATE_VARIABLES does not list it."),
        ({"page\x1b[2J\x00": 1}, "page?[2J? its name must be valid text without null characters."),
    ],
    ids=["keys", "depth", "number", "negative number", "right to left", "homoglyph", "escape"],
)
def test_state_variables_from_a_stranger_are_bounded(
    browser: Browser, standin: StandIn, configure: Configure, body: dict[str, Any], reason: str
) -> None:
    configure(CLIENT_STATE_VARIABLES=["page"])
    assert_invalid(browser.post("sessions/", {"state_variables": body}), state_variables=[reason])
    assert_nothing_happened(standin)


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"1" * 200, b"-0", b"1.0"])
def test_a_number_is_no_workflow(browser: Browser, standin: StandIn, number: bytes) -> None:
    answer = browser("POST", "sessions/", b'{"workflow": %s}' % number)
    assert_error(answer, 404, "workflow_not_found", NO_SUCH_WORKFLOW)
    assert_nothing_happened(standin)


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1" * 5_000])
def test_what_is_no_number_of_json_is_refused(browser: Browser, standin: StandIn, number: bytes) -> None:
    answer = browser("POST", "sessions/", b'{"state_variables": {"page": %s}}' % number)
    assert answer.json()["detail"].startswith("JSON parse error - ")
    assert_error(answer, 400, "invalid", answer.json()["detail"])
    assert_nothing_happened(standin)


def test_of_a_key_that_comes_twice_the_last_one_counts(browser: Browser, standin: StandIn) -> None:
    """As in the browsers themselves, so that nobody in between reads something else than we do."""
    answer = browser("POST", "sessions/", b'{"workflow": "default", "workflow": "nowhere"}')
    assert_error(answer, 404, "workflow_not_found", NO_SUCH_WORKFLOW)
    assert browser("POST", "sessions/", b'{"workflow": "nowhere", "workflow": "default"}').status_code == 201


LOOKALIKES = {
    "wide": "\uff46inance",
    "ligature": "\ufb01nance",
    "cyrillic": "fin\u0430nce",
    "combining": "finance\u0301",
    "zero width": "fin\u200bance",
    "right to left": "\u202efinance",
    "capital": "Finance",
    "soft hyphen": "fi\u00adnance",
    "wide id": "wf_\uff46inance",
    "space inside": "fin ance",
    "quoted": "finance' OR '1'='1",
    "pattern": "finan%",
}


@pytest.mark.parametrize("name", LOOKALIKES.values(), ids=LOOKALIKES)
def test_a_name_that_only_looks_like_a_workflows_is_none(
    browser: Browser, standin: StandIn, configure: Configure, name: str
) -> None:
    configure(WORKFLOWS={"finance": {"id": "wf_finance"}}, DEFAULT_WORKFLOW="finance")
    Workflow.objects.create(slug="finance", name="Finance")
    answer = browser.post("sessions/", {"workflow": name})
    assert_error(answer, 404, "workflow_not_found", NO_SUCH_WORKFLOW)
    assert_nothing_happened(standin)


# --- floods


def test_a_flood_of_refused_requests_fills_nothing(
    browser: Browser, standin: StandIn, configure: Configure, lines: Callable[[], list[str]]
) -> None:
    configure(CLIENT_STATE_VARIABLES=["page"])
    bodies: list[dict[str, Any]] = [
        {"workflow": "w" * 255},
        {"state_variables": {"\U000e0001" * 64: "x" * 60_000}},
        {"state_variables": {"page": {"x": ["y"] * 10_000}}},
        {"state_variables": {"k" * 60_000: 1}},
    ]
    codes = {browser.post("sessions/", bodies[number % 4]).status_code for number in range(200)}
    assert codes == {400, 404}
    assert_nothing_happened(standin)
    assert len(lines()) == 200
    assert max(map(len, lines())) < 600


FLOOD = 50
# The longest thing that anybody may send along.
LONGEST = {"current_client_secret": "e" * 4096, "workflow": "default", "x": "y" * 50_000}


def flood(browser: Browser, code: str) -> None:
    """Send many requests, each of which is refused with this code."""
    answers = [
        browser("POST", "sessions/", LONGEST, **{"User-Agent": "u" * 5_000, "X-Forwarded-For": "1" * 5_000})
        for _ in range(FLOOD)
    ]
    assert {answer.json()["code"] for answer in answers} == {code}


def assert_bounded(lines: list[str], count: int) -> None:
    assert len(lines) == count
    assert not [line for line in lines if len(line) > 600]


def over_the_hour(ada: User) -> None:
    session_of(ada)


def blocked(ada: User) -> None:
    PolicyOverride.objects.create(user=ada, is_blocked=True)


@pytest.mark.parametrize(("refuse", "code"), [(over_the_hour, "session_limit_reached"), (blocked, "blocked")])
def test_a_flood_of_an_account_that_gets_nothing_fills_nothing(
    ada: User,
    browser: Browser,
    standin: StandIn,
    configure: Configure,
    lines: Callable[[], list[str]],
    refuse: Callable[[User], None],
    code: str,
) -> None:
    configure(MAX_SESSIONS_PER_HOUR=1)
    refuse(ada)
    before = ChatSession.objects.count()
    flood(browser, code)
    assert (standin.requests, ChatSession.objects.count()) == ([], before)
    assert_bounded(lines(), FLOOD)


def test_a_flood_of_visitors_fills_no_more_than_their_rate(
    db: None, standin: StandIn, configure: Configure, lines: Callable[[], list[str]]
) -> None:
    configure(ALLOW_ANONYMOUS=True, ANONYMOUS_RATE="1/hour")
    Browser().issue()
    issued = len(lines())
    flood(Browser(), "throttled")
    assert (len(standin.requests), ChatSession.objects.count()) == (1, 1)
    assert_bounded(lines()[issued:], FLOOD)


@pytest.mark.parametrize("who", ["an account", "a visitor"])
def test_a_flood_without_the_csrf_token_fills_nothing(
    ada: User, standin: StandIn, configure: Configure, lines: Callable[[], list[str]], who: str
) -> None:
    configure(ALLOW_ANONYMOUS=True)
    flood(Browser(ada if who == "an account" else None, enforce_csrf_checks=True), "permission_denied")
    assert_nothing_happened(standin)
    assert_bounded(lines(), 0)
