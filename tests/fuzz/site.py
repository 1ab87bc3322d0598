"""The site under test: its people, what they have, and how a generated request reaches it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, override_settings
from django.utils import timezone

from chatkit_sessions.standin import StandIn, items
from tests.api.conftest import JSON, ROOT, session_of

from .generation import Generated

TOKEN = "t" * 32
# Nothing but the request itself may be a reason to refuse it.
SETTINGS: dict[str, Any] = {
    "MAX_SESSIONS_PER_HOUR": None,
    "ANONYMOUS_RATE": "1000000/hour",
    "MAX_RETRIES": 0,
    "COOLDOWN": None,
    "RECORD_CLIENT": True,
    "CLIENT_STATE_VARIABLES": ["page"],
    "WORKFLOWS": {"default": {"id": "wf_tests"}, "support": {"id": "wf_support", "isolate_history": True}},
}


class Person:
    """Somebody with a session of each kind, and the page's cookies."""

    def __init__(self, user: User | None = None) -> None:
        client = Client(enforce_csrf_checks=True)
        client.cookies["csrftoken"] = TOKEN
        if user is not None:
            client.force_login(user)
        self.http = client
        running, cancelled = self._issue(), self._issue()
        self.post(f"sessions/{cancelled['id']}/cancel/")
        self.identifier: str = running["user"]
        expired = session_of(
            user,
            identifier=self.identifier,
            issued_at=timezone.now() - timedelta(hours=1),
            expires_at=timezone.now() - timedelta(minutes=50),
        )
        self.things = {
            "own-session": running["id"],
            "own-secret": running["client_secret"],
            "cancelled-session": cancelled["id"],
            "expired-session": expired.upstream_id,
        }
        self.cookies = "; ".join(f"{name}={cookie.coded_value}" for name, cookie in client.cookies.items())

    def post(self, path: str) -> Any:
        return self.http.post(ROOT + path, {}, JSON, headers={"X-CSRFToken": TOKEN})

    def _issue(self) -> dict[str, Any]:
        session: dict[str, Any] = self.post("sessions/").json()
        return session


class Site:
    """A site that every request finds as the first one found it: what is written is rolled back."""

    def __init__(self, standin: StandIn) -> None:
        self._standin = standin
        self._http = Client(enforce_csrf_checks=True)
        with override_settings(CHATKIT_SESSIONS=_settings(ALLOW_ANONYMOUS=True)):
            user, visitor, other = (
                Person(User.objects.create_user("ada")),
                Person(),
                Person(User.objects.create_user("bob")),
            )
        self._people = {"user": user, "visitor": visitor, "nobody": visitor}
        self._foreign = {f"foreign-{kind}": other.things[f"own-{kind}"] for kind in ("session", "secret")}
        self._foreign["foreign-thread"] = standin.add_thread(user=other.identifier)["id"]

    def send(self, request: Generated) -> Any:
        """Send a request and return the answer. What a view raises is raised here."""
        person = self._people[request.caller]
        things = self._foreign | person.things | {"own-thread": self._thread(person.identifier)}
        self._standin.requests.clear()
        if request.fault:
            self._standin.misbehave(request.fault, times=9)
        savepoint = connection.savepoint()
        assert savepoint is not None, "there is no transaction to roll back"
        try:
            with override_settings(CHATKIT_SESSIONS=_settings_for(request)):
                return self._send(request, person.cookies, things)
        finally:
            connection.savepoint_rollback(savepoint)
            self._standin.behave()

    def _thread(self, identifier: str) -> str:
        """Return the id of the person's thread, which the last request may have deleted."""
        for thread in self._standin.threads.values():
            if thread["user"] == identifier:
                return str(thread["id"])
        return str(self._standin.add_thread(user=identifier, items=items.one_of_each())["id"])

    def _send(self, request: Generated, cookies: str, things: Mapping[str, str]) -> Any:
        headers = {"Content-Type": JSON, **request.headers}
        if request.has_token:
            headers = {"X-CSRFToken": TOKEN, **headers}
        own = f"csrftoken={TOKEN}" if request.caller == "nobody" else cookies
        headers["Cookie"] = f"{own}; {headers['Cookie']}" if "Cookie" in headers else own
        path, query, body = request.path, request.query, request.body
        for name, thing in things.items():
            path, query = path.replace(name, thing), query.replace(name, thing)
            body = body.replace(name.encode(), thing.encode())
        return self._http.generic(request.method, f"{path}?{query}", body, headers=headers)


def _settings(**keys: Any) -> dict[str, Any]:
    return {**settings.CHATKIT_SESSIONS, **keys}


def _settings_for(request: Generated) -> dict[str, Any]:
    slow = request.fault is not None and request.fault.delay
    return _settings(
        ALLOW_ANONYMOUS=request.caller == "visitor",
        TIMEOUT=(3.05, 0.01) if slow else (3.05, 30),
        DEADLINE=60,
    )
