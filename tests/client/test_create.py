from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pytest

from chatkit_sessions.bounds import MAX_INTEGER
from chatkit_sessions.client import ChatKitClient, ParameterError
from chatkit_sessions.standin import Fault, StandIn

from .conftest import SESSION

TOO_LARGE = MAX_INTEGER + 1
LATEST = (
    "workflow.version must not be 'latest': the API accepts it and the chat then fails. "
    "Leave the version out to get the latest deployment."
)


def workflow(**fields: Any) -> dict[str, Any]:
    return {"workflow": {"id": "wf_1", **fields}}


def variables(value: Any) -> dict[str, Any]:
    return workflow(state_variables=value)


def configuration(**features: Any) -> dict[str, Any]:
    return {"chatkit_configuration": features}


def lifetime(**fields: Any) -> dict[str, Any]:
    return {"expires_after": {"anchor": "created_at", "seconds": 600, **fields}}


def rate(value: Any) -> dict[str, Any]:
    return {"rate_limits": {"max_requests_per_1_minute": value}}


REFUSED: list[tuple[dict[str, Any], str]] = [
    # user
    ({"user": None}, "user must be a string of 1 to 512 characters, not NoneType."),
    ({"user": 7}, "user must be a string of 1 to 512 characters, not int."),
    ({"user": ""}, "user must be a string of 1 to 512 characters, not 0 characters."),
    ({"user": "u" * 513}, "user must be a string of 1 to 512 characters, not 513 characters."),
    ({"user": "a\x00b"}, "user must be valid text without null characters."),
    ({"user": "\ud83d"}, "user must be valid text without null characters."),
    # workflow
    ({"workflow": None}, "workflow must be a mapping, not NoneType."),
    ({"workflow": "wf_1"}, "workflow must be a mapping, not str."),
    ({"workflow": {}}, "workflow.id is required."),
    (workflow(id=""), "workflow.id must be a string of at least 1 character, not 0 characters."),
    (workflow(id=1), "workflow.id must be a string of at least 1 character, not int."),
    (workflow(name="x"), "workflow.name is unknown; known: id, version, state_variables, tracing."),
    (workflow(version=""), "workflow.version must be a string of at least 1 character, not 0 characters."),
    (workflow(version=3), "workflow.version must be a string of at least 1 character, not int."),
    (workflow(version="latest"), LATEST),
    (workflow(version=" Latest "), LATEST),
    (workflow(tracing=True), "workflow.tracing must be a mapping, not bool."),
    (workflow(tracing={"enabled": 1}), "workflow.tracing.enabled must be true or false, not int."),
    (workflow(tracing={"on": True}), "workflow.tracing.on is unknown; known: enabled."),
    # state variables
    (variables([]), "workflow.state_variables must be a mapping, not list."),
    (
        variables({f"v{n}": n for n in range(65)}),
        "workflow.state_variables must have at most 64 entries, not 65.",
    ),
    (
        variables({"": 1}),
        "workflow.state_variables. its name must be a string of 1 to 64 characters, not 0 characters.",
    ),
    (
        variables({"k" * 65: 1}),
        f"workflow.state_variables.{'k' * 64} "
        "its name must be a string of 1 to 64 characters, not 65 characters.",
    ),
    (
        variables({5: 1}),
        "workflow.state_variables.5 its name must be a string of 1 to 64 characters, not int.",
    ),
    (
        variables({"page": "x" * 10_485_761}),
        "workflow.state_variables.page must have at most 10485760 characters, not 10485761.",
    ),
    (
        variables({"page": "\udc00"}),
        "workflow.state_variables.page must be valid text without null characters.",
    ),
    *(
        (
            variables({"page": value}),
            "workflow.state_variables.page must be a string, a number or a boolean, "
            f"not {type(value).__name__}.",
        )
        for value in (None, [1], {"a": 1}, b"x")
    ),
    *(
        (variables({"n": value}), "workflow.state_variables.n must be a finite number.")
        for value in (float("nan"), float("inf"), float("-inf"), 10**400, -(10**5000))
    ),
    # configuration
    (
        configuration(uploads={}),
        "chatkit_configuration.uploads is unknown; known: automatic_thread_titling, file_upload, history.",
    ),
    ({"chatkit_configuration": []}, "chatkit_configuration must be a mapping, not list."),
    (
        configuration(automatic_thread_titling={"enabled": "yes"}),
        "chatkit_configuration.automatic_thread_titling.enabled must be true or false, not str.",
    ),
    (
        configuration(file_upload={"enabled": None}),
        "chatkit_configuration.file_upload.enabled must be true or false, not NoneType.",
    ),
    (
        configuration(file_upload={"size": 1}),
        "chatkit_configuration.file_upload.size is unknown; known: enabled, max_file_size, max_files.",
    ),
    *(
        (
            configuration(file_upload={"max_file_size": value}),
            f"chatkit_configuration.file_upload.max_file_size must be an integer from 1 to 512, not {shown}.",
        )
        for value, shown in ((0, "0"), (513, "513"), (1.5, "float"), (True, "bool"), ("1", "str"))
    ),
    (
        configuration(file_upload={"max_files": 0}),
        "chatkit_configuration.file_upload.max_files must be an integer of at least 1, not 0.",
    ),
    (
        configuration(file_upload={"max_files": TOO_LARGE}),
        "chatkit_configuration.file_upload.max_files must be an integer from 1 to 2147483647, "
        "not 2147483648.",
    ),
    (
        configuration(history={"enabled": 0}),
        "chatkit_configuration.history.enabled must be true or false, not int.",
    ),
    (
        configuration(history={"recent_threads": 0}),
        "chatkit_configuration.history.recent_threads must be an integer of at least 1, not 0.",
    ),
    (
        configuration(history={"recent_threads": None}),
        "chatkit_configuration.history.recent_threads must be an integer of at least 1, not NoneType.",
    ),
    # lifetime
    ({"expires_after": 600}, "expires_after must be a mapping, not int."),
    ({"expires_after": {"seconds": 600}}, "expires_after.anchor is required."),
    ({"expires_after": {"anchor": "created_at"}}, "expires_after.seconds is required."),
    (lifetime(anchor="now"), "expires_after.anchor must be 'created_at'."),
    (lifetime(unit="s"), "expires_after.unit is unknown; known: anchor, seconds."),
    *(
        (lifetime(seconds=value), f"expires_after.seconds must be an integer from 1 to 600, not {shown}.")
        for value, shown in (
            (0, "0"),
            (-1, "-1"),
            (601, "601"),
            (600.0, "float"),
            (True, "bool"),
            (10**5000, "a number of more than 38 digits"),
        )
    ),
    # rate
    ({"rate_limits": 10}, "rate_limits must be a mapping, not int."),
    ({"rate_limits": {"per_hour": 1}}, "rate_limits.per_hour is unknown; known: max_requests_per_1_minute."),
    (rate(0), "rate_limits.max_requests_per_1_minute must be an integer of at least 1, not 0."),
    (
        rate(TOO_LARGE),
        "rate_limits.max_requests_per_1_minute must be an integer from 1 to 2147483647, not 2147483648.",
    ),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_is_out_of_bounds_is_named_and_not_sent(
    standin: StandIn, client: ChatKitClient, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ParameterError) as refused:
        client.create_session(**{**SESSION, **changes})
    assert str(refused.value) == message
    assert f"{refused.value.field} {refused.value.reason}" == message
    assert standin.requests == []


AT_THE_EDGE: list[dict[str, Any]] = [
    {},
    {"user": "u"},
    {"user": "é" * 512},
    workflow(version="1"),
    workflow(version="latest-1"),
    workflow(tracing={}),
    workflow(tracing={"enabled": False}),
    variables({}),
    variables({f"{n:064}": n for n in range(64)}),
    variables({"text": "", "int": -1, "float": 0.5, "big": 10**300, "yes": True, "no": False}),
    configuration(),
    configuration(automatic_thread_titling={"enabled": False}),
    configuration(file_upload={"enabled": True, "max_file_size": 1, "max_files": 1}),
    configuration(file_upload={"max_file_size": 512, "max_files": MAX_INTEGER}),
    configuration(history={"enabled": False, "recent_threads": 1}),
    configuration(history={"recent_threads": MAX_INTEGER}),
    lifetime(seconds=1),
    lifetime(seconds=600),
    {"rate_limits": {}},
    rate(1),
    rate(MAX_INTEGER),
]


@pytest.mark.parametrize("changes", AT_THE_EDGE)
def test_what_is_just_within_bounds_is_sent_as_documented(
    standin: StandIn, client: ChatKitClient, changes: dict[str, Any]
) -> None:
    client.create_session(**{**SESSION, **changes})
    [request] = standin.requests
    assert request.json == {**SESSION, **changes}


def test_the_longest_state_variable_is_sent(standin: StandIn, client: ChatKitClient) -> None:
    # An answer that repeated it would be longer than what is read of an answer.
    standin.misbehave(Fault(body={"client_secret": "ek_1", "expires_at": 1}))
    client.create_session(**{**SESSION, **variables({"text": "x" * 10_485_760})})
    assert len(standin.requests[0].json["workflow"]["state_variables"]["text"]) == 10_485_760


def test_arguments_that_are_none_are_left_to_the_api(standin: StandIn, client: ChatKitClient) -> None:
    client.create_session(**SESSION, chatkit_configuration=None, expires_after=None, rate_limits=None)
    assert standin.requests[0].json == SESSION


@pytest.mark.parametrize("kind", [MappingProxyType, dict])
def test_any_mapping_will_do(
    standin: StandIn, client: ChatKitClient, kind: Callable[[dict[str, Any]], Mapping[str, Any]]
) -> None:
    state = kind({"plan": "gold"})
    client.create_session(user="ada", workflow={"id": "wf_1", "state_variables": state})
    assert standin.requests[0].json["workflow"]["state_variables"] == {"plan": "gold"}


@pytest.mark.parametrize("name", ["session", "expires_in", "model"])
def test_an_unknown_argument_is_refused(standin: StandIn, client: ChatKitClient, name: str) -> None:
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        client.create_session(**{**SESSION, name: 1})
    assert standin.requests == []


def test_the_bound_on_the_lifetime_follows_the_api(
    standin: StandIn, make: Callable[..., ChatKitClient]
) -> None:
    longer = make(max_expires_after=1200)
    with pytest.raises(ParameterError, match=r"seconds must be an integer from 1 to 1200, not 1201\.$"):
        longer.create_session(**SESSION, expires_after={"anchor": "created_at", "seconds": 1201})
    assert standin.requests == []
