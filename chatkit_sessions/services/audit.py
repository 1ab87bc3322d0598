"""What the audit row keeps of an answer and of a browser."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest

from chatkit_sessions.bounds import MAX_INTEGER
from chatkit_sessions.client import ChatKitSession
from chatkit_sessions.secret import Secret, redact
from chatkit_sessions.visitors import client_address

MAX_RESPONSE_BYTES = 64 * 1024
# In the order in which they are kept when an answer is too long; unknown fields go first.
_KEPT = (
    "object",
    "status",
    "expires_at",
    "max_requests_per_1_minute",
    "rate_limits",
    "id",
    "user",
    "chatkit_configuration",
    "workflow",
)


def bounded_response(answer: ChatKitSession) -> dict[str, Any]:
    """Return the answer without secret and state variables, unknown fields going first where it is long.

    It takes at most 64 KiB as JSON.
    """
    raw: dict[str, Any] = without_secret(answer.raw, answer)
    if "workflow" in raw:
        # Their values may be private; the policy keeps their names and a digest.
        raw["workflow"] = {key: raw["workflow"][key] for key in raw["workflow"] if key != "state_variables"}
    if _size(raw) <= MAX_RESPONSE_BYTES:
        return raw
    kept: dict[str, Any] = {}
    for name in filter(raw.__contains__, _KEPT):
        candidate = {**kept, name: raw[name]}
        kept = candidate if _size(candidate) <= MAX_RESPONSE_BYTES else kept
    return kept


def granted_rate(answer: ChatKitSession) -> int | None:
    """Return the requests a minute that the answer grants, or None where it names none that can be."""
    limit = answer.max_requests_per_1_minute or answer.rate_limits.get("max_requests_per_1_minute")
    return limit if limit is not None and 1 <= limit <= MAX_INTEGER else None


def without_secret(value: Any, answer: ChatKitSession) -> Any:
    """Return what an answer says as it may be kept and logged."""
    # In this order: a secret that null characters take apart is whole again without them.
    return redact(storable(value), Secret(storable(answer.client_secret)))


def storable(value: Any) -> Any:
    """Return JSON-like ``value`` without null characters, which PostgreSQL does not store."""
    if isinstance(value, str):
        return value.replace("\x00", "")
    if isinstance(value, Mapping):
        return {storable(key): storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [storable(item) for item in value]
    return value


def client_of(request: HttpRequest | None) -> dict[str, Any]:
    """Return the columns that RECORD_CLIENT fills."""
    if request is None:
        return {}
    return {
        "ip_address": client_address(request),
        "user_agent": request.META.get("HTTP_USER_AGENT", "").replace("\x00", "")[:255],
    }


def _size(value: Any) -> int:
    return len(json.dumps(value).encode())
