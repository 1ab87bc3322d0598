"""Say whether sessions can be issued, or what one user would get."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as StorageError
from django.utils.translation import gettext as _

from chatkit_sessions.models import ChatSession, PolicyOverride
from chatkit_sessions.services import explain_policy
from chatkit_sessions.services.doctor import examine


class Command(BaseCommand):
    """Exit with 0 when it works, and with 1, the cause and the cure when it does not."""

    help = _(
        "Create a session and cancel it at once. With --user, explain instead what this user would get, "
        "where each value comes from and whether a session would be granted now; nothing is sent then."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take a user and a workflow."""
        parser.add_argument("--user", metavar="NAME", help=_("the user name of an account"))
        parser.add_argument("--workflow", metavar="SLUG", help=_("by default DEFAULT_WORKFLOW"))

    def handle(self, *args: Any, **options: Any) -> None:
        """Explain or examine."""
        try:
            if options["user"] is not None:
                self._explain(options["user"], options["workflow"])
            else:
                self._examine(options["workflow"])
        except StorageError as err:
            raise CommandError(
                _("The database failed: %(error)s\nRun migrate, and check the database.") % {"error": err}
            ) from err

    def _explain(self, name: str, workflow: str | None) -> None:
        users = get_user_model()
        try:
            user = users._default_manager.get(**{users.USERNAME_FIELD: name})
        except users.DoesNotExist:
            raise CommandError(_("There is no user %(name)r.") % {"name": name}) from None
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

    def _examine(self, workflow: str | None) -> None:
        finding = examine(workflow)
        if finding.error is not None:
            raise CommandError(self._failure(finding.session, str(finding.error), finding.cure))
        if finding.is_running:
            raise CommandError(
                _(
                    "A session was created, but the API could not be told of its end: %(session)s.\n"
                    "It ends by itself; the log says what the API answered."
                )
                % {"session": finding.session}
            )
        self.stdout.write(
            self.style.SUCCESS(
                _("A session was created and cancelled: %(session)s.") % {"session": finding.session}
            )
        )

    def _failure(self, session: ChatSession | None, reason: str, cure: str) -> str:
        lines = [reason]
        if session is not None:
            answer = _("The API answered %(status)s: %(message)s (audit row %(reference)s)")
            lines.append(
                answer
                % {
                    "status": session.upstream_status or "-",
                    "message": session.error_message,
                    "reference": session.reference,
                }
            )
        return "\n".join([*lines, cure] if cure else lines)
