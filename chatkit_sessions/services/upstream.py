"""From the API's errors to ours."""

from __future__ import annotations

from chatkit_sessions.client import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APITimeoutError,
    InternalServerError,
    RateLimitError,
)
from chatkit_sessions.exceptions import (
    UpstreamError,
    UpstreamInvalidResponse,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)

# Seconds to name in Retry-After where the API names none.
DEFAULT_RETRY_AFTER = 5.0


def translate(error: APIError, reference: str | None = None) -> UpstreamError:
    """Return our error for one of the API's; nothing of the API's message is in it."""
    retry_after = error.retry_after if error.retry_after is not None else DEFAULT_RETRY_AFTER
    if isinstance(error, APITimeoutError):
        return UpstreamTimeout(reference=reference)
    if isinstance(error, APIResponseValidationError):
        return UpstreamInvalidResponse(reference=reference)
    if isinstance(error, RateLimitError):
        return UpstreamRateLimited(reference=reference, retry_after=retry_after)
    if isinstance(error, APIConnectionError | InternalServerError) or error.status_code == 408:
        return UpstreamUnavailable(reference=reference, retry_after=retry_after)
    return UpstreamRejected(reference=reference)
