import logging
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db.models import AutoField, EmailField
from django.http import HttpRequest
from django.test import override_settings
from hypothesis import assume, given
from hypothesis import strategies as st

from chatkit_sessions import checks, identity
from chatkit_sessions.conf import get_settings
from chatkit_sessions.exceptions import ChatKitSessionsError, InvalidRequest, NotAuthenticated, NotConfigured
from chatkit_sessions.identity import SITE_IDENTIFIER, Identity, resolve_identity
from chatkit_sessions.models import ChatSession
from chatkit_sessions.services import issue_session
from chatkit_sessions.standin import StandIn
from chatkit_sessions.testing import standin as pointed_at

KEY = {"API_KEY": "sk-tests"}
TOO_LONG = "must be a string of 1 to 512 characters, not 513 characters."
ACCOUNT = Mock(spec=["pk", "is_authenticated", "username"], pk=7, is_authenticated=True, username="ada")


def by_name(user: Any, request: HttpRequest | None) -> str:
    """Identify by user name; the dotted path of the tests below leads here."""
    return f"name-{user.username}"


def resolve(user: Any = None, identifier: str | None = None, **settings: Any) -> Identity:
    with override_settings(CHATKIT_SESSIONS={**KEY, **settings}):
        return resolve_identity(get_settings(), user=user, identifier=identifier)


def test_an_account_is_known_by_its_primary_key() -> None:
    assert resolve(ACCOUNT) == Identity(user=ACCOUNT, identifier="7")


@pytest.mark.parametrize("source", [by_name, f"{__name__}.by_name", lambda user, request: "name-ada"])
def test_the_site_may_say_what_an_account_is_known_by(source: Any) -> None:
    assert resolve(ACCOUNT, USER_IDENTIFIER=source).identifier == "name-ada"


def test_the_request_is_given_to_the_sites_function() -> None:
    request, seen = HttpRequest(), []

    def remember(user: Any, request: HttpRequest | None) -> str:
        seen.append((user, request))
        return "x"

    with override_settings(CHATKIT_SESSIONS={**KEY, "USER_IDENTIFIER": remember}):
        resolve_identity(get_settings(), user=ACCOUNT, request=request)
        resolve_identity(get_settings(), user=ACCOUNT)
    assert seen == [(ACCOUNT, request), (ACCOUNT, None)]


def test_the_callers_identifier_wins_over_the_accounts() -> None:
    assert resolve(ACCOUNT, "chosen") == Identity(user=ACCOUNT, identifier="chosen")
    assert resolve(None, "chosen") == Identity(user=None, identifier="chosen")


@pytest.mark.parametrize("user", [None, AnonymousUser()])
@pytest.mark.parametrize("welcome", [False, True])
def test_without_a_request_nobody_is_a_visitor(user: Any, welcome: bool) -> None:
    with pytest.raises(NotAuthenticated, match=r"Sign in to start a chat\."):
        resolve(user, ALLOW_ANONYMOUS=welcome)


def test_a_visitor_needs_to_be_welcome() -> None:
    with pytest.raises(NotAuthenticated):
        resolve_identity(get_settings(), user=AnonymousUser(), request=HttpRequest())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lambda user, request: 7, "must return a string, not int."),
        (lambda user, request: None, "must return a string, not NoneType."),
        (lambda user, request: b"ada", "must return a string, not bytes."),
        (
            lambda user, request: user.profile.slug,
            "raised AttributeError; the log has the traceback. "
            "Outside a view, the request that it is given is None.",
        ),
        (
            lambda user: "ada",
            "raised TypeError; the log has the traceback. "
            "Outside a view, the request that it is given is None.",
        ),
    ],
)
def test_a_function_that_gives_no_identifier_is_for_the_operator(
    caplog: pytest.LogCaptureFixture, source: Callable[..., Any], message: str
) -> None:
    with pytest.raises(NotConfigured) as refused:
        resolve(ACCOUNT, USER_IDENTIFIER=source)
    separator = " " if message[0] in "mr" else ""
    assert str(refused.value) == f'CHATKIT_SESSIONS["USER_IDENTIFIER"]{separator}{message}'
    if "raised" in message:
        [record] = caplog.records
        assert (record.levelno, record.getMessage()) == (
            logging.ERROR,
            'CHATKIT_SESSIONS["USER_IDENTIFIER"] failed.',
        )
        assert record.exc_info


def test_a_function_may_refuse_by_itself() -> None:
    def refuse(user: Any, request: HttpRequest | None) -> str:
        raise NotAuthenticated

    with pytest.raises(NotAuthenticated):
        resolve(ACCOUNT, USER_IDENTIFIER=refuse)


@pytest.mark.parametrize("path", ["nowhere.at_all", f"{__name__}.absent"])
def test_a_path_that_leads_nowhere_is_for_the_operator(path: str) -> None:
    with pytest.raises(NotConfigured) as refused:
        resolve(ACCOUNT, USER_IDENTIFIER=path)
    assert str(refused.value).startswith('CHATKIT_SESSIONS["USER_IDENTIFIER"]: ')


def test_the_prefix_stands_before_every_identifier() -> None:
    assert resolve(ACCOUNT, USER_IDENTIFIER_PREFIX="staging-").identifier == "staging-7"
    assert resolve(None, "x", USER_IDENTIFIER_PREFIX="staging-").identifier == "staging-x"


REFUSED = [
    pytest.param("", "must be a string of 1 to 512 characters, not 0 characters.", id="empty"),
    pytest.param("x" * 513, TOO_LONG, id="too long"),
    pytest.param(" ada", "must not begin or end with white space.", id="leading space"),
    pytest.param("ada\n", "must not begin or end with white space.", id="trailing line"),
    pytest.param("\u00a0ada", "must not begin or end with white space.", id="no-break space"),
    pytest.param("a\x00a", "must be valid text without null characters.", id="null character"),
    pytest.param("ada\ud800", "must be valid text without null characters.", id="lone surrogate"),
    pytest.param("ada#support", "must not contain '#'.", id="isolation mark"),
    pytest.param(7, "must be a string of 1 to 512 characters, not int.", id="number"),
]


OWN = 'The identifier that CHATKIT_SESSIONS["USER_IDENTIFIER"] gives for an account, prefix included,'


@pytest.mark.django_db
@pytest.mark.parametrize(("identifier", "reason"), REFUSED)
def test_an_identifier_out_of_its_bounds_is_refused_before_anything_is_sent(
    standin: StandIn, identifier: Any, reason: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        issue_session(identifier=identifier)
    assert refused.value.errors == {"identifier": [reason]}
    assert standin.requests == []
    assert not ChatSession.objects.exists()


@pytest.mark.parametrize(("identifier", "reason"), [row for row in REFUSED if row.id != "number"])
def test_the_sites_function_is_held_to_the_same_bounds(identifier: str, reason: str) -> None:
    # The person who asks can do nothing about it.
    with pytest.raises(NotConfigured) as refused:
        resolve(ACCOUNT, USER_IDENTIFIER=lambda user, request: identifier)
    assert str(refused.value) == f"{OWN} {reason}"


def test_what_a_workflow_of_its_own_history_makes_of_it_too() -> None:
    known = resolve(ACCOUNT, USER_IDENTIFIER=lambda user, request: "x" * 510)
    with pytest.raises(NotConfigured) as refused:
        known.identifier_for("apart", isolate_history=True)
    assert str(refused.value).startswith(OWN)


@pytest.mark.parametrize("inside", ["a b", "ä", "😀", "a@b.example", "x" * 512])
def test_other_text_is_an_identifier(inside: str) -> None:
    assert resolve(None, inside).identifier == inside


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("prefix", "isolated"), [("p" * 4, False), ("", True), ("p", True)], ids=["prefix", "slug", "both"]
)
def test_prefix_and_slug_count_towards_the_bound(prefix: str, isolated: bool) -> None:
    room = 512 - len(prefix) - (len("#default") if isolated else 0)
    workflows = {"default": {"id": "wf", "isolate_history": isolated}}
    with pointed_at(USER_IDENTIFIER_PREFIX=prefix, WORKFLOWS=workflows) as api:
        issued = issue_session(identifier="x" * room)
        assert len(issued.session.identifier) == len(api.requests[0].json["user"]) == 512
        with pytest.raises(InvalidRequest) as refused:
            issue_session(identifier="x" * (room + 1))
        assert refused.value.errors == {"identifier": [TOO_LONG]}
        assert len(api.requests) == 1


@pytest.mark.django_db
def test_a_workflow_of_its_own_history_joins_its_slug(standin: StandIn) -> None:
    workflows = {"default": {"id": "wf"}, "apart": {"id": "wf_2", "isolate_history": True}}
    with pointed_at(WORKFLOWS=workflows, USER_IDENTIFIER_PREFIX="live-") as api:
        together = issue_session(identifier="ada").session
        apart = issue_session(identifier="ada", workflow="apart").session
    assert [request.json["user"] for request in api.requests] == ["live-ada", "live-ada#apart"]
    assert (together.identifier, apart.identifier) == ("live-ada", "live-ada#apart")
    # The same person all the same: limits count both.
    assert together.identity_key == apart.identity_key


# Few words meet each other often: names that look like slugs, names that look like both together.
SLUGS = st.sampled_from(["a", "b", "a-b"])
PEOPLE = st.sampled_from(["a", "b", "a#a", "a#b", "b#a", "a#", "#a"]) | st.text(min_size=1, max_size=12)
PREFIXES = st.sampled_from(["", "p", "staging-", "a#b"])


@given(
    first=st.tuples(PEOPLE, SLUGS, st.booleans()),
    second=st.tuples(PEOPLE, SLUGS, st.booleans()),
    prefix=PREFIXES,
)
def test_no_two_people_ever_share_an_identifier(
    first: tuple[str, str, bool], second: tuple[str, str, bool], prefix: str
) -> None:
    known_as = []
    for name, slug, isolated in (first, second):
        try:
            known = resolve(None, name, USER_IDENTIFIER_PREFIX=prefix)
            known_as.append(known.identifier_for(slug, isolate_history=isolated))
        except InvalidRequest:
            assume(False)
    same_person = first[0] == second[0]
    same_history = first[2] == second[2] and (not first[2] or first[1] == second[1])
    assert (known_as[0] == known_as[1]) is (same_person and same_history)


@given(PEOPLE, PEOPLE)
def test_no_two_people_share_the_key_that_limits_count_by(first: str, second: str) -> None:
    try:
        keys = [resolve(None, name).key for name in (first, second)]
    except InvalidRequest:
        assume(False)
    assert (keys[0] == keys[1]) is (first == second)
    assert len(keys[0]) == 64


def test_the_site_itself_is_no_account() -> None:
    assert resolve(None, SITE_IDENTIFIER, USER_IDENTIFIER_PREFIX="live-").is_site
    assert not resolve(ACCOUNT, SITE_IDENTIFIER).is_site
    assert not resolve(ACCOUNT, USER_IDENTIFIER=lambda user, request: SITE_IDENTIFIER).is_site
    assert not resolve(None, "somebody").is_site


class Message(Exception):
    """What a site's function raises."""


def test_calling_a_sites_function_keeps_the_cause() -> None:
    def fail() -> None:
        raise Message("why")

    with pytest.raises(NotConfigured) as refused:
        identity.call(fail, "STATE_VARIABLES")
    assert isinstance(refused.value.__cause__, Message)
    assert "why" not in str(refused.value)
    assert isinstance(refused.value, ChatKitSessionsError)


def users_with(key: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the site have a user model with this primary key."""
    model = Mock(USERNAME_FIELD="login")
    model.get_email_field_name.return_value = "mail"
    model._meta.pk = key
    model._meta.label = "people.Person"
    monkeypatch.setattr(checks, "get_user_model", lambda: model)


def named(name: str, kind: type[Any]) -> Any:
    made = kind(primary_key=True)
    made.name = name
    return made


@pytest.mark.parametrize(
    ("key", "personal"),
    [
        (named("id", AutoField), False),
        (named("address", EmailField), True),
        (named("mail", AutoField), True),
        (named("login", AutoField), True),
    ],
)
def test_a_primary_key_that_is_personal_data_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, key: Any, personal: bool
) -> None:
    users_with(key, monkeypatch)
    found = [message for message in checks.check_settings(None) if message.id == "chatkit_sessions.W003"]
    assert [message.msg for message in found] == (
        [
            f"The API would know people by the primary key of people.Person, '{key.name}', "
            "which is personal data."
        ]
        if personal
        else []
    )
    with override_settings(CHATKIT_SESSIONS={**KEY, "USER_IDENTIFIER": by_name}):
        assert not [row for row in checks.check_settings(None) if row.id == "chatkit_sessions.W003"]


@pytest.mark.django_db
def test_the_account_is_kept_beside_the_identifier(standin: StandIn) -> None:
    user = User.objects.create_user("ada")
    row = issue_session(user=user, identifier="chosen").session
    assert (row.user, row.identifier) == (user, "chosen")
