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

from .cooldown import Cooldown

T = TypeVar("T")

# Seconds to name in Retry-After when all places are taken: most calls take less.
FULL_RETRY_AFTER = 1.0
# Seconds beyond DEADLINE after which a place is free although nobody left it: its thread is gone.
GRACE = 30.0

_lock = threading.Lock()
# When each place that is taken in this process becomes free at the latest, on the monotonic clock.
_taken: dict[object, float] = {}


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
                self.cooldown.record(error, is_probe=self.is_probe)
            raise
        else:
            self.cooldown.record(None, is_probe=self.is_probe)
            return answer
        finally:
            self.give_back()

    def give_back(self) -> None:
        """Free the place; a probe that told nothing leaves it to the next call."""
        _leave(self.place)
        if self.is_probe:
            self.cooldown.give_back_probe()


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
        _take(place, settings)
    try:
        return Pass(cooldown=cooldown, is_probe=cooldown.check(), place=place)
    except UpstreamUnavailable:
        _leave(place)
        raise


def _take(place: object, settings: Settings) -> None:
    now = time.monotonic()
    with _lock:
        for overdue in [taken for taken, ends in _taken.items() if ends <= now]:
            del _taken[overdue]
        if settings.max_concurrent_calls is not None and len(_taken) >= settings.max_concurrent_calls:
            raise UpstreamUnavailable(retry_after=FULL_RETRY_AFTER)
        _taken[place] = now + settings.deadline + GRACE


def _leave(place: object) -> None:
    with _lock:
        _taken.pop(place, None)
