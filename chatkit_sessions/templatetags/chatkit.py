"""``{% chatkit %}``: the widget on a page."""

from __future__ import annotations

import json
from typing import Any

from django import template
from django.conf import settings as django_settings
from django.core.serializers.json import DjangoJSONEncoder
from django.http import HttpRequest
from django.middleware.csrf import get_token
from django.template import Context, TemplateSyntaxError
from django.urls import reverse
from django.utils.translation import gettext

from chatkit_sessions.conf import get_settings
from chatkit_sessions.exceptions import ChatKitSessionsError
from chatkit_sessions.identity import resolve_identity
from chatkit_sessions.widget.options import MODES, header_name, widget_config
from chatkit_sessions.workflows import find_workflow

register = template.Library()


@register.inclusion_tag("chatkit_sessions/widget.html", takes_context=True)
def chatkit(context: Context, workflow: str | None = None, mode: str = "panel") -> dict[str, Any]:
    """Render the widget for a workflow (by default DEFAULT_WORKFLOW), as a panel or behind a launcher.

    Raises:
        TemplateSyntaxError: the mode is neither, or the template is rendered without a request.
    """
    if mode not in MODES:
        raise TemplateSyntaxError(
            f"{{% chatkit %}}: mode must be {' or '.join(map(repr, MODES))}, not {mode!r}."
        )
    request = context.get("request")
    if request is None:
        raise TemplateSyntaxError(
            "{% chatkit %} needs the request: render the template with it, and add "
            "'django.template.context_processors.request' to the context processors."
        )
    # Two widgets on a page share their scripts: the custom element can be defined only once.
    first = not getattr(request, "_chatkit_sessions_scripts", False)
    request._chatkit_sessions_scripts = True
    return {
        "mode": mode,
        "config": json.dumps(_config(request, workflow), cls=DjangoJSONEncoder),
        "load_scripts": first,
        "script_url": _script_url(),
        "nonce": _nonce(context, request),
    }


def _nonce(context: Context, request: HttpRequest) -> str:
    """Return the nonce of Django's own context processor or of django-csp, or ""."""
    nonce = context.get("csp_nonce")
    if nonce is None:
        nonce = getattr(request, "csp_nonce", None)
    # Django's is false until somebody has read it: ask for None, not for truth.
    return "" if nonce is None else str(nonce)


def _config(request: HttpRequest, workflow: str | None) -> dict[str, Any]:
    return widget_config(
        sessions_url=reverse("chatkit_sessions:session-list"),
        csrf_token=get_token(request),
        csrf_header=header_name(django_settings.CSRF_HEADER_NAME),
        workflow=workflow,
        ui_options=_ui_options(request, workflow),
        messages={
            "failed": gettext("The chat could not be started."),
            "blocked": gettext(
                "The chat could not be loaded. Check your connection, or ask the site's operator."
            ),
        },
    )


def _ui_options(request: HttpRequest, workflow: str | None) -> dict[str, Any]:
    """Return the workflow's options; where there are none to be had, the endpoint will say why."""
    user = getattr(request, "user", None)
    try:
        settings = get_settings()
        identity = resolve_identity(settings, user=user, request=request)
        options: dict[str, Any] = find_workflow(settings, workflow, identity).get("ui_options", {})
    except ChatKitSessionsError:
        return {}
    return options


def _script_url() -> str:
    try:
        return get_settings().chatkit_js_url
    except ChatKitSessionsError:
        return ""
