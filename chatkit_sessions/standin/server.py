"""HTTP for the stand-in: sockets, bodies and deliberate damage to answers; it knows nothing of ChatKit."""

from __future__ import annotations

import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

from .exchange import Answer, ApiError, RecordedRequest
from .faults import Fault

MAX_BODY = 12 * 1024 * 1024
# So much of a body that is too large is read and thrown away: closing earlier would reset the connection
# before the client has seen the refusal.
MAX_DISCARDED = 64 * 1024 * 1024
CHUNK = 64 * 1024

# A request, and the refusal if reading it has already gone wrong.
Respond = Callable[[RecordedRequest, ApiError | None], tuple[Answer, Fault]]


class Server(ThreadingHTTPServer):
    """Serve until closed, and on closing hang up on every client, idle keep-alive connections included."""

    daemon_threads = True
    allow_reuse_port = False
    request_queue_size = 128
    timeout = 0.5  # seconds after which `serve` looks again whether it is to end

    def __init__(self, address: tuple[str, int], respond: Respond) -> None:
        self.respond = respond
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, socket.socket] = {}
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, Handler)

    def server_bind(self) -> None:
        """Bind without the base class's reverse look-up of the host's name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)

    def serve(self) -> None:
        """Accept connections until told to stop."""
        while not self.closing.is_set():
            self.handle_request()

    def stop(self) -> None:
        """End `serve`, and every wait that a fault has asked for, at once."""
        self.closing.set()
        # A connection wakes it. Where that fails (some systems refuse a wildcard address), its timeout does.
        with suppress(OSError), socket.socket(self.address_family) as knock:
            knock.settimeout(1)
            knock.connect(self.server_address)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread that `hang_up` can find."""
        if self.closing.is_set():
            self.shutdown_request(request)
            return
        arguments = (request, client_address)
        thread = threading.Thread(
            target=self._serve_connection, args=arguments, name="chatkit-standin", daemon=True
        )
        with self._lock:
            self._open[thread] = request
        thread.start()

    def _serve_connection(self, request: Any, client_address: Any) -> None:
        try:
            self.process_request_thread(request, client_address)
        finally:
            with self._lock:
                del self._open[threading.current_thread()]

    def hang_up(self) -> None:
        """End every connection and wait for its thread."""
        with self._lock:
            connections = dict(self._open)
        for connection in connections.values():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in connections:
            thread.join(timeout=5)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let a client that has gone away go in silence; print the traceback of anything else."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Read requests off one connection and send the answers."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent: requests are recorded, and their paths are nobody else's business."""

    def serve(self) -> None:
        """Answer one request."""
        body, refusal = b"", None
        try:
            body = self._read_body()
        except ApiError as error:
            refusal = error
            # Part of the body may still be under way, so the connection cannot be used again.
            self.close_connection = True
        path, _, query = self.path.partition("?")
        headers: dict[str, str] = {}
        for name, value in self.headers.items():
            seen = headers.get(name.lower())
            headers[name.lower()] = value if seen is None else f"{seen}, {value}"
        parameters = dict(parse_qsl(query, keep_blank_values=True))
        request = RecordedRequest(self.command, path, parameters, headers, body)
        self._send(*self.server.respond(request, refusal))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_HEAD = serve

    def _read_body(self) -> bytes:
        if "transfer-encoding" in self.headers:
            raise ApiError(411, "Send the body with a Content-Length.")
        length = self.headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise ApiError(400, "The Content-Length is not a number.")
        if int(length) > MAX_BODY:
            self._discard(min(int(length), MAX_DISCARDED))
            raise ApiError(413, f"The body is larger than {MAX_BODY} bytes.")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise ConnectionError("the client left in the middle of its body")
        return body

    def _discard(self, left: int) -> None:
        while left > 0 and (chunk := self.rfile.read(min(left, CHUNK))):
            left -= len(chunk)

    def _send(self, answer: Answer, fault: Fault) -> None:
        closing = self.server.closing.wait(fault.delay) if fault.delay else False
        if closing or fault.drop:
            self.close_connection = True
            return
        body = b"" if self.command == "HEAD" else answer.body[: fault.truncate]
        if fault.truncate is not None:
            self.close_connection = True
        if not (fault.drip or fault.drip_headers):
            # One write for both: two would meet the delay of Nagle's algorithm on some systems.
            self.wfile.write(self._head(answer) + body)
            return
        self._trickle(self._head(answer), fault.drip_headers)
        self._trickle(body, fault.drip)

    def _head(self, answer: Answer) -> bytes:
        try:
            phrase = HTTPStatus(answer.status).phrase
        except ValueError:
            phrase = ""
        headers = {"content-length": str(len(answer.body)), **answer.headers}
        if self.close_connection:
            headers["connection"] = "close"
        lines = [f"{self.protocol_version} {answer.status} {phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _trickle(self, data: bytes, pause: float) -> None:
        if not pause:
            self.wfile.write(data)
            return
        for position in range(len(data)):
            self.wfile.write(data[position : position + 1])
            if self.server.closing.wait(pause):
                self.close_connection = True
                return
