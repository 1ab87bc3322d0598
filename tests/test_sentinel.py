"""No secret and no key in anything that a run of the tests leaves behind."""

import json
import logging
import secrets
import subprocess
import sys
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.mail import EmailMultiAlternatives
from django.core.management import call_command
from django.core.management.base import OutputWrapper
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client, override_settings
from django.urls import path

from chatkit_sessions.models import ChatSession
from chatkit_sessions.standin import Fault, StandIn

from .sentinel.plugin import LAST, Sentinel
from .sentinel.records import CHANNELS, Records
from .sentinel.search import Finding, Needles, forms
from .sentinel.stores import dump_caches, dump_database
from .test_error_pages import mailing

SESSIONS = "/api/chatkit/sessions/"
JSON = "application/json"


def show(request: HttpRequest) -> HttpResponse:
    """Show what should not be shown."""
    return HttpResponse(request.GET["value"])


def issue(request: HttpRequest) -> HttpResponse:
    """Answer as the endpoint does, with the secret in a second place as well."""
    return JsonResponse({"client_secret": request.GET["value"], "other": request.GET.get("other", "")})


urlpatterns = [path("show/", show), path("sessions/", issue, name="session-list")]


@pytest.fixture
def planted() -> str:
    return f"ek_{secrets.token_hex(16)}"


@pytest.fixture
def records(sentinel: Sentinel, tmp_path: Path, planted: str) -> Iterator[Records]:
    """Records of this test's own, which look for what it plants."""
    own = Records(tmp_path)
    own.saw(planted)
    with sentinel.taps.into(own):
        yield own
    own.close()


def found_in(records: Records) -> set[str]:
    return {finding.channel for finding in records.find()}


@pytest.mark.parametrize("level", [logging.DEBUG, logging.ERROR])
@pytest.mark.parametrize("name", ["chatkit_sessions", "urllib3.connectionpool", "django.server"])
def test_a_log_line_is_seen_at_every_level(records: Records, planted: str, name: str, level: int) -> None:
    logging.getLogger(name).log(level, "with %s", planted)
    assert found_in(records) == {"log"}


def test_a_traceback_is_seen(records: Records, planted: str) -> None:
    try:
        raise ValueError(planted)
    except ValueError:
        logging.getLogger("some").debug("failed", exc_info=True)
    assert found_in(records) == {"log"}


def test_what_is_attached_to_a_log_line_is_seen(records: Records, planted: str) -> None:
    logging.getLogger("some").debug("fine", extra={"request_body": [planted]})
    assert found_in(records) == {"log"}


def test_a_log_line_that_cannot_be_formatted_is_seen(
    records: Records, planted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logging.getLogger("some").debug("%d", planted)
    assert found_in(records) == {"log"}


def test_the_watch_on_the_log_gives_handlers_no_more_than_they_had(
    records: Records, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("some").debug("below the level")
    logging.getLogger("some").warning("above it")
    assert caplog.messages == ["above it"]
    assert records.written["log"] == 2


@override_settings(ROOT_URLCONF=__name__)
def test_a_response_is_seen(records: Records, planted: str) -> None:
    Client().get("/show/", {"value": planted})
    assert found_in(records) == {"response"}


@override_settings(ROOT_URLCONF=__name__)
async def _ask_asynchronously(planted: str) -> None:
    from django.test import AsyncClient

    await AsyncClient().get("/show/", {"value": planted})


def test_a_response_to_an_asynchronous_client_is_seen(records: Records, planted: str) -> None:
    from asgiref.sync import async_to_sync

    async_to_sync(_ask_asynchronously)(planted)
    assert found_in(records) == {"response"}


@override_settings(ROOT_URLCONF=__name__)
@pytest.mark.parametrize(
    ("method", "other", "channels"),
    [("POST", False, set()), ("POST", True, {"response"}), ("GET", False, {"response"})],
)
def test_an_issued_session_has_its_secret_in_one_place(
    records: Records, planted: str, method: str, other: bool, channels: set[str]
) -> None:
    query = f"value={planted}" + (f"&other={planted}" if other else "")
    # The query is in the request alone, which is no answer of ours.
    Client().generic(method, f"/sessions/?{query}")
    assert found_in(records) == channels


@pytest.mark.django_db
def test_a_row_is_seen(records: Records, planted: str) -> None:
    User.objects.create_user("ada", last_name=planted)
    dump_database(records)
    assert found_in(records) == {"database"}


@pytest.mark.django_db
def test_a_signed_in_session_is_seen(records: Records, planted: str) -> None:
    session = Client().session
    session["note"] = planted
    session.save()
    dump_database(records)
    assert found_in(records) == {"database"}


@pytest.mark.parametrize("where", ["the cache of the run", "a cache of files"])
def test_an_entry_of_the_cache_is_seen(records: Records, planted: str, tmp_path: Path, where: str) -> None:
    files = {"default": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache"}}
    files["default"]["LOCATION"] = str(tmp_path / "cache")
    with override_settings(**({"CACHES": files} if where == "a cache of files" else {})):
        cache.set("key", {"value": planted})
        dump_caches(records)
        cache.clear()
    assert found_in(records) == {"cache"}


def test_what_a_command_prints_is_seen(records: Records, planted: str) -> None:
    OutputWrapper(StringIO()).write(planted)
    assert found_in(records) == {"output"}


def test_what_a_test_prints_is_seen(
    records: Records, planted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print(planted)
    capsys.readouterr()
    assert found_in(records) == {"output"}


def test_what_a_child_process_prints_is_seen(records: Records, planted: str) -> None:
    subprocess.run([sys.executable, "-c", f"print({planted!r})"], capture_output=True, check=True)
    assert found_in(records) == {"output"}


@pytest.mark.parametrize("place", ["body", "alternative", "attachment"])
def test_what_is_mailed_is_seen(records: Records, planted: str, place: str) -> None:
    mailed = EmailMultiAlternatives("subject", "body", to=["operator@example.org"])
    if place == "body":
        mailed.body = planted
    elif place == "alternative":
        mailed.attach_alternative(f"<p>{planted}", "text/html")
    else:
        mailed.attach("report.html", planted, "text/html")
    mailed.send()
    assert found_in(records) == {"mail"}


@pytest.mark.parametrize("pytest_section", ["Captured stdout call", "Captured stderr setup"])
def test_what_pytest_captured_is_kept(records: Records, planted: str, pytest_section: str) -> None:
    plugin = Sentinel.__new__(Sentinel)
    plugin.records = records
    sections = [(pytest_section, planted)]
    report = pytest.TestReport("t", ("", 0, ""), {}, "passed", None, "teardown", sections=sections)
    plugin.pytest_runtest_logreport(report)
    assert found_in(records) == {"output"}


def test_keys_and_secrets_are_learned_at_the_stand_in(records: Records, standin: StandIn, db: None) -> None:
    records.secrets.clear()
    client = Client()
    client.force_login(User.objects.create_user("ada"))
    issued = client.post(SESSIONS, "{}", content_type=JSON).json()
    assert records.secrets == {issued["client_secret"], "sk-standin"}


def test_the_name_of_a_test_may_hold_a_secret(records: Records, planted: str) -> None:
    records.write("log", "fine", f"tests/x.py::y[{planted}]")
    assert found_in(records) == set()
    records.write("log", planted, f"tests/x.py::y[{planted}]")
    assert [planted in str(finding) for finding in records.find()] == [False]


@pytest.mark.parametrize("shift", range(3))
@pytest.mark.parametrize("encode", [b64encode, urlsafe_b64encode])
def test_a_secret_in_base64_is_found_wherever_it_begins(encode: Any, shift: int, planted: str) -> None:
    text = encode(b"?" * shift + planted.encode() + b" and more").decode()
    assert [form for _, _, form in Needles([planted]).find(text)] == ["base64"]


@pytest.mark.parametrize("more", ["", "x" * 24])
def test_a_secret_is_found_in_every_form(more: str) -> None:
    secret = 'ek_"1/2&3?"\u00e9' + more
    for name, form in forms(secret):
        assert name in {found for _, _, found in Needles([secret]).find(f"ek_ek_{form}ek_")}


def test_a_secret_that_was_cut_off_is_found(records: Records, planted: str) -> None:
    logging.getLogger("some").debug("%s", planted[:30])
    assert [str(finding).partition(",")[0] for finding in records.find()] == ["log (beginning)"]


def test_a_finding_does_not_show_the_secret_whole(planted: str) -> None:
    shown = str(Finding("log", "tests/x.py::y", f"key=sk-other {planted} ", planted, "plain"))
    assert shown == (
        f"log (plain), tests/x.py::y: {planted[:5]}... of 35 characters after 'key=[removed] [removed] '"
    )
    assert planted not in repr(Finding("log", "", planted, planted, "plain"))


@pytest.mark.django_db
def test_nothing_that_the_suite_left_behind_holds_a_secret(sentinel: Sentinel, standin: StandIn) -> None:
    records = sentinel.records
    make_traffic(standin)
    dump_database(records)
    dump_caches(records)
    assert len(records.secrets) > 5
    assert {channel: 0 for channel in CHANNELS if records.written[channel] < 3} == {}
    assert [str(finding) for finding in records.find()] == []


def test_the_search_is_the_last_test_of_the_run(request: pytest.FixtureRequest) -> None:
    names = [item.name for item in request.session.items]
    assert LAST not in names[:-1]


def make_traffic(standin: StandIn) -> None:
    """Do a little of everything, for when this test runs alone."""
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.create_superuser("ada"))

    def post(body: dict[str, Any]) -> Any:
        return client.post(SESSIONS, json.dumps(body), content_type=JSON)

    for _ in range(5):
        issued = post({}).json()
    assert post({"current_client_secret": issued["client_secret"]}).json()["reused"]
    secret, key = issued["client_secret"], "sk-standin"
    standin.misbehave(Fault(status=400, body={"error": {"message": f"{key} {secret}"}}), times=2)
    assert post({}).status_code == 502
    assert client.get("/api/chatkit/threads/").status_code == 502
    with pytest.MonkeyPatch.context() as patch, override_settings(DEBUG=True):
        patch.setattr("chatkit_sessions.api.views.session_object", _fail)
        answer = client.post(
            SESSIONS,
            json.dumps({"current_client_secret": secret}),
            content_type=JSON,
            headers={"Accept": JSON},
        )
        assert "RuntimeError" in answer.content.decode()
        with mailing(), override_settings(DEBUG=False):
            assert {post({"current_client_secret": secret}).status_code for _ in range(3)} == {500}
    assert client.post(f"{SESSIONS}{issued['id']}/cancel/").status_code == 200
    call_command("chatkit_doctor", stdout=StringIO())
    cache.set("a", "b")
    cache.set("c", "d")
    cache.set("e", "f")
    pages = ["", f"{ChatSession.objects.latest('pk').pk}/change/"]
    for page in pages:
        assert client.get(f"/admin/chatkit_sessions/chatsession/{page}").status_code == 200


def _fail(*args: Any, **kwargs: Any) -> None:
    raise RuntimeError("in the middle")
