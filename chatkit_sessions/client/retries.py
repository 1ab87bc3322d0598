"""Whether to send a request again, and when."""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Mapping
from datetime import UTC

import requests

from .errors import APIError

# A longer wait than this, in seconds, is not worth a request's time: the caller is told instead.
MAX_RETRY_AFTER = 60.0
# No longer one than this is believed, in seconds: a day.
MAX_TOLD = 86_400.0
RETRIED_STATUSES = frozenset({408, 409, 429})


def is_retryable(response: requests.Response) -> bool:
    """Return whether it is an error that allows another attempt; ``x-should-retry`` overrules the status."""
    if response.status_code < 400:
        return False
    told = response.headers.get("x-should-retry")
    if told in {"true", "false"}:
        return told == "true"
    return response.status_code in RETRIED_STATUSES or response.status_code >= 500


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of ``retry-after-ms`` or ``Retry-After`` (seconds or a date), or None."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if 0 <= seconds < float("inf"):
            return min(seconds, MAX_TOLD)
    try:
        date = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
        # "-0000", which means UTC as well, is read as no zone at all.
        seconds = date.replace(tzinfo=date.tzinfo or UTC).timestamp() - time.time()
    except (ValueError, OverflowError):  # no date, or one of another age
        return None
    return min(max(seconds, 0.0), MAX_TOLD)


def wait_before_retry(error: APIError, *, attempt: int, max_retries: int) -> float | None:
    """Return the seconds to wait after an attempt, or None when there is to be no other."""
    if attempt > max_retries or not error.retryable:
        return None
    if error.retry_after is not None:
        return error.retry_after if error.retry_after <= MAX_RETRY_AFTER else None
    backoff: float = min(0.5 * 2 ** (attempt - 1), 8.0)
    return backoff * (1 - 0.25 * random.random())  # noqa: S311 - jitter, no secret
