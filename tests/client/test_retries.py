"""Which failures are tried again, after how long, and when it is enough."""

import random
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import requests

from chatkit_sessions.client import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    BadRequestError,
    ChatKitClient,
    InternalServerError,
    RateLimitError,
    retries,
)
from chatkit_sessions.standin import Fault, StandIn

from .conftest import KEY, SESSION, Clock

Make = Callable[..., ChatKitClient]


def refusal(client: ChatKitClient) -> APIError:
    with pytest.raises(APIError) as refused:
        client.create_session(**SESSION)
    return refused.value


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_a_passing_failure_is_got_over(
    standin: StandIn, client: ChatKitClient, clock: Clock, status: int
) -> None:
    standin.misbehave(Fault(status=status), times=2)
    session = client.create_session(**SESSION)
    assert session.attempts == 3
    assert len(standin.sessions) == 1
    assert clock.waits == [0.5, 1.0]
    assert len({request.body for request in standin.requests}) == 1


def test_waits_double_up_to_eight_seconds(standin: StandIn, make: Make, clock: Clock) -> None:
    standin.misbehave(Fault(status=500), times=10)
    error = refusal(make(max_retries=7, deadline=1000))
    assert error.attempts == 8
    assert clock.waits == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_waits_are_shortened_by_chance_by_up_to_a_quarter(
    standin: StandIn, client: ChatKitClient, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "random", lambda: 1.0)
    standin.misbehave(Fault(status=500), times=3)
    refusal(client)
    assert clock.waits == [0.375, 0.75]


@pytest.mark.parametrize("max_retries", [0, 1, 4])
def test_there_are_as_many_attempts_as_asked_for(
    standin: StandIn, make: Make, clock: Clock, max_retries: int
) -> None:
    standin.misbehave(Fault(status=500), times=10)
    assert refusal(make(max_retries=max_retries)).attempts == max_retries + 1
    assert len(clock.waits) == max_retries
    assert len(standin.requests) == max_retries + 1


@pytest.mark.parametrize(
    ("status", "told", "attempts"),
    [
        (400, "true", 3),
        (404, "true", 3),
        (500, "false", 1),
        (429, "false", 1),
        (500, "maybe", 3),
        (400, "maybe", 1),
        (400, "", 1),
    ],
)
def test_x_should_retry_overrules_the_status(
    standin: StandIn, client: ChatKitClient, status: int, told: str, attempts: int
) -> None:
    standin.misbehave(Fault(status=status, headers={"X-Should-Retry": told}), times=3)
    assert refusal(client).attempts == attempts == len(standin.requests)


def in_seconds(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "3"}, 3.0),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "2.5"}, 2.5),
        ({"Retry-After-Ms": "250"}, 0.25),
        ({"Retry-After-Ms": "250", "Retry-After": "3"}, 0.25),
        ({"Retry-After-Ms": "soon", "Retry-After": "3"}, 3.0),
        ({"Retry-After-Ms": "-1", "Retry-After": "3"}, 3.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 -0000"}, 0.0),
    ],
)
def test_the_api_says_how_long_to_wait(
    standin: StandIn, client: ChatKitClient, clock: Clock, headers: dict[str, str], wait: float
) -> None:
    standin.misbehave(Fault(status=429, headers=headers))
    client.create_session(**SESSION)
    assert clock.waits == [wait]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("Mon, 01 Jan 99999999999 00:00:00 GMT", None),
        ("Mon, 01 Jan 9999 00:00:00 GMT", 86_400),
        ("1e308", 86_400),
        ("inf", None),
    ],
)
def test_a_wait_of_another_age_is_not_believed(value: str, seconds: float | None) -> None:
    assert retries.retry_after({"retry-after": value}) == seconds


@pytest.mark.parametrize("zone", ["GMT", "+0000", "-0000"])
def test_the_api_says_until_when_to_wait(
    standin: StandIn, client: ChatKitClient, clock: Clock, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    standin.misbehave(Fault(status=503, headers={"Retry-After": in_seconds(8).replace("GMT", zone)}))
    try:
        client.create_session(**SESSION)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert len(clock.waits) == 1
    assert 6 < clock.waits[0] <= 8


@pytest.mark.parametrize(
    "value", ["", "soon", "-5", "nan", "inf", "Wed, 99 Oct 2015", "Wed, 21 Oct 2015 07:28:00 +9999"]
)
def test_a_wait_that_makes_no_sense_is_not_heeded(
    standin: StandIn, client: ChatKitClient, clock: Clock, value: str
) -> None:
    standin.misbehave(Fault(status=429, headers={"Retry-After": value}))
    client.create_session(**SESSION)
    assert clock.waits == [0.5]


def test_a_wait_beyond_a_minute_is_left_to_the_caller(standin: StandIn, make: Make, clock: Clock) -> None:
    patient = make(deadline=1000)
    standin.misbehave(Fault(status=429, headers={"Retry-After": "60"}))
    assert patient.create_session(**SESSION).attempts == 2
    assert clock.waits == [60]
    standin.misbehave(Fault(status=429, headers={"Retry-After": "60.001"}))
    error = refusal(patient)
    assert isinstance(error, RateLimitError)
    assert (error.retry_after, error.attempts) == (60.001, 1)
    assert clock.waits == [60]


@pytest.mark.parametrize("seconds", ["15", "59"])
def test_a_wait_that_does_not_fit_into_the_deadline_is_not_begun(
    standin: StandIn, client: ChatKitClient, clock: Clock, seconds: str
) -> None:
    standin.misbehave(Fault(status=503, headers={"Retry-After": seconds}))
    error = refusal(client)
    assert (error.retry_after, error.attempts) == (float(seconds), 1)
    assert clock.waits == []


def test_all_waits_together_fit_into_the_deadline(standin: StandIn, make: Make, clock: Clock) -> None:
    standin.misbehave(Fault(status=500), times=20)
    error = refusal(make(max_retries=10, deadline=15))
    assert clock.waits == [0.5, 1.0, 2.0, 4.0]
    assert error.attempts == 5


def test_an_answer_that_does_not_come_is_not_asked_for_again(
    standin: StandIn, make: Make, clock: Clock
) -> None:
    standin.misbehave(Fault(delay=60))
    error = refusal(make(timeout=(1, 0.1)))
    assert type(error) is APITimeoutError
    assert str(error) == "The API did not answer in time."
    assert (error.status_code, error.request_id, error.attempts) == (None, "", 1)
    assert (error.retryable, clock.waits) == (False, [])
    assert len(standin.requests) == 1


def test_the_time_to_answer_shrinks_to_what_is_left(standin: StandIn, make: Make) -> None:
    standin.misbehave(Fault(status=500, headers={"Retry-After": "0"}))
    standin.misbehave(Fault(delay=60))
    begun = time.monotonic()
    error = refusal(make(timeout=(10, 10), deadline=0.3))
    assert time.monotonic() - begun < 5
    assert isinstance(error, APITimeoutError)
    assert error.attempts == 2


def test_each_attempt_has_the_time_that_is_left_and_no_more(
    standin: StandIn, make: Make, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[float, float]] = []
    send = requests.adapters.HTTPAdapter.send

    def note(*arguments: Any, **options: Any) -> requests.Response:
        given.append(options["timeout"])
        return send(*arguments, **options)

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", note)
    for seconds in (11, 3.5):
        standin.misbehave(Fault(status=429, headers={"Retry-After": str(seconds)}))
    make(timeout=(3, 10), deadline=15).create_session(**SESSION)
    (connect, read), (shorter_connect, shorter_read), (last_connect, last_read) = given
    assert (connect, read, shorter_connect) == (3, 10, 3)
    assert 3 < shorter_read <= 4
    assert 0 < last_connect <= 0.5
    assert last_connect == last_read


def test_a_refused_connection_is_tried_again(closed_port: int, clock: Clock) -> None:
    client = ChatKitClient(KEY, base_url=f"http://127.0.0.1:{closed_port}/v1", max_retries=3)
    error = refusal(client)
    assert type(error) is APIConnectionError
    assert str(error).startswith("No connection to the API: ")
    assert "Connection refused" in str(error)
    assert (error.status_code, error.attempts, error.retryable) == (None, 4, True)
    assert clock.waits == [0.5, 1.0, 2.0]


def test_a_connection_that_takes_too_long_is_tried_again(clock: Clock) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        crowd = [socket.socket() for _ in range(4)]  # fills the queue: nobody else gets through
        for one in crowd:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        address = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
        error = refusal(ChatKitClient(KEY, base_url=address, timeout=(0.1, 10), max_retries=1))
        for one in crowd:
            one.close()
    assert type(error) is APIConnectionError
    assert error.attempts == 2


def test_a_dropped_connection_is_got_over(standin: StandIn, client: ChatKitClient, clock: Clock) -> None:
    standin.misbehave(Fault(drop=True), times=2)
    assert client.create_session(**SESSION).attempts == 3
    assert clock.waits == [0.5, 1.0]


def test_the_last_failure_is_the_one_that_counts(standin: StandIn, client: ChatKitClient) -> None:
    standin.misbehave(Fault(drop=True))
    standin.misbehave(Fault(status=500))
    standin.misbehave(Fault(status=400))
    error = refusal(client)
    assert isinstance(error, BadRequestError)
    assert error.attempts == 3


def test_a_pause_of_the_stand_in_does_not_end_the_connections(
    standin: StandIn, client: ChatKitClient
) -> None:
    client.create_session(**SESSION)
    standin.close()
    standin.start()
    assert client.create_session(**SESSION).client_secret


BAD_ADDRESSES: dict[str, str] = {
    "http:///v1": "No connection to the API: Invalid URL 'http:///v1/chatkit/sessions': No host supplied",
    "ftp://127.0.0.1": (
        "No connection to the API: No connection adapters were found for 'ftp://127.0.0.1/chatkit/sessions'"
    ),
    "127.0.0.1": (
        "No connection to the API: Invalid URL '127.0.0.1/chatkit/sessions': No scheme supplied. "
        "Perhaps you meant https://127.0.0.1/chatkit/sessions?"
    ),
}


@pytest.mark.parametrize(("address", "message"), BAD_ADDRESSES.items())
def test_an_address_that_is_none_is_not_tried_again(clock: Clock, address: str, message: str) -> None:
    error = refusal(ChatKitClient(KEY, base_url=address))
    assert type(error) is APIConnectionError
    assert str(error) == message
    assert (error.attempts, error.retryable, clock.waits) == (1, False, [])


@pytest.mark.parametrize("label", ["x" * 64, "a..b"])
def test_a_name_that_cannot_be_looked_up_is_a_failed_connection(clock: Clock, label: str) -> None:
    error = refusal(ChatKitClient(KEY, base_url=f"http://{label}.example/v1"))
    assert type(error) is APIConnectionError


def test_a_missing_certificate_bundle_is_a_failed_connection(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/bundle.pem")
    error = refusal(ChatKitClient(KEY, base_url="https://127.0.0.1:9/v1"))
    assert type(error) is APIConnectionError
    assert "invalid path: /nowhere/bundle.pem" in str(error)


def test_errors_with_a_status_are_settled_by_their_last_answer(
    standin: StandIn, client: ChatKitClient
) -> None:
    standin.misbehave(Fault(status=500, headers={"X-Request-Id": "req_1"}))
    standin.misbehave(Fault(status=502, headers={"X-Request-Id": "req_2"}))
    standin.misbehave(Fault(status=503, headers={"X-Request-Id": "req_3"}))
    error = refusal(client)
    assert isinstance(error, InternalServerError)
    assert (error.status_code, error.request_id, error.attempts) == (503, "req_3", 3)


def test_reading_is_tried_again_as_creating_is(standin: StandIn, client: ChatKitClient) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: client.list_threads(user="ada"),
        lambda: client.cancel_session("cksess_none"),
        lambda: client.delete_thread("cthr_none"),
    ]
    for call in calls:
        standin.requests.clear()
        standin.misbehave(Fault(status=503), times=3)
        with pytest.raises(InternalServerError):
            call()
        assert len(standin.requests) == 3
