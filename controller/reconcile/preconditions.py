"""Is a planned device still as it was planned? Asked just before its job is made.

A plan may be minutes or days old. What has changed since is left out and said; nothing is rotated on
the strength of what was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .device import AttachmentType, CertificateStatus

if TYPE_CHECKING:
    from .device import Device
    from .plan import PlannedDevice


def why_skipped(planned: PlannedDevice, device: Device | None) -> str | None:
    """Why the device must be left out, as a sentence; None while it is as planned."""
    if device is None:
        return "the thing does not exist any more"
    if device.executions:
        return f"it rotates in job {device.executions[0].job_id} already"
    if len(device.attachments) != 1:
        return f"{len(device.attachments)} certificates are attached, planned with one"
    attachment = device.attachments[0]
    found = attachment.certificate.certificate_id
    if found != planned.certificate_id:
        return f"the certificate is {found[:12]} now, planned with {planned.certificate_id[:12]}"
    if attachment.certificate.status is not CertificateStatus.ACTIVE:
        return f"the certificate is {attachment.certificate.status.value} now"
    return (
        None if attachment.type is AttachmentType.EXCLUSIVE else "the certificate is not attached exclusively any more"
    )
