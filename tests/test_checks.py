from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.base_user import AbstractBaseUser
from django.core import checks
from django.core.management import CommandError, call_command
from django.db import models
from django.test import modify_settings, override_settings
from django.test.utils import isolate_apps

from chatkit_sessions.checks import check_settings

KEY = "sk-" + "sentinel" * 3
HINT = "See the settings table in the README; every key of CHATKIT_SESSIONS is optional."


def found(**values: Any) -> list[checks.CheckMessage]:
    """Return what the checks say about a site with a key and these settings."""
    with override_settings(CHATKIT_SESSIONS={"API_KEY": KEY, **values}):
        return check_settings(None)


def test_a_site_in_order_gets_no_message() -> None:
    assert found() == []


def test_the_checks_are_registered() -> None:
    with (
        override_settings(CHATKIT_SESSIONS={"API_KEY": KEY, "DEADLINE": 0}),
        pytest.raises(CommandError, match=r'CHATKIT_SESSIONS\["DEADLINE"\] must be a number of seconds'),
    ):
        call_command("check", tags=["chatkit_sessions"])


def test_an_unknown_key_is_an_error_with_a_hint() -> None:
    assert found(TIME_OUT=(1, 1)) == [
        checks.Error(
            "CHATKIT_SESSIONS[\"TIME_OUT\"] is unknown. Did you mean 'TIMEOUT'?",
            hint=HINT,
            id="chatkit_sessions.E001",
        )
    ]


def test_every_wrong_value_is_an_error() -> None:
    assert found(DEADLINE=0, MAX_RETRIES=-1) == [
        checks.Error(text, hint=HINT, id="chatkit_sessions.E002")
        for text in (
            'CHATKIT_SESSIONS["MAX_RETRIES"] must be an integer from 0 to 10, not -1.',
            'CHATKIT_SESSIONS["DEADLINE"] must be a number of seconds above 0 and up to 86400, not 0.',
        )
    ]


MALFORMED = "must be a string of visible ASCII characters, not one with spaces or other characters."


@pytest.mark.parametrize(
    ("values", "variable", "message"),
    [
        ({"API_KEY": f"{KEY}\n"}, None, f'CHATKIT_SESSIONS["API_KEY"] {MALFORMED}'),
        (
            {"CREDENTIALS": {"my eu": {"API_KEY": f" {KEY}"}}},
            None,
            f"CHATKIT_SESSIONS[\"CREDENTIALS\"]['my eu'].API_KEY {MALFORMED}",
        ),
        ({}, "OPENAI_API_KEY", f"OPENAI_API_KEY {MALFORMED}"),
        ({}, "CHATKIT_OPENAI_API_KEY", f"CHATKIT_OPENAI_API_KEY {MALFORMED}"),
    ],
)
def test_a_malformed_key_is_one_error_with_its_cure_and_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], variable: str | None, message: str
) -> None:
    if variable is not None:
        monkeypatch.setenv(variable, f"{KEY} {KEY}")
    with override_settings(CHATKIT_SESSIONS=values):
        messages = check_settings(None)
    assert messages == [
        checks.Error(
            message,
            hint="A key is one string: remove spaces and line ends from it.",
            id="chatkit_sessions.E002",
        )
    ]
    assert KEY not in repr(messages)


@pytest.mark.parametrize("values", [{"API_KEYS": KEY}, {"CREDENTIALS": {"eu": {"API_KEYS": KEY}}}])
def test_a_mistyped_name_of_the_key_leaves_it_missing(values: dict[str, Any]) -> None:
    with override_settings(CHATKIT_SESSIONS=values):
        assert [message.id for message in check_settings(None)][1:] == ["chatkit_sessions.W001"]


def test_settings_that_are_no_dict_are_an_error() -> None:
    with override_settings(CHATKIT_SESSIONS=[]):
        assert [message.id for message in check_settings(None)] == [
            "chatkit_sessions.E002",
            "chatkit_sessions.W001",
        ]


def test_the_environment_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATKIT_EXPIRES_AFTER", "soon")
    assert [message.msg for message in found()] == [
        "CHATKIT_EXPIRES_AFTER must be an integer, in the environment as in the settings."
    ]


def test_without_rest_framework_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apps, "is_installed", lambda name: name != "rest_framework")
    assert found() == [
        checks.Error(
            "chatkit_sessions needs Django REST framework.",
            hint='Add "rest_framework" to INSTALLED_APPS.',
            id="chatkit_sessions.E003",
        )
    ]


@modify_settings(INSTALLED_APPS={"remove": ["rest_framework"]})
def test_an_app_that_is_taken_away_is_missed() -> None:
    assert [message.id for message in found()] == ["chatkit_sessions.E003"]


NO_KEY = checks.Warning(
    "There is no OpenAI API key, so no session can be issued.",
    hint="Set OPENAI_API_KEY in the environment, or API_KEY in CHATKIT_SESSIONS.",
    id="chatkit_sessions.W001",
)


@pytest.mark.parametrize(
    ("values", "messages"),
    [
        ({}, [NO_KEY]),
        ({"API_KEY": None}, [NO_KEY]),
        ({"API_KEY": ""}, [NO_KEY]),
        ({"CREDENTIALS": {"eu": {"PROJECT": "proj_1"}}}, [NO_KEY]),
        ({"CREDENTIALS": {"eu": {"PROJECT": "proj_1"}, "us": {"API_KEY": KEY}}}, []),
        ({"API_KEY": lambda: ""}, []),  # it is not called: the key may need a network or a vault
    ],
)
def test_a_missing_key_is_a_warning(values: dict[str, Any], messages: list[checks.CheckMessage]) -> None:
    with override_settings(CHATKIT_SESSIONS=values):
        assert check_settings(None) == messages


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "CHATKIT_OPENAI_API_KEY"])
def test_a_key_in_the_environment_is_none_missing(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, KEY)
    with override_settings(CHATKIT_SESSIONS={}):
        assert check_settings(None) == []


PLAIN_HTTP = [
    "http://api.example.org/v1",
    "HTTP://API.EXAMPLE.ORG",
    "http://192.168.1.2:8000/v1",
    "http://localhost.example.org",
    "http://127.0.0.1.example.org",
    "http://[2001:db8::1]/v1",
    "http://0.0.0.0:8000",
]
HARMLESS = [
    "https://api.example.org/v1",
    "http://localhost:8000/v1",
    "http://LOCALHOST",
    "http://127.0.0.1:8000/v1",
    "http://127.8.9.10",
    "http://[::1]:8000/v1",
]


@pytest.mark.parametrize("address", PLAIN_HTTP)
def test_plain_http_to_another_machine_is_a_warning(address: str) -> None:
    host = address.split("//")[1].split("/")[0].lower()
    host = host[1:].split("]")[0] if host.startswith("[") else host.split(":")[0]
    assert found(BASE_URL=address) == [
        checks.Warning(
            f'CHATKIT_SESSIONS["BASE_URL"] sends the API key over plain http to {host}.',
            hint="Begin the address with https://.",
            id="chatkit_sessions.W002",
        )
    ]
    [message] = found(CREDENTIALS={"eu": {"BASE_URL": address}})
    assert message.msg == (
        f"CHATKIT_SESSIONS[\"CREDENTIALS\"]['eu'].BASE_URL sends the API key over plain http to {host}."
    )


@pytest.mark.parametrize("address", HARMLESS)
def test_https_and_this_machine_are_no_matter(address: str) -> None:
    assert found(BASE_URL=address, CREDENTIALS={"eu": {"BASE_URL": address}, "us": {}}) == []


def test_the_environments_address_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://api.example.org/v1")
    [message] = found()
    assert message.msg == "OPENAI_BASE_URL sends the API key over plain http to api.example.org."
    assert message.id == "chatkit_sessions.W002"


def test_an_address_in_the_environment_that_cannot_be_read_is_one_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "$OPENAI_BASE_URL")
    assert [message.msg for message in found()] == ["OPENAI_BASE_URL refers to itself."]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"email": models.EmailField(primary_key=True), "USERNAME_FIELD": "email"}, "email"),
        ({"login": models.CharField(primary_key=True), "USERNAME_FIELD": "login"}, "login"),
        (
            {
                "mail": models.TextField(primary_key=True),
                "number": models.IntegerField(),
                "USERNAME_FIELD": "number",
                "EMAIL_FIELD": "mail",
            },
            "mail",
        ),
        (
            {
                "address": models.EmailField(primary_key=True),
                "number": models.IntegerField(),
                "USERNAME_FIELD": "number",
            },
            "address",
        ),
    ],
    ids=["the e-mail", "the login", "named as the e-mail", "in the shape of an e-mail"],
)
@isolate_apps("tests")
def test_personal_data_as_primary_key_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], name: str
) -> None:
    meta = type("Meta", (), {"app_label": "tests"})
    people = type("Person", (AbstractBaseUser,), {**fields, "Meta": meta, "__module__": __name__})
    monkeypatch.setattr("chatkit_sessions.checks.get_user_model", lambda: people)
    assert found() == [
        checks.Warning(
            f"The API would know people by the primary key of tests.Person, {name!r}, "
            "which is personal data.",
            hint="Set USER_IDENTIFIER in CHATKIT_SESSIONS to a callable (user, request) for a pseudonym.",
            id="chatkit_sessions.W003",
        )
    ]
    assert found(USER_IDENTIFIER="site.people.pseudonym") == []
