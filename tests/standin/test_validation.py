from typing import Any

import pytest

from chatkit_sessions.standin import StandIn

from .conftest import CREATE, Caller, error_of

PATH = "/v1/chatkit/sessions"


def expires(seconds: Any) -> dict[str, Any]:
    return {"expires_after": {"anchor": "created_at", "seconds": seconds}}


def upload(**values: Any) -> dict[str, Any]:
    return {"chatkit_configuration": {"file_upload": values}}


def variables(value: Any) -> dict[str, Any]:
    return {"workflow": {"id": "wf_1", "state_variables": value}}


REFUSED = [
    ({"user": ""}, "user", "string_below_min_length"),
    ({"user": "u" * 513}, "user", "string_above_max_length"),
    ({"user": None}, "user", "invalid_type"),
    ({"user": 7}, "user", "invalid_type"),
    ({"workflow": {}}, "workflow.id", "missing_required_parameter"),
    ({"workflow": "wf_1"}, "workflow", "invalid_type"),
    ({"workflow": {"id": "wf_1", "version": None}}, "workflow.version", "invalid_type"),
    ({"workflow": {"id": "wf_1", "tracing": {"enabled": 1}}}, "workflow.tracing.enabled", "invalid_type"),
    ({"scope": {}}, "scope", "unknown_parameter"),
    ({"workflow": {"id": "wf_1", "name": "x"}}, "workflow.name", "unknown_parameter"),
    (expires(0), "expires_after.seconds", "integer_below_min_value"),
    (expires(601), "expires_after.seconds", "integer_above_max_value"),
    (expires(1.5), "expires_after.seconds", "invalid_type"),
    (expires(True), "expires_after.seconds", "invalid_type"),
    ({"expires_after": {"seconds": 5}}, "expires_after.anchor", "missing_required_parameter"),
    ({"expires_after": {"anchor": "now", "seconds": 5}}, "expires_after.anchor", "invalid_value"),
    (
        {"rate_limits": {"max_requests_per_1_minute": 0}},
        "rate_limits.max_requests_per_1_minute",
        "integer_below_min_value",
    ),
    (upload(max_file_size=0), "chatkit_configuration.file_upload.max_file_size", "integer_below_min_value"),
    (upload(max_file_size=513), "chatkit_configuration.file_upload.max_file_size", "integer_above_max_value"),
    (upload(max_files=0), "chatkit_configuration.file_upload.max_files", "integer_below_min_value"),
    (upload(enabled="yes"), "chatkit_configuration.file_upload.enabled", "invalid_type"),
    (
        {"chatkit_configuration": {"history": {"recent_threads": 0}}},
        "chatkit_configuration.history.recent_threads",
        "integer_below_min_value",
    ),
    (variables([]), "workflow.state_variables", "invalid_type"),
    (
        variables({f"k{n}": n for n in range(65)}),
        "workflow.state_variables",
        "object_above_max_properties",
    ),
    (variables({"k" * 65: 1}), "workflow.state_variables", "string_above_max_length"),
    (variables({"k": None}), "workflow.state_variables.k", "invalid_type"),
    (variables({"k": {}}), "workflow.state_variables.k", "invalid_type"),
    (variables({"k": "x" * 10_485_761}), "workflow.state_variables.k", "string_above_max_length"),
]


@pytest.mark.parametrize(("change", "param", "code"), REFUSED)
def test_what_the_description_forbids_is_refused(
    api: StandIn, call: Caller, change: dict[str, Any], param: str, code: str
) -> None:
    answer = call("POST", PATH, json={**CREATE, **change})
    assert answer.status_code == 400
    error = error_of(answer)
    assert (error["param"], error["code"], error["type"]) == (param, code, "invalid_request_error")
    assert not api.sessions


@pytest.mark.parametrize("name", ["user", "workflow"])
def test_required_parameters_are_required(call: Caller, name: str) -> None:
    answer = call("POST", PATH, json={key: value for key, value in CREATE.items() if key != name})
    assert error_of(answer)["message"] == f"Missing required parameter: '{name}'."


@pytest.mark.parametrize(
    "change",
    [
        {"user": "u" * 512},
        expires(1),
        expires(600),
        upload(max_file_size=512, max_files=1),
        variables({}),
        variables({f"{n:064}": 0.5 for n in range(64)}),
        variables({"k": "x" * 10_485_760}),
        {"workflow": {"id": "wf_1", "version": "latest"}},
    ],
)
def test_what_lies_on_a_bound_is_accepted(call: Caller, change: dict[str, Any]) -> None:
    assert call.create(**change)["status"] == "active"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b'{"user": NaN}',
        b"[" * 100_000,
        b'{"n": ' + b"9" * 5000 + b"}",
    ],
    ids=["empty", "cut", "not utf-8", "nan", "deep", "huge number"],
)
def test_a_body_that_is_no_json_is_refused(call: Caller, body: bytes) -> None:
    answer = call("POST", PATH, data=body)
    assert answer.status_code == 400
    assert error_of(answer)["message"] == "We could not parse the JSON body of your request."


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"[]", "an array"),
        (b"null", "null"),
        (b'"x"', "a string"),
        (b"1.5", "a decimal number"),
        (b"1", "an integer"),
        (b"true", "a boolean"),
    ],
)
def test_a_body_that_is_no_object_is_refused(call: Caller, body: bytes, found: str) -> None:
    error = error_of(call("POST", PATH, data=body))
    assert (
        error["message"] == f"Invalid type for the request body: expected an object, but got {found} instead."
    )
    assert error["param"] is None


def test_a_number_beyond_floating_point_is_refused(call: Caller) -> None:
    body = b'{"user": "u", "workflow": {"id": "w", "state_variables": {"k": 1e999}}}'
    assert error_of(call("POST", PATH, data=body))["param"] == "workflow.state_variables.k"


@pytest.mark.parametrize(
    ("query", "param", "code"),
    [
        ("limit=101", "limit", "integer_above_max_value"),
        ("limit=-1", "limit", "integer_below_min_value"),
        ("limit=ten", "limit", "invalid_type"),
        ("limit=", "limit", "invalid_type"),
        ("order=newest", "order", "invalid_value"),
        ("user=", "user", "string_below_min_length"),
        ("page=2", "page", "unknown_parameter"),
    ],
)
def test_a_list_refuses_a_query_out_of_bounds(call: Caller, query: str, param: str, code: str) -> None:
    answer = call("GET", f"/v1/chatkit/threads?{query}")
    assert answer.status_code == 400
    assert (error_of(answer)["param"], error_of(answer)["code"]) == (param, code)


def test_messages_say_what_is_allowed(call: Caller) -> None:
    assert error_of(call("GET", "/chatkit/threads?order=up"))["message"] == (
        "Invalid value: 'up'. Supported values are: 'asc', 'desc'."
    )
    assert error_of(call("GET", "/chatkit/threads?limit=101"))["message"] == (
        "Invalid 'limit': expected value <= 100, but got 101 instead."
    )
