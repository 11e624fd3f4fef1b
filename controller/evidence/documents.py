"""The terms of the documents over time, from their editions in git. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from controller.desired.policy_history import Edition
from controller.reconcile.values import DesiredState

from .values import AgeRule, Exemption, PolicyHistory, Practice

ALWAYS = datetime.min.replace(tzinfo=UTC)


def history_of(editions: Sequence[Edition]) -> PolicyHistory:
    """Join the editions of one fleet, oldest first.

    An edition with errors was never applied: what stood before it went on, and it is named.
    """
    sound = [(edition, edition.desired) for edition in editions if edition.desired is not None]
    rules: dict[str, list[AgeRule]] = defaultdict(list)
    for edition, desired in sound:
        allowed = {policy.name: policy.certificate.max_age for policy in desired.policies}
        for name in {*allowed, *rules}:
            rule = AgeRule(edition.since, edition.commit, allowed.get(name))
            if not rules[name] or rules[name][-1].max_age != rule.max_age:
                rules[name].append(rule)
    return PolicyHistory(
        {name: tuple(own) for name, own in rules.items()},
        tuple(_exemptions(sound)),
        tuple(_practices(sound)),
        tuple(edition.commit for edition in editions if edition.desired is None),
    )


def _exemptions(sound: Iterable[tuple[Edition, DesiredState]]) -> Iterator[Exemption]:
    """Yield each exemption with the span in which the documents held it, word for word."""
    standing: dict[Exemption, Exemption] = {}
    for edition, desired in sound:
        now = {replace(one, since=ALWAYS): one for one in _left_out(desired, edition)}
        for key in [key for key in standing if key not in now]:
            yield replace(standing.pop(key), until=edition.since)
        for key, one in now.items():
            standing.setdefault(key, one)
    yield from standing.values()


def _left_out(desired: DesiredState, edition: Edition) -> Iterator[Exemption]:
    for waiver in desired.waivers:
        devices = tuple(sorted(waiver.devices))
        yield Exemption(waiver.name, "Waiver", devices, waiver.owner, waiver.reason, waiver.expires, edition.since)
    for one in desired.quarantines:
        devices, certificates = tuple(sorted(one.devices)), tuple(sorted(one.certificates))
        yield Exemption(
            one.name, "Quarantine", devices, one.owner, one.reason, None, edition.since, certificates=certificates
        )
    for policy in desired.policies:
        if policy.suspend is not None:
            yield Exemption(
                policy.name, "suspend", (), None, policy.suspend.reason, policy.suspend.until, edition.since
            )


def _practices(sound: Iterable[tuple[Edition, DesiredState]]) -> Iterator[Practice]:
    """Yield each drill once, as it stood last, with the commit that held it first."""
    found: dict[tuple[str, datetime], Practice] = {}
    for edition, desired in sound:
        now = {(drill.name, drill.since): drill for drill in desired.drills}
        for key, before in found.items():
            if key not in now and before.until is None:
                found[key] = replace(before, until=edition.since)
        for key, drill in now.items():
            first = found[key].commit if key in found else edition.commit
            found[key] = Practice(
                drill.name,
                drill.policy,
                drill.reason,
                drill.since,
                drill.deadline,
                str(drill.sample),
                tuple(sorted(drill.devices)),
                first,
            )
    yield from found.values()
