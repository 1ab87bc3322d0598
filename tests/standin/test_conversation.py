from typing import Any

import pytest

from chatkit_sessions.standin import StandIn

from .conftest import Caller, Clock, error_of


def send(page: Caller, text: str, thread_id: str | None = None) -> dict[str, Any]:
    answer = page("POST", "/standin/messages", json={"thread_id": thread_id, "text": text})
    assert answer.status_code == 200, answer.text
    reply: dict[str, Any] = answer.json()
    return reply


def test_a_message_is_echoed_and_kept(api: StandIn, call: Caller) -> None:
    page = call.page()
    reply = send(page, "Hello <b>there</b>")
    thread = reply["thread"]
    assert (thread["title"], thread["user"]) == ("Hello <b>there</b>", "ada")
    said, echoed = reply["items"]
    assert said["content"] == [{"type": "input_text", "text": "Hello <b>there</b>"}]
    assert echoed["content"] == [
        {"type": "output_text", "text": "You said: Hello <b>there</b>", "annotations": []}
    ]
    again = send(page, "Again", thread["id"])
    assert again["thread"] == thread
    whole = page("GET", f"/standin/threads/{thread['id']}").json()
    assert whole == {"thread": thread, "items": [*reply["items"], *again["items"]]}
    assert api.items(thread["id"]) == whole["items"]
    assert page("GET", "/standin/threads").json()["data"] == [thread]


def test_a_title_is_short_or_switched_off(call: Caller) -> None:
    assert send(call.page(), "x" * 100)["thread"]["title"] == "x" * 60
    untitled = call.page(chatkit_configuration={"automatic_thread_titling": {"enabled": False}})
    assert send(untitled, "x")["thread"]["title"] is None


@pytest.mark.parametrize(
    ("history", "shown"),
    [({}, 3), ({"recent_threads": 2}, 2), ({"recent_threads": 500}, 3), ({"enabled": False}, 0)],
)
def test_the_session_says_how_much_history_is_shown(
    api: StandIn, call: Caller, history: dict[str, Any], shown: int
) -> None:
    for _ in range(3):
        api.add_thread(user="ada")
    page = call.page(chatkit_configuration={"history": history})
    assert len(page("GET", "/standin/threads").json()["data"]) == shown


def test_another_users_thread_is_not_found(api: StandIn, call: Caller) -> None:
    foreign = api.add_thread(user="bob")["id"]
    page = call.page()
    assert page("GET", "/standin/threads").json()["data"] == []
    read = page("GET", f"/standin/threads/{foreign}")
    written = page("POST", "/standin/messages", json={"thread_id": foreign, "text": "hi"})
    assert (read.status_code, written.status_code) == (404, 404)
    assert error_of(read)["message"] == f"Thread with id '{foreign}' not found."
    unknown = page("GET", "/standin/threads/cthr_no")
    assert error_of(unknown)["message"] == "Thread with id 'cthr_no' not found."
    assert api.items(foreign) == []


def test_a_locked_thread_takes_no_message(api: StandIn, call: Caller) -> None:
    locked = api.add_thread(user="ada", status="locked")["id"]
    answer = call.page()("POST", "/standin/messages", json={"thread_id": locked, "text": "hi"})
    assert answer.status_code == 403
    assert error_of(answer)["message"] == "This thread is locked."


@pytest.mark.parametrize("body", [{}, {"text": ""}, {"text": "x" * 100_001}, {"text": "x", "thread_id": 1}])
def test_a_message_is_validated(api: StandIn, call: Caller, body: dict[str, Any]) -> None:
    assert call.page()("POST", "/standin/messages", json=body).status_code == 400
    assert not api.threads


def test_a_secret_opens_the_door_only_while_its_session_lives(
    api: StandIn, call: Caller, clock: Clock
) -> None:
    page = call.page()
    assert page("GET", "/standin/threads").headers["x-session-expires-in"] == "600"
    clock.advance(599.5)
    assert page("GET", "/standin/threads").headers["x-session-expires-in"] == "0"
    clock.advance(0.5)
    expired = page("GET", "/standin/threads")
    assert expired.status_code == 401
    assert error_of(expired)["code"] == "invalid_client_secret"
    fresh = call.page()
    assert fresh("GET", "/standin/threads").status_code == 200
    call("POST", f"/v1/chatkit/sessions/{list(api.sessions)[-1]}/cancel")
    assert fresh("GET", "/standin/threads").status_code == 401


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer ek_wrong"}, {"Authorization": "Bearer "}])
def test_without_a_good_secret_nothing_opens(call: Caller, headers: dict[str, str]) -> None:
    call.create()
    assert call("GET", "/standin/threads", headers=headers).status_code == 401


def test_a_session_is_held_to_its_requests_per_minute(call: Caller, clock: Clock) -> None:
    page = call.page(rate_limits={"max_requests_per_1_minute": 2})
    send(page, "one")
    clock.advance(20.5)
    send(page, "two")
    refused = page("GET", "/standin/threads")
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "40"
    assert error_of(refused)["code"] == "rate_limit_exceeded"
    assert call.page()("GET", "/standin/threads").status_code == 200  # another session's count is its own
    clock.advance(39.5)
    send(page, "three")
    assert page("GET", "/standin/threads").headers["retry-after"] == "21"


@pytest.mark.parametrize("path", ["/standin/threads", "/standin/threads/cthr_1", "/standin/messages"])
def test_a_page_of_any_origin_may_call(call: Caller, path: str) -> None:
    answer = call("OPTIONS", path, headers={"Origin": "https://example.com"})
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-headers"] == "authorization, content-type"
    refused = call("PUT", path, headers={})
    assert refused.status_code == 405
    assert refused.headers["access-control-allow-origin"] == "*"


def test_the_script_is_served_whole(api: StandIn, call: Caller) -> None:
    answer = call("GET", "/deployments/chatkit/chatkit.js", headers={})
    assert answer.url == api.script_url
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["access-control-allow-origin"] == "*"
    for part in ('customElements.define("openai-chatkit"', "class View", ":host {", ".bubble {"):
        assert part in answer.text
    assert call("OPTIONS", "/deployments/chatkit/chatkit.js", headers={}).status_code == 204


@pytest.mark.parametrize("forbidden", ["innerHTML", "outerHTML", "insertAdjacentHTML", "console.", "eval("])
def test_the_script_has_no_way_to_leak_or_to_run_text(call: Caller, forbidden: str) -> None:
    assert forbidden not in call("GET", "/deployments/chatkit/chatkit.js").text
