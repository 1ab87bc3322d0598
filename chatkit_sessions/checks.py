"""System checks. Their ids are stable: silence one with SILENCED_SYSTEM_CHECKS."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig, apps
from django.contrib.auth import get_user_model
from django.core.checks import CheckMessage, Error, Warning
from django.db.models import EmailField

from . import conf


def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report everything wrong in CHATKIT_SESSIONS and the environment; a secret's value is never shown."""
    settings, problems = conf.read()
    # A key that is not valid is not missing.
    missing = [] if any(map(_is_key, problems)) else _missing_key(settings)
    return [
        *map(_as_error, problems),
        *_missing_app(),
        *missing,
        *_plain_http(settings),
        *_personal_identifier(settings),
    ]


def _as_error(problem: conf.Problem) -> CheckMessage:
    hint = f"See the settings table in the README; every key of {conf.NAME} is optional."
    if _is_key(problem):
        hint = "A key is one string: remove spaces and line ends from it."
    return Error(
        problem.message,
        hint=hint,
        id="chatkit_sessions.E001" if problem.unknown else "chatkit_sessions.E002",
    )


def _is_key(problem: conf.Problem) -> bool:
    return problem.field.rstrip('"]').endswith("API_KEY")


def _missing_app() -> Iterator[CheckMessage]:
    if not apps.is_installed("rest_framework"):
        yield Error(
            "chatkit_sessions needs Django REST framework.",
            hint='Add "rest_framework" to INSTALLED_APPS.',
            id="chatkit_sessions.E003",
        )


def _missing_key(settings: conf.Settings) -> Iterator[CheckMessage]:
    if not settings.api_key and not any(entry.get("API_KEY") for entry in settings.credentials.values()):
        yield Warning(
            "There is no OpenAI API key, so no session can be issued.",
            hint=f"Set OPENAI_API_KEY in the environment, or API_KEY in {conf.NAME}.",
            id="chatkit_sessions.W001",
        )


def _plain_http(settings: conf.Settings) -> Iterator[CheckMessage]:
    if host := _overheard(settings.base_url):
        yield _sent_openly(conf.source_of("BASE_URL"), host)
    for name, entry in settings.credentials.items():
        if host := _overheard(entry.get("BASE_URL", "")):
            yield _sent_openly(f"{conf.setting_name('CREDENTIALS')}[{name!r}].BASE_URL", host)


def _overheard(address: str) -> str:
    """Return the host to which an address sends without encryption; "" where it is none or this machine."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    return host if parts.scheme == "http" and not _is_loopback(host) else ""


def _sent_openly(field: str, host: str) -> CheckMessage:
    return Warning(
        f"{field} sends the API key over plain http to {host}.",
        hint="Begin the address with https://.",
        id="chatkit_sessions.W002",
    )


def _personal_identifier(settings: conf.Settings) -> Iterator[CheckMessage]:
    users = get_user_model()
    key = users._meta.pk
    personal = {users.USERNAME_FIELD, users.get_email_field_name()}
    if settings.user_identifier is None and (isinstance(key, EmailField) or key.name in personal):
        yield Warning(
            f"The API would know people by the primary key of {users._meta.label}, {key.name!r}, "
            "which is personal data.",
            hint=f"Set USER_IDENTIFIER in {conf.NAME} to a callable (user, request) for a pseudonym.",
            id="chatkit_sessions.W003",
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
