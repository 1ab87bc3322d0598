"""The README's tables and snippets, held against the code that they describe."""

import ast
import dataclasses
import importlib
import inspect
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands
from django.urls import URLPattern
from rest_framework import exceptions as rest_framework

from chatkit_sessions import checks, conf, exceptions, rules, signals, urls
from chatkit_sessions.api.errors import STATUS_BY_CODE
from chatkit_sessions.services import issue_session
from tests.conftest import SETTINGS_VARIABLES

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
METHODS = ("get", "post", "put", "patch", "delete")


def table(headings: str) -> list[list[str]]:
    """Return the rows of the one table whose first columns have these headings."""
    lines = README.splitlines()
    (start,) = [number for number, line in enumerate(lines) if line.startswith(f"| {headings} |")]
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip().strip("|").split(" | ")])
    return rows


def quoted(cell: str) -> list[str]:
    """Return what stands between backticks."""
    return re.findall(r"`([^`]+)`", cell)


def fences(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def setting_rows() -> dict[str, list[str]]:
    return {quoted(row[0])[0]: row for row in table("key")}


def test_settings_table_has_every_key_in_the_order_of_the_code() -> None:
    assert list(setting_rows()) == [item.name.upper() for item in dataclasses.fields(conf.Settings)]


@pytest.mark.parametrize("item", dataclasses.fields(conf.Settings), ids=lambda item: item.name.upper())
def test_settings_table_tells_the_default(item: dataclasses.Field[Any]) -> None:
    (written,) = quoted(setting_rows()[item.name.upper()][2])
    factory = item.default_factory
    default = item.default if factory is dataclasses.MISSING else factory()
    assert _comparable(ast.literal_eval(written)) == _comparable(default)


def _comparable(value: Any) -> Any:
    """Return the value as the code has it: a list in the README is a tuple there, which nobody can change."""
    return tuple(value) if isinstance(value, list) else value


@pytest.mark.parametrize("item", dataclasses.fields(conf.Settings), ids=lambda item: item.name.upper())
def test_settings_table_tells_the_environment(item: dataclasses.Field[Any]) -> None:
    row = setting_rows()[item.name.upper()]
    variables = quoted(row[3]) if len(row) > 3 else []
    # The workflow of the environment is no value of the key, but one entry in it.
    expected = [name for name in SETTINGS_VARIABLES if name.startswith("CHATKIT_WORKFLOW_")]
    assert variables == (expected if item.name == "workflows" else list(item.metadata["env"]))


def test_every_variable_of_the_settings_table_is_kept_out_of_the_tests() -> None:
    named = {name for row in setting_rows().values() if len(row) > 3 for name in quoted(row[3])}
    assert named == set(SETTINGS_VARIABLES)


def test_workflow_table_has_every_field() -> None:
    named = [name for row in table("field") for name in quoted(row[0])]
    assert sorted(named) == sorted(rules.workflow_rules(600))


def endpoints() -> Iterator[tuple[str, str]]:
    for pattern in urls.urlpatterns:
        assert isinstance(pattern, URLPattern)
        path = re.sub(r"<[^>]+>", "{id}", str(pattern.pattern))
        view = pattern.callback.view_class  # type: ignore[attr-defined]  # set by View.as_view()
        for method in METHODS:
            if hasattr(view, method):
                yield f"{method.upper()} {path}", str(pattern.name)


def test_endpoint_table_has_every_endpoint_under_its_name() -> None:
    written = [(quoted(row[0])[0], quoted(row[1])[0]) for row in table("method and path")]
    assert sorted(written) == sorted(endpoints())


REST_FRAMEWORKS_OWN: dict[str, int] = {
    error.default_code: error.status_code
    for error in (
        rest_framework.AuthenticationFailed,
        rest_framework.NotAuthenticated,
        rest_framework.PermissionDenied,
        rest_framework.Throttled,
    )
}


@pytest.mark.parametrize("known", [STATUS_BY_CODE, REST_FRAMEWORKS_OWN], ids=["ours", "REST framework's"])
def test_error_table_tells_the_status_of_every_code(known: dict[str, int]) -> None:
    written = {quoted(row[1])[0]: row[0] for row in table("status | code")}
    assert written.keys() == STATUS_BY_CODE.keys() | REST_FRAMEWORKS_OWN.keys()
    assert {code: status for code, status in known.items() if str(status) not in written[code]} == {}


def test_every_check_has_its_row() -> None:
    ids = set(re.findall(r"chatkit_sessions\.[EW]\d{3}", inspect.getsource(checks)))
    assert {quoted(row[0])[0] for row in table("id")} == ids


def test_every_argument_of_issuing_has_its_row() -> None:
    written = [quoted(row[0])[0] for row in table("argument of `issue_session`")]
    assert sorted(written) == sorted(inspect.signature(issue_session).parameters)


def test_every_signal_and_family_of_errors_is_named() -> None:
    names = [name for name in vars(signals) if name.startswith("session_")]
    families = [
        error.__name__
        for error in exceptions.ChatKitSessionsError.__subclasses__()
        if error.__module__ == exceptions.__name__
    ]
    assert [name for name in [*names, *families] if f"`{name}`" not in README] == []


def test_every_command_that_is_named_exists() -> None:
    ours = {name for name, app in get_commands().items() if app == "chatkit_sessions"}
    assert set(re.findall(r"manage\.py (chatkit_\w+)", README)) == ours


def test_every_extra_has_its_row() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [quoted(row[0])[0] for row in table("extra")] == list(project["optional-dependencies"])


@pytest.mark.parametrize("snippet", fences("python"))
def test_python_snippet_imports_what_exists(snippet: str) -> None:
    for node in ast.walk(ast.parse(snippet)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("chatkit_sessions"):
            module = importlib.import_module(str(node.module))
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


@pytest.mark.parametrize("snippet", fences("json"))
def test_json_snippet_is_json(snippet: str) -> None:
    assert json.loads(snippet)


def test_every_link_leads_somewhere() -> None:
    headings = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    anchors = {f"#{re.sub(r'[^a-z0-9 -]', '', heading.lower()).replace(' ', '-')}" for heading in headings}
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", README) if "://" not in target]
    broken = [target for target in targets if target not in anchors and not (ROOT / target).is_file()]
    assert targets
    assert broken == []
