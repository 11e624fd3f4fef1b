"""Names in git and overrides that the fleet does not have: devices, certificates, policies without a device."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from controller.reconcile.values import count_text, names_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from controller.reconcile.checks import Governance
    from controller.reconcile.values import Assessment

    from .tally import FleetTally

NAMES_COMPARED = 10_000  # devices among which a similar name is looked for


@dataclass(frozen=True, slots=True)
class _Naming:
    """A document in force, or an override, that names devices, or certificates."""

    who: str  # with its place
    names: frozenset[str]
    participle: str = ""  # of what is done to the devices; nothing: they are certificates


@dataclass(slots=True)
class Unseen:
    """Whoever names devices or certificates, and what of it the assessments have not shown."""

    naming: tuple[_Naming, ...]
    missing: set[str]
    seen: list[str]

    @classmethod
    def of(cls, governance: Governance) -> Unseen:
        """Start with nothing seen."""
        naming = tuple(_naming(governance))
        return cls(naming, {name for one in naming for name in one.names}, [])

    def watch(self, assessments: Iterable[Assessment]) -> Iterator[Assessment]:
        """Pass the assessments on; whoever turns up is there."""
        return self._watched(assessments) if self.missing else iter(assessments)

    def _watched(self, assessments: Iterable[Assessment]) -> Iterator[Assessment]:
        for assessment in assessments:
            self.missing.discard(assessment.device)
            for finding in assessment.findings:  # of quarantine, or of policies that tie
                if "certificates" in finding.values:
                    self.missing.difference_update(str(finding.values["certificates"]).split(","))
            if len(self.seen) < NAMES_COMPARED:
                self.seen.append(assessment.device)
            yield assessment

    def notices(self, tally: FleetTally) -> tuple[str, ...]:
        """Return a sentence for each document or override with unknown names, and for each policy without a device."""
        missing = ((one, sorted(one.names & self.missing)) for one in self.naming)
        told = [self._told(one, names) for one, names in missing if names]
        empty = sorted(name for name, policy in tally.policies.items() if not policy.governed)
        return (*told, *(f"policy {name} governs no device: {_why_none(name, tally)}" for name in empty))

    def _told(self, one: _Naming, names: list[str]) -> str:
        if not one.participle:
            short = names_text([name[:12] for name in names])
            return f"{one.who} names certificate {short}, which no device of a policy holds"
        similar = get_close_matches(names[0], self.seen, n=1, cutoff=0.8)
        hint = f"; is {similar[0]} meant? It is not {one.participle}" if similar else ""
        return f"{one.who} names {names_text(names)}, which no policy governs{hint}"


def _naming(governance: Governance) -> Iterator[_Naming]:
    """Yield every field of a document in force, and override, that names devices or what they hold."""
    desired, now = governance.desired, governance.now
    for waiver in desired.waivers:
        if waiver.expires > now:
            at = waiver.source.at("spec.devices")
            yield _Naming(f"waiver {waiver.name} ({at})", waiver.devices, "waived")
    for quarantine in desired.quarantines:
        for names, field, participle in (
            (quarantine.devices, "devices", "cut off"),
            (quarantine.certificates, "certificates", ""),
        ):
            yield _Naming(f"quarantine {quarantine.name} ({quarantine.source.at(f'spec.{field}')})", names, participle)
    for incident in desired.incidents:
        at = incident.source.at("spec.acceptedLosses")
        yield _Naming(f"incident {incident.name} ({at})", incident.accepted_losses, "accepted as lost")
    for drill in governance.drills:
        yield _Naming(f"drill {drill.name} ({drill.source.at('spec.devices')})", drill.devices, "drilled")
    yield _Naming("--override again", governance.overrides.again, "tried again")


def _why_none(policy: str, tally: FleetTally) -> str:
    """Return why a policy governs no device."""
    for names, devices in sorted(tally.tied.items()):
        tied = names.split(",")
        if policy in tied:
            claim = f"{' and '.join(tied)} claim {count_text(devices, 'device')} with equal priority"
            return f"{claim}; give one of them a higher priority"
    return "its thing group is empty, or others govern all of it"
