"""``certfleet plan --base REF``: two refs over the same inventory, the answer for a pull request."""

from __future__ import annotations

from dataclasses import replace

from controller.commands.context import Context
from controller.commands.pipeline import each_fleet, gravest, load_desired, observe
from controller.desired import GitRef
from controller.desired.limits import DEFAULT_LIMITS
from controller.desired.loading import load_snapshot
from controller.errors import CertfleetError, ExitCode
from controller.reconcile.compare import Comparison, compare
from controller.reconcile.policy import DesiredState
from controller.report.comparison import RENDERERS, Comparisons


def run(context: Context) -> ExitCode:
    """Compare every fleet; a fleet that the base does not have yet is compared with one without policies.

    Exits 2 where the change makes a device rotate.
    """
    arguments = context.arguments
    if arguments.format not in RENDERERS:
        names = ", ".join(RENDERERS)
        raise CertfleetError(f"a comparison cannot be written as {arguments.format}", f"possible are {names}")
    bases = {desired.fleet.name: desired for desired in _base(context)}
    heads = load_desired(context)
    found, failures = each_fleet(
        heads, lambda head: (head, _compare(context, bases.get(head.fleet.name) or replace(head, policies=()), head))
    )
    for failure in failures:
        context.say(f"fleet {failure.fleet} failed: {failure.message}")
    context.emit(Comparisons(arguments.base, found), RENDERERS)
    codes = [ExitCode.CHANGES if comparison.newly_due else ExitCode.IN_SYNC for _, comparison in found]
    return gravest(codes, failures)


def _base(context: Context) -> tuple[DesiredState, ...]:
    """The base's documents, checked as of their commit: what has expired since is not the change's fault."""
    snapshot = GitRef(context.arguments.desired_state, context.arguments.base).read(DEFAULT_LIMITS)
    return load_snapshot(snapshot, now=min(context.now(), snapshot.committed_at or context.now()))


def _compare(context: Context, base: DesiredState, head: DesiredState) -> Comparison:
    groups = {policy.thing_group for policy in head.policies}
    gone = tuple(policy for policy in base.policies if policy.thing_group not in groups)
    both = replace(head, policies=head.policies + gone)  # so that devices carry the groups of either
    with observe(context, both) as observed:
        return compare(observed.devices(), base, head, observed.state, observed.now)
