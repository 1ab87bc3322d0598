import base64
import json
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.test import override_settings
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle, SimpleRateThrottle

from chatkit_sessions.models import ChatSession
from chatkit_sessions.standin import StandIn

from .conftest import ENDPOINTS, Browser, assert_error, session_of

NOT_PROVIDED = "Sign in to start a chat."
FORBIDDEN = "You do not have permission to perform this action."
ALLOWED = {
    "sessions/": {"GET", "HEAD", "POST", "OPTIONS"},
    "sessions/cksess_none/": {"GET", "HEAD", "OPTIONS"},
    "sessions/cksess_none/cancel/": {"POST", "OPTIONS"},
    "workflows/": {"GET", "HEAD", "OPTIONS"},
    "threads/": {"GET", "HEAD", "OPTIONS"},
    "threads/cthr_none/": {"GET", "HEAD", "DELETE", "OPTIONS"},
    "threads/cthr_none/items/": {"GET", "HEAD", "OPTIONS"},
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


class LetterAuthentication(BaseAuthentication):
    """A site's own way to sign in: the name, in a header."""

    def authenticate(self, request: Request) -> tuple[User, None] | None:
        name = request.headers.get("X-Letter")
        return (User.objects.get(username=name), None) if name else None

    def authenticate_header(self, request: Request) -> str:
        return 'Letter realm="tests"'


class Stranger(BaseAuthentication):
    """A site's own way to let everybody in: with an account for nobody."""

    user: Any = AnonymousUser()

    def authenticate(self, request: Request) -> tuple[Any, None]:
        return self.user, None


class Nobody(Stranger):
    user = None


class OnWeekdays(BasePermission):
    """A site's own rule with a code of its own."""

    message = "Come back on Monday."
    code = "weekend"

    def has_permission(self, request: Request, view: Any) -> bool:
        return False


class Everybody(BasePermission):
    def has_permission(self, request: Request, view: Any) -> bool:
        return True


class TwoAnHour(SimpleRateThrottle):
    scope = "tests"
    rate = "2/hour"

    def get_cache_key(self, request: Request, view: Any) -> str:
        return f"two-an-hour-{request.user.pk}"


class Never(BaseThrottle):
    """A throttle that does not know how long."""

    def allow_request(self, request: Request, view: Any) -> bool:
        return False


@pytest.mark.parametrize("path", ALLOWED)
@pytest.mark.parametrize("method", METHODS)
def test_each_endpoint_takes_its_methods_and_no_other(
    browser: Browser, standin: StandIn, path: str, method: str
) -> None:
    answer = browser(method, path)
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert {"Cookie", "Authorization"} <= set(answer.headers["Vary"].split(", "))
    if method in ALLOWED[path]:
        assert answer.status_code != 405
    else:
        if method != "HEAD":
            assert_error(answer, 405, "method_not_allowed", f'Method "{method}" not allowed.')
        assert answer.status_code == 405
        assert set(answer.headers["Allow"].split(", ")) == ALLOWED[path]
        assert standin.requests == []


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_nobody_comes_in_without_signing_in(db: None, standin: StandIn, method: str, path: str) -> None:
    assert_error(Browser()(method, path), 403, "not_authenticated", NOT_PROVIDED)
    assert standin.requests == []


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_an_account_that_was_switched_off_is_nobody(
    ada: User, browser: Browser, standin: StandIn, method: str, path: str
) -> None:
    User.objects.filter(pk=ada.pk).update(is_active=False)
    assert_error(browser(method, path), 403, "not_authenticated", NOT_PROVIDED)
    assert standin.requests == []


@pytest.mark.parametrize(
    ("method", "path"), [endpoint for endpoint in ENDPOINTS if endpoint[0] in {"POST", "DELETE"}]
)
def test_another_sites_page_can_change_nothing(ada: User, standin: StandIn, method: str, path: str) -> None:
    session = session_of(ada, upstream_id="cksess_none")
    browser = Browser(ada, enforce_csrf_checks=True)
    answer = browser(method, path)
    assert_error(answer, 403, "permission_denied", "CSRF Failed: CSRF cookie not set.")
    browser.get("sessions/")
    browser.http.get("/accounts/login/")  # sets the cookie
    answer = browser(method, path)
    assert_error(answer, 403, "permission_denied", "CSRF Failed: CSRF token missing.")
    session.refresh_from_db()
    assert session.status == "active"
    assert ChatSession.objects.count() == 1
    assert standin.requests == []


class Configurations(HTMLParser):
    """Collect what the template tag left for the page's script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[dict[str, Any]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if config := dict(attributes).get("data-chatkit-sessions"):
            self.found.append(json.loads(config))


def test_the_page_with_the_widget_holds_all_that_it_needs(ada: User, standin: StandIn) -> None:
    browser = Browser(ada, enforce_csrf_checks=True)
    (config,) = Configurations(browser.http.get("/").content.decode()).found
    answer = browser.http.post(
        config["sessionsUrl"],
        json.dumps({"workflow": config["workflow"], "current_client_secret": None}),
        "application/json",
        headers={config["csrfHeader"]: config["csrfToken"]},
    )
    assert answer.status_code == 201
    assert answer.json()["client_secret"] == next(iter(standin.sessions.values()))["client_secret"]


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_authentication_classes_are_the_settings(
    ada: User, standin: StandIn, configure: Callable[..., None], method: str, path: str
) -> None:
    configure(AUTHENTICATION_CLASSES=["tests.api.test_access.LetterAuthentication"])
    refused = Browser(ada)(method, path)  # the cookie of the site does not count any more
    assert_error(refused, 401, "not_authenticated", NOT_PROVIDED)
    assert refused.headers["WWW-Authenticate"] == 'Letter realm="tests"'
    assert Browser()(method, path, **{"X-Letter": "ada"}).status_code in {200, 201, 404}


def test_wrong_credentials_keep_their_challenge(db: None, configure: Callable[..., None]) -> None:
    configure(AUTHENTICATION_CLASSES=["rest_framework.authentication.BasicAuthentication"])
    basic = base64.b64encode(b"ada:wrong").decode()
    answer = Browser()("GET", "sessions/", Authorization=f"Basic {basic}")
    assert_error(answer, 401, "authentication_failed", "Invalid username/password.")
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="api"'


def test_a_class_may_stand_in_the_settings_itself(
    ada: User, standin: StandIn, configure: Callable[..., None]
) -> None:
    configure(AUTHENTICATION_CLASSES=(LetterAuthentication,))
    assert Browser()("POST", "sessions/", {}, **{"X-Letter": "ada"}).json()["user"] == str(ada.pk)


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_permission_classes_are_the_settings(
    browser: Browser, standin: StandIn, configure: Callable[..., None], method: str, path: str
) -> None:
    configure(PERMISSION_CLASSES=["tests.api.test_access.OnWeekdays"])
    assert_error(browser(method, path), 403, "weekend", "Come back on Monday.")
    assert standin.requests == []


def test_permissions_may_be_for_staff_only(
    ada: User, browser: Browser, standin: StandIn, configure: Callable[..., None]
) -> None:
    configure(PERMISSION_CLASSES=["rest_framework.permissions.IsAdminUser"])
    assert_error(browser.get("sessions/"), 403, "permission_denied", FORBIDDEN)
    User.objects.filter(pk=ada.pk).update(is_staff=True)
    assert browser.get("sessions/").status_code == 200


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_a_session_is_always_for_somebody(
    db: None, standin: StandIn, configure: Callable[..., None], method: str, path: str
) -> None:
    configure(PERMISSION_CLASSES=[Everybody])
    assert_error(Browser()(method, path), 403, "not_authenticated", "Sign in to start a chat.")
    assert standin.requests == []


def start_with_a_token_alone(browser: Browser, standin: StandIn) -> Any:
    """Return the answer to a visitor's request with the page's CSRF token; without it, all are refused."""
    for method, path in ENDPOINTS:
        if method in {"POST", "DELETE"}:
            answer = browser(method, path)
            assert_error(answer, 403, "permission_denied", "CSRF Failed: CSRF cookie not set.")
    assert standin.requests == []
    (config,) = Configurations(browser.http.get("/").content.decode()).found
    answer = browser("POST", "sessions/", {}, **{config["csrfHeader"]: config["csrfToken"]})
    assert answer.status_code == 201
    return answer


def test_a_visitor_is_protected_from_other_sites_too(
    db: None, standin: StandIn, configure: Callable[..., None]
) -> None:
    configure(ALLOW_ANONYMOUS=True)
    browser = Browser(enforce_csrf_checks=True)
    answer = start_with_a_token_alone(browser, standin)
    assert answer.json()["user"].startswith("visitor-")
    assert [session["id"] for session in browser.get("sessions/").json()["data"]] == [answer.json()["id"]]
    assert Browser().get("sessions/").json()["data"] == []


@pytest.mark.parametrize("authentication", [Stranger, Nobody])
def test_a_class_that_authenticates_no_account_does_not_switch_csrf_off(
    db: None, standin: StandIn, configure: Callable[..., None], authentication: type[BaseAuthentication]
) -> None:
    configure(ALLOW_ANONYMOUS=True, AUTHENTICATION_CLASSES=[authentication])
    answer = start_with_a_token_alone(Browser(enforce_csrf_checks=True), standin)
    assert answer.json()["user"].startswith("visitor-")


def test_an_account_that_a_header_names_needs_no_csrf_token(
    ada: User, standin: StandIn, configure: Callable[..., None]
) -> None:
    configure(ALLOW_ANONYMOUS=True, AUTHENTICATION_CLASSES=[LetterAuthentication])
    answer = Browser(enforce_csrf_checks=True)("POST", "sessions/", {}, **{"X-Letter": "ada"})
    assert (answer.status_code, answer.json()["user"]) == (201, str(ada.pk))


def test_the_permissions_of_rest_framework_count_beside_signing_in(
    browser: Browser, standin: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatkit_sessions.api.base.ChatKitView.permission_classes", [OnWeekdays])
    assert_error(browser.get("sessions/"), 403, "weekend", "Come back on Monday.")
    assert_error(Browser().get("sessions/"), 403, "not_authenticated", NOT_PROVIDED)


def test_throttle_classes_are_the_settings(
    bob: User, browser: Browser, standin: StandIn, configure: Callable[..., None]
) -> None:
    configure(THROTTLE_CLASSES=["tests.api.test_access.TwoAnHour"])
    assert [browser.get("sessions/").status_code for _ in range(3)] == [200, 200, 429]
    answer = browser.post("sessions/", {})
    seconds = int(answer.headers["Retry-After"])
    assert 3590 < seconds <= 3600
    detail = f"Request was throttled. Expected available in {seconds} seconds."
    assert_error(answer, 429, "throttled", detail, retry_after=str(seconds))
    assert standin.requests == []
    assert Browser(bob).get("sessions/").status_code == 200


def test_a_throttle_that_names_no_time_gets_one(browser: Browser, configure: Callable[..., None]) -> None:
    configure(THROTTLE_CLASSES=[Never])
    answer = browser.get("sessions/")
    assert_error(answer, 429, "throttled", "Request was throttled.", retry_after="60")


def test_no_classes_at_all_is_a_choice_too(
    ada: User, standin: StandIn, configure: Callable[..., None]
) -> None:
    configure(AUTHENTICATION_CLASSES=[], PERMISSION_CLASSES=[], THROTTLE_CLASSES=[])
    answer = Browser(ada).get("sessions/")
    assert_error(answer, 403, "not_authenticated", "Sign in to start a chat.")


def test_only_json_is_spoken(browser: Browser) -> None:
    answer = browser("GET", "sessions/", Accept="text/html")
    assert_error(answer, 406, "not_acceptable", "Could not satisfy the request Accept header.")


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
@pytest.mark.parametrize("wanted", ["xml", "api", "html", "<script>"])
def test_another_format_is_refused_in_our_shape(
    browser: Browser, standin: StandIn, method: str, path: str, wanted: str
) -> None:
    assert_error(browser(method, f"{path}?format={wanted}"), 404, "not_found", "Not found.")
    assert standin.requests == []
    assert not ChatSession.objects.exists()


def test_the_cache_of_the_site_keeps_nothing(ada: User, bob: User, configure: Callable[..., None]) -> None:
    configure(AUTHENTICATION_CLASSES=[LetterAuthentication])
    session = session_of(ada)
    cached = [
        "django.middleware.cache.UpdateCacheMiddleware",
        *settings.MIDDLEWARE,
        "django.middleware.cache.FetchFromCacheMiddleware",
    ]
    with override_settings(MIDDLEWARE=cached):
        listed = [
            [row["id"] for row in Browser()("GET", "sessions/", **{"X-Letter": name}).json()["data"]]
            for name in ("ada", "bob", "ada")
        ]
    assert listed == [[session.upstream_id], [], [session.upstream_id]]
