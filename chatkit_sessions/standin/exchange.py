"""What goes over the wire: a request as it came, an answer as it leaves, and the API's error shape."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]

NO_HEADERS: Mapping[str, str] = {}


@dataclass(frozen=True)
class RecordedRequest:
    """Keep one request as it arrived; header names are in lower case.

    Headers and body stay out of the `repr`: they hold keys, client secrets and what people wrote.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def endpoint(self) -> str:
        """Return the path without the optional `/v1` in front."""
        return without_version(self.path)

    @property
    def bearer(self) -> str:
        """Return the token of an `Authorization: Bearer ...` header, or an empty string."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""

    @property
    def json(self) -> Any:
        """Return the decoded body.

        Raises:
            ValueError: the body is not JSON; NaN and Infinity are not.
        """
        return json.loads(self.body, parse_constant=_refuse_constant)


@dataclass(frozen=True)
class Answer:
    """Hold a status, a body and headers; header names are in lower case."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def with_headers(self, headers: Mapping[str, str]) -> Answer:
        """Return a copy to which these headers are added, replacing those of the same name."""
        added = {name.lower(): value for name, value in headers.items()}
        return Answer(self.status, self.body, {**self.headers, **added})


class ApiError(Exception):
    """Refuse a request in the shape the API uses for errors."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = headers

    def answer(self) -> Answer:
        """Return what is sent to the client."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return json_answer(self.status, {"error": error}).with_headers(self.headers)


def json_answer(status: int, payload: Mapping[str, Any]) -> Answer:
    """Return a JSON answer."""
    body = json.dumps(payload).encode()
    return Answer(status, body, {"content-type": "application/json"})


def without_version(path: str) -> str:
    """Return a path without the optional `/v1` in front: the API answers on both."""
    return path.removeprefix("/v1") if path.startswith("/v1/") else path


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
