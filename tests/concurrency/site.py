"""The tests' site on a server with so many worker threads: ``python -m tests.concurrency.site WORKERS``.

CHATKIT_TEST_DATABASE names the database, CHATKIT_TEST_SETTINGS has CHATKIT_SESSIONS in JSON. It prints its
port, and serves until its input ends.
"""

import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""


class PooledServer(WSGIServer):
    """Let a worker of the pool handle each request; the others wait until one is free."""

    request_queue_size = 128

    def __init__(self, workers: int) -> None:
        self._pool = ThreadPoolExecutor(workers)
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand the request to the pool."""
        self._pool.submit(self._handle, request, client_address)

    def _handle(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:
            pass  # a client that has gone away
        finally:
            self.shutdown_request(request)


def main() -> None:
    """Serve until the input ends."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.db import connections

    django.setup()
    connections["default"].settings_dict["NAME"] = os.environ["CHATKIT_TEST_DATABASE"]
    settings.CHATKIT_SESSIONS = json.loads(os.environ["CHATKIT_TEST_SETTINGS"])
    server = PooledServer(int(sys.argv[1]))
    server.set_app(get_wsgi_application())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()
    os._exit(0)  # whatever still waits for the API


if __name__ == "__main__":
    main()
