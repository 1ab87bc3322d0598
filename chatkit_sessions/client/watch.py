"""An end for an answer that drips, and for a host of many addresses.

A socket's timeout counts from the last byte on, so a peer that sends one now and then holds a worker for
hours; and each address of a host that does not answer may take all of the time to connect.
``requests`` has no limit for the whole: here a timer shuts the socket down when the time is over.
"""

from __future__ import annotations

import contextlib
import functools
import math
import socket
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from queue import Empty, SimpleQueue
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.util.connection import allowed_gai_family

# Seconds after which a connection that nobody used is not used again: some networks forget it in a minute.
MAX_IDLE = 30.0


class Watch:
    """The time that one request has.

    Attributes:
        is_over: whether the time ran out.
        is_connecting: whether the connection is being made, so that nothing has been asked yet.
    """

    def __init__(self, seconds: float = math.inf) -> None:
        self.is_over = False
        self.is_connecting = False
        self._ends = time.monotonic() + seconds
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    @property
    def seconds_left(self) -> float:
        """Return the time left; never none at all, which a socket would take for "do not wait"."""
        return max(self._ends - time.monotonic(), 0.001)

    @property
    def has_cut(self) -> bool:
        """Return whether the time ran out on a connection that was there."""
        return self.is_over and self._socket is not None

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
            # What urllib3 puts around a socket for TLS within TLS cannot be shut down itself.
            inner = getattr(self._socket, "socket", self._socket)
            with contextlib.suppress(OSError):  # it may be closed already
                inner.shutdown(socket.SHUT_RDWR)


_current: ContextVar[Watch | None] = ContextVar("chatkit_sessions_watch", default=None)


@contextlib.contextmanager
def watch(seconds: float) -> Iterator[Watch]:
    """Watch the request made in this block, and shut its socket down after so many seconds."""
    watching = Watch(seconds)
    timer = threading.Timer(seconds, watching.end)
    timer.daemon = True
    token = _current.set(watching)
    with contextlib.suppress(RuntimeError):  # no thread is to be had: the socket's own timeouts are left
        timer.start()
    try:
        yield watching
    finally:
        timer.cancel()
        _current.reset(token)


class _Guarded:
    """A connection that hands its socket to the watch of the moment."""

    sock: Any
    timeout: Any
    _last_used = math.inf

    @property
    def is_stale(self) -> bool:
        """Return whether it was idle for long: then it may be dead without a word."""
        return time.monotonic() - self._last_used > MAX_IDLE

    def connect(self) -> None:
        """Connect: through a tunnel and encrypted, where that is asked for."""
        watching = _current.get()
        if watching is None:
            super().connect()  # type: ignore[misc]  # of the connection that this is mixed into
            return
        watching.is_connecting = True
        super().connect()  # type: ignore[misc]  # as above
        watching.is_connecting = False
        # Encrypting takes the socket out of the hands of who had it before.
        watching.guard(self.sock)

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send the request."""
        self._last_used = time.monotonic()
        watching = _current.get()
        if watching is not None and self.sock is not None:
            watching.guard(self.sock)
        super().request(*args, **kwargs)  # type: ignore[misc]  # as above

    def _tunnel(self) -> None:
        super()._tunnel()  # type: ignore[misc]  # as above
        watching = _current.get()
        if watching is not None:
            if watching.is_over:
                # The end of a shut socket passes for the end of the proxy's headers.
                raise TimeoutError("The proxy did not answer in time.")
            self._limit(self.sock, watching)

    def _limit(self, connected: socket.socket, watching: Watch) -> None:
        """Let encrypting, which comes next, take no longer than there is time."""
        connected.settimeout(min(self.timeout, watching.seconds_left))


class _Watched(_Guarded):
    """One that is also made within the time that is left."""

    port: Any
    _dns_host: Any

    def _new_conn(self) -> Any:
        watching = _current.get()
        if watching is None:
            return super()._new_conn()  # type: ignore[misc]  # as above
        connected = self._connect(watching)
        # A proxy may drip before there is anything to wait for.
        watching.guard(connected)
        self._limit(connected, watching)
        return connected

    def _connect(self, watching: Watch) -> Any:
        """Try one address after the other, as urllib3 does, but in no more than the time of the whole."""
        try:
            found = _addresses(self._dns_host, self.port, watching.seconds_left)
        except OSError as error:
            # As urllib3 says it, which would ask once more.
            raise NewConnectionError(self, f"Failed to resolve {self._dns_host!r} ({error})") from error  # type: ignore[arg-type]  # a connection, when mixed in
        *others, last = found or [self._dns_host]
        for address in others:
            if not watching.is_over:
                with contextlib.suppress(HTTPError):
                    return self._connect_to(address, watching)
        return self._connect_to(last, watching)

    def _connect_to(self, address: str, watching: Watch) -> Any:
        name, longest = self._dns_host, self.timeout
        self._dns_host, self.timeout = address, min(longest, watching.seconds_left)
        try:
            return super()._new_conn()  # type: ignore[misc]  # as above
        finally:
            self._dns_host, self.timeout = name, longest


def _addresses(name: str, port: int | None, seconds: float) -> list[str]:
    """Return a host's addresses in the system's order; none where urllib3 is to say what is wrong.

    Raises:
        OSError: it has none, or the system did not find out in time.
    """
    results: SimpleQueue[list[str] | OSError] = SimpleQueue()

    def look_up() -> None:
        try:
            found = socket.getaddrinfo(name.strip("[]"), port, allowed_gai_family(), socket.SOCK_STREAM)
        except OSError as error:
            results.put(error)
        except UnicodeError:
            results.put([])
        else:
            results.put([str(entry[4][0]) for entry in found])

    try:
        # The system cannot be interrupted, only left alone.
        threading.Thread(target=look_up, daemon=True).start()
    except RuntimeError as error:  # no thread is to be had
        raise OSError(str(error)) from error
    try:
        result = results.get(timeout=seconds)
    except Empty:
        raise TimeoutError("not in time") from None
    if isinstance(result, OSError):
        raise result
    return result


class _Pool:
    """A pool that closes a stale connection, so that it is made anew."""

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)  # type: ignore[misc]  # of the pool that this is mixed into
        if connection.is_stale:
            connection.close()
        return connection


@functools.cache
def _watched(pool: Any) -> Any:
    """Return a class of pools that makes watched connections where the given one makes plain ones."""
    made: Any = pool.ConnectionCls
    if issubclass(made, _Guarded):
        return pool
    # Other connections, those to a SOCKS proxy, are made in a way of their own: it finds the addresses.
    mixin = _Watched if made in (HTTPConnection, HTTPSConnection) else _Guarded
    watched = type(f"Watched{made.__name__}", (mixin, made), {})
    return type(f"Watched{pool.__name__}", (_Pool, pool), {"ConnectionCls": watched})


def _watch_pools(manager: Any) -> None:
    pools = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: _watched(pool) for scheme, pool in pools.items()}


class WatchedAdapter(HTTPAdapter):
    """Use watched connections, through proxies too."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Have the pools make watched connections."""
        super().init_poolmanager(*args, **kwargs)
        _watch_pools(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Have a proxy's pools make watched connections."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        _watch_pools(manager)
        return manager
