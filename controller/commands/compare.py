"""``certfleet plan --base REF``: two refs over the same inventory, the answer for a pull request."""

from __future__ import annotations

from dataclasses import replace

from controller.commands.context import Context
from controller.commands.documents import load_desired
from controller.commands.pipeline import Observed, each_fleet, gravest, observe
from controller.desired import GitRef
from controller.desired.limits import DEFAULT_LIMITS
from controller.desired.loading import load_snapshot
from controller.errors import CertfleetError, ExitCode
from controller.heal import HealingAction, Untidy, of_quarantines
from controller.reconcile.outlook import compare
from controller.reconcile.values import DesiredState, Refusal, parse_overrides
from controller.report.change import Comparisons, FleetChange
from controller.report.comparison import RENDERERS


def run(context: Context) -> ExitCode:
    """Compare every fleet; one that exists only in the base or only in the head has no policies in the other.

    Exits 2 if the change makes a device rotate, moves a rotation to another time, or starts a rollout again; 3 if a
    guardrail would refuse the rotations that it causes. Raises CertfleetError.
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
    """Return account and region: they identify a fleet that has got another name."""
    return desired.fleet.account, desired.fleet.region


def _base(context: Context) -> tuple[DesiredState, ...]:
    """Return the base's documents, checked as of their commit: what has expired since is not the change's fault."""
    snapshot = GitRef(context.arguments.desired_state, context.arguments.base).read(DEFAULT_LIMITS)
    return load_snapshot(snapshot, now=min(context.now(), snapshot.committed_at or context.now()))


def _change(context: Context, base: DesiredState, head: DesiredState, *, is_gone: bool) -> FleetChange:
    groups = {policy.thing_group for policy in head.policies}
    gone = tuple(policy for policy in base.policies if policy.thing_group not in groups)
    both = replace(head, policies=head.policies + gone)  # so that devices carry the groups of either
    with observe(context, both) as observed:
        overrides = parse_overrides(context.arguments.override)
        comparison = compare(observed.devices, base, head, observed.state, observed.now, overrides=overrides)
        cut_off, left, refusals = _quarantines(observed, base, head)
    return FleetChange(
        head,
        comparison,
        observed.state.observed_at,
        (*comparison.refusals, *refusals),
        comparison.known,
        is_gone=is_gone,
        cut_off=cut_off,
        not_cut_off=left,
    )


def _quarantines(
    observed: Observed, base: DesiredState, head: DesiredState
) -> tuple[tuple[HealingAction, ...], tuple[Untidy, ...], tuple[Refusal, ...]]:
    """Return the healing that only the head's quarantines demand; AWS is asked only if they differ from the base's."""
    if base.quarantines == head.quarantines:
        return (), (), ()
    was, will = (of_quarantines(observed.session, one, observed.state.deployment) for one in (base, head))
    known = {action.is_same_as for action in was[0]}
    return tuple(one for one in will[0] if one.is_same_as not in known), will[1], will[2]
