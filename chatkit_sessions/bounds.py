"""What a value may be: the API's published types and bounds, and checks to build others from. No Django.

Bounds are those of the API's OpenAPI description. The limit on ``user`` at creation is not published; 512 is
the published limit of the same identifier as a filter of threads, so a longer one could never be found again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

MAX_USER_LENGTH = 512
MAX_EXPIRES_AFTER_SECONDS = 600
MAX_FILE_SIZE_MB = 512
MAX_STATE_VARIABLES = 64
MAX_STATE_VARIABLE_KEY_LENGTH = 64
MAX_STATE_VARIABLE_VALUE_LENGTH = 10_485_760
MAX_PAGE_LIMIT = 100
MAX_INTEGER = 2_147_483_647  # what every database's integer column holds

Check = Callable[[str, Any], None]


class ParameterError(ValueError):
    """Refuse a value.

    Attributes:
        field: path of the offending value, in the API's words (``expires_after.seconds``).
        reason: what is wrong with it and what is allowed.
    """

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.reason = reason
        super().__init__(f"{field} {reason}")


def text(*, maximum: int | None = None) -> Check:
    """Check for a string of at least one character, and at most ``maximum``."""

    def check(field: str, value: Any) -> None:
        if not isinstance(value, str) or not value or (maximum is not None and len(value) > maximum):
            allowed = f"of 1 to {maximum} characters" if maximum else "of at least 1 character"
            given = f"{len(value)} characters" if isinstance(value, str) else type(value).__name__
            raise ParameterError(field, f"must be a string {allowed}, not {given}.")
        if "\x00" in value or not _encodable(value):
            raise ParameterError(field, "must be valid text without null characters.")

    return check


def integer(minimum: int, maximum: int | None = None) -> Check:
    """Check for an integer within bounds; a boolean is none."""
    largest = MAX_INTEGER if maximum is None else maximum

    def check(field: str, value: Any) -> None:
        if type(value) is int and minimum <= value <= largest:
            return
        too_large = type(value) is int and value > largest
        open_ended = maximum is None and not too_large
        bound = f"of at least {minimum}" if open_ended else f"from {minimum} to {largest}"
        given = shown(value) if type(value) is int else type(value).__name__
        raise ParameterError(field, f"must be an integer {bound}, not {given}.")

    return check


def shown(number: float) -> str:
    """Return a number as it can stand in a message."""
    # Python refuses to write an integer of more than 4300 digits.
    huge = isinstance(number, int) and number.bit_length() > 128
    return "a number of more than 38 digits" if huge else str(number)


def boolean(field: str, value: Any) -> None:
    """Check for true or false."""
    if not isinstance(value, bool):
        raise ParameterError(field, f"must be true or false, not {type(value).__name__}.")


def header_value(field: str, value: Any) -> None:
    """Check for text that can stand in a header; it may be a key, so it is never shown."""
    if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7e]+", value):
        raise ParameterError(field, "must be a string of visible ASCII characters.")


def choice(*allowed: str) -> Check:
    """Check for one of a few words."""

    def check(field: str, value: Any) -> None:
        if value not in allowed:
            raise ParameterError(field, f"must be {' or '.join(map(repr, allowed))}.")

    return check


def mapping(optional: Mapping[str, Check], required: Mapping[str, Check] = MappingProxyType({})) -> Check:
    """Check for a mapping with these keys and no other."""
    checks = {**required, **optional}

    def check(field: str, value: Any) -> None:
        if not isinstance(value, Mapping):
            raise ParameterError(field, f"must be a mapping, not {type(value).__name__}.")
        for key in required:
            if key not in value:
                raise ParameterError(f"{field}.{key}", "is required.")
        for key, item in value.items():
            if key not in checks:
                raise ParameterError(f"{field}.{key}", f"is unknown; known: {', '.join(checks)}.")
            checks[key](f"{field}.{key}", item)

    return check


def version(field: str, value: Any) -> None:
    """Check for a workflow version, but not ``latest``: the API takes it and cannot chat with it."""
    text()(field, value)
    if re.fullmatch("latest", value.strip(), re.IGNORECASE):
        raise ParameterError(
            field,
            "must not be 'latest': the API accepts it and the chat then fails. "
            "Leave the version out to get the latest deployment.",
        )


def state_variables(field: str, value: Any) -> None:
    """Check for at most 64 entries, with keys up to 64 characters and values that are no containers."""
    if not isinstance(value, Mapping):
        raise ParameterError(field, f"must be a mapping, not {type(value).__name__}.")
    if len(value) > MAX_STATE_VARIABLES:
        raise ParameterError(field, f"must have at most {MAX_STATE_VARIABLES} entries, not {len(value)}.")
    for key, item in value.items():
        _state_variable(field, key, item)


def _state_variable(field: str, key: Any, value: Any) -> None:
    # In the message the name is shortened and readable: it may come from a browser.
    name = f"{field}.{_printable(str(key)[:MAX_STATE_VARIABLE_KEY_LENGTH])}"
    try:
        text(maximum=MAX_STATE_VARIABLE_KEY_LENGTH)(name, key)
    except ParameterError as err:
        raise ParameterError(name, f"its name {err.reason}") from None
    if isinstance(value, str):
        if len(value) > MAX_STATE_VARIABLE_VALUE_LENGTH:
            raise ParameterError(
                name,
                f"must have at most {MAX_STATE_VARIABLE_VALUE_LENGTH} characters, not {len(value)}.",
            )
        if "\x00" in value or not _encodable(value):
            raise ParameterError(name, "must be valid text without null characters.")
    elif not isinstance(value, bool | int | float):
        raise ParameterError(
            name,
            f"must be a string, a number or a boolean, not {type(value).__name__}.",
        )
    elif not _is_finite(value):
        raise ParameterError(name, "must be a finite number.")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every floating-point number
        return False


def _printable(value: str) -> str:
    """Return text that can be sent and logged: what no screen shows gives way to a question mark."""
    return "".join(character if character.isprintable() else "?" for character in value)


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


ENABLED = mapping({"enabled": boolean})
FILE_UPLOAD = mapping(
    {
        "enabled": boolean,
        "max_file_size": integer(1, MAX_FILE_SIZE_MB),
        "max_files": integer(1),
    }
)
HISTORY = mapping({"enabled": boolean, "recent_threads": integer(1)})
CHATKIT_CONFIGURATION = mapping(
    {
        "automatic_thread_titling": ENABLED,
        "file_upload": FILE_UPLOAD,
        "history": HISTORY,
    }
)
USER = text(maximum=MAX_USER_LENGTH)
WORKFLOW = mapping(
    {"version": version, "state_variables": state_variables, "tracing": ENABLED},
    required={"id": text()},
)
RATE_LIMITS = mapping({"max_requests_per_1_minute": integer(1)})

LIST_CHECKS: Mapping[str, Check] = {
    "limit": integer(0, MAX_PAGE_LIMIT),
    "order": choice("asc", "desc"),
    "after": text(),
    "before": text(),
}


def check_session(parameters: Mapping[str, Any], *, max_expires_after: int) -> None:
    """Check the parameters of creating a session, whose longest lifetime is given in seconds.

    Raises:
        ParameterError: one is of a wrong type or out of its bounds.
    """
    lifetime = {"anchor": choice("created_at"), "seconds": integer(1, max_expires_after)}
    checks: Mapping[str, Check] = {
        "user": USER,
        "workflow": WORKFLOW,
        "chatkit_configuration": CHATKIT_CONFIGURATION,
        "expires_after": mapping({}, required=lifetime),
        "rate_limits": RATE_LIMITS,
    }
    for name, value in parameters.items():
        checks[name](name, value)
