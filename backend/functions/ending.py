"""Bringing a rotation to its end: one of its two certificates goes.

Nothing is deleted that the registry does not show as this thing's alone; the exception is a
certificate that this backend has just issued and not attached yet. The decision is written down
before the first deletion, so that whoever comes next carries on instead of deciding anew.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from .errors import ContradictionError
from .operator import decided
from .rotation import Outcome, Phase, Rotation
from .services import Services

_CLOCK_TOLERANCE = timedelta(seconds=10)  # between this function's clock and AWS IoT's creation dates


def remove_old(services: Services, rotation: Rotation, who: str) -> Rotation:
    """The new certificate stays."""
    return _remove(services, rotation, rotation.old_certificate_id, Outcome.ROTATED, who)


def remove_new(services: Services, rotation: Rotation, who: str) -> Rotation:
    """The old certificate stays; the new one is looked for where its id never became known."""
    new = rotation.new_certificate_id or _lost_certificate(services, rotation)
    if new is None:
        return _finish(services, rotation, Outcome.ROLLED_BACK, who, "nothing had been issued")
    return _remove(services, rotation, new, Outcome.ROLLED_BACK, who)


def settle(services: Services, rotation: Rotation, in_use: str, who: str) -> Rotation:
    """Keep the certificate that a connection has just used, remove the other one.

    Where the operator was left waiting for this, they are told first: twice is better than never.
    """
    if rotation.phase is Phase.REMOVING:
        return resume(services, rotation, who)
    uses_new = in_use == rotation.new_certificate_id
    if rotation.phase is Phase.UNRESOLVED:
        notice = (
            f"resolved: the device uses its {'new' if uses_new else 'old'} certificate {in_use}, the other one goes."
        )
        services.operator.tell(rotation.thing_name, rotation.job_id, notice)
    return (remove_old if uses_new else remove_new)(services, rotation, who)


def resume(services: Services, rotation: Rotation, who: str) -> Rotation:
    """Carry on with a removal that was decided on before."""
    if rotation.removing is None or rotation.outcome is None:
        raise ContradictionError(f"the record of {rotation.thing_name} is being removed but does not say what")
    return _remove(services, rotation, rotation.removing, rotation.outcome, who)


def remove_stray(services: Services, rotation: Rotation) -> None:
    """Remove what was issued for a rotation that was given up meanwhile; its record is no longer ours."""
    new = rotation.new_certificate_id or _lost_certificate(services, rotation)
    if new is None:
        return
    things = services.registry.things_of(rotation.arn(new))
    if things is not None and things in ([], [rotation.thing_name]):
        services.registry.remove(rotation.thing_name, new, rotation.arn(new))
        decided("stray removed", thing=rotation.thing_name, job=rotation.job_id, certificate=new)


def _lost_certificate(services: Services, rotation: Rotation) -> str | None:
    since = datetime.fromisoformat(rotation.started_at) - _CLOCK_TOLERANCE
    return services.registry.issued_over(rotation.public_key_digest, since)


def _remove(services: Services, rotation: Rotation, certificate_id: str, outcome: Outcome, who: str) -> Rotation:
    arn = rotation.arn(certificate_id)
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
    return _finish(services, rotation, outcome, who, f"removed {certificate_id}")


def _may_remove(rotation: Rotation, certificate_id: str, things: list[str] | None) -> bool:
    if things is None or things == [rotation.thing_name]:
        return True
    begun = rotation.phase is Phase.REMOVING
    return not things and (begun or certificate_id != rotation.old_certificate_id)


def _finish(services: Services, rotation: Rotation, outcome: Outcome, who: str, what: str) -> Rotation:
    finished = services.table.finish(
        rotation.step(services.clock(), who, what, phase=Phase.FINISHED, outcome=outcome, certificate_pem=None)
    )
    decided(
        "finished",
        thing=rotation.thing_name,
        job=rotation.job_id,
        outcome=outcome.value,
        detail=what,
        authority=rotation.authority,
    )
    return finished


def show(services: Services, rotation: Rotation, progress: str) -> None:
    """Update the public view. It is a courtesy: where it fails, the rotation goes on."""
    try:
        services.registry.show(rotation.thing_name, progress, rotation.old_certificate_id, rotation.new_certificate_id)
    except Exception as error:  # noqa: BLE001  # whatever it is, nothing depends on the view
        decided("view not updated", thing=rotation.thing_name, job=rotation.job_id, detail=type(error).__name__)
