"""End running sessions."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from chatkit_sessions.exceptions import ChatKitSessionsError, StorageUnavailable
from chatkit_sessions.models import ChatSession, ChatSessionQuerySet, known_slugs
from chatkit_sessions.services import cancel_sessions
from chatkit_sessions.services.cancel import MAX_REASON_LENGTH
from chatkit_sessions.services.storage import database

from ._shared import add_seconds, find_user, storage_errors_told


class Command(BaseCommand):
    """Exit with 0 when none of the sessions is running any more."""

    help = _(
        "Cancel the running sessions of one user, one identifier, one workflow, or all: here at once, at the "
        "API within --seconds. What the API could not be told of is queued for chatkit_reconcile."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take whose sessions, why, and how long the API may take."""
        whose = parser.add_mutually_exclusive_group(required=True)
        whose.add_argument("--user", metavar="NAME", help=_("the user name of an account"))
        whose.add_argument(
            "--identifier", metavar="ID", help=_("what the API knows somebody by, prefix included")
        )
        whose.add_argument("--workflow", metavar="SLUG", help=_("the slug of a workflow"))
        whose.add_argument("--all", action="store_true", help=_("every running session"))
        parser.add_argument(
            "--reason", type=_reason, default="", help=_("for the audit, at most 255 characters")
        )
        parser.add_argument("--dry-run", action="store_true", help=_("only say how many are running"))
        parser.add_argument("--noinput", "--no-input", action="store_true", help=_("ask nothing"))
        add_seconds(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask where somebody is there to answer, cancel, and say how many."""
        try:
            with storage_errors_told():
                self._cancel(self._sessions(options), options)
        except StorageUnavailable as err:
            raise CommandError(_("%(error)s Those ended by then stay so.") % {"error": err}) from err
        except ChatKitSessionsError as err:
            raise CommandError(str(err)) from err

    def _cancel(self, sessions: ChatSessionQuerySet, options: dict[str, Any]) -> None:
        running = sessions.using(database()).occupying(timezone.now()).count()
        if options["dry_run"] or not running:
            text = ngettext("%(n)d session is running.", "%(n)d sessions are running.", running)
            self.stdout.write(text % {"n": running})
            return
        terminal = sys.stdin is not None and sys.stdin.isatty()
        if terminal and not options["noinput"] and not self._is_wanted(running):
            raise CommandError(_("Nothing was cancelled."))
        result = cancel_sessions(sessions, reason=options["reason"], seconds=options["seconds"])
        self.stdout.write(f"{result.summary}.")
        if result.due:
            self.stdout.write(
                _(
                    "The queued ones are over here as well, but the API has not been told of them yet: "
                    "chatkit_reconcile tries again, and chatkit_doctor says what is in the way."
                )
            )

    def _is_wanted(self, running: int) -> bool:
        text = ngettext(
            "Cancel %(n)d running session? [y/N] ", "Cancel %(n)d running sessions? [y/N] ", running
        )
        try:
            answer = input(text % {"n": running})
        except (EOFError, KeyboardInterrupt):
            self.stdout.write()  # what follows is not to stand behind the question
            return False
        # Translators: every word that means yes, in lower case, with spaces between them.
        return answer.strip().lower() in {"y", "yes", *_("y yes").split()}

    def _sessions(self, options: dict[str, Any]) -> ChatSessionQuerySet:
        sessions = ChatSession.objects.all()
        if options["user"] is not None:
            return sessions.filter(user=find_user(options["user"]).pk)
        if options["identifier"] is not None:
            return self._of_identifier(sessions, options["identifier"])
        if options["workflow"] is not None:
            return self._of_workflow(sessions, options["workflow"])
        return sessions

    def _of_identifier(self, sessions: ChatSessionQuerySet, identifier: str) -> ChatSessionQuerySet:
        found = sessions.filter(identifier=identifier)
        # A mistyped one must not look as if none were running.
        if not found.exists():
            words = {"identifier": identifier}
            message = _("There is no session of %(identifier)r. Write it as it is stored, prefix included.")
            raise CommandError(message % words)
        return found

    def _of_workflow(self, sessions: ChatSessionQuerySet, slug: str) -> ChatSessionQuerySet:
        found = sessions.filter(workflow_slug=slug)
        known = known_slugs()
        # One that was removed may have sessions still; a mistyped one must not look as if none were running.
        if slug not in known and not found.exists():
            words = {"slug": slug, "known": ", ".join(known) or _("none")}
            raise CommandError(_("There is no workflow %(slug)r. There are: %(known)s.") % words)
        return found


def _reason(text: str) -> str:
    if len(text) > MAX_REASON_LENGTH:
        message = _("must be at most %(maximum)d characters, not %(given)d.")
        raise argparse.ArgumentTypeError(message % {"maximum": MAX_REASON_LENGTH, "given": len(text)})
    return text
