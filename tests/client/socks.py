"""A SOCKS proxy that leads everything to one port of this machine. Source: RFC 1928."""

import contextlib
import socket
import struct
import threading

from tests.raw_server import RawServer

GRANTED = 0


class SocksProxy(RawServer):
    """Speak SOCKS 5 without authentication.

    asked: the names that it was asked for.
    """

    def __init__(self, *, to: int, reply: int = GRANTED) -> None:
        super().__init__(lambda connection, over: None)
        self.asked: list[bytes] = []
        self._to = to
        self._reply = reply

    def converse(self, connection: socket.socket) -> None:
        """Take one request, answer it, and pass on what comes."""
        _version, methods = _read(connection, 2)
        _read(connection, methods)
        connection.sendall(b"\x05\x00")
        _version, _command, _reserved, _kind, length = _read(connection, 5)
        self.asked.append(_read(connection, length))
        _read(connection, 2)  # the port
        connection.sendall(bytes([5, self._reply, 0, 1]) + struct.pack("!IH", 0, 0))
        if self._reply == GRANTED:
            with socket.create_connection(("127.0.0.1", self._to), timeout=5) as api:
                join(connection, api)


def join(one: socket.socket, other: socket.socket) -> None:
    """Pass on what each says to the other, until both have hung up."""
    back = threading.Thread(target=_pump, args=(other, one), daemon=True)
    back.start()
    _pump(one, other)
    back.join(timeout=5)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)


def _read(connection: socket.socket, length: int) -> bytes:
    received = b""
    while len(received) < length:
        piece = connection.recv(length - len(received))
        if not piece:
            raise ConnectionError("the client left in the middle of its request")
        received += piece
    return received
