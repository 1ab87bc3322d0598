import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.test import override_settings
from django.views.debug import ExceptionReporter

from chatkit_sessions import conf
from chatkit_sessions.conf import Settings, get_settings, key_source
from chatkit_sessions.exceptions import NotConfigured

KEY = "sk-" + "sentinel" * 3
WORKFLOW_FIELDS = (
    "name, issuer, credentials, workflow_id, version, server_url, domain_key, is_active, allow_anonymous, "
    "groups, isolate_history, state_variables, tracing_enabled, automatic_thread_titling_enabled, "
    "file_upload_enabled, file_upload_max_file_size, file_upload_max_files, history_enabled, "
    "history_recent_threads, expires_after, max_requests_per_1_minute, max_active_sessions, "
    "max_sessions_per_hour, ui_options, id"
)

# The settings table of the documentation, word for word.
DEFAULTS: dict[str, Any] = {
    "API_KEY": None,
    "BASE_URL": "https://api.openai.com/v1",
    "ORGANIZATION": None,
    "PROJECT": None,
    "CREDENTIALS": {},
    "TIMEOUT": (3.05, 10),
    "MAX_RETRIES": 2,
    "DEADLINE": 15,
    "COOLDOWN": (5, 30),
    "MAX_CONCURRENT_CALLS": 4,
    "DEFAULT_WORKFLOW": "default",
    "WORKFLOWS": {},
    "EXPIRES_AFTER": None,
    "MAX_EXPIRES_AFTER": 600,
    "MAX_REQUESTS_PER_1_MINUTE": None,
    "CHATKIT_CONFIGURATION": {},
    "STATE_VARIABLES": {},
    "CLIENT_STATE_VARIABLES": (),
    "USER_IDENTIFIER": None,
    "USER_IDENTIFIER_PREFIX": "",
    "ALLOW_ANONYMOUS": False,
    "ANONYMOUS_RATE": "30/hour",
    "MAX_ACTIVE_SESSIONS": None,
    "ON_MAX_ACTIVE": "reject",
    "MAX_SESSIONS_PER_HOUR": 60,
    "REUSE_MARGIN": 60,
    "CANCEL_ON_LOGOUT": False,
    "RECORD_CLIENT": False,
    "RETENTION_DAYS": 90,
    "AUTHENTICATION_CLASSES": None,
    "PERMISSION_CLASSES": None,
    "THROTTLE_CLASSES": None,
    "CHATKIT_JS_URL": "https://cdn.platform.openai.com/deployments/chatkit/chatkit.js",
}

# Another valid value for every key.
OTHERS: dict[str, Any] = {
    "API_KEY": KEY,
    "BASE_URL": "http://127.0.0.1:8/v1/",
    "ORGANIZATION": "org-1",
    "PROJECT": "proj_1",
    "CREDENTIALS": {"eu": {"API_KEY": KEY}},
    "TIMEOUT": [1, 2.5],
    "MAX_RETRIES": 0,
    "DEADLINE": 0.5,
    "COOLDOWN": None,
    "MAX_CONCURRENT_CALLS": None,
    "DEFAULT_WORKFLOW": "support",
    "WORKFLOWS": {"support": {"workflow_id": "wf_1", "version": None}},
    "EXPIRES_AFTER": 600,
    "MAX_EXPIRES_AFTER": 900,
    "MAX_REQUESTS_PER_1_MINUTE": 1,
    "CHATKIT_CONFIGURATION": {"history": {"enabled": False}},
    "STATE_VARIABLES": {"plan": "gold"},
    "CLIENT_STATE_VARIABLES": ["page"],
    "USER_IDENTIFIER": "site.people.pseudonym",
    "USER_IDENTIFIER_PREFIX": "staging-",
    "ALLOW_ANONYMOUS": True,
    "ANONYMOUS_RATE": "1/day",
    "MAX_ACTIVE_SESSIONS": 1,
    "ON_MAX_ACTIVE": "cancel_oldest",
    "MAX_SESSIONS_PER_HOUR": None,
    "REUSE_MARGIN": 0,
    "CANCEL_ON_LOGOUT": True,
    "RECORD_CLIENT": True,
    "RETENTION_DAYS": None,
    "AUTHENTICATION_CLASSES": ["site.auth.Class"],
    "PERMISSION_CLASSES": (object,),
    "THROTTLE_CLASSES": [],
    "CHATKIT_JS_URL": "https://example.org/chatkit.js",
}


def given(**values: Any) -> override_settings:
    return override_settings(CHATKIT_SESSIONS=values)


def problems(**values: Any) -> list[str]:
    with given(**values):
        return [problem.message for problem in conf.read()[1]]


# --- defaults


def test_the_settings_are_those_of_the_documentation() -> None:
    assert [item.name.upper() for item in dataclasses.fields(Settings)] == list(DEFAULTS)
    assert set(OTHERS) == set(DEFAULTS)


@pytest.mark.parametrize("key", DEFAULTS)
def test_a_key_that_is_not_given_has_its_default(key: str) -> None:
    with given():
        value = getattr(get_settings(), key.lower())
    assert value == DEFAULTS[key]
    assert type(value) is type(DEFAULTS[key])


@pytest.mark.parametrize("key", OTHERS)
def test_a_key_that_is_given_is_taken_as_it_is(key: str) -> None:
    with given(**{key: OTHERS[key]}):
        assert getattr(get_settings(), key.lower()) == OTHERS[key]


@override_settings()
def test_a_site_may_have_no_settings_at_all() -> None:
    del django_settings.CHATKIT_SESSIONS
    assert get_settings() == Settings()


@pytest.mark.parametrize("value", [None, [], "API_KEY", 3])
def test_settings_that_are_no_dict_are_refused(value: Any) -> None:
    message = f"CHATKIT_SESSIONS must be a dict, not {type(value).__name__}."
    with override_settings(CHATKIT_SESSIONS=value):
        assert conf.read() == (Settings(), [conf.Problem(message)])
        with pytest.raises(NotConfigured) as refused:
            get_settings()
    assert str(refused.value) == message
    assert refused.value.code == "not_configured"


def test_settings_are_read_at_each_use() -> None:
    with given(DEADLINE=1):
        assert get_settings().deadline == 1
        with given(DEADLINE=2):
            assert get_settings().deadline == 2
            given_now: dict[str, Any] = django_settings.CHATKIT_SESSIONS
            given_now["DEADLINE"] = 3
            assert get_settings().deadline == 3
        assert get_settings().deadline == 1


def test_the_environment_is_read_at_each_use(monkeypatch: pytest.MonkeyPatch) -> None:
    with given():
        monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
        assert get_settings().organization == "org-1"
        monkeypatch.setenv("OPENAI_ORG_ID", "org-2")
        assert get_settings().organization == "org-2"


def test_settings_cannot_be_changed() -> None:
    with given(), pytest.raises(dataclasses.FrozenInstanceError):
        get_settings().deadline = 1  # type: ignore[misc]  # the very thing that is tried


# --- environment


VARIABLES: list[tuple[str, str, str, Any]] = [
    ("CHATKIT_OPENAI_API_KEY", KEY, "API_KEY", KEY),
    ("OPENAI_API_KEY", KEY, "API_KEY", KEY),
    ("OPENAI_BASE_URL", "https://eu.api.openai.com/v1", "BASE_URL", "https://eu.api.openai.com/v1"),
    ("OPENAI_ORG_ID", "org-1", "ORGANIZATION", "org-1"),
    ("OPENAI_PROJECT_ID", "proj_1", "PROJECT", "proj_1"),
    ("CHATKIT_EXPIRES_AFTER", "300", "EXPIRES_AFTER", 300),
    ("CHATKIT_MAX_REQUESTS_PER_1_MINUTE", "7", "MAX_REQUESTS_PER_1_MINUTE", 7),
    ("CHATKIT_JS_URL", "https://example.org/c.js", "CHATKIT_JS_URL", "https://example.org/c.js"),
]


@pytest.mark.parametrize(("variable", "text", "key", "value"), VARIABLES)
def test_the_environment_speaks_where_the_dict_is_silent(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, key: str, value: Any
) -> None:
    monkeypatch.setenv(variable, text)
    with given():
        assert getattr(get_settings(), key.lower()) == value
    with given(**{key: OTHERS[key]}):
        assert getattr(get_settings(), key.lower()) == OTHERS[key]


@pytest.mark.parametrize("key", [key for _, _, key, _ in VARIABLES if DEFAULTS[key] is None])
def test_none_in_the_dict_silences_the_environment(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    for variable, text, _, _ in VARIABLES:
        monkeypatch.setenv(variable, text)
    with given(**{key: None}):
        assert getattr(get_settings(), key.lower()) is None


def test_no_other_variable_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in DEFAULTS:
        for prefix in ("", "CHATKIT_", "CHATKIT_SESSIONS_", "OPENAI_"):
            monkeypatch.setenv(f"{prefix}{key}", "7")
    for variable, *_ in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    with given():
        assert get_settings() == Settings()


def test_the_packages_own_key_goes_before_the_general_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-general")
    monkeypatch.setenv("CHATKIT_OPENAI_API_KEY", "sk-chatkit")
    with given():
        assert get_settings().api_key == "sk-chatkit"
        monkeypatch.setenv("CHATKIT_OPENAI_API_KEY", "")
        assert get_settings().api_key == "sk-general"


@pytest.mark.parametrize("variable", [variable for variable, *_ in VARIABLES] + ["CHATKIT_WORKFLOW_ID"])
def test_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "")
    with given():
        assert get_settings() == Settings()


@pytest.mark.parametrize("variable", ["CHATKIT_EXPIRES_AFTER", "CHATKIT_MAX_REQUESTS_PER_1_MINUTE"])
@pytest.mark.parametrize("text", ["ten", "1.5", "10s", "0x10", "None"])
def test_an_integer_that_is_none_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str
) -> None:
    monkeypatch.setenv(variable, text)
    assert problems() == [f"{variable} must be an integer, in the environment as in the settings."]


VISIBLE = "must be a string of visible ASCII characters"
SIGNED_IN = "must have no user name and password in it: addresses are logged."
ADDRESS = "must be an address that begins with https:// (or http:// for tests)."


@pytest.mark.parametrize(
    ("variable", "text", "reason"),
    [
        ("OPENAI_API_KEY", "sk sentinel", f"{VISIBLE}, not one with spaces or other characters."),
        ("CHATKIT_OPENAI_API_KEY", "sk-é", f"{VISIBLE}, not one with spaces or other characters."),
        ("OPENAI_BASE_URL", "api.openai.com", ADDRESS),
        ("OPENAI_BASE_URL", "https://me:hush@api.openai.com/v1", SIGNED_IN),
        ("OPENAI_ORG_ID", "org 1", f"{VISIBLE}."),
        ("OPENAI_PROJECT_ID", "proj\t1", f"{VISIBLE}."),
        ("CHATKIT_EXPIRES_AFTER", "0", "must be an integer of at least 1, not 0."),
        ("CHATKIT_EXPIRES_AFTER", "601", "must be an integer from 1 to 600, not 601."),
        ("CHATKIT_MAX_REQUESTS_PER_1_MINUTE", "0", "must be an integer of at least 1, not 0."),
        ("CHATKIT_JS_URL", "//cdn", ADDRESS),
        ("CHATKIT_WORKFLOW_ID", "w" * 256, "must be a string of 1 to 255 characters, not 256 characters."),
        ("CHATKIT_EXPIRES_AFTER", "$CHATKIT_EXPIRES_AFTER", "refers to itself."),
        ("OPENAI_API_KEY", "$OPENAI_API_KEY", "refers to itself."),
        ("CHATKIT_WORKFLOW_ID", "$CHATKIT_WORKFLOW_ID", "refers to itself."),
    ],
)
def test_a_variable_out_of_bounds_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, reason: str
) -> None:
    monkeypatch.setenv(variable, text)
    assert problems() == [f"{variable} {reason}"]
    with given(), pytest.raises(NotConfigured) as refused:
        get_settings()
    assert str(refused.value) == f"{variable} {reason}"


def test_a_variable_may_stand_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "$SITE_ORG")
    monkeypatch.setenv("SITE_ORG", "org-1")
    with given():
        assert get_settings().organization == "org-1"


# --- the environment's workflow


def workflows(**values: Any) -> Mapping[str, Mapping[str, Any]]:
    with given(**values):
        return get_settings().workflows


def test_the_environments_workflow_is_the_default_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATKIT_WORKFLOW_ID", "wf_env")
    assert workflows() == {"default": {"workflow_id": "wf_env", "version": None}}
    monkeypatch.setenv("CHATKIT_WORKFLOW_VERSION", "3")
    assert workflows() == {"default": {"workflow_id": "wf_env", "version": "3"}}


def test_it_stands_beside_the_others_and_takes_their_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATKIT_WORKFLOW_ID", "wf_env")
    monkeypatch.setenv("CHATKIT_WORKFLOW_VERSION", "3")
    support = {"id": "wf_1", "expires_after": 60}
    assert workflows(WORKFLOWS={"support": support, "default": {"name": "Help", "version": "4"}}) == {
        "support": {"workflow_id": "wf_1", "expires_after": 60},
        "default": {"workflow_id": "wf_env", "version": "4", "name": "Help"},
    }


@pytest.mark.parametrize("name", ["id", "workflow_id"])
def test_the_dicts_own_default_workflow_wins_as_a_whole(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("CHATKIT_WORKFLOW_ID", "wf_env")
    monkeypatch.setenv("CHATKIT_WORKFLOW_VERSION", "3")
    assert workflows(WORKFLOWS={"default": {name: "wf_dict"}}) == {"default": {"workflow_id": "wf_dict"}}


def test_a_version_without_a_workflow_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATKIT_WORKFLOW_VERSION", "3")
    assert workflows() == {}


def test_the_environments_workflow_has_another_slug_than_the_default_one_may_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CHATKIT_WORKFLOW_ID", "wf_env")
    assert list(workflows(DEFAULT_WORKFLOW="support")) == ["default"]


def test_the_version_latest_is_refused_in_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATKIT_WORKFLOW_ID", "wf_env")
    monkeypatch.setenv("CHATKIT_WORKFLOW_VERSION", "latest")
    assert problems() == [
        "CHATKIT_WORKFLOW_VERSION must not be 'latest': the API accepts it and the chat then fails. "
        "Leave the version out to get the latest deployment."
    ]


def test_reading_leaves_the_sites_own_dict_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATKIT_WORKFLOW_ID", "wf_env")
    own = {"default": {"name": "Help"}, "support": {"id": "wf_1"}}
    before = json.dumps(own)
    assert len(workflows(WORKFLOWS=own)) == 2
    assert json.dumps(own) == before


# --- what is refused


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("API_KEYS", "Did you mean 'API_KEY'?"),
        ("api_key", "Did you mean 'API_KEY'?"),
        ("Time_Out", "Did you mean 'TIMEOUT'?"),
        ("EXPIRES_IN", "Did you mean 'EXPIRES_AFTER'?"),
        ("WORKFLOW", "Did you mean 'WORKFLOWS'?"),
        ("MAX_REQUESTS_PER_MINUTE", "Did you mean 'MAX_REQUESTS_PER_1_MINUTE'?"),
        ("xyzzy", f"Known: {', '.join(DEFAULTS)}."),
    ],
)
def test_an_unknown_key_gets_a_hint(key: str, hint: str) -> None:
    with given(**{key: KEY}):
        [problem] = conf.read()[1]
    assert problem == conf.Problem(f'CHATKIT_SESSIONS["{key}"] is unknown. {hint}', unknown=True)


def test_a_key_may_be_no_string() -> None:
    with override_settings(CHATKIT_SESSIONS={7: 1}):
        assert conf.read()[1][0].message.startswith('CHATKIT_SESSIONS["7"] is unknown. Known: API_KEY, ')


COUNT = "must be an integer of at least 1, not"
PATHS = "must be a callable or its dotted path, not"
SECONDS = "must be a number of seconds above 0 and up to 86400, not"
SLUG = "must be a slug: 1 to 64 letters, digits, hyphens or underscores."
# The key, its value, and the message behind CHATKIT_SESSIONS["
WRONG: list[tuple[str, Any, str]] = [
    ("API_KEY", 7, f'API_KEY"] {VISIBLE}, not int.'),
    ("API_KEY", KEY + "\n", f'API_KEY"] {VISIBLE}, not one with spaces or other characters.'),
    ("BASE_URL", None, f'BASE_URL"] {ADDRESS}'),
    ("BASE_URL", "api.openai.com", f'BASE_URL"] {ADDRESS}'),
    ("BASE_URL", f"https://me:{KEY}@api.openai.com/v1", f'BASE_URL"] {SIGNED_IN}'),
    ("ORGANIZATION", "", f'ORGANIZATION"] {VISIBLE}.'),
    ("PROJECT", 7, f'PROJECT"] {VISIBLE}.'),
    ("CREDENTIALS", [KEY], 'CREDENTIALS"] must be a mapping of names to mappings, not list.'),
    (
        "CREDENTIALS",
        {"eu": {"API_KEY": KEY + " "}},
        f"CREDENTIALS\"]['eu'].API_KEY {VISIBLE}, not one with spaces or other characters.",
    ),
    (
        "CREDENTIALS",
        {"eu": {"BASE_URL": f"https://{KEY}@api.openai.com"}},
        f"CREDENTIALS\"]['eu'].BASE_URL {SIGNED_IN}",
    ),
    (
        "CREDENTIALS",
        {"eu": {"KEY": KEY}},
        "CREDENTIALS\"]['eu'].KEY is unknown; known: API_KEY, BASE_URL, ORGANIZATION, PROJECT.",
    ),
    ("TIMEOUT", 10, 'TIMEOUT"] must be a pair, not int.'),
    ("TIMEOUT", (3, 0), f'TIMEOUT"][1] {SECONDS} 0.'),
    ("TIMEOUT", ("3", 1), f'TIMEOUT"][0] {SECONDS} str.'),
    ("MAX_RETRIES", -1, 'MAX_RETRIES"] must be an integer from 0 to 10, not -1.'),
    ("MAX_RETRIES", 11, 'MAX_RETRIES"] must be an integer from 0 to 10, not 11.'),
    ("DEADLINE", 0, f'DEADLINE"] {SECONDS} 0.'),
    ("DEADLINE", None, f'DEADLINE"] {SECONDS} NoneType.'),
    ("DEADLINE", float("nan"), f'DEADLINE"] {SECONDS} nan.'),
    ("COOLDOWN", (0, 30), f'COOLDOWN"][0] {COUNT} 0.'),
    ("COOLDOWN", (5, 0), f'COOLDOWN"][1] {SECONDS} 0.'),
    ("COOLDOWN", False, 'COOLDOWN"] must be a pair, not bool.'),
    ("MAX_CONCURRENT_CALLS", 0, f'MAX_CONCURRENT_CALLS"] {COUNT} 0.'),
    ("DEFAULT_WORKFLOW", "", f'DEFAULT_WORKFLOW"] {SLUG}'),
    ("DEFAULT_WORKFLOW", None, f'DEFAULT_WORKFLOW"] {SLUG}'),
    ("WORKFLOWS", ["wf_1"], 'WORKFLOWS"] must be a mapping of slugs to mappings, not list.'),
    ("WORKFLOWS", {"a b": {}}, f"WORKFLOWS\"]['a b'] {SLUG}"),
    ("WORKFLOWS", {"a": "wf_1"}, "WORKFLOWS\"]['a'] must be a mapping, not str."),
    (
        "WORKFLOWS",
        {"a": {"identifier": 1}},
        f"WORKFLOWS\"]['a'].identifier is unknown; known: {WORKFLOW_FIELDS}.",
    ),
    ("WORKFLOWS", {"a": {"id": 1}}, "WORKFLOWS\"]['a'].id must be a string of 1 to 255 characters, not int."),
    (
        "WORKFLOWS",
        {"a": {"expires_after": 601}},
        "WORKFLOWS\"]['a'].expires_after must be an integer from 1 to 600, not 601.",
    ),
    ("EXPIRES_AFTER", 0, f'EXPIRES_AFTER"] {COUNT} 0.'),
    ("EXPIRES_AFTER", 601, 'EXPIRES_AFTER"] must be an integer from 1 to 600, not 601.'),
    ("EXPIRES_AFTER", "600", f'EXPIRES_AFTER"] {COUNT} str.'),
    ("MAX_EXPIRES_AFTER", None, f'MAX_EXPIRES_AFTER"] {COUNT} NoneType.'),
    ("MAX_REQUESTS_PER_1_MINUTE", 0, f'MAX_REQUESTS_PER_1_MINUTE"] {COUNT} 0.'),
    ("CHATKIT_CONFIGURATION", None, 'CHATKIT_CONFIGURATION"] must be a mapping, not NoneType.'),
    (
        "CHATKIT_CONFIGURATION",
        {"file_upload": {"max_file_size": 513}},
        'CHATKIT_CONFIGURATION"].file_upload.max_file_size must be an integer from 1 to 512, not 513.',
    ),
    ("STATE_VARIABLES", 3, 'STATE_VARIABLES"] must be a mapping, not int.'),
    ("STATE_VARIABLES", "page", f'STATE_VARIABLES"] {PATHS} str.'),
    (
        "STATE_VARIABLES",
        {"a": None},
        'STATE_VARIABLES"].a must be a string, a number or a boolean, not NoneType.',
    ),
    ("CLIENT_STATE_VARIABLES", "page", 'CLIENT_STATE_VARIABLES"] must be a list, not str.'),
    (
        "CLIENT_STATE_VARIABLES",
        ["page", "k" * 65],
        'CLIENT_STATE_VARIABLES"][1] must be a string of 1 to 64 characters, not 65 characters.',
    ),
    ("USER_IDENTIFIER", "email", f'USER_IDENTIFIER"] {PATHS} str.'),
    ("USER_IDENTIFIER_PREFIX", None, 'USER_IDENTIFIER_PREFIX"] must be a string, not NoneType.'),
    ("ALLOW_ANONYMOUS", 1, 'ALLOW_ANONYMOUS"] must be true or false, not int.'),
    (
        "ANONYMOUS_RATE",
        "often",
        "ANONYMOUS_RATE\"] must be a rate such as '30/hour': "
        "a number of at least 1 a second, minute, hour or day.",
    ),
    ("MAX_ACTIVE_SESSIONS", 0, f'MAX_ACTIVE_SESSIONS"] {COUNT} 0.'),
    ("ON_MAX_ACTIVE", "cancel", "ON_MAX_ACTIVE\"] must be 'reject' or 'cancel_oldest'."),
    ("MAX_SESSIONS_PER_HOUR", 0, f'MAX_SESSIONS_PER_HOUR"] {COUNT} 0.'),
    ("REUSE_MARGIN", -1, 'REUSE_MARGIN"] must be an integer of at least 0, not -1.'),
    ("REUSE_MARGIN", None, 'REUSE_MARGIN"] must be an integer of at least 0, not NoneType.'),
    ("CANCEL_ON_LOGOUT", "no", 'CANCEL_ON_LOGOUT"] must be true or false, not str.'),
    ("RECORD_CLIENT", None, 'RECORD_CLIENT"] must be true or false, not NoneType.'),
    ("RETENTION_DAYS", 0, f'RETENTION_DAYS"] {COUNT} 0.'),
    ("AUTHENTICATION_CLASSES", "a.B", 'AUTHENTICATION_CLASSES"] must be a list, not str.'),
    ("PERMISSION_CLASSES", ["B"], f'PERMISSION_CLASSES"][0] {PATHS} str.'),
    ("THROTTLE_CLASSES", [None], f'THROTTLE_CLASSES"][0] {PATHS} NoneType.'),
    ("CHATKIT_JS_URL", "", f'CHATKIT_JS_URL"] {ADDRESS}'),
]


def test_every_key_is_wrong_in_some_way() -> None:
    assert {key for key, _, _ in WRONG} == set(DEFAULTS)


@pytest.mark.parametrize(("key", "value", "message"), WRONG)
def test_a_wrong_value_names_key_and_bound_and_no_secret(key: str, value: Any, message: str) -> None:
    assert problems(**{key: value}) == [f'CHATKIT_SESSIONS["{message}']
    assert KEY not in message
    with given(**{key: value}), pytest.raises(NotConfigured) as refused:
        get_settings()
    assert str(refused.value) == f'CHATKIT_SESSIONS["{message}'


def test_all_wrong_values_are_reported_at_once() -> None:
    found = problems(DEADLINE=0, TIMEOUT=0, TIMEOUTS=1, EXPIRES_AFTER=1000)
    assert [message.partition('"]')[0] for message in found] == [
        f'CHATKIT_SESSIONS["{key}' for key in ("TIMEOUTS", "TIMEOUT", "DEADLINE", "EXPIRES_AFTER")
    ]


def test_defaults_stand_in_for_what_is_wrong() -> None:
    with given(DEADLINE=0, TIMEOUT=(1, 1), WORKFLOWS={"a": 1}):
        settings, _ = conf.read()
    assert (settings.deadline, settings.timeout, settings.workflows) == (15, (1, 1), {})


# --- relations


def test_a_longer_bound_allows_a_longer_lifetime() -> None:
    assert problems(EXPIRES_AFTER=900, MAX_EXPIRES_AFTER=900, WORKFLOWS={"a": {"expires_after": 900}}) == []
    assert problems(EXPIRES_AFTER=901, MAX_EXPIRES_AFTER=900) == [
        'CHATKIT_SESSIONS["EXPIRES_AFTER"] must be an integer from 1 to 900, not 901.'
    ]
    assert problems(WORKFLOWS={"a": {"expires_after": 301}}, MAX_EXPIRES_AFTER=300) == [
        "CHATKIT_SESSIONS[\"WORKFLOWS\"]['a'].expires_after must be an integer from 1 to 300, not 301."
    ]


def test_the_environments_lifetime_is_bound_by_the_dict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATKIT_EXPIRES_AFTER", "301")
    assert problems(MAX_EXPIRES_AFTER=300) == [
        "CHATKIT_EXPIRES_AFTER must be an integer from 1 to 300, not 301."
    ]


def test_a_workflow_names_credentials_that_there_are() -> None:
    credentials = {"eu": {"API_KEY": KEY}}
    assert (
        problems(CREDENTIALS=credentials, WORKFLOWS={"a": {"credentials": "eu"}, "b": {"credentials": ""}})
        == []
    )
    assert problems(CREDENTIALS=credentials, WORKFLOWS={"a": {"credentials": "us"}}) == [
        "CHATKIT_SESSIONS[\"WORKFLOWS\"]['a'].credentials names 'us', which CREDENTIALS lacks."
    ]


# --- credentials


def test_credentials_fall_back_to_the_sites_own() -> None:
    with given(
        API_KEY="sk-site",
        BASE_URL="https://site/v1/",
        ORGANIZATION="org-site",
        PROJECT="proj_site",
        CREDENTIALS={"eu": {"BASE_URL": "https://eu/v1//"}, "all": {"PROJECT": "proj_all"}, "bare": {}},
    ):
        settings = get_settings()
        site, eu = settings.credentials_for(""), settings.credentials_for("eu")
        assert site.reveal_key() == eu.reveal_key() == "sk-site"
        assert (site.base_url, site.organization, site.project) == (
            "https://site/v1",
            "org-site",
            "proj_site",
        )
        assert (eu.base_url, eu.organization, eu.project) == ("https://eu/v1", "org-site", "proj_site")
        assert settings.credentials_for("all").project == "proj_all"
        assert settings.credentials_for("bare") == site


def test_another_key_does_not_take_the_sites_organization_and_project() -> None:
    with given(
        API_KEY="sk-site",
        ORGANIZATION="org-site",
        PROJECT="proj_site",
        CREDENTIALS={
            "eu": {"API_KEY": "sk-eu"},
            "us": {"API_KEY": "sk-us", "ORGANIZATION": "o", "PROJECT": "p"},
        },
    ):
        eu, us = (get_settings().credentials_for(name) for name in ("eu", "us"))
    assert (eu.reveal_key(), eu.organization, eu.project) == ("sk-eu", None, None)
    assert (us.reveal_key(), us.organization, us.project) == ("sk-us", "o", "p")


def test_credentials_that_there_are_not_name_the_line_to_write() -> None:
    with given(), pytest.raises(NotConfigured) as refused:
        get_settings().credentials_for("eu")
    assert str(refused.value) == "Add the credentials 'eu' to CREDENTIALS in CHATKIT_SESSIONS."


@pytest.mark.parametrize("source", [None, "", lambda: "", lambda: None])
def test_without_a_key_there_is_a_clear_error_at_use(source: Any) -> None:
    with given(API_KEY=source), pytest.raises(NotConfigured) as refused:
        get_settings().credentials_for("").reveal_key()
    assert str(refused.value) == (
        "There is no API key: set OPENAI_API_KEY in the environment, or API_KEY in CHATKIT_SESSIONS."
    )


def test_a_callable_is_asked_for_the_key_each_time() -> None:
    keys = iter(["sk-1", "sk-2"])
    with given(API_KEY=lambda: next(keys)):
        credentials = get_settings().credentials_for("")
        assert [credentials.reveal_key(), credentials.reveal_key()] == ["sk-1", "sk-2"]
        assert repr(credentials.api_key).startswith("<function")


def test_of_a_callable_that_raises_only_the_kind_of_error_is_told() -> None:
    def fail() -> str:
        raise LookupError(f"the vault says no to {KEY}")

    with given(API_KEY=fail), pytest.raises(NotConfigured) as refused:
        get_settings().credentials_for("").reveal_key()
    assert str(refused.value) == (
        "The callable that returns the API key raised LookupError; call it in a shell to see why."
    )
    assert refused.value.__suppress_context__


@pytest.mark.parametrize(
    ("returned", "reason"),
    [(KEY + "\n", "one with spaces or other characters"), (7, "int"), ([KEY], "list")],
)
def test_a_callable_that_returns_no_key_is_refused_unseen(returned: Any, reason: str) -> None:
    with given(API_KEY=lambda: returned), pytest.raises(NotConfigured) as refused:
        get_settings().credentials_for("").reveal_key()
    assert str(refused.value) == f"API_KEY {VISIBLE}, not {reason}."


def test_no_repr_shows_a_key() -> None:
    with given(API_KEY=KEY, CREDENTIALS={"eu": {"API_KEY": KEY}}):
        settings = get_settings()
        assert KEY not in repr(settings)
        assert KEY not in repr(settings.credentials_for("eu"))
        assert repr(settings.credentials_for("eu").reveal_key()) == "<secret>"
    assert repr(settings).startswith("Settings(base_url='https://api.openai.com/v1', ")


@pytest.mark.parametrize(
    "wrong", [{"DEADLINE": 0}, {"API_KEY": KEY + " "}, {"CREDENTIALS": {"eu": {"KEY": KEY}}}]
)
def test_the_debug_page_of_a_refusal_shows_no_key(wrong: dict[str, Any]) -> None:
    values = {"API_KEY": KEY, "CREDENTIALS": {"eu": {"API_KEY": KEY}}, **wrong}
    with override_settings(CHATKIT_SESSIONS=values, DEBUG=True):
        with pytest.raises(NotConfigured) as refused:
            get_settings()
        values = wrong = {}
        error = refused.value
        reporter = ExceptionReporter(None, type(error), error, error.__traceback__)
        shown = reporter.get_traceback_text() + reporter.get_traceback_html()
    assert "get_settings" in shown
    assert KEY not in shown


@pytest.mark.parametrize(
    ("broken", "read", "values"),
    [
        ("_workflows", get_settings, {"API_KEY": KEY}),
        ("_workflows", get_settings, {"API_KEY": "", "CREDENTIALS": {"eu": {"API_KEY": KEY}}}),
        ("_workflows", get_settings, {}),
        ("setting_name", lambda: key_source(Settings()), {"API_KEY": KEY}),
    ],
    ids=["setting", "credentials", "environment", "source"],
)
def test_the_debug_page_of_a_defect_shows_no_key(
    monkeypatch: pytest.MonkeyPatch, broken: str, read: Callable[[], Any], values: dict[str, Any]
) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("A defect.")

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(conf, broken, fail)
    with override_settings(CHATKIT_SESSIONS=values, DEBUG=True):
        with pytest.raises(RuntimeError) as failed:
            read()
        values = {}
        error = failed.value
        reporter = ExceptionReporter(None, type(error), error, error.__traceback__)
        shown = reporter.get_traceback_text() + reporter.get_traceback_html()
    assert "A defect." in shown
    assert KEY not in shown
