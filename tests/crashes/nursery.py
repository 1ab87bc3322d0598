"""The tests' end of the process that forks."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from tests.conftest import PROXY_VARIABLES

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Life:
    """What is left of a child: how it ended, the steps that it took, and what came of it if it lived."""

    status: int
    steps: list[str]
    result: Any

    @property
    def was_killed(self) -> bool:
        """Return whether it died as it was to."""
        return self.status == -signal.SIGKILL


class Nursery:
    """Fork children, on the tests' database and with the settings of the moment."""

    def __init__(self) -> None:
        kept = {name: value for name, value in os.environ.items() if name.lower() not in PROXY_VARIABLES}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crashes.forking"],
            cwd=ROOT,
            env={**kept, "CHATKIT_TEST_DATABASE": str(connection.settings_dict["NAME"])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            self.port: int = self._reply()["port"]
        except BaseException:
            self.close()
            raise

    def run(self, action: str, *, die_at: int = 0, **arguments: Any) -> Life:
        """Let a child do something and die at a step of it; return its life."""
        [life] = self._order("run", action=action, arguments=arguments, die_at=die_at, times=1)["lives"]
        return Life(**life)

    def run_at_once(self, action: str, *, times: int) -> list[Life]:
        """Let so many children do something at the same time, and return their lives."""
        reply = self._order("run", action=action, arguments={}, die_at=0, times=times)
        return [Life(**life) for life in reply["lives"]]

    def serve(self) -> None:
        """Let a child serve the site on ``port``, for as long as this process lives."""
        self._order("serve")

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Let a child serve the site for the length of the block, and kill it."""
        self.serve()
        try:
            yield
        finally:
            status = self._order("kill")["status"]
        assert status == -signal.SIGKILL, f"the server ended by itself: {status}"

    def die(self) -> None:
        """Kill the process itself; what it has forked is to notice."""
        self._process.kill()

    def close(self) -> None:
        """End the process, and kill whatever it has left behind."""
        try:
            self._process.communicate(timeout=30)
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
            raise

    def _order(self, act: str, **arguments: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        order = {"act": act, "arguments": arguments, "settings": settings.CHATKIT_SESSIONS}
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return self._reply()

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process that forks has ended"
        reply: dict[str, Any] = json.loads(line)
        return reply
