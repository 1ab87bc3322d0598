"""The steps of a child that may be killed at each: statements, commits and calls, before and after."""

import os
import select
import signal
import threading
from collections.abc import Callable
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from urllib3.connection import HTTPConnection

from chatkit_sessions.client.transport import Transport

CALL, SENT, ANSWERED, READ = "call", "sent", "answered", "read"
COMMIT, COMMITTED = "commit", "committed"


class Steps:
    """Write each step into a pipe, which outlives this process, and die at one of them."""

    def __init__(self, report: int, *, die_at: int) -> None:
        """Count from one on; nobody dies at step 0."""
        self._report = report
        self._die_at = die_at
        self._taken = 0
        self._lock = threading.Lock()

    def __call__(self, name: str) -> None:
        """Take a step."""
        with self._lock:
            self._taken += 1
            os.write(self._report, f"{name}\n".encode())
            if self._taken == self._die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """Make a step of everything that this process does to the database and the API, for good."""
        connection_created.connect(self._watch_statements, weak=False)
        _surround(BaseDatabaseWrapper, "_commit", self, COMMIT, COMMITTED)
        _surround(HTTPConnection, "request", self, CALL, SENT)
        _surround(Transport, "send", self, None, READ)
        receive = HTTPConnection.getresponse

        def getresponse(connection: HTTPConnection) -> Any:
            select.select([connection.sock], [], [], 30)
            self(ANSWERED)
            return receive(connection)

        _replace(HTTPConnection, "getresponse", getresponse)

    def _watch_statements(self, connection: BaseDatabaseWrapper, **arguments: Any) -> None:
        if self._around_statement not in connection.execute_wrappers:
            connection.execute_wrappers.append(self._around_statement)

    def _around_statement(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        statement = " ".join(sql.split()[:3])
        self(f"before {statement}")
        result = execute(sql, params, many, context)
        self(f"after {statement}")
        return result


def _surround(owner: type, name: str, step: Steps, before: str | None, after: str) -> None:
    inner = getattr(owner, name)

    def run(*args: Any, **kwargs: Any) -> Any:
        if before is not None:
            step(before)
        result = inner(*args, **kwargs)
        step(after)
        return result

    _replace(owner, name, run)


def _replace(owner: type, name: str, function: Callable[..., Any]) -> None:
    setattr(owner, name, function)
