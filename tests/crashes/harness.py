"""A server that is killed again and again under load, and the account that is asked of it afterwards."""

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

from django.contrib.auth.models import User
from django.db.models import Count
from django.utils import timezone

from chatkit_sessions.digests import digest
from chatkit_sessions.models import ISSUED, ChatSession, Status
from chatkit_sessions.services import Reconciliation

from .aftermath import settle_all
from .api import Api
from .clients import Client, Held
from .nursery import Nursery

CLIENTS = 6
# Of each person: what the site is set to, and what must never be exceeded.
AT_A_TIME = 3
AN_HOUR = 12
SETTINGS = {
    "MAX_ACTIVE_SESSIONS": AT_A_TIME,
    "MAX_SESSIONS_PER_HOUR": AN_HOUR,
    # On a slow machine too, every call has its answer.
    "TIMEOUT": [30, 30],
    "DEADLINE": 60,
    "MAX_CONCURRENT_CALLS": CLIENTS - 1,
    "ON_MAX_ACTIVE": "cancel_oldest",
    "AUTHENTICATION_CLASSES": ["tests.crashes.site.HeaderAuthentication"],
    "USER_IDENTIFIER": "tests.crashes.site.person",
}
# A server lives until so many requests have been answered, and up to so many seconds more.
MOST_ANSWERS = 16
MOST_SECONDS = 0.05
PATIENCE = 120
# People who come back, to more than one browser, for so many lives of the server.
REGULARS = 2
LIVES_OF_REGULARS = 10


@dataclass(kw_only=True)
class Account:
    """What came of it.

    Attributes:
        answers: how often the browsers got which answer.
        at_the_api: how many sessions the API issued, and how many of them no row names.
        rows: by status, before anything was reconciled.
        due: cancellations that the API had not heard of.
        settled: what one reconciliation did.
        wrong: what broke a promise.
    """

    seed: int
    kills: int
    seconds: float = 0
    answers: Counter[str] = field(default_factory=Counter)
    at_the_api: tuple[int, int] = (0, 0)
    rows: Counter[str] = field(default_factory=Counter)
    due: int = 0
    settled: Reconciliation | None = None
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return the figures on one line."""
        answers, rows = (dict(sorted(counter.items())) for counter in (self.answers, self.rows))
        issued, unnamed = self.at_the_api
        return (
            f"{self.kills} kills in {self.seconds:.1f} s, seed {self.seed}: "
            f"{self.answers.total()} requests {answers}; "
            f"{issued} sessions at the API, {unnamed} of them unsettled here; "
            f"rows {rows}, {self.due} of them due; {self.settled}"
        )


class Harness:
    """A crowd, a server, and whoever kills it."""

    def __init__(self, nursery: Nursery, api: Api, *, kills: int, seed: int) -> None:
        """Prepare the crowd; the same seed asks for the same things, as far as threads and kills let it."""
        self._nursery = nursery
        self._api = api
        self._random = random.Random(seed)  # noqa: S311 (no secret)
        self._over = threading.Event()
        self._account = Account(seed=seed, kills=kills)
        self._clients = [
            Client(f"client {number}", port=nursery.port, seed=f"{seed} {number}", over=self._over)
            for number in range(CLIENTS)
        ]

    def run(self) -> Account:
        """Kill the server so many times, let the last one live until all is answered, and call to account."""
        User.objects.bulk_create(User(username=f"client {number}") for number in range(CLIENTS))
        account, begun = self._account, time.monotonic()
        for client in self._clients:
            client.start()
        try:
            for number in range(account.kills):
                self._invite(number // LIVES_OF_REGULARS)
                self._live_and_die()
            with self._nursery.serving():
                self._await_answers(MOST_ANSWERS)
                self._dismiss()
        finally:
            self._over.set()
        account.seconds = time.monotonic() - begun
        self._call_to_account()
        return account

    def _dismiss(self) -> None:
        """Let nobody ask any more, and wait for the last answers."""
        self._over.set()
        for client in self._clients:
            client.join()

    def _invite(self, generation: int) -> None:
        for client in self._clients:
            client.regulars = [f"regular {generation}.{number}" for number in range(REGULARS)]

    def _live_and_die(self) -> None:
        with self._nursery.serving():
            self._await_answers(self._random.randrange(MOST_ANSWERS))
            time.sleep(self._random.uniform(0, MOST_SECONDS))
        self._account.wrong += beyond_the_limits()

    def _await_answers(self, number: int) -> None:
        """Wait until so many more requests have been answered."""
        wanted = self._answered() + number
        until = time.monotonic() + PATIENCE
        while self._answered() < wanted:
            assert time.monotonic() < until, "the server does not answer"
            time.sleep(0.002)

    def _answered(self) -> int:
        return sum(client.answers.total() - client.answers["none"] for client in self._clients)

    def _call_to_account(self) -> None:
        account, rows = self._account, ChatSession.objects
        for client in self._clients:
            account.answers.update(client.answers)
            account.wrong += client.wrong
            account.wrong += [f"{held.id} {wrong}" for held in client.held for wrong in lies(held)]
        named = set(rows.values_list("upstream_id", flat=True))
        account.at_the_api = (len(self._api.sessions), len(self._api.sessions.keys() - named))
        account.rows.update(rows.values_list("status", flat=True))
        account.due = rows.due().count()
        account.wrong += beyond_the_limits()
        account.settled = settle_all(self._api)


def beyond_the_limits() -> list[str]:
    """Return who has more sessions at this moment than the limits allow."""
    now = timezone.now()
    at_a_time = ChatSession.objects.occupying(now)
    an_hour = ChatSession.objects.started_since(now - timedelta(hours=1), now)
    beyond = []
    for sessions, limit in ((at_a_time, AT_A_TIME), (an_hour, AN_HOUR)):
        counted = sessions.order_by().values_list("identifier").annotate(number=Count("pk"))
        beyond += [f"{who} has {number}, not {limit}" for who, number in counted if number > limit]
    return beyond


def lies(held: Held) -> list[str]:
    """Return what the table does not say of a session whose secret a browser has got."""
    row = ChatSession.objects.filter(upstream_id=held.id, status__in=ISSUED).first()
    if row is None:
        return ["was handed out without a settled row"]
    wrong = []
    if row.secret_digest != digest(held.secret) or row.identifier != held.person:
        wrong.append("was handed out for another row")
    if held.is_cancelled and row.status != Status.CANCELLED:
        wrong.append(f"was cancelled and is {row.status}")
    return wrong
