"""No secret and no key on the pages, in the mails and in the log of a site that fails half-way."""

import copy
import json
import logging
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.core import mail, serializers
from django.core.mail import EmailMultiAlternatives
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.test import Client, override_settings
from django.utils.log import AdminEmailHandler

from chatkit_sessions import signals
from chatkit_sessions.models import ChatSession
from chatkit_sessions.services import IssuedSession, issue_session
from chatkit_sessions.standin import Fault, StandIn
from chatkit_sessions.visitors import COOKIE

SESSIONS = "/api/chatkit/sessions/"
KEY = "sk-" + "errorpage" * 3
IN_THE_MIDDLE = "in the middle"

# What a browser calls its secret, in our words and in those of the public starter projects.
NAMES = {"reuse": "current_client_secret", "starter": "currentClientSecret"}
# Where it breaks, and what is asked for. Each place is one behind which a secret or a key is in memory.
PLACES = {
    "reading the settings": ("chatkit_sessions.conf._workflows", "issue"),
    "validating": ("rest_framework.serializers.Serializer.run_validation", "reuse"),
    "validating a starter's body": ("rest_framework.serializers.Serializer.run_validation", "starter"),
    "reading a field": ("rest_framework.serializers.CharField.to_internal_value", "reuse"),
    "reading a starter's field": ("rest_framework.serializers.CharField.to_internal_value", "starter"),
    "digesting": ("chatkit_sessions.digests.salted_hmac", "reuse"),
    "preparing": ("chatkit_sessions.services.issue.reserve", "issue"),
    "looking up": ("chatkit_sessions.services.reuse.digests", "reuse"),
    "handing out again": ("chatkit_sessions.services.issue.IssuedSession", "reuse"),
    "sending": ("chatkit_sessions.client.transport.BearerAuth.__call__", "issue"),
    "settling": ("chatkit_sessions.services.settle.digest", "issue"),
    "keeping the answer": ("chatkit_sessions.services.settle.bounded_response", "issue"),
    "failing": ("chatkit_sessions.services.settle.translate", "fail"),
    "answering": ("chatkit_sessions.api.views.session_object", "issue"),
    "cancelling": ("chatkit_sessions.services.withdrawal._note", "cancel"),
    "listing": ("chatkit_sessions.services.threads.OpenAIIssuer", "threads"),
    "the middleware": ("tests.test_error_pages.look_at", "issue"),
}


def fails(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError(IN_THE_MIDDLE)


def look_at(response: HttpResponseBase) -> None:
    """Stand for what a site's middleware does with an answer."""


def middleware(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    def respond(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        data = getattr(response, "data", None)  # on the page among the local variables
        if data is not None and request.method == "POST":
            look_at(response)
        return response

    return respond


@pytest.fixture
def client(db: None, standin: StandIn, settings: Any) -> Client:
    """The browser of somebody signed in; errors are answered and not raised."""
    settings.CHATKIT_SESSIONS = {**settings.CHATKIT_SESSIONS, "API_KEY": KEY, "MAX_RETRIES": 0}
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.middleware"]
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.create_user("ada"))
    return client


@pytest.fixture
def session(client: Client) -> dict[str, Any]:
    """A session of theirs, which is running."""
    session: dict[str, Any] = client.post(SESSIONS, "{}", content_type="application/json").json()
    return session


class Mailing(AdminEmailHandler):
    """Mail reports to the operator, whole pages with ``include_html``, of whatever Django's version."""

    def send_mail(self, subject: Any, message: Any, *args: Any, **kwargs: Any) -> None:
        mailed = EmailMultiAlternatives(subject, message, to=["operator@example.org"])
        mailed.attach_alternative(kwargs["html_message"], "text/html")
        mailed.send()


@contextmanager
def mailing() -> Iterator[None]:
    """Have what fails in this block reported by mail."""
    handler = Mailing(include_html=True)
    logger = logging.getLogger("django.request")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@pytest.fixture
def mails() -> Iterator[None]:
    with mailing():
        yield


def mailed() -> str:
    """Return all that was mailed."""
    return " ".join(f"{vars(message)}" for message in mail.outbox)


def ask(client: Client, standin: StandIn, what: str, session: dict[str, Any]) -> Any:
    body = {NAMES[what]: session["client_secret"]} if what in NAMES else {}
    if what == "fail":
        said = f"{KEY} and {session['client_secret']}"
        standin.misbehave(Fault(status=500, body={"error": {"message": said, "code": said}}))
    if what == "threads":
        return client.get("/api/chatkit/threads/")
    path = f"{SESSIONS}{session['id']}/cancel/" if what == "cancel" else SESSIONS
    return client.post(path, json.dumps(body), content_type="application/json")


def secrets_of(standin: StandIn) -> list[str]:
    """Return the keys and every secret that was issued, also those of sessions that have ended since."""
    return [
        KEY,
        django_settings.SECRET_KEY,
        *(kept.client_secret for kept in standin._state._sessions.values()),
    ]


@pytest.mark.parametrize("kind", ["page", "text", "mail"])
@pytest.mark.parametrize(("place", "what"), PLACES.values(), ids=PLACES)
def test_a_failure_half_way_shows_no_secret(
    client: Client,
    standin: StandIn,
    session: dict[str, Any],
    mails: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: str,
    what: str,
    kind: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(place, fails)
    client.defaults["HTTP_ACCEPT"] = "application/json" if kind == "text" else "*/*"
    with override_settings(DEBUG=kind != "mail"):
        answer = ask(client, standin, what, session)
    assert answer.status_code == 500
    shown = caplog.text + (mailed() if kind == "mail" else answer.content.decode())
    assert IN_THE_MIDDLE in shown
    assert ("<html" in shown) == (kind in {"page", "mail"})
    assert [secret[:6] for secret in secrets_of(standin) if secret in shown] == []


@pytest.mark.parametrize("kind", ["page", "text", "mail"])
@pytest.mark.parametrize(
    ("place", "path"),
    [
        ("chatkit_sessions.conf._workflows", SESSIONS),
        ("chatkit_sessions.services.issue.reserve", SESSIONS),
        ("chatkit_sessions.templatetags.chatkit.find_workflow", "/"),
    ],
    ids=["before it is read", "after it was read", "on a page with the widget"],
)
def test_a_failure_shows_no_cookie_of_a_visitor(
    client: Client,
    settings: Any,
    mails: None,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    path: str,
    kind: str,
) -> None:
    settings.CHATKIT_SESSIONS = {**settings.CHATKIT_SESSIONS, "ALLOW_ANONYMOUS": True}
    client.logout()
    client.get("/")
    client.post(SESSIONS, "{}", content_type="application/json")
    cookie = client.cookies[COOKIE].value
    monkeypatch.setattr(place, fails)
    client.defaults["HTTP_ACCEPT"] = "application/json" if kind == "text" else "*/*"
    with override_settings(DEBUG=kind != "mail"):
        answer = client.get(path) if path == "/" else client.post(path, "{}", "application/json")
    shown = mailed() if kind == "mail" else answer.content.decode()
    assert COOKIE in shown
    assert cookie.rpartition(":")[2] not in shown


@pytest.mark.parametrize("setting", ["USER_IDENTIFIER", "STATE_VARIABLES"])
def test_a_failing_function_of_the_site_logs_no_secret(
    client: Client, session: dict[str, Any], settings: Any, caplog: pytest.LogCaptureFixture, setting: str
) -> None:
    caplog.set_level(logging.DEBUG)
    settings.CHATKIT_SESSIONS = {**settings.CHATKIT_SESSIONS, setting: fails}
    body = json.dumps({"current_client_secret": session["client_secret"]})
    answer = client.post(SESSIONS, body, content_type="application/json")
    assert answer.status_code == 503
    assert IN_THE_MIDDLE in caplog.text
    assert IN_THE_MIDDLE not in answer.content.decode()
    assert session["client_secret"] not in caplog.text
    assert KEY not in caplog.text


def test_a_failing_receiver_logs_no_secret(
    client: Client, standin: StandIn, db: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    signals.session_issued.connect(fails)
    try:
        assert client.post(SESSIONS, "{}", content_type="application/json").status_code == 201
    finally:
        signals.session_issued.disconnect(fails)
    assert IN_THE_MIDDLE in caplog.text
    assert [secret[:6] for secret in secrets_of(standin) if secret in caplog.text] == []


@pytest.mark.parametrize("field", ["request id", "id", "user", "another"])
def test_an_answer_that_repeats_its_secret_elsewhere_leaves_none_in_the_row(
    client: Client, standin: StandIn, db: None, field: str
) -> None:
    secret = "ek_" + "repeated" * 4
    body = {"id": "cksess_1", "client_secret": secret, "expires_at": 1_900_000_000}
    standin.misbehave(
        Fault(
            body={**body, **({} if field == "request id" else {field: f"x {secret} {KEY}"})},
            headers={"x-request-id": f"{secret} {KEY}"} if field == "request id" else {},
        )
    )
    answer = client.post(SESSIONS, "{}", content_type="application/json")
    assert answer.status_code == 201
    row = serializers.serialize("json", ChatSession.objects.all())
    assert secret not in row
    assert KEY not in row


def test_a_refusal_whose_request_id_holds_the_key_leaves_none(
    client: Client, standin: StandIn, db: None, caplog: pytest.LogCaptureFixture
) -> None:
    standin.misbehave(Fault(status=400, headers={"x-request-id": KEY}))
    assert client.post(SESSIONS, "{}", content_type="application/json").status_code == 502
    assert KEY not in caplog.text + serializers.serialize("json", ChatSession.objects.all())


def test_what_issuing_gives_hides_its_secret_and_is_not_pickled(standin: StandIn, db: None) -> None:
    issued = issue_session(identifier="ada")
    secret = str(issued.client_secret)
    holder = {"issued": [issued]}
    shown = [
        repr(holder),
        f"{issued}",
        f"{issued!r}",
        f"{issued.client_secret!r}",
        str(vars(issued)),
    ]
    assert [text for text in shown if secret in text] == []
    copied: IssuedSession = copy.deepcopy(holder)["issued"][0]
    assert secret not in repr(copied)
    with pytest.raises(TypeError, match="A secret is never pickled"):
        pickle.dumps(holder)


def test_templates_that_fail_quietly_log_no_secret(
    client: Client, session: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="django.template")
    ada = User.objects.get()
    ada.is_staff = ada.is_superuser = True
    ada.save()
    row = ChatSession.objects.get()
    for page in ("", f"{row.pk}/change/"):
        assert client.get(f"/admin/chatkit_sessions/chatsession/{page}").status_code == 200
    assert "Exception while resolving variable" in caplog.text
    assert session["client_secret"] not in caplog.text
    assert KEY not in caplog.text


def test_the_browsable_page_is_never_rendered(client: Client, session: dict[str, Any], settings: Any) -> None:
    settings.REST_FRAMEWORK = {
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.BrowsableAPIRenderer"],
    }
    answer = client.get(SESSIONS, headers={"Accept": "text/html"})
    assert answer.status_code == 406
    assert answer["Content-Type"] == "application/json"
    assert session["client_secret"] not in answer.content.decode()
