"""Thousands of requests, well-formed and hostile, against what the site publishes of its endpoints.

CHATKIT_FUZZ_REQUESTS says how many, and CHATKIT_FUZZ_SEED which ones: the same seed sends the same requests.
"""

import os
import re
from collections import Counter
from typing import Any

import pytest
from django.test import override_settings
from django.urls import Resolver404, resolve
from hypothesis import HealthCheck, Phase, given, note, seed, settings
from requests import Request
from schemathesis import Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from chatkit_sessions import testing

from .generation import Generated, published_schema, requests_of
from .site import SETTINGS, Site

REQUESTS = int(os.environ.get("CHATKIT_FUZZ_REQUESTS", "400"))
SEED = int(os.environ.get("CHATKIT_FUZZ_SEED", "1"))
BATCH = 500
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ERROR = {"detail", "code", "reference"}
# Without these, requests were refused at the door and nothing was tried.
EXPECTED = {200, 201, 400, 403, 404}


def judge(request: Generated, answer: Any) -> None:
    """Fail for an answer that the description does not allow, or that the request is no reason for."""
    if request.fault is None:
        assert answer.status_code < 500, f"{answer.status_code} for a request that met no fault"
    if not _has_reached(request, answer):
        return
    if request.is_described:
        request.case.validate_response(_as_received(request, answer), checks=CHECKS)
    else:
        assert 400 <= answer.status_code < 500
        assert ERROR <= set(answer.json()) <= ERROR | {"errors"}


def _has_reached(request: Generated, answer: Any) -> bool:
    """Tell whether the request went where it was meant for: an id with a slash in it goes elsewhere."""
    try:
        route: str = resolve(answer.wsgi_request.path_info).route
    except Resolver404:
        return False
    return "/" + re.sub(r"<str:(\w+)>", r"{\1}", route) == str(request.case.operation.path)


def _as_received(request: Generated, answer: Any) -> Response:
    return Response(
        status_code=answer.status_code,
        headers={name.lower(): [value] for name, value in answer.headers.items()},
        content=answer.content,
        request=Request(request.method, f"http://testserver{request.path}").prepare(),
        elapsed=0.0,
        verify=False,
    )


@pytest.mark.fuzz
@pytest.mark.django_db
def test_every_answer_to_generated_requests_is_as_described() -> None:
    seen: Counter[int] = Counter()
    requests = requests_of(published_schema())

    # Behind a proxy, so that X-Forwarded-For counts.
    with override_settings(REST_FRAMEWORK={"NUM_PROXIES": 1}), testing.standin(**SETTINGS) as standin:
        site = Site(standin)
        for batch, size in enumerate(_batches(REQUESTS)):

            @seed(SEED * 1_000_000 + batch)
            @settings(
                max_examples=size,
                database=None,
                deadline=None,
                phases=[Phase.generate, Phase.shrink],
                suppress_health_check=list(HealthCheck),
            )
            @given(requests)
            def try_one(request: Generated) -> None:
                answer = site.send(request)
                seen[answer.status_code] += 1
                note(f"CHATKIT_FUZZ_SEED={SEED} {request!r}\n{answer.status_code}: {answer.content!r}")
                judge(request, answer)

            try_one()

    print(f"CHATKIT_FUZZ_SEED={SEED}: {seen.total()} requests, answered {dict(sorted(seen.items()))}")
    assert seen.total() >= REQUESTS
    assert set(seen) >= EXPECTED


def _batches(requests: int) -> list[int]:
    """Return how many requests each run of Hypothesis has: it slows down with all that it remembers."""
    full, rest = divmod(requests, BATCH)
    return [BATCH] * full + [rest] * (rest > 0)
