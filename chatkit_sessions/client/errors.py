"""Errors of the ChatKit API, under the names that OpenAI's own clients use."""

from __future__ import annotations


class APIError(Exception):
    """Base of every failure of a call to the API. Carries primitives only, never a header or a body.

    Attributes:
        message: what happened; what the API said has its keys and secrets removed.
        status_code: HTTP status of the last answer, or None without one.
        request_id: ``x-request-id`` of the last answer, for OpenAI's support.
        code: the API's error code, or None.
        param: the API's name of the parameter at fault, or None.
        retry_after: seconds the API asked to wait, or None.
        retryable: whether another attempt is safe and may help.
        attempts: how many requests were sent.
    """

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        request_id: str = "",
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.request_id = request_id
        self.code = code
        self.param = param
        self.retry_after = retry_after
        self.retryable = retryable
        self.attempts = 0


class APIConnectionError(APIError):
    """No connection, or a connection that broke before the answer."""


class APITimeoutError(APIConnectionError):
    """No answer in time. The API may have done what it was asked."""


class APIResponseValidationError(APIError):
    """An answer that is not what the API's description promises."""


class APIStatusError(APIError):
    """An answer with an error status."""


class BadRequestError(APIStatusError):
    """400."""


class AuthenticationError(APIStatusError):
    """401."""


class PermissionDeniedError(APIStatusError):
    """403."""


class NotFoundError(APIStatusError):
    """404. A workflow of another project than the key's answers so too."""


class ConflictError(APIStatusError):
    """409."""


class UnprocessableEntityError(APIStatusError):
    """422."""


class RateLimitError(APIStatusError):
    """429."""


class InternalServerError(APIStatusError):
    """500 and above."""


_BY_STATUS: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}


def status_error_class(status_code: int) -> type[APIStatusError]:
    """Return the class for an error status."""
    if status_code >= 500:
        return InternalServerError
    return _BY_STATUS.get(status_code, APIStatusError)


def strip_frames(error: BaseException) -> None:
    """Drop the frames of an error and its causes: debug pages show the raw requests and answers in them."""
    chain: BaseException | None = error
    while chain is not None:
        chain.__traceback__ = None
        chain = chain.__cause__ or chain.__context__
