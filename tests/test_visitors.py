"""People without an account. The browsers here send no token but the one that a page gave them."""

import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, override_settings
from rest_framework.settings import api_settings

from chatkit_sessions import visitors
from chatkit_sessions.models import ChatSession
from chatkit_sessions.standin import Fault, StandIn
from chatkit_sessions.testing import standin as pointed_at
from chatkit_sessions.visitors import COOKIE, address_digest, client_address, remember_visitor, visitor_id

pytestmark = pytest.mark.django_db

SESSIONS = "/api/chatkit/sessions/"
THREADS = "/api/chatkit/threads/"


class Browser:
    """A browser with its own cookies and its own address."""

    def __init__(self, address: str = "192.0.2.1", **headers: Any) -> None:
        self.client = Client(enforce_csrf_checks=True, REMOTE_ADDR=address, **headers)
        self.open()

    def open(self) -> None:
        """Open a page with a form, as the site's pages with the widget are."""
        assert self.client.get("/accounts/login/").status_code == 200

    def post(self, path: str = SESSIONS, body: dict[str, Any] | None = None, **options: Any) -> Any:
        headers = {
            "X-CSRFToken": self.client.cookies["csrftoken"].value,
            "Referer": "https://testserver/",
        }
        return self.client.post(path, body or {}, "application/json", headers=headers, **options)

    def start(self, body: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = self.post(body=body)
        assert answer.status_code in (200, 201), answer.content
        session: dict[str, Any] = answer.json()
        return session

    def sign_in(self, user: User) -> None:
        data = {"username": user.username, "password": "secret"}
        token = {"csrfmiddlewaretoken": self.client.cookies["csrftoken"].value}
        assert self.client.post("/accounts/login/", {**data, **token}).status_code == 302

    def sign_out(self) -> None:
        token = {"csrfmiddlewaretoken": self.client.cookies["csrftoken"].value}
        assert self.client.post("/accounts/logout/", token).status_code == 302

    def listed(self) -> list[str]:
        return [session["id"] for session in self.client.get(SESSIONS).json()["data"]]


@pytest.fixture
def user() -> User:
    return User.objects.create_user("ada", password="secret")


@pytest.fixture
def api() -> Iterator[StandIn]:
    with pointed_at(ALLOW_ANONYMOUS=True) as running:
        yield running


@pytest.fixture
def proxies(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Say how many proxies are trusted."""

    def trust(number: int | None) -> None:
        monkeypatch.setattr(api_settings, "NUM_PROXIES", number, raising=False)

    return trust


@pytest.mark.parametrize(
    ("secure", "insisted", "expected"), [(False, False, ""), (True, False, True), (False, True, True)]
)
def test_a_visitor_is_known_by_a_signed_cookie(
    api: StandIn, secure: bool, insisted: bool, expected: Any
) -> None:
    browser = Browser()
    with override_settings(SESSION_COOKIE_SECURE=insisted):
        session = browser.post(secure=secure).json()
    cookie = browser.client.cookies[COOKIE]
    assert re.fullmatch(r"visitor-[0-9a-f]{32}", session["user"])
    assert cookie.value.startswith(session["user"] + ":")
    assert {
        name: cookie[name] for name in ("httponly", "samesite", "secure", "path", "domain", "max-age")
    } == {
        "httponly": True,
        "samesite": "Lax",
        "secure": expected,
        "path": "/",
        "domain": "",
        "max-age": 30 * 24 * 3600,
    }
    row = ChatSession.objects.get()
    assert (row.user, row.identifier) == (None, session["user"])
    assert api.requests[0].json["user"] == session["user"]


def test_a_visitor_stays_the_same_from_request_to_request(api: StandIn) -> None:
    browser = Browser()
    first = browser.start()
    again = browser.start({"current_client_secret": first["client_secret"]})
    assert (again["user"], again["id"], again["reused"]) == (first["user"], first["id"], True)
    assert browser.listed() == [first["id"]]
    assert len(api.requests) == 1


def test_looking_leaves_no_cookie(api: StandIn) -> None:
    browser = Browser()
    assert browser.listed() == []
    assert browser.client.get("/api/chatkit/workflows/").status_code == 200
    assert COOKIE not in browser.client.cookies


def test_an_account_leaves_no_cookie(api: StandIn, user: User) -> None:
    browser = Browser()
    browser.sign_in(user)
    assert browser.start()["user"] == str(user.pk)
    assert COOKIE not in browser.client.cookies


def test_visitors_are_turned_away_unless_they_are_welcome(standin: StandIn) -> None:
    answer = Browser().post()
    assert (answer.status_code, answer.json()["code"]) == (403, "not_authenticated")
    assert standin.requests == []


def _tampered(value: str) -> str:
    return value.replace("visitor-", "visitor-0", 1)


def _other_id(value: str) -> str:
    return "visitor-" + "0" * 32 + value[value.index(":") :]


def _resigned(value: str) -> str:
    with override_settings(SECRET_KEY="guessed"):
        return signing.get_cookie_signer(salt=COOKIE).sign(value.partition(":")[0])


def _unsigned(value: str) -> str:
    return value.partition(":")[0]


@pytest.mark.parametrize("forge", [_tampered, _other_id, _resigned, _unsigned, lambda value: "", str.upper])
def test_a_cookie_that_we_did_not_sign_is_nobody(api: StandIn, forge: Callable[[str], str]) -> None:
    browser = Browser()
    first = browser.start()
    browser.client.cookies[COOKIE] = forge(browser.client.cookies[COOKIE].value)
    assert browser.listed() == []
    second = browser.start({"current_client_secret": first["client_secret"]})
    assert second["user"] != first["user"]
    assert not second["reused"]


@pytest.mark.parametrize(("age", "known"), [(timedelta(days=29), True), (timedelta(days=31), False)])
def test_a_cookie_is_good_for_thirty_days(
    api: StandIn, monkeypatch: pytest.MonkeyPatch, age: timedelta, known: bool
) -> None:
    browser = Browser()
    signed_at = signing.b62_encode(int(time.time() - age.total_seconds()))
    with monkeypatch.context() as earlier:
        earlier.setattr(signing.TimestampSigner, "timestamp", lambda self: signed_at)
        first = browser.start()
    assert (browser.start()["user"] == first["user"]) is known


def test_signing_in_is_somebody_else_and_signing_out_is_a_third(api: StandIn, user: User) -> None:
    browser = Browser()
    before = browser.start()
    kept = browser.client.cookies[COOKIE].value
    browser.sign_in(user)
    held = {"current_client_secret": before["client_secret"]}
    during = browser.start(held)
    assert (during["user"], during["reused"]) == (str(user.pk), False)
    assert browser.listed() == [during["id"]]
    browser.sign_out()
    # The old cookie is still there, and says nothing any more.
    assert browser.client.cookies[COOKIE].value == kept
    assert browser.listed() == []
    after = browser.start(held)
    assert after["user"].startswith("visitor-")
    assert after["user"] not in (before["user"], during["user"])
    assert not after["reused"]
    assert browser.listed() == [after["id"]]


def test_the_next_account_on_a_shared_computer_gets_nothing_either(api: StandIn, user: User) -> None:
    other = User.objects.create_user("bob", password="secret")
    browser = Browser()
    first = browser.start()
    for person in (user, other):
        browser.sign_in(person)
        assert browser.listed() == []
        assert not browser.start({"current_client_secret": first["client_secret"]})["reused"]
        browser.sign_out()


def test_two_visitors_share_nothing(api: StandIn, caplog: pytest.LogCaptureFixture) -> None:
    ada, bob = Browser(), Browser()
    session = ada.start()
    stolen = bob.start({"current_client_secret": session["client_secret"]})
    assert stolen["user"] != session["user"]
    assert (stolen["reused"], stolen["client_secret"] == session["client_secret"]) == (False, False)
    assert "was asked for with its secret by somebody else" in caplog.text
    assert session["client_secret"] not in caplog.text
    assert bob.listed() == [stolen["id"]]
    assert bob.client.get(f"{SESSIONS}{session['id']}/").status_code == 404
    assert bob.post(f"{SESSIONS}{session['id']}/cancel/").status_code == 404
    assert ChatSession.objects.running().count() == 2


def test_a_cookie_is_bound_to_its_browser(api: StandIn) -> None:
    ada, bob = Browser(), Browser()
    session = ada.start()
    bob.client.cookies[COOKIE] = ada.client.cookies[COOKIE].value
    assert bob.start()["user"] != session["user"]


@pytest.mark.parametrize("headers", [{}, {"X-CSRFToken": "x" * 32}, {"X-CSRFToken": ""}])
@pytest.mark.parametrize("path", [SESSIONS, f"{SESSIONS}cksess_1/cancel/"])
def test_csrf_is_enforced_for_visitors(api: StandIn, path: str, headers: dict[str, str]) -> None:
    browser = Browser()
    answer = browser.client.post(path, {}, "application/json", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    assert answer.json()["detail"].startswith("CSRF Failed: ")
    assert COOKIE not in browser.client.cookies
    assert api.requests == []
    assert not ChatSession.objects.exists()


def test_csrf_is_enforced_for_a_visitor_without_any_cookie(api: StandIn) -> None:
    answer = Client(enforce_csrf_checks=True).post(SESSIONS, {}, "application/json")
    assert answer.json()["detail"] == "CSRF Failed: CSRF cookie not set."


@override_settings(CSRF_USE_SESSIONS=True)
def test_a_csrf_token_in_the_session_serves_as_well(api: StandIn, user: User) -> None:
    client = Client(enforce_csrf_checks=True)
    page = client.get("/accounts/login/").content.decode()
    token = re.search('name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert token
    headers = {"X-CSRFToken": token[1]}
    people = [client.post(SESSIONS, {}, "application/json", headers=headers).json()["user"] for _ in "12"]
    assert people[0] == people[1]
    client.force_login(user)
    client.logout()
    client.get("/accounts/login/")
    assert client.get(SESSIONS).json()["data"] == []


ADDRESSES = [
    pytest.param(None, "192.0.2.1", "", "192.0.2.1", id="the connection's own"),
    pytest.param(None, "192.0.2.1", "203.0.113.9", "192.0.2.1", id="what a browser claims"),
    pytest.param(0, "192.0.2.1", "203.0.113.9", "192.0.2.1", id="no proxy"),
    pytest.param(1, "10.0.0.1", "203.0.113.9", "203.0.113.9", id="one proxy"),
    pytest.param(1, "10.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9", id="claimed before the proxy"),
    pytest.param(
        2, "10.0.0.1", "198.51.100.1, 203.0.113.9,10.0.0.2", "203.0.113.9", id="claimed before both"
    ),
    pytest.param(3, "10.0.0.1", "203.0.113.9", "203.0.113.9", id="fewer proxies than trusted"),
    pytest.param(1, "10.0.0.1", ", 203.0.113.9", "203.0.113.9", id="nothing claimed before the proxy"),
    pytest.param(1, "10.0.0.1", ",,203.0.113.9", "203.0.113.9", id="nothing claimed twice"),
    pytest.param(2, "10.0.0.1", " ,203.0.113.9, 10.0.0.2", "203.0.113.9", id="nothing before both"),
    pytest.param(1, "10.0.0.1", "203.0.113.9, ", None, id="a proxy that names nobody"),
    pytest.param(1, "10.0.0.1", " ", "10.0.0.1", id="a header without a word"),
    pytest.param(1, "10.0.0.1", "", "10.0.0.1", id="past the proxy"),
    pytest.param(1, "10.0.0.1", "203.0.113.9:5000", "203.0.113.9", id="with a port"),
    pytest.param(1, "10.0.0.1", "[2001:db8::1]:443", "2001:db8::1", id="IPv6 with a port"),
    pytest.param(1, "10.0.0.1", "[2001:db8::1]", "2001:db8::1", id="IPv6 in brackets"),
    pytest.param(1, "10.0.0.1", "unknown", None, id="no address"),
    pytest.param(1, "10.0.0.1", "1.1.1.1, <script>", None, id="hostile"),
    pytest.param(None, "", "", None, id="a local socket"),
    pytest.param(None, "2001:DB8::1", "", "2001:db8::1", id="IPv6"),
    pytest.param(None, "fe80::1%eth0", "", "fe80::1", id="IPv6 with a zone"),
    pytest.param(None, "::ffff:192.0.2.1", "", "192.0.2.1", id="IPv4 on an IPv6 socket"),
]


@pytest.mark.parametrize(("trusted", "connection", "forwarded", "expected"), ADDRESSES)
def test_the_address_is_the_connections_unless_proxies_are_trusted(
    proxies: Callable[[int | None], None],
    trusted: int | None,
    connection: str,
    forwarded: str,
    expected: str | None,
) -> None:
    proxies(trusted)
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    request = RequestFactory().get("/", headers=headers, REMOTE_ADDR=connection)
    assert client_address(request) == expected


def test_a_request_without_an_address_has_none() -> None:
    assert client_address(HttpRequest()) is None
    assert len(address_digest(HttpRequest())) == 64


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("2001:db8::1", "2001:db8:0:0:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
def test_of_an_ipv6_address_the_network_counts(one: str, other: str, same: bool) -> None:
    first, second = (address_digest(RequestFactory().get("/", REMOTE_ADDR=row)) for row in (one, other))
    assert (first == second) is same


def test_the_digest_of_an_address_is_keyed() -> None:
    request = RequestFactory().get("/", REMOTE_ADDR="192.0.2.1")
    first = address_digest(request)
    assert first != sha256(b"192.0.2.1").hexdigest()
    with override_settings(SECRET_KEY="another"):
        assert address_digest(request) != first


def exhausted(browser: Browser) -> bool:
    answer = browser.post()
    if answer.status_code == 201:
        return False
    assert (answer.status_code, answer.json()["code"]) == (429, "throttled")
    assert 0 < int(answer["Retry-After"]) <= 3600
    return True


def test_dropping_the_cookie_is_no_way_around_the_rate() -> None:
    with pointed_at(ALLOW_ANONYMOUS=True, ANONYMOUS_RATE="2/hour") as api:
        assert [exhausted(Browser()) for _ in range(3)] == [False, False, True]
        assert exhausted(Browser(headers={"X-Forwarded-For": "203.0.113.9"}))
        assert not exhausted(Browser("192.0.2.2"))
        assert len(api.requests) == 3


def test_whoever_makes_the_api_refuse_does_not_go_on_for_nothing() -> None:
    with pointed_at(ALLOW_ANONYMOUS=True, ANONYMOUS_RATE="2/hour", MAX_RETRIES=0) as api:
        api.misbehave(Fault(status=429), times=9)
        codes = [Browser().post().json()["code"] for _ in range(4)]
        assert codes == ["upstream_rate_limited"] * 2 + ["throttled"] * 2
        assert (len(api.requests), ChatSession.objects.count()) == (2, 2)


def test_the_api_is_not_asked_for_conversations_of_somebody_new() -> None:
    with pointed_at(ALLOW_ANONYMOUS=True) as api:
        for path in (f"{THREADS}cthr_1/", f"{THREADS}cthr_1/items/"):
            assert Browser().client.get(path).json()["code"] == "thread_not_found"
        assert Browser().client.get(THREADS).json()["data"] == []
        assert api.requests == []
        known = Browser()
        known.start()
        assert known.client.get(THREADS).json()["data"] == []
        assert len(api.requests) == 2


def test_behind_a_trusted_proxy_each_browser_has_its_own_rate(
    proxies: Callable[[int | None], None],
) -> None:
    proxies(1)
    with pointed_at(ALLOW_ANONYMOUS=True, ANONYMOUS_RATE="1/minute"):
        assert not exhausted(Browser(headers={"X-Forwarded-For": "203.0.113.9"}))
        assert exhausted(Browser(headers={"X-Forwarded-For": "198.51.100.7, 203.0.113.9"}))
        assert not exhausted(Browser(headers={"X-Forwarded-For": "203.0.113.10"}))


def test_an_account_has_no_rate_by_address(user: User) -> None:
    with pointed_at(ALLOW_ANONYMOUS=True, ANONYMOUS_RATE="1/hour"):
        assert [exhausted(Browser()), exhausted(Browser())] == [False, True]
        browser = Browser()
        browser.sign_in(user)
        assert [exhausted(browser) for _ in range(3)] == [False] * 3
    assert set(ChatSession.objects.filter(user=user).values_list("address_digest", flat=True)) == {""}


def test_handing_out_again_costs_no_rate() -> None:
    with pointed_at(ALLOW_ANONYMOUS=True, ANONYMOUS_RATE="1/hour"):
        browser = Browser()
        held = {"current_client_secret": browser.start()["client_secret"]}
        assert all(browser.start(held)["reused"] for _ in range(3))


def test_a_request_that_was_nobodys_sets_no_cookie() -> None:
    response = HttpResponse()
    remember_visitor(HttpRequest(), response)
    assert not response.cookies


def test_one_request_is_one_visitor() -> None:
    request = RequestFactory().get("/")
    request.user = AnonymousUser()
    assert visitor_id(request) == visitor_id(request) != visitor_id(RequestFactory().get("/"))
    assert visitors.COOKIE == "chatkit_visitor"
