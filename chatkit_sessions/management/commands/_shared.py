"""What commands share."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError, CommandParser
from django.db import Error as StorageError
from django.utils.translation import gettext as _

DEFAULT_SECONDS = 60.0


def add_seconds(parser: CommandParser) -> None:
    """Take the seconds for which the API may be talked to."""
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=DEFAULT_SECONDS,
        metavar="N",
        help=_("talk to the API for at most so many seconds, by default 60; 0 leaves it for later"),
    )


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number <= 86_400:
        message = _("must be a number from 0 to 86400, not %(text)r.") % {"text": text}
        raise argparse.ArgumentTypeError(message)
    return number


def find_user(name: str) -> Any:
    """Return the account with this user name.

    Raises:
        CommandError: there is none.
    """
    users = get_user_model()
    try:
        return users._default_manager.get(**{users.USERNAME_FIELD: name})
    except users.DoesNotExist:
        raise CommandError(_("There is no user %(name)r.") % {"name": name}) from None


@contextmanager
def storage_errors_told() -> Iterator[None]:
    """Say what to do where the database fails, in place of a traceback."""
    try:
        yield
    except StorageError as err:
        raise CommandError(
            _("The database failed: %(error)s\nRun migrate, and check the database.") % {"error": err}
        ) from err
