from datetime import timedelta
from typing import Any

import pytest
from django.utils.translation import gettext_lazy

from chatkit_sessions import rules
from chatkit_sessions.bounds import Check, ParameterError, boolean, integer, mapping

VISIBLE = "must be a string of visible ASCII characters, not"
ADDRESS = "must be an address that begins with https:// (or http:// for tests)."
SIGNED_IN = "must have no user name and password in it: addresses are logged."
SECONDS = "must be a number of seconds above 0 and up to 86400, not"
FUNCTION = "must be a callable or its dotted path, not"
SLUG = "must be a slug: 1 to 64 letters, digits, hyphens or underscores."
RATE = "must be a rate such as '30/hour': a number of at least 1 a second, minute, hour or day."
REFUSED: list[tuple[Check, Any, str]] = [
    (rules.nullable(boolean), 1, "f must be true or false, not int."),
    (rules.string, None, "f must be a string, not NoneType."),
    (rules.string, 1, "f must be a string, not int."),
    (rules.api_key, "", f"f {VISIBLE} an empty value."),
    (rules.api_key, "sk sentinel", f"f {VISIBLE} one with spaces or other characters."),
    (rules.api_key, "sk-sentinel\n", f"f {VISIBLE} one with spaces or other characters."),
    (rules.api_key, None, f"f {VISIBLE} NoneType."),
    (rules.api_key_source, b"sk", f"f {VISIBLE} bytes."),
    *(
        (rules.url, value, f"f {ADDRESS}")
        for value in (
            None,
            7,
            "",
            "api.openai.com/v1",
            "//api.openai.com",
            "ftp://api.openai.com",
            "https://",
            "https:///v1",
            "https://[::1",
            "https://api.openai.com:port",
            "https://api.openai.com:99999",
            "https://api.openai.com:0",
            "https://api.openai.com/v1\n",
            " https://api.openai.com/v1",
            "https://api openai.com",
            "javascript:alert(1)//https://x",
        )
    ),
    *(
        (rules.url, value, f"f {SIGNED_IN}")
        for value in (
            "https://me:sentinel@api.openai.com/v1",
            "https://sentinel@api.openai.com",
            "http://:sentinel@127.0.0.1:8000",
            "https://@api.openai.com",
        )
    ),
    *(
        (rules.seconds, value, f"f {SECONDS} {shown}.")
        for value, shown in (
            (0, "0"),
            (-1, "-1"),
            (0.0, "0.0"),
            (86_400.5, "86400.5"),
            (float("nan"), "nan"),
            (float("inf"), "inf"),
            (10**40, "a number of more than 38 digits"),
            (True, "bool"),
            ("10", "str"),
            (None, "NoneType"),
        )
    ),
    (rules.pair(integer(1), integer(2)), 3, "f must be a pair, not int."),
    (rules.pair(integer(1), integer(2)), (1,), "f must be a pair, not tuple."),
    (rules.pair(integer(1), integer(2)), [1, 2, 3], "f must be a pair, not list."),
    (rules.pair(integer(1), integer(2)), (0, 2), "f[0] must be an integer of at least 1, not 0."),
    (rules.pair(integer(1), integer(2)), (1, 1), "f[1] must be an integer of at least 2, not 1."),
    (rules.items(boolean), "abc", "f must be a list, not str."),
    (rules.items(boolean), {"a": True}, "f must be a list, not dict."),
    (rules.items(boolean), [True, 1], "f[1] must be true or false, not int."),
    *((rules.function, value, f"f {FUNCTION} str.") for value in ("", "name", "a b.c", "a.b()", ".", "a.")),
    (rules.function, 3, f"f {FUNCTION} int."),
    (rules.function_or(mapping({})), "name", f"f {FUNCTION} str."),
    (rules.function_or(mapping({})), 3, "f must be a mapping, not int."),
    *((rules.slug, value, f"f {SLUG}") for value in ("", "a b", "é", "a/b", "a\n", "s" * 65, None, 5)),
    *(
        (rules.rate, value, f"f {RATE}")
        for value in (
            None,
            30,
            "",
            "30",
            "0/hour",
            "-1/hour",
            "30/week",
            "30/h",
            "1.5/day",
            "3/hour\n",
            "٣/hour",
        )
    ),
    (rules.rate, f"{10**9}/hour", f"f {RATE}"),
    (rules.ui_options, [], "f must be a mapping, not list."),
    *(
        (
            rules.ui_options,
            {name: 1},
            f"f.{name} is no option that can be stored, and one unknown option leaves the widget blank; "
            "known: commands, composer, disclaimer, entities, frameTitle, header, history, initialThread, "
            "locale, startScreen, theme, thread, threadItemActions, widgets.",
        )
        for name in ("api", "onClientTool", "Theme", 5)
    ),
    (rules.ui_options, {"theme": float("nan")}, "f.theme must be a finite number."),
    (
        rules.ui_options,
        {"composer": {"models": [{"id": "a"}, {"size": float("-inf")}]}},
        "f.composer.models[1].size must be a finite number.",
    ),
    (
        rules.ui_options,
        {"header": {"leftAction": ({"onClick": print},)}},
        "f.header.leftAction[0].onClick must be data: a function cannot be handed to the page.",
    ),
]


@pytest.mark.parametrize(("check", "value", "message"), REFUSED)
def test_what_a_rule_does_not_allow_is_named(check: Check, value: Any, message: str) -> None:
    with pytest.raises(ParameterError) as refused:
        check("f", value)
    assert str(refused.value) == message
    assert "sentinel" not in message


ALLOWED: list[tuple[Check, Any]] = [
    (rules.nullable(boolean), None),
    (rules.nullable(boolean), True),
    (rules.any_value, object()),
    (rules.string, ""),
    (rules.api_key, "sk-!~"),
    (rules.api_key_source, "sk-a"),
    (rules.api_key_source, lambda: "sk-a"),
    (rules.url, "https://api.openai.com/v1/"),
    (rules.url, "HTTP://127.0.0.1:8000"),
    (rules.url, "https://[::1]:1/v1?a=b#c"),
    (rules.url, "https://api.openai.com/@v1?to=me@example.org"),
    (rules.seconds, 86_400),
    (rules.seconds, 0.001),
    (rules.pair(integer(1), integer(2)), [1, 2]),
    (rules.items(boolean), []),
    *((rules.items(boolean), kind([True])) for kind in (list, tuple, set, frozenset)),
    (rules.function, len),
    (rules.function, "package.module.name"),
    (rules.function_or(mapping({})), {}),
    (rules.function_or(mapping({})), len),
    (rules.function_or(mapping({})), "package.name"),
    (rules.slug, "a"),
    (rules.slug, "A-b_9" + "s" * 59),
    *((rules.rate, value) for value in ("1/second", "30/minute", "999999999/hour", "7/day")),
    (rules.ui_options, {name: [{"a": (1, 0.5, "x", None, True)}] for name in rules.UI_OPTIONS}),
    (rules.ui_options, {"composer": {"placeholder": gettext_lazy("Ask")}}),
    (rules.ui_options, {}),
]


@pytest.mark.parametrize(("check", "value"), ALLOWED)
def test_what_a_rule_allows_passes(check: Check, value: Any) -> None:
    check("f", value)


@pytest.mark.parametrize(
    ("rate", "parsed"),
    [
        ("5/second", (5, timedelta(seconds=1))),
        ("30/hour", (30, timedelta(hours=1))),
        ("7/day", (7, timedelta(days=1))),
        ("2/minute", (2, timedelta(minutes=1))),
    ],
)
def test_a_rate_is_a_number_and_a_period(rate: str, parsed: tuple[int, timedelta]) -> None:
    assert rules.parse_rate(rate) == parsed


WORKFLOW_FIELDS: dict[str, tuple[list[Any], list[tuple[Any, str]]]] = {
    "name": (["", "Support"], [(None, "must be a string, not NoneType.")]),
    "issuer": (["openai"], [("azure", "must be 'openai'.")]),
    "credentials": (["", "eu"], [(1, "must be a string, not int.")]),
    "workflow_id": (
        ["wf_1", "w" * 255],
        [("w" * 256, "must be a string of 1 to 255 characters, not 256 characters.")],
    ),
    "version": ([None, "3"], [("", "must be a string of at least 1 character, not 0 characters.")]),
    "server_url": (["https://example.org/chat"], [("chat", ADDRESS)]),
    "domain_key": (["", "dk"], [(None, "must be a string, not NoneType.")]),
    "is_active": ([True, False], [(None, "must be true or false, not NoneType.")]),
    "allow_anonymous": ([None, True], [(1, "must be true or false, not int.")]),
    "groups": ([[], ["Staff"]], [("Staff", "must be a list, not str.")]),
    "isolate_history": ([None, True], [("no", "must be true or false, not str.")]),
    "state_variables": ([None, {"a": 1}], [([], "must be a mapping, not list.")]),
    "tracing_enabled": ([None, False], [(0, "must be true or false, not int.")]),
    "automatic_thread_titling_enabled": ([None, False], [(0, "must be true or false, not int.")]),
    "file_upload_enabled": ([None, False], [(0, "must be true or false, not int.")]),
    "file_upload_max_file_size": (
        [None, 1, 512],
        [
            (0, "must be an integer from 1 to 512, not 0."),
            (513, "must be an integer from 1 to 512, not 513."),
        ],
    ),
    "file_upload_max_files": ([None, 1], [(0, "must be an integer of at least 1, not 0.")]),
    "history_enabled": ([None, False], [(0, "must be true or false, not int.")]),
    "history_recent_threads": ([None, 1], [(0, "must be an integer of at least 1, not 0.")]),
    "expires_after": (
        [None, 1, 300],
        [
            (0, "must be an integer from 1 to 300, not 0."),
            (301, "must be an integer from 1 to 300, not 301."),
        ],
    ),
    "max_requests_per_1_minute": ([None, 1], [(0, "must be an integer of at least 1, not 0.")]),
    "max_active_sessions": ([None, 1], [(0, "must be an integer of at least 1, not 0.")]),
    "max_sessions_per_hour": ([None, 1], [(0, "must be an integer of at least 1, not 0.")]),
    "ui_options": ([None, {}, {"theme": {}}], [([], "must be a mapping, not list.")]),
}


def test_each_field_of_a_workflow_has_its_rule() -> None:
    assert set(WORKFLOW_FIELDS) == set(rules.workflow_rules(300))


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name in WORKFLOW_FIELDS for value in WORKFLOW_FIELDS[name][0]]
)
def test_a_field_of_a_workflow_is_taken(name: str, value: Any) -> None:
    rules.workflows(300)("W", {"support": {"id": "wf_1", name: value}})


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [(name, value, reason) for name in WORKFLOW_FIELDS for value, reason in WORKFLOW_FIELDS[name][1]],
)
def test_a_field_of_a_workflow_is_bounded(name: str, value: Any, reason: str) -> None:
    with pytest.raises(ParameterError) as refused:
        rules.workflows(300)("W", {"support": {name: value}})
    assert str(refused.value) == f"W['support'].{name} {reason}"


@pytest.mark.parametrize(
    ("workflows", "message"),
    [
        ([], "W must be a mapping of slugs to mappings, not list."),
        ({"a b": {}}, f"W['a b'] {SLUG}"),
        ({5: {}}, f"W[5] {SLUG}"),
        ({"a": "wf_1"}, "W['a'] must be a mapping, not str."),
        ({"a": {"id": ""}}, "W['a'].id must be a string of 1 to 255 characters, not 0 characters."),
    ],
)
def test_workflows_are_mappings_by_slug(workflows: Any, message: str) -> None:
    with pytest.raises(ParameterError) as refused:
        rules.workflows(300)("W", workflows)
    assert str(refused.value) == message


def test_an_unknown_field_of_a_workflow_is_refused_with_those_there_are() -> None:
    with pytest.raises(ParameterError) as refused:
        rules.workflows(300)("W", {"a": {"ID": "wf_1"}})
    assert str(refused.value) == f"W['a'].ID is unknown; known: {', '.join(WORKFLOW_FIELDS)}, id."


@pytest.mark.parametrize(
    ("credentials", "message"),
    [
        ([], "C must be a mapping of names to mappings, not list."),
        ({"eu": "sk-sentinel"}, "C['eu'] must be a mapping, not str."),
        (
            {"eu": {"KEY": "sk-sentinel"}},
            "C['eu'].KEY is unknown; known: API_KEY, BASE_URL, ORGANIZATION, PROJECT.",
        ),
        (
            {"eu": {"API_KEY": "sk sentinel"}},
            f"C['eu'].API_KEY {VISIBLE} one with spaces or other characters.",
        ),
        ({"eu": {"API_KEY": None}}, f"C['eu'].API_KEY {VISIBLE} NoneType."),
        ({"eu": {"BASE_URL": "eu"}}, f"C['eu'].BASE_URL {ADDRESS}"),
        ({"eu": {"ORGANIZATION": ""}}, "C['eu'].ORGANIZATION must be a string of visible ASCII characters."),
        ({"eu": {"PROJECT": "a b"}}, "C['eu'].PROJECT must be a string of visible ASCII characters."),
    ],
)
def test_credentials_are_mappings_by_name_and_not_shown(credentials: Any, message: str) -> None:
    with pytest.raises(ParameterError) as refused:
        rules.credentials("C", credentials)
    assert str(refused.value) == message


def test_credentials_may_have_all_or_nothing() -> None:
    full = {"API_KEY": lambda: "sk-a", "BASE_URL": "https://eu", "ORGANIZATION": None, "PROJECT": "proj_1"}
    rules.credentials("C", {"eu": full, "": {}})
