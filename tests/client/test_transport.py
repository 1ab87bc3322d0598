"""What goes over the wire: headers, cookies, redirects, and one pool of connections a process."""

import inspect
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from urllib3.connection import HTTPConnection

from chatkit_sessions.client import (
    APIResponseValidationError,
    ChatKitClient,
    NotFoundError,
    ParameterError,
    transport,
)
from chatkit_sessions.standin import Fault, StandIn

from .conftest import KEY, SESSION, Clock

ROOT = Path(__file__).parents[2]
Make = Callable[..., ChatKitClient]


def test_the_client_is_made_as_documented() -> None:
    made = inspect.signature(ChatKitClient).parameters
    assert {name: parameter.default for name, parameter in made.items()} == {
        "api_key": inspect.Parameter.empty,
        "base_url": inspect.Parameter.empty,
        "organization": None,
        "project": None,
        "timeout": (3.05, 10),
        "max_retries": 2,
        "deadline": 15,
        "session": None,
        "max_expires_after": 600,
    }
    keyword_only = {name for name in made if made[name].kind is inspect.Parameter.KEYWORD_ONLY}
    assert keyword_only == made.keys() - {"api_key"}


def test_the_documented_headers_are_sent(standin: StandIn, make: Make) -> None:
    make(organization="org-1", project="proj_1").create_session(**SESSION)
    make().list_threads(user="ada")
    named, plain = (request.headers for request in standin.requests)
    assert named["authorization"] == plain["authorization"] == f"Bearer {KEY}"
    assert named["openai-beta"] == plain["openai-beta"] == "chatkit_beta=v1"
    assert named["accept"] == plain["accept"] == "application/json"
    assert named["user-agent"] == plain["user-agent"] == "django-chatkit-sessions"
    assert named["content-type"] == "application/json"
    assert (named["openai-organization"], named["openai-project"]) == ("org-1", "proj_1")
    assert not {"openai-organization", "openai-project", "cookie"} & plain.keys()


@pytest.mark.parametrize("empty", [None, ""])
def test_an_empty_organization_or_project_is_not_sent(
    standin: StandIn, make: Make, empty: str | None
) -> None:
    make(organization=empty, project=empty).create_session(**SESSION)
    assert not {"openai-organization", "openai-project"} & standin.requests[0].headers.keys()


@pytest.mark.parametrize("name", ["api_key", "organization", "project"])
@pytest.mark.parametrize("value", ["sk-a\n", "sk-a\r\nX-Evil: 1", "sk-é", "sk a", 7])
def test_what_cannot_stand_in_a_header_is_refused_unseen(
    standin: StandIn, make: Make, name: str, value: Any
) -> None:
    with pytest.raises(ParameterError) as refused:
        make(**{"api_key": KEY, name: value})
    assert str(refused.value) == f"{name} must be a string of visible ASCII characters."
    assert standin.requests == []


@pytest.mark.parametrize("key", ["", None])
def test_without_a_key_there_is_no_client(make: Make, key: Any) -> None:
    with pytest.raises(ParameterError, match=r"^api_key must be a string of visible ASCII characters\.$"):
        make(key)


def test_the_base_url_may_end_in_slashes(standin: StandIn, make: Make) -> None:
    make(base_url=f"{standin.base_url}//").create_session(**SESSION)
    assert standin.requests[0].path == "/v1/chatkit/sessions"


def test_netrc_does_not_replace_the_key(
    standin: StandIn, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login ada password tram\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert requests.get(standin.base_url, timeout=5).request.headers["Authorization"].startswith("Basic ")
    make().create_session(**SESSION)
    assert standin.requests[1].headers["authorization"] == f"Bearer {KEY}"


def test_cookies_of_an_answer_are_not_sent_back(standin: StandIn, client: ChatKitClient) -> None:
    standin.misbehave(Fault(headers={"Set-Cookie": "__cf_bm=1; Path=/"}), times=2)
    client.create_session(**SESSION)
    client.create_session(**SESSION)
    assert all("cookie" not in request.headers for request in standin.requests)
    assert len(transport.shared_session().cookies) == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["create_session", "retrieve_thread"])
def test_a_redirect_is_not_followed(
    standin: StandIn, elsewhere: StandIn, client: ChatKitClient, status: int, method: str
) -> None:
    standin.misbehave(Fault(status=status, headers={"Location": f"{elsewhere.base_url}/chatkit/sessions"}))
    with pytest.raises(APIResponseValidationError) as refused:
        client.create_session(**SESSION) if method == "create_session" else client.retrieve_thread("cthr_1")
    assert str(refused.value) == "The answer is a redirect, which is never followed."
    assert (refused.value.status_code, refused.value.attempts) == (status, 1)
    assert elsewhere.requests == []
    assert len(standin.requests) == 1


@pytest.mark.parametrize("location", ["http://[", "//\xff", "", "javascript:1", "\x80"])
def test_a_redirect_to_nowhere_is_not_followed_either(
    standin: StandIn, client: ChatKitClient, location: str
) -> None:
    standin.misbehave(Fault(status=302, headers={"Location": location}))
    with pytest.raises(APIResponseValidationError, match="is a redirect"):
        client.create_session(**SESSION)


def test_the_body_of_a_redirect_is_bounded_too(standin: StandIn, client: ChatKitClient) -> None:
    fault = Fault(status=302, body=b"x" * (1024 * 1024 + 1), headers={"Location": standin.base_url})
    standin.misbehave(fault)
    with pytest.raises(APIResponseValidationError, match=r"^The answer is longer than 1048576 bytes\.$"):
        client.create_session(**SESSION)


@pytest.mark.parametrize("status", [300, 304, 399])
def test_anything_between_success_and_error_is_refused(
    standin: StandIn, client: ChatKitClient, status: int
) -> None:
    standin.misbehave(Fault(status=status))
    with pytest.raises(APIResponseValidationError) as refused:
        client.create_session(**SESSION)
    assert refused.value.status_code == status


def test_all_clients_share_one_connection_while_it_lasts(
    standin: StandIn, make: Make, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert transport.shared_session() is transport.shared_session()
    opened: list[HTTPConnection] = []
    connect = HTTPConnection.connect

    def count(connection: HTTPConnection) -> None:
        opened.append(connection)
        connect(connection)

    monkeypatch.setattr(HTTPConnection, "connect", count)
    standin.misbehave(Fault(status=500))
    standin.misbehave(Fault(body=b""), path="/chatkit/threads")
    make().create_session(**SESSION)
    with pytest.raises(APIResponseValidationError):
        make().list_threads(user="ada")
    make().create_session(**SESSION)
    assert (len(standin.requests), len(opened)) == (4, 1)


def test_a_process_of_many_threads_keeps_their_connections() -> None:
    session = transport.shared_session()
    adapter = session.get_adapter("https://api.openai.com")
    assert isinstance(adapter, requests.adapters.HTTPAdapter)
    assert adapter.poolmanager.connection_pool_kw["maxsize"] == 32
    assert session.get_adapter("http://127.0.0.1") is adapter


def test_a_process_of_its_own_has_a_pool_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    parents = transport.shared_session()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    childs = transport.shared_session()
    assert childs is not parents
    assert transport.shared_session() is childs
    assert list(transport._shared.values()) == [childs]


FORK = """
import os
from chatkit_sessions.client import transport
parents = transport.shared_session()
child = os.fork()
if child == 0:
    os._exit(7 if transport.shared_session() is not parents else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert transport.shared_session() is parents
"""

WITHOUT_DJANGO = """
import sys
sys.modules["django"] = None  # importing it fails
from chatkit_sessions.client import ChatKitClient
client = ChatKitClient("sk-a", base_url=sys.argv[1])
created = client.create_session(user="ada", workflow={"id": "wf_1"})
assert client.cancel_session(created.id).status == "cancelled"
assert not [name for name in sys.modules if name.split(".")[0] in {"django", "rest_framework", "environ"}
            and sys.modules[name] is not None]
"""


def run(code: str, *arguments: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return finished.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_forked_process_opens_connections_of_its_own() -> None:
    assert run(FORK) == ""


def test_the_client_works_without_django(standin: StandIn) -> None:
    assert run(WITHOUT_DJANGO, standin.base_url) == ""


def test_threads_may_share_a_client(standin: StandIn, make: Make) -> None:
    client = make()
    transport._shared.clear()
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(client.create_session(**SESSION).id)) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(set(found)) == len(standin.sessions) == 16


def test_a_session_of_ones_own_is_used_with_its_hooks(standin: StandIn, make: Make) -> None:
    seen: list[int] = []
    with requests.Session() as mine:
        mine.headers["X-Trace"] = "1"
        mine.hooks["response"].append(lambda response, **options: seen.append(response.status_code))
        make(session=mine).create_session(**SESSION)
    assert standin.requests[0].headers["x-trace"] == "1"
    assert standin.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert seen == [200]


def test_a_proxy_is_honoured(elsewhere: StandIn, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", elsewhere.base_url.removesuffix("/v1"))
    with pytest.raises(NotFoundError):
        make(base_url="http://api.example:1/v1").create_session(**SESSION)
    assert elsewhere.requests[0].path == "http://api.example:1/v1/chatkit/sessions"
