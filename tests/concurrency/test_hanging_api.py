"""A site with eight workers, while the API hangs."""

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import NamedTuple

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection

from chatkit_sessions.standin import Fault, StandIn
from tests.conftest import PROXY_VARIABLES
from tests.crashes.site import ACCOUNT, PERSON

from .conftest import ROOT

pytestmark = pytest.mark.concurrency

WORKERS = 8
PLACES = WORKERS // 2
CALLERS = 12
READ_TIMEOUT = 2.0
FAILURES = 5
PAUSE = 60
HANG = 30.0
# Seconds between two requests of one caller, and of those who look at other pages.
PACE = 0.3


class Answer(NamedTuple):
    status: int
    seconds: float
    retry_after: str | None


@pytest.fixture
def port(site: StandIn) -> Iterator[int]:
    kept = {name: value for name, value in os.environ.items() if name.lower() not in PROXY_VARIABLES}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.concurrency.site", str(WORKERS)],
        cwd=ROOT,
        env={
            **kept,
            "CHATKIT_TEST_DATABASE": str(connection.settings_dict["NAME"]),
            "CHATKIT_TEST_SETTINGS": json.dumps(settings.CHATKIT_SESSIONS),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
        process.communicate(timeout=30)
    finally:
        process.kill()


def ask(port: int, method: str, path: str, person: str = "") -> Answer:
    began = time.monotonic()
    link = HTTPConnection("127.0.0.1", port, timeout=60)
    link.request(method, path, "{}", {"Content-Type": "application/json", ACCOUNT: "ada", PERSON: person})
    answer = link.getresponse()
    answer.read()
    link.close()
    return Answer(answer.status, time.monotonic() - began, answer.getheader("Retry-After"))


@contextmanager
def callers(port: int, *, come_back: bool = False) -> Iterator[list[Answer]]:
    """Let a crowd ask for sessions again and again, each for somebody else or always for the same one."""
    answers: list[Answer] = []
    over = threading.Event()

    def run(number: int) -> None:
        turn = 0
        while not over.wait(PACE):
            turn += 1
            person = f"{number}" if come_back else f"{number}.{turn}"
            answers.append(ask(port, "POST", "/api/chatkit/sessions/", person))

    threads = [threading.Thread(target=run, args=[number], daemon=True) for number in range(CALLERS)]
    for thread in threads:
        thread.start()
    yield answers
    over.set()
    for thread in threads:
        thread.join(timeout=HANG)


def pages(port: int, *, seconds: float) -> list[Answer]:
    """Look at another page of the site for so long."""
    until, answers = time.monotonic() + seconds, []
    while time.monotonic() < until:
        answers.append(ask(port, "GET", "/accounts/login/"))
        time.sleep(PACE / 10)
    return answers


SETTINGS = {
    "TIMEOUT": (1, READ_TIMEOUT),
    "DEADLINE": 2 * READ_TIMEOUT,
    "MAX_RETRIES": 0,
    "COOLDOWN": (FAILURES, PAUSE),
    "MAX_CONCURRENT_CALLS": PLACES,
    "MAX_SESSIONS_PER_HOUR": None,
    "AUTHENTICATION_CLASSES": ["tests.crashes.site.HeaderAuthentication"],
    "USER_IDENTIFIER": "tests.crashes.site.person",
}


def medians(*of: list[Answer]) -> list[float]:
    return [statistics.median(answer.seconds for answer in answers) for answers in of]


@pytest.mark.parametrize("site", [SETTINGS], indirect=True)
def test_a_hanging_api_does_not_take_the_sites_workers(
    site: StandIn, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    User.objects.create_user("ada")
    pages(port, seconds=0.5)  # imports and templates
    with callers(port) as issued:
        normal = pages(port, seconds=2 * READ_TIMEOUT)
    assert {answer.status for answer in issued} == {201}

    site.misbehave(Fault(delay=HANG), times=10_000)
    before = len(site.requests)
    with callers(port) as issued:
        meanwhile = pages(port, seconds=4 * READ_TIMEOUT)
        asked, answered = len(site.requests) - before, len(issued)
        pages(port, seconds=READ_TIMEOUT)
    afterwards = issued[answered:]

    usual, hanging, late = medians(normal, meanwhile, afterwards)
    slowest = max(answer.seconds for answer in meanwhile)
    with capsys.disabled():
        print(
            f"\nOther pages: {usual * 1000:.1f} ms usually, {hanging * 1000:.1f} ms while the API hangs "
            f"(medians of {len(normal)} and {len(meanwhile)}, slowest {slowest * 1000:.0f} ms). "
            f"Sessions: {asked} asked of the API, then {len(afterwards)} refused in {late * 1000:.1f} ms."
        )
    assert {answer.status for answer in meanwhile} == {200}
    assert hanging <= 2 * usual
    # So many failed, and then no other one was asked for.
    assert FAILURES <= asked <= FAILURES + PLACES
    assert len(site.requests) == before + asked
    assert {answer.status for answer in afterwards} == {503}
    assert all(0 < int(answer.retry_after or 0) <= PAUSE for answer in afterwards)
    assert late < READ_TIMEOUT / 2


@pytest.mark.parametrize(
    "site", [{**SETTINGS, "MAX_ACTIVE_SESSIONS": 1, "ON_MAX_ACTIVE": "cancel_oldest"}], indirect=True
)
def test_one_that_hangs_only_when_it_is_to_cancel_does_not_take_them_either(
    site: StandIn, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each new session ends the one before it, and that never begins a cool-down."""
    User.objects.create_user("ada")
    pages(port, seconds=0.5)  # imports and templates
    with callers(port, come_back=True):
        normal = pages(port, seconds=2 * READ_TIMEOUT)
    site.misbehave(Fault(delay=HANG), times=10_000, path="*/cancel")
    with callers(port, come_back=True) as issued:
        meanwhile = pages(port, seconds=4 * READ_TIMEOUT)
    usual, hanging, issuing = medians(normal, meanwhile, issued)
    with capsys.disabled():
        print(
            f"\nOther pages: {usual * 1000:.1f} ms usually, {hanging * 1000:.1f} ms while cancelling hangs; "
            f"{len(issued)} sessions issued, {issuing * 1000:.1f} ms each (medians)."
        )
    assert {answer.status for answer in meanwhile} == {200}
    assert {answer.status for answer in issued} == {201}
    assert hanging <= 2 * usual
