"""What people who mean no good send as a body: nothing is written, and nothing is sent."""

import bz2
import json
import logging
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User

from chatkit_sessions.models import ChatSession, Workflow
from chatkit_sessions.standin import StandIn

from .conftest import JSON, Browser, assert_error, assert_invalid

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
    """Without a length, as when a body comes in chunks, a body is none; what follows it is another's."""
    body = b"{}" + b'"workflow": "nowhere"' * 100_000
    answer = browser.http.generic("POST", "/api/chatkit/sessions/", body, JSON, CONTENT_LENGTH=length)
    assert answer.status_code == 201


def test_a_length_that_cannot_be_is_refused(browser: Browser, standin: StandIn) -> None:
    answer = browser.http.generic("POST", "/api/chatkit/sessions/", b"{}", JSON, CONTENT_LENGTH="-1")
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
