"""What a run left behind, written down as it comes, and the secrets to look for in it."""

from __future__ import annotations

import os
import threading
from collections import Counter
from pathlib import Path
from typing import IO

from .search import Finding, Needles

# Shorter ones, such as the "k" of a test, would be found in any word.
MIN_LENGTH = 8
CHANNELS = ("log", "response", "database", "cache", "output", "mail")
# What may be shown after all, by channel, secret and what stands before it.
LEGITIMATE = {
    # chatkit_standin prints the settings that point a site at it; its made-up key is accepted nowhere else.
    ("output", "sk-standin", '"API_KEY": "'),
}
# Neither stands in a text by accident.
_START, _END = "\x1e", "\x1f"


class Records:
    """Keep secrets in memory, and one file a channel.

    Attributes:
        secrets: client secrets and keys that really went over a wire.
        sightings: how often one went.
        written: entries by channel.
    """

    def __init__(self, directory: Path) -> None:
        self.secrets: set[str] = set()
        self.sightings = 0
        self.written: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._paths = {channel: directory / f"{channel}.txt" for channel in CHANNELS}
        self._files: dict[str, IO[str]] = {
            # Half of a surrogate pair is text too.
            channel: path.open("w", encoding="utf-8", errors="backslashreplace", newline="")
            for channel, path in self._paths.items()
        }

    def saw(self, secret: str) -> None:
        """Remember a secret to look for."""
        with self._lock:
            self.sightings += 1
            if len(secret) >= MIN_LENGTH:
                self.secrets.add(str(secret))

    def write(self, channel: str, text: str, where: str = "") -> None:
        """Write down what came through a channel, under the name of the running test."""
        where = where or os.environ.get("PYTEST_CURRENT_TEST", "outside of a test")
        with self._lock:
            if not self._files[channel].closed:  # a thread may outlive the run
                self._files[channel].write(f"{_START}{where}{_END}{text}")
                self.written[channel] += 1

    def find(self) -> list[Finding]:
        """Return every place where a secret is."""
        with self._lock:
            for file in self._files.values():
                file.flush()
            needles = Needles(self.secrets)
        findings = []
        for channel, path in self._paths.items():
            text = path.read_text(encoding="utf-8")
            for position, secret, form in needles.find(text):
                start = text.rfind(_START, 0, position)
                where, end, before = text[start + 1 : position].partition(_END)
                legitimate = any(
                    (channel, secret) == (known, value) and before.endswith(words)
                    for known, value, words in LEGITIMATE
                )
                # Without an end it stands in the name of the test, which parameters are part of.
                if end and not legitimate:
                    findings.append(Finding(channel, where, before, secret, form))
        return findings

    def close(self) -> None:
        """Close the files; they stay where they are."""
        with self._lock:
            for file in self._files.values():
                file.close()
