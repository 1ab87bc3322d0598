import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache

from chatkit_sessions import testing
from chatkit_sessions.standin import StandIn

from .sentinel.plugin import Sentinel
from .tls import make_certificate

# Every variable that the settings table of the README names, and those that would send requests elsewhere.
SETTINGS_VARIABLES = (
    "CHATKIT_EXPIRES_AFTER",
    "CHATKIT_JS_URL",
    "CHATKIT_MAX_REQUESTS_PER_1_MINUTE",
    "CHATKIT_OPENAI_API_KEY",
    "CHATKIT_WORKFLOW_ID",
    "CHATKIT_WORKFLOW_VERSION",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "OPENAI_ORG_ID",
    "OPENAI_PROJECT_ID",
)
SENTINEL = pytest.StashKey[Sentinel]()
PROXY_VARIABLES = {"all_proxy", "http_proxy", "https_proxy", "no_proxy"}
TRUST_VARIABLES = ("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE")


def pytest_configure(config: pytest.Config) -> None:
    """Watch for secrets that the tests leave behind, and let Ctrl-C reach the servers that they interrupt."""
    config.stash[SENTINEL] = Sentinel()
    config.pluginmanager.register(config.stash[SENTINEL], "sentinel")
    # What a shell runs in the background ignores Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's own key, workflow, proxy and certificates out of every test."""
    proxies = [name for name in os.environ if name.lower() in PROXY_VARIABLES]
    for name in (*SETTINGS_VARIABLES, *TRUST_VARIABLES, *proxies):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _clean_cache() -> Iterator[None]:
    """Leave no throttle or cool-down of one test to the next."""
    yield
    cache.clear()


@pytest.fixture
def standin() -> Iterator[StandIn]:
    """A stand-in ChatKit API on a loopback port, with CHATKIT_SESSIONS pointing at it."""
    with testing.standin() as running:
        yield running


@pytest.fixture
def sentinel(pytestconfig: pytest.Config) -> Sentinel:
    """The watch over the whole run."""
    return pytestconfig.stash[SENTINEL]


@pytest.fixture
def full_queue() -> Iterator[int]:
    """A port at which nobody picks up."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(full.getsockname())
        yield full.getsockname()[1]


@pytest.fixture
def hanging_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A name server that does not answer for as long as the test lasts."""
    over = threading.Event()

    def hang(*args: Any, **kwargs: Any) -> Any:
        over.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    yield
    over.set()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    return make_certificate(tmp_path_factory.mktemp("certificate"))
