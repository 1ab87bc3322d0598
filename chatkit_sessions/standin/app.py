"""The whole stand-in without its sockets: a request goes in, an answer comes out."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection
from importlib.resources import files

from .api import Api
from .conversation import Conversation, preflight
from .exchange import Answer, ApiError, RecordedRequest
from .routing import Route, dispatch
from .state import State

SCRIPT_PATH = "/deployments/chatkit/chatkit.js"

# A page of any origin may read these: the script is public, and the rest needs a secret that the page has.
CORS = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "GET, POST, OPTIONS",
    "access-control-allow-headers": "authorization, content-type",
    "access-control-expose-headers": "retry-after, x-request-id, x-session-expires-in",
    "access-control-max-age": "600",
    "cross-origin-resource-policy": "cross-origin",
}


class App:
    """Answer every path of the stand-in."""

    def __init__(
        self, state: State, *, api_keys: Collection[str] | None, workflows: Collection[str] | None
    ) -> None:
        self._routes = [
            *Api(state, api_keys=api_keys, workflows=workflows).routes(),
            *Conversation(state).routes(),
            Route(SCRIPT_PATH, {"GET": serve_script, "OPTIONS": preflight}),
        ]

    def answer(self, request: RecordedRequest) -> Answer:
        """Carry out one request."""
        try:
            return dispatch(self._routes, request)
        except ApiError as error:
            return error.answer()


def dress(request: RecordedRequest, answer: Answer) -> Answer:
    """Add the headers that every answer has, errors and faults included."""
    open_to_pages = request.endpoint.startswith("/standin/") or request.endpoint == SCRIPT_PATH
    unique = {"x-request-id": f"req_{secrets.token_hex(16)}"}
    return answer.with_headers({**unique, **CORS} if open_to_pages else unique)


def serve_script(request: RecordedRequest) -> Answer:
    """Serve the web component: one script, put together from the files beside this module."""
    headers = {"content-type": "text/javascript; charset=utf-8", "cache-control": "no-cache"}
    return Answer(200, component_script().encode(), headers)


def component_script() -> str:
    """Return the web component as one classic script that leaves no global names behind."""
    css = _read("chatkit.css") + _read("chatkit_messages.css")
    code = _read("chatkit_view.js") + _read("chatkit.js")
    return f'(() => {{\n"use strict";\nconst CSS_TEXT = {json.dumps(css)};\n{code}}})();\n'


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
