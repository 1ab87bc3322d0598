"""Everything that people read has its German words: the catalogue against the literals in the code."""

import ast
import gettext
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chatkit_sessions

ROOT = Path(chatkit_sessions.__file__).parent
# How many of their arguments name a text: those with a context have it before the text.
FUNCTIONS = {"_": 1, "gettext": 1, "gettext_lazy": 1, "ngettext": 1, "ngettext_lazy": 1, "pgettext_lazy": 2}


def texts(path: Path) -> Iterator[str]:
    """Yield the texts that a file has translated; of one with a plural, the singular."""
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    for call in calls:
        named = call.args[: FUNCTIONS.get(call.func.id, 0)] if isinstance(call.func, ast.Name) else []
        if named and all(isinstance(text, ast.Constant) for text in named):
            yield "\x04".join(ast.literal_eval(text) for text in named)


def test_every_text_has_its_german_words() -> None:
    german = gettext.translation("django", ROOT / "locale", ["de"])
    catalogue: dict[Any, str] = german._catalog  # type: ignore[attr-defined]  # a word may be the same in both
    found = {text for path in ROOT.rglob("*.py") for text in texts(path)}
    assert len(found) > 300
    assert sorted(text for text in found if text not in catalogue and (text, 0) not in catalogue) == []
