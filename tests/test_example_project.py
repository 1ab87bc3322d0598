"""The example project, started as its newcomers start it: by manage.py, with an environment of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chatkit_sessions.api.errors import STATUS_BY_CODE

ROOT = Path(__file__).resolve().parent.parent
MANAGE = ROOT / "example_project" / "manage.py"


class Manage:
    """manage.py with an empty database and none of our variables."""

    def __init__(self, directory: Path) -> None:
        ours = (
            "CHATKIT_",
            "COVERAGE_",
            "DEBUG",
            "DJANGO_",
            "OPENAI_",
            "SECRET_KEY",
            "DATABASE_URL",
            "CACHE_URL",
        )
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self.env |= {"DATABASE_URL": f"sqlite:///{directory}/demo.sqlite3", "PYTHONPATH": str(ROOT)}

    def __call__(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", str(MANAGE), *arguments]
        return subprocess.run(command, env=self.env | env, capture_output=True, text=True, timeout=120)

    def shell(self, code: str, **env: str) -> str:
        done = self("shell", "--command", code, **env)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def manage(tmp_path: Path) -> Manage:
    return Manage(tmp_path)


def test_accounts_are_created_once_and_restored(manage: Manage) -> None:
    assert manage("migrate", "--verbosity", "0").returncode == 0
    for _ in range(2):
        done = manage("demo_accounts")
        assert (done.returncode, done.stdout) == (
            0,
            "Accounts: visitor and operator, password chatkit-demo\n",
        )
    printed = manage.shell(
        "from django.contrib.auth.models import User\n"
        "for u in User.objects.order_by('username'):"
        " print(u.username, u.is_staff, u.is_superuser, u.check_password('chatkit-demo'))"
    )
    assert printed.splitlines()[-2:] == ["operator True True True", "visitor False False True"]


def test_accounts_are_refused_without_debug(manage: Manage) -> None:
    done = manage("demo_accounts", DEBUG="False", SECRET_KEY="s" * 50)
    assert done.returncode == 1
    assert "created only where DEBUG is on" in done.stderr


def test_secret_key_is_required_without_debug(manage: Manage) -> None:
    done = manage("check", DEBUG="False")
    assert done.returncode == 1
    assert "Set the SECRET_KEY environment variable" in done.stderr


def test_commands_that_do_not_serve_start_no_standin(manage: Manage) -> None:
    done = manage("check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "stand-in" not in done.stdout


def test_server_without_key_starts_the_standin_and_says_so(manage: Manage) -> None:
    code = (
        "import demo.wsgi, demo.asgi, requests\n"
        "from demo import standin\n"
        "print(requests.get(standin.SCRIPT_URL, timeout=5).status_code)"
    )
    done = manage("shell", "--command", code)
    # What is said stays out of the way of what a command prints for programs.
    assert done.stderr.count("There is no OPENAI_API_KEY: a stand-in API at http://127.0.0.1:") == 1
    assert done.stdout.splitlines()[-1] == "200"
    assert "stand-in" not in done.stdout


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "CHATKIT_OPENAI_API_KEY"])
def test_server_with_key_uses_the_real_api_and_script(manage: Manage, variable: str) -> None:
    printed = manage.shell(
        "import demo.wsgi\n"
        "from chatkit_sessions.conf import get_settings\n"
        "settings = get_settings()\n"
        "print(settings.base_url, settings.chatkit_js_url, settings.workflows['default']['workflow_id'])",
        CHATKIT_WORKFLOW_ID="wf_mine",
        **{variable: "sk-made-up"},
    )
    assert "stand-in" not in printed
    script = "https://cdn.platform.openai.com/deployments/chatkit/chatkit.js"
    assert printed.splitlines()[-1] == f"https://api.openai.com/v1 {script} wf_mine"


def test_it_speaks_the_language_of_the_browser(manage: Manage) -> None:
    printed = manage.shell(
        "from django.test import Client\n"
        "browser = Client(SERVER_NAME='localhost', headers={'Accept-Language': 'de'})\n"
        "print(browser.post('/api/chatkit/sessions/').json()['detail'])"
    )
    assert printed.splitlines()[-1] == "Melden Sie sich an, um einen Chat zu starten."


@pytest.fixture
def description(manage: Manage) -> dict[str, Any]:
    """What the site publishes of the endpoints, by path and method."""
    pytest.importorskip("drf_spectacular", reason="needs the demo extra")
    done = manage("spectacular", "--validate", "--fail-on-warn", "--format", "openapi-json")
    assert (done.returncode, done.stderr) == (0, "")
    paths: dict[str, Any] = json.loads(done.stdout)["paths"]
    return paths


def test_every_endpoint_is_described(description: dict[str, Any]) -> None:
    described = {
        operation["operationId"]: (method.upper(), path.removeprefix("/api/chatkit/"))
        for path, methods in description.items()
        for method, operation in methods.items()
    }
    assert described == {
        "issue_session": ("POST", "sessions/"),
        "list_sessions": ("GET", "sessions/"),
        "retrieve_session": ("GET", "sessions/{session_id}/"),
        "cancel_session": ("POST", "sessions/{session_id}/cancel/"),
        "list_workflows": ("GET", "workflows/"),
        "list_threads": ("GET", "threads/"),
        "retrieve_thread": ("GET", "threads/{thread_id}/"),
        "delete_thread": ("DELETE", "threads/{thread_id}/"),
        "list_thread_items": ("GET", "threads/{thread_id}/items/"),
    }


def test_every_error_is_described_with_its_codes(description: dict[str, Any]) -> None:
    answers = [
        (int(status), answer)
        for methods in description.values()
        for operation in methods.values()
        for status, answer in operation["responses"].items()
    ]
    described: dict[str, set[int]] = {}
    for status, answer in answers:
        assert answer["headers"]["Cache-Control"]["schema"]["enum"] == ["private, no-store"]
        assert ("Retry-After" in answer["headers"]) == (status in {429, 503})
        if status < 400:
            continue
        shape = answer["content"]["application/json"]["schema"]
        assert shape["required"] == ["detail", "code", "reference"]
        for code in shape["properties"]["code"]["enum"]:
            described.setdefault(code, set()).add(status)
    # "not_authenticated" is 403 or, where the site's authentication has a challenge, 401.
    assert {code: max(statuses) for code, statuses in described.items() if code in STATUS_BY_CODE} == dict(
        STATUS_BY_CODE
    )
