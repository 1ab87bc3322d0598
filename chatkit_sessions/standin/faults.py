"""Misbehaviour on demand, so that a client's error handling can be tested over a real socket."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from .exchange import Answer, ApiError, RecordedRequest, without_version


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Describe how one request is answered wrongly.

    With `status` or `drop` the request is not carried out. With anything else it is, and only its answer
    suffers, as when a session was created but the client never learns of it.

    status: answered in place of the real one; the body is the API's error shape, empty below 400.
    body: sent in place of the real one; str and bytes as they are, anything else as JSON.
    headers: added to the answer, replacing those of the same name (`Retry-After`, `Location`, ...).
    delay: seconds to wait before answering.
    drop: close the connection without an answer.
    truncate: send so many bytes of the body, then close the connection.
    drip, drip_headers: seconds to wait after each byte of the body, or of status line and headers.
    """

    status: int | None = None
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0
    drop: bool = False
    truncate: int | None = None
    drip: float = 0
    drip_headers: float = 0

    @property
    def carries_out(self) -> bool:
        """Tell whether the request has its effect all the same."""
        return self.status is None and not self.drop

    def refusal(self) -> Answer:
        """Return the answer given in place of carrying the request out."""
        status = self.status or 500
        if status < 400:
            return Answer(status)
        return ApiError(status, f"The stand-in was told to answer {status}.").answer()

    def spoil(self, answer: Answer) -> Answer:
        """Return the answer with this fault's body and headers in place."""
        body = answer.body if self.body is None else _as_bytes(self.body)
        return Answer(answer.status, body, answer.headers).with_headers(self.headers)


@dataclass
class _Queued:
    fault: Fault
    times: int
    path: str | None
    method: str | None

    def matches(self, request: RecordedRequest) -> bool:
        if self.method is not None and self.method != request.method:
            return False
        return self.path is None or fnmatchcase(request.endpoint, self.path)


class FaultQueue:
    """Keep the faults still to come, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: list[_Queued] = []

    def add(self, fault: Fault, *, times: int, path: str | None, method: str | None) -> None:
        """Queue a fault for the next `times` requests that match."""
        pattern = None if path is None else without_version(path)
        with self._lock:
            self._queue.append(_Queued(fault, times, pattern, method))

    def take(self, request: RecordedRequest) -> Fault | None:
        """Return the fault this request meets, and use it up."""
        with self._lock:
            for queued in self._queue:
                if queued.matches(request):
                    queued.times -= 1
                    if queued.times <= 0:
                        self._queue.remove(queued)
                    return queued.fault
        return None

    def clear(self) -> None:
        """Forget every fault still queued."""
        with self._lock:
            self._queue.clear()


def _as_bytes(body: Any) -> bytes:
    if isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()
