"""Every change of one row of the machine's table is found by what the device then does; the table itself is not asked.

How a device must behave stands in component_table_rules.py. `make test` tries every change with one trouble, `make
soak` what that leaves with two. What makes no difference is listed here, one by one, with its reason.
"""

from __future__ import annotations

from collections import Counter

import component_table
import pytest
from component_table_search import Trial, mutants

from component.certificate_rotator.machine import ROWS

EQUIVALENT = {
    "PREPARING START / note": "no outcome stands there yet",
    "CREATING FAILED / report": "a full disk while both are kept, and nobody was asked: it begins anew",
    "CREATING FAILED / reconnect": "likewise, once the job is heard of again",
    "RESUMING NOT_OURS / note": "likewise: no outcome stands there yet",
    "INSTALLING START → RETURNING": "torn: the old pair is back either way; classic restarts a time limit later",
    "RESUMING QUEUED / claim": "the attempt goes on with the key that was made for the one before, which is as good",
    "COMMITTING COMMIT_ACCEPTED / confirm": "no earlier commit got out in this run of the nucleus: nothing is proven",
    "KEEPING COMMIT_REJECTED / keep": "what outcome is noted makes no difference: its job has ended",
    "KEEPING TIME_LIMIT → RESUMING": "the job has ended: what is next is another one; if it has not, see keeping",
    "KEEPING TIME_LIMIT → RECONNECTING": "likewise",
    "KEEPING TIME_LIMIT / reconnect": "counts a second more",
    "KEEPING FAILED → RESUMING": "no job is noted: whatever is next is another's, and both are kept either way",
    "KEEPING FAILED → RECONNECTING": "likewise",
    "KEEPING FAILED → REPORTING": "likewise",
    "RECONNECTING NOT_OURS / report": "no outcome is noted, which is told as FAILED, with the same reason",
    "REPORTING DONE / note": "there is no job, so none that has succeeded",
    "REPORTING START → RECONNECTING": "tells FAILED, which is so; but to a job that has SUCCEEDED, which stays that",
    "REPORTING START / reconnect": "counts a second for a record that is about to go",
}
BY_ONE = 2557  # of the changes are found by one trouble, at least


@pytest.fixture(scope="module", autouse=True)
def _watching():
    with component_table.watching():
        yield


@pytest.fixture(scope="module")
def one():
    return Trial(1)


def alive(trial, changes):
    """Those that the trial does not find; how many each rule has found."""
    found, left = Counter(), []
    for row, what, changed in changes:
        broken = trial.kill(row, changed)
        found[broken and broken.partition(" (")[0]] += 1
        left += [(row, what, changed)] * (broken is None)
    return left, found


CHANGES = [(row, what, changed) for row in ROWS for what, changed in mutants(row)]


def test_whatever_trouble_meets_a_device_it_keeps_every_rule_and_most_changes_of_its_table_break_one(one, say):
    assert one.found is None, one.found
    left, found = alive(one, CHANGES)
    say(f"{len(one.search.seen)} worlds; of {len(CHANGES)} changes {len(left)} left: {dict(found.most_common())}")
    assert len(CHANGES) - len(left) >= BY_ONE


@pytest.mark.soak
def test_every_change_of_a_row_breaks_a_rule_within_two_troubles_or_makes_no_difference(one, say):
    two = Trial(2)
    assert two.found is None, two.found
    left, _ = alive(one, CHANGES)
    left, _ = alive(two, left)
    say(f"{len(two.search.seen)} worlds; of {len(CHANGES)} changes {len(left)} make no difference")
    assert {f"{row.state.value} {row.event.value} {what}" for row, what, _ in left} == EQUIVALENT.keys()
