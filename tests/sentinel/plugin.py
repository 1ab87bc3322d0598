"""The plugin: records from the first test to the last, and has the search run when all else is done."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from .records import Records
from .stores import dump_caches, dump_database
from .taps import Taps

# The test that searches: it is moved behind all others.
LAST = "test_nothing_that_the_suite_left_behind_holds_a_secret"


class Sentinel:
    """Join taps and records to pytest's hooks."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="chatkit-sentinel-"))
        self._patch = pytest.MonkeyPatch()
        self._seen_before = 0
        self.records = Records(self._directory)
        self.taps = Taps(self.records)
        self.taps.install(self._patch)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put the search last."""
        items.sort(key=lambda item: item.name == LAST)

    def pytest_runtest_logstart(self) -> None:
        """Note what has been seen before the test."""
        self._seen_before = self.records.sightings

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, None, None]:
        """After a test that had to do with secrets, look at what is at rest, before it is cleared away."""
        try:
            return (yield)
        finally:
            if self.records.sightings > self._seen_before:
                dump_database(self.records)
                dump_caches(self.records)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a test printed."""
        if report.when == "teardown":  # has the sections of the whole test
            for title, text in report.sections:
                if title.startswith("Captured std"):
                    self.records.write("output", text, report.nodeid)

    def pytest_unconfigure(self) -> None:
        """Take the taps out and throw the records away."""
        self._patch.undo()
        self.records.close()
        shutil.rmtree(self._directory, ignore_errors=True)
