"""What the doctor finds, and what comes of it together."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Any

from chatkit_sessions.models import ChatSession


class Level(StrEnum):
    """How much a finding matters: with an error, the chat does not work."""

    OK = "ok"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Outcome(Enum):
    """How far the doctor came with a session of its own."""

    UNTRIED = auto()
    REFUSED = auto()
    CREATED = auto()
    CANCELLED = auto()


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: stable word for programs.
        cure: what to do; "" where nothing need be done.
    """

    check: str
    level: Level
    message: str
    cure: str = ""

    def as_json(self) -> dict[str, str]:
        """Return it for programs."""
        return {"check": self.check, "level": self.level.value, "message": self.message, "cure": self.cure}


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Everything that was found.

    Attributes:
        session: the audit row of the attempt, where one was written.
    """

    findings: tuple[Finding, ...]
    outcome: Outcome = Outcome.UNTRIED
    session: ChatSession | None = None

    @property
    def ok(self) -> bool:
        """Return whether the chat works, as far as can be seen from here."""
        return self.outcome is Outcome.CANCELLED and not self.count(Level.ERROR)

    def count(self, level: Level) -> int:
        """Return how many findings are of this level."""
        return sum(finding.level is level for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        row = self.session
        return {
            "ok": self.ok,
            "session": (row.upstream_id or None) if row is not None else None,
            "reference": str(row.reference) if row is not None else None,
            "findings": [finding.as_json() for finding in self.findings],
        }


def ok(check: str, message: str) -> Finding:
    """Return that this is as it should be."""
    return Finding(check, Level.OK, message)


def info(check: str, message: str, cure: str = "") -> Finding:
    """Return what is good to know."""
    return Finding(check, Level.INFO, message, cure)


def warning(check: str, message: str, cure: str) -> Finding:
    """Return what goes wrong under some conditions."""
    return Finding(check, Level.WARNING, message, cure)


def error(check: str, message: str, cure: str) -> Finding:
    """Return what keeps the chat from working."""
    return Finding(check, Level.ERROR, message, cure)
