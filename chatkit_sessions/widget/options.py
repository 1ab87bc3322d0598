"""The configuration of the widget's page code. Pure: it knows neither requests nor the database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Mode = Literal["panel", "launcher"]
MODES: tuple[Mode, ...] = ("panel", "launcher")


def widget_config(
    *,
    sessions_url: str,
    csrf_token: str,
    csrf_header: str,
    workflow: str | None,
    ui_options: Mapping[str, Any],
    messages: Mapping[str, str],
) -> dict[str, Any]:
    """Return what the page code reads from its element.

    ``ui_options`` go to ChatKit's ``setOptions`` as they are; ``messages`` are translated sentences by name.
    """
    return {
        "sessionsUrl": sessions_url,
        "csrfToken": csrf_token,
        "csrfHeader": csrf_header,
        "workflow": workflow,
        "options": dict(ui_options),
        "messages": dict(messages),
    }


def header_name(meta_name: str) -> str:
    """Return the header's name as a browser sends it, from CSRF_HEADER_NAME's form (``HTTP_X_CSRFTOKEN``)."""
    return meta_name.removeprefix("HTTP_").replace("_", "-")
