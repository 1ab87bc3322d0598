"""The published validation of requests: a small table per request, and the checks it is read with.

Written from the API's description alone. It shares nothing with the package's own client, so that a slip
there meets an independent judge here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .exchange import ApiError

MAX_VARIABLES = 64
MAX_VARIABLE_NAME = 64
MAX_VARIABLE_TEXT = 10_485_760


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Say what one value may be; the bounds are an integer's value or a string's length."""

    kind: str
    required: bool = False
    nullable: bool = False
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[str, ...] = ()
    fields: Mapping[str, Rule] = field(default_factory=dict)


SWITCH = Rule(kind="object", fields={"enabled": Rule(kind="boolean")})

CREATE_SESSION = Rule(
    kind="object",
    fields={
        "workflow": Rule(
            kind="object",
            required=True,
            fields={
                "id": Rule(kind="string", required=True),
                "version": Rule(kind="string"),
                "state_variables": Rule(kind="variables"),
                "tracing": SWITCH,
            },
        ),
        # 512 is the bound that the thread list publishes for the same identifier.
        "user": Rule(kind="string", required=True, minimum=1, maximum=512),
        "expires_after": Rule(
            kind="object",
            fields={
                "anchor": Rule(kind="string", required=True, choices=("created_at",)),
                "seconds": Rule(kind="integer", required=True, minimum=1, maximum=600),
            },
        ),
        "rate_limits": Rule(
            kind="object", fields={"max_requests_per_1_minute": Rule(kind="integer", minimum=1)}
        ),
        "chatkit_configuration": Rule(
            kind="object",
            fields={
                "automatic_thread_titling": SWITCH,
                "file_upload": Rule(
                    kind="object",
                    fields={
                        "enabled": Rule(kind="boolean"),
                        "max_file_size": Rule(kind="integer", minimum=1, maximum=512),
                        "max_files": Rule(kind="integer", minimum=1),
                    },
                ),
                "history": Rule(
                    kind="object",
                    fields={
                        "enabled": Rule(kind="boolean"),
                        "recent_threads": Rule(kind="integer", minimum=1),
                    },
                ),
            },
        ),
    },
)

LIST_ITEMS = Rule(
    kind="object",
    fields={
        "limit": Rule(kind="integer", minimum=0, maximum=100),
        "order": Rule(kind="string", choices=("asc", "desc")),
        "after": Rule(kind="string"),
        "before": Rule(kind="string"),
    },
)

LIST_THREADS = Rule(
    kind="object", fields={**LIST_ITEMS.fields, "user": Rule(kind="string", minimum=1, maximum=512)}
)

SEND_MESSAGE = Rule(
    kind="object",
    fields={
        "thread_id": Rule(kind="string", nullable=True),
        "text": Rule(kind="string", required=True, minimum=1, maximum=100_000),
    },
)


def check(value: Any, rule: Rule, path: str = "") -> None:
    """Check a decoded value against its rule.

    Raises:
        ApiError: 400, with `param` naming the field by its dotted path.
    """
    if value is None and rule.nullable:
        return
    _CHECKS[rule.kind](value, rule, path)


def check_query(query: Mapping[str, str], rule: Rule) -> dict[str, Any]:
    """Check query parameters, which all arrive as text, and return them with their types."""
    typed: dict[str, Any] = dict(query)
    for name, text in query.items():
        numeric = name in rule.fields and rule.fields[name].kind == "integer"
        if numeric and re.fullmatch(r"-?[0-9]{1,18}", text):
            typed[name] = int(text)
    check(typed, rule)
    return typed


def _check_object(value: Any, rule: Rule, path: str) -> None:
    if not isinstance(value, dict):
        raise _wrong_type(path, "an object", value)
    for name in value:
        if name not in rule.fields:
            where = _join(path, name)
            raise _refuse(where, "unknown_parameter", f"Unknown parameter: '{where}'.")
    for name, inner in rule.fields.items():
        where = _join(path, name)
        if name in value:
            check(value[name], inner, where)
        elif inner.required:
            raise _refuse(where, "missing_required_parameter", f"Missing required parameter: '{where}'.")


def _check_string(value: Any, rule: Rule, path: str) -> None:
    if not isinstance(value, str):
        raise _wrong_type(path, "a string", value)
    if rule.choices and value not in rule.choices:
        allowed = ", ".join(f"'{choice}'" for choice in rule.choices)
        raise _refuse(path, "invalid_value", f"Invalid value: '{value}'. Supported values are: {allowed}.")
    _check_bounds(len(value), rule, path, "string", "length")


def _check_integer(value: Any, rule: Rule, path: str) -> None:
    # To Python a boolean is an integer; to JSON it is not.
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong_type(path, "an integer", value)
    _check_bounds(value, rule, path, "integer", "value")


def _check_boolean(value: Any, rule: Rule, path: str) -> None:
    if not isinstance(value, bool):
        raise _wrong_type(path, "a boolean", value)


def _check_variables(value: Any, rule: Rule, path: str) -> None:
    if not isinstance(value, dict):
        raise _wrong_type(path, "an object", value)
    _check_bounds(len(value), Rule(kind="object", maximum=MAX_VARIABLES), path, "object", "properties")
    for name, variable in value.items():
        _check_bounds(len(name), Rule(kind="string", maximum=MAX_VARIABLE_NAME), path, "string", "length")
        where = _join(path, name)
        if isinstance(variable, str):
            _check_string(variable, Rule(kind="string", maximum=MAX_VARIABLE_TEXT), where)
        # 1e999 is a valid JSON number, reads as infinity and cannot be written back.
        elif not isinstance(variable, int | float) or not math.isfinite(variable):
            raise _wrong_type(where, "a string, a finite number or a boolean", variable)


_CHECKS: Mapping[str, Callable[[Any, Rule, str], None]] = {
    "object": _check_object,
    "string": _check_string,
    "integer": _check_integer,
    "boolean": _check_boolean,
    "variables": _check_variables,
}


def _check_bounds(size: int, rule: Rule, path: str, kind: str, unit: str) -> None:
    below = rule.minimum is not None and size < rule.minimum
    above = rule.maximum is not None and size > rule.maximum
    if below or above:
        side, sign, bound = ("below_min", ">=", rule.minimum) if below else ("above_max", "<=", rule.maximum)
        message = f"Invalid '{path}': expected {unit} {sign} {bound}, but got {size} instead."
        raise _refuse(path, f"{kind}_{side}_{unit}", message)


def _wrong_type(path: str, expected: str, value: Any) -> ApiError:
    subject = f"'{path}'" if path else "the request body"
    message = f"Invalid type for {subject}: expected {expected}, but got {_describe(value)} instead."
    return _refuse(path, "invalid_type", message)


def _describe(value: Any) -> str:
    names = {str: "a string", bool: "a boolean", int: "an integer", float: "a decimal number"}
    return {**names, dict: "an object", list: "an array"}.get(type(value), "null")


def _refuse(path: str, code: str, message: str) -> ApiError:
    return ApiError(400, message, param=path or None, code=code)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
