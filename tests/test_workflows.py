import json
from typing import Any
from unittest.mock import Mock

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client, override_settings

from chatkit_sessions.conf import get_settings
from chatkit_sessions.exceptions import NotConfigured, WorkflowNotFound
from chatkit_sessions.identity import SITE_IDENTIFIER, Identity
from chatkit_sessions.layers import Layer
from chatkit_sessions.models import ChatSession, Workflow
from chatkit_sessions.services import issue_session
from chatkit_sessions.standin import StandIn
from chatkit_sessions.testing import standin as pointed_at
from chatkit_sessions.workflows import WorkflowConfig, find_workflow, named_workflows, open_workflows

pytestmark = pytest.mark.django_db

NOT_FOUND = "There is no such workflow for you. Ask the site's operator if there should be."
KEY = {"API_KEY": "sk-tests"}


@pytest.fixture
def user() -> User:
    return User.objects.create_user("ada")


@pytest.fixture
def member() -> User:
    member = User.objects.create_user("bob")
    member.groups.add(Group.objects.create(name="staff"))
    return member


def person(user: Any) -> Identity:
    return Identity(user=user, identifier=str(user.pk))


VISITOR = Identity(user=None, identifier="visitor-1", is_visitor=True)


def slugs(identity: Identity) -> list[str]:
    return [workflow.slug for workflow in open_workflows(get_settings(), identity)]


def find(name: str | None, identity: Identity) -> WorkflowConfig:
    return find_workflow(get_settings(), name, identity)


# The workflow in the settings, then its row in the admin, and to whom it is open.
EVERYONE, MEMBERS, NOBODY = {"visitor", "user", "member"}, {"member"}, set[str]()
ACCESS = [
    pytest.param({"id": "wf"}, None, EVERYONE, id="everyone"),
    pytest.param({"id": "wf", "is_active": False}, None, NOBODY, id="inactive in the settings"),
    pytest.param({"id": "wf"}, {"is_active": False}, NOBODY, id="inactive in the admin"),
    pytest.param({"id": "wf", "is_active": False}, {"is_active": True}, EVERYONE, id="active in the admin"),
    pytest.param({}, None, NOBODY, id="no id"),
    pytest.param({}, {"workflow_id": "wf"}, EVERYONE, id="id in the admin"),
    pytest.param(None, {"workflow_id": "wf"}, EVERYONE, id="in the admin only"),
    pytest.param({"id": "wf", "groups": ["staff"]}, None, MEMBERS, id="groups in the settings"),
    pytest.param({"id": "wf", "groups": ["other"]}, None, NOBODY, id="another group"),
    pytest.param({"id": "wf", "groups": ["Staff"]}, None, NOBODY, id="spelled otherwise"),
    pytest.param({"id": "wf", "groups": []}, None, EVERYONE, id="no groups"),
    pytest.param({"id": "wf"}, {"groups": ["staff"]}, MEMBERS, id="groups in the admin"),
    pytest.param({"id": "wf", "groups": ["staff"]}, {"groups": ["other"]}, NOBODY, id="groups in both"),
    pytest.param({"id": "wf", "groups": ["staff"]}, {}, MEMBERS, id="none in the admin"),
    pytest.param({"id": "wf", "allow_anonymous": False}, None, {"user", "member"}, id="no visitors"),
    pytest.param({"id": "wf", "allow_anonymous": False}, {"allow_anonymous": True}, EVERYONE, id="visitors"),
    pytest.param({"id": "wf"}, {"allow_anonymous": False}, {"user", "member"}, id="no visitors in the admin"),
    pytest.param({"id": "wf", "allow_anonymous": True, "groups": ["staff"]}, None, MEMBERS, id="members"),
]


@pytest.mark.parametrize(("setting", "row", "expected"), ACCESS)
def test_a_workflow_is_open_to_those_it_is_meant_for(
    user: User,
    member: User,
    setting: dict[str, Any] | None,
    row: dict[str, Any] | None,
    expected: set[str],
) -> None:
    if row is not None:
        columns = {name: value for name, value in row.items() if name != "groups"}
        groups = [Group.objects.get_or_create(name=name)[0] for name in row.get("groups", [])]
        stored = Workflow.objects.create(slug="support", **columns)
        stored.groups.set(groups)
    people = {"visitor": VISITOR, "user": person(user), "member": person(member)}
    workflows = {} if setting is None else {"support": setting}
    with override_settings(CHATKIT_SESSIONS={**KEY, "WORKFLOWS": workflows}):
        assert {name for name, identity in people.items() if slugs(identity)} == expected
        for name, identity in people.items():
            if name in expected:
                assert find("support", identity).slug == "support"
            else:
                with pytest.raises(WorkflowNotFound, match=NOT_FOUND):
                    find("support", identity)


def test_a_user_model_need_not_have_groups() -> None:
    outsider = person(Mock(spec=["pk", "is_authenticated"], pk=1))
    Workflow.objects.create(slug="closed", workflow_id="wf").groups.add(Group.objects.create(name="staff"))
    workflows = {"open": {"id": "wf"}, "members": {"id": "wf", "groups": ["staff"]}}
    with override_settings(CHATKIT_SESSIONS={**KEY, "WORKFLOWS": workflows}):
        assert slugs(outsider) == ["open"]


def test_only_the_site_itself_may_try_a_workflow_of_groups() -> None:
    workflows = {"default": {"id": "wf", "groups": ["staff"]}, "off": {"id": "wf", "is_active": False}}
    with override_settings(CHATKIT_SESSIONS={**KEY, "WORKFLOWS": workflows}):
        assert slugs(Identity(user=None, identifier=SITE_IDENTIFIER, is_site=True)) == ["default"]
        assert slugs(Identity(user=None, identifier=SITE_IDENTIFIER)) == []


WHY = [
    pytest.param({"id": "wf"}, None, id="open"),
    pytest.param({"id": "wf", "is_active": False}, "it is not active", id="inactive"),
    pytest.param({}, "it has no workflow id", id="no id"),
    pytest.param(
        {"id": "wf", "allow_anonymous": False}, "it is not open to visitors without an account", id="visitor"
    ),
    pytest.param(
        {"id": "wf", "groups": ["staff"]},
        "it is open to groups only, and this person is in none of them",
        id="groups",
    ),
]


@pytest.mark.parametrize(("setting", "why"), WHY)
def test_why_a_workflow_is_closed_is_known_to_the_operator(setting: dict[str, Any], why: str | None) -> None:
    with override_settings(CHATKIT_SESSIONS={**KEY, "WORKFLOWS": {"support": setting}}):
        [config] = named_workflows(get_settings(), "support", VISITOR)
        assert config.why_closed_to(VISITOR) == why


def test_a_workflow_is_found_by_slug_and_by_id(user: User) -> None:
    Workflow.objects.create(slug="sales", workflow_id="wf_2")
    Workflow.objects.create(slug="moved", workflow_id="wf_4")
    workflows = {"support": {"id": "wf_1"}, "moved": {"id": "wf_3"}}
    with override_settings(CHATKIT_SESSIONS={**KEY, "WORKFLOWS": workflows}):
        for name, slug in {"support": "support", "wf_1": "support", "wf_2": "sales", "wf_4": "moved"}.items():
            assert find(name, person(user)).slug == slug
        for name in ("wf_3", "Support", "WF_1", "sale"):
            with pytest.raises(WorkflowNotFound):
                find(name, person(user))


def test_a_slug_comes_before_an_id_and_an_open_workflow_before_a_closed_one(user: User) -> None:
    workflows: dict[str, Any] = {
        "a": {"id": "b"},
        "b": {"id": "wf_1", "groups": ["staff"]},
        "c": {"id": "wf_1"},
    }
    with override_settings(CHATKIT_SESSIONS={**KEY, "WORKFLOWS": workflows}):
        assert [found.slug for found in named_workflows(get_settings(), "b", person(user))] == ["b", "a"]
        assert find("b", person(user)).slug == "a"
        assert find("wf_1", person(user)).slug == "c"


@pytest.mark.parametrize("name", ["", "\x00", "wf\x00", "\ud800", "x" * 256, 7, ["default"], "'; --", "%"])
def test_no_workflow_has_a_hostile_name(user: User, name: Any) -> None:
    with pytest.raises(WorkflowNotFound, match=NOT_FOUND):
        find(name, person(user))


DEFAULT_MISSING = (
    "The default workflow 'support' is missing or inactive: set CHATKIT_WORKFLOW_ID "
    "in the environment, or add it to WORKFLOWS in CHATKIT_SESSIONS or in the admin."
)


@pytest.mark.parametrize("workflows", [{}, {"support": {"id": "wf", "is_active": False}}, {"support": {}}])
def test_a_missing_default_workflow_is_for_the_operator(user: User, workflows: dict[str, Any]) -> None:
    settings = {**KEY, "DEFAULT_WORKFLOW": "support", "WORKFLOWS": {"other": {"id": "wf_2"}, **workflows}}
    with override_settings(CHATKIT_SESSIONS=settings):
        with pytest.raises(NotConfigured) as missing:
            find(None, person(user))
        assert str(missing.value) == DEFAULT_MISSING
        with pytest.raises(WorkflowNotFound):
            find("support", person(user))


def test_a_default_workflow_that_is_not_for_everyone_is_not_found(user: User, member: User) -> None:
    settings = {**KEY, "WORKFLOWS": {"default": {"id": "wf", "groups": ["staff"]}}}
    with override_settings(CHATKIT_SESSIONS=settings):
        with pytest.raises(WorkflowNotFound):
            find(None, person(user))
        assert find(None, person(member)).slug == "default"


@pytest.mark.parametrize("anonymous", [False, True])
def test_a_browser_cannot_tell_forbidden_from_absent(user: User, anonymous: bool) -> None:
    Workflow.objects.create(slug="off", workflow_id="wf_off", is_active=False)
    Workflow.objects.create(slug="mine", workflow_id="wf_mine").groups.add(Group.objects.create(name="staff"))
    Workflow.objects.create(slug="members", workflow_id="wf_members", allow_anonymous=False)
    client = Client()
    if not anonymous:
        client.force_login(user)
    names = ["absent", "off", "wf_off", "mine", "wf_mine", "setting", "wf_setting"]
    names += ["members"] if anonymous else []
    closed = {"setting": {"id": "wf_setting", "groups": ["staff"]}}
    with pointed_at(WORKFLOWS={"default": {"id": "wf"}, **closed}, ALLOW_ANONYMOUS=True) as api:
        answers = [
            client.post("/api/chatkit/sessions/", body, content_type="application/json")
            for name in names
            for body in ({"workflow": name}, {"workflow": {"id": name}})
        ]
        assert api.requests == []
        listed = client.get("/api/chatkit/workflows/").json()["data"]
    assert {answer.status_code for answer in answers} == {404}
    assert {answer.content for answer in answers} == {
        json.dumps(
            {"detail": NOT_FOUND, "code": "workflow_not_found", "reference": None}, separators=(",", ":")
        ).encode()
    }
    # Not by a header either: length, cookies and all else are the same for each.
    assert len({tuple(sorted(answer.headers.items())) for answer in answers}) == 1
    assert [workflow["slug"] for workflow in listed] == ["default", *([] if anonymous else ["members"])]
    assert not ChatSession.objects.exists()


def test_the_settings_and_the_admin_describe_a_workflow_together(user: User) -> None:
    Workflow.objects.create(slug="support", name="", version="2", state_variables={"b": 3}, ui_options={})
    setting = {"id": "wf", "name": "Help", "version": "1", "state_variables": {"a": 1, "b": 2}}
    with override_settings(CHATKIT_SESSIONS={**KEY, "WORKFLOWS": {"support": setting}}):
        config = find("support", person(user))
    assert (config.name, config.get("version"), config.get("workflow_id")) == ("Help", "2", "wf")
    assert config.values["version"].layer is Layer.WORKFLOW
    assert config.values["name"].layer is Layer.WORKFLOW_SETTING
    assert config.get("server_url", "none") == "none"
    assert list(config.state_variables) == [
        (Layer.WORKFLOW_SETTING, {"a": 1, "b": 2}),
        (Layer.WORKFLOW, {"b": 3}),
    ]


def test_a_workflow_without_a_name_is_called_by_its_slug(user: User) -> None:
    assert find("default", person(user)).name == "default"


def test_the_workflows_of_a_person_take_one_statement(user: User, django_assert_num_queries: Any) -> None:
    for number in range(20):
        Workflow.objects.create(slug=f"w{number}", workflow_id="wf").groups.add(
            Group.objects.create(name=f"g{number}")
        )
    with django_assert_num_queries(1):
        assert slugs(person(user)) == ["default"]
    with django_assert_num_queries(1):
        find("default", person(user))


def test_a_change_in_the_admin_counts_from_the_next_request_on(standin: StandIn, user: User) -> None:
    assert issue_session(user=user).session.workflow_id == "wf_tests"
    row = Workflow.objects.create(slug="default", workflow_id="wf_new", version="3")
    assert issue_session(user=user).session.workflow_id == "wf_new"
    assert standin.requests[-1].json["workflow"] == {"id": "wf_new", "version": "3"}
    row.groups.add(Group.objects.create(name="staff"))
    with pytest.raises(WorkflowNotFound):
        issue_session(user=user)
