from collections.abc import Callable
from typing import Any

import pytest

from chatkit_sessions.bounds import MAX_INTEGER
from chatkit_sessions.exceptions import InvalidRequest
from chatkit_sessions.models import ChatSession, LimitLock
from chatkit_sessions.services import IssuedSession

from .conftest import Api

Issue = Callable[..., IssuedSession]

TOO_LARGE = MAX_INTEGER + 1
KNOWN_FEATURES = "known: automatic_thread_titling, file_upload, history."


def configuration(**features: Any) -> dict[str, Any]:
    return {"chatkit_configuration": features}


def upload(**fields: Any) -> dict[str, Any]:
    return configuration(file_upload=fields)


def variables(value: Any) -> dict[str, Any]:
    return {"state_variables": value}


REFUSED: list[tuple[dict[str, Any], dict[str, list[str]]]] = [
    # identifier
    ({"identifier": ""}, {"identifier": ["must be a string of 1 to 512 characters, not 0 characters."]}),
    (
        {"identifier": "u" * 513},
        {"identifier": ["must be a string of 1 to 512 characters, not 513 characters."]},
    ),
    ({"identifier": 7}, {"identifier": ["must be a string of 1 to 512 characters, not int."]}),
    ({"identifier": "a\x00"}, {"identifier": ["must be valid text without null characters."]}),
    ({"identifier": " ada"}, {"identifier": ["must not begin or end with white space."]}),
    ({"identifier": "ada#support"}, {"identifier": ["must not contain '#'."]}),
    # lifetime
    ({"expires_after": 0}, {"expires_after": ["must be an integer from 1 to 600, not 0."]}),
    ({"expires_after": 601}, {"expires_after": ["must be an integer from 1 to 600, not 601."]}),
    ({"expires_after": -1}, {"expires_after": ["must be an integer from 1 to 600, not -1."]}),
    ({"expires_after": True}, {"expires_after": ["must be an integer from 1 to 600, not bool."]}),
    ({"expires_after": 1.5}, {"expires_after": ["must be an integer from 1 to 600, not float."]}),
    ({"expires_after": "300"}, {"expires_after": ["must be an integer from 1 to 600, not str."]}),
    # rate
    (
        {"max_requests_per_1_minute": 0},
        {"max_requests_per_1_minute": ["must be an integer of at least 1, not 0."]},
    ),
    (
        {"max_requests_per_1_minute": TOO_LARGE},
        {"max_requests_per_1_minute": [f"must be an integer from 1 to {MAX_INTEGER}, not {TOO_LARGE}."]},
    ),
    (
        {"max_requests_per_1_minute": "9"},
        {"max_requests_per_1_minute": ["must be an integer of at least 1, not str."]},
    ),
    # configuration
    ({"chatkit_configuration": []}, {"chatkit_configuration": ["must be a mapping, not list."]}),
    (configuration(theme={}), {"chatkit_configuration": [f"theme is unknown; {KNOWN_FEATURES}"]}),
    (
        configuration(automatic_thread_titling=True),
        {"chatkit_configuration": ["automatic_thread_titling must be a mapping, not bool."]},
    ),
    (
        configuration(automatic_thread_titling={"enabled": 1}),
        {"chatkit_configuration": ["automatic_thread_titling.enabled must be true or false, not int."]},
    ),
    (
        upload(max_file_size=0),
        {"chatkit_configuration": ["file_upload.max_file_size must be an integer from 1 to 512, not 0."]},
    ),
    (
        upload(max_file_size=513),
        {"chatkit_configuration": ["file_upload.max_file_size must be an integer from 1 to 512, not 513."]},
    ),
    (
        upload(max_files=0),
        {"chatkit_configuration": ["file_upload.max_files must be an integer of at least 1, not 0."]},
    ),
    (
        upload(enabled="yes"),
        {"chatkit_configuration": ["file_upload.enabled must be true or false, not str."]},
    ),
    (
        configuration(history={"recent_threads": 0}),
        {"chatkit_configuration": ["history.recent_threads must be an integer of at least 1, not 0."]},
    ),
    (
        configuration(history={"enabled": None}),
        {"chatkit_configuration": ["history.enabled must be true or false, not NoneType."]},
    ),
    # state variables
    (variables([]), {"state_variables": ["must be a mapping, not list."]}),
    (
        variables({f"v{n}": n for n in range(65)}),
        {"state_variables": ["must have at most 64 entries, not 65."]},
    ),
    (
        variables({"k" * 65: 1}),
        {
            "state_variables": [
                f"{'k' * 64} its name must be a string of 1 to 64 characters, not 65 characters."
            ]
        },
    ),
    (
        variables({"a": {"b": 1}}),
        {"state_variables": ["a must be a string, a number or a boolean, not dict."]},
    ),
    (variables({"a": [1]}), {"state_variables": ["a must be a string, a number or a boolean, not list."]}),
    (
        variables({"a": None}),
        {"state_variables": ["a must be a string, a number or a boolean, not NoneType."]},
    ),
    (variables({"a": float("nan")}), {"state_variables": ["a must be a finite number."]}),
    (
        variables({"a": "x" * 10_485_761}),
        {"state_variables": ["a must have at most 10485760 characters, not 10485761."]},
    ),
    (
        {"client_state_variables": {"tier": "gold"}},
        {"state_variables": ["must not have 'tier': CLIENT_STATE_VARIABLES does not list it."]},
    ),
]


@pytest.mark.parametrize(("arguments", "errors"), REFUSED)
def test_an_argument_out_of_bounds_names_the_field_and_the_bound(
    issue: Issue, api: Api, arguments: dict[str, Any], errors: dict[str, list[str]]
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        issue(**arguments)
    assert caught.value.errors == errors
    [(field, [reason])] = errors.items()
    assert str(caught.value) == f"{field}: {reason}"
    assert caught.value.code == "invalid"
    assert (api.requests, ChatSession.objects.count(), LimitLock.objects.count()) == ([], 0, 0)


ACCEPTED: list[dict[str, Any]] = [
    {"identifier": "u" * 512},
    {"identifier": "🙂" * 512},
    {"expires_after": 1},
    {"expires_after": 600},
    {"max_requests_per_1_minute": 1},
    {"max_requests_per_1_minute": MAX_INTEGER},
    upload(enabled=True, max_file_size=1, max_files=1),
    upload(max_file_size=512, max_files=MAX_INTEGER),
    configuration(history={"enabled": False, "recent_threads": 1}),
    configuration(),
    variables({}),
    variables({f"v{n}": n for n in range(64)}),
    variables({"k" * 64: "", "b": True, "c": 1.5}),
]


@pytest.mark.parametrize("arguments", ACCEPTED)
def test_an_argument_at_its_bound_is_sent(issue: Issue, api: Api, arguments: dict[str, Any]) -> None:
    issue(**arguments)
    [request] = api.requests
    sent = request.json
    expected: dict[str, Any] = {
        "identifier": lambda value: sent["user"] == value,
        "expires_after": lambda value: sent["expires_after"] == {"anchor": "created_at", "seconds": value},
        "max_requests_per_1_minute": lambda value: (
            sent["rate_limits"] == {"max_requests_per_1_minute": value}
        ),
        "chatkit_configuration": lambda value: sent.get("chatkit_configuration", {}) == value,
        "state_variables": lambda value: sent["workflow"].get("state_variables", {}) == value,
    }
    [(name, value)] = arguments.items()
    assert expected[name](value)
    assert ChatSession.objects.get().status == "active"
