import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Group
from django.test import override_settings
from django.utils import timezone

from chatkit_sessions.models import Workflow
from chatkit_sessions.rules import UI_OPTIONS
from chatkit_sessions.standin import StandIn

from .conftest import WORKFLOWS, Desk, Page, messages, staff

ADD = f"{WORKFLOWS}add/"
PLAIN = {"slug": "support", "workflow_id": "wf_1", "is_active": "on"}
# Every field with a lower bound of 1, and one more than its upper bound with the message that names it.
ONE = "Ensure this value is greater than or equal to 1."
BOUNDED: dict[str, tuple[str, str]] = {
    "expires_after": (
        "601",
        "Must be from 1 to 600 seconds, not 601. The bound is MAX_EXPIRES_AFTER in the settings.",
    ),
    "file_upload_max_file_size": ("513", "Ensure this value is less than or equal to 512."),
    "max_requests_per_1_minute": ("2147483648", "Ensure this value is less than or equal to 2147483647."),
    "max_active_sessions": ("2147483648", "Ensure this value is less than or equal to 2147483647."),
    "max_sessions_per_hour": ("2147483648", "Ensure this value is less than or equal to 2147483647."),
    "file_upload_max_files": ("2147483648", "Ensure this value is less than or equal to 2147483647."),
    "history_recent_threads": ("2147483648", "Ensure this value is less than or equal to 2147483647."),
}


@pytest.fixture
def keeper(db: None) -> Desk:
    """Somebody who looks after workflows and nothing else."""
    return staff("keeper", "add_workflow", "change_workflow", "view_workflow", "delete_workflow")


def errors(answer: Any) -> dict[str, list[str]]:
    """Return the errors of a form that was refused, by field."""
    assert answer.status_code == 200
    found: dict[str, list[str]] = answer.context["adminform"].form.errors
    return dict(found)


def refused(desk: Desk, **fields: str) -> dict[str, list[str]]:
    """Try to add a workflow and return what is wrong with it; nothing may have been written."""
    answer = desk.post(ADD, **{**PLAIN, **fields})
    assert not Workflow.objects.exists()
    return errors(answer)


def test_a_workflow_is_added_with_all_its_values(keeper: Desk) -> None:
    group = Group.objects.create(name="staff")
    given: dict[str, Any] = {
        **PLAIN,
        "name": "Support",
        "version": "3",
        "groups": [group.pk],
        "allow_anonymous": "false",
        "expires_after": "300",
        "max_requests_per_1_minute": "5",
        "max_active_sessions": "2",
        "max_sessions_per_hour": "20",
        "history_enabled": "true",
        "history_recent_threads": "3",
        "isolate_history": "true",
        "file_upload_enabled": "true",
        "file_upload_max_file_size": "512",
        "file_upload_max_files": "1",
        "automatic_thread_titling_enabled": "false",
        "tracing_enabled": "unknown",
        "state_variables": '{"tier": "gold", "n": 1, "f": 0.5, "t": true}',
        "ui_options": '{"theme": "dark", "startScreen": {"greeting": "Hello"}}',
    }
    answer = keeper.post(ADD, **given)
    workflow = Workflow.objects.get()
    assert messages(answer)[0][0] == "success"
    assert (workflow.slug, workflow.name, workflow.workflow_id, workflow.version) == (
        "support",
        "Support",
        "wf_1",
        "3",
    )
    assert list(workflow.groups.all()) == [group]
    assert (workflow.expires_after, workflow.max_requests_per_1_minute) == (300, 5)
    assert (workflow.max_active_sessions, workflow.max_sessions_per_hour) == (2, 20)
    assert (workflow.history_enabled, workflow.history_recent_threads) == (True, 3)
    assert (workflow.isolate_history, workflow.allow_anonymous, workflow.tracing_enabled) == (
        True,
        False,
        None,
    )
    assert (workflow.file_upload_max_file_size, workflow.file_upload_max_files) == (512, 1)
    assert workflow.state_variables == {"tier": "gold", "n": 1, "f": 0.5, "t": True}
    assert workflow.ui_options == {"theme": "dark", "startScreen": {"greeting": "Hello"}}


def test_what_is_left_blank_is_not_set(keeper: Desk) -> None:
    keeper.post(ADD, **PLAIN)
    values = Workflow.objects.values().get()
    set_values = {name for name, value in values.items() if value not in (None, "")}
    assert set_values == {"id", "slug", "workflow_id", "is_active", "created_at", "updated_at"}
    assert not Workflow.objects.get().groups.exists()


def test_a_form_that_was_not_touched_changes_nothing(keeper: Desk) -> None:
    keeper.post(ADD, **PLAIN)
    workflow = Workflow.objects.values().get()
    answer = keeper.get(f"{WORKFLOWS}{workflow['id']}/change/")
    form = answer.context["adminform"].form
    data = {field.html_name: field.value() for field in form}
    untouched = {name: value for name, value in data.items() if value is not None}
    keeper.post(f"{WORKFLOWS}{workflow['id']}/change/", **untouched)
    after = Workflow.objects.values().get()
    assert {**after, "updated_at": None} == {**workflow, "updated_at": None}


@pytest.mark.parametrize("field", BOUNDED)
def test_a_number_below_its_bound_is_refused(keeper: Desk, standin: StandIn, field: str) -> None:
    assert refused(keeper, **{field: "0"}) == {field: [ONE]}
    assert refused(keeper, **{field: "ten"}) == {field: ["Enter a whole number."]}
    assert set(refused(keeper, **{field: "-1"})) == {field}
    assert standin.requests == []


@pytest.mark.parametrize(
    "field",
    BOUNDED,
)
def test_a_number_above_its_bound_is_refused(keeper: Desk, standin: StandIn, field: str) -> None:
    too_large, message = BOUNDED[field]
    assert refused(keeper, **{field: too_large}) == {field: [message]}
    assert standin.requests == []


@pytest.mark.parametrize("field", BOUNDED)
def test_a_number_within_its_bounds_is_taken(keeper: Desk, field: str) -> None:
    for slug, number in (("least", 1), ("most", int(BOUNDED[field][0]) - 1)):
        keeper.post(ADD, **{**PLAIN, "slug": slug, field: str(number)})
        assert getattr(Workflow.objects.get(slug=slug), field) == number


LATEST = (
    "Must not be 'latest': the API accepts it and the chat then fails. "
    "Leave the version out to get the latest deployment."
)
MANY = json.dumps({f"key{number}": number for number in range(65)})
TOO_LONG = json.dumps({"k" * 65: 1})
NESTED = "page must be a string, a number or a boolean, not "
UNKNOWN_OPTION = (
    "frobnicate is no option that can be stored, and one unknown option leaves the widget blank; "
    f"known: {', '.join(UI_OPTIONS)}."
)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("version", "latest", LATEST),
        ("version", " LATEST ", LATEST),
        ("version", "v" * 256, "Ensure this value has at most 255 characters (it has 256)."),
        ("slug", "", "This field is required."),
        ("slug", "a b", "Enter a valid “slug” consisting of letters, numbers, underscores or hyphens."),
        ("slug", "s" * 65, "Ensure this value has at most 64 characters (it has 65)."),
        ("name", "n" * 201, "Ensure this value has at most 200 characters (it has 201)."),
        ("workflow_id", "", "Needed, for the settings have no workflow 'support' that names one."),
        ("credentials", "other", "CREDENTIALS in the settings has no 'other'. It has: none."),
        ("state_variables", MANY, "Must have at most 64 entries, not 65."),
        (
            "state_variables",
            TOO_LONG,
            f"{'k' * 64} its name must be a string of 1 to 64 characters, not 65 characters.",
        ),
        ("state_variables", '{"page": {"a": 1}}', f"{NESTED}dict."),
        ("state_variables", '{"page": [1]}', f"{NESTED}list."),
        ("state_variables", '{"page": null}', f"{NESTED}NoneType."),
        ("state_variables", '["page"]', "Must be a mapping, not list."),
        ("state_variables", "{page}", "Enter a valid JSON."),
        ("ui_options", '{"frobnicate": true}', UNKNOWN_OPTION),
        ("ui_options", '["theme"]', "Must be a mapping, not list."),
        ("ui_options", "5", "Must be a mapping, not int."),
        ("groups", "5", "Select a valid choice. 5 is not one of the available choices."),
    ],
    ids=lambda value: value[:25],
)
def test_a_value_that_cannot_be_is_refused_with_the_reason(
    keeper: Desk, standin: StandIn, field: str, value: str, message: str
) -> None:
    assert refused(keeper, **{field: value}) == {field: [message]}
    assert standin.requests == []


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("state_variables", '{"page": NaN}', "page must be a finite number."),
        ("ui_options", '{"theme": NaN}', "theme must be a finite number."),
    ],
)
def test_numbers_that_are_none_are_refused(keeper: Desk, field: str, value: str, message: str) -> None:
    assert refused(keeper, **{field: value}) == {field: [message]}


def test_a_workflow_id_is_no_novel(keeper: Desk) -> None:
    too_long = "Ensure this value has at most 255 characters (it has 256)."
    assert too_long in refused(keeper, workflow_id="w" * 256)["workflow_id"]


def test_a_slug_is_taken_once(keeper: Desk) -> None:
    Workflow.objects.create(slug="support", workflow_id="wf_0")
    answer = keeper.post(ADD, **PLAIN)
    assert errors(answer) == {"slug": ["Workflow with this Slug already exists."]}


def test_all_that_is_wrong_is_said_at_once(keeper: Desk) -> None:
    wrong = refused(keeper, workflow_id="", credentials="other", expires_after="601", version="latest")
    assert set(wrong) == {"workflow_id", "credentials", "expires_after", "version"}


@pytest.fixture
def configure(standin: StandIn) -> Callable[..., Any]:
    """Return a context manager that changes keys of CHATKIT_SESSIONS."""
    return lambda **keys: override_settings(CHATKIT_SESSIONS={**settings.CHATKIT_SESSIONS, **keys})


def test_the_settings_may_allow_more(keeper: Desk, configure: Callable[..., Any]) -> None:
    with configure(MAX_EXPIRES_AFTER=900, CREDENTIALS={"other": {"API_KEY": "sk-other"}}):
        keeper.post(ADD, **PLAIN, expires_after="900", credentials="other")
        assert Workflow.objects.get().expires_after == 900
        answer = keeper.post(ADD, **{**PLAIN, "slug": "more", "credentials": "others"})
    message = "CREDENTIALS in the settings has no 'others'. It has: other."
    assert errors(answer) == {"credentials": [message]}


def test_a_workflow_of_the_settings_needs_no_id_here(keeper: Desk, configure: Callable[..., Any]) -> None:
    with configure(WORKFLOWS={"support": {"id": "wf_settings"}}):
        keeper.post(ADD, slug="support", is_active="on", name="Our support")
    assert Workflow.objects.get().name == "Our support"


def test_settings_that_are_not_valid_do_not_stop_the_operator(
    keeper: Desk, configure: Callable[..., Any]
) -> None:
    with configure(NO_SUCH_SETTING=1, MAX_EXPIRES_AFTER="long"):
        keeper.post(ADD, **PLAIN, expires_after="600")
    assert Workflow.objects.get().expires_after == 600


def test_the_slug_stays_once_it_is_given(keeper: Desk) -> None:
    keeper.post(ADD, **PLAIN)
    workflow = Workflow.objects.get()
    path = f"{WORKFLOWS}{workflow.pk}/change/"
    assert not [field for field in keeper.page(path).inputs if field.get("name") == "slug"]
    assert [field for field in keeper.page(ADD).inputs if field.get("name") == "slug"]
    keeper.post(path, **{**PLAIN, "slug": "renamed", "name": "Support"})
    workflow.refresh_from_db()
    assert (workflow.slug, workflow.name) == ("support", "Support")


def test_units_bounds_and_defaults_are_in_view(keeper: Desk) -> None:
    text = keeper.page(ADD).text
    for words in (
        "Seconds from creation, 1 to 600 (MAX_EXPIRES_AFTER in the settings). API default: 600.",
        "Requests that one session may make in a minute, at least 1. API default: 10.",
        "Megabytes, 1 to 512. API default: 512.",
        "At least 1. API default: 10.",
        "At least 1. API default: unlimited.",
        "API default: on.",
        "API default: off.",
        "Blank: the latest deployment.",
        "Blank: as in the settings, or else the API's default.",
        "Only members may start a session. None: everyone.",
    ):
        assert words in text, words


def test_a_choice_that_is_not_made_is_not_called_unknown(keeper: Desk) -> None:
    answer = keeper.get(ADD)
    for name in ("tracing_enabled", "history_enabled", "allow_anonymous", "isolate_history"):
        widget = answer.context["adminform"].form.fields[name].widget
        assert [(value, str(label)) for value, label in widget.choices] == [
            ("unknown", "Not set here"),
            ("true", "Yes"),
            ("false", "No"),
        ]


def test_json_comes_back_as_it_was_typed(keeper: Desk) -> None:
    answer = keeper.post(ADD, **{**PLAIN, "state_variables": "{page}", "ui_options": '{"locale":"dé"}'})
    form = answer.context["adminform"].form
    assert form["state_variables"].value() == "{page}"
    assert form["ui_options"].value() == '{\n  "locale": "dé"\n}'


@pytest.mark.parametrize("name", ["state_variables", "ui_options"])
def test_json_that_is_not_set_is_an_empty_box(keeper: Desk, name: str) -> None:
    Workflow.objects.create(slug="support", workflow_id="wf_1")
    for path in (ADD, f"{WORKFLOWS}{Workflow.objects.get().pk}/change/"):
        form = keeper.get(path).context["adminform"].form
        assert "null" not in str(form[name])


def test_the_list_is_searched_and_filtered(keeper: Desk) -> None:
    Workflow.objects.create(slug="support", name="Help", workflow_id="wf_1")
    Workflow.objects.create(slug="sales", workflow_id="wf_2", is_active=False)
    assert keeper.page(WORKFLOWS).column("Slug") == ["sales", "support"]
    for term in ("help", "supp", "wf_1"):
        assert keeper.page(f"{WORKFLOWS}?q={term}").column("Slug") == ["support"]
    assert "?is_active__exact=0" in keeper.page(WORKFLOWS).links
    assert keeper.page(f"{WORKFLOWS}?is_active__exact=0").column("Slug") == ["sales"]


def test_the_moments_are_shown_and_kept(keeper: Desk) -> None:
    keeper.post(ADD, **PLAIN)
    workflow = Workflow.objects.get()
    long_ago = timezone.now() - timedelta(days=365)
    keeper.post(f"{WORKFLOWS}{workflow.pk}/change/", **PLAIN, created_at=long_ago, updated_at=long_ago)
    after = Workflow.objects.get()
    assert after.created_at == workflow.created_at
    assert after.updated_at > workflow.updated_at


def test_only_those_with_the_permission_see_workflows(auditor: Desk) -> None:
    workflow = Workflow.objects.create(slug="support", workflow_id="wf_1")
    for path in (WORKFLOWS, ADD, f"{WORKFLOWS}{workflow.pk}/change/", f"{WORKFLOWS}{workflow.pk}/delete/"):
        assert auditor.get(path).status_code == 403
    reader = staff("reader", "view_workflow")
    page: Page = reader.page(f"{WORKFLOWS}{workflow.pk}/change/")
    assert not [field for field in page.inputs if field.get("name") == "_save"]
    assert reader.post(f"{WORKFLOWS}{workflow.pk}/change/", **PLAIN).status_code == 403
