from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connections

from chatkit_sessions.conf import Settings
from chatkit_sessions.models import ChatSession
from chatkit_sessions.models.fields import Bound, ExactCharField, bounded, flag, lifetime_errors

REFUSED: list[tuple[str, Any, str]] = [
    (
        "version",
        "latest",
        "Must not be 'latest': the API accepts it and the chat then fails. "
        "Leave the version out to get the latest deployment.",
    ),
    ("state_variables", ["a"], "Must be a mapping, not list."),
    (
        "state_variables",
        {f"k{n}": n for n in range(65)},
        "Must have at most 64 entries, not 65.",
    ),
    (
        "state_variables",
        {"k" * 65: 1},
        f"{'k' * 64} its name must be a string of 1 to 64 characters, not 65 characters.",
    ),
    ("state_variables", {"a": {"b": 1}}, "a must be a string, a number or a boolean, not dict."),
    ("state_variables", {"a": None}, "a must be a string, a number or a boolean, not NoneType."),
    ("ui_options", {"api": {}}, "api is no option that can be stored"),
    ("ui_options", [], "Must be a mapping, not list."),
]


@pytest.mark.parametrize(("name", "value", "message"), REFUSED)
def test_a_field_says_what_settings_and_services_say(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Bound(name)(value)
    assert refused.value.messages[0].startswith(message)
    assert refused.value.code == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", "3"),
        ("state_variables", {"k" * 64: 1, **{f"k{n}": "x" for n in range(63)}}),
        ("ui_options", {"theme": {"density": "compact"}}),
    ],
)
def test_a_field_takes_what_is_within_its_bounds(name: str, value: Any) -> None:
    Bound(name)(value)


def test_bounds_of_one_name_are_equal_so_that_migrations_stay_as_they_are() -> None:
    assert Bound("version") == Bound("version")
    assert hash(Bound("version")) == hash(Bound("version"))
    assert Bound("version") != Bound("ui_options")
    assert Bound("version") != "version"
    assert Bound("version").deconstruct() == (  # type: ignore[attr-defined]  # added by the decorator
        "chatkit_sessions.models.fields.Bound",
        ("version",),
        {},
    )


@pytest.mark.parametrize(
    ("maximum", "value", "message"),
    [
        (None, 0, "Ensure this value is greater than or equal to 1."),
        (512, 0, "Ensure this value is greater than or equal to 1."),
        (512, 513, "Ensure this value is less than or equal to 512."),
        (None, 2_147_483_648, "Ensure this value is less than or equal to 2147483647."),
    ],
)
def test_an_integer_has_its_bounds(maximum: int | None, value: int, message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        bounded("label", "help", maximum=maximum).clean(value, None)
    assert refused.value.messages == [message]


def test_optional_fields_may_be_left_empty() -> None:
    for made in (bounded("label", "help"), flag("label")):
        assert (made.null, made.blank) == (True, True)


def test_a_lifetime_is_held_to_the_setting() -> None:
    settings = Settings(max_expires_after=300)
    assert lifetime_errors(None, settings) == {}
    assert lifetime_errors(300, settings) == {}
    assert lifetime_errors(301, settings) == {
        "expires_after": (
            "Must be from 1 to 300 seconds, not 301. The bound is MAX_EXPIRES_AFTER in the settings."
        )
    }


@pytest.mark.parametrize("vendor", ["mysql", "sqlite", "postgresql"])
def test_identifiers_are_compared_exactly_on_every_database(
    monkeypatch: pytest.MonkeyPatch, vendor: str
) -> None:
    field = ChatSession._meta.get_field("identifier")
    assert isinstance(field, ExactCharField)
    monkeypatch.setattr(connections["default"], "vendor", vendor)
    expected = "utf8mb4_bin" if vendor == "mysql" else None
    assert field.db_parameters(connections["default"])["collation"] == expected
