"""Finding many secrets in a long text, however they are written."""

from __future__ import annotations

import html
import json
from base64 import b64encode
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

from chatkit_sessions.secret import redact

_PREFIX = 4
# So many characters of a longer secret are too many: some tracebacks cut long strings off.
_BEGINNING = 24


@dataclass(frozen=True)
class Finding:
    """A secret where none may be.

    Attributes:
        where: the test that ran.
        before: what stands before it in the same entry.
        form: how it is written.
    """

    channel: str
    where: str
    before: str = field(repr=False)
    secret: str = field(repr=False)
    form: str

    def __str__(self) -> str:
        before = redact(self.before[-200:], self.secret)[-60:]
        masked = f"{self.secret[:5]}... of {len(self.secret)} characters"
        return f"{self.channel} ({self.form}), {redact(self.where, self.secret)}: {masked} after {before!r}"


class Needles:
    """Secrets in all their forms, by how they begin: one pass of ``str.find`` for each beginning."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._forms: dict[str, tuple[str, str]] = {}
        self._lengths: dict[str, set[int]] = defaultdict(set)
        for secret in secrets:
            for name, form in forms(secret):
                self._forms.setdefault(form, (secret, name))
                self._lengths[form[:_PREFIX]].add(len(form))

    def find(self, text: str) -> Iterator[tuple[int, str, str]]:
        """Yield the position, the secret and the form of each occurrence."""
        for prefix, lengths in self._lengths.items():
            position = text.find(prefix)
            while position >= 0:
                for length in sorted(lengths, reverse=True):
                    if found := self._forms.get(text[position : position + length]):
                        yield position, *found
                        break  # a whole secret is not its beginning as well
                position = text.find(prefix, position + 1)


def forms(secret: str) -> Iterator[tuple[str, str]]:
    """Yield the ways to write a secret, each with its name; those that change nothing come first."""
    raw = secret.encode()
    yield "plain", secret
    if len(secret) > _BEGINNING:
        yield "beginning", secret[:_BEGINNING]
    yield "URL", quote(secret, safe="")
    yield "HTML", html.escape(secret)
    yield "JSON", json.dumps(secret)[1:-1]
    yield "percent", "".join(f"%{byte:02X}" for byte in raw)
    yield "percent", "".join(f"%{byte:02x}" for byte in raw)
    yield "hexadecimal", raw.hex()
    for shift in range(3):
        form = _base64_within(raw, shift)
        yield "base64", form
        yield "base64", form.translate({ord("+"): "-", ord("/"): "_"})


def _base64_within(raw: bytes, shift: int) -> str:
    """Return the part that is always the same in the base64 of a text that has this in it.

    shift: how many bytes of a group of three stand before it.
    """
    whole, rest = divmod(shift + len(raw), 3)
    return b64encode(bytes(shift) + raw).decode()[(0, 2, 3)[shift] : whole * 4 + rest]
