"""What is asked of the database: transactions that are committed, and what it says of a deadlock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from django.db import Error as StorageError
from django.db import connections, router, transaction
from django.utils.translation import gettext as _

from chatkit_sessions.exceptions import StorageUnavailable
from chatkit_sessions.models import ChatSession

T = TypeVar("T")
V = TypeVar("V", bound=Callable[..., Any])

# How often one tries to get past a deadlock.
ATTEMPTS = 3
# PostgreSQL: serialization_failure, deadlock_detected. MySQL and MariaDB: ER_LOCK_DEADLOCK, and ER_CHECKREAD
# where transactions are repeatable reads.
_DEADLOCKS = frozenset({"40001", "40P01", 1213, 1020})


def database() -> str:
    """Return the alias of the database that sessions are written to: a replica may not know of them yet."""
    return router.db_for_write(ChatSession)


@contextmanager
def committed() -> Iterator[None]:
    """Run the block in a transaction of its own, which is committed at the block's end.

    Raises:
        StorageUnavailable: a transaction is open around it, so that the end would commit nothing.
    """
    connection = transaction.get_connection(database())
    if not (connection.in_atomic_block or connection.get_autocommit()):  # the site commits by hand
        raise _inside_transaction()
    with ExitStack() as stack:
        try:
            # Django exempts its TestCase, whose transaction stands for the database.
            stack.enter_context(transaction.atomic(using=connection.alias, durable=True))
        except RuntimeError as err:
            raise _inside_transaction() from err
        yield


def non_atomic(view: V) -> V:
    """Return a view without the transaction of ATOMIC_REQUESTS around it, on whichever database."""
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


def after_commit(function: Callable[[], object]) -> None:
    """Call a function once what was written holds: at once, or at the end of the transaction around it.

    A site that commits by hand is asked for nothing: chatkit_reconcile finds what is left to do.
    """
    connection = transaction.get_connection(database())
    if connection.in_atomic_block:
        if _is_inside_transaction(connection.alias):
            transaction.on_commit(function, using=connection.alias, robust=True)
            return
    elif not connection.get_autocommit():
        return
    function()


def _is_inside_transaction(alias: str) -> bool:
    try:
        # Django exempts its TestCase, whose transaction stands for the database.
        with transaction.atomic(using=alias, durable=True, savepoint=False):
            return False
    except RuntimeError:
        return True


def renew_connection() -> None:
    """Let the next statement have a connection of its own where the one of before is gone."""
    connection = transaction.get_connection(database())
    if not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()


def past_deadlocks(run: Callable[[], T]) -> T:
    """Run what is one transaction, and again where the database gave it up for another.

    Raises:
        StorageError: the database failed otherwise, or did so too often, or a transaction is open around it.
    """
    attempt = 1
    while True:
        try:
            return run()
        except StorageError as error:
            inside = transaction.get_connection(database()).in_atomic_block
            if attempt == ATTEMPTS or inside or not is_deadlock(error):
                raise
        attempt += 1


def is_deadlock(error: BaseException) -> bool:
    """Return whether the database gave this transaction up for another: doing it again helps."""
    cause = error.__cause__ or error
    code = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or next(iter(cause.args), None)
    return code in _DEADLOCKS


def _inside_transaction() -> StorageUnavailable:
    return StorageUnavailable(
        _(
            "A session cannot be issued inside transaction.atomic(): a rollback would erase its "
            "audit row. Call issue_session() outside the block; for a view under ATOMIC_REQUESTS, "
            "decorate it with transaction.non_atomic_requests."
        )
    )
