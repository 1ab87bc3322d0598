"""What is at rest after a test: the rows of every table, and the cache."""

from __future__ import annotations

import functools
import pickle
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.contrib.sessions.models import Session
from django.core.cache import caches
from django.core.cache.backends.filebased import FileBasedCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache
from django.db import Error, connection

from .records import Records

# The same before and after every test.
_CONSTANT = frozenset({"auth_permission", "django_content_type", "django_migrations"})


def dump_database(records: Records) -> None:
    """Write down every row of every table; without a database there is nothing."""
    if connection.in_atomic_block and connection.needs_rollback:
        return
    try:
        for table in _tables():
            for row in _rows(table):
                records.write("database", f"{table} {row!r}")
        for session in Session.objects.all() if "django_session" in _tables() else ():
            records.write("database", f"django_session {session.get_decoded()!r}")
    except (Error, RuntimeError):  # lost in the test, or never allowed to it
        return


@functools.cache
def _tables() -> tuple[str, ...]:
    return tuple(name for name in connection.introspection.table_names() if name not in _CONSTANT)


def _rows(table: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")  # noqa: S608 (a table's own name)
        return list(cursor.fetchall())


def dump_caches(records: Records) -> None:
    """Write down every key and value of every cache."""
    for cache in caches.all(initialized_only=True):
        for key, value in _entries(cache):
            records.write("cache", f"{key} {value.decode('latin-1')}")


def _entries(cache: Any) -> Iterator[tuple[str, bytes]]:
    if isinstance(cache, LocMemCache):
        yield from list(cache._cache.items())  # type: ignore[attr-defined]  # not in the stubs
    elif isinstance(cache, RedisCache):
        client: Any = cache._cache.get_client()
        for key in client.scan_iter():
            # Not only those of this test: what others keep on the same server is looked at too.
            value = client.get(key) if client.type(key) == b"string" else b""
            yield key.decode(errors="replace"), value or b""
    elif isinstance(cache, FileBasedCache):
        for path in cache._list_cache_files():  # type: ignore[attr-defined]  # as above
            yield path, _unpacked(Path(path))


def _unpacked(path: Path) -> bytes:
    """Return a value as pickled: in a file it stands compressed behind its pickled expiry."""
    with path.open("rb") as file:
        pickle.load(file)  # noqa: S301 (written by this very run)
        return zlib.decompress(file.read())
