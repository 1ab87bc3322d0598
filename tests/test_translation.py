"""Everything that people read has its German words: the catalogue against the literals in the code."""

import ast
import gettext
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chatkit_sessions

ROOT = Path(chatkit_sessions.__file__).parent
FUNCTIONS = {"_", "gettext", "gettext_lazy", "ngettext", "ngettext_lazy"}


def texts(path: Path) -> Iterator[str]:
    """Yield the texts that a file has translated; of one with a plural, the singular."""
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    for call in calls:
        if isinstance(call.func, ast.Name) and call.func.id in FUNCTIONS:
            yield from (str(text.value) for text in call.args[:1] if isinstance(text, ast.Constant))


def test_every_text_has_its_german_words() -> None:
    german = gettext.translation("django", ROOT / "locale", ["de"])
    catalogue: dict[Any, str] = german._catalog  # type: ignore[attr-defined]  # a word may be the same in both
    found = {text for path in ROOT.rglob("*.py") for text in texts(path)}
    assert len(found) > 300
    assert sorted(text for text in found if text not in catalogue and (text, 0) not in catalogue) == []
