"""People without an account: their cookie and their address."""

from __future__ import annotations

import ipaddress
import re
import secrets
from datetime import timedelta

from django.conf import settings as django_settings
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import salted_hmac
from rest_framework.settings import api_settings

from .secret import hide

COOKIE = "chatkit_visitor"
COOKIE_AGE = timedelta(days=30)
_WITH_PORT = re.compile(r"^(?:([0-9.]+):[0-9]+|\[(.*)\](?::[0-9]+)?)$")


def hide_cookie(request: HttpRequest) -> None:
    """Keep the cookie out of error reports: beside the CSRF secret, which they show, it could be used."""
    request.COOKIES.update(hide(request.COOKIES, COOKIE))


def visitor_id(request: HttpRequest) -> str:
    """Return the random id of this browser's cookie, or a new one that ``remember_visitor`` makes last."""
    if not hasattr(request, "_chatkit_visitor"):
        hide_cookie(request)
        known = request.get_signed_cookie(COOKIE, default=None, salt=_salt(request), max_age=COOKIE_AGE)
        request._chatkit_visitor_is_new = known is None  # type: ignore[attr-defined]  # ours
        request._chatkit_visitor = known or f"visitor-{secrets.token_hex(16)}"  # type: ignore[attr-defined]  # ours
    found: str = request._chatkit_visitor  # type: ignore[attr-defined]  # ours
    return found


def is_new_visitor(request: HttpRequest) -> bool:
    """Return whether this browser came without a cookie of ours: nothing at the API can be theirs."""
    return getattr(request, "_chatkit_visitor_is_new", False)


def remember_visitor(request: HttpRequest, response: HttpResponse) -> None:
    """Set the cookie, if this request turned out to be a visitor's."""
    if not hasattr(request, "_chatkit_visitor"):
        return
    response.set_signed_cookie(
        COOKIE,
        visitor_id(request),
        salt=_salt(request),
        max_age=COOKIE_AGE,
        secure=request.is_secure() or django_settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def client_address(request: HttpRequest) -> str | None:
    """Return the browser's IP address: the connection's own, unless NUM_PROXIES names trusted proxies.

    NUM_PROXIES is REST framework's. Without it ``X-Forwarded-For`` is whatever the browser likes to claim.
    """
    address = request.META.get("REMOTE_ADDR", "")
    proxies = api_settings.NUM_PROXIES
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "").strip()
    if proxies and forwarded:
        hops = forwarded.split(",")
        address = hops[-min(proxies, len(hops))].strip()
    try:
        # Without the port that some proxies add, and without the zone ("%eth0"), which names an interface of
        # this machine and which no database stores.
        parsed = ipaddress.ip_address(_WITH_PORT.sub(r"\1\2", address).partition("%")[0])
    except ValueError:
        return None
    # A socket for both protocols shows "::ffff:192.0.2.1" for an IPv4 address.
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def address_digest(request: HttpRequest) -> str:
    """Return the keyed digest of the address that a visitor's rate is counted for.

    Of an IPv6 address only the network counts: one household has billions of them.
    """
    address = client_address(request)
    if address and ":" in address:
        address = str(ipaddress.ip_network(f"{address}/64", strict=False))
    return salted_hmac("chatkit_sessions.visitors.address", address or "", algorithm="sha256").hexdigest()


def _salt(request: HttpRequest) -> str:
    # Django changes the CSRF secret when somebody signs in. Bound to it, the cookie is void from then on,
    # also after signing out: whoever comes next on a shared computer is somebody else.
    return f"chatkit_sessions.visitors.{request.META.get('CSRF_COOKIE', '')}"
