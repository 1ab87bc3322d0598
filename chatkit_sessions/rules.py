"""What a value in CHATKIT_SESSIONS may be, beyond the API's own bounds: checks as those in ``bounds``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from . import bounds
from .bounds import Check, ParameterError

MAX_SECONDS = 86_400
MAX_SLUG_LENGTH = 64
SLUG = re.compile(r"[-a-zA-Z0-9_]{1,64}")
RATE = re.compile(r"([1-9][0-9]{0,8})/(second|minute|hour|day)")

# The widget's options that are data. `api` is set by the template tag, and functions cannot be stored.
# One unknown option leaves the widget blank (types of the npm package @openai/chatkit 1.9).
UI_OPTIONS = (
    "commands",
    "composer",
    "disclaimer",
    "entities",
    "frameTitle",
    "header",
    "history",
    "initialThread",
    "locale",
    "startScreen",
    "theme",
    "thread",
    "threadItemActions",
    "widgets",
)


def nullable(check: Check) -> Check:
    """Allow None beside what ``check`` allows."""

    def checked(field: str, value: Any) -> None:
        if value is not None:
            check(field, value)

    return checked


def any_value(field: str, value: Any) -> None:
    """Allow everything: the value is checked together with others."""


def string(field: str, value: Any) -> None:
    """Check for a string, which may be empty."""
    if not isinstance(value, str):
        raise ParameterError(field, f"must be a string, not {type(value).__name__}.")


def api_key(field: str, value: Any) -> None:
    """Check for a key that can stand in a header; its value is never shown."""
    if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7e]+", value):
        given = (
            "one with spaces or other characters" if isinstance(value, str) and value else "an empty value"
        )
        given = given if isinstance(value, str) else type(value).__name__
        raise ParameterError(field, f"must be a string of visible ASCII characters, not {given}.")


def api_key_source(field: str, value: Any) -> None:
    """Check for a key, or a callable that returns one when it is needed."""
    # An empty one is a missing one: env("OPENAI_API_KEY", default="") must not keep a build from booting.
    if not callable(value) and value != "":
        api_key(field, value)


def url(field: str, value: Any) -> None:
    """Check for an absolute http or https address, which has no password in it: addresses are logged."""
    if not isinstance(value, str) or not _is_address(value):
        raise ParameterError(field, "must be an address that begins with https:// (or http:// for tests).")
    if "@" in urlsplit(value).netloc:
        raise ParameterError(field, "must have no user name and password in it: addresses are logged.")


def _is_address(value: str) -> bool:
    try:
        parts = urlsplit(value)
        complete = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket that is not closed, a port that is no number
        return False
    return complete and parts.scheme in {"http", "https"} and not re.search(r"\s", value)


def seconds(field: str, value: Any) -> None:
    """Check for a number of seconds above 0 and of at most a day; not a number is neither."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value <= MAX_SECONDS:
        given = bounds.shown(value) if number else type(value).__name__
        raise ParameterError(
            field, f"must be a number of seconds above 0 and up to {MAX_SECONDS}, not {given}."
        )


def pair(first: Check, second: Check) -> Check:
    """Check for two values in a tuple or list."""

    def check(field: str, value: Any) -> None:
        if not isinstance(value, tuple | list) or len(value) != 2:
            raise ParameterError(field, f"must be a pair, not {type(value).__name__}.")
        first(f"{field}[0]", value[0])
        second(f"{field}[1]", value[1])

    return check


def items(check: Check) -> Check:
    """Check every entry of a list, tuple or set."""

    def checked(field: str, value: Any) -> None:
        if not isinstance(value, list | tuple | set | frozenset):
            raise ParameterError(field, f"must be a list, not {type(value).__name__}.")
        for index, item in enumerate(value):
            check(f"{field}[{index}]", item)

    return checked


def function(field: str, value: Any) -> None:
    """Check for a callable or the dotted path of one."""
    if not callable(value) and not (isinstance(value, str) and re.fullmatch(r"[\w.]+\.\w+", value)):
        raise ParameterError(field, f"must be a callable or its dotted path, not {type(value).__name__}.")


def function_or(check: Check) -> Check:
    """Allow a callable or its dotted path beside what ``check`` allows."""

    def checked(field: str, value: Any) -> None:
        (function if callable(value) or isinstance(value, str) else check)(field, value)

    return checked


def slug(field: str, value: Any) -> None:
    """Check for a workflow's slug."""
    if not isinstance(value, str) or not SLUG.fullmatch(value):
        raise ParameterError(
            field, f"must be a slug: 1 to {MAX_SLUG_LENGTH} letters, digits, hyphens or underscores."
        )


def rate(field: str, value: Any) -> None:
    """Check for a rate such as ``30/hour``."""
    if not isinstance(value, str) or not RATE.fullmatch(value):
        raise ParameterError(
            field, "must be a rate such as '30/hour': a number of at least 1 a second, minute, hour or day."
        )


def parse_rate(value: str) -> tuple[int, timedelta]:
    """Return the number and the period of a rate such as ``30/hour``."""
    number, _, unit = value.partition("/")
    return int(number), timedelta(**{f"{unit}s": 1})


def ui_options(field: str, value: Any) -> None:
    """Check for options of the widget that are known and are data."""
    if not isinstance(value, Mapping):
        raise ParameterError(field, f"must be a mapping, not {type(value).__name__}.")
    for name in value:
        if name not in UI_OPTIONS:
            raise ParameterError(
                f"{field}.{name}",
                "is no option that can be stored, and one unknown option leaves the widget blank; "
                f"known: {', '.join(UI_OPTIONS)}.",
            )
    _data(field, value)


def _data(field: str, value: Any) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _data(f"{field}.{key}", item)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _data(f"{field}[{index}]", item)
    elif callable(value):
        raise ParameterError(field, "must be data: a function cannot be handed to the page.")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ParameterError(field, "must be a finite number.")


def workflow_rules(max_expires_after: int) -> Mapping[str, Check]:
    """Return the rule of each field of a workflow; null means "not set here"."""
    count = nullable(bounds.integer(1))
    flag = nullable(bounds.boolean)
    return {
        "name": string,
        "issuer": bounds.choice("openai"),
        "credentials": string,
        "workflow_id": bounds.text(maximum=255),
        "version": nullable(bounds.version),
        "server_url": url,
        "domain_key": string,
        "is_active": bounds.boolean,
        "allow_anonymous": flag,
        "groups": items(string),
        "isolate_history": flag,
        "state_variables": nullable(bounds.state_variables),
        "tracing_enabled": flag,
        "automatic_thread_titling_enabled": flag,
        "file_upload_enabled": flag,
        "file_upload_max_file_size": nullable(bounds.integer(1, bounds.MAX_FILE_SIZE_MB)),
        "file_upload_max_files": count,
        "history_enabled": flag,
        "history_recent_threads": count,
        "expires_after": nullable(bounds.integer(1, max_expires_after)),
        "max_requests_per_1_minute": count,
        "max_active_sessions": count,
        "max_sessions_per_hour": count,
        "ui_options": nullable(ui_options),
    }


def workflows(max_expires_after: int) -> Check:
    """Check for workflows by slug; ``id`` is another name of ``workflow_id``."""
    known = workflow_rules(max_expires_after)

    def check(field: str, value: Any) -> None:
        if not isinstance(value, Mapping):
            raise ParameterError(
                field, f"must be a mapping of slugs to mappings, not {type(value).__name__}."
            )
        for key, fields in value.items():
            slug(f"{field}[{key!r}]", key)
            bounds.mapping({**known, "id": known["workflow_id"]})(f"{field}[{key!r}]", fields)

    return check


def credentials(field: str, value: Any) -> None:
    """Check for credentials by name."""
    known = {
        "API_KEY": api_key_source,
        "BASE_URL": url,
        "ORGANIZATION": nullable(bounds.header_value),
        "PROJECT": nullable(bounds.header_value),
    }
    if not isinstance(value, Mapping):
        raise ParameterError(field, f"must be a mapping of names to mappings, not {type(value).__name__}.")
    for name, entries in value.items():
        bounds.mapping(known)(f"{field}[{name!r}]", entries)
