"""Which room of the package may know which: read off the imports, so that the direction stays as designed."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "chatkit_sessions"
ROOT = Path(__file__).parents[1] / PACKAGE

# From the lowest up. A room is a module or a package right below the root; it may import those further down,
# and not those beside it.
LEVELS: tuple[frozenset[str], ...] = tuple(
    map(
        frozenset,
        (
            {"bounds", "secret", "standin"},
            {"client", "exceptions", "layers", "rules", "signals", "testing", "widget"},
            {"credentials", "digests", "visitors"},
            {"conf"},
            {"models"},
            {"identity"},
            {"workflows"},
            {"policy"},
            {"issuers"},
            {"services"},
            {"admin", "api", "checks", "management", "receivers", "server", "templatetags"},
            {"apps", "urls"},
        ),
    )
)
LEVEL = {room: number for number, rooms in enumerate(LEVELS) for room in rooms}

# Rooms that may know less than their level allows.
ALLOWED = {
    "client": {"bounds", "secret"},
    "rules": {"bounds"},
    "signals": set[str](),
    "standin": set[str](),
    "testing": {"standin"},
    "widget": set[str](),
}
# Rooms that only the wiring knows.
WIRED = {"api", "admin"}
WITHOUT_DJANGO = {"bounds", "client", "rules", "secret", "standin"}
STANDARD_LIBRARY_ONLY = {"bounds", "rules", "secret", "standin"}
# A migration is a record of its day, and what it imports is Django's business.
EXEMPT = {"migrations"}


def room_of(path: str) -> str:
    """Return the room of a file, given from the package's root."""
    return path.partition("/")[0].removesuffix(".py")


def imported(path: str, source: str) -> Iterator[str]:
    """Yield the dotted name of everything that a file imports, but for what only type checkers read."""
    own = [PACKAGE, *path.removesuffix(".py").split("/")]
    nodes: list[ast.AST] = [ast.parse(source)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = own[: -node.level] if node.level else []
            base += node.module.split(".") if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            nodes.extend(node.orelse)
        else:
            nodes.extend(ast.iter_child_nodes(node))


def violations(path: str, source: str) -> list[str]:
    """Return what a file imports against the design, in words."""
    room = room_of(path)
    if room in EXEMPT or room == "__init__":
        return [f"{path} is to import nothing" for _ in imported(path, source) if room == "__init__"]
    if room not in LEVEL:
        return [f"{path} has no place in LEVELS"]
    found = []
    for name in imported(path, source):
        top, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if top == PACKAGE and other != room:
            found += [f"{path} imports {other}: {reason}" for reason in objections(room, other)]
        elif top == "django" and room in WITHOUT_DJANGO:
            found.append(f"{path} imports {name}: {room} knows no Django")
        elif top not in {PACKAGE, *sys.stdlib_module_names} and room in STANDARD_LIBRARY_ONLY:
            found.append(f"{path} imports {name}: {room} needs the standard library alone")
    return found


def objections(room: str, other: str) -> Iterator[str]:
    if other not in LEVEL:
        yield "there is no such room"
    elif other not in ALLOWED.get(room, LEVEL):
        yield f"{room} may know only {', '.join(sorted(ALLOWED[room])) or 'itself'}"
    elif other in WIRED and room not in LEVELS[-1]:
        yield "only the wiring may"
    elif LEVEL[other] >= LEVEL[room]:
        yield f"it is not below {room}"


FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


def test_every_room_is_looked_at() -> None:
    assert {"bounds.py", "client/transport.py", "services/issue.py", "api/views.py"} <= set(FILES)


@pytest.mark.parametrize("path", FILES)
def test_imports_point_downward(path: str) -> None:
    assert violations(path, (ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("path", "source", "found"),
    [
        ("conf.py", "from .services import issue", ["conf.py imports services: it is not below conf"]),
        ("conf.py", "from . import services", ["conf.py imports services: it is not below conf"]),
        (
            "models/session.py",
            "from chatkit_sessions.services.issue import issue_session",
            ["models/session.py imports services: it is not below models"],
        ),
        (
            "policy.py",
            "import chatkit_sessions.services",
            ["policy.py imports services: it is not below policy"],
        ),
        (
            "models/__init__.py",
            "from ..identity import Identity",
            ["models/__init__.py imports identity: it is not below models"],
        ),
        (
            "services/issue.py",
            "def later():\n    from chatkit_sessions.api import views",
            ["services/issue.py imports api: only the wiring may"],
        ),
        ("receivers.py", "from .admin import session", ["receivers.py imports admin: only the wiring may"]),
        (
            "admin/session.py",
            "from chatkit_sessions import checks",
            ["admin/session.py imports checks: it is not below admin"],
        ),
        (
            "client/client.py",
            "from chatkit_sessions.rules import url",
            ["client/client.py imports rules: client may know only bounds, secret"],
        ),
        (
            "client/client.py",
            "from chatkit_sessions.conf import read",
            ["client/client.py imports conf: client may know only bounds, secret"],
        ),
        ("client/client.py", "import django", ["client/client.py imports django: client knows no Django"]),
        (
            "client/client.py",
            "from django.conf import settings",
            ["client/client.py imports django.conf.settings: client knows no Django"],
        ),
        (
            "standin/app.py",
            "from chatkit_sessions import bounds",
            ["standin/app.py imports bounds: standin may know only itself"],
        ),
        (
            "standin/app.py",
            "import requests",
            ["standin/app.py imports requests: standin needs the standard library alone"],
        ),
        (
            "secret.py",
            "import environ",
            ["secret.py imports environ: secret needs the standard library alone"],
        ),
        ("testing.py", "from .conf import read", ["testing.py imports conf: testing may know only standin"]),
        ("cellar.py", "", ["cellar.py has no place in LEVELS"]),
        ("conf.py", "from .cellar import wine", ["conf.py imports cellar: there is no such room"]),
        ("__init__.py", "from .services import issue_session", ["__init__.py is to import nothing"]),
        (
            "conf.py",
            "try:\n    import x\nexcept ImportError:\n    from . import urls",
            ["conf.py imports urls: it is not below conf"],
        ),
        (
            "models/session.py",
            "if TYPE_CHECKING:\n    from .. import api\nelse:\n    from .. import urls",
            ["models/session.py imports urls: it is not below models"],
        ),
    ],
)
def test_an_import_against_the_design_is_noticed(path: str, source: str, found: list[str]) -> None:
    assert violations(path, source) == found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("conf.py", "import requests\nfrom django.conf import settings\nfrom . import bounds, rules"),
        (
            "client/client.py",
            "import requests\nfrom chatkit_sessions import bounds\nfrom .errors import APIError",
        ),
        ("client/__init__.py", "from .client import ChatKitClient"),
        ("services/issue.py", "from chatkit_sessions.services import limits\nfrom . import audit"),
        ("urls.py", "from .api import views"),
        ("apps.py", "from chatkit_sessions.admin import session"),
        ("standin/app.py", "import json\nfrom .api import Api\nfrom . import items"),
        ("management/commands/chatkit_standin.py", "from chatkit_sessions.standin import StandIn"),
        ("migrations/0001_initial.py", "import chatkit_sessions.services"),
        ("models/session.py", "if typing.TYPE_CHECKING:\n    from chatkit_sessions.identity import Identity"),
    ],
)
def test_an_import_as_designed_is_no_matter(path: str, source: str) -> None:
    assert violations(path, source) == []
