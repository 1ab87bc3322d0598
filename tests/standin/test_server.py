import http.client
import socket
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
import requests

from chatkit_sessions.standin import RecordedRequest, StandIn
from chatkit_sessions.standin.server import MAX_BODY

from .conftest import API_HEADERS, CREATE, Caller, error_of


def raw(api: StandIn, request: bytes) -> bytes:
    """Send bytes as they are and return everything that comes back."""
    port = int(api.base_url.removesuffix("/v1").rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_what_was_sent_is_recorded(api: StandIn, call: Caller) -> None:
    call.create()
    call("GET", "/v1/chatkit/threads?user=a%20b&limit=5")
    first, second = api.requests
    assert (first.method, first.path, first.query, first.json) == ("POST", "/v1/chatkit/sessions", {}, CREATE)
    assert first.endpoint == "/chatkit/sessions"
    assert first.headers["authorization"] == "Bearer sk-test"
    assert first.bearer == "sk-test"
    assert (second.method, second.query, second.body) == ("GET", {"user": "a b", "limit": "5"}, b"")


def test_a_recorded_request_shows_no_secret() -> None:
    request = RecordedRequest("GET", "/x", {"limit": "1"}, {"authorization": "Bearer s3cret"}, b"s3cret")
    assert repr(request) == "RecordedRequest(method='GET', path='/x', query={'limit': '1'})"


def test_a_repeated_header_is_joined(api: StandIn) -> None:
    answer = raw(api, b"GET /v1/chatkit/threads HTTP/1.1\r\nX-A: 1\r\nx-a: 2\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert api.requests[0].headers["x-a"] == "1, 2"


def test_a_connection_is_kept(api: StandIn) -> None:
    port = int(api.base_url.removesuffix("/v1").rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        ports = set()
        for _ in range(3):
            connection.request("GET", "/v1/chatkit/threads", headers=API_HEADERS)
            assert connection.getresponse().read()
            ports.add(connection.sock.getsockname()[1])
        assert len(ports) == 1
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/", "/v1", "/v2/chatkit/threads", "/v1/chatkit/threads/", "/v1/models"])
def test_an_unknown_path_is_404(call: Caller, path: str) -> None:
    answer = call("GET", path)
    assert answer.status_code == 404
    assert error_of(answer)["message"] == f"Invalid URL (GET {path})"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chatkit/sessions", "POST"),
        ("PUT", "/chatkit/threads/cthr_1", "GET, DELETE"),
        ("PATCH", "/v1/chatkit/threads", "GET"),
        ("OPTIONS", "/v1/chatkit/threads", "GET"),
    ],
)
def test_a_wrong_method_is_405(call: Caller, method: str, path: str, allowed: str) -> None:
    answer = call(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed
    assert error_of(answer)["message"] == f"Not allowed to {method} on {path}."
    assert "access-control-allow-origin" not in answer.headers


def test_a_head_request_gets_no_body(api: StandIn) -> None:
    head, _, body = raw(api, b"HEAD /v1/chatkit/threads HTTP/1.1\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 405 ")
    assert body == b""


def test_an_identifier_may_hold_any_character(api: StandIn, call: Caller) -> None:
    answer = call("GET", "/v1/chatkit/threads/a%2Fb%20c")
    assert error_of(answer)["message"] == "Thread with id 'a/b c' not found."


def test_the_largest_body_is_read_and_a_larger_one_refused(api: StandIn, call: Caller) -> None:
    path = "/v1/chatkit/sessions"
    assert call("POST", path, data=b"x" * MAX_BODY).status_code == 400
    answer = call("POST", path, data=b"x" * (MAX_BODY + 1))
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"
    assert answer.headers["x-request-id"]
    assert error_of(answer)["message"] == f"The body is larger than {MAX_BODY} bytes."
    assert api.requests[-1].body == b""


def test_a_client_that_knows_no_better_can_send_all_of_a_large_body(api: StandIn) -> None:
    head = b"POST /v1/chatkit/sessions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (2 * MAX_BODY)
    assert raw(api, head + b"x" * (2 * MAX_BODY)).startswith(b"HTTP/1.1 413 ")


def test_a_body_announced_too_large_and_never_sent_is_refused(api: StandIn) -> None:
    answer = raw(api, b"POST /v1/chatkit/sessions HTTP/1.1\r\nContent-Length: 99999999\r\n\r\nabc")
    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("header", "status"),
    [(b"Content-Length: many", 400), (b"Content-Length: -1", 400), (b"Transfer-Encoding: chunked", 411)],
)
def test_a_body_of_unknown_length_is_refused(api: StandIn, header: bytes, status: int) -> None:
    answer = raw(api, b"POST /v1/chatkit/sessions HTTP/1.1\r\n" + header + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 %d " % status)


def test_a_client_that_leaves_is_no_error(
    api: StandIn, call: Caller, capfd: pytest.CaptureFixture[str]
) -> None:
    assert raw(api, b"POST /v1/chatkit/sessions HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc") == b""
    assert not api.requests
    assert call.create()["status"] == "active"
    assert capfd.readouterr().err == ""


def test_an_error_of_its_own_is_printed(
    call: Caller, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise LookupError("a bug")

    monkeypatch.setattr("chatkit_sessions.standin.standin.dress", fail)
    with pytest.raises(requests.ConnectionError):
        call("GET", "/v1/chatkit/threads")
    assert "LookupError: a bug" in capfd.readouterr().err


def test_many_clients_at_once_each_get_their_session(api: StandIn) -> None:
    created: list[str] = []

    def work() -> None:
        with requests.Session() as http:
            http.trust_env = False
            created.extend(Caller(api, http).create(user=f"u{n}")["id"] for n in range(5))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(created)) == len(api.sessions) == 40


def test_closing_ends_idle_connections_and_threads(
    start: Callable[..., StandIn], http: requests.Session
) -> None:
    api = start()
    Caller(api, http).create()
    assert [thread for thread in threading.enumerate() if thread.name == "chatkit-standin"]
    api.close()
    api.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "chatkit-standin"]


def test_it_takes_its_port_and_memory_up_again(start: Callable[..., StandIn], http: requests.Session) -> None:
    api = start()
    call = Caller(api, http)
    session, url = call.create(), api.base_url
    api.close()
    with pytest.raises(requests.ConnectionError):
        http.get(url, timeout=5)
    api.start()
    assert api.base_url == url
    assert list(api.sessions) == [session["id"]]
    assert call.create()["status"] == "active"


def test_starting_twice_is_refused(api: StandIn) -> None:
    with pytest.raises(RuntimeError, match=r"running already: close\(\) it first"):
        api.start()


def test_without_a_start_there_is_no_address() -> None:
    api = StandIn()
    with pytest.raises(RuntimeError, match=r"not running: start\(\) it"):
        _ = api.base_url
    api.close()
    api.wait()


def test_wait_returns_when_it_is_closed(api: StandIn) -> None:
    closing = threading.Timer(0.25, api.close)
    closing.start()
    api.wait()
    closing.join()
    with pytest.raises(RuntimeError, match="not running"):
        _ = api.script_url


def test_a_port_that_is_taken_is_an_error(api: StandIn) -> None:
    taken = int(api.base_url.removesuffix("/v1").rpartition(":")[2])
    with pytest.raises(OSError, match="in use"):
        StandIn(port=taken).start()


@pytest.mark.parametrize(
    ("host", "shown"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("", "127.0.0.1"), ("::1", "[::1]")],  # noqa: S104
)
def test_the_address_shown_can_be_reached(host: str, shown: str, http: requests.Session) -> None:
    try:
        api = StandIn(host=host).start()
    except OSError:  # pragma: no cover
        pytest.skip(f"this machine does not have {host}")
    with_port = api.base_url.removeprefix("http://").removesuffix("/v1")
    try:
        assert with_port.rpartition(":")[0] == shown
        assert Caller(api, http).create()["status"] == "active"
    finally:
        api.close()


def test_it_runs_without_django() -> None:
    program = (
        "import sys; from chatkit_sessions.standin import StandIn\n"
        "with StandIn() as api: print(api.base_url)\n"
        "print(any(name.partition('.')[0] in {'django', 'requests'} for name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[1] == "False"
    assert done.stderr == ""
