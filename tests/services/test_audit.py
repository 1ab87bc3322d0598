import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import RequestFactory

from chatkit_sessions.client import ChatKitSession
from chatkit_sessions.models import ChatSession
from chatkit_sessions.services import IssuedSession
from chatkit_sessions.services.audit import MAX_RESPONSE_BYTES, bounded_response
from chatkit_sessions.standin import Fault

from .conftest import Api

Issue = Callable[..., IssuedSession]
Configure = Callable[..., None]

SESSION: dict[str, Any] = {
    "id": "cksess_1",
    "object": "chatkit.session",
    "status": "active",
    "client_secret": "ek_secret",
    "expires_at": 1_793_615_400,
    "user": "ada",
    "workflow": {
        "id": "wf_1",
        "version": "2",
        "state_variables": {"tier": "gold"},
        "tracing": {"enabled": True},
    },
    "rate_limits": {"max_requests_per_1_minute": 10},
    "max_requests_per_1_minute": 10,
    "chatkit_configuration": {"history": {"enabled": True}},
}
WORKFLOW = {"id": "wf_1", "version": "2", "tracing": {"enabled": True}}
KNOWN = {key: value for key, value in SESSION.items() if key != "client_secret"} | {"workflow": WORKFLOW}


def response(**changes: Any) -> dict[str, Any]:
    kept = bounded_response(ChatKitSession.parse({**SESSION, **changes}))
    assert len(json.dumps(kept).encode()) <= MAX_RESPONSE_BYTES == 65_536
    return kept


def test_an_answer_is_kept_with_what_is_unknown_in_it() -> None:
    assert response(region="eu", nested={"a": [1, None, 2.5]}) == {
        **KNOWN,
        "region": "eu",
        "nested": {"a": [1, None, 2.5]},
    }


def test_an_answer_of_just_64_kib_is_kept_whole() -> None:
    room = 65_536 - len(json.dumps({**KNOWN, "extra": ""}))
    assert response(extra="x" * room)["extra"] == "x" * room
    assert response(extra="x" * (room + 1)) == KNOWN


def test_bytes_are_counted_not_characters() -> None:
    """JSON writes an emoji as twelve bytes."""
    assert response(extra="🙂" * 6_000) == KNOWN


def test_unknown_fields_go_before_any_known_one() -> None:
    large = {**WORKFLOW, "unknown": "x" * 60_000}
    assert response(workflow=large, extra="y" * 10_000) == {**KNOWN, "workflow": large}


def test_values_of_state_variables_are_never_kept() -> None:
    """They may be private; the policy has their names."""
    private = {**WORKFLOW, "state_variables": {"diagnosis": "x"}, "unknown": 1}
    assert response(workflow=private, extra=1) == {
        **KNOWN,
        "workflow": {**WORKFLOW, "unknown": 1},
        "extra": 1,
    }


@pytest.mark.parametrize("secret", ["plainsecret", "plain\x00secret"])
@pytest.mark.parametrize("repeated", ["plainsecret", "plain\x00secret", "plainsecr\x00et"])
def test_a_secret_is_not_kept_in_pieces_either(secret: str, repeated: str) -> None:
    kept = response(client_secret=secret, extra={f"x {repeated}": [f"{repeated} y"]})
    assert kept == {**KNOWN, "extra": {"x [removed]": ["[removed] y"]}}


def test_a_known_field_that_is_too_long_goes_alone() -> None:
    kept = response(chatkit_configuration={"notes": "x" * 70_000})
    assert kept == {key: value for key, value in KNOWN.items() if key != "chatkit_configuration"}


def test_an_answer_without_a_workflow_can_be_too_long_too() -> None:
    older = {"client_secret": "ek_1", "expires_at": 1_793_615_400, "scope": "x" * 70_000, "user": "ada"}
    assert bounded_response(ChatKitSession.parse(older)) == {"expires_at": 1_793_615_400, "user": "ada"}


def test_a_long_answer_is_stored_bounded(issue: Issue, api: Api) -> None:
    api.misbehave(Fault(body={**SESSION, "extra": "x" * 100_000}))
    issue()
    assert ChatSession.objects.get().response == KNOWN


@pytest.mark.parametrize("record", [True, False])
def test_the_client_is_recorded_where_the_site_wants_it(
    issue: Issue, rf: RequestFactory, configure: Configure, record: bool
) -> None:
    configure(RECORD_CLIENT=record)
    request = rf.post("/", REMOTE_ADDR="192.0.2.7", HTTP_USER_AGENT="Moz\x00illa " + "x" * 300)
    row = ChatSession.objects.get(pk=issue(request=request).session.pk)
    expected = ("192.0.2.7", ("Mozilla " + "x" * 300)[:255]) if record else (None, "")
    assert (row.ip_address, row.user_agent) == expected


def test_without_a_request_there_is_no_client_to_record(issue: Issue, configure: Configure) -> None:
    configure(RECORD_CLIENT=True)
    row = issue().session
    assert (row.ip_address, row.user_agent) == (None, "")


def test_a_browser_that_names_nothing_is_recorded_so(
    issue: Issue, rf: RequestFactory, configure: Configure
) -> None:
    configure(RECORD_CLIENT=True)
    row = issue(request=rf.post("/", REMOTE_ADDR="")).session
    assert (row.ip_address, row.user_agent) == (None, "")
