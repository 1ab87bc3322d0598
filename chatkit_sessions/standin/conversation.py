"""The echo conversation behind the web component.

These routes are the stand-in's own: the real widget talks to an undocumented service in their place. What
matters is kept: a client secret opens them only while its session lives, shows its user's threads and no
others, and is held to the session's requests per minute.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from . import items, validation
from .api import checked_body
from .exchange import Answer, ApiError, Json, RecordedRequest, json_answer
from .records import Session
from .routing import Route
from .state import State

MAX_TITLE = 60


class Conversation:
    """Answer the web component."""

    def __init__(self, state: State) -> None:
        self._state = state

    def routes(self) -> list[Route]:
        """Return the paths and methods answered here."""
        answers = self._answers
        return [
            Route("/standin/threads", {"GET": answers(self._threads), "OPTIONS": preflight}),
            Route("/standin/threads/*", {"GET": answers(self._thread), "OPTIONS": preflight}),
            Route("/standin/messages", {"POST": answers(self._send), "OPTIONS": preflight}),
        ]

    def _answers(self, action: Callable[..., Json]) -> Callable[..., Answer]:
        def answer(request: RecordedRequest, *ids: str) -> Answer:
            session = self._admit(request)
            left = max(0, math.floor(session.expires_at - self._state.clock()))
            payload = action(session, request, *ids)
            # The component renews before the end; seconds left, since its clock may not agree with ours.
            return json_answer(200, payload).with_headers({"x-session-expires-in": str(left)})

        return answer

    def _admit(self, request: RecordedRequest) -> Session:
        session = self._state.session_with_secret(request.bearer)
        if session is None:
            message = "The client secret is unknown, expired or cancelled."
            raise ApiError(401, message, code="invalid_client_secret")
        wait = self._state.use(session)
        if wait:
            seconds = str(math.ceil(wait))
            message = f"Rate limit of this session reached. Try again in {seconds} s."
            raise ApiError(429, message, code="rate_limit_exceeded", headers={"retry-after": seconds})
        return session

    def _threads(self, session: Session, request: RecordedRequest) -> Json:
        history = session.configuration["history"]
        limit = min(history["recent_threads"] or 100, 100) if history["enabled"] else 0
        return self._state.list_threads({"user": session.user, "limit": limit})

    def _thread(self, session: Session, request: RecordedRequest, thread_id: str) -> Json:
        thread = self._own_thread(session, thread_id)
        return {"thread": thread, "items": self._state.items(thread_id)}

    def _send(self, session: Session, request: RecordedRequest) -> Json:
        body = checked_body(request, validation.SEND_MESSAGE)
        text, thread_id = body["text"], body.get("thread_id")
        thread = self._own_thread(session, thread_id) if thread_id else self._new_thread(session, text)
        if thread["status"]["type"] != "active":
            raise ApiError(403, f"This thread is {thread['status']['type']}.", code="thread_not_active")
        added = [items.user_message(text), items.assistant_message(f"You said: {text}")]
        return {"thread": thread, "items": self._state.add_items(thread["id"], added)}

    def _new_thread(self, session: Session, text: str) -> Json:
        titled = session.configuration["automatic_thread_titling"]["enabled"]
        return self._state.add_thread(session.user, title=text[:MAX_TITLE] if titled else None)

    def _own_thread(self, session: Session, thread_id: str) -> Json:
        thread = self._state.retrieve_thread(thread_id)
        if thread["user"] != session.user:
            # The very words used for a thread that does not exist: whose it is stays unknown.
            raise ApiError(404, f"Thread with id '{thread_id}' not found.")
        return thread


def preflight(request: RecordedRequest, *ids: str) -> Answer:
    """Answer a browser that asks whether a page may send its request."""
    return Answer(204)
