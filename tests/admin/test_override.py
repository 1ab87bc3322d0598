import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.core import checks
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from chatkit_sessions.admin.override import PolicyOverrideAdmin
from chatkit_sessions.models import ChatSession, PolicyOverride
from chatkit_sessions.services import issue_session
from chatkit_sessions.standin import Fault, StandIn
from chatkit_sessions.testing import standin as pointed_at

from .conftest import QUEUED, WORKFLOWS, Desk, Page, messages, staff

OVERRIDES = "/admin/chatkit_sessions/policyoverride/"
ADD = f"{OVERRIDES}add/"
EMPTY = {
    "user": "",
    "group": "",
    "workflow_slug": "",
    "expires_after": "",
    "max_requests_per_1_minute": "",
    "max_active_sessions": "",
    "max_sessions_per_hour": "",
    "valid_from_0": "",
    "valid_from_1": "",
    "valid_until_0": "",
    "valid_until_1": "",
    "reason": "",
}


@pytest.fixture
def group(ada: User) -> Group:
    group = Group.objects.create(name="Trial")
    group.user_set.add(ada)
    return group


def errors(answer: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = answer.context["adminform"].form.errors
    return found


def test_an_override_is_saved_with_who_made_it(operator: Desk, ada: User) -> None:
    answer = operator.post(ADD, **EMPTY | {"user": ada.pk, "expires_after": 60, "workflow_slug": "default"})
    override = PolicyOverride.objects.get()
    assert [level for level, _text in messages(answer)] == ["success"]
    assert (override.user, override.expires_after, override.created_by) == (ada, 60, operator.user)
    other = Desk(User.objects.create_superuser("second"))
    other.post(f"{OVERRIDES}{override.pk}/change/", **EMPTY | {"user": ada.pk, "expires_after": 90})
    override.refresh_from_db()
    assert (override.expires_after, override.created_by) == (90, operator.user)


AT_LEAST_ONE = "Ensure this value is greater than or equal to 1."


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"user": "", "group": ""}, {"__all__": ["Choose either a user or a group: one of them, not both."]}),
        ({"group": "group"}, {"__all__": ["Choose either a user or a group: one of them, not both."]}),
        (
            {"expires_after": 601},
            {
                "expires_after": [
                    "Must be from 1 to 600 seconds, not 601. The bound is MAX_EXPIRES_AFTER in the settings."
                ]
            },
        ),
        ({"expires_after": 0}, {"expires_after": [AT_LEAST_ONE]}),
        ({"max_requests_per_1_minute": 0}, {"max_requests_per_1_minute": [AT_LEAST_ONE]}),
        ({"max_active_sessions": -1}, {"max_active_sessions": [AT_LEAST_ONE]}),
        ({"max_sessions_per_hour": "many"}, {"max_sessions_per_hour": ["Enter a whole number."]}),
        (
            {"workflow_slug": "nowhere"},
            {"workflow_slug": ["There is no workflow 'nowhere'. There are: default."]},
        ),
        (
            {
                "valid_from_0": "2026-12-01",
                "valid_from_1": "00:00",
                "valid_until_0": "2026-11-01",
                "valid_until_1": "00:00",
            },
            {"valid_until": ["Must be later than the start of the time window."]},
        ),
    ],
)
def test_problems_are_caught_at_save_by_field_and_bound(
    operator: Desk, ada: User, group: Group, values: dict[str, Any], expected: dict[str, list[str]]
) -> None:
    chosen = {name: group.pk if value == "group" else value for name, value in values.items()}
    answer = operator.post(ADD, **EMPTY | {"user": ada.pk} | chosen)
    assert errors(answer) == expected
    assert not PolicyOverride.objects.exists()


def test_bounds_units_and_rules_are_in_view(operator: Desk) -> None:
    text = operator.page(ADD).text
    for words in (
        "For one user or one group. A user's override wins over a group's, one for a workflow over one for "
        "all of them, value by value; among equals the stricter value wins.",
        "Seconds from creation, 1 to 600 (MAX_EXPIRES_AFTER in the settings).",
        "Requests that one session may make in a minute, at least 1.",
        "May start no session, whatever else allows it.",
        "Blank: decided by the workflow and the settings.",
        "The slug of one workflow: default. Blank: every workflow.",
    ):
        assert words in text


@override_settings(TIME_ZONE="UTC")
def test_the_list_shows_whom_which_and_how_long(operator: Desk, ada: User, group: Group) -> None:
    past, future = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
    PolicyOverride.objects.create(user=ada, valid_from=future)
    PolicyOverride.objects.create(
        user=ada, workflow_slug="default", expires_after=60, max_active_sessions=2, reason="a test"
    )
    PolicyOverride.objects.create(group=group, is_blocked=True, max_sessions_per_hour=5, valid_until=past)
    page = operator.page(OVERRIDES)
    assert page.column("For") == ["group Trial", "user ada", "user ada"]
    assert page.column("Workflow") == ["all", "default", "all"]
    assert page.column("Values") == [
        "blocked, sessions an hour: 5",
        "lifetime: 60 s, active sessions: 2",
        "-",
    ]
    assert page.column("Valid until") == ["Jan. 1, 2020, midnight", "-", "-"]
    assert page.column("Reason") == ["-", "a test", "-"]
    content = operator.get(OVERRIDES).content.decode()
    assert re.findall(r'field-in_force"><img [^>]*alt="(\w+)"', content) == ["False", "True", "False"]
    assert f"{OVERRIDES}effective/" in page.links


def test_the_list_takes_as_many_statements_for_many_as_for_one(
    operator: Desk, ada: User, django_assert_max_num_queries: Any
) -> None:
    for number in range(10):
        PolicyOverride.objects.create(group=Group.objects.create(name=f"g{number}"), expires_after=1)
        PolicyOverride.objects.create(user=ada, expires_after=1)
    with django_assert_max_num_queries(9):
        assert len(operator.page(OVERRIDES).column("For")) == 20


@pytest.mark.parametrize(("term", "found"), [("ada", 1), ("Trial", 1), ("default", 1), ("ad", 0)])
def test_overrides_are_searched_by_whole_values(
    operator: Desk, ada: User, group: Group, term: str, found: int
) -> None:
    PolicyOverride.objects.create(user=ada)
    PolicyOverride.objects.create(group=group)
    PolicyOverride.objects.create(user=User.objects.create_user("bob"), workflow_slug="default")
    assert len(operator.page(f"{OVERRIDES}?q={term}").column("For")) == found


def test_people_and_groups_are_found_by_typing(operator: Desk) -> None:
    content = operator.get(ADD).content.decode()
    for name in ("user", "group"):
        assert f'data-field-name="{name}"' in content


@pytest.mark.parametrize("missing", [User, Group])
def test_a_site_need_not_register_users_and_groups(
    operator: Desk, missing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(admin.site._registry, missing)
    assert [
        message for message in checks.run_checks() if message.id and message.id.startswith("admin.")
    ] == []
    content = operator.get(ADD).content.decode()
    assert ('data-field-name="user"' in content) is (missing is not User)
    assert ('data-field-name="group"' in content) is (missing is not Group)
    assert f'id="id_{missing.__name__.lower()}"' in content


def test_an_admin_without_search_is_not_searched(operator: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(admin.site.get_model_admin(User)), "search_fields", ())
    assert 'data-field-name="user"' not in operator.get(ADD).content.decode()


# Ending the running sessions that an override or a workflow speaks of.
@pytest.fixture
def api() -> Iterator[StandIn]:
    workflows = {"default": {"id": "wf"}, "sales": {"id": "wf_sales"}}
    with pointed_at(WORKFLOWS=workflows, MAX_RETRIES=0) as running:
        yield running


@pytest.fixture
def sessions(api: StandIn, ada: User, bob: User, group: Group) -> dict[str, ChatSession]:
    """A session of each of two people in each of two workflows; one of them is in the group."""
    return {
        f"{user.username} {slug}": issue_session(user=user, workflow=slug).session
        for user in (ada, bob)
        for slug in ("default", "sales")
    }


def end(desk: Desk, path: str, *chosen: Any, **data: Any) -> Any:
    selected = [row.pk for row in chosen]
    return desk.post(path, action="end_running_sessions", _selected_action=selected, **data)


def still_running(sessions: dict[str, ChatSession]) -> set[str]:
    running = set(ChatSession.objects.running())
    return {name for name, session in sessions.items() if session in running}


SPOKEN_OF = [
    ({"user": "ada"}, {"ada default", "ada sales"}),
    ({"user": "ada", "workflow_slug": "sales"}, {"ada sales"}),
    ({"group": "Trial"}, {"ada default", "ada sales"}),
    ({"group": "Trial", "workflow_slug": "default"}, {"ada default"}),
    ({"group": "nobody"}, set[str]()),
]


@pytest.mark.parametrize(("target", "ended"), SPOKEN_OF)
def test_the_sessions_that_an_override_speaks_of_are_ended(
    operator: Desk, api: StandIn, sessions: dict[str, ChatSession], target: dict[str, str], ended: set[str]
) -> None:
    Group.objects.create(name="nobody")
    found: dict[str, Any] = dict(target)
    if "user" in target:
        found["user"] = User.objects.get(username=target["user"])
    else:
        found["group"] = Group.objects.get(name=target["group"])
    override = PolicyOverride.objects.create(**found)
    page = Page(end(operator, OVERRIDES, override))
    assert still_running(sessions) == set(sessions)
    for name, session in sessions.items():
        assert (session.upstream_id in page.text) is (name in ended)
    answer = end(operator, OVERRIDES, override, confirmed="yes", reason="the trial\x00 is over")
    assert still_running(sessions) == set(sessions) - ended
    count = len(ended)
    assert messages(answer) == [
        ("success", "1 session was cancelled." if count == 1 else f"{count} sessions were cancelled.")
        if count
        else ("info", "None of these sessions is running, so there is nothing to cancel.")
    ]
    told = {request.path.split("/")[-2] for request in api.requests if request.path.endswith("/cancel")}
    assert told == {sessions[name].upstream_id for name in ended}
    for session in ChatSession.objects.filter(status="cancelled"):
        assert (session.ended_by, session.end_reason) == (operator.user, "the trial is over")


def test_a_session_that_two_overrides_speak_of_is_ended_once(
    operator: Desk, api: StandIn, sessions: dict[str, ChatSession], ada: User, bob: User, group: Group
) -> None:
    ada.groups.add(Group.objects.create(name="another"))
    targets: list[dict[str, Any]] = [{"user": bob, "workflow_slug": "sales"}, {"group": group}, {"user": ada}]
    chosen = [PolicyOverride.objects.create(**target) for target in targets]
    assert "These 3 sessions end at once" in Page(end(operator, OVERRIDES, *chosen)).text
    answer = end(operator, OVERRIDES, *chosen, confirmed="yes")
    assert messages(answer) == [("success", "3 sessions were cancelled.")]
    assert still_running(sessions) == {"bob default"}
    assert operator.get("/admin/").status_code == 200
    assert sum(request.path.endswith("/cancel") for request in api.requests) == 3


def test_no_rows_are_changed_by_way_of_their_own_table(
    operator: Desk, sessions: dict[str, ChatSession], group: Group
) -> None:
    """MySQL refuses that (error 1093)."""
    override = PolicyOverride.objects.create(group=group)
    with CaptureQueriesContext(connection) as statements:
        end(operator, OVERRIDES, override, confirmed="yes")
    sent = [query["sql"].replace('"', "").replace("`", "") for query in statements]
    changes = [sql for sql in sent if sql.startswith("UPDATE chatkit_sessions_chatsession")]
    assert len(changes) > 1
    assert not [sql for sql in changes if "FROM chatkit_sessions_chatsession" in sql]


def test_sessions_that_have_ended_are_not_counted(
    operator: Desk, sessions: dict[str, ChatSession], ada: User
) -> None:
    past = timezone.now() - timedelta(seconds=1)
    ChatSession.objects.filter(pk=sessions["ada sales"].pk).update(expires_at=past)
    override = PolicyOverride.objects.create(user=ada)
    assert "This session ends at once" in Page(end(operator, OVERRIDES, override)).text
    answer = end(operator, OVERRIDES, override, confirmed="yes")
    assert messages(answer) == [("success", "1 session was cancelled.")]


def test_what_the_api_was_not_told_is_counted_apart(
    operator: Desk, api: StandIn, sessions: dict[str, ChatSession], ada: User
) -> None:
    api.misbehave(Fault(status=500), path="/chatkit/sessions/*/cancel")
    answer = end(operator, OVERRIDES, PolicyOverride.objects.create(user=ada), confirmed="yes")
    assert messages(answer) == [
        ("warning", f"1 ended, 1 queued. {QUEUED}"),
    ]
    assert still_running(sessions) == {"bob default", "bob sales"}


@pytest.mark.parametrize("path", [OVERRIDES, WORKFLOWS])
def test_ending_sessions_needs_its_own_permission(
    api: StandIn, sessions: dict[str, ChatSession], ada: User, path: str
) -> None:
    rights = ("view_policyoverride", "change_policyoverride", "view_workflow", "change_workflow")
    override = PolicyOverride.objects.create(user=ada)
    without = staff("without", *rights)
    assert "end_running_sessions" not in without.get(path).content.decode()
    end(without, path, override, confirmed="yes")
    assert still_running(sessions) == set(sessions)
    allowed = staff("allowed", *rights, "cancel_chatsession")
    end(allowed, OVERRIDES, override, confirmed="yes")
    assert still_running(sessions) == {"bob default", "bob sales"}


def test_all_on_every_page_stays_all_however_many(
    operator: Desk, sessions: dict[str, ChatSession], ada: User
) -> None:
    overrides = [PolicyOverride.objects.create(user=ada, expires_after=60) for _ in range(3)]
    page = Page(end(operator, OVERRIDES, overrides[0], select_across="1"))
    sent = {str(field["name"]): field.get("value") for field in page.inputs if field.get("name")}
    assert (sent["select_across"], sent["_selected_action"]) == ("1", str(overrides[0].pk))
    assert sum(field.get("name") == "_selected_action" for field in page.inputs) == 1
    answer = operator.post(OVERRIDES, **{**sent, "reason": ""})
    assert messages(answer) == [("success", "2 sessions were cancelled.")]


def test_a_user_model_without_groups_has_no_sessions_of_a_group(
    ada: User, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    PolicyOverride.objects.create(group=group, workflow_slug="default")
    own = PolicyOverride.objects.create(user=ada)
    row = ChatSession.objects.create(user=ada, workflow_slug="default", expires_at=timezone.now())
    ChatSession.objects.create(workflow_slug="default", expires_at=timezone.now())
    monkeypatch.setattr("chatkit_sessions.admin.override.get_user_model", lambda: object)
    found = PolicyOverrideAdmin(PolicyOverride, admin.site).sessions_of(PolicyOverride.objects.all())
    assert list(found) == [row]
    assert not PolicyOverrideAdmin(PolicyOverride, admin.site).sessions_of(
        PolicyOverride.objects.exclude(pk=own.pk)
    )


@override_settings(CHATKIT_SESSIONS={"MAX_EXPIRES_AFTER": 900, "WORKFLOWS": {"default": {"id": "wf"}}})
def test_the_bound_in_the_form_is_the_settings(operator: Desk, ada: User) -> None:
    assert errors(operator.post(ADD, **EMPTY | {"user": ada.pk, "expires_after": 901})) == {
        "expires_after": [
            "Must be from 1 to 900 seconds, not 901. The bound is MAX_EXPIRES_AFTER in the settings."
        ]
    }
