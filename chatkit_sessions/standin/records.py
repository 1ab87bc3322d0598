"""The two things the stand-in remembers, sessions and threads, and how the API shows them."""

from __future__ import annotations

import secrets
from collections import deque
from dataclasses import dataclass, field

from .exchange import Json

DEFAULT_EXPIRES_AFTER = 600
DEFAULT_REQUESTS_PER_MINUTE = 10
DEFAULT_CONFIGURATION: dict[str, Json] = {
    "automatic_thread_titling": {"enabled": True},
    "file_upload": {"enabled": False, "max_file_size": 512, "max_files": 10},
    "history": {"enabled": True, "recent_threads": None},
}


def new_id(prefix: str) -> str:
    """Return a random identifier."""
    return f"{prefix}_{secrets.token_hex(16)}"


@dataclass
class Session:
    """Remember one session and the moments at which its secret was used."""

    id: str
    user: str
    workflow: Json
    configuration: dict[str, Json]
    max_requests_per_1_minute: int
    expires_at: int
    client_secret: str = field(default_factory=lambda: new_id("ek"), repr=False)
    cancelled: bool = False
    used_at: deque[float] = field(default_factory=deque, repr=False)

    def status(self, now: float) -> str:
        """Return active, expired or cancelled."""
        if self.cancelled:
            return "cancelled"
        return "active" if now < self.expires_at else "expired"

    def as_json(self, now: float) -> Json:
        """Return the published session object; a cancelled session shows no secret."""
        return {
            "id": self.id,
            "object": "chatkit.session",
            "status": self.status(now),
            "client_secret": "" if self.cancelled else self.client_secret,
            "expires_at": self.expires_at,
            "user": self.user,
            "workflow": self.workflow,
            "rate_limits": {"max_requests_per_1_minute": self.max_requests_per_1_minute},
            "max_requests_per_1_minute": self.max_requests_per_1_minute,
            "chatkit_configuration": self.configuration,
        }

    def seconds_until_free(self, now: float) -> float:
        """Count this use against the limit; return the seconds to wait, 0 when it was within the limit."""
        while self.used_at and self.used_at[0] <= now - 60:
            self.used_at.popleft()
        if len(self.used_at) >= self.max_requests_per_1_minute:
            return self.used_at[0] + 60 - now
        self.used_at.append(now)
        return 0


def session_from(body: Json, *, session_id: str, now: float) -> Session:
    """Return the session a validated request body asks for, its defaults resolved."""
    workflow = body["workflow"]
    given = body.get("chatkit_configuration", {})
    expires_after = body.get("expires_after", {}).get("seconds", DEFAULT_EXPIRES_AFTER)
    limits = {"max_requests_per_1_minute": DEFAULT_REQUESTS_PER_MINUTE, **body.get("rate_limits", {})}
    return Session(
        id=session_id,
        user=body["user"],
        workflow={
            "id": workflow["id"],
            "version": workflow.get("version"),
            "state_variables": workflow.get("state_variables"),
            "tracing": {"enabled": True, **workflow.get("tracing", {})},
        },
        configuration={
            name: {**defaults, **given.get(name, {})} for name, defaults in DEFAULT_CONFIGURATION.items()
        },
        max_requests_per_1_minute=limits["max_requests_per_1_minute"],
        expires_at=int(now) + expires_after,
    )


@dataclass
class Thread:
    """Remember one conversation, its items oldest first."""

    id: str
    user: str
    title: str | None
    status: str
    created_at: int
    items: list[Json] = field(default_factory=list)

    def as_json(self) -> Json:
        """Return the published thread object."""
        status = {"type": self.status}
        return {
            "id": self.id,
            "object": "chatkit.thread",
            "created_at": self.created_at,
            "title": self.title,
            "status": status if self.status == "active" else {**status, "reason": None},
            "user": self.user,
        }

    def add(self, item: Json, *, now: float) -> Json:
        """Append an item, giving it what every stored item has."""
        identity = {"id": new_id("cthi"), "object": "chatkit.thread_item", "thread_id": self.id}
        stored = {**identity, "created_at": int(now), **item}
        self.items.append(stored)
        return stored
