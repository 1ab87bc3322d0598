"""Serve the stand-in ChatKit API in the foreground."""

from __future__ import annotations

import errno
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from chatkit_sessions.standin import StandIn

SETTINGS = """\
CHATKIT_SESSIONS = {{
    "API_KEY": "sk-standin",
    "BASE_URL": "{api.base_url}",
    "CHATKIT_JS_URL": "{api.script_url}",
    "WORKFLOWS": {{"default": {{"id": "wf_standin"}}}},
}}"""


class Command(BaseCommand):
    """Run the stand-in until Ctrl-C; it keeps everything in memory and needs no database."""

    help = "Serve a stand-in for the ChatKit API on this machine, for work without network or key."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--host", default="127.0.0.1", help="Address to listen on (default: 127.0.0.1).")
        parser.add_argument(
            "--port", type=int, default=8010, help="Port to listen on; 0 takes a free one (default: 8010)."
        )
        parser.add_argument(
            "--examples",
            action="store_true",
            help="Keep the published examples (cksess_123, cthr_123) always answerable.",
        )

    def handle(self, *args: Any, host: str, port: int, examples: bool, **options: Any) -> None:
        """Serve until Ctrl-C."""
        if not 0 <= port <= 65535:
            raise CommandError(f"--port {port} is no port: choose one from 0 (any free one) to 65535.")
        api = StandIn(host=host, port=port, examples=examples)
        try:
            api.start()
        except OSError as error:
            raise CommandError(_explanation(error, host, port)) from error
        try:
            self._introduce(api)
            api.wait()
        except KeyboardInterrupt:
            self.stdout.write("\nThe stand-in has stopped.")
        finally:
            api.close()

    def _introduce(self, api: StandIn) -> None:
        self.stdout.write(f"The stand-in ChatKit API is at {api.base_url}")
        self.stdout.write(f"Its web component is at        {api.script_url}")
        self.stdout.write("\nPoint a site at it with these settings:\n")
        self.stdout.write(SETTINGS.format(api=api))
        self.stdout.write("\nQuit with Ctrl-C.")
        # Someone may be reading through a pipe, and nothing more is written for a long time.
        self.stdout.flush()


def _explanation(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is in use: stop what listens there, or choose another port with "
            "--port (0 takes any free one)."
        )
    return (
        f"Cannot listen on {host} port {port} ({error.strerror}): choose an address of this machine with "
        "--host and a port with --port (0 takes any free one)."
    )
