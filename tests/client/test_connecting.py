"""On the way to the API: names, many addresses, connections gone stale, and certificates."""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from urllib3.util.ssl_match_hostname import CertificateError

from chatkit_sessions.client import APIConnectionError, ChatKitClient, reasons, watch
from chatkit_sessions.standin import Fault, StandIn
from tests.raw_server import RawServer

from . import answers
from .conftest import KEY, SESSION, Clock, port_of

Make = Callable[..., ChatKitClient]


# --- addresses


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[int]], None]:
    """Let many.test have these ports of this machine as its addresses, in this order."""
    look_up = socket.getaddrinfo

    def pretend(ports: list[int]) -> None:
        next_ones = iter(ports)

        def found(host: str, port: Any, *arguments: Any) -> Any:
            if host == "many.test":
                return [look_up("127.0.0.1", port, *arguments)[0] for _ in ports]
            # Asked for one of the addresses.
            return look_up(host, next(next_ones), *arguments)

        monkeypatch.setattr(socket, "getaddrinfo", found)

    return pretend


def test_a_host_of_many_addresses_has_no_more_time_than_any_other(
    make: Make, resolve: Callable[[list[int]], None], full_queue: int
) -> None:
    """Where a firewall swallows packets, every address takes its time."""
    resolve([full_queue] * 9)
    started = time.monotonic()
    with pytest.raises(APIConnectionError) as raised:
        make(base_url="http://many.test/v1", timeout=(0.5, 5), deadline=1).create_session(**SESSION)
    assert time.monotonic() - started < 2
    assert (type(raised.value), raised.value.attempts) == (APIConnectionError, 1)


def test_the_next_address_is_tried_where_one_does_not_answer(
    standin: StandIn, make: Make, resolve: Callable[[list[int]], None], full_queue: int
) -> None:
    resolve([full_queue, port_of(standin)])
    client = make(base_url="http://many.test/v1", timeout=(0.2, 5))
    assert client.create_session(**SESSION).attempts == 1
    assert standin.requests[0].headers["host"] == "many.test"


# --- connections gone stale


def test_a_connection_that_the_server_closed_is_replaced(standin: StandIn, make: Make, clock: Clock) -> None:
    client = make(max_retries=0)
    for _ in range(3):
        assert client.create_session(**SESSION).attempts == 1
        standin.close()
        standin.start()
    assert len(standin.sessions) == len(standin.requests) == 3


def test_a_connection_that_closes_just_now_is_got_over_with_one_session(
    standin: StandIn, client: ChatKitClient, clock: Clock
) -> None:
    """The request goes out, and the server, which has had enough of waiting, hangs up on it unread."""
    client.create_session(**SESSION)
    standin.misbehave(Fault(drop=True))
    assert client.create_session(**SESSION).attempts == 2
    assert len(standin.sessions) == 2


def test_a_connection_that_was_idle_for_long_is_not_used_again(
    standin: StandIn, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something on the way may have forgotten it, and says nothing: that costs a read timeout, and a 504."""
    server, client = standin._server, make(max_retries=0)
    assert server is not None
    for _ in range(2):
        client.create_session(**SESSION)
    [first] = server._open
    monkeypatch.setattr(watch, "MAX_IDLE", 0.05)
    time.sleep(0.1)
    client.create_session(**SESSION)
    assert first not in server._open


# --- certificates


def test_a_bundle_of_ones_own_is_trusted(
    make: Make, secured: RawServer, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    created = make(base_url=f"https://127.0.0.1:{secured.port}/v1").create_session(**SESSION)
    assert created.client_secret == answers.SECRET
    assert f"Authorization: Bearer {KEY}".encode() in secured.seen[0]


def test_a_certificate_that_nobody_vouches_for_is_refused_once(
    make: Make, secured: RawServer, clock: Clock
) -> None:
    with pytest.raises(APIConnectionError, match="API: self-signed certificate") as raised:
        make(base_url=f"https://127.0.0.1:{secured.port}/v1").create_session(**SESSION)
    assert (type(raised.value), raised.value.attempts) == (APIConnectionError, 1)
    assert (secured.connections, secured.seen, clock.waits) == (1, [], [])


def test_a_certificate_for_another_name_is_refused(
    make: Make, secured: RawServer, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    with pytest.raises(APIConnectionError, match=r"API: (?i:hostname).*'localhost'"):
        make(base_url=f"https://localhost:{secured.port}/v1").create_session(**SESSION)
    assert secured.seen == []


def test_the_word_of_an_earlier_urllib3_for_another_name_is_understood() -> None:
    """Before version 2 it compares the names itself."""
    failure = requests.ConnectionError(CertificateError("hostname 'a' doesn't match 'b'"))
    assert reasons.reason(failure) == "hostname 'a' doesn't match 'b'"
    assert reasons.is_certificate_refused(failure)


def test_a_handshake_that_nobody_answers_is_no_answer_that_came_late(make: Make, clock: Clock) -> None:
    """Nothing has been asked yet, so it is safe to try again."""
    with RawServer(lambda connection, over: None) as deaf:
        client = make(base_url=f"https://127.0.0.1:{deaf.port}/v1", timeout=(0.2, 5), max_retries=1)
        with pytest.raises(
            APIConnectionError, match=r"^No connection to the API: no answer in time$"
        ) as raised:
            client.create_session(**SESSION)
    assert (type(raised.value), raised.value.attempts, deaf.connections) == (APIConnectionError, 2, 2)


# --- names


@pytest.mark.usefixtures("hanging_names")
def test_a_name_server_that_hangs_is_left_alone_at_the_deadline(make: Make) -> None:
    began = time.monotonic()
    with pytest.raises(APIConnectionError, match="not in time"):
        make(base_url="http://api.test/v1", deadline=0.3).create_session(**SESSION)
    assert time.monotonic() - began < 5


def test_a_name_that_is_not_found_is_asked_for_once_an_attempt(
    make: Make, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def fail(name: str, *args: Any, **kwargs: Any) -> Any:
        asked.append(name)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(APIConnectionError, match="Name or service not known"):
        make(base_url="http://api.test/v1", max_retries=1).create_session(**SESSION)
    assert asked == ["api.test"] * 2
