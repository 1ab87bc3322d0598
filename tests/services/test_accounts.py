"""Accounts that are deactivated or deleted around the start of a session."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User

from chatkit_sessions.exceptions import NotAuthenticated, StorageUnavailable
from chatkit_sessions.models import ChatSession
from chatkit_sessions.services import IssuedSession, explain_policy
from chatkit_sessions.services.settle import ACCOUNT_GONE
from chatkit_sessions.standin.exchange import RecordedRequest

from .conftest import Api, Heard

pytestmark = pytest.mark.django_db(transaction=True)

Issue = Callable[..., IssuedSession]

# As whoever ends the account's sessions may not have seen one that begins at the same moment.
WAYS: dict[str, Callable[[User], Any]] = {
    "deactivated": lambda user: User.objects.filter(pk=user.pk).update(is_active=False),
    "deleted": lambda user: ChatSession.objects.update(user=None),
}


@pytest.mark.parametrize("way", WAYS)
def test_nobody_gets_a_secret_whose_account_is_gone_by_the_time(
    issue: Issue, user: User, api: Api, heard: Heard, way: str
) -> None:
    def meanwhile(request: RecordedRequest) -> None:
        api.watch = None
        WAYS[way](user)

    api.watch = meanwhile
    with pytest.raises(StorageUnavailable):
        issue()
    row = ChatSession.objects.get()
    assert (row.status, row.end_reason, row.handed_out_count) == ("cancelled", ACCOUNT_GONE, 0)
    assert (row.cancel_requested_at, row.last_handed_out_at) == (None, None)
    assert api.sessions[row.upstream_id]["status"] == "cancelled"
    assert heard.names == []


def test_an_account_that_is_not_active_gets_no_session(
    issue: Issue, user: User, api: Api, settings: Any
) -> None:
    issued = issue()
    user.is_active = False
    for secret in (None, issued.client_secret):
        with pytest.raises(
            NotAuthenticated, match=r"^This account is not active, so there is no chat for it\.$"
        ):
            issue(current_client_secret=secret)
    assert (ChatSession.objects.count(), len(api.requests)) == (1, 1)
    refusal = explain_policy(user=user).refusal
    assert refusal is not None
    assert refusal.code == "not_authenticated"


def test_a_user_model_that_cannot_be_deactivated_is_fine(
    issue: Issue, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = [field for field in User._meta.concrete_fields if field.name != "is_active"]
    monkeypatch.setitem(User._meta.__dict__, "concrete_fields", fields)
    User.objects.filter(pk=user.pk).update(is_active=False)
    assert not issue().reused
