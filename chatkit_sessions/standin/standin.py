"""The stand-in as tests, the demo and the command hold it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable
from types import TracebackType
from typing import Self

from .app import SCRIPT_PATH, App, dress
from .exchange import Answer, ApiError, Json, RecordedRequest
from .faults import Fault, FaultQueue
from .server import Server
from .state import State


class StandIn:
    """Run a ChatKit API in this process, in memory, on a loopback port.

    host, port: where to listen; port 0 takes a free one, and a later `start` the same again.
    examples: keep the ids of the published examples (`cksess_123`, `cthr_123`) always answerable.
    api_keys, workflows: the only keys and workflow ids accepted; None accepts any.
    clock: returns unix seconds; tests of expiry pass their own.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        examples: bool = False,
        api_keys: Collection[str] | None = None,
        workflows: Collection[str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.requests: list[RecordedRequest] = []
        self._address = (host, port)
        self._state = State(clock=clock, examples=examples)
        self._app = App(self._state, api_keys=api_keys, workflows=workflows)
        self._faults = FaultQueue()
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> Self:
        """Listen and serve in the background; what is remembered survives a close.

        Raises:
            OSError: the address cannot be had.
            RuntimeError: it is running already.
        """
        if self._server is not None:
            raise RuntimeError("This stand-in is running already: close() it first, or make another.")
        self._server = Server(self._address, self._respond)
        self._address = (self._address[0], self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve, name="chatkit-standin", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Hang up on every client and free the port; repeating it is harmless."""
        if self._server is None or self._thread is None:
            return
        self._server.stop()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()
        self._server = self._thread = None

    def wait(self) -> None:
        """Block until closed, or until Ctrl-C."""
        server = self._server
        # In slices, since on Windows nothing else lets Ctrl-C through; and not by joining the thread, since
        # before Python 3.13 a join that Ctrl-C interrupts takes the thread for ended.
        while server is not None and not server.closing.wait(timeout=0.2):
            pass

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def base_url(self) -> str:
        """Return the API's base URL, with `/v1`."""
        return f"{self._origin}/v1"

    @property
    def script_url(self) -> str:
        """Return the web component's URL."""
        return f"{self._origin}{SCRIPT_PATH}"

    @property
    def sessions(self) -> dict[str, Json]:
        """Return the sessions created so far by id, as the API shows them now."""
        return self._state.sessions()

    @property
    def threads(self) -> dict[str, Json]:
        """Return the threads by id, as the API shows them."""
        return self._state.threads()

    def items(self, thread_id: str) -> list[Json]:
        """Return a thread's items, oldest first."""
        return self._state.items(thread_id)

    def add_thread(
        self,
        *,
        user: str,
        title: str | None = None,
        items: Iterable[Json] = (),
        status: str = "active",
        created_at: int | None = None,
    ) -> Json:
        """Store a thread and return it; `chatkit_sessions.standin.items` makes items of all six types."""
        return self._state.add_thread(user, title=title, items=items, status=status, created_at=created_at)

    def misbehave(
        self, fault: Fault, *, times: int = 1, path: str | None = None, method: str | None = None
    ) -> None:
        """Answer the next requests wrongly, `times` of them.

        path: only requests to this path, in which `*` stands for anything; `/v1` in front does not matter.
        method: only requests with this method.
        """
        self._faults.add(fault, times=times, path=path, method=method)

    def behave(self) -> None:
        """Forget the misbehaviour still to come."""
        self._faults.clear()

    def _respond(self, request: RecordedRequest, refusal: ApiError | None) -> tuple[Answer, Fault]:
        self.requests.append(request)
        fault = self._faults.take(request) or Fault()
        if not fault.carries_out:
            answer = fault.refusal()
        else:
            answer = refusal.answer() if refusal else self._app.answer(request)
        return fault.spoil(dress(request, answer)), fault

    @property
    def _origin(self) -> str:
        if self._server is None:
            raise RuntimeError("This stand-in is not running: start() it, or use it in a with statement.")
        host, port = self._address
        # A wildcard is an address to listen on, not one to send a browser to.
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared, not bound)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
