"""Names in git and overrides that the fleet does not have: devices of no such name, policies without a device."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from controller.reconcile.values import names_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from controller.reconcile.checks import Governance
    from controller.reconcile.values import Assessment, Quarantine, Waiver

    from .tally import FleetTally

NAMES_COMPARED = 10_000  # devices among which a similar name is looked for


@dataclass(slots=True)
class Unseen:
    """Waivers in force, quarantines and overrides, and whom of their devices the assessments have not shown."""

    documents: tuple[Waiver | Quarantine, ...]
    again: frozenset[str]  # whom a person lets be tried again
    missing: set[str]
    seen: list[str]

    @classmethod
    def of(cls, governance: Governance) -> Unseen:
        """Start with nothing seen."""
        waivers = (w for w in governance.desired.waivers if w.expires > governance.now)
        documents: tuple[Waiver | Quarantine, ...] = (*waivers, *governance.desired.quarantines)
        again = governance.overrides.again
        return cls(documents, again, {*again, *(device for one in documents for device in one.devices)}, [])

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
        """Return a sentence for each document or override with unknown names, and for each policy without a device."""
        documents = ((one, sorted(one.devices & self.missing)) for one in self.documents)
        told = [self._told(*_named(one), names) for one, names in documents if names]
        if again := sorted(self.again & self.missing):
            told.append(self._told("--override again", "tried again", again))
        empty = sorted(name for name, policy in tally.policies.items() if not policy.governed)
        told += [
            f"policy {name} governs no device: its thing group is empty, or others govern all of it" for name in empty
        ]
        return tuple(told)

    def _told(self, who: str, participle: str, names: list[str]) -> str:
        similar = get_close_matches(names[0], self.seen, n=1, cutoff=0.8)
        hint = f"; is {similar[0]} meant? It is not {participle}" if similar else ""
        return f"{who} names {names_text(names)}, which no policy governs{hint}"


def _named(document: Waiver | Quarantine) -> tuple[str, str]:
    """Return the document with its place, and what is done to its devices."""
    kind, participle = ("waiver", "waived") if hasattr(document, "expires") else ("quarantine", "cut off")
    return f"{kind} {document.name} ({document.source.at('spec.devices')})", participle
