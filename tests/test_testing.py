import importlib.util
import sys

import pytest
import requests
from django.conf import settings
from django.test import override_settings

from chatkit_sessions import testing
from chatkit_sessions.standin import Fault, StandIn
from chatkit_sessions.testing import chatkit_standin, standin

__all__ = ["chatkit_standin"]  # the fixture, imported as a site's conftest imports it


def answers(api: StandIn) -> bool:
    headers = {"Authorization": "Bearer sk-standin", "OpenAI-Beta": "chatkit_beta=v1"}
    return requests.get(f"{api.base_url}/chatkit/threads", headers=headers, timeout=5).ok


@override_settings(
    CHATKIT_SESSIONS={"API_KEY": "sk-site", "BASE_URL": "https://example.com", "MAX_RETRIES": 1}
)
def test_the_settings_point_at_the_standin_and_back() -> None:
    before = settings.CHATKIT_SESSIONS
    with standin(TIMEOUT=(1, 2)) as api:
        pointed = settings.CHATKIT_SESSIONS
        assert pointed == {
            "API_KEY": "sk-standin",
            "BASE_URL": api.base_url,
            "CHATKIT_JS_URL": api.script_url,
            "CREDENTIALS": {},
            "MAX_RETRIES": 1,
            "TIMEOUT": (1, 2),
            "WORKFLOWS": {"default": {"id": "wf_standin"}},
        }
        assert answers(api)
    assert settings.CHATKIT_SESSIONS is before
    with pytest.raises(RuntimeError, match="not running"):
        _ = api.base_url


@override_settings()
def test_a_site_without_settings_gets_all_it_needs() -> None:
    del settings.CHATKIT_SESSIONS
    with standin() as api:
        assert settings.CHATKIT_SESSIONS["BASE_URL"] == api.base_url
    assert not hasattr(settings, "CHATKIT_SESSIONS")


@override_settings(CHATKIT_SESSIONS={"WORKFLOWS": {"default": {"id": "wf_site"}, "other": {"id": "wf_2"}}})
def test_the_sites_workflows_are_kept() -> None:
    with standin(WORKFLOWS={"default": {"id": "wf_3"}}):
        assert settings.CHATKIT_SESSIONS["WORKFLOWS"] == {"default": {"id": "wf_3"}}
    with standin():
        assert settings.CHATKIT_SESSIONS["WORKFLOWS"] == {
            "default": {"id": "wf_site"},
            "other": {"id": "wf_2"},
        }


@override_settings(CHATKIT_SESSIONS={"DEFAULT_WORKFLOW": "support", "WORKFLOWS": {"sales": {"id": "wf_2"}}})
def test_the_default_workflow_may_have_another_name() -> None:
    with standin():
        assert settings.CHATKIT_SESSIONS["WORKFLOWS"] == {
            "support": {"id": "wf_standin"},
            "sales": {"id": "wf_2"},
        }


@override_settings(
    CHATKIT_SESSIONS={"CREDENTIALS": {"eu": {"API_KEY": "sk-eu", "BASE_URL": "https://eu", "PROJECT": "p"}}}
)
def test_named_credentials_do_not_lead_out() -> None:
    with standin() as api:
        assert settings.CHATKIT_SESSIONS["CREDENTIALS"] == {
            "eu": {"API_KEY": "sk-standin", "BASE_URL": api.base_url, "PROJECT": "p"}
        }
    chosen = {"us": {"API_KEY": "sk-us"}}
    with standin(CREDENTIALS=chosen):
        assert settings.CHATKIT_SESSIONS["CREDENTIALS"] == chosen


def test_one_standin_may_stand_inside_another() -> None:
    with standin() as outer, standin() as inner:
        assert outer.base_url != inner.base_url == settings.CHATKIT_SESSIONS["BASE_URL"]


def test_a_standin_of_ones_own_is_started_and_closed() -> None:
    mine = StandIn(api_keys={"sk-other"})
    with standin(mine, API_KEY="sk-other") as api:
        assert api is mine
        assert settings.CHATKIT_SESSIONS["API_KEY"] == "sk-other"
        assert not answers(api)
    with pytest.raises(RuntimeError, match="not running"):
        _ = mine.base_url


def test_the_fixture_does_the_same(chatkit_standin: StandIn) -> None:
    assert settings.CHATKIT_SESSIONS["BASE_URL"] == chatkit_standin.base_url
    chatkit_standin.misbehave(Fault(status=500))
    assert not answers(chatkit_standin)
    assert answers(chatkit_standin)


@pytest.mark.parametrize("installed", [True, False])
def test_pytest_is_needed_for_its_fixture_only(monkeypatch: pytest.MonkeyPatch, installed: bool) -> None:
    if not installed:
        monkeypatch.setitem(sys.modules, "pytest", None)
    spec = importlib.util.find_spec("chatkit_sessions.testing")
    assert spec
    assert spec.loader
    again = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(again)
    assert ("chatkit_standin" in again.__all__) is installed
    assert hasattr(again, "chatkit_standin") is installed
    assert set(again.__all__) <= set(testing.__all__)
