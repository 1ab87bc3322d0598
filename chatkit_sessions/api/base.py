"""What all views share."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from django.http import HttpRequest
from django.utils.cache import patch_vary_headers
from django.views.decorators.debug import sensitive_post_parameters
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from chatkit_sessions.conf import get_settings
from chatkit_sessions.exceptions import NotConfigured
from chatkit_sessions.identity import load
from chatkit_sessions.services.storage import non_atomic
from chatkit_sessions.visitors import hide_cookie, remember_visitor

from .errors import handle_exception
from .parsers import BoundedJSONParser


class ChatKitView(APIView):
    """A JSON view that takes its classes from CHATKIT_SESSIONS, never caches and runs in no transaction."""

    parser_classes = (BoundedJSONParser,)
    renderer_classes = (JSONRenderer,)
    _misconfigured: NotConfigured | None = None

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        """Opt out of ATOMIC_REQUESTS: a rollback would erase the audit."""
        # A form is refused here, but what it holds (a secret, perhaps) would stand in an error report.
        return non_atomic(sensitive_post_parameters()(super().as_view(**initkwargs)))

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        """Hide the visitor's cookie before anything can fail."""
        hide_cookie(request)
        return super().initialize_request(request, *args, **kwargs)

    def get_authenticators(self) -> list[BaseAuthentication]:
        """Use AUTHENTICATION_CLASSES, or REST framework's."""
        try:
            own = _instances(get_settings().authentication_classes, "AUTHENTICATION_CLASSES")
        except NotConfigured as error:
            # Too early to answer an error: `initial` raises it, and until then nobody is signed in.
            self._misconfigured = error
            return []
        return super().get_authenticators() if own is None else own

    def get_permissions(self) -> list[Any]:
        """Use PERMISSION_CLASSES, or REST framework's and, unless visitors are welcome, a signed-in user."""
        settings = get_settings()
        own = _instances(settings.permission_classes, "PERMISSION_CLASSES")
        if own is not None:
            return own
        signed_in = [] if settings.allow_anonymous else [IsAuthenticated()]
        return [*super().get_permissions(), *signed_in]

    def get_throttles(self) -> list[BaseThrottle]:
        """Use THROTTLE_CLASSES, or REST framework's."""
        own = _instances(get_settings().throttle_classes, "THROTTLE_CLASSES")
        return super().get_throttles() if own is None else own

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Enforce CSRF for visitors too, which REST framework does only for accounts."""
        if self._misconfigured:
            raise self._misconfigured
        super().initial(request, *args, **kwargs)
        # A site's own class may well authenticate somebody without an account, whom the cookie alone tells.
        is_account = request.successful_authenticator and getattr(request.user, "is_authenticated", False)
        if not is_account:
            SessionAuthentication().enforce_csrf(request)

    def get_exception_handler(self) -> Callable[..., Response | None]:
        """Answer errors in one shape, whatever the site's own handler is."""
        return handle_exception

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        """Forbid caches, for every answer here is for one person, and know a visitor again next time."""
        response = super().finalize_response(request, response, *args, **kwargs)
        # "private" is for the cache middleware of some releases of Django 5.2: it overlooks "no-store".
        response["Cache-Control"] = "private, no-store"
        patch_vary_headers(response, ("Cookie", "Authorization"))
        if request.method == "POST":
            remember_visitor(request._request, response)
        return response


def _instances(classes: Collection[Any] | None, key: str) -> list[Any] | None:
    """Return an instance of each class that a setting names, or None where it leaves the choice."""
    return None if classes is None else [load(entry, key)() for entry in classes]
