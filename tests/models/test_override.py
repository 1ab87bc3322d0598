from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.db import DatabaseError, transaction
from django.test import override_settings

from chatkit_sessions.models import PolicyOverride, Workflow

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
LIMITS = ("expires_after", "max_requests_per_1_minute", "max_active_sessions", "max_sessions_per_hour")
ONE_OF_THEM = "Choose either a user or a group: one of them, not both."
OUT_OF_BOUNDS = "Ensure this value is greater than or equal to 1."


@pytest.fixture
def user() -> User:
    return User.objects.create_user("ada")


@pytest.fixture
def group(user: User) -> Group:
    group = Group.objects.create(name="Trial")
    group.user_set.add(user)
    return group


def errors(override: PolicyOverride) -> dict[str, list[str]]:
    with pytest.raises(ValidationError) as refused:
        override.full_clean()
    return refused.value.message_dict


# Values, the message by field, and whether the database refuses them too.
BAD: list[Any] = [
    *(
        pytest.param({name: value}, {name: [OUT_OF_BOUNDS]}, True, id=f"{name} {value}")
        for name in LIMITS
        for value in (0, -1)
    ),
    pytest.param(
        {"expires_after": 601},
        {
            "expires_after": [
                "Must be from 1 to 600 seconds, not 601. The bound is MAX_EXPIRES_AFTER in the settings."
            ]
        },
        False,
        id="601 seconds",
    ),
    pytest.param(
        {"workflow_slug": "nowhere"},
        {"workflow_slug": ["There is no workflow 'nowhere'. There are: default, sales."]},
        False,
        id="a slug that does not exist",
    ),
    pytest.param(
        {"valid_from": NOW, "valid_until": NOW - timedelta(days=1)},
        {"valid_until": ["Must be later than the start of the time window."]},
        True,
        id="a window that ends before it starts",
    ),
    pytest.param(
        {"valid_from": NOW, "valid_until": NOW},
        {"valid_until": ["Must be later than the start of the time window."]},
        True,
        id="a window that ends when it starts",
    ),
]


@pytest.mark.parametrize(("values", "messages", "in_the_database"), BAD)
def test_bad_values_are_refused_at_save_by_field_and_bound(
    user: User, values: dict[str, Any], messages: dict[str, list[str]], in_the_database: bool
) -> None:
    Workflow.objects.create(slug="sales", workflow_id="wf")
    override = PolicyOverride(user=user, **values)
    assert errors(override) == messages
    if in_the_database:
        with pytest.raises(DatabaseError), transaction.atomic():
            override.save()
        assert not PolicyOverride.objects.exists()


@pytest.mark.parametrize("both", [True, False])
def test_it_is_for_one_user_or_one_group(user: User, group: Group, both: bool) -> None:
    override = PolicyOverride(user=user, group=group) if both else PolicyOverride()
    assert errors(override) == {"__all__": [ONE_OF_THEM]}
    with pytest.raises(DatabaseError), transaction.atomic():
        override.save()


@override_settings(CHATKIT_SESSIONS={})
def test_where_there_is_no_workflow_the_message_says_so(user: User) -> None:
    assert errors(PolicyOverride(user=user, workflow_slug="x")) == {
        "workflow_slug": ["There is no workflow 'x'. There are: none."]
    }


def test_what_is_within_the_bounds_is_saved(user: User, group: Group) -> None:
    whole = PolicyOverride(
        user=user,
        workflow_slug="default",
        is_blocked=True,
        **dict.fromkeys(LIMITS, 1),
        valid_from=NOW,
        valid_until=NOW + timedelta(microseconds=1),
    )
    empty = PolicyOverride(group=group)
    for override in (whole, empty):
        override.full_clean()
        override.save()
    assert PolicyOverride.objects.count() == 2


def test_the_bound_of_a_lifetime_is_the_settings(user: User) -> None:
    with override_settings(CHATKIT_SESSIONS={"MAX_EXPIRES_AFTER": 3600}):
        PolicyOverride(user=user, expires_after=3600).full_clean()


def test_it_is_called_after_its_target_and_workflow(user: User, group: Group) -> None:
    assert str(PolicyOverride(user=user)) == "user ada / *"
    assert str(PolicyOverride(group=group, workflow_slug="sales")) == "group Trial / sales"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "user ada / *"),
        ({"reason": "a trial"}, "user ada / *: a trial"),
        ({"valid_from": NOW}, "user ada / *"),
        ({"valid_until": NOW}, "user ada / * (over)"),
        ({"valid_until": NOW + timedelta(seconds=1)}, "user ada / *"),
        ({"valid_from": NOW + timedelta(seconds=1), "reason": "soon"}, "user ada / * (not yet): soon"),
    ],
)
def test_it_says_whether_it_counts_now_and_why(user: User, values: dict[str, Any], words: str) -> None:
    assert PolicyOverride(user=user, **values).in_words(NOW) == words


def test_the_clock_says_whether_it_counts_now(user: User) -> None:
    assert PolicyOverride(user=user, valid_until=NOW.replace(year=2020)).in_words() == "user ada / * (over)"


def test_a_users_overrides_are_those_of_the_account_and_of_its_groups(user: User, group: Group) -> None:
    own = PolicyOverride.objects.create(user=user)
    through = PolicyOverride.objects.create(group=group)
    PolicyOverride.objects.create(user=User.objects.create_user("bob"))
    PolicyOverride.objects.create(group=Group.objects.create(name="others"))
    assert set(PolicyOverride.objects.for_user(user)) == {own, through}
    groupless = Mock(spec=["pk"], pk=user.pk)
    assert list(PolicyOverride.objects.for_user(groupless)) == [own]


def test_overrides_are_found_by_workflow(user: User) -> None:
    rows = {slug: PolicyOverride.objects.create(user=user, workflow_slug=slug) for slug in ("", "a", "b")}
    assert set(PolicyOverride.objects.for_workflow("a")) == {rows[""], rows["a"]}


def test_it_goes_with_its_target_and_stays_without_its_author(user: User, group: Group) -> None:
    author = User.objects.create_user("operator")
    PolicyOverride.objects.create(user=user, created_by=author)
    PolicyOverride.objects.create(group=group, created_by=author)
    author.delete()
    assert PolicyOverride.objects.filter(created_by=None).count() == 2
    user.delete()
    group.delete()
    assert not PolicyOverride.objects.exists()
