"""What the doctor says of the headers of the site's pages and of the allow list."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.core.signals import request_finished, request_started
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import get_urlconf
from django.utils import timezone, translation

from chatkit_sessions.conf import Settings, read
from chatkit_sessions.services.doctor import Finding, Level, Outcome, csp, examine, page
from chatkit_sessions.services.doctor.page import about_allow_list, about_headers, any_host
from chatkit_sessions.standin import StandIn

Respond = Callable[[HttpRequest], HttpResponse]

SCRIPT = "https://cdn.platform.openai.com/deployments/chatkit/chatkit.js"
LOOK = "Look in the browser's console for what it says of Cross-Origin-Embedder-Policy and of CSP."

seen: list[HttpRequest] = []
sent: dict[str, str] = {}


def sends_headers(get_response: Respond) -> Respond:
    """Send the headers that a test asks for."""

    def respond(request: HttpRequest) -> HttpResponse:
        seen.append(request)
        response = get_response(request)
        for name, value in sent.items():
            response[name] = value
        return response

    return respond


def fails(get_response: Respond) -> Respond:
    """Fail on every request."""

    def respond(request: HttpRequest) -> HttpResponse:
        raise RuntimeError("no browser behind it")

    return respond


def cannot_be_made(get_response: Respond) -> Respond:
    """Fail before any request."""
    raise LookupError("a secret of the site")


def answers_itself(get_response: Respond) -> Respond:
    """Send everybody to the sign-in, with other headers than pages have."""
    return lambda request: HttpResponseRedirect("/accounts/login/")


class Nonce:
    """Know whether somebody has read it."""

    was_read = False

    def __str__(self) -> str:
        self.was_read = True
        return "abc"


def allows_a_nonce(get_response: Respond) -> Respond:
    """Allow a nonce as django-csp does: where the page has read it."""

    def respond(request: HttpRequest) -> HttpResponse:
        request.csp_nonce = nonce = Nonce()  # type: ignore[attr-defined]  # django-csp's
        response = get_response(request)
        response["Content-Security-Policy"] = "script-src " + ("'nonce-abc'" if nonce.was_read else "'none'")
        return response

    return respond


def leaves_things_behind(get_response: Respond) -> Respond:
    """Change what belongs to the thread."""

    def respond(request: HttpRequest) -> HttpResponse:
        translation.activate("de")
        timezone.activate("Asia/Tokyo")
        return get_response(request)

    return respond


@pytest.fixture
def pages(settings: Any) -> Callable[..., list[Finding]]:
    """Return what is found with these headers, and with these middlewares around."""
    seen.clear()

    def look(headers: dict[str, str] | None = None, *middleware: str) -> list[Finding]:
        sent.clear()
        sent.update(headers or {})
        settings.MIDDLEWARE = [*(f"{__name__}.{name}" for name in middleware), f"{__name__}.sends_headers"]
        settings.CHATKIT_SESSIONS = {}
        return about_headers(read()[0])

    return look


Pages = Callable[..., list[Finding]]


def test_nothing_in_the_way_is_told_with_what_cannot_be_seen(pages: Pages) -> None:
    assert pages() == [
        Finding(
            "headers",
            Level.OK,
            "What the site's middleware sets of Cross-Origin-Embedder-Policy and Content-Security-Policy "
            "(script-src, style-src, connect-src, frame-src) lets the chat through. "
            "Headers that a view or a proxy in front sets are not seen from here.",
        )
    ]


@pytest.mark.parametrize("value", ["require-corp", "credentialless", ' Require-Corp; report-to="a"'])
def test_an_embedder_policy_that_blanks_the_frame_is_an_error(pages: Pages, value: str) -> None:
    word = value.strip().lower().partition(";")[0]
    assert pages({"Cross-Origin-Embedder-Policy": value}) == [
        Finding(
            "coep",
            Level.ERROR,
            f"Cross-Origin-Embedder-Policy is {word}: the widget's frame stays blank.",
            "Do not send it with pages that have the chat, or send unsafe-none there.",
        )
    ]


@pytest.mark.parametrize(
    "headers",
    [
        {"Cross-Origin-Embedder-Policy": "unsafe-none"},
        {"Cross-Origin-Embedder-Policy-Report-Only": "require-corp"},
        {"Content-Security-Policy-Report-Only": "default-src 'none'"},
    ],
)
def test_a_header_that_forbids_nothing_is_no_matter(pages: Pages, headers: dict[str, str]) -> None:
    assert [finding.check for finding in pages(headers)] == ["headers"]


def forbidden(directive: str, source: str, own: str = "") -> Finding:
    """Return what is said of a policy that does not allow this."""
    return Finding(
        "csp",
        Level.WARNING,
        f"Content-Security-Policy is in the chat's way: {directive} does not allow {source}.",
        f"Let {own or directive} allow {source} on pages that have the chat.",
    )


CDN = "https://cdn.platform.openai.com"


@pytest.mark.parametrize(
    ("policy", "found"),
    [
        (
            "default-src 'self'; frame-src 'none'",
            [forbidden("default-src", CDN, "script-src"), forbidden("frame-src", CDN)],
        ),
        (
            "default-src 'none'",
            [
                forbidden("default-src", "'self'", "script-src"),
                forbidden("default-src", CDN, "script-src"),
                forbidden("default-src", "'self'", "style-src"),
                forbidden("default-src", "'self'", "connect-src"),
                forbidden("default-src", CDN, "frame-src"),
            ],
        ),
        (f"script-src {CDN}", [forbidden("script-src", "'self'")]),
        ("style-src-elem https:; connect-src 'none'", [forbidden("connect-src", "'self'")]),
        (
            f"connect-src {CDN}; style-src 'unsafe-inline'",
            [forbidden("style-src", "'self'"), forbidden("connect-src", "'self'")],
        ),
        ("script-src 'nonce-abc'; style-src 'nonce-abc'", []),
        ("connect-src 'nonce-abc'", [forbidden("connect-src", "'self'")]),
    ],
)
def test_a_content_policy_that_is_in_the_chats_way_is_a_warning(
    pages: Pages, policy: str, found: list[Finding]
) -> None:
    told = [finding for finding in pages({"Content-Security-Policy": policy}) if finding.check == "csp"]
    assert told == found


def test_a_nonce_is_read_as_pages_with_the_chat_do(pages: Pages) -> None:
    assert [finding.check for finding in pages({}, "allows_a_nonce")] == ["headers"]


def test_the_nonce_of_django_is_read_too(settings: Any) -> None:
    policies = pytest.importorskip("django.utils.csp", reason="needs Django 6.0").CSP
    settings.MIDDLEWARE = ["django.middleware.csp.ContentSecurityPolicyMiddleware"]
    settings.SECURE_CSP = {"script-src": [policies.SELF, policies.NONCE]}
    assert [finding.check for finding in about_headers(read()[0])] == ["headers"]


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("static/", "'self'"),
        ("/assets/", "'self'"),
        ("https://files.example.com/static/", "https://files.example.com"),
        ("//files.example.com:8443/", "https://files.example.com:8443"),
    ],
)
def test_static_files_come_from_where_the_site_keeps_them(
    settings: Any, pages: Pages, address: str, source: str
) -> None:
    settings.STATIC_URL = address
    assert pages({"Content-Security-Policy": f"script-src {CDN}; style-src 'none'"}) == [
        forbidden("script-src", source),
        forbidden("style-src", source),
    ]


def test_both_headers_are_told(pages: Pages) -> None:
    found = pages({"Cross-Origin-Embedder-Policy": "require-corp", "Content-Security-Policy": "frame-src a"})
    assert [finding.check for finding in found] == ["coep", "csp"]


@pytest.mark.django_db
def test_a_header_that_blanks_the_frame_is_a_failure_although_sessions_can_be_had(
    standin: StandIn, settings: Any
) -> None:
    settings.MIDDLEWARE = [f"{__name__}.sends_headers"]
    sent.update({"Cross-Origin-Embedder-Policy": "require-corp"})
    diagnosis = examine()
    sent.clear()
    assert (diagnosis.outcome, diagnosis.ok) == (Outcome.CANCELLED, False)


def test_a_component_of_ones_own_needs_no_frame(settings: Any, pages: Pages) -> None:
    pages({"Content-Security-Policy": "frame-src 'none'; script-src 'self' http://127.0.0.1:8010"})
    settings.CHATKIT_SESSIONS = {"CHATKIT_JS_URL": "http://127.0.0.1:8010/chatkit.js"}
    (told,) = about_headers(read()[0])
    # What was not looked at is not called well.
    assert "(script-src, style-src, connect-src) lets the chat through." in told.message


@pytest.mark.parametrize(
    ("header", "directive"),
    [
        ("", ""),
        ("object-src 'none'", ""),
        ("script-src 'self'", "script-src"),
        ("script-src-elem 'self'; script-src *", "script-src-elem"),
        ("default-src 'self'", "default-src"),
        ("default-src 'self'; script-src *", ""),
        ("script-src *; script-src 'none'", ""),  # the first of two counts
        ("script-src 'none'; script-src *", "script-src"),
        ("script-src", "script-src"),
        ("script-src 'none'", "script-src"),
        ("SCRIPT-SRC HTTPS://CDN.platform.OPENAI.com", ""),
        ("script-src https:", ""),
        ("script-src http:", "script-src"),
        ("script-src cdn.platform.openai.com", ""),
        ("script-src http://cdn.platform.openai.com", ""),
        ("script-src wss://cdn.platform.openai.com", "script-src"),
        ("script-src *.openai.com", ""),
        ("script-src *.cdn.platform.openai.com", "script-src"),
        ("script-src *.enai.com", "script-src"),
        ("script-src https://cdn.platform.openai.com:443", ""),
        ("script-src https://cdn.platform.openai.com:*", ""),
        ("script-src https://cdn.platform.openai.com:8443", "script-src"),
        ("script-src https://cdn.platform.openai.com/deployments/", ""),
        ("script-src 'nonce-abc' 'strict-dynamic'", ""),
        ("script-src 'self', script-src *", "script-src"),  # two headers count both
        ("script-src * ;; frame-src 'none'", ""),
    ],
)
def test_a_content_policy_is_read_as_browsers_do(header: str, directive: str) -> None:
    assert csp.forbidding(header, "script-src", SCRIPT, "chat.example.com") == directive


@pytest.mark.parametrize(
    ("header", "directive"),
    [
        ("child-src 'self'", "child-src"),
        ("child-src 'none'; frame-src https://cdn.platform.openai.com", ""),
        ("default-src 'none'; script-src *", "default-src"),
    ],
)
def test_frames_have_directives_of_their_own(header: str, directive: str) -> None:
    assert csp.forbidding(header, "frame-src", SCRIPT, "chat.example.com") == directive


def test_self_is_this_site() -> None:
    assert csp.forbidding("script-src 'self'", "script-src", "https://a.example/x.js", "a.example") == ""


def test_the_request_is_one_that_the_site_answers(settings: Any, pages: Pages) -> None:
    settings.ALLOWED_HOSTS = [".example.com"]
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    settings.SECURE_SSL_REDIRECT = True
    pages()
    settings.MIDDLEWARE.insert(0, "django.middleware.security.SecurityMiddleware")
    assert about_headers(read()[0])[0].level is Level.OK
    assert (seen[-1].get_host(), seen[-1].is_secure(), seen[-1].path) == (
        "example.com",
        True,
        "/chatkit-doctor/",
    )


def test_without_a_proxys_header_the_request_is_secure_too(pages: Pages) -> None:
    pages()
    assert seen[-1].is_secure()


@pytest.mark.parametrize(
    ("allowed", "host"),
    [([], "localhost"), (["*"], "localhost"), ([".a.example"], "a.example"), (["b"], "b")],
)
def test_the_host_is_one_of_the_sites(settings: Any, allowed: list[str], host: str) -> None:
    settings.ALLOWED_HOSTS = allowed
    assert any_host() == host


def test_middleware_that_cannot_be_made_breaks_nothing(pages: Pages) -> None:
    assert pages({}, "cannot_be_made") == [
        Finding(
            "headers",
            Level.INFO,
            "The site's middleware raised LookupError, so its headers were not seen.",
            LOOK,
        )
    ]


def test_middleware_that_fails_breaks_nothing_and_tells_nobody(
    pages: Pages, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        found = pages({}, "fails")
    assert found == [
        Finding(
            "headers",
            Level.INFO,
            "The site's middleware answered 500, so its headers may not be seen.",
            LOOK,
        )
    ]
    assert caplog.records == []
    logging.getLogger("django.request").warning("heard again")
    assert caplog.messages == ["heard again"]


def test_middleware_that_sends_the_request_elsewhere_has_not_shown_the_headers_of_a_page(
    pages: Pages,
) -> None:
    assert pages({}, "answers_itself") == [
        Finding(
            "headers",
            Level.INFO,
            "The site's middleware answered 302, so its headers may not be seen.",
            LOOK,
        )
    ]


@pytest.mark.django_db
def test_a_request_leaves_nothing_behind(settings: Any, pages: Pages) -> None:
    before = (translation.get_language(), timezone.get_current_timezone_name(), get_urlconf())
    pages({}, "leaves_things_behind")
    assert (translation.get_language(), timezone.get_current_timezone_name(), get_urlconf()) == before


def test_where_translations_are_off_they_stay_off(pages: Pages) -> None:
    with translation.override(None):
        pages({}, "leaves_things_behind")
        assert translation.get_language() is None


def test_no_signal_of_a_request_is_sent(pages: Pages) -> None:
    heard: list[object] = []

    def listen(**arguments: Any) -> None:
        heard.append(arguments)

    for signal in (request_started, request_finished):
        signal.connect(listen)
    try:
        pages()
    finally:
        for signal in (request_started, request_finished):
            signal.disconnect(listen)
    assert heard == []


LIST = "https://platform.openai.com/settings/organization/security/domain-allowlist"


@pytest.mark.parametrize(
    ("allowed", "trusted", "cure"),
    [
        (
            ["*", "localhost", "127.0.0.1", "[::1]", "app.localhost"],
            [],
            f"ALLOWED_HOSTS names no public host yet. Those that come belong on the list: {LIST}",
        ),
        (["Chat.example.com", "localhost"], [], f"See that chat.example.com is on the list: {LIST}"),
        (
            [".example.com", "b.example"],
            ["https://*.example.org", "https://a.example:8443", "http://localhost:8000"],
            f"See that a.example, b.example, example.com are on the list: {LIST}",
        ),
        (["192.168.1.7"], [], f"See that 192.168.1.7 is on the list: {LIST}"),
    ],
)
def test_the_allow_list_is_brought_to_mind_with_the_sites_hosts(
    settings: Any, allowed: list[str], trusted: list[str], cure: str
) -> None:
    settings.ALLOWED_HOSTS, settings.CSRF_TRUSTED_ORIGINS = allowed, trusted
    assert about_allow_list() == Finding(
        "allow-list",
        Level.INFO,
        "A page on a domain that is not on the allow list at OpenAI shows a blank frame; so does plain http "
        "on an address of the local network.",
        cure,
    )


def test_the_widget_comes_from_the_host_that_is_looked_for() -> None:
    assert Settings.chatkit_js_url.split("/")[2] == page.WIDGET_HOST
