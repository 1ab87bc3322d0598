"""An answer that drips is cut at the deadline, wherever it drips."""

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from chatkit_sessions.client import APIError, APITimeoutError, ChatKitClient
from chatkit_sessions.client.watch import Watch, WatchedAdapter, watch
from chatkit_sessions.standin import Fault, StandIn
from tests.raw_server import RawServer, saying
from tests.tls import server_context

from .conftest import SESSION

Make = Callable[..., ChatKitClient]


@pytest.mark.parametrize(
    "fault", [Fault(drip_headers=0.2), Fault(drip=0.2)], ids=["in its headers", "in its body"]
)
def test_a_dripping_answer_is_cut_at_the_deadline_and_not_asked_for_again(
    standin: StandIn, make: Make, fault: Fault
) -> None:
    standin.misbehave(fault, times=3)
    started = time.monotonic()
    with pytest.raises(APITimeoutError, match=r"^The answer did not end in time\.$") as raised:
        make(deadline=0.5).create_session(**SESSION)
    assert 0.5 <= time.monotonic() - started < 1.5
    assert (raised.value.attempts, len(standin.requests)) == (1, 1)


def test_one_that_drips_on_a_connection_used_before_is_cut_too(standin: StandIn, make: Make) -> None:
    client = make(deadline=0.5)
    client.create_session(**SESSION)
    standin.misbehave(Fault(drip_headers=0.2))
    started = time.monotonic()
    with pytest.raises(APITimeoutError):
        client.create_session(**SESSION)
    assert time.monotonic() - started < 1.5


def test_one_that_drips_through_tls_is_cut_too(
    certificate: tuple[Path, Path], make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drip(connection: socket.socket, over: threading.Event) -> None:
        for piece in b"HTTP/1.1 200 OK\r\nX-Drip: aaaaaaaaaaaaaaaaaaaaaaaaaaa":
            connection.sendall(bytes([piece]))
            over.wait(0.1)

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    with RawServer(drip, tls=server_context(certificate)) as server:
        started = time.monotonic()
        with pytest.raises(APITimeoutError):
            make(base_url=f"https://127.0.0.1:{server.port}/v1", deadline=0.5).create_session(**SESSION)
        assert time.monotonic() - started < 1.5


def test_a_request_that_is_taken_slowly_is_cut_too(standin: StandIn, make: Make) -> None:
    """Each piece that the other side takes begins the socket's own time-out anew."""

    def take_slowly(connection: socket.socket, over: threading.Event) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(50):
            connection.recv(4096)
            over.wait(0.05)

    with SlowReader(take_slowly) as server:
        client = make(base_url=f"http://127.0.0.1:{server.port}/v1", deadline=0.5)
        variables = {f"v{number}": "x" * 1_000_000 for number in range(8)}
        started = time.monotonic()
        with pytest.raises(APIError):
            client.create_session(user="ada", workflow={"id": "wf_1", "state_variables": variables})
        assert time.monotonic() - started < 1.5


class SlowReader(RawServer):
    """A server that does not read requests before it speaks."""

    def converse(self, connection: socket.socket) -> None:
        """Leave the reading to the test."""
        self._speak(connection, self._over)


def test_the_connection_that_was_cut_is_not_used_again(standin: StandIn, make: Make) -> None:
    standin.misbehave(Fault(drip_headers=0.2))
    client = make(deadline=0.5)
    with pytest.raises(APITimeoutError):
        client.create_session(**SESSION)
    assert client.create_session(**SESSION).status == "active"


def test_a_socket_that_comes_too_late_is_shut_at_once() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        late = Watch()
        late.end()
        late.guard(ours)
        assert (late.is_over, theirs.recv(1)) == (True, b"")


def test_a_socket_that_is_closed_already_is_left_alone() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        late = Watch()
        late.guard(ours)
        ours.close()
        late.end()
    assert late.is_over


def test_a_socket_in_another_one_is_shut_down() -> None:
    """TLS through an encrypted proxy: urllib3 wraps what cannot be wrapped twice."""

    class Wrapped:
        def __init__(self, inner: socket.socket) -> None:
            self.socket = inner

    ours, theirs = socket.socketpair()
    with ours, theirs:
        late = Watch()
        wrapped: Any = Wrapped(ours)
        late.guard(wrapped)
        late.end()
        assert theirs.recv(1) == b""


def test_a_request_that_nobody_watches_goes_through(standin: StandIn) -> None:
    with requests.Session() as session:
        session.mount("http://", WatchedAdapter())
        assert session.get(standin.base_url, timeout=5).status_code == 404


def test_a_tunnel_that_nobody_watches_is_made_all_the_same() -> None:
    with RawServer(saying("200 Connection established")) as proxy, requests.Session() as session:
        session.mount("https://", WatchedAdapter())
        proxies = {"https": f"http://127.0.0.1:{proxy.port}"}
        # What comes behind it hangs up.
        with pytest.raises(requests.ConnectionError):
            session.get("https://api.test/", proxies=proxies, timeout=5)
    assert len(proxy.seen) == 1


def test_requests_through_a_proxy_are_watched_too(standin: StandIn, elsewhere: StandIn) -> None:
    elsewhere.misbehave(Fault(drip_headers=0.2))
    proxy = elsewhere.base_url.removesuffix("/v1")
    with requests.Session() as session, watch(0.4) as watching:
        session.mount("http://", WatchedAdapter())
        with pytest.raises(requests.ConnectionError):
            session.get(standin.base_url, proxies={"http": proxy}, timeout=5)
    assert watching.is_over


def test_a_session_of_ones_own_is_not_watched_but_its_body_is_cut_too(standin: StandIn, make: Make) -> None:
    standin.misbehave(Fault(drip=0.02))
    with requests.Session() as own, pytest.raises(APITimeoutError, match=r"^The answer did not end in time"):
        make(deadline=0.4, session=own).create_session(**SESSION)
