"""The rows that issuing locks, so that limits are exact."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db import connections, models
from django.utils.translation import gettext_lazy as _


class LimitLockQuerySet(models.QuerySet["LimitLock"]):
    """Locks by key."""

    def take(self, keys: Iterable[str], now: datetime) -> None:
        """Lock these keys until the transaction ends, in an order that is the same for everyone.

        One statement, and the first of its transaction: on SQLite it takes the write lock before anything was
        read, on the others it waits for the same key only.
        """
        rows = [self.model(key=key, touched_at=now) for key in sorted(keys)]
        targeted = connections[self.db].features.supports_update_conflicts_with_target
        self.bulk_create(
            rows,
            update_conflicts=True,
            update_fields=["touched_at"],
            unique_fields=["key"] if targeted else None,
        )


class LimitLock(models.Model):
    """One identity or address that has sessions to count. It says nothing; it is there to be locked."""

    key = models.CharField(_("key"), max_length=64, primary_key=True)
    touched_at = models.DateTimeField(_("touched"), db_index=True)

    objects = LimitLockQuerySet.as_manager()

    class Meta:
        verbose_name = _("limit lock")
        verbose_name_plural = _("limit locks")
        default_permissions = ()

    def __str__(self) -> str:
        return self.key
