"""Say whether sessions can be issued and what is in the way, or what one user would get."""

from __future__ import annotations

import json
import logging
import shutil
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from chatkit_sessions.models import PolicyOverride
from chatkit_sessions.services import explain_policy
from chatkit_sessions.services.doctor import Diagnosis, Finding, Level, Outcome, examine

from ._shared import find_user, storage_errors_told

# Columns: longer lines are hard to read, however wide the terminal.
MAX_WIDTH = 110


class Command(BaseCommand):
    """Exit with 0 when it works, and with 1, the causes and the cures when it does not."""

    help = _(
        "Create a session and cancel it at once, and say what is wrong and what to do. With --user, explain "
        "instead what this user would get, where each value comes from and whether a session would be "
        "granted now; nothing is sent then."
    )
    # It tells the problems that these would stop it for.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Take a user, a workflow and a format."""
        parser.add_argument("--user", metavar="NAME", help=_("the user name of an account"))
        parser.add_argument("--workflow", metavar="SLUG", help=_("by default DEFAULT_WORKFLOW"))
        parser.add_argument("--json", action="store_true", help=_("print one JSON object, for programs"))

    def handle(self, *args: Any, **options: Any) -> None:
        """Explain or examine."""
        if options["user"] is None:
            self._examine(options["workflow"], as_json=options["json"])
            return
        if options["json"]:
            raise CommandError(_("--json cannot be used with --user."))
        with storage_errors_told():
            self._explain(options["user"], options["workflow"])

    def _explain(self, name: str, workflow: str | None) -> None:
        user = find_user(name)
        explained = explain_policy(user=user, workflow=workflow)
        self.stdout.write(f"{name} / {explained.workflow}")
        if explained.identifier:
            self.stdout.write(_("known to the API as %(identifier)s") % {"identifier": explained.identifier})
        for label, value, source in explained.rows():
            self.stdout.write(f"  {label}: {value} ({source})")
        for override in PolicyOverride.objects.for_user(user).select_related("user", "group"):
            self.stdout.write(_("override: %(override)s") % {"override": override.in_words()})
        if explained.refusal is not None:
            raise CommandError(explained.verdict)
        self.stdout.write(self.style.SUCCESS(explained.verdict))

    def _examine(self, workflow: str | None, *, as_json: bool) -> None:
        with _log_of_nobody():
            diagnosis = examine(workflow)
        if as_json:
            self.stdout.write(json.dumps(diagnosis.as_json()))
        else:
            self._tell(diagnosis.findings)
        # What stands in a buffer would come after the verdict where both streams go to one file.
        self.stdout.flush()
        if not diagnosis.ok:
            raise CommandError(_verdict(diagnosis))
        if not as_json:
            self.stdout.write(self.style.SUCCESS(_verdict(diagnosis)))

    def _tell(self, findings: tuple[Finding, ...]) -> None:
        """Write each finding, and its cure below it, in columns; on a terminal wrapped and coloured."""
        levels: dict[Level, tuple[str, Callable[[str], str]]] = {
            Level.OK: (_("ok"), self.style.SUCCESS),
            Level.INFO: (_("note"), self.style.MIGRATE_LABEL),
            Level.WARNING: (_("warning"), self.style.WARNING),
            Level.ERROR: (_("error"), self.style.ERROR),
        }
        width = max(len(word) for word, _style in levels.values())
        checks = max(len(finding.check) for finding in findings)
        margin = " " * (width + checks + 4)
        for finding in findings:
            word, style = levels[finding.level]
            message = self._wrapped(finding.message, margin)
            self.stdout.write(f"{style(word.ljust(width))}  {finding.check.ljust(checks)}  {message}")
            if finding.cure:
                self.stdout.write(f"{margin}-> {self._wrapped(finding.cure, margin + '   ')}")

    def _wrapped(self, text: str, margin: str) -> str:
        if not self.stdout.isatty():
            return text
        width = max(min(shutil.get_terminal_size().columns, MAX_WIDTH) - len(margin), 30)
        lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
        return f"\n{margin}".join(lines)


def _verdict(diagnosis: Diagnosis) -> str:
    """Return in one sentence whether sessions can be had, and how much there is to do."""
    errors, warnings = diagnosis.count(Level.ERROR), diagnosis.count(Level.WARNING)
    counted = ", ".join(
        [
            *([ngettext("%(n)d error", "%(n)d errors", errors) % {"n": errors}] if errors else []),
            *([ngettext("%(n)d warning", "%(n)d warnings", warnings) % {"n": warnings}] if warnings else []),
        ]
    )
    said = {
        Outcome.UNTRIED: _("No session was tried"),
        Outcome.REFUSED: _("No session could be had"),
        Outcome.CREATED: _("A session could be created, but not cancelled"),
        Outcome.CANCELLED: _("Sessions can be created and cancelled"),
    }[diagnosis.outcome]
    verdict = f"{said}; {counted}." if counted else f"{said}."
    if diagnosis.session is None:
        return verdict
    row = _("The audit row is %(reference)s.") % {"reference": diagnosis.session.reference}
    return f"{verdict} {row}"


@contextmanager
def _log_of_nobody() -> Iterator[None]:
    """Keep Python from writing the log between the findings where the site has no place for it."""
    logger, handler = logging.getLogger("chatkit_sessions"), logging.NullHandler()
    if logger.hasHandlers():
        yield
        return
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
