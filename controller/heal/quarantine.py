"""The devices to cut off, and those that come back: from documents and registry to actions. Pure.

A document names devices with all that they hold, or single certificates. Only what quarantine itself has made
INACTIVE is made ACTIVE again when the document is gone, and only if nobody has changed it since.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controller.reconcile.values import Guardrails, Quarantine, Refusal, count_text, instant_text, names_text
from protocol.quarantine import Quarantined
from protocol.watch import SAME_CHANGE

from .facts import ACTIVE, INACTIVE, CertificateHolders
from .rules import NOTHING, HealingAction, Judged, Kind, Untidy

GUARDRAIL = "maxQuarantined"


@dataclass(frozen=True, slots=True)
class Suspect:
    """A thing, or a certificate that no thing holds (then ``thing`` is empty), of which quarantines may speak.

    ``jobs`` ask it for a rotation now. ``record`` is what has been done to it. ``is_there``: the registry knows it.
    """

    thing: str
    held: tuple[CertificateHolders, ...]
    jobs: tuple[str, ...] = ()
    is_connected: bool = False  # as far as anybody can tell
    record: Quarantined | None = None
    is_there: bool = True
    elsewhere: tuple[CertificateHolders, ...] = ()  # what was deactivated here and is attached to it no more

    @property
    def certificate_id(self) -> str:
        """The id of the certificate that no thing holds; else empty."""
        return "" if self.thing or not self.held else self.held[0].certificate_id

    @property
    def brought_back(self) -> dict[str, CertificateHolders]:
        """The certificates that quarantine made INACTIVE and nobody has changed since."""
        noted = self.record.deactivated if self.record else {}
        return {
            held.certificate_id: held
            for held in (*self.held, *(one for one in self.elsewhere if one.things))
            if held.certificate_id in noted
            and held.status is INACTIVE
            and held.changed_at <= noted[held.certificate_id] + SAME_CHANGE
        }


def concerning(suspect: Suspect, quarantines: Iterable[Quarantine]) -> list[Quarantine]:
    """Return the documents that speak of it, the oldest first."""
    held = [one.certificate_id for one in suspect.held]
    found = (one for one in quarantines if one.concerns(suspect.thing, held))
    return sorted(found, key=lambda one: (one.since, one.name))


def meant_by(suspect: Suspect, quarantines: Sequence[Quarantine]) -> list[CertificateHolders]:
    """Return the certificates that are to be INACTIVE: all that a named device holds, else those that are named."""
    documents = concerning(suspect, quarantines)
    if any(suspect.thing in one.devices for one in documents):
        return list(suspect.held)
    return [held for held in suspect.held if any(held.certificate_id in one.certificates for one in documents)]


def kept_off(suspect: Suspect, quarantines: Sequence[Quarantine]) -> list[CertificateHolders]:
    """Return what does not come back yet: what is meant, and what it shares with a device that is named."""
    meant = {one.certificate_id for one in meant_by(suspect, quarantines)}
    meant |= {certificate_id for one in quarantines for certificate_id in one.certificates}
    named = {name for one in quarantines for name in one.devices}
    known = (*suspect.held, *suspect.elsewhere)
    return [held for held in known if held.certificate_id in meant or not named.isdisjoint(held.things)]


def of_suspect(suspect: Suspect, quarantines: Sequence[Quarantine]) -> Judged:
    """Return what is to be done about it, and what is left to a person."""
    documents = concerning(suspect, quarantines)
    if not documents:
        return _lifted(suspect, kept_off(suspect, quarantines))
    if not suspect.is_there:
        place = documents[0].source.at("spec.devices")
        remedy = "correct the name; as long as it is wrong, nobody is cut off by it"
        return (), (Untidy("quarantine of nobody", suspect.thing, f"there is no thing of this name ({place})", remedy),)
    meant = meant_by(suspect, quarantines)
    named = {name for one in quarantines for name in one.devices}
    others = sorted({name for held in meant if len(held.things) > 1 for name in held.things} - named)
    if others:
        shared = next(held for held in meant if set(held.things) & set(others))
        found = (
            f"certificate {shared.certificate_id[:12]} is also attached to {names_text(others)}, which would be cut "
            "off too; nothing is done"
        )
        remedy = f"name {'it' if len(others) == 1 else 'them'} in devices of a quarantine as well, if that is meant"
        subject = suspect.thing or shared.certificate_id
        return (), (Untidy("quarantine of a shared certificate", subject, found, remedy),)
    lifted, left = NOTHING if suspect.thing in named else _lifted(suspect, kept_off(suspect, quarantines))
    document = next((one for one in documents if suspect.thing in one.devices), documents[0])
    return (*_cut_off(suspect, meant, document), *lifted), left


def _cut_off(suspect: Suspect, meant: Sequence[CertificateHolders], document: Quarantine) -> tuple[HealingAction, ...]:
    active = [held for held in meant if held.status is ACTIVE]
    rest = [held for held in suspect.held if held not in meant and held.status is ACTIVE]
    lingers = suspect.is_connected and not rest  # for some minutes after its certificate was made INACTIVE
    if suspect.record is not None and not active and not suspect.jobs and not lingers:
        return ()
    is_whole = suspect.thing in document.devices
    names = names_text([held.certificate_id[:12] for held in active]) if active else "no certificate"
    facts = [
        f"{names} of {len(suspect.held)} ACTIVE",
        "connected now" if suspect.is_connected else "not known to be connected",
        *([f"asked by {names_text(suspect.jobs)}"] if suspect.jobs else []),
        f"quarantine {document.name} of {document.owner} since {instant_text(document.since)}: {document.reason}",
    ]
    precondition = f"quarantine {document.name} names {'the device' if is_whole else 'its certificate'}"
    which = "" if is_whole else min((held.certificate_id for held in meant), default="")
    return (HealingAction(Kind.QUARANTINE, which, suspect.thing, precondition, "; ".join(facts)),)


def _lifted(suspect: Suspect, kept: Sequence[CertificateHolders]) -> Judged:
    """Return what comes back of a thing that is not named, or only by one of its certificates."""
    record = suspect.record
    if record is None:
        return NOTHING
    still = {held.certificate_id for held in kept}
    gone = [one for one in record.deactivated if one not in still]
    if kept and not gone:
        return NOTHING
    back = [one for one in suspect.brought_back if one not in still]
    by_others = [
        held for held in suspect.held
        if held.certificate_id in gone and held.certificate_id not in back and held.status is not ACTIVE
    ]  # fmt: skip
    names = names_text([one[:12] for one in back]) if back else "no certificate"
    evidence = (
        f"{names} comes back, of {count_text(len(record.deactivated), 'certificate')} that quarantine deactivated"
    )
    precondition = "no quarantine names it any more"
    action = HealingAction(Kind.LIFT, suspect.certificate_id, suspect.thing, precondition, evidence)
    left = tuple(
        Untidy(
            "certificate deactivated since",
            suspect.thing or held.certificate_id,
            f"certificate {held.certificate_id} is {held.status.value} by somebody else's change of "
            f"{instant_text(held.changed_at)}: lifting the quarantine leaves it so",
            f"if it may be trusted: aws iot update-certificate --new-status ACTIVE --certificate-id "
            f"{held.certificate_id}",
        )
        for held in by_others
    )
    left += tuple(
        Untidy(
            "certificate that no thing holds",
            suspect.thing,
            f"certificate {held.certificate_id}, which quarantine deactivated, was detached since: it stays INACTIVE",
            f"delete it, or activate it: aws iot update-certificate --new-status ACTIVE --certificate-id "
            f"{held.certificate_id}",
        )
        for held in suspect.elsewhere
        if held.certificate_id in gone and not held.things and held.status is INACTIVE
    )
    return (action,), left


def too_many(in_quarantine: int, new: int, guardrails: Guardrails) -> Refusal | None:
    """Return the refusal if ``new`` things and those in quarantine are more than the Fleet allows; else None."""
    limit = guardrails.max_quarantined
    if not new or in_quarantine <= limit:
        return None
    return Refusal(
        guardrail=GUARDRAIL,
        policy=None,
        message=f"{count_text(in_quarantine, 'device')} would be in quarantine, {new} of them cut off by this plan; "
        f"{limit} are allowed at the same time",
        override=f"--override quarantined={in_quarantine}",
    )
