"""Through proxies: passing on, tunnels and SOCKS."""

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from chatkit_sessions.client import APIConnectionError, APITimeoutError, ChatKitClient
from chatkit_sessions.standin import Fault, StandIn
from tests.raw_server import RawServer, saying

from . import answers
from .conftest import KEY, SESSION, Clock, port_of
from .socks import SocksProxy, join

Make = Callable[..., ChatKitClient]


def test_a_proxy_passes_the_request_on(standin: StandIn, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(connection: socket.socket, over: threading.Event) -> None:
        with socket.create_connection(("127.0.0.1", port_of(standin)), timeout=5) as api:
            head, _, body = proxy.seen[-1].partition(b"\r\n\r\n")
            head = head.replace(b"http://api.test", b"", 1).replace(b"keep-alive", b"close")
            api.sendall(head + b"\r\n\r\n" + body)
            while piece := api.recv(65536):
                connection.sendall(piece)

    with RawServer(forward) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        created = make(base_url="http://api.test/v1").create_session(**SESSION)
    assert created.id in standin.sessions
    assert proxy.seen[0].startswith(b"POST http://api.test/v1/chatkit/sessions HTTP/1.1\r\n")
    assert standin.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("exempt", ["127.0.0.1", "*", "example.com,127.0.0.1"])
def test_no_proxy_is_respected(
    standin: StandIn, elsewhere: StandIn, make: Make, monkeypatch: pytest.MonkeyPatch, exempt: str
) -> None:
    monkeypatch.setenv("http_proxy", elsewhere.base_url.removesuffix("/v1"))
    monkeypatch.setenv("no_proxy", exempt)
    make().create_session(**SESSION)
    assert (len(standin.requests), elsewhere.requests) == (1, [])


@pytest.mark.parametrize("status", ["403 Forbidden", "407 Proxy Authentication Required", "502 Bad Gateway"])
def test_a_proxy_is_asked_for_a_tunnel_and_never_sees_the_key(
    make: Make, clock: Clock, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    with RawServer(saying(status)) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(APIConnectionError, match=r"^No connection to the API: .*Tunnel") as raised:
            make(base_url="https://api.test/v1").create_session(**SESSION)
    assert (type(raised.value), raised.value.attempts) == (APIConnectionError, 3)
    # Python 3.11 says HTTP/1.0, later ones 1.1.
    assert [request.partition(b" HTTP/")[0] for request in proxy.seen] == [b"CONNECT api.test:443"] * 3
    assert not [request for request in proxy.seen if KEY.encode() in request or b"uthorization" in request]


def test_a_proxy_that_drips_is_cut_at_the_deadline(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def drip(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Drip: ")
        for _ in range(50):
            connection.sendall(b"x")
            over.wait(0.1)

    with RawServer(drip) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        started = time.monotonic()
        with pytest.raises(APIConnectionError) as raised:
            make(base_url="https://api.test/v1", timeout=(1, 1), deadline=0.5).create_session(**SESSION)
        assert time.monotonic() - started < 1.5
    # The API has not been asked yet.
    assert (type(raised.value), raised.value.attempts) == (APIConnectionError, 1)


def test_a_tunnel_through_a_proxy_is_as_good_as_none(
    make: Make, secured: RawServer, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def tunnel(connection: socket.socket, over: threading.Event) -> None:
        with socket.create_connection(("127.0.0.1", secured.port), timeout=5) as api:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            join(connection, api)

    with RawServer(tunnel) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
        created = make(base_url=f"https://127.0.0.1:{secured.port}/v1").create_session(**SESSION)
    assert (created.client_secret, created.attempts) == (answers.SECRET, 1)
    assert [request.partition(b" ")[0] for request in (*proxy.seen, *secured.seen)] == [b"CONNECT", b"POST"]


def test_after_a_slow_tunnel_encrypting_has_what_is_left_of_the_deadline(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tunnel_to_nobody(connection: socket.socket, over: threading.Event) -> None:
        over.wait(1.5)
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        over.wait(5)

    with RawServer(tunnel_to_nobody) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        started = time.monotonic()
        with pytest.raises(APIConnectionError):
            make(base_url="https://api.test/v1", timeout=(1.9, 5), deadline=2).create_session(**SESSION)
        assert 1.9 <= time.monotonic() - started < 3


def test_a_socks_proxy_finds_the_api(standin: StandIn, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with SocksProxy(to=port_of(standin)) as proxy:
        monkeypatch.setenv("all_proxy", f"socks5h://127.0.0.1:{proxy.port}")
        created = make(base_url="http://api.test/v1").create_session(**SESSION)
        again = make(base_url="http://api.test/v1").create_session(**SESSION)
    assert {created.id, again.id} == standin.sessions.keys()
    # It is asked for the name: nobody here looks it up.
    assert proxy.asked == [b"api.test"]


def test_a_socks_proxy_that_refuses_is_no_connection(
    standin: StandIn, make: Make, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SocksProxy(to=port_of(standin), reply=2) as proxy:
        monkeypatch.setenv("all_proxy", f"socks5h://127.0.0.1:{proxy.port}")
        with pytest.raises(APIConnectionError, match="not allowed") as raised:
            make(base_url="http://api.test/v1").create_session(**SESSION)
    assert (type(raised.value), raised.value.attempts) == (APIConnectionError, 3)
    assert standin.requests == []


def test_an_answer_that_drips_through_a_socks_proxy_is_cut_at_the_deadline(
    standin: StandIn, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin.misbehave(Fault(drip_headers=0.2))
    with SocksProxy(to=port_of(standin)) as proxy:
        monkeypatch.setenv("all_proxy", f"socks5h://127.0.0.1:{proxy.port}")
        started = time.monotonic()
        with pytest.raises(APITimeoutError):
            make(base_url="http://api.test/v1", deadline=0.5).create_session(**SESSION)
        assert time.monotonic() - started < 1.5
