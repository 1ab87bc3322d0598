import copy
import json
import pickle
import pprint
import time
from collections.abc import Callable
from typing import Any

import pytest

from chatkit_sessions.secret import REMOVED, Secret, hide, redact

VALUE = "ek_" + "sentinel" * 3


def test_a_secret_is_the_string_it_is() -> None:
    secret = Secret(VALUE)
    assert secret == VALUE
    assert hash(secret) == hash(VALUE)
    assert f"{secret}" == str(secret) == secret + "" == VALUE
    assert json.dumps({"client_secret": secret}) == f'{{"client_secret": "{VALUE}"}}'
    assert not Secret("")


@pytest.mark.parametrize(
    "show",
    [
        repr,
        "{!r}".format,
        "%r".__mod__,
        pprint.pformat,  # as Django's debug page does
        lambda secret: repr({"key": [secret]}),
        lambda secret: repr((secret,)),
        lambda secret: pprint.pformat({"key": secret}),
        lambda secret: repr(secret[:20]),  # as rich does with a long string
        lambda secret: repr([secret[0], secret[-4:]]),
    ],
)
def test_a_secret_does_not_show_itself(show: Callable[[Secret], str]) -> None:
    shown = show(Secret(VALUE))
    assert VALUE not in shown
    assert "<secret>" in shown


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("holder", [Secret(VALUE), [Secret(VALUE)], {"a": Secret(VALUE)}])
def test_a_secret_is_never_pickled(holder: Any, protocol: int) -> None:
    with pytest.raises(
        TypeError, match=r"^A secret is never pickled: pass the session's reference instead\.$"
    ):
        pickle.dumps(holder, protocol)


def test_a_secret_is_its_own_copy() -> None:
    secret = Secret(VALUE)
    assert copy.copy(secret) is secret
    assert copy.deepcopy({"a": secret})["a"] is secret


def test_what_is_named_is_hidden_and_nothing_else() -> None:
    value = {"key": VALUE, "other": VALUE, "inner": {"key": VALUE}}
    hidden = hide(value, "key", "missing")
    assert hidden == value
    assert repr(hidden) == f"{{'key': <secret>, 'other': '{VALUE}', 'inner': {{'key': '{VALUE}'}}}}"
    assert repr(value["key"]) == f"'{VALUE}'"  # the original is as it was


@pytest.mark.parametrize("value", [None, 5, VALUE, [VALUE], {"key": [VALUE]}, {"key": None}])
def test_what_cannot_be_hidden_is_left_as_it_is(value: Any) -> None:
    assert repr(hide(value, "key")) == repr(value)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("sk-abc", REMOVED),
        ("key sk-proj-a_b-c.d9 end", f"key {REMOVED} end"),
        ("SK-ABC", REMOVED),
        ("sk-ab****xyz.", f"{REMOVED}."),
        ("ek_123, ek_456", f"{REMOVED}, {REMOVED}"),
        ("cks_" + "a" * 43, REMOVED),
        ("Authorization: Bearer abc.def/ghi=", f"Authorization: {REMOVED}"),
        ("bearer\tabc", REMOVED),
        ("abcd****wxyz", REMOVED),
        ("a.b-c***", REMOVED),
        ("task-force, desk-top, geek_1", "task-force, desk-top, geek_1"),
        ("a**b, **bold**, ****", "a**b, **bold**, ****"),
        ("sk- and ek_", "sk- and ek_"),
        ("the bearer", "the bearer"),
        ("http://me:hush@proxy:3128/x", f"http://{REMOVED}@proxy:3128/x"),
        ("https://site.example/@me, a@b.example", "https://site.example/@me, a@b.example"),
        ("", ""),
    ],
)
def test_what_looks_like_a_secret_is_removed(text: str, left: str) -> None:
    assert redact(text) == left


def test_given_secrets_are_removed_wherever_they_are() -> None:
    value = {
        "a": "x hush x",
        "hush": ["hush", {"b": ["hushhush"]}],
        "n": [1, 2.5, True, None],
        "other": "psst",
    }
    assert redact(value, "hush", "", Secret("psst")) == {
        "a": "x [removed] x",
        "[removed]": ["[removed]", {"b": ["[removed][removed]"]}],
        "n": [1, 2.5, True, None],
        "other": "[removed]",
    }
    assert value["other"] == "psst"  # the original is as it was


@pytest.mark.parametrize(
    "text", ["a-" * 50_000, "sk-" * 30_000, "Bearer " * 15_000, "x*" * 50_000, "a" * 100_000]
)
def test_a_long_text_is_gone_through_in_time(text: str) -> None:
    begun = time.monotonic()
    redact(text)
    assert time.monotonic() - begun < 5
