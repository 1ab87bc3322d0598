"""An answer that drips is cut at the deadline, wherever it drips."""

import socket
import time
from collections.abc import Callable

import pytest
import requests

from chatkit_sessions.client import APITimeoutError, ChatKitClient
from chatkit_sessions.client.watch import Watch, WatchedAdapter, watch
from chatkit_sessions.standin import Fault, StandIn

from .conftest import SESSION

Make = Callable[..., ChatKitClient]


@pytest.mark.parametrize(
    "fault", [Fault(drip_headers=0.2), Fault(drip=0.2)], ids=["in its headers", "in its body"]
)
def test_a_dripping_answer_is_cut_at_the_deadline_and_not_asked_for_again(
    standin: StandIn, make: Make, fault: Fault
) -> None:
    standin.misbehave(fault, times=3)
    started = time.monotonic()
    with pytest.raises(APITimeoutError, match=r"^The answer did not end in time\.$") as raised:
        make(deadline=0.5).create_session(**SESSION)
    assert 0.5 <= time.monotonic() - started < 1.5
    assert (raised.value.attempts, len(standin.requests)) == (1, 1)


def test_the_connection_that_was_cut_is_not_used_again(standin: StandIn, make: Make) -> None:
    standin.misbehave(Fault(drip_headers=0.2))
    client = make(deadline=0.5)
    with pytest.raises(APITimeoutError):
        client.create_session(**SESSION)
    assert client.create_session(**SESSION).status == "active"


def test_a_socket_that_comes_too_late_is_shut_at_once() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        late = Watch()
        late.end()
        late.guard(ours)
        assert (late.is_over, theirs.recv(1)) == (True, b"")


def test_a_socket_that_is_closed_already_is_left_alone() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        late = Watch()
        late.guard(ours)
        ours.close()
        late.end()
    assert late.is_over


def test_a_request_that_nobody_watches_goes_through(standin: StandIn) -> None:
    with requests.Session() as session:
        session.mount("http://", WatchedAdapter())
        assert session.get(standin.base_url, timeout=5).status_code == 404


def test_requests_through_a_proxy_are_watched_too(standin: StandIn, elsewhere: StandIn) -> None:
    elsewhere.misbehave(Fault(drip_headers=0.2))
    proxy = elsewhere.base_url.removesuffix("/v1")
    with requests.Session() as session, watch(0.4) as watching:
        session.mount("http://", WatchedAdapter())
        with pytest.raises(requests.ConnectionError):
            session.get(standin.base_url, proxies={"http": proxy}, timeout=5)
    assert watching.is_over


def test_a_session_of_ones_own_is_not_watched_but_its_body_is_cut_too(standin: StandIn, make: Make) -> None:
    standin.misbehave(Fault(drip=0.02))
    with requests.Session() as own, pytest.raises(APITimeoutError, match=r"^The answer did not end in time"):
        make(deadline=0.4, session=own).create_session(**SESSION)
