"""One call to the API over ``requests``: authenticated, bounded in time and size, retried where safe."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.auth import AuthBase
from urllib3 import exceptions as urllib3_errors

from chatkit_sessions import bounds
from chatkit_sessions.secret import Secret, redact, without

from . import answers, retries
from .answers import Answer, source
from .errors import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APITimeoutError,
    status_error_class,
    strip_frames,
)
from .reasons import is_certificate_refused, reason
from .watch import WatchedAdapter, watch

_MAX_MESSAGE_LENGTH = 1000


class BearerAuth(AuthBase):
    """Set the ``Authorization`` header last, so that no ``~/.netrc`` entry replaces it."""

    def __init__(self, api_key: Secret) -> None:
        self._api_key = api_key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = Secret(f"Bearer {self._api_key}")
        return request


_shared: dict[int, requests.Session] = {}


def shared_session() -> requests.Session:
    """Return this process's pooled ``requests.Session``; a forked child gets one of its own."""
    pid = os.getpid()
    session = _shared.get(pid)
    if session is None:
        session = requests.Session()
        adapter = WatchedAdapter(pool_maxsize=32)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        # Nothing that one user's call is answered with may travel with the next one's.
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        _shared.clear()
        _shared[pid] = session
    return session


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
        # What cannot stand in a header would be shown, key included, by the error of a library below.
        bounds.header_value("api_key", api_key)
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
        for name, value in {"organization": organization, "project": project}.items():
            if value:
                bounds.header_value(name, value)
                self._headers[f"OpenAI-{name.title()}"] = value

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
            APIError: the answer is an error, no answer, or not usable JSON.
        """
        ends = time.monotonic() + self._deadline
        attempt = 1
        while True:
            try:
                return self._attempt(method, path, params, body, ends=ends, attempt=attempt)
            except APIError as error:
                error.attempts = attempt
                wait = retries.wait_before_retry(error, attempt=attempt, max_retries=self._max_retries)
                if wait is None or time.monotonic() + wait >= ends:
                    strip_frames(error)
                    raise
            except BaseException as error:  # whatever it is, the answer is in its frames
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
        response: requests.Response | None = None
        try:
            with watch(left) as watching, self._request(method, path, params, body, left) as response:
                content = answers.read(response, ends)
        # Beside its own errors, which are OSErrors, requests lets through some of those below it.
        except (OSError, ValueError, urllib3_errors.HTTPError, APIError) as err:
            if response is not None and retries.is_retryable(response):
                # The status says enough, whatever is wrong with the rest.
                raise self._status_error(response, None) from err
            if watching.has_cut and not watching.is_connecting:
                raise _cut(response) from err
            if isinstance(err, APIError):
                raise
            raise self._transport_error(err, is_connecting=watching.is_connecting) from err
        data = answers.decode(content)
        if response.status_code >= 400:
            raise self._status_error(response, data)
        if response.status_code >= 300:
            raise answers.invalid("The answer is a redirect, which is never followed.", response)
        if data is answers.UNUSABLE:
            if watching.has_cut:  # the end of a shut socket passes for the end of the answer
                raise _cut(response)
            raise answers.invalid("The answer is not JSON that can be used.", response)
        # A gateway may answer with what it was sent; the client secret is cleaned where it is known.
        return Answer(data=without(data, self._api_key), attempts=attempt, **source(response))

    def _request(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        body: Mapping[str, Any] | None,
        left: float,
    ) -> requests.Response:
        """Send one request and return as soon as the headers of its answer are there."""
        connect, read = self._timeout
        session = self._session or shared_session()
        return session.request(
            method,
            self._base_url + path,
            params=params,
            json=body,
            headers=self._headers,
            auth=BearerAuth(self._api_key),
            timeout=(min(connect, left), min(read, left)),
            allow_redirects=False,
            hooks={"response": [*session.hooks["response"], self._tidy]},
            stream=True,
        )

    def _status_error(self, response: requests.Response, data: Any) -> APIError:
        error = data.get("error") if isinstance(data, Mapping) else None
        said = error if isinstance(error, Mapping) else {}
        message = self._cleaned(said.get("message")) or self._cleaned(response.reason) or "no message"
        return status_error_class(response.status_code)(
            message,
            **source(response),
            code=self._cleaned(said.get("code"), answers.MAX_WORD_LENGTH),
            param=self._cleaned(said.get("param"), answers.MAX_WORD_LENGTH),
            retry_after=retries.retry_after(response.headers),
            retryable=retries.is_retryable(response),
        )

    def _tidy(self, response: requests.Response, **options: Any) -> None:
        """Take out of the headers what leads astray."""
        # To prepare to follow a redirect, requests would first read all of the answer.
        response.headers.pop("location", None)
        if request_id := response.headers.get("x-request-id"):
            response.headers["x-request-id"] = self._clean(request_id, answers.MAX_WORD_LENGTH)

    def _transport_error(self, error: Exception, *, is_connecting: bool) -> APIError:
        if isinstance(error, requests.ReadTimeout) and not is_connecting:
            return APITimeoutError("The API did not answer in time.")
        if isinstance(error, requests.exceptions.InvalidHeader):
            return APIResponseValidationError("The answer's headers cannot be read.")
        # A ValueError is about the address: it will be as wrong the next time, and so will a certificate.
        retryable = not isinstance(error, ValueError) and not is_certificate_refused(error)
        message = f"No connection to the API: {self._clean(reason(error))}"
        return APIConnectionError(message, retryable=retryable)

    def _cleaned(self, value: Any, length: int = _MAX_MESSAGE_LENGTH) -> str | None:
        """Return text of the API without keys and secrets; what is no text says nothing."""
        return self._clean(value, length) if isinstance(value, str) else None

    def _clean(self, text: str, length: int = _MAX_MESSAGE_LENGTH) -> str:
        """Return a text on one line, without keys, secrets and what a terminal obeys, shortened."""
        printable = "".join(character if character.isprintable() else " " for character in text)
        return str(redact(" ".join(printable.split()), self._api_key))[:length]


def _cut(response: requests.Response | None) -> APITimeoutError:
    message = "The answer did not end in time."
    # Its headers may have been there.
    return APITimeoutError(message) if response is None else APITimeoutError(message, **source(response))
