"""One call to the API over ``requests``: authenticated, bounded in time and size, retried where safe."""

from __future__ import annotations

import email.utils
import json
import os
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from chatkit_sessions.secret import Secret, redact

from .errors import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APITimeoutError,
    status_error_class,
    strip_frames,
)

MAX_ANSWER_BYTES = 1024 * 1024
# A longer wait than this, in seconds, is not worth a request's time: the caller is told instead.
MAX_RETRY_AFTER = 60.0
_RETRIED_STATUSES = frozenset({408, 409, 429})
_MAX_MESSAGE_LENGTH = 1000


class BearerAuth(AuthBase):
    """Set the ``Authorization`` header last, so that no ``~/.netrc`` entry replaces it."""

    def __init__(self, api_key: Secret) -> None:
        self._api_key = api_key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = Secret(f"Bearer {self._api_key}")
        return request


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A successful answer.

    Attributes:
        data: the decoded JSON; may hold a client secret, so it is hidden.
        attempts: how many requests were sent.
    """

    data: Any
    status_code: int
    request_id: str
    attempts: int

    def __repr__(self) -> str:
        return f"<Answer {self.status_code} {self.request_id}>"


_shared: dict[int, requests.Session] = {}


def shared_session() -> requests.Session:
    """Return this process's pooled ``requests.Session``; a forked child gets one of its own."""
    pid = os.getpid()
    if pid not in _shared:
        session = requests.Session()
        adapter = HTTPAdapter(pool_maxsize=32)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        # Nothing that one user's call is answered with may travel with the next one's.
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        _shared.clear()
        _shared[pid] = session
    return _shared[pid]


class Transport:
    """Send requests to one base URL with one key."""

    def __init__(
        self,
        api_key: str,
        *,
        base_url: str,
        organization: str | None,
        project: str | None,
        timeout: tuple[float, float],
        max_retries: int,
        deadline: float,
        session: requests.Session | None,
    ) -> None:
        self._api_key = Secret(api_key)
        self._base_url = base_url.rstrip("/")
        self._timeout = timeout
        self._max_retries = max_retries
        self._deadline = deadline
        self._session = session
        self._headers = {
            "Accept": "application/json",
            "User-Agent": "django-chatkit-sessions",
            "OpenAI-Beta": "chatkit_beta=v1",
        }
        if organization:
            self._headers["OpenAI-Organization"] = organization
        if project:
            self._headers["OpenAI-Project"] = project

    def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Send one request, and again where that is safe, within the deadline.

        Raises:
            APIError: the answer is an error, no answer, or not JSON.
        """
        ends = time.monotonic() + self._deadline
        attempt = 1
        while True:
            try:
                return self._attempt(method, path, params, body, ends=ends, attempt=attempt)
            except APIError as error:
                error.attempts = attempt
                wait = self._wait_before_retry(error, attempt)
                if wait is None or time.monotonic() + wait >= ends:
                    strip_frames(error)
                    raise
            time.sleep(wait)
            attempt += 1

    def _attempt(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        body: Mapping[str, Any] | None,
        *,
        ends: float,
        attempt: int,
    ) -> Answer:
        left = max(ends - time.monotonic(), 0.001)
        connect, read = self._timeout
        try:
            with (self._session or shared_session()).request(
                method,
                self._base_url + path,
                params=params,
                json=body,
                headers=self._headers,
                auth=BearerAuth(self._api_key),
                timeout=(min(connect, left), min(read, left)),
                allow_redirects=False,
                stream=True,
            ) as response:
                content = _read(response, ends)
        except requests.RequestException as err:
            raise _transport_error(err) from err
        request_id = response.headers.get("x-request-id", "")[:255]
        data = _decode(content)
        if response.status_code >= 400:
            raise self._status_error(response, data, request_id)
        if not response.ok or response.status_code >= 300 or data is _NOT_JSON:
            what = "a redirect, which is never followed" if response.is_redirect else "not JSON"
            raise APIResponseValidationError(
                f"The answer is {what}.",
                status_code=response.status_code,
                request_id=request_id,
            )
        return Answer(
            data=data,
            status_code=response.status_code,
            request_id=request_id,
            attempts=attempt,
        )

    def _status_error(self, response: requests.Response, data: Any, request_id: str) -> APIError:
        error = data.get("error") if isinstance(data, Mapping) else None
        details = redact(error if isinstance(error, Mapping) else {}, self._api_key)
        message = details.get("message")
        return status_error_class(response.status_code)(
            str(message or response.reason or "no message")[:_MAX_MESSAGE_LENGTH],
            status_code=response.status_code,
            request_id=request_id,
            code=_short_text(details.get("code")),
            param=_short_text(details.get("param")),
            retry_after=_retry_after(response.headers),
            retryable=_retryable(response),
        )

    def _wait_before_retry(self, error: APIError, attempt: int) -> float | None:
        """Return the seconds to wait, or None when there is to be no other attempt."""
        if attempt > self._max_retries or not error.retryable:
            return None
        if error.retry_after is not None:
            return error.retry_after if error.retry_after <= MAX_RETRY_AFTER else None
        backoff: float = min(0.5 * 2 ** (attempt - 1), 8.0)
        return backoff * (1 - 0.25 * random.random())  # noqa: S311 - jitter, no secret


_NOT_JSON = object()


def _decode(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return _NOT_JSON


def _read(response: requests.Response, ends: float) -> bytes:
    """Read an answer of at most 1 MiB, until the deadline."""
    content = b""
    for chunk in response.iter_content(16 * 1024):
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise APIResponseValidationError(f"The answer is longer than {MAX_ANSWER_BYTES} bytes.")
        if time.monotonic() > ends:
            raise APITimeoutError("The answer did not end in time.")
    return content


def _transport_error(error: requests.RequestException) -> APIError:
    # A timeout while the body is read reaches us as a ConnectionError around urllib3's ReadTimeoutError.
    if isinstance(error, requests.ReadTimeout) or "Read timed out" in str(error):
        return APITimeoutError("The API did not answer in time.")
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return APIResponseValidationError("The answer was cut short.")
    if isinstance(error, requests.exceptions.ContentDecodingError):
        return APIResponseValidationError("The answer's compression cannot be read.")
    reason = redact(str(error))[:_MAX_MESSAGE_LENGTH]
    return APIConnectionError(f"No connection to the API: {reason}", retryable=True)


def _retryable(response: requests.Response) -> bool:
    told = response.headers.get("x-should-retry")
    if told in {"true", "false"}:
        return told == "true"
    return response.status_code in _RETRIED_STATUSES or response.status_code >= 500


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of ``retry-after-ms`` or ``Retry-After`` (seconds or a date), or None."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    try:
        date = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    return max(date.timestamp() - time.time(), 0.0)


def _short_text(value: Any) -> str | None:
    return value[:255] if isinstance(value, str) else None
