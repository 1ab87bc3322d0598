from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.forms.models import model_to_dict
from django.test import RequestFactory

from chatkit_sessions.exceptions import Blocked, StorageUnavailable
from chatkit_sessions.models import ChatSession, PolicyOverride, Workflow
from chatkit_sessions.secret import Secret
from chatkit_sessions.services import IssuedSession, cancel_session
from chatkit_sessions.standin.exchange import RecordedRequest

from .conftest import Api, Clock, Heard, database_fails_at

Issue = Callable[..., IssuedSession]
Configure = Callable[..., None]


@pytest.fixture
def first(issue: Issue, api: Api, configure: Configure) -> IssuedSession:
    configure(
        WORKFLOWS={"default": {"id": "wf_tests"}, "support": {"id": "wf_2"}, "twin": {"id": "wf_tests"}}
    )
    return issue()


@pytest.fixture
def again(issue: Issue, first: IssuedSession) -> Callable[..., IssuedSession]:
    """Ask once more, as a browser that holds the first secret."""

    def run(**arguments: Any) -> IssuedSession:
        return issue(current_client_secret=str(first.client_secret), **arguments)

    return run


Again = Callable[..., IssuedSession]


def test_the_same_session_goes_back_without_asking_the_api(
    first: IssuedSession, again: Again, api: Api, clock: Clock, heard: Heard
) -> None:
    clock.advance(30)
    issued = again()
    row = ChatSession.objects.get()
    assert (issued.reused, issued.session) == (True, first.session)
    assert issued.client_secret == first.client_secret
    assert isinstance(issued.client_secret, Secret)
    assert (row.handed_out_count, row.last_handed_out_at) == (2, clock.now)
    assert row.issued_at == clock.now - timedelta(seconds=30)
    assert model_to_dict(issued.session) == model_to_dict(row)
    assert len(api.requests) == 1
    assert heard.calls == [("session_reused", {"session": row})]


@pytest.mark.parametrize(
    ("keys", "seconds", "reused"),
    [
        ({}, 540, True),
        ({}, 540.001, False),
        ({"REUSE_MARGIN": 0}, 599.999, True),
        ({"REUSE_MARGIN": 0}, 600, False),
        ({"REUSE_MARGIN": 0}, 601, False),
        ({"REUSE_MARGIN": 600}, 0, True),
        ({"REUSE_MARGIN": 601}, 0, False),
    ],
)
def test_the_margin_is_kept(
    again: Again, clock: Clock, configure: Configure, keys: dict[str, Any], seconds: float, reused: bool
) -> None:
    configure(**keys)
    clock.advance(seconds)
    assert again().reused is reused


def a_setting(configure: Configure, user: User) -> None:
    configure(EXPIRES_AFTER=300)


def a_rate(configure: Configure, user: User) -> None:
    configure(MAX_REQUESTS_PER_1_MINUTE=5)


def a_feature(configure: Configure, user: User) -> None:
    configure(CHATKIT_CONFIGURATION={"file_upload": {"enabled": True}})


def a_limit(configure: Configure, user: User) -> None:
    configure(MAX_SESSIONS_PER_HOUR=59)


def a_state_variable(configure: Configure, user: User) -> None:
    configure(STATE_VARIABLES={"tier": "gold"})


def another_workflow_id(configure: Configure, user: User) -> None:
    configure(WORKFLOWS={"default": {"id": "wf_3"}})


def a_version(configure: Configure, user: User) -> None:
    configure(WORKFLOWS={"default": {"id": "wf_tests", "version": "2"}})


def a_row_of_the_workflow(configure: Configure, user: User) -> None:
    Workflow.objects.create(slug="default", tracing_enabled=False)


def an_override_for_the_user(configure: Configure, user: User) -> None:
    PolicyOverride.objects.create(user=user, expires_after=500)


def an_override_for_a_group(configure: Configure, user: User) -> None:
    group = Group.objects.create(name="trial")
    user.groups.add(group)
    PolicyOverride.objects.create(group=group, max_active_sessions=9)


def an_isolated_history(configure: Configure, user: User) -> None:
    Workflow.objects.create(slug="default", isolate_history=True)


def other_credentials(configure: Configure, user: User) -> None:
    configure(
        CREDENTIALS={"eu": {"PROJECT": "proj_1"}},
        WORKFLOWS={"default": {"id": "wf_tests", "credentials": "eu"}},
    )


CHANGES = [
    a_setting,
    a_rate,
    a_feature,
    a_limit,
    a_state_variable,
    another_workflow_id,
    a_version,
    a_row_of_the_workflow,
    an_override_for_the_user,
    an_override_for_a_group,
    an_isolated_history,
    other_credentials,
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_session_whose_policy_has_changed_is_not_handed_out(
    first: IssuedSession,
    again: Again,
    user: User,
    configure: Configure,
    api: Api,
    change: Callable[[Configure, User], None],
) -> None:
    change(configure, user)
    issued = again()
    assert not issued.reused
    assert issued.client_secret != first.client_secret
    assert issued.session != first.session
    assert len(api.requests) == 2
    # The one before runs on, as it is.
    assert ChatSession.objects.get(pk=first.session.pk).status == "active"
    assert ChatSession.objects.get(pk=first.session.pk).handed_out_count == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"workflow": "support"},
        {"workflow": "twin"},
        {"expires_after": 300},
        {"max_requests_per_1_minute": 11},
        {"chatkit_configuration": {"history": {"enabled": False}}},
        {"state_variables": {"page": "/"}},
    ],
)
def test_a_request_for_something_else_gets_something_else(
    first: IssuedSession, again: Again, arguments: dict[str, Any]
) -> None:
    assert not again(**arguments).reused


def test_the_same_policy_from_another_layer_is_the_same(
    first: IssuedSession, again: Again, user: User, configure: Configure
) -> None:
    PolicyOverride.objects.create(user=user, expires_after=600, max_sessions_per_hour=60)
    assert again(max_requests_per_1_minute=10).reused


def test_state_variables_are_compared_too(issue: Issue, configure: Configure) -> None:
    secret = issue(state_variables={"tier": "gold", "n": 1}).client_secret
    assert issue(state_variables={"n": 1, "tier": "gold"}, current_client_secret=secret).reused
    assert not issue(state_variables={"n": 2, "tier": "gold"}, current_client_secret=secret).reused


@pytest.mark.parametrize("status", ["pending", "expired", "cancelled", "failed", "lost"])
def test_a_session_that_is_not_running_is_not_handed_out(
    first: IssuedSession, again: Again, status: str
) -> None:
    ChatSession.objects.update(status=status)
    assert not again().reused


def test_a_cancelled_session_is_not_handed_out_even_while_the_api_is_down(
    first: IssuedSession, again: Again, configure: Configure, api: Api
) -> None:
    address = api.base_url
    configure(BASE_URL="http://127.0.0.1:9/v1")
    cancel_session(first.session)
    configure(BASE_URL=address)
    assert not again().reused


def test_a_session_cancelled_while_it_is_looked_up_is_not_handed_out(
    first: IssuedSession, again: Again, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chatkit_sessions.services import reuse

    unchanged = reuse._is_unchanged

    def cancel_meanwhile(session: ChatSession, order: Any) -> bool:
        cancel_session(ChatSession.objects.get(pk=session.pk))
        return unchanged(session, order)

    monkeypatch.setattr(reuse, "_is_unchanged", cancel_meanwhile)
    assert not again().reused
    assert ChatSession.objects.get(pk=first.session.pk).handed_out_count == 1


def test_a_block_refuses_handing_out(first: IssuedSession, again: Again, user: User, api: Api) -> None:
    PolicyOverride.objects.create(user=user, is_blocked=True)
    with pytest.raises(Blocked):
        again()
    assert ChatSession.objects.get().handed_out_count == 1
    assert len(api.requests) == 1


def test_somebody_elses_secret_is_treated_as_unknown_and_logged(
    first: IssuedSession, again: Again, other: User, caplog: pytest.LogCaptureFixture
) -> None:
    issued = again(user=other)
    assert (issued.reused, issued.session.user) == (False, other)
    assert issued.client_secret != first.client_secret
    assert [record.getMessage() for record in caplog.records] == [
        f"Session {first.session.reference} was asked for with its secret by somebody else: '{other.pk}'."
    ]
    assert str(first.client_secret) not in caplog.text


def test_an_identifier_does_not_stand_for_the_account_it_resembles(
    first: IssuedSession, again: Again, user: User, caplog: pytest.LogCaptureFixture
) -> None:
    """They share what the API knows them by, but not the account."""
    assert not again(user=None, identifier=str(user.pk)).reused
    assert len(caplog.records) == 1


def test_a_person_without_an_account_gets_the_session_again(
    issue: Issue, caplog: pytest.LogCaptureFixture
) -> None:
    secret = issue(identifier="kiosk").client_secret
    assert issue(identifier="kiosk", current_client_secret=secret).reused
    assert caplog.records == []
    assert not issue(identifier="kiosk 2", current_client_secret=secret).reused
    assert len(caplog.records) == 1


def test_a_row_that_no_longer_names_the_person_is_not_handed_out(first: IssuedSession, again: Again) -> None:
    ChatSession.objects.update(identifier="erased")
    assert not again().reused


def test_two_visitors_do_not_share_a_session(issue: Issue, configure: Configure, rf: RequestFactory) -> None:
    configure(ALLOW_ANONYMOUS=True)
    mine, theirs = rf.post("/"), rf.post("/")
    secret = issue(user=None, request=mine).client_secret
    assert issue(user=None, request=mine, current_client_secret=secret).reused
    assert not issue(user=None, request=theirs, current_client_secret=secret).reused


@pytest.mark.parametrize("secret", ["", "ek_unknown", "\ud83d", "a\x00b", "x" * 100_000])
def test_an_unknown_secret_gets_a_new_session(
    issue: Issue, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert not issue(current_client_secret=secret).reused
    assert caplog.records == []


def test_a_secret_key_that_was_replaced_ends_no_session(
    first: IssuedSession, again: Again, settings: Any
) -> None:
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new" * 20, ["middle" * 10, settings.SECRET_KEY]
    assert again().reused
    settings.SECRET_KEY_FALLBACKS = []
    assert not again().reused


def test_handing_out_never_counts_against_a_limit(issue: Issue, configure: Configure) -> None:
    configure(MAX_SESSIONS_PER_HOUR=1, MAX_ACTIVE_SESSIONS=1)
    secret = issue().client_secret
    for _ in range(5):
        assert issue(current_client_secret=secret).reused
    assert ChatSession.objects.get().handed_out_count == 6


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("words", [("SELECT", "secret_digest"), ("UPDATE", "handed_out_count")])
def test_a_database_that_fails_hands_nothing_out(
    first: IssuedSession, again: Again, api: Api, words: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    with database_fails_at(*words), pytest.raises(StorageUnavailable):
        again()
    assert len(api.requests) == 1
    assert caplog.records[-1].getMessage() == "A session could not be looked up."


def test_the_api_is_not_asked_at_all(first: IssuedSession, again: Again, api: Api) -> None:
    def watch(request: RecordedRequest) -> None:
        raise AssertionError(request.path)

    api.watch = watch
    assert again().reused
