from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import DatabaseError, transaction
from django.test import override_settings

from chatkit_sessions.models import Workflow, known_slugs

pytestmark = pytest.mark.django_db

AT_LEAST_ONE = (
    "file_upload_max_files",
    "history_recent_threads",
    "expires_after",
    "max_requests_per_1_minute",
    "max_active_sessions",
    "max_sessions_per_hour",
)
OUT_OF_BOUNDS = "Ensure this value is greater than or equal to 1."


def errors(**values: Any) -> dict[str, list[str]]:
    with pytest.raises(ValidationError) as refused:
        Workflow(**{"slug": "support", "workflow_id": "wf", **values}).full_clean()
    return refused.value.message_dict


BAD: list[Any] = [
    *(pytest.param({name: 0}, {name: [OUT_OF_BOUNDS]}, id=f"{name} 0") for name in AT_LEAST_ONE),
    pytest.param(
        {"file_upload_max_file_size": 513},
        {"file_upload_max_file_size": ["Ensure this value is less than or equal to 512."]},
        id="513 MB",
    ),
    pytest.param({"file_upload_max_file_size": 0}, {"file_upload_max_file_size": [OUT_OF_BOUNDS]}, id="0 MB"),
]


@pytest.mark.parametrize(("values", "messages"), BAD)
def test_bad_numbers_are_refused_by_the_form_and_by_the_database(
    values: dict[str, int], messages: dict[str, list[str]]
) -> None:
    assert errors(**values) == messages
    with pytest.raises(DatabaseError), transaction.atomic():
        Workflow.objects.create(slug="support", workflow_id="wf", **values)


@pytest.mark.parametrize(
    ("values", "field", "message"),
    [
        ({"expires_after": 601}, "expires_after", "Must be from 1 to 600 seconds, not 601."),
        ({"version": " Latest "}, "version", "Must not be 'latest'"),
        (
            {"state_variables": {f"k{n}": 1 for n in range(65)}},
            "state_variables",
            "Must have at most 64 entries, not 65.",
        ),
        ({"state_variables": {"k" * 65: 1}}, "state_variables", f"{'k' * 64} its name must be"),
        (
            {"state_variables": {"a": [1]}},
            "state_variables",
            "a must be a string, a number or a boolean, not list.",
        ),
        ({"ui_options": {"onError": 1}}, "ui_options", "onError is no option that can be stored"),
        (
            {"credentials": "eu"},
            "credentials",
            "CREDENTIALS in the settings has no 'eu'. It has: none.",
        ),
        (
            {"workflow_id": ""},
            "workflow_id",
            "Needed, for the settings have no workflow 'support' that names one.",
        ),
        ({"slug": "a b"}, "slug", "Enter a valid “slug”"),
        ({"issuer": "somebody"}, "issuer", "Value 'somebody' is not a valid choice."),
    ],
)
def test_bad_values_are_refused_at_save_by_field_and_bound(
    values: dict[str, Any], field: str, message: str
) -> None:
    found = errors(**values)
    assert set(found) == {field}
    assert found[field][0].startswith(message)


@pytest.mark.parametrize(
    ("settings", "values"),
    [
        ({"CREDENTIALS": {"eu": {"API_KEY": "sk"}}}, {"credentials": "eu"}),
        ({"WORKFLOWS": {"support": {"id": "wf"}}}, {"workflow_id": ""}),
        ({"MAX_EXPIRES_AFTER": 900}, {"expires_after": 900}),
        ({}, {"file_upload_max_file_size": 512, "expires_after": 600, "state_variables": {"a": True}}),
        ({}, dict.fromkeys(AT_LEAST_ONE, 1)),
        ({}, dict.fromkeys(AT_LEAST_ONE)),
    ],
)
def test_what_the_settings_allow_is_saved(settings: dict[str, Any], values: dict[str, Any]) -> None:
    workflow = Workflow(**{"slug": "support", "workflow_id": "wf", **values})
    with override_settings(CHATKIT_SESSIONS=settings):
        workflow.full_clean()
        workflow.save()


def test_the_credentials_there_are_stand_in_the_message() -> None:
    with override_settings(CHATKIT_SESSIONS={"CREDENTIALS": {"eu": {"API_KEY": "sk-secret"}, "us": {}}}):
        [message] = errors(credentials="asia")["credentials"]
    assert message == "CREDENTIALS in the settings has no 'asia'. It has: eu, us."


def test_it_is_called_by_its_name_or_its_slug() -> None:
    assert (str(Workflow(slug="a", name="Help")), str(Workflow(slug="a"))) == ("Help", "a")


def test_the_known_slugs_are_those_of_the_settings_and_of_the_admin() -> None:
    Workflow.objects.create(slug="sales", workflow_id="wf")
    Workflow.objects.create(slug="default", workflow_id="wf")
    assert known_slugs() == ["default", "sales"]
