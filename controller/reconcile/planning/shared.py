"""A plan's view of shared certificates: what a known key means, and which devices keep one in use."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from controller.reconcile.values import Outcome, Reason, count_text, names_text

if TYPE_CHECKING:
    from collections.abc import Container

    from controller.reconcile.values import Assessment, FleetState


@dataclass(slots=True)
class SharedCertificates:
    """The devices with a shared certificate that is to be split, and the devices that keep one in use.

    ``listed`` are the certificates that the backend has begun to split.
    """

    listed: Container[str] = ()
    splitting: dict[str, int] = field(default_factory=dict)  # devices that still hold it
    held_up: dict[str, list[str]] = field(default_factory=dict)
    unsplit: dict[str, list[str]] = field(default_factory=dict)  # devices whose policy lets them keep it

    def notices(self, state: FleetState) -> tuple[str, ...]:
        """Return the sentences for the plan."""
        told = [] if state.shared_unknown is None else [state.shared_unknown]
        if self.splitting:
            devices = count_text(sum(self.splitting.values()), "device")
            told.append(
                f"{devices} hold {count_text(len(self.splitting), 'certificate')} whose key others know: whoever "
                "holds such a key can answer for each of its things, in their rotation too, until all have got their "
                "own (docs/security.md)"
            )
        told += [
            f"shared certificate {certificate_id[:12]} stays in use by {names_text(sorted(names))}; things that have "
            "a certificate of their own do not wait for that"
            for certificate_id, names in sorted(self.held_up.items())
        ]
        told += [
            f"shared certificate {certificate_id[:12]} stays in use by {names_text(sorted(names))}, whose policy does "
            "not split it: sharedCertificate: split there"
            for certificate_id, names in sorted(self.unsplit.items())
            if certificate_id in self.splitting or certificate_id in self.listed
        ]
        told += [
            f"shared certificate {certificate_id[:12]} stays in use by {names_text(list(things))}, which no policy "
            "governs: put each into a governed group, or detach the certificate from it"
            for certificate_id, things in sorted(state.shared.items())
            if things
        ]
        return tuple(told)

    def look_at(self, assessment: Assessment) -> None:
        """Note whether the device's certificate is to be split; of who has no finding only the listed ones matter."""
        asked = [one.outcome for one in assessment.findings if one.reason is Reason.SHARED_CERTIFICATE]
        if Outcome.ROTATE in asked:
            self._note(assessment)
        elif asked or (self.listed and assessment.certificate_id in self.listed):
            self.unsplit.setdefault(str(assessment.certificate_id), []).append(assessment.device)

    def _note(self, assessment: Assessment) -> None:
        certificate_id = str(assessment.certificate_id)
        self.splitting[certificate_id] = self.splitting.get(certificate_id, 0) + 1
        stops = (Outcome.BLOCKED, Outcome.WAITING)
        why = next((one.reason for stop in stops for one in assessment.findings if one.outcome is stop), None)
        if why is not None and why is not Reason.ROTATING:
            self.held_up.setdefault(certificate_id, []).append(f"{assessment.device} ({why.value})")
