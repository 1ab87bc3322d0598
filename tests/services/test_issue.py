import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import connections, transaction
from django.forms.models import model_to_dict
from django.utils import timezone

from chatkit_sessions.digests import digest
from chatkit_sessions.exceptions import ChatKitSessionsError, WorkflowNotFound
from chatkit_sessions.models import ChatSession, LimitLock, PolicyOverride
from chatkit_sessions.secret import Secret
from chatkit_sessions.services import IssuedSession
from chatkit_sessions.standin import Fault
from chatkit_sessions.standin.exchange import RecordedRequest
from tests.concurrency.waits import wait_at_most

from .conftest import Api, Clock

Issue = Callable[..., IssuedSession]
Configure = Callable[..., None]

# What makes an answer usable, and nothing else: the older shape of the API reference.
OLDER_ANSWER = {
    "client_secret": "chatkit_token_123",
    "expires_at": 1_793_615_400,
    "scope": {"project": "my-project"},
    "max_requests_per_session": 20,
}


def columns(session: ChatSession) -> str:
    """Return everything that the table holds of a session, as text."""
    return json.dumps(model_to_dict(ChatSession.objects.get(pk=session.pk)), default=str)


def test_an_issued_session_has_its_row(
    issue: Issue, user: User, api: Api, clock: Clock, configure: Configure
) -> None:
    configure(EXPIRES_AFTER=300)
    issued = issue(state_variables={"tier": "gold"})
    [(upstream_id, remote)] = api.sessions.items()
    row = ChatSession.objects.get()
    assert issued.session == row
    assert issued.client_secret == remote["client_secret"]
    assert not issued.reused
    assert (row.status, row.upstream_id, row.user, row.identifier) == (
        "active",
        upstream_id,
        user,
        str(user.pk),
    )
    assert (row.workflow_slug, row.workflow_id, row.workflow_version) == ("default", "wf_tests", "")
    assert row.identity_key == hashlib.sha256(str(user.pk).encode()).hexdigest()
    assert row.secret_digest == digest(issued.client_secret)
    assert row.expires_at == clock.now + timedelta(seconds=300)
    assert row.created_at == row.issued_at == row.last_handed_out_at == clock.now
    assert (row.handed_out_count, row.attempts, row.max_requests_per_1_minute) == (1, 1, 10)
    assert (row.upstream_status, row.error_code, row.error_message) == (200, "", "")
    assert row.upstream_request_id.startswith("req_")
    assert row.latency_ms is not None
    assert 0 <= row.latency_ms < 10_000
    assert (row.ended_at, row.ended_by, row.cancel_requested_at) == (None, None, None)
    assert (row.ip_address, row.user_agent, row.address_digest) == (None, "", "")
    kept = {key: value for key, value in remote.items() if key != "client_secret"}
    kept["workflow"] = {key: value for key, value in kept["workflow"].items() if key != "state_variables"}
    assert row.response == kept
    assert row.policy["expires_after"] == {"value": 300, "layer": "setting"}
    # What the caller holds is what the table holds.
    assert model_to_dict(issued.session) == model_to_dict(row)


def test_the_secret_is_nowhere_in_the_row_nor_in_a_repr(issue: Issue) -> None:
    issued = issue()
    assert isinstance(issued.client_secret, Secret)
    assert str(issued.client_secret).startswith("ek_")
    for text in (columns(issued.session), repr(issued), repr(issued.session)):
        assert str(issued.client_secret) not in text
        assert str(issued.client_secret)[3:] not in text


@pytest.mark.django_db(transaction=True)
def test_the_pending_row_is_committed_before_the_api_is_asked(
    issue: Issue, user: User, api: Api, clock: Clock
) -> None:
    seen: list[Any] = []
    caller = connections["default"]  # the wrapper of this thread

    def watch(request: RecordedRequest) -> None:
        row = ChatSession.objects.get()  # over the connection of the server's thread
        seen.append((row.status, row.user_id, row.attempts, row.secret_digest, row.policy["credentials"]))
        seen.append(row.expires_at - clock.now)
        seen.append(caller.in_atomic_block)

    api.watch = watch
    issue()
    pending = ("pending", user.pk, 1, "", {"value": "", "layer": "default"})
    assert seen == [pending, timedelta(seconds=15 + 30), False]
    assert ChatSession.objects.get().status == "active"


@pytest.mark.django_db(transaction=True)
def test_no_lock_is_held_while_the_api_is_asked(issue: Issue, api: Api) -> None:
    seen: list[str] = []

    def watch(request: RecordedRequest) -> None:
        key = ChatSession.objects.get().identity_key
        with wait_at_most(1), transaction.atomic():
            LimitLock.objects.take([key], timezone.now())
            ChatSession.objects.update(user_agent="touched")
        seen.append("locked")

    api.watch = watch
    issue()
    assert seen == ["locked"]


def test_a_visitor_and_an_identifier_without_an_account_have_rows_too(issue: Issue) -> None:
    row = issue(identifier="kiosk 7", user=AnonymousUser()).session
    assert (row.user, row.identifier) == (None, "kiosk 7")


def test_an_answer_of_the_older_shape_is_read(issue: Issue, api: Api) -> None:
    api.misbehave(Fault(body=OLDER_ANSWER))
    issued = issue()
    row = ChatSession.objects.get()
    assert issued.client_secret == "chatkit_token_123"
    assert (row.status, row.upstream_id, row.public_id) == ("active", "", str(row.reference))
    assert row.expires_at == datetime.fromtimestamp(1_793_615_400, UTC)
    assert row.max_requests_per_1_minute == 10
    assert row.response == {key: value for key, value in OLDER_ANSWER.items() if key != "client_secret"}


@pytest.mark.parametrize(
    ("answered", "kept"),
    [
        ({"max_requests_per_1_minute": 7}, 7),
        ({"rate_limits": {"max_requests_per_1_minute": 8}}, 8),
        ({"max_requests_per_1_minute": None, "rate_limits": {"max_requests_per_1_minute": 9}}, 9),
        ({"max_requests_per_1_minute": 2_147_483_647}, 2_147_483_647),
        # What no column can hold is not believed: the policy's own stands.
        ({"max_requests_per_1_minute": 2_147_483_648}, 3),
        ({"max_requests_per_1_minute": 2**70}, 3),
        ({"max_requests_per_1_minute": -1}, 3),
        ({"max_requests_per_1_minute": 0}, 3),
        ({}, 3),
    ],
)
def test_the_rate_is_the_one_that_was_granted(
    issue: Issue, api: Api, answered: dict[str, Any], kept: int
) -> None:
    api.misbehave(Fault(body={**OLDER_ANSWER, **answered}))
    issue(max_requests_per_1_minute=3)
    assert ChatSession.objects.get().max_requests_per_1_minute == kept


def test_null_characters_of_an_answer_do_not_lose_the_session(issue: Issue, api: Api) -> None:
    extra = {"a\x00b": ["c\x00", {"d": "\x00"}], "id": "cksess_\x00z", "n": 1}
    api.misbehave(Fault(body={**OLDER_ANSWER, **extra}))
    issue()
    row = ChatSession.objects.get()
    assert (row.status, row.upstream_id) == ("active", "cksess_z")
    assert row.response["ab"] == ["c", {"d": ""}]
    assert row.response["n"] == 1


def test_every_attempt_is_counted(issue: Issue, api: Api, configure: Configure) -> None:
    configure(MAX_RETRIES=2)
    api.misbehave(Fault(status=503, headers={"retry-after-ms": "1"}), times=2)
    row = issue().session
    assert (row.status, row.attempts) == ("active", 3)
    assert api.paths == ["/chatkit/sessions"] * 3


def test_a_refused_request_writes_one_line_and_no_row(
    issue: Issue, user: User, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with pytest.raises(WorkflowNotFound):
        issue(workflow="none")
    text = "There is no such workflow for you. Ask the site's operator if there should be."
    assert [record.getMessage() for record in caplog.records] == [
        f"Session refused (workflow_not_found) for account {user.pk}: {text}"
    ]
    assert (ChatSession.objects.count(), LimitLock.objects.count(), api.requests) == (0, 0, [])


def test_what_a_browser_sent_cannot_forge_a_log_line(
    issue: Issue, caplog: pytest.LogCaptureFixture, configure: Configure
) -> None:
    caplog.set_level("INFO")
    with pytest.raises(ChatKitSessionsError):
        issue(client_state_variables={"page\n2026-11-02 root logged in": None})
    [record] = caplog.records
    assert "\n" not in record.getMessage()
    assert "page?2026-11-02 root logged in" in record.getMessage()


@pytest.mark.parametrize(
    ("keys", "override", "arguments", "code"),
    [
        ({}, {}, {"user": None}, "not_authenticated"),
        ({}, {}, {"user": AnonymousUser()}, "not_authenticated"),
        ({}, {}, {"workflow": "none"}, "workflow_not_found"),
        ({}, {}, {"expires_after": 601}, "invalid"),
        ({}, {"is_blocked": True}, {}, "blocked"),
        ({"API_KEY": None}, {}, {}, "not_configured"),
        ({"DEFAULT_WORKFLOW": "none"}, {}, {}, "not_configured"),
        ({"MAX_RETRIES": "2"}, {}, {}, "not_configured"),
    ],
)
def test_whatever_is_refused_leaves_no_row_and_no_lock(
    issue: Issue,
    user: User,
    api: Api,
    configure: Configure,
    keys: dict[str, Any],
    override: dict[str, Any],
    arguments: dict[str, Any],
    code: str,
) -> None:
    configure(**keys)
    if override:
        PolicyOverride.objects.create(user=user, **override)
    with pytest.raises(ChatKitSessionsError) as caught:
        issue(**arguments)
    assert (caught.value.code, caught.value.reference) == (code, None)
    assert (ChatSession.objects.count(), LimitLock.objects.count(), api.requests) == (0, 0, [])
