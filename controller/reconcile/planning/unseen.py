"""What git speaks of and the fleet does not have: waived devices of no such name, policies without a device."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from controller.reconcile.values import names_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from controller.reconcile.checks import Governance
    from controller.reconcile.values import Assessment, Waiver

    from .tally import FleetTally

NAMES_COMPARED = 10_000  # devices among which a similar name is looked for


@dataclass(slots=True)
class Unseen:
    """Waivers in force, and whom of their devices the assessments have not shown."""

    waivers: tuple[Waiver, ...]
    missing: set[str]
    seen: list[str]

    @classmethod
    def of(cls, governance: Governance) -> Unseen:
        """Nothing has been seen yet."""
        waivers = tuple(w for w in governance.desired.waivers if w.expires > governance.now)
        return cls(waivers, {device for waiver in waivers for device in waiver.devices}, [])

    def watch(self, assessments: Iterable[Assessment]) -> Iterator[Assessment]:
        """Pass the assessments on; whoever turns up is there."""
        return self._watched(assessments) if self.missing else iter(assessments)

    def _watched(self, assessments: Iterable[Assessment]) -> Iterator[Assessment]:
        for assessment in assessments:
            self.missing.discard(assessment.device)
            if len(self.seen) < NAMES_COMPARED:
                self.seen.append(assessment.device)
            yield assessment

    def notices(self, tally: FleetTally) -> tuple[str, ...]:
        """One sentence for each waiver with unknown names, and one for each policy without a device."""
        waivers = ((waiver, sorted(waiver.devices & self.missing)) for waiver in self.waivers)
        told = [self._told(waiver, names) for waiver, names in waivers if names]
        empty = sorted(name for name, policy in tally.policies.items() if not policy.governed)
        told += [
            f"policy {name} governs no device: its thing group is empty, or others govern all of it" for name in empty
        ]
        return tuple(told)

    def _told(self, waiver: Waiver, names: list[str]) -> str:
        place = waiver.source.at("spec.devices")
        similar = get_close_matches(names[0], self.seen, n=1, cutoff=0.8)
        hint = f"; is {similar[0]} meant? It is not waived" if similar else ""
        return f"waiver {waiver.name} ({place}) names {names_text(names)}, which no policy governs{hint}"
