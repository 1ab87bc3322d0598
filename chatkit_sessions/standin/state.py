"""Everything the stand-in knows, in memory, behind one lock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import items, paging
from .exchange import ApiError, Json
from .records import Session, Thread, new_id, session_from

EXAMPLE_SESSION = "cksess_123"
EXAMPLE_THREAD = "cthr_123"
EXAMPLE_USER = "user_123"


class State:
    """Keep sessions and threads; every method is atomic and returns what the API shows."""

    def __init__(self, *, clock: Callable[[], float], examples: bool = False) -> None:
        self.clock = clock
        self._examples = examples
        self._lock = threading.RLock()
        self._sessions: dict[str, Session] = {}
        self._threads: dict[str, Thread] = {}
        if examples:
            self.create_session({"user": EXAMPLE_USER, "workflow": {"id": "wf_123"}}, EXAMPLE_SESSION)
            self.add_thread(
                EXAMPLE_USER, title="Example", items=items.one_of_each(), thread_id=EXAMPLE_THREAD
            )

    def sessions(self) -> dict[str, Json]:
        """Return every session by id, oldest first."""
        with self._lock:
            return {key: session.as_json(self.clock()) for key, session in self._sessions.items()}

    def threads(self) -> dict[str, Json]:
        """Return every thread by id, oldest first."""
        with self._lock:
            return {key: thread.as_json() for key, thread in self._threads.items()}

    def items(self, thread_id: str) -> list[Json]:
        """Return a thread's items, oldest first."""
        with self._lock:
            return list(self._thread(thread_id).items)

    def create_session(self, body: Json, session_id: str | None = None) -> Json:
        """Create a session from a validated body."""
        with self._lock:
            now = self.clock()
            session = session_from(body, session_id=session_id or new_id("cksess"), now=now)
            self._sessions[session.id] = session
            return session.as_json(now)

    def cancel_session(self, session_id: str) -> Json:
        """Cancel a session; repeating it is harmless."""
        with self._lock:
            session = self._sessions.get(session_id)
            if session is None:
                raise ApiError(404, f"Session with id '{session_id}' not found.")
            session.cancelled = True
            return session.as_json(self.clock())

    def session_with_secret(self, client_secret: str) -> Session | None:
        """Return the active session this secret opens."""
        with self._lock:
            now = self.clock()
            for session in self._sessions.values():
                if session.client_secret == client_secret and session.status(now) == "active":
                    return session
        return None

    def use(self, session: Session) -> float:
        """Count a request of this session; return the seconds to wait, 0 when it may go on."""
        with self._lock:
            return session.seconds_until_free(self.clock())

    def list_threads(self, query: Mapping[str, Any]) -> Json:
        """Return a page of threads, of one user if the query names one."""
        with self._lock:
            threads = self._threads.values()
            rows = [thread.as_json() for thread in threads if query.get("user", thread.user) == thread.user]
            return paging.page(rows, query, lenient=self._examples)

    def retrieve_thread(self, thread_id: str) -> Json:
        """Return one thread."""
        with self._lock:
            return self._thread(thread_id).as_json()

    def list_items(self, thread_id: str, query: Mapping[str, Any]) -> Json:
        """Return a page of a thread's items."""
        with self._lock:
            return paging.page(self._thread(thread_id).items, query, lenient=self._examples)

    def delete_thread(self, thread_id: str) -> Json:
        """Delete a thread; the example thread is only said to be gone, so that it can be deleted again."""
        with self._lock:
            self._thread(thread_id)
            if thread_id != EXAMPLE_THREAD:
                del self._threads[thread_id]
        return {"id": thread_id, "object": "chatkit.thread.deleted", "deleted": True}

    def add_thread(
        self,
        user: str,
        *,
        title: str | None = None,
        items: Iterable[Json] = (),
        status: str = "active",
        created_at: int | None = None,
        thread_id: str | None = None,
    ) -> Json:
        """Store a thread with these items."""
        with self._lock:
            now = int(self.clock()) if created_at is None else created_at
            thread = Thread(thread_id or new_id("cthr"), user, title, status, now)
            for item in items:
                thread.add(item, now=now)
            self._threads[thread.id] = thread
            return thread.as_json()

    def add_items(self, thread_id: str, items: Iterable[Json]) -> list[Json]:
        """Append items to a thread."""
        with self._lock:
            thread = self._thread(thread_id)
            return [thread.add(item, now=self.clock()) for item in items]

    def _thread(self, thread_id: str) -> Thread:
        thread = self._threads.get(thread_id)
        if thread is None:
            raise ApiError(404, f"Thread with id '{thread_id}' not found.")
        return thread
