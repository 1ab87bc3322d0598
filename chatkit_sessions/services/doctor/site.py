"""The site itself: its settings, its database and its cache."""

from __future__ import annotations

import uuid

from django.conf import settings as django_settings
from django.core.cache import DEFAULT_CACHE_ALIAS, BaseCache, caches
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.checks import ERROR, CheckMessage, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import Error as StorageError
from django.db import connections
from django.db.migrations.exceptions import BadMigrationError, NodeNotFoundError
from django.db.migrations.executor import MigrationExecutor
from django.utils.translation import gettext as _

from chatkit_sessions.models import ChatSession
from chatkit_sessions.secret import redact
from chatkit_sessions.services.storage import database

from .findings import Finding, Level, error, ok, warning

APP = ChatSession._meta.app_label
# The doctor says more about a missing key itself.
MISSING_KEY = "chatkit_sessions.W001"
ROUND_TRIP_SECONDS = 30


def about_settings() -> list[Finding]:
    """Say what the system checks of this app say."""
    found = [message for message in run_checks(tags=[APP]) if not message.is_silenced()]
    if not any(message.level >= ERROR for message in found):
        found = [message for message in found if message.id != MISSING_KEY]
    return [_from_check(message) for message in found] or [ok("settings", _("They are valid."))]


def _from_check(message: CheckMessage) -> Finding:
    level = Level.ERROR if message.level >= ERROR else Level.WARNING
    return Finding("settings", level, f"{message.msg} ({message.id})", str(message.hint or ""))


def about_database() -> Finding:
    """Say whether the database answers and has this app's tables."""
    alias = database()
    try:
        executor = MigrationExecutor(connections[alias])
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes(APP))
    except (StorageError, ImproperlyConfigured) as err:
        return storage_failed(err)
    except (BadMigrationError, NodeNotFoundError) as err:
        return error("migrations", str(err), _("Look at the migrations of the app that it names."))
    if plan:
        names = [f"{migration.app_label}.{migration.name}" for migration, _backwards in plan]
        missing = ", ".join([*names[:3], *(["..."] if len(names) > 3 else [])])
        return error(
            "migrations",
            _("Migrations are missing in the database %(alias)r (%(n)d): %(missing)s")
            % {"alias": alias, "n": len(names), "missing": missing},
            _("Run: python manage.py migrate --database %(alias)s") % {"alias": alias},
        )
    return ok("database", _("It answers, and every migration of this app is applied."))


def storage_failed(failure: BaseException) -> Finding:
    """Say that the database failed."""
    said = " ".join(str(failure).split())
    for connection in connections.settings.values():
        said = redact(said, str(connection.get("PASSWORD") or ""))
    return error(
        "database",
        _("The database failed: %(error)s") % {"error": said},
        _("Check that it runs, that DATABASES in the settings is right, and that migrate was run."),
    )


def about_cache() -> Finding:
    """Say whether what is counted in the default cache is counted for all processes together."""
    where = "CACHES['default']"
    try:
        cache = caches[DEFAULT_CACHE_ALIAS]
        keeps = _keeps(cache)
    # Each cache's client has errors of its own, which may name the address with its password.
    except Exception as err:
        return warning(
            "cache",
            _("%(where)s fails: %(error)s. The cool-down and the throttles need it.")
            % {"where": where, "error": type(err).__name__},
            _("Check that its server runs, and that its LOCATION in the settings is right."),
        )
    shared = _("Choose a cache that processes share: Redis, Memcached or the database.")
    if isinstance(cache, DummyCache):
        message = _("%(where)s keeps nothing: there is no cool-down, and throttles have no effect.")
        return warning("cache", message % {"where": where}, shared)
    if not keeps:
        message = _("%(where)s does not give back what was put into it.")
        return warning("cache", message % {"where": where}, _("Check its server, its size and its timeout."))
    if isinstance(cache, LocMemCache):
        message = _(
            "%(where)s is not shared between processes: each counts cool-down and throttles for itself."
        )
        return warning("cache", message % {"where": where}, shared)
    backend = django_settings.CACHES[DEFAULT_CACHE_ALIAS]["BACKEND"]
    return ok("cache", _("%(backend)s keeps what it is given.") % {"backend": backend.rpartition(".")[2]})


def _keeps(cache: BaseCache) -> bool:
    key = f"{APP}.doctor.{uuid.uuid4()}"
    cache.set(key, key, ROUND_TRIP_SECONDS)
    kept: bool = cache.get(key) == key
    cache.delete(key)
    return kept
