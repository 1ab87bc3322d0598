"""An end for an answer that drips.

A socket's timeout counts from the last byte on, so a peer that sends one now and then holds a worker for
hours.
``requests`` has no limit for the whole: here a timer shuts the socket down when the time is over.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection


class Watch:
    """The time that one request has.

    Attributes:
        is_over: whether the time ran out and the socket was shut down.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def guard(self, connected: socket.socket) -> None:
        """Shut this socket down when the time is over, at once if it is."""
        with self._lock:
            self._socket = connected
            if self.is_over:
                self._shut_down()

    def end(self) -> None:
        """Let the time be over."""
        with self._lock:
            self.is_over = True
            self._shut_down()

    def _shut_down(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # it may be closed already
                self._socket.shutdown(socket.SHUT_RDWR)


_current: ContextVar[Watch | None] = ContextVar("chatkit_sessions_watch", default=None)


@contextlib.contextmanager
def watch(seconds: float) -> Iterator[Watch]:
    """Watch the request made in this block, and shut its socket down after so many seconds."""
    watching = Watch()
    timer = threading.Timer(seconds, watching.end)
    timer.daemon = True
    token = _current.set(watching)
    timer.start()
    try:
        yield watching
    finally:
        timer.cancel()
        _current.reset(token)


class _Watched:
    """A connection that hands its socket to the watch before it waits for the answer."""

    sock: Any

    def getresponse(self) -> Any:
        watching = _current.get()
        if watching is not None and self.sock is not None:
            watching.guard(self.sock)
        return super().getresponse()  # type: ignore[misc]  # of the connection that this is mixed into


class _WatchedHTTPConnection(_Watched, HTTPConnection):
    pass


class _WatchedHTTPSConnection(_Watched, HTTPSConnection):
    pass


class _WatchedHTTPPool(HTTPConnectionPool):
    ConnectionCls = _WatchedHTTPConnection


class _WatchedHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedHTTPSConnection


POOLS = {"http": _WatchedHTTPPool, "https": _WatchedHTTPSPool}


class WatchedAdapter(HTTPAdapter):
    """Use watched connections, through proxies too."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Have the pools make watched connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Have a proxy's pools make watched connections."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = POOLS
        return manager
