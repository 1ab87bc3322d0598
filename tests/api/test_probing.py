"""What people send who look for a way in: into headers and logs, to others' sessions, to other sites."""

import logging
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.views.debug import ExceptionReporter
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.settings import api_settings

from chatkit_sessions.models import ChatSession
from chatkit_sessions.standin import StandIn

from .conftest import ENDPOINTS, Browser, session_of

Configure = Callable[..., None]
INJECTED = "\r\nX-Injected: yes\r\n"


class Broken(BaseAuthentication):
    """A site's own class with a defect."""

    def authenticate(self, request: Request) -> None:
        raise RuntimeError("A defect.")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """What the package logged."""
    with caplog.at_level(logging.DEBUG):
        yield lambda: [
            record.getMessage() for record in caplog.records if record.name.startswith("chatkit_sessions")
        ]


# --- injection


def spoken(answer: Any) -> str:
    return "\n".join(f"{name}: {value}" for name, value in answer.headers.items()).lower()


@pytest.mark.parametrize("text", [INJECTED, "\u2028X-Injected: yes", "\x85X-Injected: yes", "\x1b[2J"])
def test_no_line_of_ours_is_made_by_a_browser(
    browser: Browser, configure: Configure, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    configure(CLIENT_STATE_VARIABLES=["page"])
    bodies: list[dict[str, Any]] = [
        {"workflow": f"a{text}"},
        {"workflow": {"id": f"a{text}"}},
        {"current_client_secret": f"ek_1{text}"},
        {"state_variables": {f"a{text}": 1}},
        {"state_variables": {f"a{text}\x00": 1}},
        {"state_variables": {"page": f"a{text}"}},
        {f"a{text}": 1},
    ]
    named, quoted = f"a{text}b", quote(f"a{text}b")
    with caplog.at_level(logging.DEBUG):
        answers = [browser.post("sessions/", body) for body in bodies]
        for method, path in ENDPOINTS:
            found = path.replace("cksess_none", quoted).replace("cthr_none", quoted)
            query = "&".join(f"{name}={quoted}" for name in ("after", "before", "order", "workflow", "x"))
            answers.append(browser(method, f"{found}?{query}", **{"User-Agent": named}))
    assert not [answer for answer in answers if "injected" in spoken(answer)]
    assert {answer.status_code for answer in answers} <= {200, 201, 400, 404}
    ours = [record for record in caplog.records if record.name.startswith("chatkit")]
    assert ours
    assert not [record for record in ours if re.search(r"[\r\n\x85\u2028\x1b]", record.getMessage())]


@pytest.mark.parametrize("proxies", [None, 1])
def test_headers_that_lie_are_kept_as_text_of_bounded_length(
    browser: Browser,
    standin: StandIn,
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
    proxies: int | None,
) -> None:
    configure(RECORD_CLIENT=True)
    monkeypatch.setattr(api_settings, "NUM_PROXIES", proxies, raising=False)
    agent = f"a{INJECTED}\x00" + "x" * 10_000
    answer = browser(
        "POST", "sessions/", {}, **{"User-Agent": agent, "X-Forwarded-For": f"192.0.2.9{INJECTED}"}
    )
    row = ChatSession.objects.get()
    assert answer.status_code == 201
    assert "injected" not in spoken(answer)
    # REST framework takes white space around an address for none of it; what follows it is no address.
    assert row.ip_address == (None if proxies else "127.0.0.1")
    assert row.user_agent == agent.replace("\x00", "")[:255]
    [request] = standin.requests
    assert not [name for name in request.headers if "injected" in name]


def test_an_identifier_injects_no_header(browser: Browser, standin: StandIn, configure: Configure) -> None:
    identifier = f"ada{INJECTED}bob"
    configure(USER_IDENTIFIER=lambda user, request: identifier)
    answers = [browser.post("sessions/", {}), browser.get("threads/"), browser.get("sessions/")]
    assert [answer.status_code for answer in answers] == [201, 200, 200]
    issued, listed = standin.requests
    assert (issued.json["user"], listed.query["user"]) == (identifier, identifier)
    assert not [name for name in (*issued.headers, *listed.headers) if "injected" in name]
    assert not [answer for answer in answers if "injected" in spoken(answer)]


# --- others


def test_nothing_tells_another_persons_id_from_none(
    ada: User, bob: User, browser: Browser, standin: StandIn
) -> None:
    theirs = session_of(bob)
    nameless = session_of(bob, upstream_id="")
    thread = standin.add_thread(user=str(bob.pk))["id"]
    pairs = [
        *(
            (path, name, "cksess_none")
            for path in SESSION_PATHS
            for name in (theirs.upstream_id, theirs.reference)
        ),
        *((path, nameless.reference, "cksess_none") for path in SESSION_PATHS),
        *((path, thread, "cthr_none") for path in THREAD_PATHS),
    ]
    for (method, path), known, unknown in pairs:
        other, none = (browser(method, path.format(name)) for name in (known, unknown))
        assert other.status_code in {400, 404}
        assert (other.status_code, other.content) == (none.status_code, none.content)
        assert dict(other.headers) == dict(none.headers)
    assert ChatSession.objects.running().count() == 2
    assert thread in standin.threads


SESSION_PATHS = (
    ("GET", "sessions/{}/"),
    ("POST", "sessions/{}/cancel/"),
    ("GET", "sessions/?after={}"),
    ("GET", "sessions/?before={}"),
)
THREAD_PATHS = (("GET", "threads/{}/"), ("DELETE", "threads/{}/"), ("GET", "threads/{}/items/"))


@pytest.mark.parametrize("thief", ["bob", ""])
def test_a_stolen_secret_is_worth_nothing_here(
    browser: Browser,
    bob: User,
    standin: StandIn,
    configure: Configure,
    lines: Callable[[], list[str]],
    thief: str,
) -> None:
    configure(ALLOW_ANONYMOUS=True)
    stolen = browser.issue()
    answer = Browser(bob if thief else None).post(
        "sessions/", {"current_client_secret": stolen["client_secret"]}
    )
    fresh = answer.json()
    row = ChatSession.objects.get(upstream_id=stolen["id"])
    assert (answer.status_code, fresh["reused"]) == (201, False)
    assert not [
        value for value in (stolen["client_secret"], stolen["id"]) if value in answer.content.decode()
    ]
    assert fresh["user"] == str(bob.pk) if thief else fresh["user"].startswith("visitor-")
    assert (row.status, row.handed_out_count) == ("active", 1)
    [warning] = [line for line in lines() if "somebody else" in line]
    assert warning == (
        f"Session {row.reference} was asked for with its secret by somebody else: {fresh['user']!r}."
    )
    assert not [line for line in lines() if stolen["client_secret"] in line]


# --- elsewhere


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
@pytest.mark.parametrize("address", ["https://evil.example/", "//evil.example", "javascript:alert(1)"])
def test_no_endpoint_sends_a_browser_elsewhere(
    browser: Browser, standin: StandIn, method: str, path: str, address: str
) -> None:
    query = "&".join(f"{name}={quote(address)}" for name in ("next", "redirect_uri", "return_to", "url"))
    headers = {"Referer": address, "X-Forwarded-Host": "evil.example", "X-Original-URL": address}
    answer = browser(method, f"{path}?{query}", **headers)
    assert answer.status_code in {200, 201, 404}
    assert "Location" not in answer.headers
    assert "evil" not in f"{spoken(answer)} {answer.content.decode()}"


def test_what_a_form_holds_is_in_no_report_of_an_error(
    browser: Browser, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    configure(AUTHENTICATION_CLASSES=[Broken])
    browser.http.raise_request_exception = False
    secret = "".join(("ek_", "held_by_the_browser"))  # in two parts, since the report quotes this source too
    answer = browser.http.post("/api/chatkit/sessions/", {"current_client_secret": secret})
    assert answer.status_code == 500
    [record] = [record for record in caplog.records if record.name == "django.request"]
    request: Any = vars(record)["request"]
    assert record.exc_info
    report = ExceptionReporter(request, *record.exc_info).get_traceback_text()
    assert "A defect." in report
    assert "current_client_secret = '********************'" in report
    assert secret not in report
