import json
import time
from collections.abc import Callable
from http.client import HTTPConnection, IncompleteRead
from urllib.parse import urlsplit

import pytest
import requests

from chatkit_sessions.standin import Fault, StandIn

from .conftest import API_HEADERS, CREATE, Caller, error_of

PATH = "/v1/chatkit/sessions"


def post(call: Caller) -> requests.Response:
    return call("POST", PATH, json=CREATE)


def test_a_status_takes_the_place_of_the_answer(api: StandIn, call: Caller) -> None:
    api.misbehave(Fault(status=503, headers={"Retry-After": "7", "X-Should-Retry": "false"}), times=2)
    for _ in range(2):
        answer = post(call)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "7"
        assert answer.headers["x-should-retry"] == "false"
        assert error_of(answer) == {
            "message": "The stand-in was told to answer 503.",
            "type": "server_error",
            "param": None,
            "code": None,
        }
    assert not api.sessions
    assert post(call).status_code == 200
    assert len(api.requests) == 3


@pytest.mark.parametrize(
    ("body", "sent"),
    [(b"\xff", b"\xff"), ("<html>", b"<html>"), ({"a": [1]}, b'{"a": [1]}'), (["x"], b'["x"]'), ("", b"")],
)
def test_a_body_is_sent_in_place_of_the_real_one(
    api: StandIn, call: Caller, body: object, sent: bytes
) -> None:
    api.misbehave(Fault(body=body, headers={"Content-Type": "text/html"}))
    answer = post(call)
    assert (answer.status_code, answer.content) == (200, sent)
    assert answer.headers["content-type"] == "text/html"
    assert len(api.sessions) == 1  # the request was carried out, only its answer was spoilt


def test_a_redirect_has_no_body(api: StandIn, call: Caller) -> None:
    api.misbehave(Fault(status=307, headers={"Location": "/elsewhere"}))
    answer = call("POST", PATH, json=CREATE, allow_redirects=False)
    assert (answer.status_code, answer.content, answer.headers["location"]) == (307, b"", "/elsewhere")


def test_an_unheard_of_status_is_sent_all_the_same(api: StandIn, call: Caller) -> None:
    api.misbehave(Fault(status=599, body="odd"))
    answer = post(call)
    assert (answer.status_code, answer.reason, answer.text) == (599, "", "odd")


def test_an_answer_may_lack_its_request_id(api: StandIn, call: Caller) -> None:
    api.misbehave(Fault(headers={"X-Request-Id": ""}))
    assert post(call).headers["x-request-id"] == ""


def test_a_delayed_answer_comes_late(api: StandIn, call: Caller) -> None:
    api.misbehave(Fault(delay=0.1))
    begun = time.monotonic()
    assert post(call).status_code == 200
    assert time.monotonic() - begun >= 0.1


def test_a_client_that_gives_up_leaves_a_session_behind(api: StandIn, http: requests.Session) -> None:
    api.misbehave(Fault(delay=30))
    with pytest.raises(requests.ReadTimeout):
        http.post(f"{api.base_url}/chatkit/sessions", json=CREATE, headers=API_HEADERS, timeout=0.1)
    assert len(api.sessions) == 1


def test_a_dropped_connection_has_no_effect(api: StandIn, call: Caller) -> None:
    api.misbehave(Fault(drop=True))
    with pytest.raises(requests.ConnectionError, match="without response"):
        post(call)
    assert not api.sessions
    assert len(api.requests) == 1


def test_a_truncated_body_ends_in_the_middle(api: StandIn, call: Caller) -> None:
    api.misbehave(Fault(truncate=10))
    # Not with requests, which counts no bytes on urllib3 before version 2.
    connection = HTTPConnection(urlsplit(api.base_url).netloc, timeout=10)
    connection.request("POST", PATH, json.dumps(CREATE), {**API_HEADERS, "Content-Type": "application/json"})
    with pytest.raises(IncompleteRead, match="10 bytes read"):
        connection.getresponse().read()
    connection.close()
    assert len(api.sessions) == 1
    assert post(call).status_code == 200


@pytest.mark.parametrize("fault", [Fault(drip=0.0001), Fault(drip_headers=0.0001)], ids=["body", "headers"])
def test_an_answer_may_drip(api: StandIn, call: Caller, fault: Fault) -> None:
    api.misbehave(fault)
    begun = time.monotonic()
    assert post(call).json()["status"] == "active"
    assert time.monotonic() - begun > 0.01
    assert post(call).status_code == 200


@pytest.mark.parametrize(
    "fault", [Fault(delay=60), Fault(drip=60), Fault(drip_headers=60)], ids=["delay", "drip", "headers"]
)
def test_closing_ends_a_wait(start: Callable[..., StandIn], http: requests.Session, fault: Fault) -> None:
    api = start()
    api.misbehave(fault)
    with pytest.raises(requests.RequestException):
        http.post(f"{api.base_url}/chatkit/sessions", json=CREATE, headers=API_HEADERS, timeout=0.1)
    begun = time.monotonic()
    api.close()
    assert time.monotonic() - begun < 2


def test_a_fault_waits_for_its_path_and_method(api: StandIn, call: Caller) -> None:
    thread = f"{PATH[:-9]}/threads/{api.add_thread(user='ada')['id']}"
    api.misbehave(Fault(status=500), path="/v1/chatkit/sessions/*/cancel")
    api.misbehave(Fault(status=418), path="/chatkit/threads/*", method="DELETE")
    assert post(call).status_code == 200
    assert call("GET", thread).status_code == 200
    assert call("DELETE", thread).status_code == 418
    assert call("DELETE", thread).status_code == 200
    cancel = f"/chatkit/sessions/{next(iter(api.sessions))}/cancel"
    assert [call("POST", cancel).status_code for _ in range(2)] == [500, 200]


def test_faults_come_in_their_order_and_can_be_forgotten(api: StandIn, call: Caller) -> None:
    api.misbehave(Fault(status=500))
    api.misbehave(Fault(status=502), times=5)
    assert [post(call).status_code for _ in range(2)] == [500, 502]
    api.behave()
    assert post(call).status_code == 200


def test_a_fault_shown_to_a_page_can_be_read_by_it(api: StandIn, call: Caller) -> None:
    api.misbehave(Fault(status=500), path="/standin/threads")
    answer = call("GET", "/standin/threads")
    assert answer.status_code == 500
    assert answer.headers["access-control-allow-origin"] == "*"
