from collections.abc import Iterator

import pytest
from pytest_django import DjangoDbBlocker

from chatkit_sessions import testing

from .api import Api
from .nursery import Nursery


@pytest.fixture(scope="session")
def nursery(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Nursery]:
    """A process that forks children which may be killed."""
    with django_db_blocker.unblock():
        nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def api(transactional_db: None, request: pytest.FixtureRequest) -> Iterator[Api]:
    """The API, with the keys of CHATKIT_SESSIONS that the test's parameter names."""
    with testing.standin(Api(), **getattr(request, "param", {})) as running:
        assert isinstance(running, Api)
        yield running
