"""The pause after the API was unavailable so many times in a row, shared through Django's default cache."""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.cache import cache
from django.utils import timezone

from chatkit_sessions.client import APIError
from chatkit_sessions.conf import Settings
from chatkit_sessions.exceptions import UpstreamTimeout, UpstreamUnavailable

from .upstream import translate

logger = logging.getLogger("chatkit_sessions")

# How long, in seconds, failures are remembered when nobody asks for a session.
MEMORY = 3600
# Seconds to name in Retry-After while another request finds out whether the API is back.
PROBE_RETRY_AFTER = 2.0


class Cooldown:
    """The cool-down of one address of the API.

    Where processes share no cache, each counts for itself; where the cache fails, there is no cool-down.
    """

    def __init__(self, settings: Settings, base_url: str) -> None:
        self._rule = settings.cooldown
        self._base_url = base_url
        # Should whoever probes die, another one may after this time.
        self._probe_seconds = settings.deadline + 1
        # One who comes later than that must not give back what is another's by then.
        self._token = str(uuid.uuid4())
        name = f"chatkit_sessions.cooldown.{hashlib.sha256(base_url.encode()).hexdigest()[:16]}"
        self._failures, self._until, self._probe = f"{name}.failures", f"{name}.until", f"{name}.probe"

    def check(self, *, probes: bool = True) -> bool:
        """Return whether this call is the one that finds out if the API is back.

        Args:
            probes: whether it may be that one; others pass as soon as the pause is over.

        Raises:
            UpstreamUnavailable: the pause is not over, or another call is finding out.
        """
        if self._rule is None:
            return False
        left: float | None = None
        with _quiet():
            until = cache.get(self._until)
            if until is None:
                return False
            rest = until - timezone.now().timestamp()
            # Longer than a pause can be: whoever began it had another clock.
            if 0 < rest <= self._rule[1]:
                left = rest
            elif not probes:
                return False
            elif cache.add(self._probe, self._token, timeout=self._probe_seconds):
                return True
            else:
                left = PROBE_RETRY_AFTER
        if left is not None:
            raise UpstreamUnavailable(retry_after=left)
        return False

    def record(self, error: APIError | None, *, is_probe: bool) -> None:
        """Count how a call ended; any answer that is not 5xx, a 429 too, shows that the API is there."""
        if self._rule is None:
            return
        with _quiet():
            if is_unavailable(error):
                self._count(*self._rule, is_probe=is_probe)
            else:
                cache.delete_many([self._failures, self._until])

    def give_back_probe(self) -> None:
        """Let the next call find out: this one was not made."""
        with _quiet():
            if cache.get(self._probe) == self._token:
                cache.delete(self._probe)

    def _count(self, times: int, seconds: float, *, is_probe: bool) -> None:
        cache.add(self._failures, 0, timeout=MEMORY)
        failures = cache.incr(self._failures)
        if failures < times and not is_probe:
            return
        now = timezone.now().timestamp()
        if 0 < (cache.get(self._until) or 0) - now <= seconds:  # begun by another call
            return
        cache.set(self._until, now + seconds, timeout=seconds + MEMORY)
        logger.error(
            "The API at %s was unavailable %d times in a row: it is not asked for %g seconds.",
            self._base_url,
            failures,
            seconds,
        )


def is_unavailable(error: APIError | None) -> bool:
    """Return whether a call that ended so met an API that is failing or cannot be reached."""
    return error is not None and isinstance(translate(error), UpstreamUnavailable | UpstreamTimeout)


@contextmanager
def _quiet() -> Iterator[None]:
    """Do without the cache where it fails: it is there to spare the site, not to stop it."""
    try:
        yield
    except Exception as error:  # each backend has its own
        logger.warning("The cache failed, so there is no cool-down now: %s", type(error).__name__)
