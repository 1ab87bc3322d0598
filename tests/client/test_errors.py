"""What an error of the API becomes, and what may not be in it."""

import pickle
from collections.abc import Callable
from typing import Any

import openai
import pytest

from chatkit_sessions import client as package
from chatkit_sessions.client import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ChatKitClient,
    ConflictError,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    UnprocessableEntityError,
)
from chatkit_sessions.standin import Fault, StandIn

from .conftest import KEY, SESSION

STATUSES: list[tuple[int, type[APIStatusError], bool]] = [
    (400, BadRequestError, False),
    (401, AuthenticationError, False),
    (402, APIStatusError, False),
    (403, PermissionDeniedError, False),
    (404, NotFoundError, False),
    (408, APIStatusError, True),
    (409, ConflictError, True),
    (413, APIStatusError, False),
    (418, APIStatusError, False),
    (422, UnprocessableEntityError, False),
    (429, RateLimitError, True),
    (499, APIStatusError, False),
    (500, InternalServerError, True),
    (502, InternalServerError, True),
    (503, InternalServerError, True),
    (529, InternalServerError, True),
    (599, InternalServerError, True),
]


def refusal(client: ChatKitClient) -> APIError:
    with pytest.raises(APIError) as refused:
        client.create_session(**SESSION)
    return refused.value


@pytest.mark.parametrize(("status", "kind", "retried"), STATUSES)
def test_a_status_becomes_its_error_and_some_are_tried_again(
    standin: StandIn, client: ChatKitClient, status: int, kind: type[APIStatusError], retried: bool
) -> None:
    standin.misbehave(Fault(status=status), times=3)
    error = refusal(client)
    assert type(error) is kind
    assert error.status_code == status
    assert error.attempts == len(standin.requests) == (3 if retried else 1)
    assert error.retryable is retried


@pytest.mark.parametrize(
    "status", [status for status, kind, _ in STATUSES if status != 408 and kind is not APIStatusError]
)
def test_the_official_client_has_the_same_name_for_it(
    standin: StandIn, client: ChatKitClient, status: int
) -> None:
    standin.misbehave(Fault(status=status), times=4)
    ours = refusal(client)
    standin.behave()
    standin.misbehave(Fault(status=status))
    with (
        openai.OpenAI(api_key=KEY, base_url=standin.base_url, max_retries=0) as official,
        pytest.raises(openai.APIStatusError) as refused,
    ):
        official.beta.chatkit.sessions.create(**SESSION)
    assert type(refused.value).__name__ == type(ours).__name__
    assert refused.value.status_code == ours.status_code


NAMES = [name for name in dir(package) if name.endswith("Error") and name != "ParameterError"]


@pytest.mark.parametrize("name", NAMES)
def test_errors_have_the_official_names_and_kinship(name: str) -> None:
    ours, theirs = getattr(package, name), getattr(openai, name)
    assert {kind.__name__ for kind in ours.__mro__} == {
        kind.__name__ for kind in theirs.__mro__ if kind is not openai.OpenAIError
    }


def test_no_official_name_is_missing() -> None:
    assert sorted(NAMES) == sorted(
        kind.__name__
        for kind in (
            APIConnectionError,
            APIError,
            APIResponseValidationError,
            APIStatusError,
            APITimeoutError,
            AuthenticationError,
            BadRequestError,
            ConflictError,
            InternalServerError,
            NotFoundError,
            PermissionDeniedError,
            RateLimitError,
            UnprocessableEntityError,
        )
    )


def test_an_error_carries_what_the_api_said(standin: StandIn, client: ChatKitClient) -> None:
    said = {"message": "No.", "type": "invalid_request_error", "param": "workflow.id", "code": "unknown"}
    standin.misbehave(Fault(status=400, body={"error": said}, headers={"X-Request-Id": "req_1"}))
    error = refusal(client)
    assert str(error) == error.message == "No."
    assert (error.param, error.code, error.request_id) == ("workflow.id", "unknown", "req_1")
    assert (error.status_code, error.attempts, error.retry_after) == (400, 1, None)


def test_the_stand_ins_own_refusal_names_the_parameter(standin: StandIn, client: ChatKitClient) -> None:
    with pytest.raises(BadRequestError) as refused:
        client.list_threads(user="ada", after="cthr_none")
    assert refused.value.param == "after"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<html>Bad Gateway</html>", "Bad Gateway"),
        ("", "Bad Gateway"),
        ([], "Bad Gateway"),
        ({"detail": "x"}, "Bad Gateway"),
        ({"error": "x"}, "Bad Gateway"),
        ({"error": {"message": ["x"]}}, "Bad Gateway"),
        ({"error": {"message": None}}, "Bad Gateway"),
        ({"error": {"message": ""}}, "Bad Gateway"),
        ({"error": {"message": "m" * 1001}}, "m" * 1000),
    ],
)
def test_an_error_in_another_shape_still_says_something(
    standin: StandIn, client: ChatKitClient, body: Any, message: str
) -> None:
    standin.misbehave(Fault(status=502, body=body), times=3)
    error = refusal(client)
    assert (str(error), error.code, error.param) == (message, None, None)


def test_an_unheard_of_status_without_a_word_has_a_message(standin: StandIn, client: ChatKitClient) -> None:
    standin.misbehave(Fault(status=599, body="", headers={"X-Should-Retry": "false"}))
    error = refusal(client)
    assert (str(error), error.status_code) == ("no message", 599)


@pytest.mark.parametrize("value", [7, None, ["x"], {"a": 1}])
def test_a_code_or_param_that_is_no_text_says_nothing(
    standin: StandIn, client: ChatKitClient, value: Any
) -> None:
    standin.misbehave(Fault(status=400, body={"error": {"message": "No.", "code": value, "param": value}}))
    error = refusal(client)
    assert (error.code, error.param) == (None, None)


def test_words_of_the_api_are_shortened(standin: StandIn, client: ChatKitClient) -> None:
    long = {"message": "No.", "code": "c" * 300, "param": "p" * 300}
    standin.misbehave(Fault(status=400, body={"error": long}, headers={"X-Request-Id": "r" * 300}))
    error = refusal(client)
    assert (error.code, error.param, error.request_id) == ("c" * 255, "p" * 255, "r" * 255)


MASKED = f"{KEY[:6]}****{KEY[-3:]}"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (f"Incorrect API key provided: {KEY}.", "Incorrect API key provided: [removed]."),
        (f"Incorrect API key provided: {MASKED}.", "Incorrect API key provided: [removed]."),
        ("You sent Bearer abc.def and SK-ABC.", "You sent [removed] and [removed]."),
        (
            "ek_abc and cks_def are secrets, task-force is not",
            "[removed] and [removed] are secrets, task-force is not",
        ),
    ],
)
@pytest.mark.parametrize("place", ["message", "code", "param"])
def test_keys_and_secrets_are_scrubbed(
    standin: StandIn, client: ChatKitClient, place: str, said: str, kept: str
) -> None:
    standin.misbehave(Fault(status=401, body={"error": {"message": "No.", place: said}}))
    assert getattr(refusal(client), place) == kept


def test_a_key_of_another_kind_is_scrubbed_too(standin: StandIn, make: Callable[..., ChatKitClient]) -> None:
    key = "proxy+key/of=another:kind"
    said = {"message": f"{key} is wrong, as is x{key}x", "code": key, "param": "gateway****ind"}
    standin.misbehave(Fault(status=401, body={"error": said}))
    error = refusal(make(key))
    assert (error.message, error.code) == ("[removed] is wrong, as is x[removed]x", "[removed]")
    assert error.param == "[removed]"


@pytest.mark.parametrize("nasty", ["\n", "\r\n", "\x1b[2J", "\u2028", "\x85"])
def test_what_the_api_said_is_one_line_that_no_terminal_obeys(
    standin: StandIn, client: ChatKitClient, nasty: str
) -> None:
    body = {"error": {"message": f"No such 'x{nasty}CRITICAL root: bob deleted'.", "param": f"a{nasty}b"}}
    standin.misbehave(Fault(status=400, body=body))
    with pytest.raises(BadRequestError) as raised:
        client.create_session(**SESSION)
    words = f"{raised.value.message}{raised.value.param}"
    assert words.isprintable()
    assert "CRITICAL root: bob deleted" in words


def test_a_key_that_a_gateway_answers_with_is_in_nothing_that_is_kept(
    standin: StandIn, make: Callable[..., ChatKitClient]
) -> None:
    key = "gw_live_0123456789"
    body = {
        "client_secret": "ek_1",
        "expires_at": 1_900_000_000,
        "id": "cksess_1",
        "debug": {"sent": f"Key {key}."},
    }
    standin.misbehave(Fault(body=body, headers={"x-request-id": f"req-for-{key}"}))
    session = make(key).create_session(**SESSION)
    assert (session.client_secret, session.request_id) == ("ek_1", "req-for-[removed]")
    assert session.raw["debug"] == {"sent": "Key [removed]."}


def test_a_key_is_scrubbed_before_the_message_is_shortened(standin: StandIn, client: ChatKitClient) -> None:
    standin.misbehave(Fault(status=401, body={"error": {"message": "." * 990 + KEY}}))
    assert refusal(client).message == "." * 990 + "[removed]"


def test_a_key_that_the_api_refuses_is_not_shown(make: Callable[..., ChatKitClient]) -> None:
    with StandIn(api_keys={"sk-right"}) as strict:
        error = refusal(make(base_url=strict.base_url))
    assert isinstance(error, AuthenticationError)
    assert error.message == (
        "Incorrect API key provided: [removed]. You can find your API key at "
        "https://platform.openai.com/account/api-keys."
    )
    assert error.code == "invalid_api_key"


def test_an_error_survives_a_task_queue(standin: StandIn, client: ChatKitClient) -> None:
    standin.misbehave(Fault(status=429, headers={"Retry-After": "90"}))
    error = refusal(client)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 (made above)
    assert type(copy) is RateLimitError
    assert vars(copy) == vars(error)
    assert copy.retry_after == 90


def test_a_bare_error_says_as_little_as_it_knows() -> None:
    error = APIError("Odd.")
    assert vars(error) == {
        "message": "Odd.",
        "status_code": None,
        "request_id": "",
        "code": None,
        "param": None,
        "retry_after": None,
        "retryable": False,
        "attempts": 0,
    }
