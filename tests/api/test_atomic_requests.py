from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection

from chatkit_sessions import urls
from chatkit_sessions.client.transport import Transport
from chatkit_sessions.models import ChatSession, Status
from chatkit_sessions.standin import Fault, StandIn

from .conftest import Browser, session_of


@pytest.fixture(autouse=True)
def _atomic_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)


@pytest.mark.django_db(transaction=True)
def test_a_session_is_issued_and_its_row_is_kept(standin: StandIn) -> None:
    browser = Browser(User.objects.create_user("ada"))
    issued = browser.issue()
    assert ChatSession.objects.get().public_id == issued["id"]
    assert browser.post(f"sessions/{issued['id']}/cancel/").json()["status"] == "cancelled"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fault", [Fault(status=401), Fault(body="no JSON")])
def test_a_failure_keeps_its_row(standin: StandIn, fault: Fault) -> None:
    browser = Browser(User.objects.create_user("ada"))
    standin.misbehave(fault)
    answer = browser.post("sessions/", {})
    row = ChatSession.objects.get()
    assert (answer.status_code, row.status) == (502, Status.FAILED)
    assert answer.json()["reference"] == str(row.reference)


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_the_api_is_asked(
    standin: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = User.objects.create_user("ada")
    session = session_of(ada)
    thread = standin.add_thread(user=str(ada.pk))["id"]
    asked: list[bool] = []
    send = Transport.send

    def look(transport: Transport, *arguments: Any, **options: Any) -> Any:
        asked.append(connection.in_atomic_block)
        return send(transport, *arguments, **options)

    monkeypatch.setattr(Transport, "send", look)
    browser = Browser(ada)
    browser.issue()
    browser.post(f"sessions/{session.upstream_id}/cancel/")
    browser.get(f"threads/{thread}/items/")
    assert asked == [False] * 4


def test_every_endpoint_opts_out() -> None:
    assert len(urls.urlpatterns) == 7
    for pattern in urls.urlpatterns:
        view: Any = pattern.callback
        assert view._non_atomic_requests == {"default"}, pattern
        assert view.csrf_exempt, pattern  # REST framework enforces it, once it knows who asks
