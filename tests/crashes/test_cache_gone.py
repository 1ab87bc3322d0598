"""The cache goes away: the site does without."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client, override_settings

from chatkit_sessions.exceptions import SessionLimitReached, UpstreamUnavailable
from chatkit_sessions.models import ChatSession
from chatkit_sessions.services import cancel_session, issue_session, reconcile
from chatkit_sessions.standin import Fault

from .aftermath import settle_all
from .api import Api
from .lost_cache import LostCache

pytestmark = pytest.mark.crash

PATH = "/api/chatkit/sessions/"
QUICK: dict[str, Any] = {"MAX_RETRIES": 0, "COOLDOWN": (1, 30)}


@pytest.fixture(autouse=True)
def _lost_cache(api: Api) -> Iterator[None]:
    """Lose the cache, and see that it was asked for."""
    asked = LostCache.asked
    with override_settings(CACHES={"default": {"BACKEND": "tests.crashes.lost_cache.LostCache"}}):
        yield
    assert LostCache.asked > asked


@pytest.mark.parametrize("api", [{"MAX_ACTIVE_SESSIONS": 1}], indirect=True)
def test_limits_and_cancelling_need_no_cache(api: Api) -> None:
    first = issue_session(identifier="ada")
    with pytest.raises(SessionLimitReached):
        issue_session(identifier="ada")
    assert issue_session(identifier="ada", current_client_secret=first.client_secret).reused
    assert cancel_session(first.session).cancel_requested_at is None
    assert issue_session(identifier="ada").session.status == "active"
    assert [session["status"] for session in api.of("ada")] == ["cancelled", "active"]


@pytest.mark.parametrize("api", [QUICK], indirect=True)
def test_without_a_cache_each_request_finds_out_for_itself_that_the_api_is_away(api: Api) -> None:
    api.misbehave(Fault(status=503), times=3)
    for _ in range(3):
        with pytest.raises(UpstreamUnavailable):
            issue_session(identifier="ada")
    assert [row.error_code for row in ChatSession.objects.all()] == ["upstream_unavailable"] * 3
    assert issue_session(identifier="ada").session.status == "active"


@pytest.mark.parametrize("api", [QUICK], indirect=True)
def test_reconciling_needs_no_cache(api: Api) -> None:
    session = issue_session(identifier="ada").session
    api.misbehave(Fault(status=503))
    assert cancel_session(session).cancel_requested_at is not None
    assert reconcile().told == 1
    settle_all(api)


def test_the_endpoints_need_no_cache(api: Api) -> None:
    browser = Client()
    browser.force_login(User.objects.create_user("ada"))

    def post(path: str) -> Any:
        return browser.post(path, {}, content_type="application/json")

    issued = post(PATH)
    assert issued.status_code == 201
    assert post(f"{PATH}{issued.json()['id']}/cancel/").json()["status"] == "cancelled"
    assert [session["status"] for session in browser.get(PATH).json()["data"]] == ["cancelled"]
