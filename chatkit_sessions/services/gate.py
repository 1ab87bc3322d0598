"""The gate in front of the API: a site goes on serving its other pages while the API hangs or fails."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from chatkit_sessions.client import APIConnectionError, APIError, APITimeoutError
from chatkit_sessions.conf import Settings
from chatkit_sessions.exceptions import UpstreamUnavailable

from .cooldown import Cooldown, is_unavailable

T = TypeVar("T")

# A call that takes longer, in seconds, is slow: nobody waits for its place.
SLOW = 1.0
# Seconds that one waits for a place at most, however quickly they change hands.
PATIENCE = 5.0
# Seconds to name in Retry-After when all places are taken.
FULL_RETRY_AFTER = 1.0


class Places:
    """The places of this process, for workers that wait for the API."""

    def __init__(self) -> None:
        # When each place was taken, on the monotonic clock.
        self._taken: dict[object, float] = {}
        self._change = threading.Condition()
        # The addresses whose last call met a failing API.
        self.failing: set[str] = set()

    def is_hopeless(self, number: int | None, base_url: str) -> bool:
        """Return whether all places are taken and none is soon to become free for this address."""
        with self._change:
            return self._is_full(number) and self._is_stuck(base_url)

    @contextmanager
    def taken(self, number: int | None, base_url: str) -> Iterator[None]:
        """Hold one of so many places, and wait for one as long as they change hands quickly.

        Raises:
            APIConnectionError: none became free.
        """
        place = object()
        until = time.monotonic() + PATIENCE
        with self._change:
            while self._is_full(number):
                if self._is_stuck(base_url) or time.monotonic() >= until:
                    raise APIConnectionError("Too many requests of this process wait for the API already.")
                self._change.wait(min(until, min(self._taken.values()) + SLOW) - time.monotonic())
            self._taken[place] = time.monotonic()
        try:
            yield
        finally:
            with self._change:
                del self._taken[place]
                self._change.notify()

    def _is_full(self, number: int | None) -> bool:
        return number is not None and len(self._taken) >= number

    def _is_stuck(self, base_url: str) -> bool:
        return base_url in self.failing or min(self._taken.values()) + SLOW <= time.monotonic()


_places = Places()


def _begin_anew() -> None:
    """Free the places in a forked child: the threads that hold them are its parent's."""
    global _places
    _places = Places()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


@dataclass(frozen=True, kw_only=True)
class Pass:
    """Leave to make one call.

    Attributes:
        is_probe: whether it is the call that finds out if the API is back after a cool-down.
        places: how many such calls may be under way at a time in this process, or None.
    """

    base_url: str
    cooldown: Cooldown
    is_probe: bool
    places: int | None

    def call(self, ask: Callable[[], T], *, is_patient: bool = True) -> T:
        """Make the call and count how it ended.

        Args:
            is_patient: whether the API is given its full time; if not, a timeout says nothing about it.

        Raises:
            APIError: as the call does, or because nobody gave up a place for it.
        """
        try:
            with _places.taken(self.places, self.base_url):
                return self._counted(ask, is_patient=is_patient)
        finally:
            self.give_back()

    def give_back(self) -> None:
        """Leave it to the next call to find out whether the API is back, unless this one did."""
        if self.is_probe:
            self.cooldown.give_back_probe()

    def _counted(self, ask: Callable[[], T], *, is_patient: bool) -> T:
        try:
            answer = ask()
        except APIError as error:
            if is_patient or not isinstance(error, APITimeoutError):
                self._count(error)
            raise
        self._count(None)
        return answer

    def _count(self, error: APIError | None) -> None:
        if is_unavailable(error):
            _places.failing.add(self.base_url)
        else:
            _places.failing.discard(self.base_url)
        self.cooldown.record(error, is_probe=self.is_probe)


def enter(settings: Settings, base_url: str, *, takes_place: bool = True) -> Pass:
    """Let one call pass, unless it is in vain already.

    Args:
        takes_place: whether a worker of the site waits for it; MAX_CONCURRENT_CALLS may at a time.

    Raises:
        UpstreamUnavailable: the API is cooling down, or hangs with all places taken.
    """
    places = settings.max_concurrent_calls if takes_place else None
    if _places.is_hopeless(places, base_url):
        raise UpstreamUnavailable(retry_after=FULL_RETRY_AFTER)
    cooldown = Cooldown(settings, base_url)
    return Pass(base_url=base_url, cooldown=cooldown, is_probe=cooldown.check(), places=places)
