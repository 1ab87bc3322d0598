"""A stand-in that outlives its clients: what they asked for is done even when nobody waits for the answer."""

import random
import threading
import time
from typing import Any

from chatkit_sessions.standin import Fault, RecordedRequest, StandIn
from chatkit_sessions.standin.exchange import Answer, ApiError


class Api(StandIn):
    """Count what was carried out, and take a moment for it where asked to.

    Attributes:
        carried_out: how many requests.
        pause: up to so many seconds pass before a request is carried out, and again before it is answered.
    """

    def __init__(self) -> None:
        super().__init__()
        self.carried_out = 0
        self.pause = 0.0
        self._changed = threading.Condition()

    def _respond(self, request: RecordedRequest, refusal: ApiError | None) -> tuple[Answer, Fault]:
        time.sleep(random.uniform(0, self.pause))  # noqa: S311 (no secret)
        answer = super()._respond(request, refusal)
        with self._changed:
            self.carried_out += 1
            self._changed.notify_all()
        time.sleep(random.uniform(0, self.pause))  # noqa: S311
        return answer

    def wait_for(self, number: int) -> None:
        """Wait until so many requests have been carried out."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.carried_out >= number, timeout=30)

    def forget(self) -> None:
        """Know of no session any more."""
        self._state._sessions.clear()

    def of(self, identifier: str) -> list[Any]:
        """Return somebody's sessions, as the API knows them."""
        return [session for session in self.sessions.values() if session["user"] == identifier]
