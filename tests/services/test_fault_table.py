"""The fault table: from a socket of the API's to the browser's answer and the audit row, in time."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from chatkit_sessions.models import ChatSession
from chatkit_sessions.standin import Fault, StandIn
from tests.raw_server import RawServer, saying
from tests.tls import server_context

from .conftest import KEY
from .fault_rows import ANSWER, ELSEWHERE, IN_TWO_MINUTES, ROWS, SECRET, SOON, Row

pytestmark = pytest.mark.slow

DEADLINE = 2.0
Configure = Callable[..., None]
UNAVAILABLE = Row(status=503, code="upstream_unavailable", retry_after=("5",), attempts=2)


@pytest.fixture(autouse=True)
def _impatient(configure: Configure) -> None:
    configure(TIMEOUT=(1, 1), DEADLINE=DEADLINE, MAX_RETRIES=1, COOLDOWN=None)


@pytest.fixture
def elsewhere() -> Iterator[StandIn]:
    """Another server, to which nothing may be sent."""
    with StandIn() as other:
        yield other


def http_date(seconds: float) -> str:
    """Return the moment after so many seconds, as headers name it."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


def made_now(fault: Fault, elsewhere: StandIn) -> Fault:
    """Fill in what is known only once the test runs."""
    known = {
        ELSEWHERE: f"{elsewhere.base_url}/chatkit/sessions",
        IN_TWO_MINUTES: http_date(120),
        SOON: http_date(1),
    }
    return replace(fault, headers={name: known.get(value, value) for name, value in fault.headers.items()})


def post(user: User) -> tuple[Any, float]:
    """Ask for a session as a browser does; return the answer and the seconds it took."""
    browser = Client()
    browser.force_login(user)
    started = time.monotonic()
    answer = browser.post("/api/chatkit/sessions/", {}, "application/json")
    return answer, time.monotonic() - started


def hold(answer: Any, seconds: float, expected: Row, secrets: list[str]) -> None:
    """Hold an answer and the audit row against a row of the table."""
    session = ChatSession.objects.get()
    said = answer.json()
    assert (answer.status_code, said.get("code")) == (expected.status, expected.code)
    assert answer.headers.get("Retry-After") in (expected.retry_after or (None,))
    assert (session.attempts, session.upstream_status) == (expected.attempts, expected.upstream)
    assert expected.at_least <= seconds <= DEADLINE + 1
    assert "Location" not in answer.headers
    row = str(ChatSession.objects.values())
    everything = f"{answer.content.decode()} {dict(answer.headers)}"
    if expected.status == 201:
        assert said["client_secret"] in secrets
        assert (session.status, session.error_code) == ("active", "")
    else:
        assert said["reference"] == str(session.reference)
        assert (session.status, session.error_code) == ("failed", expected.code)
        assert (session.secret_digest, session.upstream_id, session.response) == ("", "", {})
        assert not [secret for secret in secrets if secret in everything]
    assert not [secret for secret in (*secrets, KEY) if secret in row]
    assert KEY not in everything


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.fault])
def test_a_fault_of_the_api_ends_as_the_table_says(
    user: User, api: StandIn, elsewhere: StandIn, name: str
) -> None:
    row = ROWS[name]
    assert row.fault
    api.misbehave(made_now(row.fault, elsewhere), times=row.times)
    answer, seconds = post(user)
    made = [session["client_secret"] for session in api.sessions.values()]
    hold(answer, seconds, row, [SECRET, *filter(None, made)])
    assert (len(api.requests), elsewhere.requests) == (row.attempts, [])


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.speak])
def test_a_server_that_is_no_api_ends_as_the_table_says(user: User, configure: Configure, name: str) -> None:
    row = ROWS[name]
    assert row.speak
    with RawServer(row.speak) as server:
        configure(BASE_URL=f"http://127.0.0.1:{server.port}/v1")
        answer, seconds = post(user)
    hold(answer, seconds, row, [SECRET])
    assert len(server.seen) == row.attempts


def test_a_refused_connection_is_tried_again(user: User, configure: Configure) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    configure(BASE_URL=f"http://127.0.0.1:{port}/v1")
    hold(*post(user), UNAVAILABLE, [])


def test_a_connection_that_nobody_takes_is_tried_again(
    user: User, configure: Configure, full_queue: int
) -> None:
    configure(BASE_URL=f"http://127.0.0.1:{full_queue}/v1", TIMEOUT=(0.3, 1))
    hold(*post(user), UNAVAILABLE, [])


def test_a_name_that_is_none_is_tried_again(user: User, configure: Configure) -> None:
    configure(BASE_URL="http://no-such-host.invalid/v1")
    hold(*post(user), UNAVAILABLE, [])


@pytest.mark.usefixtures("hanging_names")
def test_a_name_server_that_hangs_is_no_connection(user: User, configure: Configure) -> None:
    configure(BASE_URL="http://api.test/v1")
    hold(*post(user), replace(UNAVAILABLE, attempts=1), [])


def test_a_handshake_that_nobody_answers_is_no_connection(user: User, configure: Configure) -> None:
    with RawServer(lambda connection, over: None) as deaf:
        configure(BASE_URL=f"https://127.0.0.1:{deaf.port}/v1", TIMEOUT=(0.5, 1))
        answer, seconds = post(user)
    hold(answer, seconds, UNAVAILABLE, [])
    assert deaf.connections == 2


@pytest.fixture
def secured(certificate: tuple[Path, Path], configure: Configure) -> Iterator[RawServer]:
    """An API behind a certificate that signed itself."""
    good = saying("200 OK", json.dumps(ANSWER).encode())
    with RawServer(good, tls=server_context(certificate)) as server:
        configure(BASE_URL=f"https://127.0.0.1:{server.port}/v1")
        yield server


def test_a_certificate_that_nobody_vouches_for_is_no_connection(user: User, secured: RawServer) -> None:
    hold(*post(user), replace(UNAVAILABLE, attempts=1), [])
    assert secured.seen == []


def test_a_certificate_of_the_sites_own_bundle_is_trusted(
    user: User, secured: RawServer, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    hold(*post(user), Row(status=201, code=None, upstream=200), [SECRET])


def test_a_bundle_that_is_not_there_is_no_connection(
    user: User, secured: RawServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    answer, seconds = post(user)
    attempts = ChatSession.objects.get().attempts
    hold(answer, seconds, replace(UNAVAILABLE, attempts=attempts), [])
    assert secured.seen == []


@pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "502 Bad Gateway"])
def test_a_proxy_that_refuses_is_no_connection(
    user: User, configure: Configure, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    configure(BASE_URL="https://api.test/v1")
    with RawServer(saying(status)) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        hold(*post(user), UNAVAILABLE, [])


def test_a_proxy_that_hangs_is_no_connection(
    user: User, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(BASE_URL="https://api.test/v1", TIMEOUT=(0.5, 1))
    with RawServer(lambda connection, over: over.wait(10)) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        hold(*post(user), UNAVAILABLE, [])
        assert proxy.connections == 2


def test_an_entry_of_netrc_does_not_replace_the_key(
    user: User, api: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ada password another\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    answer, seconds = post(user)
    [session] = api.sessions.values()
    hold(answer, seconds, Row(status=201, code=None, upstream=200), [session["client_secret"]])
    assert api.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_connection_that_the_api_closed_meanwhile_is_replaced(user: User, api: StandIn) -> None:
    assert post(user)[0].status_code == 201
    ChatSession.objects.all().delete()
    api.close()
    api.start()
    answer, seconds = post(user)
    made = [session["client_secret"] for session in api.sessions.values()]
    hold(answer, seconds, Row(status=201, code=None, upstream=200), made)


def test_while_it_cools_down_nothing_is_written_or_sent(
    user: User, api: StandIn, configure: Configure
) -> None:
    configure(COOLDOWN=(1, 30), MAX_RETRIES=0)
    api.misbehave(Fault(status=503))
    assert post(user)[0].status_code == 503
    ChatSession.objects.all().delete()
    answer, seconds = post(user)
    assert (answer.status_code, answer.json()["code"]) == (503, "upstream_unavailable")
    assert (answer.json()["reference"], answer.headers["Retry-After"]) == (None, "30")
    assert (ChatSession.objects.count(), len(api.requests)) == (0, 1)
    assert seconds < 1


def test_faults_one_after_the_other_are_counted_together(
    user: User, api: StandIn, configure: Configure
) -> None:
    configure(MAX_RETRIES=4)
    api.misbehave(Fault(drop=True))
    api.misbehave(Fault(status=503, headers={"retry-after-ms": "20"}))
    api.misbehave(Fault(status=429, headers={"Retry-After": "0"}))
    answer, seconds = post(user)
    [session] = api.sessions.values()
    hold(answer, seconds, Row(status=201, code=None, upstream=200, attempts=4), [session["client_secret"]])


def test_retries_without_end_end_at_the_deadline(user: User, api: StandIn, configure: Configure) -> None:
    """After waits of at least 0.375 and 0.75 s, one of at least 1.5 s does not fit."""
    configure(MAX_RETRIES=10)
    api.misbehave(Fault(status=500), times=99)
    answer, seconds = post(user)
    sent = len(api.requests)
    assert 2 <= sent <= 3
    expected = replace(UNAVAILABLE, upstream=500, attempts=sent)
    hold(answer, seconds, expected, [])
