"""One fleet, once: refresh, assess, plan, apply. Never waits for a job.

The same functions as ``certfleet apply``, so the same plan and the same job ids: what CI has made
already is adopted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from controller.fleet import ActAs, AwsSession, Inventory, rebuilt_where_damaged, refresh, stock_settings
from controller.jobs import ApplyResult, IotJobs, Ledger, apply
from controller.reconcile.checks import assess_fleet
from controller.reconcile.planning import check_plan
from controller.reconcile.values import NO_OVERRIDES, DesiredState, FleetState, Overrides, Plan
from controller.report.model import FleetReport
from controller.report.planned import planned
from controller.report.tally import Tally

from .bucket import Bucket
from .budget import OutOfTimeError, TimeBudget
from .stored_inventory import StoredInventory

ATTEMPTS = 4  # of one call: Lambda's time is short, and the next run tries again
READ_TIMEOUT = 20.0  # seconds


@dataclass(frozen=True, slots=True)
class FleetRun:
    """The result of one fleet; ``report`` is None if time ran out before the fleet was read."""

    fleet: str
    report: FleetReport | None = None
    result: ApplyResult | None = None
    stopped: str | None = None  # why it stopped early
    is_out_of_time: bool = False  # that was why
    left_out: Mapping[str, str] = field(default_factory=dict)  # devices of a given plan that do not rotate, and why
    is_kept: bool = True  # the inventory was written to the bucket
    calls: int = 0  # attempts at AWS APIs


class Reconciler:
    """Reconciles fleets of one desired state within one budget.

    ``given`` is a plan that a person has permitted, with the overrides that they named: it is applied and nothing else.
    """

    def __init__(
        self,
        bucket: Bucket,
        prefix: str,
        folder: Path,
        *,
        budget: TimeBudget,
        present: Callable[[], datetime],
        say: Callable[[str], None],
        given: Plan | None = None,
        overrides: Overrides = NO_OVERRIDES,
    ) -> None:
        self._bucket, self._prefix, self._folder = bucket, prefix, folder
        self._budget, self._present, self._say = budget, present, say
        self._given, self._overrides = given, overrides

    def run(self, desired: DesiredState) -> FleetRun:
        """Reconcile one fleet; raises CertfleetError, but stops without one if time runs out."""
        fleet = desired.fleet
        session = AwsSession(
            fleet, ActAs.WRITER, attempts=ATTEMPTS, read_timeout=READ_TIMEOUT, sleep=self._budget.sleep
        )
        try:
            self._budget.require("at the beginning")
            stored = StoredInventory(self._bucket, self._prefix, fleet, self._folder, self._say)
        except OutOfTimeError as error:
            return FleetRun(fleet.name, stopped=str(error), is_out_of_time=True)
        if self._given is not None:
            check_plan(self._given, desired, self._present())
        return rebuilt_where_damaged(lambda: self._reconcile(desired, session, stored))

    def _reconcile(self, desired: DesiredState, session: AwsSession, stored: StoredInventory) -> FleetRun:
        name, report, made = desired.fleet.name, None, ApplyResult()
        left_out: dict[str, str] = {}
        try:
            with stored.opened() as inventory:
                keeping = stored.keeping(inventory, self._budget)
                state = refresh(session, inventory, desired, self._present(), keeping)
                report, left_out = self._plan(desired, state, inventory)
                settings = stock_settings(session, state, inventory)
                iot = IotJobs(session, foreign=inventory.foreign_jobs(), settings=settings)
            result = self._apply(report, iot, made)
        except OutOfTimeError as error:
            told = made if made.jobs else None
            return FleetRun(name, report, told, str(error), True, left_out, stored.is_kept, session.calls.total())
        overtaken = (
            "another run made jobs meanwhile, a window closed, or a job was stopped"
            if result is not None and result.is_overtaken
            else None
        )
        return FleetRun(name, report, result, overtaken, False, left_out, stored.is_kept, session.calls.total())

    def _plan(
        self, desired: DesiredState, state: FleetState, inventory: Inventory
    ) -> tuple[FleetReport, dict[str, str]]:
        now, overrides = self._present(), self._overrides  # to look may have taken minutes
        tally = Tally(desired, now)
        devices = tally.devices(inventory.devices(desired, state))
        assessments = tally.assessments(assess_fleet(devices, desired, state, now, overrides))
        report, left_out = planned(tally, assessments, desired, state, now, overrides=overrides, given=self._given)
        for notice in report.plan.notices if report.plan else ():
            self._say(f"fleet {desired.fleet.name}: {notice}")
        return report, left_out

    def _apply(self, report: FleetReport, iot: IotJobs, made: ApplyResult) -> ApplyResult | None:
        """Carry out the plan, and record each act in ``made``.

        Return None, with nothing done, if a guardrail forbids the plan: nobody is here to override it.
        """
        plan = report.plan
        if plan is None or plan.refusals:
            return None
        ledger = Ledger(iot, report.state.baseline)
        tell, seen = self._budget.tell, report.state.jobs
        return apply(plan, iot, plan.created_at, tell, ledger=ledger, result=made, present=self._present, seen=seen)
