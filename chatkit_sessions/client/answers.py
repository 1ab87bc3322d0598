"""Reading an answer: in time, of bounded size, and only as JSON of use."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any, TypedDict

import requests
from urllib3 import exceptions as urllib3_errors

from .errors import APIResponseValidationError, APITimeoutError

MAX_ANSWER_BYTES = 1024 * 1024
MAX_DEPTH = 100
MAX_WORD_LENGTH = 255
UNUSABLE = object()


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


class Source(TypedDict):
    """What tells an answer from others."""

    status_code: int
    request_id: str


def source(response: requests.Response) -> Source:
    """Return status and request id."""
    return {"status_code": response.status_code, "request_id": response.headers.get("x-request-id", "")}


def invalid(message: str, response: requests.Response) -> APIResponseValidationError:
    """Return the error for an answer that cannot be used."""
    return APIResponseValidationError(message, **source(response))


def read(response: requests.Response, ends: float) -> bytes:
    """Read an answer of at most 1 MiB, until the deadline.

    Raises:
        APIResponseValidationError: it is longer, was cut short or cannot be decompressed.
        APITimeoutError: it did not end in time.
    """
    content = b""
    response.raw.decode_content = True
    response.raw.enforce_content_length = True  # as urllib3 does by itself from version 2 on
    # A piece as it arrives: read() and iter_content() wait for a whole one, however slowly it drips.
    read_piece = getattr(response.raw, "read1", response.raw.read)
    try:
        while piece := read_piece(16 * 1024):
            content += piece
            if len(content) > MAX_ANSWER_BYTES:
                raise invalid(f"The answer is longer than {MAX_ANSWER_BYTES} bytes.", response)
            if time.monotonic() > ends:
                raise APITimeoutError("The answer did not end in time.", **source(response))
    except urllib3_errors.ReadTimeoutError as err:
        raise APITimeoutError("The answer did not end in time.", **source(response)) from err
    except urllib3_errors.DecodeError as err:
        raise invalid("The answer's compression cannot be read.", response) from err
    except urllib3_errors.HTTPError as err:
        raise invalid("The answer was cut short.", response) from err
    return content


def decode(content: bytes) -> Any:
    """Return what the JSON says, or UNUSABLE."""
    try:
        data = json.loads(content)
        # NaN, 1e999 and half of a surrogate pair are read, but no database or browser takes them from us.
        json.dumps(data, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return UNUSABLE
    return UNUSABLE if _is_deeper_than(MAX_DEPTH, data) else data


def _is_deeper_than(levels: int, value: Any) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper_than(levels - 1, item) for item in inner)
