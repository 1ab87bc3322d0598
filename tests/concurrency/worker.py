"""A process that issues sessions on command: ``python -m tests.concurrency.worker``.

Each line of its input is a request in JSON, each line of its output what came of it: one word for each
attempt, "issued" or the error's code. CHATKIT_TEST_DATABASE names the database.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

ISSUED = "issued"


def main() -> None:
    """Serve until the input ends."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django
    from django.conf import settings
    from django.db import connections

    django.setup()
    connections["default"].settings_dict["NAME"] = os.environ["CHATKIT_TEST_DATABASE"]
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        settings.CHATKIT_SESSIONS = request["settings"]
        calls = [partial(issue, request["identifier"])] * request["times"]
        print(json.dumps(together(calls, at=request["at"])), flush=True)


def issue(identifier: str) -> str:
    """Issue one session and return what came of it."""
    from chatkit_sessions.exceptions import ChatKitSessionsError
    from chatkit_sessions.services import issue_session

    try:
        issue_session(identifier=identifier)
    except ChatKitSessionsError as error:
        return error.code
    return ISSUED


def together(calls: Sequence[Callable[[], Any]], *, at: float) -> list[Any]:
    """Make the calls at the same moment, each in a thread of its own, and return what they return."""
    from django.db import connection, connections

    results: list[Any] = [None] * len(calls)
    gate = threading.Barrier(len(calls))

    def run(index: int, call: Callable[[], Any]) -> None:
        try:
            connection.ensure_connection()
            gate.wait(timeout=30)
            time.sleep(max(at - time.time(), 0))
            results[index] = call()
        except BaseException as error:
            gate.abort()
            results[index] = f"{type(error).__name__}: {error}"
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=item, daemon=True) for item in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    return results


if __name__ == "__main__":
    main()
