"""The process that forks leaves nothing behind, however it ends."""

import socket
import time
from collections.abc import Callable

import pytest

from .nursery import Nursery

pytestmark = [pytest.mark.crash, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize("end", [Nursery.close, Nursery.die])
def test_the_server_ends_with_the_process_that_forked_it(end: Callable[[Nursery], None]) -> None:
    nursery = Nursery()
    try:
        nursery.serve()
        assert is_served(nursery.port)
        end(nursery)
        until = time.monotonic() + 30
        while is_served(nursery.port) and time.monotonic() < until:
            time.sleep(0.01)
        assert not is_served(nursery.port)
    finally:
        nursery.close()


def is_served(port: int) -> bool:
    """Return whether anybody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True
