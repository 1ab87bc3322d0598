from types import MappingProxyType
from typing import Any

import pytest

from chatkit_sessions import bounds
from chatkit_sessions.bounds import Check, ParameterError


def refusal(check: Check, value: Any) -> str:
    with pytest.raises(ParameterError) as refused:
        check("field", value)
    assert refused.value.field == "field"
    assert str(refused.value) == f"field {refused.value.reason}"
    return refused.value.reason


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("MAX_USER_LENGTH", 512),
        ("MAX_EXPIRES_AFTER_SECONDS", 600),
        ("MAX_FILE_SIZE_MB", 512),
        ("MAX_STATE_VARIABLES", 64),
        ("MAX_STATE_VARIABLE_KEY_LENGTH", 64),
        ("MAX_STATE_VARIABLE_VALUE_LENGTH", 10_485_760),
        ("MAX_PAGE_LIMIT", 100),
        ("MAX_INTEGER", 2**31 - 1),
    ],
)
def test_the_bounds_are_the_published_ones(name: str, bound: int) -> None:
    assert getattr(bounds, name) == bound


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "must be a string of 1 to 3 characters, not 0 characters."),
        ("abcd", "must be a string of 1 to 3 characters, not 4 characters."),
        (b"ab", "must be a string of 1 to 3 characters, not bytes."),
        (None, "must be a string of 1 to 3 characters, not NoneType."),
        ("a\x00", "must be valid text without null characters."),
        ("\udfff", "must be valid text without null characters."),
    ],
)
def test_text_is_bounded(value: Any, reason: str) -> None:
    assert refusal(bounds.text(maximum=3), value) == reason


def test_text_may_be_open_ended() -> None:
    bounds.text()("field", "x" * 1_000_000)
    bounds.text(maximum=3)("field", "a")
    bounds.text(maximum=3)("field", "äöü")
    assert refusal(bounds.text(), "") == "must be a string of at least 1 character, not 0 characters."


@pytest.mark.parametrize(
    ("minimum", "maximum", "value", "reason"),
    [
        (1, 5, 0, "must be an integer from 1 to 5, not 0."),
        (1, 5, 6, "must be an integer from 1 to 5, not 6."),
        (1, 5, True, "must be an integer from 1 to 5, not bool."),
        (1, 5, 2.0, "must be an integer from 1 to 5, not float."),
        (1, 5, "2", "must be an integer from 1 to 5, not str."),
        (1, 5, 2**128 - 1, f"must be an integer from 1 to 5, not {2**128 - 1}."),
        (1, 5, 2**128, "must be an integer from 1 to 5, not a number of more than 38 digits."),
        pytest.param(
            *(1, 5, -(10**5000), "must be an integer from 1 to 5, not a number of more than 38 digits."),
            id="a number that cannot be written",
        ),
        (0, None, -1, "must be an integer of at least 0, not -1."),
        (0, None, None, "must be an integer of at least 0, not NoneType."),
        (0, None, 2**31, "must be an integer from 0 to 2147483647, not 2147483648."),
    ],
)
def test_an_integer_is_bounded(minimum: int, maximum: int | None, value: Any, reason: str) -> None:
    assert refusal(bounds.integer(minimum, maximum), value) == reason


@pytest.mark.parametrize(
    ("minimum", "maximum", "value"), [(1, 5, 1), (1, 5, 5), (0, None, 0), (0, None, 2**31 - 1)]
)
def test_an_integer_at_its_edge_is_taken(minimum: int, maximum: int | None, value: int) -> None:
    bounds.integer(minimum, maximum)("field", value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (-1.5, "-1.5"),
        (float("nan"), "nan"),
        (1e300, "1e+300"),
        (10**39, "a number of more than 38 digits"),
    ],
)
def test_a_number_is_shown_in_a_few_characters(value: float, text: str) -> None:
    assert bounds.shown(value) == text


def test_a_boolean_is_nothing_else() -> None:
    bounds.boolean("field", True)
    bounds.boolean("field", False)
    values: tuple[Any, ...] = (0, 1, "true", None)
    for value in values:
        assert refusal(bounds.boolean, value) == f"must be true or false, not {type(value).__name__}."


def test_what_stands_in_a_header_is_visible_ascii_and_not_shown() -> None:
    bounds.header_value("field", "sk-!~")
    for value in ("", "sk a", "sk\n", "sk-é", "\x7f", None, b"sk"):
        assert refusal(bounds.header_value, value) == "must be a string of visible ASCII characters."


def test_a_choice_names_what_there_is() -> None:
    check = bounds.choice("asc", "desc")
    check("field", "asc")
    values: tuple[Any, ...] = ("", "ASC", None, ["asc"], {})
    for value in values:
        assert refusal(check, value) == "must be 'asc' or 'desc'."


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "field must be a mapping, not list."),
        ({}, "field.id is required."),
        ({"id": 1, "b": True, "c": 1}, "field.c is unknown; known: id, b."),
        ({"id": 1, 5: True}, "field.5 is unknown; known: id, b."),
        ({"id": 0}, "field.id must be an integer of at least 1, not 0."),
        ({"id": 1, "b": 1}, "field.b must be true or false, not int."),
    ],
)
def test_a_mapping_has_the_keys_it_has(value: Any, message: str) -> None:
    check = bounds.mapping({"b": bounds.boolean}, required={"id": bounds.integer(1)})
    with pytest.raises(ParameterError) as refused:
        check("field", value)
    assert str(refused.value) == message
    check("field", MappingProxyType({"id": 1, "b": False}))


@pytest.mark.parametrize("value", ["latest", "LATEST", " latest\n", "LaTest"])
def test_the_version_latest_is_refused_with_the_reason(value: str) -> None:
    assert refusal(bounds.version, value) == (
        "must not be 'latest': the API accepts it and the chat then fails. "
        "Leave the version out to get the latest deployment."
    )


@pytest.mark.parametrize("value", ["1", "latest2", "2024-10-01", "the latest"])
def test_another_version_is_taken(value: str) -> None:
    bounds.version("field", value)


def test_the_name_of_a_state_variable_is_shortened_in_messages() -> None:
    with pytest.raises(ParameterError) as refused:
        bounds.state_variables("field", {"n" * 5000: 1})
    assert refused.value.field == f"field.{'n' * 64}"


def test_a_session_is_checked_as_a_whole() -> None:
    parameters: dict[str, Any] = {"user": "ada", "workflow": {"id": "wf_1"}, "rate_limits": {}}
    bounds.check_session(parameters, max_expires_after=600)
    parameters["expires_after"] = {"anchor": "created_at", "seconds": 700}
    bounds.check_session(parameters, max_expires_after=700)
    with pytest.raises(
        ParameterError, match=r"^expires_after\.seconds must be an integer from 1 to 699, not 700\.$"
    ):
        bounds.check_session(parameters, max_expires_after=699)
