"""The meaning of the words of reports, for readers who meet them first: in docs/reports.md and SARIF's rules."""

from __future__ import annotations

from collections.abc import Mapping

from controller.reconcile.values import Health, Reason

HEALTH: Mapping[Health, str] = {
    Health.HEALTHY: "nothing is wrong; a device that must rotate and only waits for its turn is healthy too",
    Health.PROGRESSING: "a rotation is under way, or its job waits for a device that is offline",
    Health.SUSPENDED: "a waiver, or the policy's `suspend`, leaves the device out",
    Health.DEGRADED: "a rotation has failed, or a person must put something right before one can start",
    Health.MISSING: "the device has no certificate: it cannot connect",
}

REASONS: Mapping[Reason, str] = {
    Reason.AUTHORITY_TAINTED: "An incident names the authority, or the key, of the certificate: it must be replaced.",
    Reason.DRILLED: "A drill has the device in its sample: it rotates as an incident would have it.",
    Reason.ISSUED_BEFORE_CUTOFF: "The certificate was issued before the policy's rotateIssuedBefore.",
    Reason.EXPIRING: "The certificate ends within the policy's renewBefore.",
    Reason.AGE_EXCEEDED: "The certificate is older than the policy's maxAge allows.",
    Reason.KEY_TYPE_MISMATCH: "The key is of another type than the policy's keyType.",
    Reason.AUTHORITY_MISMATCH: "The certificate was issued by another authority than the policy's.",
    Reason.POLICY_CONFLICT: "Two policies of equal priority claim the device. Give one a higher priority.",
    Reason.NO_CERTIFICATE: "No certificate is attached to the thing. Provision it, or take it out of the group.",
    Reason.EXTRA_CERTIFICATE: "Several certificates are attached. Keep the one in use: certfleet heal plan finds it.",
    Reason.SHARED_CERTIFICATE: "Several things hold one certificate: a rotation of one would take it from the others.",
    Reason.NOT_EXCLUSIVE: "The certificate is attached so that other things may hold it as well.",
    Reason.CERTIFICATE_INACTIVE: "The certificate is not ACTIVE, so that the device cannot connect to be rotated.",
    Reason.UNPARSEABLE: "The certificate cannot be read. Replace it by hand.",
    Reason.EXPIRED: "The certificate has ended: the device cannot connect any more. Provision it anew.",
    Reason.UNSUPPORTED_BY_BACKEND: "The stock backend would make something else than the policy demands.",
    Reason.UNSUPPORTED_BY_COMPONENT: "The stock component makes another key than the policy demands.",
    Reason.RESULT_UNKNOWN: "Nobody can know what a rotation would make of the device, so none is begun.",
    Reason.ROTATION_INEFFECTIVE: "A rotation succeeded and did not put the finding right. Look at what is deployed.",
    Reason.EXECUTION_UNKNOWN: "AWS IoT gives this part of a job a status that this version of certfleet does not know.",
    Reason.PREFLIGHT_FAILED: "The device has said that the rotation that it needs would fail, and why.",
    Reason.REPEATEDLY_FAILED: "Rotations failed until certfleet gave up. Remove the cause that the device names.",
    Reason.QUARANTINED: "A quarantine names the device, or its certificate: it is cut off, and nobody rotates it.",
    Reason.WAIVED: "A waiver leaves the device out until its end: a person has decided so.",
    Reason.SUSPENDED: "The policy is suspended: a person has decided so.",
    Reason.ROTATING: "A job asks the device now, or it is at work in one.",
    Reason.STRAGGLER: "The device has not answered its job for long. It rotates when it comes back.",
    Reason.ROTATED_RECENTLY: "The device was rotated within schedule.leastInterval. It waits for that to pass.",
    Reason.BACKING_OFF: "A rotation failed, and is tried again later.",
    Reason.OUTSIDE_WINDOW: "No maintenance window is open. The device rotates when one opens.",
    Reason.NOT_YET_DUE: "The device is in sync and rotates soon.",
    Reason.WAVE_SOAKING: "The device must rotate, and its wave has not started: an earlier one goes first.",
}
