import io
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.test import override_settings

from chatkit_sessions.models import ChatSession, PolicyOverride, Workflow
from chatkit_sessions.services import issue_session
from chatkit_sessions.standin import StandIn
from chatkit_sessions.testing import standin as pointed_at

from .conftest import Desk, staff

EFFECTIVE = "/admin/chatkit_sessions/policyoverride/effective/"


def shown(desk: Desk, user: User, workflow: str = "default") -> Any:
    return desk.page(f"{EFFECTIVE}?user={user.pk}&workflow={workflow}")


def doctor(user: User, workflow: str = "default") -> list[str]:
    """Return the lines of the command, the one that it fails with included."""
    out = io.StringIO()
    try:
        call_command("chatkit_doctor", user=user.username, workflow=workflow, stdout=out, no_color=True)
    except CommandError as error:
        out.write(str(error))
    return out.getvalue().splitlines()


@pytest.fixture
def group(ada: User) -> Group:
    group = Group.objects.create(name="Trial")
    group.user_set.add(ada)
    return group


@override_settings(TIME_ZONE="UTC")
def test_each_value_stands_with_its_layer(standin: StandIn, operator: Desk, ada: User, group: Group) -> None:
    PolicyOverride.objects.create(group=group, expires_after=300, valid_until="2100-12-01T00:00Z")
    PolicyOverride.objects.create(user=ada, workflow_slug="default", max_active_sessions=2, reason="a test")
    page = shown(operator, ada)
    assert page.rows[0] == ["value of", "value", "from"]
    assert ["lifetime", "300 s", "override for group Trial, valid until Dec. 1, 2100, midnight"] in page.rows
    assert ["active sessions", "2", "override for user ada, for default only"] in page.rows
    assert ["workflow id", "wf_tests", "the workflow in the settings"] in page.rows
    assert ["sessions an hour", "60", "the default"] in page.rows
    assert "A session would be granted now." in page.text
    assert f"The API would know this person as {ada.pk} ." in page.text
    assert "user ada / default: a test" in page.text
    assert "group Trial / *" in page.text
    assert standin.requests == []
    assert not ChatSession.objects.exists()


SITUATIONS = ["granted", "limited", "blocked", "closed", "inactive", "not configured"]


@pytest.mark.parametrize("situation", SITUATIONS)
def test_the_page_and_the_command_say_the_same(
    operator: Desk, ada: User, group: Group, situation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    PolicyOverride.objects.create(group=group, expires_after=300, valid_until="2100-12-01T00:00Z")
    PolicyOverride.objects.create(user=ada, max_sessions_per_hour=1, reason="<b>careful</b>")
    with pointed_at(API_KEY=None if situation == "not configured" else "sk"):
        if situation == "limited":
            moment = issue_session(user=ada).session.created_at
            monkeypatch.setattr("django.utils.timezone.now", lambda: moment)
        elif situation == "blocked":
            PolicyOverride.objects.create(group=group, workflow_slug="default", is_blocked=True)
        elif situation == "closed":
            Workflow.objects.create(slug="default").groups.add(Group.objects.create(name="others"))
        elif situation == "inactive":
            Workflow.objects.create(slug="default", is_active=False)
        page, lines = shown(operator, ada), doctor(ada)
    head, known, *facts, verdict = lines
    assert head == "ada / default"
    assert known == f"known to the API as {ada.pk}"
    assert f"The API would know this person as {ada.pk} ." in page.text
    values = [line for line in facts if line.startswith("  ")]
    assert values == [f"  {label}: {value} ({source})" for label, value, source in page.rows[1:]]
    assert len(values) == 16
    overrides = [line.removeprefix("override: ") for line in facts if line.startswith("override: ")]
    assert len(overrides) == (3 if situation == "blocked" else 2)
    for override in overrides:
        assert override in page.text
    assert verdict in page.text
    assert verdict.startswith(
        {
            "granted": "A session would be granted now.",
            "limited": "A session would be refused now (session_limit_reached): You may start 1 chat",
            "blocked": "A session would be refused now (blocked): blocked by the override for group Trial",
            "closed": "A session would be refused now (workflow_not_found): default: it is open to groups",
            "inactive": "A session would be refused now (workflow_not_found): default: it is not active.",
            "not configured": "A session would be refused now (not_configured): There is no API key",
        }[situation]
    )
    if situation == "limited":
        assert verdict.endswith("A place becomes free in 3600 seconds.")


def test_without_overrides_the_page_says_so(standin: StandIn, operator: Desk, ada: User) -> None:
    assert shown(operator, ada).text.endswith(
        "Overrides of this user and their groups None. Policy overrides"
    )


def test_the_page_first_asks_for_whom_and_which(operator: Desk) -> None:
    with override_settings(
        CHATKIT_SESSIONS={"DEFAULT_WORKFLOW": "b", "WORKFLOWS": {"a": {"id": "wf"}, "b": {"id": "wf"}}}
    ):
        content = operator.get(EFFECTIVE).content.decode()
    assert "Choose a user and a workflow" in content
    assert '<option value="b" selected>b</option>' in content
    assert "A session would be" not in content


def test_the_page_says_where_it_belongs(operator: Desk) -> None:
    overrides = EFFECTIVE.removesuffix("effective/")
    assert operator.page(EFFECTIVE).trail == ["/admin/", "/admin/chatkit_sessions/", overrides]


@pytest.mark.parametrize("granted", [False, True])
def test_the_page_needs_the_permission_to_view_overrides(standin: StandIn, ada: User, granted: bool) -> None:
    rights = ["view_workflow", *(["view_policyoverride"] if granted else [])]
    desk = staff("somebody", *rights)
    answer = desk.get(f"{EFFECTIVE}?user={ada.pk}&workflow=default")
    assert answer.status_code == (200 if granted else 403)


def test_the_page_is_for_staff(client: Any) -> None:
    assert client.get(EFFECTIVE).status_code == 302


HOSTILE = [
    "abc",
    "-1",
    "0",
    "1.5",
    "99999999999999999999999",
    "\x00",
    "'; --",
    "<script>alert(1)</script>",
    "",
]


@pytest.mark.parametrize("searched", [True, False])
@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_input_is_refused_in_words(
    operator: Desk, ada: User, value: str, searched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not searched:
        monkeypatch.setattr(type(admin.site.get_model_admin(User)), "search_fields", ())
    for user, workflow in ((value, "default"), (str(ada.pk), value)):
        answer = operator.get(f"{EFFECTIVE}?user={quote(user)}&workflow={quote(workflow)}")
        assert answer.status_code == 200
        form = answer.context["form"]
        assert list(form.errors) == ["user" if user == value else "workflow"]
        content = answer.content.decode()
        assert "<script>alert" not in content
        assert "A session would be" not in content


def test_what_an_operator_wrote_is_shown_as_text(standin: StandIn, operator: Desk, ada: User) -> None:
    group = Group.objects.create(name="<script>alert(1)</script>")
    group.user_set.add(ada)
    PolicyOverride.objects.create(group=group, is_blocked=True, reason="<script>alert(2)</script>")
    content = operator.get(f"{EFFECTIVE}?user={ada.pk}&workflow=default").content.decode()
    assert "<script>alert" not in content
    assert "blocked by the override for group &lt;script&gt;alert(1)&lt;/script&gt;." in content


def test_a_user_that_cannot_be_searched_is_named_by_id(
    standin: StandIn, operator: Desk, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry: dict[Any, Any] = admin.site._registry
    monkeypatch.delitem(registry, User)
    page = shown(operator, ada)
    assert {"name": "user", "value": str(ada.pk)}.items() <= next(
        field.items() for field in page.inputs if field.get("name") == "user"
    )
    assert "A session would be granted now." in page.text


def test_a_change_is_seen_at_once(standin: StandIn, operator: Desk, ada: User) -> None:
    assert ["lifetime", "600 s", "the default"] in shown(operator, ada).rows
    Workflow.objects.create(slug="default", expires_after=30)
    assert ["lifetime", "30 s", "the workflow in the admin"] in shown(operator, ada).rows
