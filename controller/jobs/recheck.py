"""The precondition of each planned device, read from the registry just before its job is made.

A plan may be hours old: a device that meanwhile holds another certificate, or none, or two, must not be
rotated on its account. Small waves cost one ListThingPrincipalsV2 per device; a wave above ``EACH_UP_TO``
is compared with one listing of all ACTIVE certificates instead, at ⌈certificates/250⌉ calls. That still
catches every device that was rotated meanwhile; what it cannot see (a second certificate, a changed
attachment type) the backend refuses when the device asks. See docs/decisions/0041-recheck-before-apply.md.
"""

from __future__ import annotations

from controller.reconcile.device import AttachmentType
from controller.reconcile.plan import PlannedDevice

from .iot_jobs import IotJobs

EACH_UP_TO = 1_000  # devices; at 10 calls a second that is under two minutes


def changed_devices(devices: tuple[PlannedDevice, ...], iot: IotJobs) -> dict[str, str]:
    """Why each device that is not as planned must be left out, by name in the order of the wave."""
    if len(devices) > EACH_UP_TO:
        active = iot.active_certificates()
        gone = (device for device in devices if device.certificate_id not in active)
        return {device.name: f"certificate {device.certificate_id[:12]}… is no longer active" for device in gone}
    verdicts = zip(devices, iot.for_each(lambda device: _why_changed(device, iot), devices), strict=True)
    return {device.name: why for device, why in verdicts if why}


def _why_changed(device: PlannedDevice, iot: IotJobs) -> str | None:
    attached = iot.certificates(device.name)
    if not attached:
        return "no certificate is attached any more"
    if len(attached) > 1:
        return f"{len(attached)} certificates are attached, planned with one"
    certificate_id, attachment = attached[0]
    if certificate_id != device.certificate_id:
        return f"certificate is {certificate_id[:12]}…, planned with {device.certificate_id[:12]}…"
    if attachment is not AttachmentType.EXCLUSIVE:
        return "certificate is no longer attached exclusively"
    return None
