"""Cohort groups: thing groups that exist for one wave, named after its job.

Their names show whose they are, so nothing is stored: a group whose job has ended is removed, and so is
one whose job was never made (a run died between the two), once no other run can still be about to make it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from controller.reconcile.values import policy_in

from .iot_jobs import IotJobs
from .requests import MANAGED_BY

ORPHAN_AFTER = timedelta(hours=1)  # longer than any run takes between making a group and its job
MAX_TARGETS = 100  # ARNs of one job: more things are reached by a group
_PREFIX = "cf-"


def cohort_of(iot: IotJobs, group: str, things: Iterable[str], description: str, tags: Mapping[str, str]) -> str:
    """Return the ARN of a group of exactly ``things``, with description and tags; a broken-off run is put right."""
    iot.make_group(group, description, tags)
    wanted = frozenset(things)
    present = iot.group_members(group)
    iot.for_each(lambda thing: iot.remove_from_group(group, thing), sorted(present - wanted))
    iot.for_each(lambda thing: iot.add_to_group(group, thing), sorted(wanted - present))
    return iot.group_arn(group)


def sweep_cohorts(iot: IotJobs, now: datetime, keep: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """Remove the cohort groups that nothing needs any more, but those in ``keep``; returns them.

    One ListThingGroups, and one or two calls per cohort group there is.
    """
    ours = [group for group in iot.groups_named(_PREFIX) if policy_in(group) and group not in keep]
    removed = []
    for group in ours:
        if _is_needless(iot, group, now):
            iot.delete_group(group)
            removed.append(group)
    return tuple(removed)


def _is_needless(iot: IotJobs, group: str, now: datetime) -> bool:
    job = iot.job(group)
    if job is not None and not job.has_ended:
        return False
    described = iot.describe_group(group)
    if described is None or not described[0].startswith(MANAGED_BY):
        return False  # gone, or not made by us whatever its name
    return job is not None or now - described[1] > ORPHAN_AFTER
