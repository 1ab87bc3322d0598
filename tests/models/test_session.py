import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils import translation

from chatkit_sessions.identity import Identity
from chatkit_sessions.models import ISSUED, ChatSession, Status

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
BEFORE, AFTER = NOW - timedelta(seconds=1), NOW + timedelta(seconds=1)


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOW)


def make(status: Status = Status.ACTIVE, expires_at: datetime = AFTER, **values: Any) -> ChatSession:
    issued = {"issued_at": NOW} if status in ISSUED else {}
    return ChatSession.objects.create(status=status, expires_at=expires_at, **issued, **values)


# What the row says, whether its time is over, and what it is at this moment.
SHOWN = [
    (Status.PENDING, AFTER, "pending"),
    (Status.PENDING, NOW, "lost"),
    (Status.PENDING, BEFORE, "lost"),
    (Status.ACTIVE, AFTER, "active"),
    (Status.ACTIVE, NOW, "expired"),
    (Status.ACTIVE, BEFORE, "expired"),
    (Status.EXPIRED, BEFORE, "expired"),
    (Status.CANCELLED, AFTER, "cancelled"),
    (Status.CANCELLED, BEFORE, "cancelled"),
    (Status.FAILED, AFTER, "failed"),
    (Status.FAILED, BEFORE, "failed"),
    (Status.LOST, BEFORE, "lost"),
]


@pytest.mark.parametrize(("status", "expires_at", "shown"), SHOWN)
def test_a_session_shows_as_what_it_is_at_this_moment(
    status: Status, expires_at: datetime, shown: str
) -> None:
    session = make(status, expires_at)
    session.refresh_from_db()
    assert (session.shown_status, str(session.get_shown_status_display())) == (shown, shown)
    assert [name for name in Status.values if ChatSession.objects.shown_as(name).exists()] == [shown]


def test_sessions_are_found_by_what_they_are_at_this_moment() -> None:
    rows = {(status, over): make(status, BEFORE if over else AFTER) for status in Status for over in (0, 1)}
    kinds = {
        "running": ChatSession.objects.running(),
        "occupying": ChatSession.objects.occupying(NOW),
        "issued": ChatSession.objects.issued(),
    }
    assert {name: set(found) for name, found in kinds.items()} == {
        "running": {rows[Status.ACTIVE, 0]},
        "occupying": {rows[Status.ACTIVE, 0], rows[Status.PENDING, 0]},
        "issued": {row for (status, _over), row in rows.items() if status in ISSUED},
    }
    assert set(ChatSession.objects.running(AFTER)) == set()


@pytest.mark.parametrize(
    ("status", "over", "counts"),
    [
        (Status.PENDING, False, True),
        (Status.PENDING, True, False),
        (Status.ACTIVE, True, True),
        (Status.EXPIRED, True, True),
        (Status.CANCELLED, False, True),
        (Status.FAILED, False, False),
        (Status.LOST, True, False),
    ],
)
def test_failed_and_lost_sessions_do_not_count_as_started(status: Status, over: bool, counts: bool) -> None:
    make(status, NOW if over else AFTER, created_at=NOW - timedelta(minutes=5))
    since = ChatSession.objects.started_since(NOW - timedelta(minutes=6), NOW)
    assert since.exists() is counts
    assert not ChatSession.objects.started_since(NOW - timedelta(minutes=5), NOW).exists()


def test_a_session_belongs_to_its_account_or_without_one_to_its_identifier() -> None:
    ada, bob = (User.objects.create_user(name) for name in ("ada", "bob"))
    visitor = Identity(user=None, identifier="ada")
    rows = {
        "ada": make(user=ada, identity_key=visitor.key),
        "bob": make(user=bob, identity_key="x"),
        "visitor": make(identity_key=visitor.key),
    }
    assert list(ChatSession.objects.of(Identity(user=ada, identifier="renamed"))) == [rows["ada"]]
    # What was an account's is no visitor's, even under the same identifier.
    assert list(ChatSession.objects.of(visitor)) == [rows["visitor"]]


def test_a_session_is_named_by_the_apis_id_or_else_by_its_reference() -> None:
    known = make(upstream_id="cksess_1")
    nameless = make()
    assert (str(known), known.public_id) == ("cksess_1", "cksess_1")
    assert str(nameless) == str(nameless.reference)
    assert ChatSession.objects.named("cksess_1").get() == known
    assert ChatSession.objects.named(str(nameless.reference)).get() == nameless
    for name in (str(known.reference), "CKSESS_1", "", "\x00", "cksess_1\x00", str(uuid.uuid4()), "%"):
        assert not ChatSession.objects.named(name).exists()


def test_a_session_is_found_by_whole_values() -> None:
    ada = User.objects.create_user("ada")
    rows = [
        make(user=ada, upstream_id="cksess_1", identifier="7"),
        make(upstream_id="cksess_2", identifier="visitor-1"),
    ]
    searches = {
        "ada": rows[:1],
        "cksess_1": rows[:1],
        "7": rows[:1],
        "visitor-1": rows[1:],
        str(rows[1].reference): rows[1:],
        "cksess": [],
    }
    assert {term: list(ChatSession.objects.matching(term)) for term in searches} == searches


def test_the_newest_session_comes_first() -> None:
    first, second = make(), make()
    assert list(ChatSession.objects.all()) == [second, first]


@pytest.mark.parametrize(
    "values", [{"status": "unheard"}, *({"status": status, "issued_at": None} for status in ISSUED)]
)
def test_the_database_keeps_impossible_rows_out(values: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        ChatSession.objects.create(expires_at=AFTER, **values)


def test_a_session_outlives_its_account() -> None:
    ada = User.objects.create_user("ada")
    session = make(user=ada, ended_by=ada, identifier="7")
    ada.delete()
    session.refresh_from_db()
    assert (session.user, session.ended_by, session.identifier) == (None, None, "7")


def test_the_words_for_a_status_are_ours_where_django_has_the_same_for_its_own_use() -> None:
    with translation.override("de"):
        labels = [str(label) for label in Status.labels]
    assert labels == [label.lower() for label in labels]
