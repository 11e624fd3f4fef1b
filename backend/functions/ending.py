"""Carrying out what the table of verdicts demands: one certificate of a rotation goes, or both stay.

Whoever has learnt something (a request, an end, a connection, the sweep) adds it to the rotation and asks
``conclude``. Nothing is deleted that the registry does not show as this thing's alone; the exception is a
certificate that this backend has just issued and not attached yet. A removal is written down before the first
deletion, so that whoever comes next carries on instead of deciding anew.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta

from . import notices
from .errors import ContradictionError
from .operator import decided
from .rotation import LEASE, MAKING, Phase, Rotation, RotationOutcome
from .services import Services
from .verdicts import CertificateRole, Notification, Verdict, weigh

TOLD_LATE = "two may be at work, and the old certificate is removed"
_CLOCK_TOLERANCE = timedelta(seconds=10)  # between this function's clock and AWS IoT's creation dates


def conclude(
    services: Services,
    before: Rotation,
    rotation: Rotation,
    who: str,
    *,
    aside: str = "",
    deactivated: CertificateRole | None = None,
) -> Rotation:
    """Write down what is new and do what the table demands; returns the rotation as it stands then.

    Args:
        services: The clients and the settings.
        before: The rotation as it was read.
        rotation: The same with what was learnt.
        who: On whose behalf, for the evidence.
        aside: The last sentence of a notice.
        deactivated: The certificate of the two that a person has made INACTIVE.
    """
    if rotation.phase is Phase.REMOVING:
        return before if services.table.is_quarantined(rotation.thing_name) else resume(services, rotation, who)
    known = rotation.evidence(services.clock(), deactivated)
    verdict = weigh(known)
    if verdict.goes is not None and services.table.is_quarantined(rotation.thing_name):
        verdict = weigh(replace(known, quarantined=True))
    rotation = _tell(services, rotation, verdict, aside)
    if verdict.goes is CertificateRole.OLD:
        return _remove(services, rotation, rotation.old_certificate_id, RotationOutcome.ROTATED, who)
    if verdict.goes is CertificateRole.NEW:
        return remove_new(services, rotation, who)
    rotation = rotation.in_phase()
    return before if rotation == before else _keep(services, before, rotation, verdict, who)


def _tell(services: Services, rotation: Rotation, verdict: Verdict, aside: str) -> Rotation:
    """Send the verdict's notice before anything is removed, because a repeat may find nothing left to report.

    So a person may get a notice twice, which is better than never.
    """
    told = f"{verdict.told.name}: {verdict.because}"
    if verdict.told is Notification.NOBODY or rotation.told == told:
        return rotation
    notice = f"{notices.of_verdict(rotation, verdict)}{aside}"
    services.operator.tell(rotation.thing_name, rotation.job_id, notice)
    return replace(rotation, told=told)


def _keep(services: Services, before: Rotation, rotation: Rotation, verdict: Verdict, who: str) -> Rotation:
    if rotation.ended_at != before.ended_at:
        rotation = rotation.step(services.clock(), who, f"both stay: {verdict.because}")
    kept = services.table.save(rotation)
    if kept.phase is Phase.UNRESOLVED is not before.phase:
        show(services, kept, "unresolved")
    return kept


def with_end(services: Services, rotation: Rotation) -> Rotation:
    """Return the rotation with the end of its execution, as AWS IoT reports it; unchanged if that has not ended."""
    end = services.registry.end_of(rotation.thing_name, rotation.job_id)
    return rotation if end is None else rotation.ended(end.ending, end.at or services.clock())


def note_old(services: Services, thing_name: str, certificate_id: str, at: datetime, who: str) -> None:
    """Note in the thing's latest rotation that a request of ``who`` came over its old certificate.

    Nothing is noted if the certificate with this id is not that rotation's old one.
    """
    rotation = services.table.current(thing_name)
    if rotation is None or rotation.which(certificate_id) is not CertificateRole.OLD or rotation.phase in MAKING:
        return
    if rotation.is_active:
        conclude(services, rotation, rotation.seen(CertificateRole.OLD, at), who)
    else:
        hear_late(services, rotation, CertificateRole.OLD, at)


def hear_late(services: Services, rotation: Rotation, which: CertificateRole, at: datetime) -> bool:
    """Report the use of an ended rotation's old certificate after its commit; return whether that was reported now.

    ``which`` is the certificate that was used: the use of the new one is not reported.
    """
    committed = rotation.committed_at
    is_news = which is CertificateRole.OLD and committed is not None and at > datetime.fromisoformat(committed)
    return is_news and tell_late(services, rotation.seen(which, at))


def tell_late(services: Services, rotation: Rotation) -> bool:
    """Report, once a rotation, a sign of two holders that came after the old certificate was removed.

    Return whether it was reported now.
    """
    if rotation.outcome is not RotationOutcome.ROTATED or rotation.told == TOLD_LATE:
        return False
    services.operator.tell(rotation.thing_name, rotation.job_id, notices.of_late_evidence(rotation))
    services.table.save(replace(rotation, told=TOLD_LATE))
    return True


def remove_new(services: Services, rotation: Rotation, who: str, *, may_be_lost: bool = True) -> Rotation:
    """Keep the old certificate and remove the new one, on behalf of ``who``.

    ``may_be_lost``: if the record lacks the new one's id, a certificate over the same key is looked for.
    """
    new = rotation.new_certificate_id
    if new is None and may_be_lost:
        new = _lost_certificate(services, rotation)
    if new is None:
        return _finish(services, rotation, RotationOutcome.ROLLED_BACK, who, "nothing had been issued")
    return _remove(services, rotation, new, RotationOutcome.ROLLED_BACK, who)


def resume(services: Services, rotation: Rotation, who: str) -> Rotation:
    """Carry on, for ``who``, with a removal that the record names; raises ContradictionError if it names none."""
    if rotation.removing is None or rotation.outcome is None:
        raise ContradictionError(f"the record of {rotation.thing_name} is being removed but does not show what")
    return _remove(services, rotation, rotation.removing, rotation.outcome, who)


def remove_stray(services: Services, rotation: Rotation, current: Rotation | None, *, may_be_lost: bool) -> None:
    """Remove the certificate of a rotation that was given up while it was issued; ``current`` is on record now.

    The certificates of the record stay: it may be over the same key, and the device may use them. ``may_be_lost``: if
    the certificate's id is not known, one over the rotation's key is looked for.
    """
    theirs = () if current is None else (current.old_certificate_id, current.new_certificate_id)
    is_hidden = current is not None and current.phase in MAKING  # what it has issued may not be on record yet
    new = rotation.new_certificate_id
    if new is None and may_be_lost and not is_hidden:
        new = _lost_certificate(services, rotation, theirs)
    alone: tuple[list[str], ...] = ([], [rotation.thing_name])
    if new is not None and new not in theirs and services.registry.things_of(rotation.arn(new)) in alone:
        services.registry.remove(rotation.thing_name, new, rotation.arn(new))
        decided("stray removed", thing=rotation.thing_name, job=rotation.job_id, certificate=new)


def _lost_certificate(services: Services, rotation: Rotation, besides: Collection[str | None] = ()) -> str | None:
    started = datetime.fromisoformat(rotation.started_at)
    since, until = started - _CLOCK_TOLERANCE, started + LEASE + _CLOCK_TOLERANCE
    return services.registry.issued_over(rotation.public_key_digest, since, until, besides)


def _remove(
    services: Services, rotation: Rotation, certificate_id: str, outcome: RotationOutcome, who: str
) -> Rotation:
    arn = rotation.arn(certificate_id)
    if rotation.is_shared and certificate_id == rotation.old_certificate_id:
        return _let_go(services, rotation, who)
    things = services.registry.things_of(arn)
    if not _may_remove(rotation, certificate_id, things):
        found = ", ".join(things or ["no thing"])
        notice = f"certificate {certificate_id} is attached to {found}: it was not touched, look at it"
        services.operator.tell(rotation.thing_name, rotation.job_id, notice)
        return _finish(services, rotation, outcome, who, notice)
    if rotation.phase is not Phase.REMOVING:
        rotation = services.table.save(
            rotation.step(
                services.clock(),
                who,
                f"removing {certificate_id}",
                phase=Phase.REMOVING,
                removing=certificate_id,
                outcome=outcome,
            )
        )
    if things is not None:
        services.registry.remove(rotation.thing_name, certificate_id, arn)
    # Kept for readers of the table: after this removal the thing holds the new certificate and no other.
    kept = rotation.certificate_pem if outcome is RotationOutcome.ROTATED else None
    return _finish(services, rotation, outcome, who, f"removed {certificate_id}", pem=kept)


def _let_go(services: Services, rotation: Rotation, who: str) -> Rotation:
    """Detach the old certificate from this thing alone, because others may hold it; the sweep does the rest."""
    old, arn = rotation.old_certificate_id, rotation.arn(rotation.old_certificate_id)
    if rotation.phase is not Phase.REMOVING:
        letting = {"phase": Phase.REMOVING, "removing": old, "outcome": RotationOutcome.ROTATED}
        rotation = services.table.save(rotation.step(services.clock(), who, f"letting go of {old}", **letting))
    services.registry.detach(rotation.thing_name, arn)
    left = [name for name in services.registry.things_of(arn) or () if name != rotation.thing_name]
    held = f"which {len(left)} more hold: {', '.join(left[:3])}" if left else "which no thing holds any more"
    return _finish(services, rotation, RotationOutcome.ROTATED, who, f"let go of {old}, {held}")


def _may_remove(rotation: Rotation, certificate_id: str, things: list[str] | None) -> bool:
    if things is None or things == [rotation.thing_name]:
        return True
    begun = rotation.phase is Phase.REMOVING
    return not things and (begun or certificate_id != rotation.old_certificate_id)


def _finish(
    services: Services, rotation: Rotation, outcome: RotationOutcome, who: str, what: str, *, pem: str | None = None
) -> Rotation:
    finished = services.table.finish(
        rotation.step(services.clock(), who, what, phase=Phase.FINISHED, outcome=outcome, certificate_pem=pem)
    )
    show(services, finished, _PROGRESS[outcome])
    decided(
        "finished",
        thing=rotation.thing_name,
        job=rotation.job_id,
        outcome=outcome.value,
        detail=what,
        authority=rotation.authority,
    )
    return finished


_PROGRESS = {RotationOutcome.ROTATED: "rotated", RotationOutcome.ROLLED_BACK: "rolledBack"}


def show(services: Services, rotation: Rotation, progress: str) -> None:
    """Show ``progress`` in the public view; if that fails, the rotation goes on, because the view decides nothing."""
    try:
        services.registry.show(rotation.thing_name, progress, rotation.old_certificate_id, rotation.new_certificate_id)
    except Exception as error:  # noqa: BLE001  # whatever it is, nothing depends on the view
        decided("view not updated", thing=rotation.thing_name, job=rotation.job_id, detail=type(error).__name__)
