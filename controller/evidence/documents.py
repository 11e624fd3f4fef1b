"""What the documents allowed over time, from their editions in git. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from controller.desired.policy_history import Edition
from controller.reconcile.values import DesiredState

from .values import AgeRule, Exemption, PolicyHistory

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
        tuple(edition.commit for edition in editions if edition.desired is None),
    )


def _exemptions(sound: Iterable[tuple[Edition, DesiredState]]) -> Iterator[Exemption]:
    """Each with the span in which the documents held it, word for word."""
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
    for policy in desired.policies:
        if policy.suspend is not None:
            yield Exemption(
                policy.name, "suspend", (), None, policy.suspend.reason, policy.suspend.until, edition.since
            )
