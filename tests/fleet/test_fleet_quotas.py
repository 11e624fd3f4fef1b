"""Calls keep to the quota, whatever threads and times do."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.fleet.quotas import DEFAULT_PER_SECOND, QUOTAS, SHARE, RateLimits, TokenBucket


class VirtualTime:
    """A clock that moves only when somebody sleeps, or the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@given(
    rate=st.floats(0.5, 100),
    pauses=st.lists(st.floats(0, 3), min_size=1, max_size=80),
)
def test_no_span_of_time_sees_more_calls_than_rate_and_burst_allow(rate, pauses):
    time = VirtualTime()
    bucket = TokenBucket(rate, monotonic=time.monotonic, sleep=time.sleep)
    passed = []
    for pause in pauses:
        time.now += pause
        bucket.take()
        passed.append(time.now)
    burst = max(1.0, rate)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            allowed = burst + rate * (passed[last] - passed[first])
            assert last - first + 1 <= allowed + 1e-6 * (last + 1)


def test_burst_of_one_second_passes_at_once_and_the_next_call_waits():
    time = VirtualTime()
    bucket = TokenBucket(8, monotonic=time.monotonic, sleep=time.sleep)
    for _ in range(9):
        bucket.take()
    assert time.slept == [pytest.approx(1 / 8)]


def test_callers_of_many_threads_each_wait_for_their_own_place():
    waits: list[float] = []
    bucket = TokenBucket(2, monotonic=lambda: 0.0, sleep=waits.append)
    threads = [threading.Thread(target=bucket.take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(waits) == [0.5, 1.0, 1.5, 2.0]


@pytest.mark.parametrize(
    ("api", "factor", "per_second"),
    [
        ("DescribeCertificate", 1, QUOTAS["DescribeCertificate"].per_second * SHARE),
        ("ListThingsInThingGroup", 1, 20),
        ("DescribeCertificate", 5, 40),
        ("SomethingNew", 1, DEFAULT_PER_SECOND * SHARE),
    ],
)
def test_each_api_runs_at_its_share_of_the_quota(api, factor, per_second):
    time = VirtualTime()
    limits = RateLimits(factor, monotonic=time.monotonic, sleep=time.sleep)
    calls = 200
    for _ in range(calls):
        limits.take(api)
    assert calls / (time.now + 1) == pytest.approx(per_second, rel=0.01)


def test_one_api_does_not_slow_another():
    time = VirtualTime()
    limits = RateLimits(monotonic=time.monotonic, sleep=time.sleep)
    for _ in range(8):
        limits.take("DescribeCertificate")
    limits.take("ListPrincipalThingsV2")
    assert time.slept == []
