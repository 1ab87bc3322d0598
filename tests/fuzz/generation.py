"""Requests, generated from the published description of the endpoints and then made worse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok

from chatkit_sessions.standin import Fault

from . import hostile

ROOT = Path(__file__).resolve().parent.parent.parent
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
CALLERS = ("user", "visitor", "nobody")
# Stand for ids and secrets that exist, which nobody knows before the site runs.
SESSIONS = ("own-session", "expired-session", "cancelled-session", "foreign-session")
THREADS = ("own-thread", "foreign-thread")
SECRETS = ("own-secret", "foreign-secret")
FAULTS = (
    Fault(status=500),
    Fault(status=429, headers={"Retry-After": "7"}),
    Fault(status=429, headers={"Retry-After": "\xe9"}),
    Fault(status=400),
    Fault(status=401),
    Fault(status=404),
    Fault(status=302, headers={"Location": "http://127.0.0.1:9/"}),
    Fault(status=200),
    Fault(drop=True),
    Fault(delay=0.1),
    Fault(truncate=9),
    Fault(body="<html>"),
    Fault(body=[]),
    Fault(body={"data": 1, "id": 2, "client_secret": None}),
    Fault(body={"data": [{}], "has_more": False}),
)


@dataclass(frozen=True, kw_only=True)
class Generated:
    """One request, and what the chat service makes of it.

    Attributes:
        case: the request as the description has it; answers are held against its operation.
        path, query, body: with the names above in place of what exists.
        has_token: whether the page's CSRF token comes along.
    """

    case: Case[Any]
    method: str
    path: str
    query: str
    body: bytes
    headers: Mapping[str, str]
    caller: str
    has_token: bool
    fault: Fault | None

    def __repr__(self) -> str:
        shown = {name: value for name, value in vars(self).items() if name != "case"}
        return f"Generated({self.case.operation.label}, {shown})"

    @property
    def is_described(self) -> bool:
        """Tell whether the description knows the method for this path."""
        return self.method == self.case.method


def published_schema() -> dict[str, Any]:
    """Return the description that the example project publishes."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DJANGO_")}
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "example_project" / "manage.py"),
            "spectacular",
            "--format",
            "openapi-json",
        ],
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    schema: dict[str, Any] = json.loads(done.stdout)
    return schema


def requests_of(schema: Mapping[str, Any]) -> st.SearchStrategy[Generated]:
    """Return the strategy of requests to every operation of a description."""
    cases = []
    for result in schemathesis.openapi.from_dict(dict(schema)).get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()
        cases.append(operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
        # Of ids alone there is no wrong one: any text may be one.
        if operation.query or operation.body:
            cases.append(operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    return _worsened(st.one_of(cases))


@st.composite
def _worsened(draw: st.DrawFn, cases: st.SearchStrategy[Case[Any]]) -> Generated:
    """Put what exists and what is hostile into a request, or leave it as it is."""
    case = draw(cases)
    case.path_parameters = {
        name: draw(_segments(name, value)) for name, value in case.path_parameters.items()
    }
    case.query = {**case.query, **draw(_EXTRA_QUERY)}
    method = draw(st.sampled_from([case.method] * 20 + _undescribed_methods(case)))
    headers = draw(_HEADERS)
    sent = case.as_transport_kwargs(base_url="http://testserver")
    body = _encoded(sent)
    if method == "POST" and draw(_SOMETIMES):
        body = draw(_BODIES)
    return Generated(
        case=case,
        method=method,
        path=sent["url"].removeprefix("http://testserver"),
        query=urlencode(sent.get("params") or {}, doseq=True, errors="replace"),
        body=body,
        headers=headers,
        caller=draw(st.sampled_from(CALLERS)),
        has_token=draw(_MOSTLY),
        fault=draw(_FAULTS),
    )


def _undescribed_methods(case: Case[Any]) -> list[str]:
    described = case.operation.schema[case.operation.path]
    return [method for method in METHODS if method.lower() not in list(described)]


def _segments(name: str, generated: Any) -> st.SearchStrategy[Any]:
    existing = st.sampled_from(SESSIONS if name == "session_id" else THREADS)
    return existing | existing | hostile.path_segments | st.just(generated)


def _encoded(sent: Mapping[str, Any]) -> bytes:
    """Return the body as it goes over the wire."""
    if "json" in sent:
        return json.dumps(sent["json"]).encode()
    data = sent.get("data") or b""
    return data if isinstance(data, bytes) else str(data).encode(errors="replace")


_MOSTLY = st.sampled_from([True] * 9 + [False])
_SOMETIMES = st.sampled_from([True, False, False])
_HEADERS: st.SearchStrategy[dict[str, str]] = st.one_of(
    st.just({}),
    st.just({}),
    st.lists(hostile.headers, max_size=3).map(dict),
    st.sampled_from(hostile.CONTENT_TYPES).map(lambda value: {"Content-Type": value}),
)
_EXISTING = st.sampled_from([*SESSIONS, *THREADS])
_EXTRA_QUERY: st.SearchStrategy[dict[str, str]] = st.one_of(
    st.just({}),
    st.just({}),
    st.dictionaries(st.sampled_from(["after", "before"]), _EXISTING, max_size=2),
    st.dictionaries(
        st.sampled_from(["limit", "order", "after", "before", "workflow", "format", "\x00"]),
        hostile.texts,
        max_size=3,
    ),
)
_BODIES = hostile.bodies | st.fixed_dictionaries(
    {"current_client_secret": st.sampled_from(SECRETS)}, optional={"workflow": hostile.values}
).map(lambda body: json.dumps(body).encode())
_FAULTS = st.sampled_from([None] * 3 * len(FAULTS) + list(FAULTS))
