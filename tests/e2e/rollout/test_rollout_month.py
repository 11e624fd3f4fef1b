"""A month of operation with devices that come and go."""

from __future__ import annotations

import random
from collections import Counter

from shared_documents import fleet, policy

from controller.fleet.baseline import RECORD_GROUP

FLEET = (
    fleet(guardrails={"maxChangePercent": 100})
    + policy("line-a", "30d", rollout={"waves": ["1", "20%", "100%"], "soak": "12h", "maximumPerMinute": 1000})
    + policy("line-b", "30d", rollout={"waves": ["100%"], "soak": "0s", "maximumPerMinute": 1000})
)

DAYS = 30
HOURS_BETWEEN_RUNS = 12
EACH = 20  # devices of a line
MOST_OPEN_JOBS = 3  # of a policy: two of waves, and the standing one


class Outages:
    """One device in ten is off at any time, each for some days; ``seed`` makes the month repeatable."""

    def __init__(self, factory, seed: int) -> None:
        self._factory = factory
        self._random = random.Random(seed)
        self._runs_left: dict[str, int] = {}

    def next_run(self) -> None:
        """Who was off long enough returns, and others go in their place."""
        self._runs_left = {name: left - 1 for name, left in self._runs_left.items()}
        returned = [name for name, left in self._runs_left.items() if left <= 0]
        self._end(returned)
        names = sorted(set(self._factory.world.devices) - set(self._runs_left) - set(returned))
        leaving = self._random.sample(names, len(self._factory.world.devices) // 10 - len(self._runs_left))
        self._factory.power_off(leaving)
        self._runs_left |= {name: self._random.randint(1, 14) for name in leaving}  # half a day to a week

    def end(self) -> None:
        self._end(list(self._runs_left))

    def _end(self, names: list[str]) -> None:
        for name in names:
            del self._runs_left[name]
        self._factory.power_on(names)


def test_a_month_with_one_device_in_ten_offline_keeps_few_jobs_and_loses_no_device(build):
    like = {"count": EACH, "age": {"from": "0d", "to": "30d"}, "keyType": "ECDSA-P256"}
    factory = build(
        ["line-a", "line-b"],
        [{"prefix": "a-", "groups": ["line-a"], **like}, {"prefix": "b-", "groups": ["line-b"], **like}],
    )
    factory.declare("fleet", FLEET)
    outages = Outages(factory, seed=5)
    most: Counter = Counter()
    stragglers = 0
    for _ in range(DAYS * 24 // HOURS_BETWEEN_RUNS):
        outages.next_run()
        factory.apply()
        most |= factory.active_jobs()
        stragglers += any("-standing-" in job for job in factory.jobs("IN_PROGRESS"))
        factory.advance(hours=HOURS_BETWEEN_RUNS)
    assert set(most) == {"line-a", "line-b"}
    assert max(most.values()) <= MOST_OPEN_JOBS, most
    assert stragglers, "some were away for so long that they waited in a standing job"

    outages.end()
    for _ in range(4):
        factory.apply()
        factory.advance(hours=13)
    factory.apply()
    asked = {name: factory.executions(name) for name in factory.world.devices}
    assert [name for name, told in asked.items() if not told["SUCCEEDED"]] == [], "every device was rotated"
    assert [name for name, told in asked.items() if told["FAILED"] + told["TIMED_OUT"]] == []
    assert factory.is_whole()
    assert factory.run("plan").code == 0
    thing_groups = factory.iot.list_thing_groups(namePrefixFilter="cf-")["thingGroups"]
    open_jobs = set(factory.jobs("IN_PROGRESS"))
    cohorts = {group["groupName"] for group in thing_groups} - {RECORD_GROUP}
    assert cohorts <= open_jobs, "no cohort group outlives its job"
