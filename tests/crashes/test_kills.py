"""A server is killed at random moments under load; CHATKIT_CRASHES says how often, by default 10."""

import os
import random

import pytest

from .api import Api
from .harness import SETTINGS, Harness
from .nursery import Nursery

pytestmark = pytest.mark.crash

KILLS = int(os.environ.get("CHATKIT_CRASHES", "10"))
SEED = int(os.environ.get("CHATKIT_CRASH_SEED", "0")) or random.randrange(1, 1_000_000)  # noqa: S311


@pytest.mark.parametrize("api", [SETTINGS], indirect=True)
def test_nothing_is_lost_when_the_server_is_killed(nursery: Nursery, api: Api) -> None:
    api.pause = 0.02
    account = Harness(nursery, api, kills=KILLS, seed=SEED).run()
    print(account)
    assert account.wrong == []
    assert account.rows.keys() <= {"pending", "active", "cancelled"}
    assert account.settled is not None
    assert account.settled.lost == account.rows["pending"]
    assert account.settled.told == account.due
    assert account.answers["201"] > 0
