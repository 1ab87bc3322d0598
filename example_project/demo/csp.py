"""A content security policy without 'unsafe-inline': what a page with the chat must allow, and no more."""

from collections.abc import Callable
from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponseBase

from chatkit_sessions.conf import get_settings


class ContentSecurityPolicyMiddleware:
    """Allow scripts of this site and of the origin that the chat's script comes from."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        response["Content-Security-Policy"] = policy()
        return response


def policy() -> str:
    """Return the policy.

    The chat's script brings its own frame and styles, from addresses that its publisher does not list, so
    frames and styles are not restricted here.
    """
    script = urlsplit(get_settings().chatkit_js_url)
    return "; ".join(
        [
            f"script-src 'self' {script.scheme}://{script.netloc}",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        ]
    )
