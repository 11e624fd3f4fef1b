"""Checks of the certificate: what its policy demands of it. To add one: docs/adding-a-reason.md."""

from __future__ import annotations

from datetime import timedelta

from controller.reconcile.values import (
    Finding,
    Reason,
    instant_text,
    span_text,
    to_rotate,
    whole_days,
)

from .case import Case, Check


def authority_tainted(case: Case) -> Finding | None:
    """Report a certificate whose authority, key type or issue period an incident declares compromised."""
    if not case.taints:
        return None
    first = case.taints[0]
    return to_rotate(
        Reason.AUTHORITY_TAINTED,
        f"incident {first.name} declares this certificate compromised ({first.reason}); "
        f"it must go by {instant_text(first.deadline)}",
        "spec",
        incidents=",".join(incident.name for incident in case.taints),
    )


def drilled(case: Case) -> Finding | None:
    """Report a device that a running drill has in its sample and that holds a certificate from before the drill."""
    if not case.drills:
        return None
    first = case.drills[0]
    return to_rotate(
        Reason.DRILLED,
        f"drill {first.name} rotates it as an incident would ({first.reason}); "
        f"nobody is asked from {instant_text(first.deadline)} on",
        "spec",
        drill=first.name,
    )


def issued_before_cutoff(case: Case) -> Finding | None:
    """Report a certificate that was issued before the policy's cutoff."""
    certificate, cutoff = case.certificate, case.governed.cutoff
    if not case.is_before_cutoff or certificate is None or certificate.not_before is None or cutoff is None:
        return None
    return to_rotate(
        Reason.ISSUED_BEFORE_CUTOFF,
        f"the certificate is of {instant_text(certificate.not_before)}, "
        f"everything issued before {instant_text(cutoff)} must go",
        "spec.certificate.rotateIssuedBefore",
    )


def expiring(case: Case) -> Finding | None:
    """Report a certificate whose expiry is nearer than the policy allows, or that jitter brings forward."""
    dates, certificate = case.dates, case.certificate
    if not case.is_triggered or dates is None or dates.due_by_expiry is None or certificate is None:
        return None
    if dates.due_by_expiry - dates.jitter > case.now or certificate.not_after is None:
        return None
    allowed = span_text(case.policy.certificate.renew_before or timedelta(0))
    left = certificate.not_after - case.now
    ends = f"expires in {span_text(left)}" if left > timedelta(0) else f"expired {span_text(-left)} ago"
    told = f"the policy renews {allowed} before" if dates.due_by_expiry <= case.now else _brought_forward(case, allowed)
    return to_rotate(
        Reason.EXPIRING,
        f"certificate {ends}, on {instant_text(certificate.not_after)}; {told}",
        "spec.certificate.renewBefore",
        daysLeft=whole_days(certificate.not_after - case.now),
    )


def age_exceeded(case: Case) -> Finding | None:
    """Report a certificate that is older than the policy allows, or that jitter brings forward."""
    dates, certificate = case.dates, case.certificate
    if not case.is_triggered or dates is None or dates.due_by_age is None or certificate is None:
        return None
    max_age = case.policy.certificate.max_age
    if dates.due_by_age - dates.jitter > case.now or certificate.not_before is None or max_age is None:
        return None
    age = case.now - certificate.not_before
    told = f"the policy allows {span_text(max_age)}"
    if dates.due_by_age > case.now:
        told = _brought_forward(case, span_text(max_age))
    return to_rotate(
        Reason.AGE_EXCEEDED,
        f"certificate is {span_text(age)} old, {told}",
        "spec.certificate.maxAge",
        ageDays=whole_days(age),
        allowedDays=whole_days(max_age),
    )


def key_type_mismatch(case: Case) -> Finding | None:
    """Report a key of another type than the policy demands."""
    wanted, certificate = case.policy.certificate.key_type, case.certificate
    if wanted is None or certificate is None or certificate.key_type is None or certificate.key_type == wanted:
        return None
    return to_rotate(
        Reason.KEY_TYPE_MISMATCH,
        f"the key is {certificate.key_type}, the policy demands {wanted.value}",
        "spec.certificate.keyType",
        found=certificate.key_type,
        wanted=wanted.value,
    )


def authority_mismatch(case: Case) -> Finding | None:
    """Report a certificate of another authority than the policy demands."""
    wanted, certificate = case.policy.certificate.authority, case.certificate
    if wanted is None or certificate is None or certificate.not_before is None or certificate.authority == wanted:
        return None
    found = certificate.authority or f"an unknown authority ({certificate.issuer or 'no issuer'})"
    return to_rotate(
        Reason.AUTHORITY_MISMATCH,
        f"the certificate was issued by {found}, the policy demands {wanted}",
        "spec.certificate.authority",
        found=certificate.authority,
        wanted=wanted,
    )


def shared_certificate(case: Case) -> Finding | None:
    """Report a key that others hold, or held, although the policy demands that each thing gets its own."""
    if not case.is_split or case.attachment is None:
        return None
    others = case.attachment.others
    if not others and case.attachment.certificate.certificate_id not in case.governance.state.shared:
        return None
    who = f"is also attached to {case.attachment.others_text}"
    return to_rotate(
        Reason.SHARED_CERTIFICATE,
        f"the certificate {who if others else 'was shared, and the things that left it still know its key'}",
        "spec.certificate.sharedCertificate",
        others=others,
    )


def _brought_forward(case: Case, allowed: str) -> str:
    assert case.timing is not None  # noqa: S101 - only called for a triggered case
    early = case.timing.due - case.timing.start
    if early <= timedelta(0):
        return f"the policy allows {allowed}, and no window is open before that"
    return f"{span_text(early)} of jitter bring it forward from the {allowed} that the policy allows"


DEMANDS: tuple[Check, ...] = (
    authority_tainted,  # an incident
    drilled,  # an incident that is practised
    issued_before_cutoff,  # an emergency
    expiring,  # before notAfter
    age_exceeded,  # from notBefore
    key_type_mismatch,  # the key
    authority_mismatch,  # the CA
    shared_certificate,  # the key is others' too
)
