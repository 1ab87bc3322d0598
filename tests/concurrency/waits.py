"""Bounded waiting for a lock, on whichever database the tests run."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

_PATIENCE = {
    "postgresql": ("SET lock_timeout = '{ms}ms'", "RESET lock_timeout"),
    "mysql": ("SET SESSION innodb_lock_wait_timeout = {s}", "SET SESSION innodb_lock_wait_timeout = DEFAULT"),
    "sqlite": ("PRAGMA busy_timeout = {ms}", "PRAGMA busy_timeout = 5000"),
}


@contextmanager
def wait_at_most(seconds: int) -> Iterator[None]:
    """Let this thread's statements fail rather than wait longer for somebody else's lock."""
    begin, end = _PATIENCE[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(begin.format(s=seconds, ms=seconds * 1000))
        try:
            yield
        finally:
            cursor.execute(end)
