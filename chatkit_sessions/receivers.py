"""Sessions end with the right to them: on signing out, if the site wants it, and with the account always.

Nothing here may keep anybody from signing out or an account from being changed: what fails is logged.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import nullcontext
from functools import partial
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_out
from django.db import Error as StorageError
from django.db import transaction
from django.db.models.signals import post_save, pre_delete

from . import conf
from .models import ChatSession
from .services.cancel import announce_all, end_all_here, stop_pending
from .services.storage import after_commit, database
from .services.withdrawal import tell_all

logger = logging.getLogger("chatkit_sessions")

# For how many seconds signing out may be kept waiting by the API, at most; what is used up of it is given
# again after so many seconds.
PATIENCE = 0.8
RENEWED_AFTER = 10


def connect() -> None:
    """Listen to the accounts."""
    uid = "chatkit_sessions"
    user_logged_out.connect(on_logout, dispatch_uid=uid)
    for model in apps.get_models():
        # Proxies and children of the user model, too: Django names them as the sender, not the model itself.
        if issubclass(model, get_user_model()):
            post_save.connect(on_save, sender=model, dispatch_uid=uid)
            pre_delete.connect(on_delete, sender=model, dispatch_uid=uid)


def on_logout(sender: Any, user: Any = None, **kwargs: Any) -> None:
    """End the sessions of whoever signs out, where CANCEL_ON_LOGOUT says so."""
    # Visitors have no account: their sessions are not this one's.
    if getattr(user, "pk", None) is not None and conf.read()[0].cancel_on_logout:
        _end_sessions_of(user, by=user, reason="signed out")


def on_save(sender: Any, instance: Any, raw: bool = False, created: bool = False, **kwargs: Any) -> None:
    """End the sessions of an account that is not active."""
    if raw or created or getattr(instance, "is_active", True):
        return
    end = partial(_end_sessions_of, instance, reason="account deactivated")
    end()
    if transaction.get_connection(database()).in_atomic_block:
        # Others see the deactivation from the commit on: what they begin until then is ended after it.
        after_commit(end)


def on_delete(sender: Any, instance: Any, **kwargs: Any) -> None:
    """End the sessions of an account that is about to be deleted: their rows forget whose they were."""
    _end_sessions_of(instance, reason="account deleted")


def _end_sessions_of(user: Any, *, reason: str, by: Any = None) -> None:
    alias = database()
    # What fails here leaves the transaction around it usable, where there is one.
    inside = transaction.get_connection(alias).in_atomic_block
    ended: list[ChatSession] = []
    try:
        with transaction.atomic(using=alias) if inside else nullcontext():
            # By the account and not its key: that of a child of the user model may be another one.
            sessions = ChatSession.objects.filter(user=user)
            stop_pending(sessions, by=by, reason=reason)
            for batch in end_all_here(sessions, by=by, reason=reason):
                ended += batch
    except StorageError:
        logger.exception("The sessions of account %s could not be ended (%s).", user.pk, reason)
        if inside:
            return
    if ended:
        # Only once it holds: what is rolled back here must be heard of nowhere.
        after_commit(partial(_let_know, ended))


def _let_know(ended: list[ChatSession]) -> None:
    try:
        announce_all(ended)
        with _patience as seconds:
            tell_all(ended, seconds=seconds)
    except Exception:  # whatever it is, chatkit_reconcile tells the rest
        logger.exception("The end of sessions could not be told.")


class _Patience(threading.local):
    """The seconds that the API may take now: many accounts at once keep a thread no longer than one does."""

    def __init__(self) -> None:
        self._renewed = self._entered = time.monotonic()
        self._left = PATIENCE

    def __enter__(self) -> float:
        self._entered = time.monotonic()
        if self._entered - self._renewed > RENEWED_AFTER:
            self._renewed, self._left = self._entered, PATIENCE
        return self._left

    def __exit__(self, *error: object) -> None:
        self._left -= time.monotonic() - self._entered


_patience = _Patience()
