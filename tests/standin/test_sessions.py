from collections.abc import Callable

import pytest
import requests

from chatkit_sessions.standin import StandIn

from .conftest import API_HEADERS, CREATE, Caller, Clock, error_of


def test_create_resolves_every_default(api: StandIn, call: Caller, clock: Clock) -> None:
    session = call.create()
    identifier, secret = session.pop("id"), session.pop("client_secret")
    assert identifier.startswith("cksess_")
    assert secret.startswith("ek_")
    assert session == {
        "object": "chatkit.session",
        "status": "active",
        "expires_at": int(clock.now) + 600,
        "user": "ada",
        "workflow": {
            "id": "wf_1",
            "version": None,
            "state_variables": None,
            "tracing": {"enabled": True},
        },
        "rate_limits": {"max_requests_per_1_minute": 10},
        "max_requests_per_1_minute": 10,
        "chatkit_configuration": {
            "automatic_thread_titling": {"enabled": True},
            "file_upload": {"enabled": False, "max_file_size": 512, "max_files": 10},
            "history": {"enabled": True, "recent_threads": None},
        },
    }


def test_create_takes_every_parameter(call: Caller, clock: Clock) -> None:
    workflow = {
        "id": "wf_1",
        "version": "latest",
        "state_variables": {"text": "a", "whole": 1, "part": 1.5, "flag": True},
        "tracing": {"enabled": False},
    }
    configuration = {
        "automatic_thread_titling": {"enabled": False},
        "file_upload": {"enabled": True, "max_file_size": 16},
        "history": {"enabled": True, "recent_threads": 3},
    }
    session = call.create(
        workflow=workflow,
        chatkit_configuration=configuration,
        expires_after={"anchor": "created_at", "seconds": 1},
        rate_limits={"max_requests_per_1_minute": 60},
    )
    assert session["workflow"] == workflow
    assert session["expires_at"] == int(clock.now) + 1
    assert session["max_requests_per_1_minute"] == 60
    assert session["rate_limits"] == {"max_requests_per_1_minute": 60}
    assert session["chatkit_configuration"] == {
        **configuration,
        "file_upload": {"enabled": True, "max_file_size": 16, "max_files": 10},
    }


def test_ids_and_secrets_differ(api: StandIn, call: Caller) -> None:
    first, second = call.create(), call.create()
    assert first["id"] != second["id"]
    assert first["client_secret"] != second["client_secret"]
    assert list(api.sessions) == [first["id"], second["id"]]


def test_status_follows_the_clock(api: StandIn, call: Caller, clock: Clock) -> None:
    session = call.create()
    assert api.sessions[session["id"]]["status"] == "active"
    clock.advance(600)
    assert api.sessions[session["id"]]["status"] == "expired"


@pytest.mark.parametrize("prefix", ["/v1", ""])
def test_cancel_can_be_repeated(call: Caller, prefix: str) -> None:
    session = call.create()
    for _ in range(2):
        answer = call("POST", f"{prefix}/chatkit/sessions/{session['id']}/cancel")
        assert answer.status_code == 200
        assert answer.json() == {**session, "status": "cancelled", "client_secret": ""}


def test_cancel_of_an_unknown_session_is_404(call: Caller) -> None:
    answer = call("POST", "/v1/chatkit/sessions/cksess_no/cancel")
    assert answer.status_code == 404
    assert error_of(answer)["message"] == "Session with id 'cksess_no' not found."


def test_every_answer_has_its_own_request_id(call: Caller) -> None:
    ids = {call("GET", path).headers["x-request-id"] for path in ("/v1/chatkit/threads", "/nowhere") * 2}
    assert len(ids) == 4


@pytest.mark.parametrize("authorization", [None, "Bearer", "Bearer  ", "Basic c2s6"])
def test_a_key_is_needed(api: StandIn, call: Caller, authorization: str | None) -> None:
    headers = {**API_HEADERS, "Authorization": authorization}
    answer = call("POST", "/v1/chatkit/sessions", json=CREATE, headers=headers)
    assert answer.status_code == 401
    assert error_of(answer)["code"] == "invalid_api_key"
    assert not api.sessions


@pytest.mark.parametrize(
    ("key", "echo"), [("sk-standin-key", "sk-sta****key"), ("sk-short", "****")], ids=["long", "short"]
)
def test_a_wrong_key_is_echoed_in_part(
    start: Callable[..., StandIn], http: requests.Session, key: str, echo: str
) -> None:
    call = Caller(start(api_keys={"sk-right"}), http)
    headers = {**API_HEADERS, "Authorization": f"Bearer {key}"}
    answer = call("GET", "/v1/chatkit/threads", headers=headers)
    assert answer.status_code == 401
    assert error_of(answer) == {
        "message": f"Incorrect API key provided: {echo}. You can find your API key at "
        "https://platform.openai.com/account/api-keys.",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_api_key",
    }
    right = {**API_HEADERS, "Authorization": "bearer sk-right"}
    assert call("GET", "/v1/chatkit/threads", headers=right).status_code == 200


@pytest.mark.parametrize("beta", [None, "assistants=v2"])
def test_the_beta_header_is_needed(call: Caller, beta: str | None) -> None:
    answer = call("GET", "/v1/chatkit/threads", headers={**API_HEADERS, "OpenAI-Beta": beta})
    assert answer.status_code == 400
    assert error_of(answer)["code"] == "invalid_beta"


def test_the_beta_header_may_name_several(call: Caller) -> None:
    headers = {**API_HEADERS, "OpenAI-Beta": "assistants=v2, chatkit_beta=v1"}
    assert call("GET", "/v1/chatkit/threads", headers=headers).status_code == 200


def test_a_workflow_of_another_project_is_404(start: Callable[..., StandIn], http: requests.Session) -> None:
    api = start(workflows=["wf_2"])
    answer = Caller(api, http)("POST", "/v1/chatkit/sessions", json=CREATE)
    assert answer.status_code == 404
    assert error_of(answer)["message"] == "Workflow with id 'wf_1' not found."
    assert not api.sessions
    assert Caller(api, http).create(workflow={"id": "wf_2"})["status"] == "active"
