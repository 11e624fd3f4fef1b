"""May this device rotate, as it is at this moment? One rule, asked wherever a job is made.

The planner asks it of what a look has shown, through the checks (who is blocked or waits is not a candidate);
whoever makes the job asks it once more of what the registry shows just before. A device that has changed since is
left out and reported: nothing is rotated on the strength of what was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.plain_text import one_line
from controller.reconcile.values import CertificateStatus

if TYPE_CHECKING:
    from collections.abc import Collection

    from controller.reconcile.values import AttachmentType, PlannedDevice


@dataclass(frozen=True, slots=True)
class HeldCertificate:
    """One certificate that a device holds."""

    certificate_id: str
    attachment: AttachmentType
    status: CertificateStatus = CertificateStatus.ACTIVE


@dataclass(frozen=True, slots=True)
class Present:
    """The registry's view of a device just before its job is made."""

    certificates: tuple[HeldCertificate, ...]  # by id; none where the thing is gone
    rotates_in: str | None = None  # the rotation job in which its execution has not ended, whoever made it


def why_left_out(planned: PlannedDevice, present: Present, attachments: Collection[str]) -> str | None:
    """Return why the device must be left out, as a sentence; None while it is as planned.

    ``attachments`` are the types of attachment from which the backend rotates.
    """
    if present.rotates_in is not None:
        return f"it rotates in job {present.rotates_in} already"
    if not present.certificates:
        return "no certificate is attached any more"
    if len(present.certificates) > 1:
        return f"{len(present.certificates)} certificates are attached, planned with one"
    return _departure(planned, present.certificates[0], attachments)


def _departure(planned: PlannedDevice, held: HeldCertificate, attachments: Collection[str]) -> str | None:
    if held.certificate_id != planned.certificate_id:
        return f"certificate is {held.certificate_id[:12]}…, planned with {planned.certificate_id[:12]}…"
    if held.attachment not in attachments:
        return f"certificate is attached as {held.attachment.value}, the backend rotates {' or '.join(attachments)}"
    if held.status is not CertificateStatus.ACTIVE:
        return f"its certificate is {one_line(held.status.value)}: the device cannot connect with it"
    return None
