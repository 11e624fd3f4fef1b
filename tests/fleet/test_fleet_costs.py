"""What looks cost, in calls and never in seconds: each shape of an account in small, against its floor."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from itertools import count

import pytest
from fleet_shapes import LARGE, NOW, SHAPES, account, plain_loop
from shared_virtual_time import VirtualTime

from controller.commands.progress import TimeLimit, TimeLimitError
from controller.fleet import ActAs, AwsSession, Inventory, RefreshOptions, refresh
from controller.fleet.progress import silent
from controller.fleet.quotas import SHARE

SCALE = 40
NO_SLICE = RefreshOptions(max_slice=0)
OVERHEAD = 30  # calls that are made once, whatever the size
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def look(make_session, tmp_path):
    """Looks at one account, one after another; each gives its calls by name."""

    def looks(made, *after):
        counts = []
        with Inventory(tmp_path / f"{made.registry.foreign}.sqlite") as inventory:
            for number, then in enumerate(after):
                session = make_session(made.registry)
                refresh(session, inventory, made.desired, NOW + then)
                counts.append(session.calls)
                if number == 0:
                    made.changes()
        return counts

    return looks


@pytest.mark.parametrize("shape", SHAPES | LARGE)
def test_a_first_look_costs_hardly_more_than_its_floor_and_a_later_one_little(look, shape):
    made = (SHAPES | LARGE)[shape](SCALE * 10 if shape in LARGE else SCALE)
    floor, governed = made.floor, len(made.registry.groups[made.groups[0]])
    cold, _, warm = look(made, 0 * HOUR, HOUR, 2 * HOUR)
    looked_into = 100 * ("foreign jobs" in shape)  # of foreign jobs, on each look until all are known
    assert cold.total() <= 1.1 * floor + OVERHEAD + looked_into
    assert warm.total() <= OVERHEAD + 2 * len(made.groups) + governed // 100 + looked_into


def test_a_first_look_takes_no_longer_than_one_of_its_two_quotas(tmp_path):
    made, time = account(200), VirtualTime()
    session = AwsSession(
        made.desired.fleet,
        ActAs.READER,
        quota_factor=1,
        new_session=made.registry.new_session,
        monotonic=time.monotonic,
        sleep=time.sleep,
    )
    with Inventory(tmp_path / "inventory.sqlite") as inventory:
        refresh(session, inventory, made.desired, NOW)
    assert time.monotonic() <= 1.4 * 200 / (10 * SHARE), "what things hold is asked beside what that says"


def test_what_is_foreign_costs_a_few_pages_and_all_of_them_once_a_day(look):
    small, large = account(20), account(20, foreign=10_000)
    for made in (small, large):
        assert plain_loop(made) == 41
    counts = [look(made, 0 * HOUR, HOUR, 2 * HOUR, DAY + 3 * HOUR) for made in (small, large)]
    assert [one.total() - other.total() for one, other in zip(*reversed(counts), strict=True)] == [3, 80, 6, 80]


def test_the_slice_comes_round_to_everyone_within_a_week_of_hourly_looks(look):
    made = account(300)
    counts = look(made, *(hour * HOUR for hour in range(8)))
    a_look = {calls["ListThingPrincipalsV2"] for calls in counts[1:]}
    assert a_look == {2}
    assert 300 / 2 <= 24 * 7
    asked = [parameters["thingName"] for name, parameters in made.registry.seen if name == "ListThingPrincipalsV2"]
    assert len(set(asked[300:])) == 14, "nobody twice before all have been"


def test_a_first_look_that_is_cut_off_again_and_again_asks_nothing_twice(make_session, tmp_path):
    """As in CI: each run ends by its time limit, and the next one has what was read."""
    made, ends = account(120), []
    path = tmp_path / "inventory.sqlite"
    while True:
        told = count()
        limited = TimeLimit(timedelta(seconds=30), lambda told=told: next(told)).on(silent)  # a second for each word
        with Inventory(path) as inventory:
            try:
                refresh(make_session(made.registry), inventory, made.desired, NOW, limited, options=NO_SLICE)
            except TimeLimitError as error:
                ends.append(str(error))
                continue
        break
    assert len(ends) > 1
    assert all("what was read is kept" in end for end in ends)
    asked = Counter(name for name, _ in made.registry.seen)
    assert (asked["ListThingPrincipalsV2"], asked["DescribeCertificate"]) == (120, 120)


def test_a_wave_of_our_own_is_read_from_its_records_and_a_sample_of_the_registry(look):
    """Fifty of 250 rotate between two looks; two more are the slice's."""
    first, second, third = look(SHAPES["a fifth of 2,000 rotated by us"](8), 0 * HOUR, HOUR, 2 * HOUR)
    assert (second["GetFunctionConfiguration"], second["BatchGetItem"]) == (1, 1)
    assert (second["ListThingPrincipalsV2"], second["DescribeCertificate"]) == (10 + 2, 10)
    assert (third["ListThingPrincipalsV2"], third["DescribeCertificate"]) == (2, 0), "nothing is left to be read"
    assert first["BatchGetItem"] == third["BatchGetItem"] == 0
