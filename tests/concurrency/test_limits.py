import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connections
from django.utils import timezone

from chatkit_sessions.models import ChatSession
from chatkit_sessions.standin import StandIn

from .conftest import ISSUED, ROUNDS, Crowd

pytestmark = pytest.mark.concurrency

REFUSED = "session_limit_reached"
LIMIT = 5


@pytest.mark.parametrize(
    "site",
    [
        {"MAX_SESSIONS_PER_HOUR": LIMIT},
        {"MAX_SESSIONS_PER_HOUR": None, "MAX_ACTIVE_SESSIONS": LIMIT},
        {"MAX_SESSIONS_PER_HOUR": LIMIT, "MAX_ACTIVE_SESSIONS": LIMIT + 1},
    ],
    ids=["an hour", "at a time", "both"],
    indirect=True,
)
def test_exactly_as_many_get_a_session_as_the_limit_says(site: StandIn, crowd: Crowd) -> None:
    for number in range(ROUNDS):
        person = f"person {number}"
        outcomes = crowd.rush(person)
        assert outcomes == {ISSUED: LIMIT, REFUSED: crowd.size - LIMIT}
        sessions = ChatSession.objects.filter(identifier=person)
        assert list(sessions.values_list("status", flat=True)) == ["active"] * LIMIT
        asked = [request for request in site.requests if request.json["user"] == person]
        assert len(asked) == LIMIT


class Sampler:
    """Look again and again how many sessions somebody has at a time."""

    def __init__(self, identifier: str) -> None:
        self._sessions = ChatSession.objects.filter(identifier=identifier)
        self._over = threading.Event()
        self.running = 0
        self.occupying = 0
        self.samples = 0

    @contextmanager
    def sampling(self) -> Iterator[None]:
        thread = threading.Thread(target=self._sample, daemon=True)
        thread.start()
        yield
        self._over.set()
        thread.join(timeout=30)

    def _sample(self) -> None:
        try:
            while not self._over.is_set():
                now = timezone.now()
                self.running = max(self.running, self._sessions.running(now).count())
                self.occupying = max(self.occupying, self._sessions.occupying(now).count())
                self.samples += 1
                time.sleep(0.002)
        finally:
            connections.close_all()


@pytest.mark.parametrize(
    "site",
    [
        {
            "MAX_SESSIONS_PER_HOUR": None,
            "MAX_ACTIVE_SESSIONS": LIMIT,
            "ON_MAX_ACTIVE": "cancel_oldest",
        }
    ],
    ids=["cancel_oldest"],
    indirect=True,
)
def test_there_are_never_more_at_a_time_than_the_limit_while_the_oldest_make_room(
    site: StandIn, crowd: Crowd
) -> None:
    for number in range(ROUNDS):
        person = f"person {number}"
        sampler = Sampler(person)
        with sampler.sampling():
            outcomes = [crowd.rush(person) for _ in range(2)]
        issued = sum(outcome[ISSUED] for outcome in outcomes)
        # Whoever comes while all places are pending is refused, and everybody else gets a session.
        assert sum(outcome[REFUSED] for outcome in outcomes) == 2 * crowd.size - issued
        assert issued >= LIMIT + 1
        sessions = ChatSession.objects.filter(identifier=person)
        assert sessions.filter(status="active").count() == LIMIT
        assert sessions.filter(status="cancelled").count() == issued - LIMIT
        assert sampler.samples > 10
        assert 0 < sampler.running <= LIMIT
        assert sampler.occupying <= LIMIT
        remote = [row for row in site.sessions.values() if row["user"] == person]
        assert [row["status"] for row in remote].count("active") == LIMIT
