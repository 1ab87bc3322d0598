"""Settle what was left open."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.translation import gettext as _

from chatkit_sessions.exceptions import StorageUnavailable
from chatkit_sessions.services import reconcile

from ._shared import add_seconds


class Command(BaseCommand):
    """Exit with 0 when everything that could be settled is settled."""

    help = _(
        "Write down which sessions are lost or expired, and tell the API of cancellations that it has not "
        "heard of. Run it every few minutes; it may be interrupted, and two may run at the same time."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the time that the API may take."""
        add_seconds(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Settle, and say what was settled."""
        try:
            result = reconcile(seconds=options["seconds"])
        except StorageUnavailable as err:
            raise CommandError(
                _("The database failed: %(error)s\nRun migrate, and check the database.")
                % {"error": err.__cause__}
            ) from err
        parts = (
            (result.lost, _("lost: %(n)d")),
            (result.expired, _("expired: %(n)d")),
            (result.told, _("cancellations told: %(n)d")),
            (result.due, _("cancellations still due: %(n)d")),
        )
        said = [text % {"n": number} for number, text in parts if number]
        if options["verbosity"]:
            self.stdout.write(f"{', '.join(said)}." if said else _("There was nothing to settle."))
