"""Secrets in memory: strings that do not show themselves, and texts with secrets removed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, SupportsIndex

REMOVED = "[removed]"
# Keys (sk-...), client secrets (ek_... at the API, cks_... of this package) and bearer headers, wherever a
# text repeats them, whatever is shown with its middle masked (a wrong key is echoed so by the API), and what
# signs in to a proxy in its address.
_TOKENS = re.compile(
    r"\b(?:sk-|ek_|cks_)[\w*.\-]*[\w*\-]|\bBearer\s+\S+|(?<![\w.\-])[\w.\-]++\*{3,}(?:[\w*.\-]*[\w*\-])?"
    r"|(?<=://)[^/\s@]+(?=@)",
    re.IGNORECASE,
)


class Secret(str):
    """Hold a key or client secret: usable as a string, hidden from ``repr``, refused by pickle.

    Debug pages and error trackers print local variables with ``repr``, caches and task queues pickle them.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "<secret>"

    def __getitem__(self, index: SupportsIndex | slice) -> Secret:
        """Hide a part as well: some tracebacks show the beginning of a long string."""
        return Secret(super().__getitem__(index))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("A secret is never pickled: pass the session's reference instead.")


def hide(value: Any, *names: str) -> Any:
    """Return a mapping with the strings under these names hidden; what is no mapping is returned as it is."""
    if not isinstance(value, Mapping):
        return value
    return {
        name: Secret(item) if name in names and isinstance(item, str) else item
        for name, item in value.items()
    }


def redact(value: Any, *secrets: str) -> Any:
    """Return JSON-like ``value`` with the given secrets, and all that looks like one, removed."""
    return _mapped(value, lambda text: _TOKENS.sub(REMOVED, _replaced(text, secrets)))


def without(value: Any, *secrets: str) -> Any:
    """Return JSON-like ``value`` with the given secrets removed, and nothing else."""
    return _mapped(value, lambda text: _replaced(text, secrets))


def _replaced(text: str, secrets: Iterable[str]) -> str:
    for secret in filter(None, secrets):
        text = text.replace(secret, REMOVED)
    return text


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """Return JSON-like ``value`` with each text in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {_mapped(key, change): _mapped(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_mapped(item, change) for item in value]
    return value
