"""No key and no client secret in what an error shows, on Django's debug page above all."""

import copy
import logging
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import requests
from django.test import override_settings
from django.views.debug import ExceptionReporter

from chatkit_sessions.client import APIError, ChatKitClient, ParameterError, Secret
from chatkit_sessions.client.answers import Answer
from chatkit_sessions.standin import Fault, StandIn

from . import answers
from .conftest import KEY, SESSION

Make = Callable[..., ChatKitClient]
Call = Callable[[ChatKitClient], Any]


def create(client: ChatKitClient) -> Any:
    return client.create_session(**SESSION)


def listing(client: ChatKitClient) -> Any:
    return client.list_threads(user="ada")


def said(text: str) -> dict[str, Any]:
    return {"error": {"message": text, "code": text, "param": text, "type": text}}


def session(**changes: Any) -> dict[str, Any]:
    return {**answers.NEWER, **changes}


FAULTS: dict[str, tuple[Fault, Call]] = {
    "key echoed": (Fault(status=401, body=said(f"Wrong key {KEY}")), create),
    "secret echoed": (Fault(status=500, body=said(f"Secret {answers.SECRET}")), create),
    "secret and key in another place": (Fault(status=400, body={KEY: answers.SECRET}), create),
    "wrong type": (Fault(body=session(expires_at="soon")), create),
    "lacking": (Fault(body={"client_secret": answers.SECRET}), create),
    "no page": (Fault(body=session()), listing),
    "wrong entry": (Fault(body=answers.page(session())), listing),
    "no object": (Fault(body=[session(), KEY]), create),
    "no json": (Fault(body=f"{answers.SECRET} {KEY}"), create),
    "redirect": (Fault(status=302, headers={"Location": f"/{KEY}/{answers.SECRET}"}), create),
    "too long": (Fault(body=f"{answers.SECRET}{KEY}" * 30_000), create),
    "cut short": (Fault(body=session(), truncate=200), create),
    "stalled": (Fault(body=session(), drip=60), create),
    "late": (Fault(body=session(), delay=60), create),
    "dropped": (Fault(drop=True), create),
    "bad headers": (Fault(body=session(), headers={"Content-Length": "1, 2"}), create),
    "bad compression": (Fault(body=session(), headers={"Content-Encoding": "gzip"}), create),
}


def everything_shown(error: BaseException) -> str:
    """Return all that error pages, logs and trackers get to see of an error."""
    with override_settings(DEBUG=True):  # local variables are shown as they are
        reporter = ExceptionReporter(None, type(error), error, error.__traceback__)
        shown: list[str] = [reporter.get_traceback_text(), reporter.get_traceback_html()]
    formatter = logging.Formatter()
    shown.append(formatter.formatException((type(error), error, error.__traceback__)))
    chain: BaseException | None = error
    while chain is not None:
        shown += [repr(chain), str(chain), repr(chain.args), repr(vars(chain))]
        frame = chain.__traceback__
        while frame is not None:
            shown.append(repr(frame.tb_frame.f_locals))
            frame = frame.tb_next
        chain = chain.__cause__ or chain.__context__
    return "\n".join(shown)


@pytest.mark.parametrize(("fault", "call"), FAULTS.values(), ids=FAULTS)
def test_an_error_shows_no_key_and_no_secret(
    standin: StandIn, make: Make, caplog: pytest.LogCaptureFixture, fault: Fault, call: Call
) -> None:
    caplog.set_level(logging.DEBUG)
    standin.misbehave(fault, times=3)
    try:
        call(make(timeout=(1, 0.2), max_retries=0))
    except APIError as error:
        raised = error
    fault = Fault()
    shown = everything_shown(raised) + caplog.text
    assert "test_an_error_shows_no_key_and_no_secret" in shown  # the page has the frames it should have
    assert KEY not in shown
    assert answers.SECRET not in shown
    assert "urllib3/connectionpool.py" not in shown  # its frames hold the request as bytes


def test_a_key_that_is_not_hidden_would_be_noticed(make: Make) -> None:
    visible = str(KEY)
    with pytest.raises(APIError) as refused:
        create(make(visible, max_retries=0, base_url="http://127.0.0.1:9"))
    assert KEY in everything_shown(refused.value)


def test_a_key_that_cannot_be_sent_is_not_shown(make: Make) -> None:
    try:
        make_broken(make)
    except ParameterError as error:
        shown = everything_shown(error)
    assert "make_broken" in shown
    assert KEY not in shown


def make_broken(make: Make) -> None:
    ChatKitClient(Secret(f"{KEY}\n"), base_url="http://127.0.0.1:9")


def test_a_plain_key_is_hidden_from_the_first_frame_on() -> None:
    with pytest.raises(ParameterError) as refused:
        ChatKitClient(f"{KEY}\n", base_url="http://127.0.0.1:9")
    frame = refused.value.__traceback__
    assert frame is not None
    frame = frame.tb_next
    while frame is not None:
        assert KEY not in repr(frame.tb_frame.f_locals)
        frame = frame.tb_next


@pytest.fixture
def issued(standin: StandIn, client: ChatKitClient) -> Any:
    standin.misbehave(Fault(body=session()))
    return create(client)


def test_a_session_does_not_show_its_secret(issued: Any) -> None:
    assert answers.SECRET not in f"{issued!r} {issued} {issued.raw}"
    assert "cksess_123" in repr(issued)
    assert repr(issued.client_secret) == "<secret>"
    assert f"{issued.client_secret}" == answers.SECRET


def test_a_session_is_never_pickled(issued: Any) -> None:
    with pytest.raises(
        TypeError, match=r"^A secret is never pickled: pass the session's reference instead\.$"
    ):
        pickle.dumps(issued)


def test_a_session_can_be_copied_in_memory(issued: Any) -> None:
    assert copy.copy(issued) == issued


def test_an_answer_does_not_show_itself() -> None:
    answer = Answer(data=session(), status_code=200, request_id="req_1", attempts=1)
    assert repr(answer) == str(answer) == "<Answer 200 req_1>"


def test_a_client_does_not_show_its_key(make: Make) -> None:
    client = make()
    assert KEY not in f"{client!r} {vars(client)} {vars(client._transport)}"


def test_a_request_does_not_show_the_key_that_it_carries(standin: StandIn, make: Make) -> None:
    sent: list[requests.PreparedRequest] = []
    with requests.Session() as mine:
        mine.hooks["response"].append(lambda response, **options: sent.append(response.request))
        create(make(session=mine))
    assert KEY in standin.requests[0].headers["authorization"]
    assert KEY not in f"{sent[0].headers} {vars(sent[0])}"


@pytest.mark.parametrize(
    "broken",
    ["transport.without", "transport.answers.decode", "client.ChatKitSession.parse", "client._new_session"],
)
def test_an_error_that_nobody_foresaw_leaves_no_answer_in_its_frames(
    standin: StandIn, make: Make, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*arguments: Any) -> Any:
        raise LookupError("nobody foresaw this")

    standin.misbehave(Fault(body=session()))
    monkeypatch.setattr(f"chatkit_sessions.client.{broken}", fail)
    with pytest.raises(LookupError) as raised:
        create(make())
    page = ExceptionReporter(None, LookupError, raised.value, raised.value.__traceback__).get_traceback_html()
    assert "nobody foresaw this" in page
    assert answers.SECRET not in page
    assert KEY not in page
