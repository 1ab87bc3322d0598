"""The distribution: what is in the wheel, and that a site of five lines runs on it.

The wheel is built here without an index. CHATKIT_WHEEL names one that was built already, and
CHATKIT_WHEEL_PYTHON an interpreter into which it was installed with its dependencies.
"""

import email.message
import email.parser
import fnmatch
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from chatkit_sessions.standin import StandIn

pytestmark = pytest.mark.wheel

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "chatkit_sessions"


class Installation(NamedTuple):
    python: str
    path: str  # PYTHONPATH; empty where the interpreter has the package installed


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> str:
    """Run a command with none of our settings, and measured by nobody: it is another installation."""
    ours = ("CHATKIT_", "COVERAGE_", "COV_", "DJANGO_", "OPENAI_", "PYTHON")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if given := os.environ.get("CHATKIT_WHEEL"):
        return Path(given).resolve()
    directory = tmp_path_factory.mktemp("wheel")
    offline = ["--no-index", "--no-deps", "--no-build-isolation"]
    run(sys.executable, "-m", "pip", "wheel", "--quiet", *offline, "--wheel-dir", directory, ROOT)
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installation(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    if given := os.environ.get("CHATKIT_WHEEL_PYTHON"):
        return Installation(given, "")
    directory = tmp_path_factory.mktemp("installed")
    offline = ["--no-index", "--no-deps"]
    run(sys.executable, "-m", "pip", "install", "--quiet", *offline, "--target", directory, wheel)
    return Installation(sys.executable, str(directory))


def test_wheel_carries_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = (
        path for path in (ROOT / PACKAGE).rglob("*") if path.is_file() and "__pycache__" not in path.parts
    )
    assert packed == {path.relative_to(ROOT).as_posix() for path in files}


@pytest.mark.parametrize(
    "pattern",
    [
        "locale/*/LC_MESSAGES/django.mo",
        "migrations/0001_initial.py",
        "py.typed",
        "standin/*.css",
        "standin/*.js",
        "static/chatkit_sessions/*.js",
        "templates/*.html",
    ],
)
def test_wheel_carries_what_is_not_imported(wheel: Path, pattern: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert fnmatch.filter(archive.namelist(), f"{PACKAGE}/{pattern}")


def test_wheel_says_what_it_needs_and_how_it_is_licensed(wheel: Path) -> None:
    metadata = read_metadata(wheel)
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    names = sorted(line.split(">=")[0] for line in needed)
    assert names == ["django", "django-environ", "djangorestframework", "requests"]
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"
    assert metadata["License-File"] == "LICENSE"


def read_metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.parser.Parser().parsestr(archive.read(name).decode())


def make_site(directory: Path, installation: Installation) -> None:
    """Make what `django-admin startproject` makes, and add the five lines of the installation to it."""
    run(installation.python, "-m", "django", "startproject", "mysite", ".", cwd=directory)
    add(directory / "mysite" / "settings.py", 'INSTALLED_APPS += ["rest_framework", "chatkit_sessions"]')
    # The site's own page: a folder for it, its address, and in it the two lines that show the chat.
    add(directory / "mysite" / "settings.py", 'TEMPLATES[0]["DIRS"] = [BASE_DIR / "templates"]')
    add(
        directory / "mysite" / "urls.py",
        "from django.urls import include",
        "from django.views.generic import TemplateView",
        'urlpatterns += [path("api/chatkit/", include("chatkit_sessions.urls"))]',
        'urlpatterns += [path("", TemplateView.as_view(template_name="page.html"))]',
    )
    (directory / "templates").mkdir()
    (directory / "templates" / "page.html").write_text("{% load chatkit %}\n{% chatkit %}\n")


def add(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def visit(directory: Path, installation: Installation, api: StandIn) -> dict[str, Any]:
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(None, [installation.path, str(directory)])),
        "OPENAI_API_KEY": "sk-five-lines",
        "OPENAI_BASE_URL": api.base_url,
        "CHATKIT_WORKFLOW_ID": "wf_five_lines",
    }
    command = [installation.python, "-W", "error"]
    run(*command, "manage.py", "check", "--fail-level", "WARNING", cwd=directory, **environment)
    run(*command, "manage.py", "migrate", "--verbosity", "0", cwd=directory, **environment)
    script = Path(__file__).with_name("wheel_site.py").read_text()
    (directory / "visit.py").write_text(script)
    seen: dict[str, Any] = json.loads(run(*command, "visit.py", cwd=directory, **environment))
    return seen


def test_site_of_five_lines_issues_a_session(tmp_path: Path, installation: Installation) -> None:
    make_site(tmp_path, installation)
    with StandIn(api_keys=["sk-five-lines"], workflows=["wf_five_lines"]) as api:
        seen = visit(tmp_path, installation, api)
        created = list(api.sessions.values())
    assert not Path(seen["package"]).is_relative_to(ROOT / PACKAGE)
    assert seen["page_status"] == 200
    assert "/api/chatkit/sessions/" in seen["page"]
    assert "chatkit_sessions/" in seen["page"]  # its script
    assert seen["status"] == 201
    assert seen["session"]["id"] == created[0]["id"]
    assert seen["session"]["client_secret"]
    assert seen["rows"] == [["visitor", "active", "wf_five_lines"]]
    assert len(created) == 1
