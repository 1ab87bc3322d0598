from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import override_settings

from chatkit_sessions.exceptions import NotAuthenticated
from chatkit_sessions.models import ChatSession, PolicyOverride, Workflow
from chatkit_sessions.services import Explanation, explain_policy, issue_session
from chatkit_sessions.standin import StandIn
from chatkit_sessions.testing import standin as pointed_at

pytestmark = pytest.mark.django_db

GRANTED = "A session would be granted now."


@pytest.fixture
def user() -> User:
    return User.objects.create_user("ada")


def test_what_is_explained_is_what_would_be_issued(standin: StandIn, user: User) -> None:
    PolicyOverride.objects.create(user=user, expires_after=60)
    Workflow.objects.create(slug="default", isolate_history=True, state_variables={"tier": "gold"})
    explained = explain_policy(user=user)
    assert (explained.workflow, explained.identifier) == ("default", f"{user.pk}#default")
    assert (explained.refusal, explained.retry_after, explained.verdict) == (None, None, GRANTED)
    assert standin.requests == []
    assert not ChatSession.objects.exists()
    row = issue_session(user=user).session
    assert row.policy == explained.values
    assert (row.workflow_slug, row.identifier) == (explained.workflow, explained.identifier)
    assert ("lifetime", "60 s", "override for user ada") in explained.rows()
    assert ("state variables", "tier", "the workflow in the admin") in explained.rows()


def test_a_workflow_may_be_named_by_its_id(standin: StandIn, user: User) -> None:
    explained = explain_policy(user=user, workflow="wf_tests")
    assert (explained.workflow, explained.verdict) == ("default", GRANTED)


def test_of_two_workflows_the_open_one_is_explained(user: User) -> None:
    workflows = {"a": {"id": "b"}, "b": {"id": "wf", "is_active": False}}
    with pointed_at(WORKFLOWS=workflows):
        explained = explain_policy(user=user, workflow="b")
    assert (explained.workflow, explained.closed, explained.verdict) == ("a", None, GRANTED)


REFUSED = "A session would be refused now"


@pytest.mark.parametrize(
    ("settings", "workflow", "code", "verdict", "has_values"),
    [
        pytest.param(
            {},
            "nowhere",
            "workflow_not_found",
            "(workflow_not_found): nowhere: there is no such workflow.",
            False,
            id="absent",
        ),
        pytest.param(
            {"WORKFLOWS": {"off": {"id": "wf", "is_active": False}}},
            "off",
            "workflow_not_found",
            "(workflow_not_found): off: it is not active.",
            True,
            id="inactive",
        ),
        pytest.param(
            {"WORKFLOWS": {"staff": {"id": "wf", "groups": ["staff"]}}},
            "staff",
            "workflow_not_found",
            "(workflow_not_found): staff: it is open to groups only, and this person is in none of them.",
            True,
            id="groups",
        ),
        pytest.param(
            {"DEFAULT_WORKFLOW": "off", "WORKFLOWS": {"off": {"id": "wf", "is_active": False}}},
            None,
            "not_configured",
            "(not_configured): The default workflow 'off' is missing or inactive: set CHATKIT_WORKFLOW_ID "
            "in the environment, or add it to WORKFLOWS in CHATKIT_SESSIONS or in the admin.",
            True,
            id="default inactive",
        ),
        pytest.param(
            {"EXPIRES_AFTER": 0},
            None,
            "not_configured",
            '(not_configured): CHATKIT_SESSIONS["EXPIRES_AFTER"] must be an integer of at least 1, not 0.',
            False,
            id="settings",
        ),
        pytest.param(
            {"API_KEY": None},
            None,
            "not_configured",
            "(not_configured): There is no API key: set OPENAI_API_KEY in the environment, "
            "or API_KEY in CHATKIT_SESSIONS.",
            True,
            id="key",
        ),
        pytest.param(
            {"USER_IDENTIFIER": lambda user, request: "x" * 513},
            None,
            "not_configured",
            '(not_configured): The identifier that CHATKIT_SESSIONS["USER_IDENTIFIER"] gives for an account, '
            "prefix included, must be a string of 1 to 512 characters, not 513 characters.",
            False,
            id="identifier",
        ),
        pytest.param(
            {"STATE_VARIABLES": lambda user, request, workflow: {"page": request.path}},
            None,
            "not_configured",
            '(not_configured): CHATKIT_SESSIONS["STATE_VARIABLES"] raised AttributeError; the log has the '
            "traceback. Outside a view, the request that it is given is None.",
            True,
            id="state variables",
        ),
    ],
)
def test_a_refusal_is_explained_to_the_operator(
    user: User, settings: dict[str, Any], workflow: str | None, code: str, verdict: str, has_values: bool
) -> None:
    with pointed_at(**settings) as api:
        explained = explain_policy(user=user, workflow=workflow)
        assert api.requests == []
    assert explained.refusal is not None
    assert explained.refusal.code == code
    assert explained.verdict == f"{REFUSED} {verdict}"
    assert bool(explained.values) is bool(explained.rows()) is has_values


@override_settings(TIME_ZONE="UTC")
def test_who_blocks_is_told_with_the_values(standin: StandIn, user: User) -> None:
    group = Group.objects.create(name="Trial")
    group.user_set.add(user)
    PolicyOverride.objects.create(
        group=group, workflow_slug="default", is_blocked=True, valid_until="2100-12-01T00:00Z"
    )
    explained = explain_policy(user=user)
    assert explained.verdict == (
        "A session would be refused now (blocked): blocked by the override for group Trial, "
        "for default only, valid until Dec. 1, 2100, midnight."
    )
    assert explained.values["expires_after"]["value"] == 600


def test_a_closed_workflow_comes_before_a_block(standin: StandIn, user: User) -> None:
    PolicyOverride.objects.create(user=user, is_blocked=True)
    Workflow.objects.create(slug="off", workflow_id="wf", is_active=False)
    assert explain_policy(user=user, workflow="off").verdict.endswith("off: it is not active.")


@pytest.mark.parametrize(
    ("limit", "words"), [("max_sessions_per_hour", "an hour"), ("max_active_sessions", "")]
)
def test_the_wait_is_told(
    standin: StandIn, user: User, monkeypatch: pytest.MonkeyPatch, limit: str, words: str
) -> None:
    PolicyOverride.objects.create(user=user, **{limit: 1})
    assert explain_policy(user=user).verdict == GRANTED
    row = issue_session(user=user).session
    moment = row.created_at
    monkeypatch.setattr("django.utils.timezone.now", lambda: moment)
    explained = explain_policy(user=user)
    assert explained.refusal is not None
    assert explained.refusal.code == "session_limit_reached"
    seconds = explained.retry_after
    assert seconds == (3600 if words else pytest.approx(600, abs=2))
    assert explained.verdict == (
        f"A session would be refused now (session_limit_reached): {explained.refusal} "
        f"A place becomes free in {seconds} seconds."
    )
    assert explained.values["expires_after"]["value"] == 600


def test_one_second_is_one_second() -> None:
    refusal = NotAuthenticated(retry_after=0.2)
    assert Explanation(workflow="default", refusal=refusal).verdict == (
        "A session would be refused now (not_authenticated): Sign in to start a chat. "
        "A place becomes free in 1 second."
    )


def test_the_override_of_tomorrow_says_nothing_today(standin: StandIn, user: User) -> None:
    PolicyOverride.objects.create(user=user, is_blocked=True, valid_from="2100-01-01T00:00Z")
    assert explain_policy(user=user).verdict == GRANTED
