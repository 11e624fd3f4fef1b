"""From facts to actions. Pure: values in, values out.

A certificate's use is learnt from connections and never guessed. A certificate goes only after a device was seen to
live without it, in three steps far apart: watched, deactivated (which a person, or the next run, can take back),
removed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from controller.reconcile.values import count_text, instant_text, names_text, span_text

from .facts import ACTIVE, INACTIVE, CertificateHolders, HealingWaits, ThingFacts


class Kind(StrEnum):
    """An act on one certificate, or on a thing; in the order in which a plan is carried out."""

    QUARANTINE = "quarantine"
    LIFT = "lift"
    ACTIVATE = "activate"
    WATCH = "watch"
    DEACTIVATE = "deactivate"
    REMOVE = "remove"


OF_QUARANTINE = frozenset({Kind.QUARANTINE, Kind.LIFT})
WAY_BACK = {
    Kind.QUARANTINE: "take it out of the quarantine's document; the next plan lifts it",
    Kind.LIFT: "name it in a quarantine again; the next plan cuts it off",
    Kind.ACTIVATE: "aws iot update-certificate --new-status INACTIVE --certificate-id {}",
    Kind.WATCH: "nothing changes for any device",
    Kind.DEACTIVATE: "aws iot update-certificate --new-status ACTIVE --certificate-id {}",
    Kind.REMOVE: "none: whoever still holds the key of {} must be provisioned anew",
}


@dataclass(frozen=True, slots=True, order=True)
class HealingAction:
    """One change: what must hold when it is made, and what is known that speaks for it."""

    kind: Kind
    certificate_id: str  # empty if it is about all that the thing holds
    thing: str  # empty if no thing holds it
    precondition: str
    evidence: str

    @property
    def way_back(self) -> str:
        """The command or sentence that undoes the action."""
        return WAY_BACK[self.kind].format(self.certificate_id)

    @property
    def is_same_as(self) -> tuple[Kind, str, str]:
        """The values by which two derivations count as one action."""
        return self.kind, self.certificate_id, self.thing


@dataclass(frozen=True, slots=True)
class Untidy:
    """A case that healing leaves to a person, and what to do about it."""

    what: str
    subject: str
    found: str
    remedy: str


Judged = tuple[tuple[HealingAction, ...], tuple[Untidy, ...]]
NOTHING: Judged = ((), ())


def of_thing(thing: ThingFacts, now: datetime, waits: HealingWaits) -> Judged:
    """Return what is to be done about the certificates of one thing."""
    shared = [held for held in thing.held if held.things != (thing.name,)]
    active = [held for held in thing.held if held.status is ACTIVE]
    if thing.is_rotating or not thing.held:
        return NOTHING
    if shared:
        others = sorted({name for held in shared for name in held.things} - {thing.name})
        found = f"certificate {shared[0].certificate_id[:12]} is also attached to {names_text(others)}"
        remedy = "sharedCertificate: split in the policy gives each its own; what a shared key means: docs/security.md"
        return _for_a_person("shared certificate", thing.name, found, remedy)
    wrongly = [held for held in thing.held if held.deactivated_here is not None and held.is_seen]
    if wrongly:
        return tuple(_activated(held, thing.name) for held in wrongly), ()
    if not active:
        found = f"{count_text(len(thing.held), 'certificate')}, none of them ACTIVE: the device cannot connect"
        return _for_a_person("inactive certificate", thing.name, found, "activate the one to trust, or provision anew")
    if len(thing.held) == 1:
        return NOTHING
    return _of_several(thing, active, now, waits)


def _of_several(thing: ThingFacts, active: list[CertificateHolders], now: datetime, waits: HealingWaits) -> Judged:
    """Report a thing that holds several certificates, at least one of them active, and shares none."""
    foreign = [held for held in thing.held if held.status is not ACTIVE and held.deactivated_here is None]
    untidy = tuple(
        Untidy(
            "inactive leftover",
            thing.name,
            f"certificate {held.certificate_id} is {held.status.value}, and healing did not make it so",
            "remove it by hand if nobody waits for it: aws iot detach-thing-principal, aws iot delete-certificate",
        )
        for held in foreign
    )
    candidates = [held for held in thing.held if held not in foreign]
    if len(candidates) == 1:
        return (), untidy
    unwatched = [held for held in candidates if held.watch is None or held.watch.thing != thing.name]
    if unwatched:
        return tuple(_watched(held, thing) for held in unwatched), untidy
    used = [held for held in active if held.is_seen]
    if len(used) > 1:
        found = f"connections were made with {names_text([held.certificate_id[:12] for held in used])}"
        remedy = "two holders may be at work: find out who they are, then deactivate the one that is not the device's"
        return (), (*untidy, Untidy("several certificates in use", thing.name, found, remedy))
    if not used:
        return (), untidy
    return _beside(used[0], thing, [held for held in candidates if held != used[0]], now, waits), untidy


def _beside(
    kept: CertificateHolders, thing: ThingFacts, others: list[CertificateHolders], now: datetime, waits: HealingWaits
) -> tuple[HealingAction, ...]:
    """Return what becomes of the certificates that were never seen, beside the one that the device uses."""
    assert kept.watch is not None  # noqa: S101 (it was seen)
    assert kept.watch.last_seen is not None  # noqa: S101 (as above)
    first_own = kept.watch.first_own
    if first_own is None:
        return ()
    known = f"{kept.certificate_id[:12]} is used as {thing.name} since {instant_text(first_own)}"
    found = []
    for held in others:
        assert held.watch is not None  # noqa: S101 (all are watched)
        watched = now - max(held.watch.since, first_own)
        gone = held.deactivated_here
        if gone is None and watched >= waits.watch:
            found.append(
                HealingAction(
                    Kind.DEACTIVATE,
                    held.certificate_id,
                    thing.name,
                    "ACTIVE, this thing's alone, never seen, while the other one is in use; no rotation at work",
                    f"{known}; this one was not seen in {span_text(watched)}, by any client",
                )
            )
        elif gone is not None and now - gone >= waits.grace and kept.watch.last_seen > gone:
            found.append(_removed(held, thing.name, f"{known}, and after this one was deactivated", now - gone))
    return tuple(found)


def of_loose(held: CertificateHolders, now: datetime, waits: HealingWaits) -> Judged:
    """Return what is to be done about a certificate (``held``) that no thing holds."""
    if held.things or held.is_backends:
        return NOTHING
    if held.deactivated_here is not None:
        return _of_deactivated(held, now, waits), ()
    said = f"certificate {held.certificate_id} is {held.status.value} and attached to no thing"
    if held.policies or held.status not in {ACTIVE, INACTIVE}:
        also = f", but to {names_text(held.policies)}: a client that is not a thing may use it" if held.policies else ""
        remedy = "find out who uses it; detach its policies if nobody does, and it is deactivated by a later plan"
        return _for_a_person("certificate of no thing", held.certificate_id, said + also, remedy)
    if held.status is INACTIVE:
        remedy = (
            f"delete it if no device waits for it: aws iot delete-certificate --certificate-id {held.certificate_id}"
        )
        return _for_a_person("inactive leftover", held.certificate_id, said, remedy)
    if now - held.created_at < waits.grace:
        return NOTHING  # a device may be about to be made of it
    precondition = "ACTIVE, attached to no thing and to no policy, and so for nobody good to connect with"
    age = span_text(now - held.created_at)
    action = HealingAction(
        Kind.DEACTIVATE, held.certificate_id, "", precondition, f"{said}, nor to a policy; {age} old"
    )
    return (action,), ()


def _of_deactivated(held: CertificateHolders, now: datetime, waits: HealingWaits) -> tuple[HealingAction, ...]:
    assert held.deactivated_here is not None  # noqa: S101 (the caller's condition)
    gone = now - held.deactivated_here
    if held.is_seen:
        return (_activated(held, ""),)
    return (_removed(held, "", "no thing holds it", gone),) if gone >= waits.grace else ()


def _watched(held: CertificateHolders, thing: ThingFacts) -> HealingAction:
    number = count_text(len(thing.held), "certificate")
    precondition = f"attached to {thing.name}, which holds several, and not watched yet"
    return HealingAction(Kind.WATCH, held.certificate_id, thing.name, precondition, f"{thing.name} holds {number}")


def _activated(held: CertificateHolders, thing: str) -> HealingAction:
    assert held.watch is not None  # noqa: S101 (it was seen)
    evidence = f"a connection with it, of {instant_text(held.watch.last_seen or held.watch.since)}, was heard of late"
    return HealingAction(Kind.ACTIVATE, held.certificate_id, thing, "INACTIVE since healing deactivated it", evidence)


def _removed(held: CertificateHolders, thing: str, known: str, since: timedelta) -> HealingAction:
    precondition = "INACTIVE since healing deactivated it, never seen, and the waiting time is over"
    return HealingAction(
        Kind.REMOVE, held.certificate_id, thing, precondition, f"{known}; deactivated {span_text(since)} ago"
    )


def _for_a_person(what: str, subject: str, found: str, remedy: str) -> Judged:
    return (), (Untidy(what, subject, found, remedy),)
