import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from django.core.cache import cache

from chatkit_sessions import testing
from chatkit_sessions.standin import StandIn

from .sentinel.plugin import Sentinel

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


def pytest_configure(config: pytest.Config) -> None:
    """Watch for secrets that the tests leave behind, and let Ctrl-C reach the servers that they interrupt."""
    config.stash[SENTINEL] = Sentinel()
    config.pluginmanager.register(config.stash[SENTINEL], "sentinel")
    # What a shell runs in the background ignores Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's own key, workflow and proxy out of every test."""
    for name in [*SETTINGS_VARIABLES, *(name for name in os.environ if name.lower() in PROXY_VARIABLES)]:
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
