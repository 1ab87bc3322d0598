"""The gate in front of the API: a site goes on serving its other pages while the API hangs or fails."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

from chatkit_sessions.client import APIConnectionError, APIError
from chatkit_sessions.conf import Settings
from chatkit_sessions.exceptions import UpstreamUnavailable

from .cooldown import Cooldown, is_unavailable

T = TypeVar("T")

# Seconds that one waits for a place at most, however quickly they change hands.
PATIENCE = 2.0
# A call that takes longer, in seconds, and twice as long as the last one or PATIENCE, is slow: nobody waits
# for its end.
SLOW = 1.0
# Seconds to name in Retry-After when all places are taken.
FULL_RETRY_AFTER = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """One that is taken.

    Attributes:
        since: when it was, on the monotonic clock.
        for_session: whether for issuing a session.
    """

    since: float
    for_session: bool


class Places:
    """The places of this process, for workers that wait for the API."""

    def __init__(self) -> None:
        self._taken: set[Place] = set()
        self._change = threading.Condition()
        # How long the last session took, in seconds; before there was one, nobody is refused for want of it.
        self._last = PATIENCE / 2
        # The addresses at which the last session could not be had.
        self.failing: set[str] = set()

    def is_hopeless(self, number: int, base_url: str) -> bool:
        """Return whether so many places are taken and none is soon to become free for this address."""
        with self._change:
            return len(self._taken) >= number and self._is_stuck(base_url, for_session=True)

    def is_full(self, number: int) -> bool:
        """Return whether so many places are taken."""
        with self._change:
            return len(self._taken) >= number

    @contextmanager
    def taken(self, number: int, base_url: str, *, wait: float, for_session: bool = False) -> Iterator[None]:
        """Hold one of so many places; wait for one so many seconds, as long as they change hands quickly.

        Raises:
            APIConnectionError: none became free.
        """
        until = time.monotonic() + wait
        with self._change:
            while len(self._taken) >= number:
                if self._is_stuck(base_url, for_session=for_session) or time.monotonic() >= until:
                    raise APIConnectionError("Too many requests of this process wait for the API already.")
                self._change.wait(min(until, self._stuck_from(for_session)) - time.monotonic())
            place = Place(since=time.monotonic(), for_session=for_session)
            self._taken.add(place)
        try:
            yield
        finally:
            with self._change:
                self._taken.remove(place)
                if for_session:
                    self._last = time.monotonic() - place.since
                # All: some wait for one of fewer places than others do, and it may not be free for them.
                self._change.notify_all()

    def _is_stuck(self, base_url: str, *, for_session: bool) -> bool:
        return base_url in self.failing or self._stuck_from(for_session) <= time.monotonic()

    def _stuck_from(self, for_session: bool) -> float:
        # With two places or more, some are for sessions alone: what hangs in the others refuses nobody.
        since = [place.since for place in self._taken if place.for_session or not for_session]
        return min(since, default=math.inf) + max(SLOW, min(2 * self._last, PATIENCE))


_places = Places()


def _begin_anew() -> None:
    """Free the places in a forked child: the threads that hold them are its parent's."""
    global _places
    _places = Places()


# Where there is no such function, processes are not forked.
getattr(os, "register_at_fork", lambda **_: None)(after_in_child=_begin_anew)

_regardless: ContextVar[bool] = ContextVar("chatkit_sessions_regardless", default=False)


@contextmanager
def regardless_of_cooldown() -> Iterator[None]:
    """Let the calls of this block pass during a cool-down, and nobody else's."""
    token = _regardless.set(True)
    try:
        yield
    finally:
        _regardless.reset(token)


@dataclass(frozen=True, kw_only=True)
class IssuingPass:
    """Leave to ask for one session. What comes of it begins or ends the cool-down.

    Attributes:
        is_probe: whether it is the call that finds out if the API is back after a cool-down.
    """

    settings: Settings
    base_url: str
    cooldown: Cooldown
    is_probe: bool

    def call(self, ask: Callable[[], T]) -> T:
        """Make the call as soon as there is a place for it, and count how it ended.

        Raises:
            APIError: as the call does, or because nobody gave up a place for it.
        """
        number = self.settings.max_concurrent_calls
        try:
            if number is None:
                return self._counted(ask)
            wait = min(PATIENCE, self.settings.deadline)
            with _places.taken(number, self.base_url, wait=wait, for_session=True):
                return self._counted(ask)
        finally:
            self.give_back()

    def give_back(self) -> None:
        """Leave it to the next call to find out whether the API is back, unless this one did."""
        if self.is_probe:
            self.cooldown.give_back_probe()

    def _counted(self, ask: Callable[[], T]) -> T:
        try:
            answer = ask()
        except APIError as error:
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


def enter(settings: Settings, base_url: str) -> IssuingPass:
    """Let somebody ask for a session, unless it is in vain already.

    Raises:
        UpstreamUnavailable: the API is cooling down, or hangs with all places taken.
    """
    number = settings.max_concurrent_calls
    if number is not None and _places.is_hopeless(number, base_url):
        raise UpstreamUnavailable(retry_after=FULL_RETRY_AFTER)
    cooldown = Cooldown(settings, base_url)
    is_probe = not _regardless.get() and cooldown.check()
    return IssuingPass(settings=settings, base_url=base_url, cooldown=cooldown, is_probe=is_probe)


@contextmanager
def passing(settings: Settings, base_url: str, *, wait: float | None = 0) -> Iterator[None]:
    """Let another call pass: it respects a cool-down, but neither begins nor ends one.

    What somebody provokes with a conversation of their own is no reason to refuse sessions to others. Half of
    the places are kept for sessions.

    Args:
        wait: how many seconds for a place; None takes none, for calls that keep no worker of the site.

    Raises:
        UpstreamUnavailable: the API is cooling down, or the places are taken.
        APIConnectionError: none became free.
    """
    Cooldown(settings, base_url).check(probes=False)
    number = settings.max_concurrent_calls
    if number is None or wait is None:
        yield
        return
    number = max(number // 2, 1)
    if not wait and _places.is_full(number):
        raise UpstreamUnavailable(retry_after=FULL_RETRY_AFTER)
    with _places.taken(number, base_url, wait=wait):
        yield
