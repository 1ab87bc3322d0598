"""What the browser will meet: the headers of the site's pages, and the allow list at OpenAI."""

from __future__ import annotations

import io
import ipaddress
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

from django.conf import settings as django_settings
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import get_urlconf, set_urlconf
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from chatkit_sessions.conf import Settings

from . import csp
from .findings import Finding, error, info, ok, warning

ALLOW_LIST_PAGE = "https://platform.openai.com/settings/organization/security/domain-allowlist"
WIDGET_HOST = "cdn.platform.openai.com"
PATH = "/chatkit-doctor/"
BLANK_FRAME = frozenset({"require-corp", "credentialless"})


def about_headers(settings: Settings) -> list[Finding]:
    """Send one request through the site's own middleware, and look at the headers in the chat's way."""
    try:
        response = _ask(any_host())
    # The middleware is the site's own, and may fail on a request without a browser behind it.
    except Exception as err:
        message = _("The site's middleware raised %(error)s, so its headers were not seen.")
        return [info("headers", message % {"error": type(err).__name__}, _look_yourself())]
    if response.status_code >= 300:
        message = _("The site's middleware answered %(status)d, so its headers may not be seen.")
        return [info("headers", message % {"status": response.status_code}, _look_yourself())]
    needs = _needs(settings.chatkit_js_url)
    if found := [*_embedder_policy(response), *_content_policy(response, needs)]:
        return found
    message = _(
        "What the site's middleware sets of Cross-Origin-Embedder-Policy and Content-Security-Policy "
        "(%(directives)s) lets the chat through. Headers that a view or a proxy in front sets are not seen "
        "from here."
    )
    directives = dict.fromkeys(directive for directive, _address in needs)
    return [ok("headers", message % {"directives": ", ".join(directives)})]


def _look_yourself() -> str:
    return _("Look in the browser's console for what it says of Cross-Origin-Embedder-Policy and of CSP.")


def _embedder_policy(response: HttpResponseBase) -> Iterator[Finding]:
    name = "Cross-Origin-Embedder-Policy"
    value = response.headers.get(name, "").partition(";")[0].strip().lower()
    if value in BLANK_FRAME:
        yield error(
            "coep",
            _("%(header)s is %(value)s: the widget's frame stays blank.") % {"header": name, "value": value},
            _("Do not send it with pages that have the chat, or send unsafe-none there."),
        )


def _needs(script_url: str) -> list[tuple[str, str]]:
    """Return what a page with the chat loads and asks for: the directive, and an address it must allow."""
    page = f"https://{any_host()}/"
    files = urljoin(page, django_settings.STATIC_URL)
    needs = [("script-src", files), ("script-src", script_url), ("style-src", files), ("connect-src", page)]
    if urlsplit(script_url).hostname == WIDGET_HOST:  # the stand-in's component puts no frame into the page
        needs.append(("frame-src", script_url))
    return needs


def _content_policy(response: HttpResponseBase, needs: list[tuple[str, str]]) -> Iterator[Finding]:
    header = response.headers.get("Content-Security-Policy", "")
    for wanted, address in needs:
        if directive := csp.forbidding(header, wanted, address, any_host()):
            parts = urlsplit(address)
            source = "'self'" if parts.hostname == any_host() else f"{parts.scheme}://{parts.netloc}"
            own = wanted if directive == "default-src" else directive
            yield warning(
                "csp",
                _("Content-Security-Policy is in the chat's way: %(directive)s does not allow %(source)s.")
                % {"directive": directive, "source": source},
                _("Let %(own)s allow %(source)s on pages that have the chat.")
                % {"own": own, "source": source},
            )


class _Handler(WSGIHandler):
    """The site's middleware around an empty page: no view runs, and no debug page drops headers."""

    def _get_response(self, request: HttpRequest) -> HttpResponse:
        # A policy has a nonce only where a page has read it, as those with the chat do.
        str(getattr(request, "csp_nonce", getattr(request, "_csp_nonce", "")))
        return HttpResponse()


def _ask(host: str) -> HttpResponseBase:
    # Without the signals of a request: they would close database connections that are in use here.
    with _as_it_was():
        return _Handler().get_response(WSGIRequest(_environ(host)))


def _environ(host: str) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": PATH,
        "QUERY_STRING": "",
        "SERVER_NAME": host,
        "SERVER_PORT": "443",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": host,
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": True,
    }


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Undo what a request leaves behind in this thread, and log nothing of it: nobody has made it."""
    logger, urlconf = logging.getLogger("django.request"), get_urlconf()
    language = translation.get_language() or django_settings.LANGUAGE_CODE
    logger.addFilter(_nothing)
    try:
        with translation.override(language), timezone.override(None):
            yield
    finally:
        logger.removeFilter(_nothing)
        set_urlconf(urlconf)


def _nothing(record: logging.LogRecord) -> bool:
    return False


def any_host() -> str:
    """Return a host that this site answers for."""
    named = next(iter(django_settings.ALLOWED_HOSTS), "*")
    return "localhost" if named == "*" else named.removeprefix(".")


def about_allow_list() -> Finding:
    """Remind of the one thing that cannot be seen from here at all."""
    message = _(
        "A page on a domain that is not on the allow list at OpenAI shows a blank frame; so does plain http "
        "on an address of the local network."
    )
    hosts = _public_hosts()
    if not hosts:
        cure = _("ALLOWED_HOSTS names no public host yet. Those that come belong on the list: %(page)s")
        return info("allow-list", message, cure % {"page": ALLOW_LIST_PAGE})
    cure = _("See that %(hosts)s is on the list: %(page)s")
    if len(hosts) > 1:
        cure = _("See that %(hosts)s are on the list: %(page)s")
    return info("allow-list", message, cure % {"hosts": ", ".join(hosts), "page": ALLOW_LIST_PAGE})


def _public_hosts() -> list[str]:
    origins = [urlsplit(origin).hostname or "" for origin in django_settings.CSRF_TRUSTED_ORIGINS]
    hosts = {host.removeprefix(".").lower() for host in [*django_settings.ALLOWED_HOSTS, *origins]}
    return sorted(host for host in hosts if host and "*" not in host and not _is_loopback(host))


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
