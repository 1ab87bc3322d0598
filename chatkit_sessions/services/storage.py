"""What the databases say when two transactions are in each other's way."""

from __future__ import annotations

# PostgreSQL: serialization_failure, deadlock_detected. MySQL and MariaDB: ER_LOCK_DEADLOCK.
_DEADLOCKS = frozenset({"40001", "40P01", 1213})


def is_deadlock(error: BaseException) -> bool:
    """Return whether the database gave this transaction up for another: doing it again helps."""
    cause = error.__cause__ or error
    code = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or next(iter(cause.args), None)
    return code in _DEADLOCKS
