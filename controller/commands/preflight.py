"""``certfleet preflight``: ask devices, before they rotate, whether their rotation would fail.

The answers are facts of the fleet: every later look reads them, and leaves out the devices that would fail.
"""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta

from controller.commands.context import Context
from controller.commands.documents import load_desired, of_policy
from controller.commands.options import add_desired, add_fleet, add_output, duration
from controller.commands.pipeline import Observed, each_fleet, gravest, observe
from controller.commands.progress import progress_on
from controller.errors import ExitCode
from controller.fleet import ActAs
from controller.fleet.component import unable_to_answer
from controller.jobs import FollowResult, IotJobs, Pace, ask, follow, sweep_cohorts
from controller.reconcile.checks import Governance
from controller.reconcile.planning import PlannedCheck, is_to_ask, plan_checks
from controller.reconcile.values import NO_OVERRIDES, Assessment, DesiredState
from controller.report.preflight import RENDERERS, FleetAsked, PreflightReport
from controller.report.tally import Tally
from protocol.messages import ExecutionStatus


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of which devices to ask, and of how long to wait for answers."""
    parser.add_argument("--policy", metavar="NAME", help="only the devices of that policy (default: of all)")
    parser.add_argument("--wait", action="store_true", help="wait for the answers, and show them")
    parser.add_argument(
        "--timeout",
        type=duration,
        default=timedelta(minutes=10),
        metavar="DURATION",
        help="how long to wait (default: 10m)",
    )
    parser.add_argument(
        "--offline-after",
        type=duration,
        default=timedelta(minutes=5),
        metavar="DURATION",
        help="stop waiting for devices that have not answered for so long (default: 5m, in which an idle device asks)",
    )
    add_desired(parser, is_question=False)
    add_fleet(parser, is_question=False)
    add_output(parser, RENDERERS)


def run(context: Context) -> ExitCode:
    """Ask every fleet; exits 1 if a device would fail, 2 if one has not answered."""
    fleets = of_policy(context, load_desired(context))
    asked, failures = each_fleet(fleets, lambda desired: _ask(context, desired), at_once=1)
    context.emit(PreflightReport(asked, failures), RENDERERS)
    return gravest([fleet.exit_code for fleet in asked], failures)


def _ask(context: Context, desired: DesiredState) -> FleetAsked:
    with observe(context, desired, ActAs.WRITER) as observed:
        found = [one for one in observed.assess(Tally(desired, observed.now)) if is_to_ask(one)]
        wanted = [one for one in found if context.arguments.policy in (None, one.policy)]
        not_asked = _unable(context, observed, wanted)
        governance = Governance(desired, observed.state, observed.now, NO_OVERRIDES)
        checks = plan_checks([one for one in wanted if one.device not in not_asked], governance)
        iot = IotJobs(observed.session)
        for check in checks:
            not_asked |= ask(check, iot, desired.commit, observed.now)
        sweep_cohorts(iot, observed.now, frozenset(check.job_id for check in checks))
        answers = _answers(context, iot, checks) if context.arguments.wait else None
    return _told(desired.fleet.name, checks, not_asked, answers)


def _unable(context: Context, observed: Observed, wanted: list[Assessment]) -> dict[str, str]:
    with progress_on(context.stderr, label=observed.desired.fleet.name) as tell:
        names = [assessment.device for assessment in wanted]
        return unable_to_answer(observed.session, names, lambda done: tell("components", done, len(names)))


def _answers(context: Context, iot: IotJobs, checks: tuple[PlannedCheck, ...]) -> FollowResult:
    pace = Pace(timeout=context.arguments.timeout, offline_after=context.arguments.offline_after)
    with progress_on(context.stderr) as tell:

        def answered(_phase: str, done: int, total: int) -> None:
            tell("answers", done, total)

        jobs = [check.job_id for check in checks]
        return follow(jobs, iot, pace, answered, sleep=context.sleep, monotonic=context.monotonic)


def _told(
    fleet: str, checks: tuple[PlannedCheck, ...], not_asked: dict[str, str], answers: FollowResult | None
) -> FleetAsked:
    jobs = {name: check.job_id for check in checks for name in check.devices if name not in not_asked}
    ends = () if answers is None else answers.outcomes
    begins = frozenset(end.device for end in ends if end.status is ExecutionStatus.SUCCEEDED)
    fails = {end.device: end.reason or "it reports no reason" for end in ends if end.status is ExecutionStatus.FAILED}
    return FleetAsked(fleet, jobs, not_asked, begins, fails, answers is not None)
