import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client, override_settings
from django.utils import timezone

from chatkit_sessions.identity import Identity
from chatkit_sessions.models import ChatSession, Status
from chatkit_sessions.policy import DEFAULTS
from chatkit_sessions.standin import StandIn

ROOT = "/api/chatkit/"
JSON = "application/json"
POLICY = {name: {"value": value, "layer": "default"} for name, value in DEFAULTS.items()}
# Every endpoint, with ids that name nothing.
ENDPOINTS = (
    ("POST", "sessions/"),
    ("GET", "sessions/"),
    ("GET", "sessions/cksess_none/"),
    ("POST", "sessions/cksess_none/cancel/"),
    ("GET", "workflows/"),
    ("GET", "threads/"),
    ("GET", "threads/cthr_none/"),
    ("DELETE", "threads/cthr_none/"),
    ("GET", "threads/cthr_none/items/"),
)


class Browser:
    """What one visitor's page sends to the endpoints."""

    def __init__(self, user: User | None = None, *, enforce_csrf_checks: bool = False) -> None:
        self.http = Client(enforce_csrf_checks=enforce_csrf_checks)
        if user is not None:
            self.http.force_login(user)

    def __call__(
        self, method: str, path: str, body: Any = b"", *, content_type: str = JSON, **headers: str
    ) -> Any:
        """Send a request; a body that is not bytes goes out as JSON."""
        encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.http.generic(method, ROOT + path, encoded, content_type, headers=headers)

    def get(self, path: str) -> Any:
        return self("GET", path)

    def post(self, path: str, body: Any = b"") -> Any:
        return self("POST", path, body)

    def issue(self, **body: Any) -> dict[str, Any]:
        """Issue a session and return the session object."""
        answer = self.post("sessions/", body)
        assert answer.status_code == 201, answer.content
        session: dict[str, Any] = answer.json()
        return session


def assert_error(
    answer: Any,
    status: int,
    code: str,
    detail: str,
    *,
    reference: str | None = None,
    errors: dict[str, list[str]] | None = None,
    retry_after: str | None = None,
) -> None:
    """Hold an answer against the one shape of errors."""
    expected: dict[str, Any] = {"detail": detail, "code": code, "reference": reference}
    if errors is not None:
        expected["errors"] = errors
    assert (answer.status_code, answer.json()) == (status, expected)
    assert answer.headers.get("Retry-After") == retry_after
    assert answer.headers["Content-Type"] == JSON
    assert answer.headers["Cache-Control"] == "private, no-store"


def assert_invalid(answer: Any, **errors: list[str]) -> None:
    """Hold an answer against what every field error looks like."""
    assert_error(answer, 400, "invalid", "The request is not valid.", errors=errors)


_numbers = itertools.count(1)


def session_of(user: User | None, **values: Any) -> ChatSession:
    """Write a session as the service leaves it once it is issued."""
    now = timezone.now()
    identity = Identity(user=user, identifier=values.get("identifier", str(user.pk) if user else "visitor"))
    defaults = {
        "upstream_id": f"cksess_{next(_numbers)}",
        "identifier": identity.identifier,
        "identity_key": identity.key,
        "workflow_slug": "default",
        "workflow_id": "wf_tests",
        "status": Status.ACTIVE,
        "issued_at": now,
        "expires_at": now + timedelta(seconds=600),
        "max_requests_per_1_minute": 10,
        "policy": POLICY,
    }
    return ChatSession.objects.create(user=user, **{**defaults, **values})


@pytest.fixture
def configure(standin: StandIn) -> Iterator[Callable[..., None]]:
    """Change keys of CHATKIT_SESSIONS for the rest of the test."""
    with ExitStack() as stack:

        def change(**keys: Any) -> None:
            changed = {**settings.CHATKIT_SESSIONS, **keys}
            stack.enter_context(override_settings(CHATKIT_SESSIONS=changed))

        yield change


@pytest.fixture
def ada(db: None) -> User:
    return User.objects.create_user("ada")


@pytest.fixture
def bob(db: None) -> User:
    return User.objects.create_user("bob")


@pytest.fixture
def browser(ada: User) -> Browser:
    """Ada's page."""
    return Browser(ada)
