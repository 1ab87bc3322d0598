"""A process that has booted the site and forks children to be killed: ``python -m tests.crashes.forking``.

Each line of its input is an order in JSON, each line of its output the reply. CHATKIT_TEST_DATABASE names the
database, which it never opens itself: no two children share a connection.
"""

import json
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

SECONDS_OF_A_CHILD = 60
# Begins the line of a report that is no step.
RESULT = "result: "


def main() -> None:
    """Serve until the input ends, and leave no child behind."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django
    from django.conf import settings
    from django.db import connections
    from django.urls import get_resolver

    django.setup()
    database = connections["default"]
    database.settings_dict["NAME"] = os.environ["CHATKIT_TEST_DATABASE"]
    if database.vendor == "sqlite":
        # There everybody waits for everybody else, on a slow machine for long.
        database.settings_dict["OPTIONS"] = {**database.settings_dict["OPTIONS"], "timeout": 60}
    # Imported once, here, and not by each child.
    from . import actions, server  # noqa: F401

    _ = get_resolver().url_patterns
    parent = Parent()
    reply(port=parent.port)
    try:
        for line in sys.stdin:
            order = json.loads(line)
            settings.CHATKIT_SESSIONS = order["settings"]
            reply(**getattr(parent, order["act"])(**order["arguments"]))
    finally:
        parent.kill()


def reply(**content: Any) -> None:
    """Answer the order."""
    print(json.dumps(content), flush=True)


class Parent:
    """What is done on order."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        # Nothing is ever written: its other end tells a child that this process is gone.
        self._lifeline, self._held = os.pipe()
        self._server: int | None = None

    def run(self, *, action: str, arguments: dict[str, Any], die_at: int, times: int) -> dict[str, Any]:
        """Let so many children do something at once, which none survives that comes to that step."""
        gate, opener = os.pipe()
        reports = {}
        for _ in range(times):
            read, write = os.pipe()

            def work(report: int = write) -> None:
                os.close(opener)
                os.read(gate, 1)  # until it is opened: nothing is ever written
                _act(action, arguments, report, die_at)

            reports[_fork(work)] = read
            os.close(write)
        os.close(gate)
        os.close(opener)
        return {"lives": [_life(child, report) for child, report in reports.items()]}

    def serve(self) -> dict[str, Any]:
        """Let a child serve the site."""

        def work() -> None:
            from .server import serve

            os.close(self._held)
            threading.Thread(target=self._end_with_the_parent, daemon=True).start()
            serve(self._listener)

        self._server = _fork(work)
        return {}

    def kill(self) -> dict[str, Any]:
        """Kill the server, and return how it ended."""
        if self._server is None:
            return {"status": None}
        os.kill(self._server, signal.SIGKILL)  # its number is its own until it is waited for
        status, self._server = _wait(self._server), None
        return {"status": status}

    def _end_with_the_parent(self) -> None:
        os.read(self._lifeline, 1)
        os._exit(1)


def _act(action: str, arguments: dict[str, Any], report: int, die_at: int) -> None:
    """Do something in this child, and report the steps and the result."""
    from .actions import ACTIONS
    from .steps import Steps

    signal.alarm(SECONDS_OF_A_CHILD)
    Steps(report, die_at=die_at).watch()
    result = ACTIONS[action](**arguments)
    os.write(report, f"{RESULT}{json.dumps(result)}\n".encode())


def _life(child: int, report: int) -> dict[str, Any]:
    """Return what a child reported until its end, and how it ended."""
    with open(report) as lines:
        reported = lines.read().splitlines()
    steps = [line for line in reported if not line.startswith(RESULT)]
    results = [json.loads(line.removeprefix(RESULT)) for line in reported if line.startswith(RESULT)]
    return {"status": _wait(child), "steps": steps, "result": results[0] if results else None}


def _fork(work: Callable[[], None]) -> int:
    """Do something in a child and return its number."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _wait(child: int) -> int:
    """Return how a child ended: its exit code, or the signal's number below zero."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    main()
