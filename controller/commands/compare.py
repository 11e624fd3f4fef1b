"""``certfleet plan --base REF``: two refs over the same inventory, the answer for a pull request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from controller.commands.context import Context
from controller.commands.pipeline import Observed, each_fleet, gravest, load_desired, observe
from controller.desired import GitRef
from controller.desired.limits import DEFAULT_LIMITS
from controller.desired.loading import load_snapshot
from controller.errors import CertfleetError, ExitCode
from controller.reconcile.checks import assess_fleet
from controller.reconcile.outlook import Comparison, compare
from controller.reconcile.planning import MAX_CHANGE, make_plan
from controller.reconcile.values import Baseline, DesiredState, FleetState, Plan, Refusal, parse_overrides
from controller.report.change import Comparisons, FleetChange
from controller.report.comparison import RENDERERS


def run(context: Context) -> ExitCode:
    """Compare every fleet; one that the base does not have yet, or the head no more, counts as without policies there.

    Exits 2 where the change makes a device rotate, or at another time; 3 where a guardrail would refuse what it
    makes rotate.
    """
    arguments = context.arguments
    if impossible := context.formats - set(RENDERERS):
        names = ", ".join(RENDERERS)
        raise CertfleetError(f"a comparison cannot be written as {', '.join(impossible)}", f"possible are {names}")
    bases = {_place(desired): desired for desired in _base(context)}
    heads = load_desired(context)
    gone = [bases[place] for place in sorted(set(bases) - {_place(head) for head in heads})]
    commit = heads[0].commit
    gone = [replace(base, policies=(), commit=commit) for base in gone if arguments.fleet in {None, base.fleet.name}]
    found, failures = each_fleet(
        (*heads, *gone),
        lambda head: _change(
            context, bases.get(_place(head)) or replace(head, policies=()), head, is_gone=head in gone
        ),
    )
    context.emit(Comparisons(arguments.base, found, failures), RENDERERS)
    return gravest([_exit_code(change) for change in found], failures)


def _exit_code(change: FleetChange) -> ExitCode:
    if change.refusals:
        return ExitCode.REFUSED
    return ExitCode.CHANGES if change.comparison.makes_rotate else ExitCode.IN_SYNC


def _place(desired: DesiredState) -> tuple[str, str]:
    """What makes a fleet the same under another name."""
    return desired.fleet.account, desired.fleet.region


def _base(context: Context) -> tuple[DesiredState, ...]:
    """The base's documents, checked as of their commit: what has expired since is not the change's fault."""
    snapshot = GitRef(context.arguments.desired_state, context.arguments.base).read(DEFAULT_LIMITS)
    return load_snapshot(snapshot, now=min(context.now(), snapshot.committed_at or context.now()))


def _change(context: Context, base: DesiredState, head: DesiredState, *, is_gone: bool) -> FleetChange:
    groups = {policy.thing_group for policy in head.policies}
    gone = tuple(policy for policy in base.policies if policy.thing_group not in groups)
    both = replace(head, policies=head.policies + gone)  # so that devices carry the groups of either
    with observe(context, both) as observed:
        comparison = compare(observed.devices(), base, head, observed.state, observed.now)
        refusals = _refusals(context, observed, head, _after(observed.state, comparison, base))
        of_base = _refusals(context, observed, base, observed.state) if refusals else ()
    known = tuple(refusal for refusal in refusals if _is_among(refusal, of_base))
    caused = tuple(refusal for refusal in refusals if refusal not in known)
    return FleetChange(head, comparison, observed.now, caused, known, is_gone=is_gone)


def _refusals(context: Context, observed: Observed, desired: DesiredState, state: FleetState) -> tuple[Refusal, ...]:
    """What ``apply`` would refuse of the plan that it makes now, or as soon as the windows open."""
    found = _plan(context, observed, desired, state).refusals
    if all(not policy.schedule.windows for policy in desired.policies):
        return found
    opened = tuple(replace(p, schedule=replace(p.schedule, windows=())) for p in desired.policies)
    at_once = _plan(context, observed, replace(desired, policies=opened), state).refusals
    return tuple(dict.fromkeys((*found, *(refusal for refusal in at_once if refusal.guardrail == MAX_CHANGE))))


def _plan(context: Context, observed: Observed, desired: DesiredState, state: FleetState) -> Plan:
    overrides = parse_overrides(context.arguments.override)
    assessments = assess_fleet(observed.devices(), desired, state, observed.now, overrides)
    return make_plan(assessments, desired, state, observed.now, overrides=overrides)


def _after(state: FleetState, comparison: Comparison, base: DesiredState) -> FleetState:
    """The state as if the base had been applied: its groups count with the devices that no policy would govern."""
    groups = {policy.name: policy.thing_group for policy in base.policies}
    lost = {groups[policy]: number for policy, number in comparison.left_alone.items()}
    recorded = state.baseline or Baseline({})
    ungoverned = {**recorded.ungoverned, **dict.fromkeys(groups.values(), 0), **lost}
    return replace(state, baseline=Baseline({**recorded.group_sizes, **lost}, ungoverned))


def _is_among(refusal: Refusal, others: Iterable[Refusal]) -> bool:
    """Whether the base is refused for the same, and by no smaller number."""
    return any(
        (other.guardrail, other.policy) == (refusal.guardrail, refusal.policy)
        and _size(other) >= _size(refusal)
        and (_size(refusal) or other.message == refusal.message)
        for other in others
    )


def _size(refusal: Refusal) -> float:
    """The number in ``--override NAME=NUMBER``; nought where a name stands in its place."""
    try:
        return float(refusal.override.rpartition("=")[2])
    except ValueError:
        return 0.0
