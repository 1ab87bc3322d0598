from datetime import UTC, datetime, timedelta

import pytest

from chatkit_sessions.models import LimitLock

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def test_taking_a_lock_again_touches_its_one_row() -> None:
    LimitLock.objects.take(["b", "a"], NOW)
    LimitLock.objects.take(["b"], NOW + timedelta(seconds=1))
    assert list(LimitLock.objects.order_by("key").values_list("key", "touched_at")) == [
        ("a", NOW),
        ("b", NOW + timedelta(seconds=1)),
    ]
    assert str(LimitLock(key="a")) == "a"
