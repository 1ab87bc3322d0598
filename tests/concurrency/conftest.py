import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from django.conf import settings
from django.db import connection
from pytest_django import DjangoDbBlocker

from chatkit_sessions import testing
from chatkit_sessions.standin import StandIn
from tests.conftest import PROXY_VARIABLES

from .worker import ISSUED, issue, together

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = int(os.environ.get("CHATKIT_CONCURRENCY_ROUNDS", "2"))
THREADS = 20
PROCESSES = 4
THREADS_OF_A_PROCESS = 5

__all__ = ["ISSUED"]


class Worker:
    """A process of its own that issues sessions from the same database and the same API."""

    def __init__(self) -> None:
        kept = {name: value for name, value in os.environ.items() if name.lower() not in PROXY_VARIABLES}
        environment = {**kept, "CHATKIT_TEST_DATABASE": str(connection.settings_dict["NAME"])}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.concurrency.worker"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def begin(self, **request: Any) -> None:
        print(json.dumps(request), file=self._pipe(self._process.stdin), flush=True)

    def line(self) -> str:
        return self._pipe(self._process.stdout).readline().strip()

    def close(self) -> None:
        self._process.communicate(timeout=30)

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


class Crowd:
    """Twenty threads of this process and four other processes, all of which want a session at once."""

    size = THREADS + PROCESSES * THREADS_OF_A_PROCESS

    def __init__(self) -> None:
        self._workers = [Worker() for _ in range(PROCESSES)]
        for worker in self._workers:
            assert worker.line() == "ready"

    def rush(self, identifier: str) -> Counter[str]:
        """Let everybody ask for a session for one person, and return what came of it."""
        at = time.time() + 0.3
        for worker in self._workers:
            worker.begin(
                identifier=identifier,
                times=THREADS_OF_A_PROCESS,
                at=at,
                settings=settings.CHATKIT_SESSIONS,
            )
        outcomes = Counter(together([lambda: issue(identifier)] * THREADS, at=at))
        for worker in self._workers:
            outcomes.update(json.loads(worker.line()))
        return outcomes

    def close(self) -> None:
        for worker in self._workers:
            worker.close()


@pytest.fixture
def site(transactional_db: None, request: pytest.FixtureRequest) -> Iterator[StandIn]:
    """The site, with the keys of CHATKIT_SESSIONS that the test's parameter names.

    However slow the machine is, nobody is refused because others wait for the API.
    """
    with testing.standin(**{"MAX_CONCURRENT_CALLS": None, **getattr(request, "param", {})}) as api:
        yield api


@pytest.fixture(scope="session")
def crowd(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Crowd]:
    with django_db_blocker.unblock():
        crowd = Crowd()
    yield crowd
    crowd.close()
