"""Which silent jobs of waves are ended, so that their devices wait in the standing job."""

from __future__ import annotations

from datetime import timedelta

import pytest

from controller.reconcile.rollout.history import read_rollout
from controller.reconcile.rollout.standing import closings

HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
FAMILY = "abcdef"


@pytest.mark.parametrize(
    ("sentence", "asked", "wants_slot", "closed"),
    [
        ("nobody has answered for stragglersAfter", [{"QUEUED": 24 * HOUR}], False, [0]),
        ("for a second less", [{"QUEUED": 24 * HOUR - SECOND}], False, []),
        ("who was asked last has time as well", [{"QUEUED": 30 * HOUR, "PAUSED": 23 * HOUR}], False, []),
        ("one of them works", [{"QUEUED": 30 * HOUR, "IN_PROGRESS": 30 * HOUR}], True, []),
        ("its slot is wanted, after an hour", [{"QUEUED": HOUR}], True, [0]),
        ("its slot is wanted, a second too early", [{"QUEUED": HOUR - SECOND}], True, []),
        ("one slot is wanted, of two jobs", [{"QUEUED": 3 * HOUR}, {"QUEUED": 2 * HOUR}], True, [0]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_job_whose_devices_are_all_silent_for_long_is_ended(make, sentence, asked, wants_slot, closed):
    jobs = []
    for number, since in enumerate(asked):
        job_id = f"cf-line-a-w1-{FAMILY}{number:010}"
        jobs.append(make.job(job_id, {s: make.execution(job_id, s, queued) for s, queued in since.items()}))
    rollout = read_rollout("line-a", FAMILY, jobs, make.now)
    policy = make.policy(rollout=make.rollout(stragglers_after=24 * HOUR))
    steps = closings(rollout, policy, make.now, wants_slot=wants_slot)
    assert [step.job_id for step in steps] == [jobs[number].job_id for number in closed], sentence
