"""A server that says exactly what a test wants said, for what the stand-in is too well-bred to say."""

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Self

# Gets the connection, once a request was read from it, and an event that is set when the test is over.
Speak = Callable[[socket.socket, threading.Event], object]


class RawServer:
    """Listen on a loopback port, read one request a connection, speak and hang up.

    seen: the requests, head and body, as they came.
    tls: wraps each connection first.
    """

    def __init__(self, speak: Speak, *, tls: ssl.SSLContext | None = None) -> None:
        self.seen: list[bytes] = []
        self.connections = 0
        self._speak = speak
        self._tls = tls
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)  # after which it looks again whether it is to end
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=5)
        self._listener.close()

    def _start(self, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run, name="raw-server", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._over.is_set():
            with suppress(TimeoutError):
                connection, _address = self._listener.accept()
                self.connections += 1
                self._start(partial(self._serve, connection))

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(5)
        # A client that has had enough hangs up: that is its good right.
        with suppress(OSError), connection:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                self.converse(connection)

    def converse(self, connection: socket.socket) -> None:
        """Read one request and answer it."""
        self.seen.append(read_request(connection))
        self._speak(connection, self._over)


def saying(status: str, body: bytes = b"") -> Speak:
    """Let a server give one answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return lambda connection, over: connection.sendall(head.encode() + body)


def read_request(connection: socket.socket) -> bytes:
    """Return a request's head and, where it names a length, its body."""
    request = b""
    while b"\r\n\r\n" not in request:
        request += _more(connection)
    head, _, body = request.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while len(body) < sum(int(line.partition(b":")[2]) for line in lengths):
        body += _more(connection)
    return head + b"\r\n\r\n" + body


def _more(connection: socket.socket) -> bytes:
    piece = connection.recv(65536)
    if not piece:
        raise ConnectionError("the client left in the middle of its request")
    return piece
