"""The gate in front of the API: a site goes on serving its other pages while the API hangs or fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from chatkit_sessions.client import APIError, APITimeoutError
from chatkit_sessions.conf import Settings
from chatkit_sessions.exceptions import UpstreamUnavailable

from .cooldown import Cooldown, is_unavailable

T = TypeVar("T")

# Seconds that one waits for a place at most. A call that takes longer is slow, and nobody waits behind it.
PATIENCE = 1.0
# Seconds to name in Retry-After when all places are taken.
FULL_RETRY_AFTER = 1.0
# Seconds beyond DEADLINE after which a place is free although nobody left it: its thread is gone.
GRACE = 30.0


class Places:
    """The places of one process, for requests that wait for the API."""

    def __init__(self) -> None:
        # When each place was taken, on the monotonic clock.
        self._taken: dict[object, float] = {}
        self._change = threading.Condition()
        # Whether the last call met a failing API: then nobody waits for a place.
        self.is_failing = False

    def take(self, place: object, settings: Settings) -> None:
        """Take a place, waiting for one as long as calls end quickly.

        Raises:
            UpstreamUnavailable: all are taken.
        """
        until = time.monotonic() + PATIENCE
        with self._change:
            while not self._has_room(settings):
                now = time.monotonic()
                if self.is_failing or now >= until or min(self._taken.values()) <= now - PATIENCE:
                    raise UpstreamUnavailable(retry_after=FULL_RETRY_AFTER)
                self._change.wait(until - now)
            self._taken[place] = time.monotonic()

    def leave(self, place: object) -> None:
        """Free a place; repeating it is harmless."""
        with self._change:
            if self._taken.pop(place, None) is not None:
                self._change.notify()

    def _has_room(self, settings: Settings) -> bool:
        if settings.max_concurrent_calls is None:
            return True
        overdue = time.monotonic() - settings.deadline - GRACE
        for place in [place for place, since in self._taken.items() if since <= overdue]:
            del self._taken[place]
        return len(self._taken) < settings.max_concurrent_calls


_places = Places()


@dataclass(frozen=True, kw_only=True)
class Pass:
    """Leave to make one call.

    Attributes:
        is_probe: whether it is the call that finds out if the API is back after a cool-down.
    """

    cooldown: Cooldown
    is_probe: bool
    place: object

    def call(self, ask: Callable[[], T], *, is_patient: bool = True) -> T:
        """Make the call, count how it ended, and free the place.

        Args:
            is_patient: whether the API is given its full time; if not, a timeout says nothing about it.
        """
        try:
            answer = ask()
        except APIError as error:
            if is_patient or not isinstance(error, APITimeoutError):
                self._record(error)
            raise
        else:
            self._record(None)
            return answer
        finally:
            self.give_back()

    def give_back(self) -> None:
        """Free the place; a probe that told nothing leaves it to the next call."""
        _places.leave(self.place)
        if self.is_probe:
            self.cooldown.give_back_probe()

    def _record(self, error: APIError | None) -> None:
        _places.is_failing = is_unavailable(error)
        self.cooldown.record(error, is_probe=self.is_probe)


def enter(settings: Settings, base_url: str, *, takes_place: bool = True) -> Pass:
    """Let one call pass.

    Args:
        takes_place: whether one of the site's workers waits for it; MAX_CONCURRENT_CALLS may at a time.

    Raises:
        UpstreamUnavailable: the API is cooling down, or all places are taken; ``retry_after`` says when.
    """
    cooldown = Cooldown(settings, base_url)
    place = object()
    if takes_place:
        _places.take(place, settings)
    try:
        return Pass(cooldown=cooldown, is_probe=cooldown.check(), place=place)
    except UpstreamUnavailable:
        _places.leave(place)
        raise
