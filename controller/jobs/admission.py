"""The devices of a planned job that are left out, as the registry stands just before the job is made.

A plan may be hours old, and others make jobs too. So a device is left out if it meanwhile holds another
certificate, none, or two, or one that is not ACTIVE any more, or if it rotates in any job.
Small waves cost one ListThingPrincipalsV2 and one DescribeCertificate per device; a wave above ``EACH_UP_TO`` is
compared with one listing of all ACTIVE certificates instead, at ⌈certificates/250⌉ calls. That still catches every
device that was rotated meanwhile; what it cannot see (a second certificate, a changed attachment type) the backend
refuses when the device asks. Under a stock backend, each device of a small wave costs one more call, which reads
how its component is set; for a large wave those settings are as old as the look. The rule itself is
``controller.reconcile.planning.admission``; see docs/decisions/0041-recheck-before-apply.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from controller.reconcile.planning import HeldCertificate, Present, why_left_out
from controller.reconcile.rollout import is_open
from controller.reconcile.values import (
    FAILED,
    AttachmentType,
    PlannedDevice,
    PlannedJob,
    RotationJob,
    parse_job_id,
)

from .iot_jobs import CANCELED, IotJobs, JobView

EACH_UP_TO = 1_000  # devices; at 10 calls a second that is under two minutes


def left_out(
    devices: tuple[PlannedDevice, ...], job_id: str, iot: IotJobs, attachments: Collection[str]
) -> dict[str, str]:
    """Return why each device that may not rotate now in the job is left out, by name in the order of the wave.

    ``attachments`` are the types of attachment from which the backend rotates.
    """
    in_flight = iot.in_flight(besides=job_id) if devices else {}
    if len(devices) > EACH_UP_TO:
        active = iot.active_certificates()
        presents = [_from_listing(device, active, in_flight) for device in devices]
    else:
        held = iot.for_each(lambda device: iot.certificates(device.name), devices)
        presents = [Present(found, in_flight.get(d.name)) for d, found in zip(devices, held, strict=True)]
    pairs = zip(devices, presents, strict=True)
    verdicts = ((device.name, why_left_out(device, present, attachments)) for device, present in pairs)
    skipped = {name: why for name, why in verdicts if why}
    if len(devices) <= EACH_UP_TO:
        skipped |= iot.set_otherwise([device.name for device in devices if device.name not in skipped])
    return skipped


def is_stopped(job: PlannedJob, seen: Iterable[RotationJob], iot: IotJobs) -> bool:
    """Return whether a job of the same policy that was ``seen`` open has been stopped since: by failures, or by hand.

    A look may take an hour, and what has failed meanwhile stops the rollout. One DescribeJob for each such job.
    """
    for other in seen:
        known = parse_job_id(other.job_id)
        if known is None or known.policy != job.policy or not is_open(other):
            continue
        view = iot.job(other.job_id)
        before = sum(execution.status in FAILED for execution in other.executions.values())
        if view is not None and (view.status == CANCELED or (view.failed > before and _has_to_stop(view, job))):
            return True
    return False


def _has_to_stop(view: JobView, job: PlannedJob) -> bool:
    return any(view.is_stopped_by(rule) for rule in job.rollout.brakes)


def _from_listing(device: PlannedDevice, active: frozenset[str], in_flight: Mapping[str, str]) -> Present:
    is_there = device.certificate_id in active
    held = (HeldCertificate(device.certificate_id, AttachmentType.EXCLUSIVE),) if is_there else ()
    return Present(held, in_flight.get(device.name))
