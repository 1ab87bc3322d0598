"""Test helpers for sites: the stand-in ChatKit API, started in-process, with the settings pointed at it.

As a context manager, in any test runner:

    with standin(MAX_RETRIES=0) as api:
        api.misbehave(Fault(status=503))

As a pytest fixture, after `from chatkit_sessions.testing import chatkit_standin` in a `conftest.py`, or with
`pytest_plugins = ["chatkit_sessions.testing"]` there:

    def test_page(client, chatkit_standin):
        ...
        assert len(chatkit_standin.sessions) == 1
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings as site_settings
from django.test import override_settings

from chatkit_sessions.standin import Fault, StandIn

__all__ = ["Fault", "StandIn", "standin"]

API_KEY = "sk-standin"
WORKFLOW = {"id": "wf_standin"}


@contextmanager
def standin(api: StandIn | None = None, /, **settings: Any) -> Iterator[StandIn]:
    """Start a stand-in and point CHATKIT_SESSIONS at it; yield it.

    api: a stand-in of your own making (restricted keys or workflows, a clock); it is started and closed here.
    settings: keys of CHATKIT_SESSIONS, winning over the site's and over what this function chooses.
    """
    with api or StandIn() as running, override_settings(CHATKIT_SESSIONS=_pointed_at(running, settings)):
        yield running


def _pointed_at(api: StandIn, settings: dict[str, Any]) -> dict[str, Any]:
    site = dict(getattr(site_settings, "CHATKIT_SESSIONS", None) or {})
    here = {"API_KEY": API_KEY, "BASE_URL": api.base_url}
    # Named credentials have addresses of their own: left alone, a test would reach the real API through them.
    credentials = {name: {**given, **here} for name, given in site.get("CREDENTIALS", {}).items()}
    pointed = {**site, **here, "CHATKIT_JS_URL": api.script_url, "CREDENTIALS": credentials, **settings}
    default = pointed.get("DEFAULT_WORKFLOW", "default")
    pointed["WORKFLOWS"] = {default: WORKFLOW, **pointed.get("WORKFLOWS", {})}
    return pointed


try:
    import pytest
except ImportError:  # A site that tests with unittest alone has no pytest.
    pass
else:
    __all__ += ["chatkit_standin"]

    @pytest.fixture
    def chatkit_standin() -> Iterator[StandIn]:
        """Run the test with the site pointed at a stand-in of its own."""
        with standin() as api:
            yield api
