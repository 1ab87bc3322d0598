"""Two processes reconcile at once."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from chatkit_sessions.models import ChatSession
from chatkit_sessions.services import reconcile

from .aftermath import assert_true, settle_all
from .api import Api
from .nursery import Life, Nursery
from .test_steps import leave_one_of_each

pytestmark = pytest.mark.crash

OF_EACH = 5


@pytest.fixture
def told(api: Api) -> Callable[[], Counter[str]]:
    """Leave work behind, and return how often the API is told of which session from then on."""
    for number in range(OF_EACH):
        leave_one_of_each(api, f"person {number}")
    before = len(api.requests)
    return lambda: Counter(request.endpoint for request in api.requests[before:])


def test_two_reconcilers_share_the_work(nursery: Nursery, api: Api, told: Callable[[], Counter[str]]) -> None:
    api.pause = 0.01
    lives = nursery.run_at_once("settle", times=2)
    assert [life.status for life in lives] == [0, 0]
    total = added_up(lives)
    assert (total["lost"], total["expired"]) == (OF_EACH, OF_EACH)
    # One who comes when the other has begun may tell what is being told: not more than once.
    assert total["told"] == told().total() <= 2 * OF_EACH
    assert len(told()) == OF_EACH
    assert not ChatSession.objects.due().exists()
    assert_true(api)
    assert settle_all(api).lost == OF_EACH  # those that were pending in time


def test_what_another_one_has_told_is_not_told_again(
    nursery: Nursery, api: Api, told: Callable[[], Counter[str]]
) -> None:
    others: list[Life] = []

    def let_another_one_overtake(
        execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        # By now all that is due has been looked up.
        if not others and sql.startswith("UPDATE") and ChatSession.objects.due().count() == OF_EACH:
            others.extend(nursery.run_at_once("settle", times=1))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(let_another_one_overtake):
        settled = reconcile()
    assert (settled.told, added_up(others)["told"]) == (0, OF_EACH)
    assert set(told().values()) == {1}
    assert_true(api)


def added_up(lives: list[Life]) -> Counter[str]:
    """Return the sums of what several have settled."""
    total: Counter[str] = Counter()
    for life in lives:
        total.update(life.result)
    return total
