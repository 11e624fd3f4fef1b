"""The record of what is governed, as one run writes it.

To look and then to make jobs is one transaction: the record has a version, a run remembers the one that it
found before it looked, and each job is made only after the record was written once more over the very version
that this run wrote last. A run that is overtaken has looked too early, and looks again.
docs/decisions/0038-two-runs-at-once.md shows what this does not hold against, and what does.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

from controller.fleet.baseline import RECORD_DESCRIPTION, RECORD_GROUP, RUN, BaselineRecord, decode, encode
from controller.reconcile.values import Baseline, Plan

from .iot_jobs import IotJobs

NOTED_EVERY = timedelta(days=1)  # that an apply came to its end; jobs are read back from there


class OvertakenError(Exception):
    """Another run makes, or has made, jobs since this one looked; or a window has closed, or a job was stopped."""


class Ledger:
    """The record in the hands of one run; ``found`` is what the record holds, as this run knows it."""

    def __init__(self, iot: IotJobs, baseline: Baseline | None, looked_at: datetime | None = None) -> None:
        """Take over the record. ``looked_at`` is when the run looked; None: when its plan was made.

        Failures after that instant still count in a rollout that the run resumes.
        """
        self._iot, self._looked_at = iot, looked_at
        self.found = BaselineRecord() if baseline is None else BaselineRecord.of(baseline)
        self._version = baseline.version if baseline is not None else None
        self._run = uuid4().hex

    def claim(self, plan: Plan) -> None:
        """Write that this run goes on to make jobs; raises OvertakenError if another has written meanwhile.

        The commit is written now: the jobs that it makes stay, even if this run does not come to its end.
        """
        found = self.found
        resumed = {**found.resumed, **dict.fromkeys(plan.resumed, self._looked_at or plan.created_at)}
        halted = {name: halt for name, halt in found.halted.items() if name not in plan.resumed}
        self.found = replace(self._of_commit(plan), resumed=resumed, halted=halted)
        self._write(self.found)

    @classmethod
    def opened_now(cls, iot: IotJobs) -> Ledger:
        """Return the record as it is at this moment, for a caller that has not looked at the fleet."""
        found = iot.group_attributes(RECORD_GROUP)
        if found is None:
            return cls(iot, None)
        return cls(iot, decode(found[0]).baseline(found[1], {}))

    def close(self, plan: Plan) -> None:
        """Note what is governed from now on, if that has changed.

        Call it last: if a run dies before, the next one asks its guardrails again. A run that is overtaken by another
        one leaves that one's record; the next run compares with it.
        """
        policies = {summary.policy for summary in plan.policies}
        kept = {name: at for name, at in self.found.resumed.items() if name in policies}
        before, now = self.found.applied_at, plan.created_at
        applied_at = before if before is not None and timedelta(0) <= now - before < NOTED_EVERY else now
        found = self._of_commit(plan)
        wanted = replace(found, sizes=plan.group_sizes, resumed=kept, halted=plan.halts, applied_at=applied_at)
        if wanted == self.found and self._version is not None:
            return
        try:
            self._write(wanted)
        except OvertakenError:
            return

    def _of_commit(self, plan: Plan) -> BaselineRecord:
        """Return the record with the plan's commit, or the last one known if the plan is of none."""
        if plan.commit is None:
            return self.found
        return replace(self.found, commit=plan.commit, committed_at=plan.committed_at)

    def _write(self, record: BaselineRecord) -> None:
        attributes = {**encode(record), RUN: self._run}
        version = self._iot.write_group(RECORD_GROUP, RECORD_DESCRIPTION, attributes, self._version)
        if version is None:
            raise OvertakenError
        self._version = version
