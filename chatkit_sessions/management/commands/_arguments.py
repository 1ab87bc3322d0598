"""Arguments that commands share."""

from __future__ import annotations

import argparse

from django.core.management.base import CommandParser
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
