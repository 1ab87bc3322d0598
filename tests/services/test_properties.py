"""Any sequence of issuing, handing out, cancelling, expiring, blocking and policy edits, against a model.

The model is as plain as can be: a list of sessions, and the rules of the limits written down once more over
it. It knows nothing of how the package counts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.conf import settings as site
from django.contrib.auth.models import User
from django.test import override_settings
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chatkit_sessions.exceptions import ChatKitSessionsError
from chatkit_sessions.models import ChatSession, LimitLock, PolicyOverride, Workflow
from chatkit_sessions.services import IssuedSession, cancel_session, issue_session
from chatkit_sessions.standin import Fault

from .conftest import Api, Clock

HOUR = timedelta(hours=1)
MARGIN = timedelta(seconds=60)
TICK = timedelta(microseconds=1)
SITE: dict[str, int | None] = {"expires_after": 600, "max_active_sessions": None, "max_sessions_per_hour": 3}
SLUGS = ("default", "support")

people = st.sampled_from(["ada", "ada", "ada", "bob"])
slugs = st.sampled_from(SLUGS)
# Short enough that sessions end and hours pass within one sequence.
steps = st.sampled_from([1, 30, 59, 60, 61, 300, 540, 599, 600, 1800, 3599, 3600])
policies = st.fixed_dictionaries(
    {
        "expires_after": st.sampled_from([None, 300, 600]),
        "max_active_sessions": st.sampled_from([None, 1, 2]),
        "max_sessions_per_hour": st.sampled_from([None, 2, 3, 5]),
    }
)

Policy = dict[str, int | None]


@dataclass
class Known:
    """A session as the model knows it."""

    person: str
    slug: str
    secret: str
    policy: Policy
    created_at: datetime
    expires_at: datetime
    pk: int
    cancelled: bool = False
    failed: bool = False

    def is_running(self, at: datetime) -> bool:
        return not self.cancelled and not self.failed and at < self.expires_at


class Site(RuleBasedStateMachine):
    """A site with two people, two workflows, and an operator who cannot leave the policy alone."""

    api: Api
    clock: Clock
    accounts: dict[str, User]

    sessions: Bundle[Known] = Bundle("sessions")

    def __init__(self) -> None:
        super().__init__()
        for model in (ChatSession, LimitLock, PolicyOverride, Workflow):
            model.objects.all().delete()
        self.api.behave()
        self.known: list[Known] = []
        self.overrides: dict[tuple[str, str], Policy] = {}  # by person and slug, which may be ""
        self.rows: dict[str, Policy] = {}
        self.blocked: set[str] = set()
        self.cancels_oldest = False
        self.refused: tuple[str, str, datetime] | None = None  # the last one, and when it is worth a try

    @initialize(cancels_oldest=st.booleans(), policy=policies)
    def begin(self, cancels_oldest: bool, policy: Policy) -> None:
        self.cancels_oldest = cancels_oldest
        self.edit("default", policy)

    # What people do.

    @rule(target=sessions, person=people, slug=slugs, times=st.integers(1, 3))
    def start(self, person: str, slug: str, times: int) -> Any:
        asked = [self._ask(person, slug, None) for _ in range(times)]
        return multiple(*(known for known in asked if known))

    @rule(target=sessions, person=people, slug=slugs, held=sessions)
    def come_back(self, person: str, slug: str, held: Known) -> Any:
        return self._ask(person, slug, held) or multiple()

    @rule(target=sessions, held=sessions)
    def renew(self, held: Known) -> Any:
        return self._ask(held.person, held.slug, held) or multiple()

    @precondition(lambda self: self.refused is not None)
    @rule(target=sessions)
    def wait_as_told(self) -> Any:
        """Try just before and just when the refusal said; the model knows what has to come of it."""
        assert self.refused is not None
        person, slug, free_at = self.refused
        self.refused = None
        for moment in (free_at - TICK, free_at):
            self.clock.now = max(moment, self.clock.now)
            known = self._ask(person, slug, None)
        return known or multiple()

    @rule(held=consumes(sessions))
    def cancel(self, held: Known) -> None:
        cancel_session(ChatSession.objects.get(pk=held.pk))
        held.cancelled = held.cancelled or held.is_running(self.clock.now)

    @rule(person=people, slug=slugs)
    def fail(self, person: str, slug: str) -> None:
        """Ask while the API is down; what failed takes no place."""
        before = self._refusal(person, slug, self.clock.now)
        self.api.misbehave(Fault(status=500), path="/chatkit/sessions")
        with self._settings(), pytest.raises(ChatKitSessionsError) as caught:
            issue_session(user=self.accounts[person], workflow=slug)
        self.api.behave()
        if before is None:
            assert caught.value.code == "upstream_unavailable"
            self._make_room(person, slug)
        else:
            assert caught.value.code == before

    # What time does.

    @rule(seconds=steps)
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    # What the operator does.

    @rule(person=people, slug=st.sampled_from(["", *SLUGS]), policy=policies)
    def override(self, person: str, slug: str, policy: Policy) -> None:
        self.overrides[person, slug] = policy
        PolicyOverride.objects.update_or_create(
            user=self.accounts[person], workflow_slug=slug, is_blocked=False, defaults=policy
        )

    @rule(person=people, slug=st.sampled_from(["", *SLUGS]))
    def lift(self, person: str, slug: str) -> None:
        self.overrides.pop((person, slug), None)
        PolicyOverride.objects.filter(
            user=self.accounts[person], workflow_slug=slug, is_blocked=False
        ).delete()

    @rule(slug=slugs, policy=policies)
    def edit(self, slug: str, policy: Policy) -> None:
        self.rows[slug] = policy
        Workflow.objects.update_or_create(slug=slug, defaults=policy)

    @rule(person=people)
    def block(self, person: str) -> None:
        self.blocked.add(person)
        PolicyOverride.objects.get_or_create(user=self.accounts[person], is_blocked=True)

    @rule(person=people)
    def unblock(self, person: str) -> None:
        self.blocked.discard(person)
        PolicyOverride.objects.filter(user=self.accounts[person], is_blocked=True).delete()

    # What must come of it.

    @invariant()
    def rows_are_as_the_model_has_them(self) -> None:
        now = self.clock.now
        running = {known.pk for known in self.known if known.is_running(now)}
        assert set(ChatSession.objects.running(now).values_list("pk", flat=True)) == running

    def _ask(self, person: str, slug: str, held: Known | None) -> Known | None:
        now, policy = self.clock.now, self._policy(person, slug)
        refusal = self._refusal(person, slug, now)
        expected = held if held is not None and self._may_have_again(person, slug, held) else None
        issued = self._issue(person, slug, held)
        if isinstance(issued, ChatKitSessionsError):
            self._check_refusal(issued, person, slug, refusal)
            assert expected is None or person in self.blocked
            return None
        assert person not in self.blocked
        if issued.reused:
            assert expected is not None
            assert (issued.session.pk, issued.client_secret) == (expected.pk, expected.secret)
            return None
        assert expected is None
        assert refusal is None
        self._make_room(person, slug)
        self.known.append(
            Known(
                person=person,
                slug=slug,
                secret=str(issued.client_secret),
                policy=policy,
                created_at=now,
                # The API counts in whole seconds.
                expires_at=now.replace(microsecond=0) + timedelta(seconds=policy["expires_after"] or 600),
                pk=issued.session.pk,
            )
        )
        self._check_limits(person, slug)
        return self.known[-1]

    def _check_refusal(
        self, error: ChatKitSessionsError, person: str, slug: str, refusal: str | None
    ) -> None:
        note(f"{person} is refused {slug}: {error.code}, {error.retry_after}")
        assert error.code == refusal
        if error.code == "session_limit_reached":
            assert error.retry_after is not None
            free_at = self.clock.now + timedelta(seconds=error.retry_after)
            assert self._refusal(person, slug, free_at - TICK) == refusal
            assert self._refusal(person, slug, free_at) is None
            self.refused = (person, slug, free_at)

    def _issue(self, person: str, slug: str, held: Known | None) -> IssuedSession | ChatKitSessionsError:
        secret = held.secret if held else None
        try:
            with self._settings():
                return issue_session(user=self.accounts[person], workflow=slug, current_client_secret=secret)
        except ChatKitSessionsError as error:
            return error

    def _settings(self) -> Any:
        on_max_active = "cancel_oldest" if self.cancels_oldest else "reject"
        return override_settings(
            CHATKIT_SESSIONS={
                **site.CHATKIT_SESSIONS,
                "WORKFLOWS": {slug: {"id": f"wf_{slug}"} for slug in SLUGS},
                "MAX_SESSIONS_PER_HOUR": SITE["max_sessions_per_hour"],
                "ON_MAX_ACTIVE": on_max_active,
            }
        )

    # The rules, once more.

    def _value(self, person: str, slug: str, name: str) -> tuple[int | None, bool]:
        """Return a value of the policy, and whether it is of this workflow alone."""
        for key, own in ((slug, True), ("", False)):
            value = self.overrides.get((person, key), {}).get(name)
            if value is not None:
                return value, own
        value = self.rows.get(slug, {}).get(name)
        return (value, True) if value is not None else (SITE[name], False)

    def _policy(self, person: str, slug: str) -> Policy:
        return {name: self._value(person, slug, name)[0] for name in SITE}

    def _counted(self, person: str, slug: str, name: str) -> list[Known]:
        _, own = self._value(person, slug, name)
        return [known for known in self.known if known.person == person and (known.slug == slug or not own)]

    def _refusal(self, person: str, slug: str, at: datetime) -> str | None:
        """Return the code with which somebody would be refused a new session at a moment, or None."""
        if person in self.blocked:
            return "blocked"
        an_hour, _ = self._value(person, slug, "max_sessions_per_hour")
        started = self._counted(person, slug, "max_sessions_per_hour")
        if an_hour is not None and sum(at - HOUR < known.created_at for known in started) >= an_hour:
            return "session_limit_reached"
        at_a_time, _ = self._value(person, slug, "max_active_sessions")
        running = self._counted(person, slug, "max_active_sessions")
        full = at_a_time is not None and sum(known.is_running(at) for known in running) >= at_a_time
        return "session_limit_reached" if full and not self.cancels_oldest else None

    def _may_have_again(self, person: str, slug: str, held: Known) -> bool:
        return (
            (held.person, held.slug) == (person, slug)
            and held.is_running(self.clock.now)
            and held.expires_at - self.clock.now >= MARGIN
            and held.policy == self._policy(person, slug)
        )

    def _make_room(self, person: str, slug: str) -> None:
        at_a_time, _ = self._value(person, slug, "max_active_sessions")
        running = [
            known
            for known in self._counted(person, slug, "max_active_sessions")
            if known.is_running(self.clock.now)
        ]
        if at_a_time is not None and self.cancels_oldest:
            for known in running[: max(len(running) - at_a_time + 1, 0)]:
                known.cancelled = True

    def _check_limits(self, person: str, slug: str) -> None:
        """Count in the table itself, over all that the person has."""
        now = self.clock.now
        for name, limit in self._policy(person, slug).items():
            rows = ChatSession.objects.filter(user=self.accounts[person])
            if self._value(person, slug, name)[1]:
                rows = rows.filter(workflow_slug=slug)
            if name == "max_active_sessions" and limit is not None:
                assert rows.filter(status="active", expires_at__gt=now).count() <= limit
            if name == "max_sessions_per_hour" and limit is not None:
                counted = rows.exclude(status="failed").filter(created_at__gt=now - HOUR)
                assert counted.count() <= limit


@pytest.mark.slow
@pytest.mark.django_db
def test_no_sequence_of_events_breaks_a_promise(
    api: Api, clock: Clock, configure: Callable[..., None]
) -> None:
    """No limit is ever exceeded, no secret reaches another person, no session outlives its policy."""
    configure(COOLDOWN=None)
    Site.api, Site.clock = api, clock
    Site.accounts = {name: User.objects.create_user(name) for name in ("ada", "bob")}
    run_state_machine_as_test(
        Site,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
