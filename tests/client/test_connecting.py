"""On the way to the API: many addresses, connections gone stale, proxies and certificates."""

import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chatkit_sessions.client import APIConnectionError, APITimeoutError, ChatKitClient
from chatkit_sessions.standin import Fault, StandIn
from tests.raw_server import RawServer, Speak

from . import answers
from .conftest import KEY, SESSION, Clock

Make = Callable[..., ChatKitClient]


@pytest.fixture(autouse=True)
def _own_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep out what the developer's machine exempts from proxies or trusts."""
    for name in ("no_proxy", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


def port_of(standin: StandIn) -> int:
    return int(standin.base_url.rsplit(":", 1)[1].removesuffix("/v1"))


def saying(status: str, body: bytes = b"") -> Speak:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return lambda connection, over: connection.sendall(head.encode() + body)


GOOD = saying("200 OK", json.dumps(answers.NEWER).encode())


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


# --- proxies


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
        with pytest.raises(APITimeoutError) as raised:
            make(base_url="https://api.test/v1", timeout=(1, 1), deadline=0.5).create_session(**SESSION)
        assert time.monotonic() - started < 1.5
    assert raised.value.attempts == 1


# --- certificates


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl on this machine to make a certificate with")
    directory = tmp_path_factory.mktemp("certificate")
    made, key = directory / "certificate.pem", directory / "key.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(made)]
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return made, key


@pytest.fixture
def secured(certificate: tuple[Path, Path]) -> Iterator[RawServer]:
    """An API behind that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with RawServer(GOOD, tls=context) as server:
        yield server


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
    with pytest.raises(APIConnectionError, match="CERTIFICATE_VERIFY_FAILED") as raised:
        make(base_url=f"https://127.0.0.1:{secured.port}/v1").create_session(**SESSION)
    assert (type(raised.value), raised.value.attempts) == (APIConnectionError, 1)
    assert (secured.connections, secured.seen, clock.waits) == (1, [], [])


def test_a_certificate_for_another_name_is_refused(
    make: Make, secured: RawServer, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    with pytest.raises(APIConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        make(base_url=f"https://localhost:{secured.port}/v1").create_session(**SESSION)
    assert secured.seen == []


def test_a_tunnel_through_a_proxy_is_as_good_as_none(
    make: Make, secured: RawServer, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)

    def tunnel(connection: socket.socket, over: threading.Event) -> None:
        with socket.create_connection(("127.0.0.1", secured.port), timeout=5) as api:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(api, connection), daemon=True)
            back.start()
            pump(connection, api)
            back.join(timeout=5)

    with RawServer(tunnel) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
        created = make(base_url=f"https://127.0.0.1:{secured.port}/v1").create_session(**SESSION)
    assert (created.client_secret, created.attempts) == (answers.SECRET, 1)
    assert [request.partition(b" ")[0] for request in (*proxy.seen, *secured.seen)] == [b"CONNECT", b"POST"]


def test_a_name_server_that_hangs_is_left_alone_at_the_deadline(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def hang(*args: Any, **kwargs: Any) -> Any:
        over.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    began = time.monotonic()
    with pytest.raises(APIConnectionError, match="not in time"):
        make(base_url="http://api.test/v1", deadline=0.3).create_session(**SESSION)
    assert time.monotonic() - began < 5
    over.set()


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
