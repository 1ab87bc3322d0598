"""What is read of an answer: shapes, types, and bytes that are no answer at all."""

import dataclasses
import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from openai.types.beta.chatkit import ChatSession

from chatkit_sessions.client import (
    APIError,
    APIResponseValidationError,
    APITimeoutError,
    AssistantMessageItem,
    ChatKitClient,
    ClientToolCallItem,
    NotFoundError,
    TaskGroupItem,
    TaskItem,
    ThreadItem,
    UserMessageItem,
    WidgetMessageItem,
)
from chatkit_sessions.standin import Fault, StandIn

from . import answers
from .conftest import SESSION, Clock

Call = Callable[[ChatKitClient], Any]


def create(client: ChatKitClient) -> Any:
    return client.create_session(**SESSION)


def refusal(client: ChatKitClient, call: Call) -> APIError:
    with pytest.raises(APIError) as refused:
        call(client)
    return refused.value


# --- shapes


def test_the_newer_shape_of_a_session_is_read(standin: StandIn, client: ChatKitClient) -> None:
    ChatSession.model_validate(
        {**answers.NEWER, "workflow": {**answers.NEWER["workflow"], "state_variables": {}}}, strict=True
    )
    standin.misbehave(Fault(body=answers.NEWER))
    session = create(client)
    assert {name: getattr(session, name) for name in answers.NEWER} == answers.NEWER
    assert session.raw == {name: value for name, value in answers.NEWER.items() if name != "client_secret"}


def test_the_older_shape_of_a_session_is_read(standin: StandIn, client: ChatKitClient) -> None:
    standin.misbehave(Fault(body=answers.OLDER))
    session = create(client)
    assert (session.id, session.user, session.object) == ("", "", "chatkit.session")
    assert (session.client_secret, session.expires_at) == (answers.SECRET, 1_900_000_000)
    assert session.workflow == {"id": "wf_1", "version": "2024-10-01"}
    assert session.max_requests_per_1_minute == 60
    assert session.raw["scope"] == {"project": "alpha", "environment": "staging"}
    assert session.raw["max_requests_per_session"] == 500


def test_secret_and_expiry_are_enough(standin: StandIn, client: ChatKitClient) -> None:
    standin.misbehave(Fault(body={"client_secret": answers.SECRET, "expires_at": 0}))
    session = create(client)
    assert (session.status, session.workflow, session.rate_limits) == ("active", {}, {})
    assert (session.max_requests_per_1_minute, session.chatkit_configuration) == (None, {})
    assert session.raw == {"expires_at": 0}


@pytest.mark.parametrize("name", ["client_secret", "expires_at"])
def test_without_secret_or_expiry_it_is_no_session(
    standin: StandIn, client: ChatKitClient, name: str
) -> None:
    standin.misbehave(Fault(body={key: value for key, value in answers.NEWER.items() if key != name}))
    error = refusal(client, create)
    assert isinstance(error, APIResponseValidationError)
    assert str(error) == f"The answer lacks '{name}'."
    assert (error.status_code, error.attempts) == (200, 1)
    assert error.request_id.startswith("req_")


def test_a_new_session_has_a_secret_and_a_cancelled_one_need_not(
    standin: StandIn, client: ChatKitClient
) -> None:
    standin.misbehave(Fault(body={**answers.NEWER, "client_secret": ""}), times=2)
    assert str(refusal(client, create)) == "The answer has an empty 'client_secret'."
    standin.behave()
    session_id = create(client).id
    standin.misbehave(Fault(body={**answers.NEWER, "client_secret": "", "status": "cancelled"}))
    assert client.cancel_session(session_id).client_secret == ""


def test_unknown_fields_are_kept_and_the_secret_is_not(standin: StandIn, client: ChatKitClient) -> None:
    unknown = {
        "quota": {"left": [1, None, 2.5, "many"]},
        "echo": f"use {answers.SECRET} now",
        answers.SECRET: "as a key",
        "nested": [{"deep": [answers.SECRET]}],
        "other": "sk-other Bearer abc",
    }
    standin.misbehave(Fault(body={**answers.NEWER, **unknown}))
    session = create(client)
    assert session.raw["quota"] == unknown["quota"]
    assert session.raw["echo"] == "use [removed] now"
    assert session.raw["[removed]"] == "as a key"
    assert session.raw["nested"] == [{"deep": ["[removed]"]}]
    assert session.raw["other"] == "[removed] [removed]"
    assert answers.SECRET not in json.dumps(session.raw)


def test_answers_are_frozen(standin: StandIn, client: ChatKitClient) -> None:
    thread = standin.add_thread(user="ada")["id"]
    for answer, name in (
        (create(client), "client_secret"),
        (client.retrieve_thread(thread), "title"),
        (client.list_threads(user="ada"), "data"),
        (client.delete_thread(thread), "deleted"),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(answer, name, "x")


def test_answers_are_compared_by_what_they_say(standin: StandIn, client: ChatKitClient) -> None:
    standin.misbehave(Fault(body=answers.NEWER))
    standin.misbehave(Fault(body={**answers.NEWER, "more": 1}))
    assert create(client) == create(client)


ITEMS: list[tuple[dict[str, Any], type[ThreadItem]]] = [
    (answers.USER_MESSAGE, UserMessageItem),
    (answers.ASSISTANT_MESSAGE, AssistantMessageItem),
    (answers.WIDGET, WidgetMessageItem),
    (answers.TOOL_CALL, ClientToolCallItem),
    (answers.TASK, TaskItem),
    (answers.TASK_GROUP, TaskGroupItem),
    (answers.UNKNOWN_ITEM, ThreadItem),
]


@pytest.mark.parametrize(("item", "kind"), ITEMS)
def test_an_item_is_read_as_its_type(
    standin: StandIn, client: ChatKitClient, item: dict[str, Any], kind: type[ThreadItem]
) -> None:
    thread = standin.add_thread(user="ada")["id"]
    standin.misbehave(Fault(body=answers.page(item)))
    [read] = client.list_thread_items(thread).data
    assert type(read) is kind
    assert read.raw == item
    known = {field.name for field in dataclasses.fields(read)}
    assert {name: getattr(read, name) for name in item if name in known} == {
        name: value for name, value in item.items() if name in known
    }


def test_a_page_keeps_what_it_does_not_know(standin: StandIn, client: ChatKitClient) -> None:
    body = {"data": [{**answers.THREAD, "mood": "fine"}], "has_more": False, "total": 1}
    standin.misbehave(Fault(body=body))
    page = client.list_threads(user="ada")
    assert (page.first_id, page.last_id, page.raw) == (None, None, body)
    assert page.data[0].raw["mood"] == "fine"


# --- types


def changed(answer: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a copy of an answer with another value at a dotted path."""
    name, _, rest = path.partition(".")
    inner = changed(answer.get(name, {}), rest, value) if rest else value
    return {**answer, name: inner}


TIMESTAMP = ("1900000000", 1.5, None, True, -1, 253_402_300_800)
TEXT: tuple[Any, ...] = (1, None, [], True)
TEXT_OR_NULL: tuple[Any, ...] = (1, [], {})
INTEGER: tuple[Any, ...] = ("1", 1.5, True, None)
INTEGER_OR_NULL: tuple[Any, ...] = ("1", 1.5, True)
BOOLEAN: tuple[Any, ...] = (1, "true", None)
MAPPING: tuple[Any, ...] = ([], "x", None)
LIST: tuple[Any, ...] = ({}, "x", None)

CONFIGURATION = "chatkit_configuration"
WRONG_IN_SESSION: dict[str, tuple[Any, ...]] = {
    "client_secret": TEXT,
    "expires_at": TIMESTAMP,
    "id": TEXT,
    "object": TEXT,
    "status": TEXT,
    "user": TEXT,
    "workflow": MAPPING,
    "workflow.id": TEXT,
    "workflow.version": TEXT_OR_NULL,
    "workflow.tracing": MAPPING,
    "workflow.tracing.enabled": BOOLEAN,
    "rate_limits": MAPPING,
    "rate_limits.max_requests_per_1_minute": INTEGER,
    "max_requests_per_1_minute": INTEGER_OR_NULL,
    CONFIGURATION: MAPPING,
    f"{CONFIGURATION}.automatic_thread_titling": MAPPING,
    f"{CONFIGURATION}.automatic_thread_titling.enabled": BOOLEAN,
    f"{CONFIGURATION}.file_upload": MAPPING,
    f"{CONFIGURATION}.file_upload.enabled": BOOLEAN,
    f"{CONFIGURATION}.file_upload.max_file_size": INTEGER_OR_NULL,
    f"{CONFIGURATION}.file_upload.max_files": INTEGER_OR_NULL,
    f"{CONFIGURATION}.history": MAPPING,
    f"{CONFIGURATION}.history.enabled": BOOLEAN,
    f"{CONFIGURATION}.history.recent_threads": INTEGER_OR_NULL,
}
WRONG_IN_THREAD: dict[str, tuple[Any, ...]] = {
    "id": TEXT,
    "created_at": INTEGER,
    "user": TEXT,
    "title": TEXT_OR_NULL,
    "status": MAPPING,
    "status.type": TEXT,
    "status.reason": TEXT_OR_NULL,
    "object": TEXT,
}
WRONG_IN_DELETED: dict[str, tuple[Any, ...]] = {"id": TEXT, "deleted": BOOLEAN, "object": TEXT}
WRONG_IN_ITEM: list[tuple[dict[str, Any], dict[str, tuple[Any, ...]]]] = [
    (
        answers.USER_MESSAGE,
        {
            "id": TEXT,
            "type": TEXT,
            "thread_id": TEXT,
            "created_at": INTEGER,
            "object": TEXT,
            "content": LIST,
            "attachments": LIST,
            "inference_options": ([], "x"),
        },
    ),
    (answers.ASSISTANT_MESSAGE, {"content": LIST}),
    (answers.WIDGET, {"widget": TEXT}),
    (
        answers.TOOL_CALL,
        {
            "status": TEXT,
            "call_id": TEXT,
            "name": TEXT,
            "arguments": TEXT,
            "output": TEXT_OR_NULL,
        },
    ),
    (answers.TASK, {"task_type": TEXT, "heading": TEXT_OR_NULL, "summary": TEXT_OR_NULL}),
    (answers.TASK_GROUP, {"tasks": LIST}),
    (answers.UNKNOWN_ITEM, {"id": TEXT}),
]


def wrong_types() -> list[Any]:
    def cases(
        call: Call, answer: dict[str, Any], wrong: dict[str, tuple[Any, ...]], paged: bool
    ) -> list[Any]:
        return [
            pytest.param(
                call,
                answers.page(changed(answer, path, value)) if paged else changed(answer, path, value),
                path.partition(".")[0],
                id=f"{answer.get('type', answer.get('object'))} {path} {value!r}",
            )
            for path, values in wrong.items()
            for value in values
        ]

    found = cases(create, answers.NEWER, WRONG_IN_SESSION, False)
    found += cases(lambda client: client.retrieve_thread("cthr_1"), answers.THREAD, WRONG_IN_THREAD, False)
    found += cases(lambda client: client.list_threads(user="ada"), answers.THREAD, WRONG_IN_THREAD, True)
    found += cases(lambda client: client.delete_thread("cthr_1"), answers.DELETED, WRONG_IN_DELETED, False)
    for answer, wrong in WRONG_IN_ITEM:
        found += cases(lambda client: client.list_thread_items("cthr_1"), answer, wrong, True)
    return found


@pytest.mark.parametrize(("call", "body", "field"), wrong_types())
def test_a_known_field_of_a_wrong_type_is_refused(
    standin: StandIn, client: ChatKitClient, call: Call, body: dict[str, Any], field: str
) -> None:
    standin.misbehave(Fault(status=200, body=body))
    error = refusal(client, call)
    assert isinstance(error, APIResponseValidationError)
    assert str(error) == f"The answer has a wrong type in '{field}'."
    assert (error.status_code, error.attempts, error.retryable) == (200, 1, False)
    assert len(standin.requests) == 1


@pytest.mark.parametrize(
    ("call", "answer", "name"),
    [
        pytest.param(call, answer, name, id=f"{answer['object']} {name}")
        for call, answer, names in (
            (lambda client: client.retrieve_thread("cthr_1"), answers.THREAD, ("id", "created_at", "user")),
            (lambda client: client.delete_thread("cthr_1"), answers.DELETED, ("id", "deleted")),
        )
        for name in names
    ],
)
def test_what_is_indispensable_is_missed(
    standin: StandIn, client: ChatKitClient, call: Call, answer: dict[str, Any], name: str
) -> None:
    standin.misbehave(Fault(status=200, body={key: answer[key] for key in answer if key != name}))
    assert str(refusal(client, call)) == f"The answer lacks '{name}'."


@pytest.mark.parametrize("value", [[], "x", 1, None, True])
def test_an_answer_that_is_no_object_is_refused(standin: StandIn, client: ChatKitClient, value: Any) -> None:
    standin.misbehave(Fault(body=json.dumps(value)))
    assert str(refusal(client, create)) == f"The answer is not an object but {type(value).__name__}."


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"has_more": False},
        {"data": []},
        {"data": {}, "has_more": False},
        {"data": [], "has_more": 0},
        {"data": [], "has_more": False, "first_id": 1},
        {"data": [], "has_more": False, "last_id": 1},
    ],
)
def test_a_page_that_is_none_is_refused(standin: StandIn, client: ChatKitClient, body: Any) -> None:
    standin.misbehave(Fault(body=body))
    error = refusal(client, lambda client: client.list_threads(user="ada"))
    assert isinstance(error, APIResponseValidationError)
    assert str(error) == "Expected a page with 'data' and 'has_more'."


@pytest.mark.parametrize("entry", [None, "x", []])
def test_an_entry_of_a_page_that_is_no_object_is_refused(
    standin: StandIn, client: ChatKitClient, entry: Any
) -> None:
    standin.misbehave(Fault(status=200, body=answers.page(entry)))
    message = f"The answer is not an object but {type(entry).__name__}."
    assert str(refusal(client, lambda client: client.list_thread_items("cthr_1"))) == message


# --- bytes


NOT_JSON: dict[str, str | bytes] = {
    "nothing": b"",
    "html": "<!doctype html><title>502 Bad Gateway</title>",
    "half": '{"client_secret": "ek_',
    "two": "{}{}",
    "not utf-8": b'{"user": "\xff"}',
    "NaN": json.dumps({**answers.NEWER, "x": float("nan")}),
    "Infinity": json.dumps({**answers.NEWER, "x": float("inf")}),
    "1e999": json.dumps({**answers.NEWER, "x": 0}).replace('"x": 0', '"x": 1e999'),
    "half a surrogate pair": json.dumps({**answers.NEWER, "x": "\ud83d"}),
    "endless integer": json.dumps({**answers.NEWER, "x": 0}).replace('"x": 0', '"x": ' + "1" * 5000),
    "deeper than can be read": "[" * 200_000,
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
def test_an_answer_that_is_not_json_is_refused(
    standin: StandIn, client: ChatKitClient, body: str | bytes
) -> None:
    standin.misbehave(Fault(body=body, headers={"Content-Type": "text/html"}))
    error = refusal(client, create)
    assert isinstance(error, APIResponseValidationError)
    assert str(error) == "The answer is not JSON that can be used."
    assert (error.status_code, error.attempts, error.retryable) == (200, 1, False)
    assert error.request_id.startswith("req_")
    assert len(standin.requests) == 1


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def test_an_answer_may_be_a_hundred_levels_deep(standin: StandIn, client: ChatKitClient) -> None:
    text = json.dumps({**answers.NEWER, "deep": "HERE"})
    standin.misbehave(Fault(body=text.replace('"HERE"', nested(99))))
    assert json.dumps(create(client).raw["deep"]) == nested(99)
    for levels in (100, 700, 5_000):
        standin.misbehave(Fault(body=text.replace('"HERE"', nested(levels))))
        assert str(refusal(client, create)) == "The answer is not JSON that can be used."


@pytest.mark.parametrize("levels", [98, 99, 700, 5_000])
def test_a_deeply_nested_error_is_an_error(standin: StandIn, client: ChatKitClient, levels: int) -> None:
    text = json.dumps({"error": {"message": "No.", "details": "HERE"}})
    standin.misbehave(Fault(status=404, body=text.replace('"HERE"', nested(levels))))
    error = refusal(client, create)
    assert isinstance(error, NotFoundError)
    assert str(error) == ("No." if levels == 98 else "Not Found")


@pytest.mark.parametrize("excess", [0, 1])
def test_an_answer_may_have_one_mebibyte(standin: StandIn, client: ChatKitClient, excess: int) -> None:
    body = json.dumps({**answers.NEWER, "filler": ""}).encode()
    filler = b"x" * (1024 * 1024 - len(body) + excess)
    standin.misbehave(Fault(body=body.replace(b'"filler": ""', b'"filler": "%s"' % filler)))
    if not excess:
        assert create(client).raw["filler"] == filler.decode()
        return
    error = refusal(client, create)
    assert isinstance(error, APIResponseValidationError)
    assert str(error) == "The answer is longer than 1048576 bytes."
    assert (error.status_code, error.attempts) == (200, 1)
    assert error.request_id.startswith("req_")


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("gzip", gzip.compress), ("deflate", zlib.compress)],
)
def test_compressed_answers_are_read_and_bounded(
    standin: StandIn, client: ChatKitClient, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    headers = {"Content-Encoding": encoding}
    standin.misbehave(Fault(body=compress(json.dumps(answers.NEWER).encode()), headers=headers))
    assert encoding in standin_accepts(standin, client)
    bomb = compress(b" " * 64 * 1024 * 1024)
    assert len(bomb) < 1024 * 1024
    standin.misbehave(Fault(body=bomb, headers=headers))
    assert str(refusal(client, create)) == "The answer is longer than 1048576 bytes."
    standin.misbehave(Fault(body=b"not compressed", headers=headers))
    error = refusal(client, create)
    assert isinstance(error, APIResponseValidationError)
    assert str(error) == "The answer's compression cannot be read."


def standin_accepts(standin: StandIn, client: ChatKitClient) -> str:
    assert create(client).client_secret == answers.SECRET
    return standin.requests[-1].headers["accept-encoding"]


def chunked(body: bytes, size: int = 10) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""])


def test_chunked_answers_are_read(standin: StandIn, client: ChatKitClient) -> None:
    headers = {"Transfer-Encoding": "chunked"}
    standin.misbehave(Fault(body=chunked(json.dumps(answers.NEWER).encode()), headers=headers))
    assert create(client).client_secret == answers.SECRET


@pytest.mark.parametrize(
    "fault",
    [
        Fault(truncate=0),
        Fault(truncate=10),
        Fault(body=chunked(b"x" * 100), headers={"Transfer-Encoding": "chunked"}, truncate=20),
        Fault(body=b"zz\r\n", headers={"Transfer-Encoding": "chunked"}),
    ],
    ids=["no body", "half a body", "half of chunks", "no chunks"],
)
def test_an_answer_cut_short_is_refused_and_not_asked_for_again(
    standin: StandIn, client: ChatKitClient, clock: Clock, fault: Fault
) -> None:
    standin.misbehave(fault)
    error = refusal(client, create)
    assert isinstance(error, APIResponseValidationError)
    assert str(error) == "The answer was cut short."
    assert (error.status_code, error.attempts) == (200, 1)
    assert error.request_id.startswith("req_")
    assert clock.waits == []
    assert len(standin.requests) == 1


def test_headers_that_contradict_each_other_are_refused(standin: StandIn, client: ChatKitClient) -> None:
    standin.misbehave(Fault(headers={"Content-Length": "10, 20"}))
    error = refusal(client, create)
    assert isinstance(error, APIResponseValidationError)
    assert str(error) == "The answer's headers cannot be read."
    assert len(standin.requests) == 1


def test_an_answer_that_stalls_is_a_timeout(
    standin: StandIn, make: Callable[..., ChatKitClient], clock: Clock
) -> None:
    standin.misbehave(Fault(drip=60))
    error = refusal(make(timeout=(1, 1)), create)
    assert isinstance(error, APITimeoutError)
    assert str(error) == "The answer did not end in time."
    assert (error.status_code, error.attempts, error.retryable) == (200, 1, False)
    assert error.request_id.startswith("req_")
    assert clock.waits == []


def test_an_answer_that_drips_is_cut_at_the_deadline(
    standin: StandIn, make: Callable[..., ChatKitClient]
) -> None:
    standin.misbehave(Fault(drip=0.02))
    error = refusal(make(timeout=(5, 5), deadline=1), create)
    assert isinstance(error, APITimeoutError)
    assert str(error) == "The answer did not end in time."
    standin.close()  # hangs up at once; the answer would drip on for more than ten seconds
    assert len(standin.requests) == 1
