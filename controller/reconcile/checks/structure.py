"""Checks of the device as it stands: a person must act before anything can rotate. They are asked in all cases."""

from __future__ import annotations

from datetime import timedelta
from shlex import quote

from controller.reconcile.schedule import life_under
from controller.reconcile.values import (
    CertificateStatus,
    Finding,
    Reason,
    blocked,
    instant_text,
    span_text,
    whole_days,
)
from protocol.messages import ExecutionStatus
from protocol.watch import MOST_HOLDERS

from .case import Case, Check
from .governance import would_taint_successor
from .rotated import ROTATION_CERTIFICATES, is_settling


def no_certificate(case: Case) -> Finding | None:
    """Report a thing without a certificate."""
    if case.device.attachments:
        return None
    return blocked(
        Reason.NO_CERTIFICATE,
        "no certificate is attached to the thing",
        f"provision the device; or, if it is gone: {_leave_group(case)}",
        "spec.thingGroup",
    )


def _leave_group(case: Case) -> str:
    """Return the command that takes the device out of the policy's hands."""
    names = f"--thing-name {quote(case.device.name)} --thing-group-name {quote(_group(case))}"
    return f"aws iot remove-thing-from-thing-group {names}"


def _group(case: Case) -> str:
    """Return the group by which the policy governs the device: its own, or that child of it that the device is in."""
    groups = case.device.groups
    return case.policy.thing_group if case.policy.thing_group in groups or not groups else groups[0]


def extra_certificate(case: Case) -> Finding | None:
    """Report a device with several certificates; two are normal while a rotation runs."""
    number = len(case.device.attachments)
    is_rotating = number == ROTATION_CERTIFICATES and (_is_in_progress(case) or is_settling(case) is not None)
    if number <= 1 or is_rotating:
        return None
    ids = [a.certificate.certificate_id[:12] for a in case.device.attachments]
    return blocked(
        Reason.EXTRA_CERTIFICATE,
        f"{number} certificates are attached, one is allowed: {', '.join(ids)}",
        "certfleet heal plan finds out which one the device uses, and shows what becomes of the others",
        "spec.certificate",
        certificates=number,
    )


def shared_certificate(case: Case) -> Finding | None:
    """Report a certificate that other things hold, and is not split: its removal after a rotation cuts them off."""
    if case.attachment is None or not case.attachment.shared_with or case.is_split:
        return None
    remedy = (
        "read what a shared key means (docs/security.md); then let each thing have its own, with sharedCertificate: "
        f"split in the policy's certificate. Everything about it: certfleet explain {quote(case.device.name)}"
    )
    if case.is_held_by_too_many:
        remedy = (
            f"the backend splits what at most {MOST_HOLDERS} things hold: detach it from things whose devices are "
            "gone, and provision others anew, until so few are left"
        )
    elif case.is_to_be_split:
        remedy = "deploy this project's backend in the version of this controller, which splits it"
    return blocked(
        Reason.SHARED_CERTIFICATE,
        f"the certificate is also attached to {case.attachment.others_text}",
        remedy,
        "spec.certificate.sharedCertificate",
        others=case.attachment.others,
    )


def not_exclusive(case: Case) -> Finding | None:
    """Report an attachment that the backend does not rotate: ours refuses a shared one, the stock one more kinds."""
    if case.attachment is None or case.attachment.type in case.governance.state.rotatable:
        return None
    name, certificate = case.device.name, case.attachment.certificate.certificate_id
    return blocked(
        Reason.NOT_EXCLUSIVE,
        f"the certificate is attached as {case.attachment.type.value}, a rotation needs EXCLUSIVE_THING",
        "deploy this project's backend in the version of this controller, which rotates it as it is; or detach "
        f"certificate {certificate[:12]} from {name} and attach it with type EXCLUSIVE_THING",
        "spec.certificate",
    )


def certificate_inactive(case: Case) -> Finding | None:
    """Report a certificate that is not ACTIVE: its device cannot connect with it."""
    if case.certificate is None or case.certificate.status is CertificateStatus.ACTIVE:
        return None
    return blocked(
        Reason.CERTIFICATE_INACTIVE,
        f"the certificate is {case.certificate.status.value}: the device cannot connect",
        "if the device may be trusted: aws iot update-certificate --new-status ACTIVE --certificate-id "
        f"{case.certificate.certificate_id}; else provision the device anew",
        "spec.certificate",
    )


def unparseable(case: Case) -> Finding | None:
    """Report a certificate that cannot be read, and so cannot be judged."""
    certificate = case.certificate
    if certificate is None:
        return None
    if case.is_to_come and certificate.not_before is not None:
        return blocked(
            Reason.UNPARSEABLE,
            f"the certificate is valid from {instant_text(certificate.not_before)} on, which is still to come: "
            "it cannot be the one that the device uses",
            "find out who issued it, and replace it by hand",
            "spec.certificate",
        )
    dates = (certificate.not_before, certificate.not_after)
    if certificate.parse_error is None and None not in dates and certificate.key_type is not None:
        return None
    return blocked(
        Reason.UNPARSEABLE,
        f"the certificate cannot be read: {certificate.parse_error or 'validity or key type is missing'}",
        f"replace it by hand; to see what it is: aws iot describe-certificate --certificate-id "
        f"{certificate.certificate_id}",
        "spec.certificate",
    )


def expired(case: Case) -> Finding | None:
    """Report an expired certificate: its device cannot connect, and so cannot rotate by itself."""
    end = case.certificate.not_after if case.certificate else None
    if end is None or end > case.now:
        return None
    return blocked(
        Reason.EXPIRED,
        f"the certificate expired {span_text(case.now - end)} ago, on {instant_text(end)}: the device cannot connect",
        f"provision the device anew, on site or through fleet provisioning; or, if it is gone: {_leave_group(case)}",
        "spec.certificate.renewBefore",
        daysExpired=whole_days(case.now - end),
    )


def successor_tainted(case: Case) -> Finding | None:
    """Report a policy that demands the very thing that an incident declares compromised."""
    again = [i for i in case.taints if would_taint_successor(i, case.policy.certificate, case.now)]
    if not again:
        return None
    incident = again[0]
    return blocked(
        Reason.POLICY_CONFLICT,
        f"policy {case.policy.name} still allows what incident {incident.name} declares compromised, so that a new "
        "certificate would be compromised, too",
        "name another authority or key type in the policy, or end the incident's issue period with issuedBefore",
        "spec.certificate.authority" if incident.authority else "spec.certificate.keyType",
    )


def due_from_birth(case: Case) -> Finding | None:
    """Report a policy under which a new certificate is due at once, and would be rotated for ever."""
    certificate, rule = case.certificate, case.policy.certificate
    if certificate is None or certificate.not_before is None or certificate.not_after is None:
        return None
    if rule.authority is not None and certificate.authority != rule.authority:
        return None
    validity = certificate.not_after - certificate.not_before
    if life_under(rule, validity) > timedelta(0):
        return None
    return blocked(
        Reason.POLICY_CONFLICT,
        f"certificates of this authority live {span_text(validity)}, the policy renews "
        f"{span_text(rule.renew_before or timedelta(0))} before expiry: a new one would be due at once",
        "set renewBefore below the authority's validity",
        "spec.certificate.renewBefore",
    )


def _is_in_progress(case: Case) -> bool:
    return any(execution.status is ExecutionStatus.IN_PROGRESS for execution in case.device.executions)


STRUCTURE: tuple[Check, ...] = (
    no_certificate,  # nothing to rotate
    extra_certificate,  # which one is it?
    shared_certificate,  # deleting it would cut others off
    not_exclusive,  # the backend refuses
    certificate_inactive,  # cannot connect
    unparseable,  # cannot be judged
    expired,  # cannot connect
    successor_tainted,  # rotating would not help
    due_from_birth,  # rotating would never end
)
