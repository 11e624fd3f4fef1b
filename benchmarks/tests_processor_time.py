"""Processor seconds of the tests, folder by folder: ``python benchmarks/tests_processor_time.py [FOLDER…]``.

User and system time of the test process and of every process that it has waited for, in one process one test after
another, with coverage as in ``make test``. Pass folders of ``tests/``; without any, all of them.
"""

from __future__ import annotations

import os
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1] / "tests"
SLOWEST = 10


class Meter:
    """Sums up what each test took, its fixtures included."""

    def __init__(self) -> None:
        self.by_folder: dict[str, list[float]] = defaultdict(list)
        self.by_test: Counter[str] = Counter()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> object:
        """Around one test and its fixtures."""
        before = _processor_seconds()
        try:
            return (yield)
        finally:
            spent = _processor_seconds() - before
            self.by_folder[item.path.relative_to(TESTS).parts[0]].append(spent)
            self.by_test[item.nodeid.partition("[")[0]] += spent

    def tell(self) -> None:
        """The table, and the tests that took most."""
        for folder, seconds in sorted(self.by_folder.items()):
            print(f"{folder:<14} {len(seconds):>5} tests {sum(seconds):>7.1f} s")
        total = [second for seconds in self.by_folder.values() for second in seconds]
        print(f"{'all':<14} {len(total):>5} tests {sum(total):>7.1f} s")
        for name, seconds in self.by_test.most_common(SLOWEST):
            print(f"{seconds:>7.1f} s  {name}")


def _processor_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main(folders: list[str]) -> int:
    """Run the tests; returns pytest's exit code."""
    meter = Meter()
    paths = [str(TESTS / folder) for folder in folders] or [str(TESTS)]
    code = pytest.main(["-q", "--cov", "--cov-report=", *paths], plugins=[meter])
    meter.tell()
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
