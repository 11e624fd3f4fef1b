"""``certfleet apply``: make the jobs of a plan, and with ``--wait`` see the fleet into sync.

Every round reads the fleet afresh, plans, makes what is missing and follows it. Nothing is carried over
from round to round but what is reported, so a killed run is carried on by the next one.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from controller.commands.applied import ApplyReport, FleetApplied
from controller.commands.apply_report import RENDERERS
from controller.commands.context import Context
from controller.commands.documents import load_desired
from controller.commands.options import add_attention, add_desired, add_fleet, add_output, add_overrides, duration
from controller.commands.pipeline import Observed, each_fleet_watched, gravest, observe, told
from controller.commands.plan import plan_observed
from controller.commands.progress import progress_on
from controller.errors import CertfleetError, ExitCode, FleetError, InterruptedRunError, PlanError, RefusedError
from controller.fleet import ActAs, stock_settings
from controller.jobs import (
    ApplyResult,
    DeviceOutcome,
    FollowResult,
    IotJobs,
    Ledger,
    Pace,
    apply,
    follow,
    sweep_cohorts,
)
from controller.reconcile.planning import MAX_PLAN_BYTES, check_plan, plan_from_json
from controller.reconcile.values import (
    DesiredState,
    Plan,
    Sync,
    WaveStatus,
    options_for,
    parse_overrides,
    require_known,
)
from controller.report.attention import attention_text
from controller.report.model import FleetReport
from protocol.messages import ExecutionStatus

SETTLE_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # seconds between looks while the registry lags behind
MAX_OVERTAKEN = 3  # times that another run comes in between, before this one gives up
SOAK_LOOK = timedelta(seconds=30)  # the longest sleep at a stretch while a wave soaks


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of what to apply, and of how long to watch."""
    parser.add_argument("--plan", type=Path, metavar="FILE", help="apply exactly that plan (default: plan anew)")
    parser.add_argument("--wait", action="store_true", help="follow the jobs; go on wave by wave until nothing is left")
    parser.add_argument(
        "--timeout",
        type=duration,
        default=timedelta(hours=1),
        metavar="DURATION",
        help="how long to wait (default: 1h)",
    )
    parser.add_argument(
        "--offline-after",
        type=duration,
        default=Pace().offline_after,
        metavar="DURATION",
        help="stop waiting for devices that have not answered for so long (default: 2m)",
    )
    parser.add_argument(
        "--allow-dirty", action="store_true", help="apply documents that are not committed; jobs name the last commit"
    )
    add_overrides(parser)
    add_attention(parser)
    add_desired(parser, is_question=False)
    add_fleet(parser, is_question=False)
    add_output(parser, RENDERERS)


def run(context: Context) -> ExitCode:
    """Apply to every fleet; exits 1 if devices failed, 2 if the wait ran out, 3 if a guardrail forbids."""
    plans = read_plans(context.arguments.plan) if context.arguments.plan is not None else None
    fleets = load_desired(context)
    require_known(parse_overrides(context.arguments.override), fleets)
    if plans is not None:
        fleets = tuple(desired for desired in fleets if desired.fleet.name in plans) or fleets
    applied, failures = each_fleet_watched(
        context,
        fleets,
        _applier(context, plans),
        lambda failure: context.emit_unless_for_people(ApplyReport((), (failure,)), RENDERERS),
        at_once=1,  # each waits for its devices, and tells what it does
    )
    context.emit(ApplyReport(applied, failures), RENDERERS)
    context.emit_attention(lambda: attention_text([fleet.attention for fleet in applied], failures))
    if any(isinstance(fleet.stopped, InterruptedRunError) for fleet in applied):
        raise KeyboardInterrupt  # all is told: whatever stalls is waited for no longer
    return gravest([fleet.exit_code for fleet in applied], failures)


def read_plans(path: Path) -> dict[str, Plan]:
    """Return the plans of a file by fleet: one document, or a list of them. Raises PlanError."""
    try:
        if path.stat().st_size > MAX_PLAN_BYTES:
            raise PlanError(f"{path} has more than {MAX_PLAN_BYTES:,} bytes: it is not a plan", "name a plan file")
        text = path.read_text(encoding="utf-8")
        found = json.loads(text)
    except OSError as error:
        raise PlanError(
            f"{path} cannot be read: {error.strerror}", "make one with: certfleet plan --plan FILE"
        ) from error
    except (ValueError, RecursionError) as error:
        raise PlanError(f"{path} is not a plan: it is not JSON", "make one with: certfleet plan --plan FILE") from error
    texts = [json.dumps(one) for one in found] if isinstance(found, list) else [text]
    plans = [plan_from_json(one) for one in texts]
    if not plans:
        raise PlanError(
            f"{path} holds no plan: no fleet could be planned", "see what certfleet plan shows, then plan again"
        )
    return {plan.fleet: plan for plan in plans}


def _applier(context: Context, plans: dict[str, Plan] | None) -> Callable[[DesiredState], FleetApplied]:
    """Return what applies one fleet after the other, until somebody interrupts it."""
    done: list[FleetApplied] = []

    def apply_fleet(desired: DesiredState) -> FleetApplied:
        if done and isinstance(done[-1].stopped, InterruptedRunError):
            raise KeyboardInterrupt
        _require_committed(context, desired)
        plan = None if plans is None else plans.get(desired.fleet.name) or next(iter(plans.values()))
        if plan is not None:
            check_plan(plan, desired, context.now())
        done.append(_Rounds(context, desired, plan).run())
        return done[-1]

    return apply_fleet


def _require_committed(context: Context, desired: DesiredState) -> None:
    if context.arguments.allow_dirty or (desired.commit is not None and not desired.is_dirty):
        return
    found = "differ from the last commit" if desired.commit is not None else "are in no commit"
    raise RefusedError(
        f"the documents of fleet {desired.fleet.name} {found}, so no one could know later what was applied",
        "commit them, or give --allow-dirty",
    )


class _Rounds:
    """Apply one fleet: once, or with ``--wait`` round by round. A given plan is applied once and never gone beyond."""

    def __init__(self, context: Context, desired: DesiredState, given: Plan | None = None) -> None:
        self._context, self._desired, self._given = context, desired, given
        self._overrides = replace(parse_overrides(context.arguments.override), given_at=context.now())
        self._deadline = context.monotonic() + context.arguments.timeout.total_seconds()
        self._results: list[ApplyResult] = []
        self._left_out: dict[str, str] = {}  # devices of the given plan that do not rotate, and why
        self._outcomes: dict[str, DeviceOutcome] = {}  # the last one of each device
        self._earlier: frozenset[str] = frozenset()  # devices that rotated a moment ago, whoever asked them
        self._settled: set[str] = set()  # jobs that are followed no more: they ended, or wait for offline devices
        self._settle_pauses = list(SETTLE_PAUSES)
        self._timed_out = False
        self._overtaken = 0
        self._plan: Plan | None = None
        self._last: FleetReport | None = None

    def run(self) -> FleetApplied:
        """Work round after round; an error that stops it is reported together with what was done before."""
        stopped: CertfleetError | None = None
        try:
            while self._round():
                pass
        except (Exception, KeyboardInterrupt) as raised:
            if not self._has_acted:
                raise
            stopped = told(raised)
        return FleetApplied(
            self._desired.fleet.name,
            tuple(self._results),
            tuple(sorted(self._outcomes.values(), key=lambda outcome: (outcome.job_id, outcome.device))),
            self._timed_out,
            self._context.arguments.wait,
            self._last,
            self._left_out,
            stopped,
            self._plan,
        )

    @property
    def _has_acted(self) -> bool:
        return any(result.jobs or result.steps for result in self._results)

    @property
    def _begun(self) -> frozenset[str]:
        """Devices that the rounds before have started."""
        return frozenset(name for result in self._results for name in result.begun)

    def _round(self) -> bool:
        """Plan, apply, follow; returns whether another round may find something to do."""
        with observe(self._context, self._desired, ActAs.WRITER) as observed:
            report, self._left_out = plan_observed(observed, self._overrides, self._given, self._begun)
            plan = self._plan = report.plan
            if plan is None:
                raise PlanError("no plan was made", "run again with --debug and report what it prints")
            for notice in plan.notices if self._overrides.again else ():
                self._context.say(f"fleet {self._desired.fleet.name}: {notice}")  # whether there is such a device
            self._refuse(plan, report)
            iot, result = _jobs_of(observed), ApplyResult()
            self._results.append(result)
            with progress_on(self._context.stderr) as tell:
                ledger = Ledger(iot, observed.state.baseline, self._overrides.given_at)
                seen, present = observed.state.jobs, self._context.now
                apply(plan, iot, observed.now, tell, ledger=ledger, result=result, present=present, seen=seen)
            if result.is_overtaken:
                self._overrides = replace(self._overrides, again=self._overrides.again - self._begun)
                return self._look_once_more()
            self._overrides = replace(self._overrides, resume=frozenset(), again=frozenset())  # once, not every round
            if not self._context.arguments.wait:
                return False
            self._last = report
            self._note_earlier(observed)
            followed = self._follow(iot, [*result.under_way, *_in_flight(observed)])
        if self._timed_out:
            return False
        if followed:
            if self._given is None:
                return True
            self._given = None  # look once more at what is left, and plan no further
            return self._look_again()
        return self._given is None and (self._settle(report) or self._soak(plan))

    def _look_once_more(self) -> bool:
        """Return True: look anew, because another run has made jobs since this one looked, or something has stopped.

        Raises FleetError after several such looks in a row.
        """
        self._overtaken += 1
        if self._overtaken >= MAX_OVERTAKEN:
            raise FleetError(
                f"other runs made jobs for fleet {self._desired.fleet.name} while this one planned, "
                f"{self._overtaken} times",
                "let one run at a time apply: wait for the others, or stop them; then run the same command again",
            )
        return True

    def _refuse(self, plan: Plan, report: FleetReport) -> None:
        """Raise RefusedError with all that the guardrails report, and whether anything was done before."""
        if not plan.refusals:
            return
        self._last = report if self._has_acted else self._last
        done = "what the rounds before have started goes on" if self._has_acted else "nothing was changed"
        messages = [f"{r.guardrail} ({r.policy or 'fleet'}): {r.message}" for r in plan.refusals]
        raise RefusedError("\n".join([f"refused, {done}", *messages]), options_for(plan.refusals, self._overrides))

    def _follow(self, iot: IotJobs, job_ids: list[str]) -> bool:
        wanted = [job_id for job_id in dict.fromkeys(job_ids) if job_id not in self._settled]
        if not wanted:
            return False
        left = max(0.0, self._deadline - self._context.monotonic())
        pace = Pace(timeout=timedelta(seconds=left), offline_after=self._context.arguments.offline_after)
        with progress_on(self._context.stderr) as tell:
            found = follow(wanted, iot, pace, tell, sleep=self._context.sleep, monotonic=self._context.monotonic)
        self._keep(found)
        self._settled.update(wanted)
        self._settle_pauses = list(SETTLE_PAUSES)
        return True

    def _keep(self, found: FollowResult) -> None:
        self._outcomes.update({outcome.device: outcome for outcome in found.outcomes})
        self._timed_out |= found.timed_out

    def _look_again(self) -> bool:
        """See where the fleet stands after a given plan, and remove what its jobs leave behind."""
        while True:
            with observe(self._context, self._desired, ActAs.WRITER) as observed:
                self._last = plan_observed(observed, self._overrides)[0]
                self._note_earlier(observed)
                sweep_cohorts(_jobs_of(observed), observed.now)
            if not self._settle(self._last):
                return False

    def _note_earlier(self, observed: Observed) -> None:
        """Remember the devices that rotated a moment ago in a job that this run has not followed (a killed run's)."""
        since = observed.now - timedelta(seconds=sum(SETTLE_PAUSES))
        self._earlier = frozenset(
            name
            for job in observed.state.jobs
            for name, execution in job.executions.items()
            if execution.status is ExecutionStatus.SUCCEEDED and execution.last_updated_at >= since
        )

    def _settle(self, report: FleetReport) -> bool:
        """Sleep while the registry lags behind the jobs; returns whether to look again.

        A job reports SUCCEEDED a moment before the backend has removed the old certificate: until then the
        device shows two, which is neither drift nor a reason to stop between two waves.
        """
        succeeded = {name for name, outcome in self._outcomes.items() if outcome.status is ExecutionStatus.SUCCEEDED}
        succeeded |= self._earlier
        unsettled = any(
            assessment.device in succeeded and assessment.sync is not Sync.IN_SYNC for assessment in report.assessments
        )
        if not unsettled or not self._settle_pauses:
            return False
        pause = self._settle_pauses.pop(0)
        if pause > self._deadline - self._context.monotonic():
            return False
        self._context.sleep(pause)
        return True

    def _soak(self, plan: Plan) -> bool:
        """Sleep until the first soak ends, if that is before the deadline; returns whether to go on."""
        ends = [wave.until for wave in plan.waves if wave.status is WaveStatus.SOAKING and wave.until is not None]
        if not ends:
            return False
        seconds = (min(ends) - self._context.now()).total_seconds()
        left = self._deadline - self._context.monotonic()
        if seconds > left:
            self._context.say(f"a wave soaks until {min(ends):%Y-%m-%d %H:%M}Z, which is after the time to wait")
            return False
        self._context.sleep(min(max(seconds, 1.0), SOAK_LOOK.total_seconds()))
        return True


def _jobs_of(observed: Observed) -> IotJobs:
    session, inventory = observed.session, observed.inventory
    settings = stock_settings(session, observed.state, inventory)
    return IotJobs(session, foreign=inventory.foreign_jobs(), settings=settings)


def _in_flight(observed: Observed) -> list[str]:
    """Return the rotation jobs that run already and will end, whoever made them: ``--wait`` waits for them too."""
    return [job.job_id for job in observed.state.jobs if job.status == "IN_PROGRESS" and not job.is_continuous]
