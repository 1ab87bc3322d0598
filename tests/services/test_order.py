import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.db import OperationalError
from django.http import HttpRequest
from django.test import RequestFactory, override_settings

from chatkit_sessions import policy
from chatkit_sessions.digests import digest
from chatkit_sessions.exceptions import (
    InvalidRequest,
    NotConfigured,
    SessionRefused,
    StorageUnavailable,
    WorkflowNotFound,
)
from chatkit_sessions.models import ChatSession, PolicyOverride, Workflow
from chatkit_sessions.services import issue_session
from chatkit_sessions.services.order import place_order
from chatkit_sessions.standin import StandIn
from chatkit_sessions.testing import standin as pointed_at

pytestmark = pytest.mark.django_db

SEEN: list[tuple[Any, Any, str]] = []


def from_the_site(user: Any, request: HttpRequest | None, workflow: str) -> dict[str, Any]:
    """Return the site's state variables; the dotted path of the tests below leads here."""
    SEEN.append((user, request, workflow))
    return {"tier": "setting", "workflow": workflow}


@pytest.fixture
def user() -> User:
    return User.objects.create_user("ada")


@pytest.fixture
def nothing_sent(standin: StandIn) -> Iterator[StandIn]:
    """See that neither the API nor the table hears of what the test does."""
    yield standin
    assert standin.requests == []
    assert not ChatSession.objects.exists()


def here(**settings: Any) -> override_settings:
    """Change the settings of the moment."""
    return override_settings(CHATKIT_SESSIONS={**django_settings.CHATKIT_SESSIONS, **settings})


# State variables: each source, lowest first, and who wins.
SOURCES = ("browser", "setting", "workflow_setting", "workflow", "argument")


@pytest.mark.parametrize("top", range(1, 6))
@pytest.mark.parametrize("kind", ["dict", "callable", "path"])
def test_each_source_of_state_variables_wins_over_those_below(
    user: User, monkeypatch: pytest.MonkeyPatch, top: int, kind: str
) -> None:
    said: dict[str, dict[str, Any]] = {
        source: {"all": source, source: number} if number < top else {}
        for number, source in enumerate(SOURCES)
    }
    site: Any = said["setting"]
    if kind != "dict":
        site = lambda user, request, workflow: said["setting"]  # noqa: E731 (one of several sources)
    if kind == "path":
        monkeypatch.setattr(f"{__name__}.from_the_site", site)
        site = f"{__name__}.from_the_site"
    Workflow.objects.create(slug="default", state_variables=said["workflow"])
    with pointed_at(
        STATE_VARIABLES=site,
        CLIENT_STATE_VARIABLES=["all", "browser"],
        WORKFLOWS={"default": {"id": "wf", "state_variables": said["workflow_setting"]}},
    ) as api:
        row = issue_session(
            user=user, state_variables=said["argument"], client_state_variables=said["browser"]
        ).session
    expected = {"all": SOURCES[top - 1], **{source: number for number, source in enumerate(SOURCES[:top])}}
    assert api.requests[0].json["workflow"]["state_variables"] == expected
    row.refresh_from_db()
    assert row.policy["state_variables"] == {
        "value": {
            "digest": digest(json.dumps(expected, sort_keys=True)),
            "names": {"all": SOURCES[top - 1], **{source: source for source in SOURCES[:top]}},
        },
        "layer": SOURCES[top - 1],
    }


def test_the_sites_function_is_given_user_request_and_workflow(standin: StandIn, user: User) -> None:
    request = RequestFactory().get("/")
    SEEN.clear()
    workflows = {"default": {"id": "wf"}, "support": {"id": "wf_support"}}
    with pointed_at(STATE_VARIABLES=f"{__name__}.from_the_site", WORKFLOWS=workflows) as api:
        issue_session(user=user, request=request, workflow="wf_support")
        issue_session(identifier="somebody")
    assert SEEN == [(user, request, "support"), (None, None, "default")]
    assert api.requests[0].json["workflow"]["state_variables"] == {"tier": "setting", "workflow": "support"}


def test_the_values_of_state_variables_are_nowhere_in_the_row(
    standin: StandIn, user: User, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    order = place_order(user=user, state_variables={"diagnosis": "very-private"})
    assert "very-private" not in repr(order)
    row = issue_session(user=user, state_variables={"diagnosis": "very-private"}).session
    # The API's answer repeats them; that is kept as it came, and shown to nobody without permission.
    columns = {name: value for name, value in vars(row).items() if name != "response"}
    assert "very-private" not in str(columns)
    assert "diagnosis" in str(columns["policy"])
    assert "very-private" not in caplog.text


def test_without_state_variables_there_is_nothing_to_record(standin: StandIn, user: User) -> None:
    assert "state_variables" not in issue_session(user=user, state_variables={}).session.policy


@pytest.mark.parametrize("value", ["x", "", 1, 1.5, True, False, -3])
def test_strings_numbers_and_booleans_are_state_variables(standin: StandIn, user: User, value: Any) -> None:
    issue_session(user=user, state_variables={"a": value})
    assert standin.requests[0].json["workflow"]["state_variables"] == {"a": value}


def test_the_browser_sends_listed_names_only(nothing_sent: StandIn, user: User) -> None:
    with here(CLIENT_STATE_VARIABLES=["page"]), pytest.raises(InvalidRequest) as refused:
        issue_session(user=user, client_state_variables={"page": "/", "tier": "gold", "x": 1})
    assert refused.value.errors == {
        "state_variables": ["must not have 'tier': CLIENT_STATE_VARIABLES does not list it."]
    }


def test_the_browsers_names_reach_no_further_than_its_own(client: Any, user: User) -> None:
    client.force_login(user)
    settings: dict[str, Any] = {"CLIENT_STATE_VARIABLES": ["page"], "STATE_VARIABLES": {"page": "/server/"}}
    with pointed_at(**settings) as api:
        for variables, status in (({"page": "/browser/"}, 201), ({"tier": "gold"}, 400), (["page"], 400)):
            body = {"state_variables": variables}
            answer = client.post("/api/chatkit/sessions/", body, "application/json")
            assert answer.status_code == status
        assert "state_variables" in answer.json()["errors"]
        assert [request.json["workflow"]["state_variables"] for request in api.requests] == [
            {"page": "/server/"}
        ]


MANY = {f"k{number}": number for number in range(64)}
NESTED = "must be a string, a number or a boolean, not dict."
LONG_NAME = "its name must be a string of 1 to 64 characters, not 65 characters."
BAD_VARIABLES: list[Any] = [
    pytest.param({**MANY, "more": 1}, "must have at most 64 entries, not 65.", id="65"),
    pytest.param({"k" * 65: 1}, f"{'k' * 64} {LONG_NAME}", id="65-character key"),
    pytest.param({"": 1}, "its name must be a string of 1 to 64 characters, not 0 characters.", id="no name"),
    pytest.param({7: 1}, "7 its name must be a string of 1 to 64 characters, not int.", id="number as name"),
    pytest.param({"a": {"b": 1}}, f"a {NESTED}", id="nested"),
    pytest.param({"a": [1]}, "a must be a string, a number or a boolean, not list.", id="list"),
    pytest.param({"a": None}, "a must be a string, a number or a boolean, not NoneType.", id="null"),
    pytest.param({"a": float("nan")}, "a must be a finite number.", id="not a number"),
    pytest.param({"a": "\ud800"}, "a must be valid text without null characters.", id="lone surrogate"),
    pytest.param(["a"], "must be a mapping, not list.", id="no mapping"),
]


@pytest.mark.parametrize(("variables", "reason"), BAD_VARIABLES)
@pytest.mark.parametrize("source", ["state_variables", "client_state_variables"])
def test_bad_state_variables_are_refused_before_anything_is_sent(
    nothing_sent: StandIn, user: User, source: Any, variables: Any, reason: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        issue_session(user=user, **{source: variables})
    assert refused.value.errors == {"state_variables": [reason]}
    assert str(refused.value) == f"state_variables: {reason}"


def test_state_variables_are_counted_after_merging(user: User) -> None:
    workflow = {"id": "wf", "state_variables": {"own": 1}}
    with pointed_at(WORKFLOWS={"default": workflow}, CLIENT_STATE_VARIABLES=["page"]) as api:
        with pytest.raises(InvalidRequest) as refused:
            issue_session(user=user, state_variables=MANY)
        assert refused.value.errors == {"state_variables": ["must have at most 64 entries, not 65."]}
        rest = dict(list(MANY.items())[:63])
        with pytest.raises(InvalidRequest):
            issue_session(user=user, state_variables=rest, client_state_variables={"page": 1})
        assert api.requests == []
        # The same name from two sources is one variable.
        issue_session(user=user, state_variables={**rest, "own": 2})
        assert len(api.requests[0].json["workflow"]["state_variables"]) == 64


@pytest.mark.parametrize(
    ("site", "message"),
    [
        (lambda *_: MANY | {"more": 1}, "must have at most 64 entries, not 65."),
        (lambda *_: None, "must be a mapping, not NoneType."),
        (lambda *_: {"a": {"b": 1}}, NESTED),
        (
            lambda user, request, workflow: {"page": request.path},
            "raised AttributeError; the log has the traceback. "
            "Outside a view, the request that it is given is None.",
        ),
    ],
)
def test_bad_state_variables_of_the_site_are_for_the_operator(
    nothing_sent: StandIn, user: User, site: Callable[..., Any], message: str
) -> None:
    with here(STATE_VARIABLES=site), pytest.raises(NotConfigured) as refused:
        issue_session(user=user)
    assert str(refused.value).startswith('CHATKIT_SESSIONS["STATE_VARIABLES"]')
    assert str(refused.value).endswith(message)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (MANY | {"more": 1}, "default: state_variables must have at most 64 entries, not 65."),
        ({"k" * 65: 1}, f"default: state_variables.{'k' * 64} {LONG_NAME}"),
        ({"a": {"b": 1}}, f"default: state_variables.a {NESTED}"),
        (["a"], "default: state_variables must be a mapping, not list."),
        ("text", "default: state_variables must be a mapping, not str."),
        (
            MANY,
            'default, CHATKIT_SESSIONS["STATE_VARIABLES"] included: '
            "state_variables must have at most 64 entries, not 65.",
        ),
    ],
)
def test_bad_state_variables_in_the_table_are_for_the_operator(
    user: User, variables: Any, message: str
) -> None:
    Workflow.objects.create(slug="default", state_variables=variables)
    with pointed_at(STATE_VARIABLES={"site": 1}) as api:
        with pytest.raises(NotConfigured) as refused:
            issue_session(user=user)
        assert str(refused.value) == message
        assert api.requests == []


# Arguments that are out of their bounds.
BAD_ARGUMENTS: list[Any] = [
    ("expires_after", 0, "must be an integer from 1 to 600, not 0."),
    ("expires_after", 601, "must be an integer from 1 to 600, not 601."),
    ("expires_after", True, "must be an integer from 1 to 600, not bool."),
    ("expires_after", "60", "must be an integer from 1 to 600, not str."),
    ("max_requests_per_1_minute", 0, "must be an integer of at least 1, not 0."),
    ("chatkit_configuration", {"history": 1}, "history must be a mapping, not int."),
    ("chatkit_configuration", {"upload": {}}, "upload is unknown"),
    (
        "chatkit_configuration",
        {"file_upload": {"max_file_size": 513}},
        "file_upload.max_file_size must be an integer from 1 to 512, not 513.",
    ),
    (
        "chatkit_configuration",
        {"history": {"recent_threads": 0}},
        "history.recent_threads must be an integer of at least 1, not 0.",
    ),
]


@pytest.mark.parametrize(("name", "value", "reason"), BAD_ARGUMENTS)
def test_bad_arguments_are_refused_before_anything_is_sent(
    nothing_sent: StandIn, user: User, name: Any, value: Any, reason: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        issue_session(user=user, **{name: value})
    assert list(refused.value.errors) == [name]
    assert refused.value.errors[name][0].startswith(reason)


def test_the_bound_of_a_lifetime_is_the_settings(user: User) -> None:
    with pointed_at(MAX_EXPIRES_AFTER=900) as api:
        issue_session(user=user, expires_after=60)
        with pytest.raises(InvalidRequest, match="from 1 to 900, not 901"):
            issue_session(user=user, expires_after=901)
        assert len(api.requests) == 1


def test_a_workflow_that_does_not_exist_is_refused(nothing_sent: StandIn, user: User) -> None:
    with pytest.raises(WorkflowNotFound):
        issue_session(user=user, workflow="nowhere")


# What a row may hold that no form let through, and what the settings said when it was saved.
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"expires_after": 601}, "expires_after must be an integer from 1 to 600, not 601."),
        ({"version": "latest"}, "version must not be 'latest'"),
        ({"issuer": "somebody"}, "issuer must be 'openai'"),
    ],
)
def test_a_bad_value_in_a_workflows_row_is_refused_with_where_it_stands(
    nothing_sent: StandIn, user: User, values: dict[str, Any], message: str
) -> None:
    Workflow.objects.create(slug="default", **values)
    with pytest.raises(NotConfigured) as refused:
        issue_session(user=user)
    assert str(refused.value).startswith(f"default, the workflow in the admin: {message}")


def test_a_bad_value_in_an_override_is_refused_with_where_it_stands(
    nothing_sent: StandIn, user: User
) -> None:
    PolicyOverride.objects.create(user=user, expires_after=601)
    with pytest.raises(NotConfigured) as refused:
        issue_session(user=user)
    assert str(refused.value) == (
        "default, override for user ada: expires_after must be an integer from 1 to 600, not 601."
    )


def test_a_lower_bound_refuses_what_was_allowed_and_leaves_the_default_to_the_api(user: User) -> None:
    with pointed_at(MAX_EXPIRES_AFTER=300) as api:
        issue_session(user=user)
        assert "expires_after" not in api.requests[0].json
        PolicyOverride.objects.create(user=user, expires_after=400)
        with pytest.raises(NotConfigured, match="from 1 to 300, not 400"):
            issue_session(user=user)


def test_settings_that_are_not_valid_refuse_everything(user: User) -> None:
    with pointed_at(EXPIRES_AFTER=601) as api:
        with pytest.raises(NotConfigured) as refused:
            issue_session(user=user)
        assert str(refused.value) == (
            'CHATKIT_SESSIONS["EXPIRES_AFTER"] must be an integer from 1 to 600, not 601.'
        )
        assert api.requests == []


def test_without_a_key_nothing_is_written(nothing_sent: StandIn, user: User) -> None:
    with here(API_KEY=None), pytest.raises(NotConfigured, match="There is no API key"):
        issue_session(user=user)


def test_a_database_that_fails_is_told_apart_from_a_refusal(
    nothing_sent: StandIn,
    user: User,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*args: Any) -> None:
        raise OperationalError("no such table")

    monkeypatch.setattr(policy, "_overrides", fail)
    with pytest.raises(StorageUnavailable) as failed:
        issue_session(user=user)
    assert not isinstance(failed.value, SessionRefused)
    assert "no such table" in caplog.text


def test_the_order_of_a_visitor_counts_against_an_address() -> None:
    with pointed_at(ALLOW_ANONYMOUS=True):
        request = RequestFactory().get("/", REMOTE_ADDR="192.0.2.1")
        assert len(place_order(request=request).address_digest) == 64
        assert place_order(request=request, identifier="somebody").address_digest == ""
        assert place_order(identifier="somebody").address_digest == ""


def test_the_configuration_of_the_call_reaches_the_api(standin: StandIn, user: User) -> None:
    configuration: Mapping[str, Any] = {"history": {"enabled": False}}
    row = issue_session(user=user, chatkit_configuration=configuration).session
    assert standin.requests[0].json["chatkit_configuration"] == configuration
    assert row.policy["history_enabled"] == {"value": False, "layer": "argument"}
