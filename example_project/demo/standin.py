"""The stand-in ChatKit API inside this process, for an example that works without network or key.

The settings need its address before it runs, so its port is chosen here and it starts later: with the server
(`demo.wsgi`, `demo.asgi`), or when a command first asks for the key. `migrate` and its like never start it.
"""

import os
import socket
import sys
from functools import cache

from django.conf import settings

from chatkit_sessions.standin import StandIn
from chatkit_sessions.standin.app import SCRIPT_PATH


def _free_port() -> int:
    """Find a port that is still free when it is needed: the system hands out none below 32768 by itself."""
    for port in range(20000 + os.getpid() % 10000, 32000):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise OSError("No port from 20000 to 32000 is free for the stand-in API.")


PORT = _free_port()
BASE_URL = f"http://127.0.0.1:{PORT}/v1"
SCRIPT_URL = f"http://127.0.0.1:{PORT}{SCRIPT_PATH}"


@cache
def start() -> StandIn:
    """Start it and say so; starting it again changes nothing."""
    running = StandIn(port=PORT).start()
    message = f"There is no OPENAI_API_KEY: a stand-in API at {BASE_URL} echoes every message."
    # Not among what a command prints for programs.
    print(message, file=sys.stderr, flush=True)
    return running


def start_if_needed() -> None:
    """Start it where the settings point at it."""
    if settings.CHATKIT_SESSIONS.get("BASE_URL") == BASE_URL:
        start()


def api_key() -> str:
    """Return a key that the stand-in accepts, and make sure that somebody is there to accept it."""
    start()
    return "sk-example-stand-in"
