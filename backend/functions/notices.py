"""Notices to a person, in sentences that stand alone. Pure.

Text that a device wrote stands in quotation marks, on one line and cut to a bound, so that nobody takes it for ours.
"""

from __future__ import annotations

from .rotation import Rotation
from .verdicts import CertificateRole, Notification, Verdict

MAX_QUOTED = 300  # characters
UNWATCHED = "nobody noted who connects with it"


def of_verdict(rotation: Rotation, verdict: Verdict) -> str:
    """Return the notice of how the job has ended, what becomes of the certificates, and why.

    If a person must decide, it also names what to do.
    """
    end = "The job runs" if rotation.ending is None else rotation.ending.value
    since = "before the commit" if rotation.committed_at is None else "after the commit"
    becomes = {
        CertificateRole.OLD: f"the old certificate {rotation.old_certificate_id} is removed",
        CertificateRole.NEW: f"the new certificate {rotation.new_certificate_id or '(if there is one)'} is removed",
        None: "both certificates stay",
    }[verdict.goes]
    text = f"{end} {since}: {becomes}, because {verdict.because}."
    return f"{text} {_holders(rotation)}" if verdict.told is Notification.PERSON else text


def of_late_evidence(rotation: Rotation) -> str:
    """Return the notice that an old certificate, removed by now, was used after the commit or for a second key.

    A shared one was only detached from the thing: others may hold it, and the device may still use it.
    """
    use = "was used after the commit, at" if rotation.contested_at is None else "asked for a second key at"
    at = rotation.contested_at or rotation.old_seen_at
    what, otherwise = "the removed certificate", "cannot connect"
    if rotation.is_shared:
        what, otherwise = "the shared certificate, which was detached from this thing,", "uses that one, or none"
    return (
        f"{what} {rotation.old_certificate_id} {use} {at}. "
        f"If the device uses its new certificate {rotation.new_certificate_id}, somebody else holds a copy of the old "
        f"one's key: find out who. If the device {otherwise}, somebody else has rotated in its place: deactivate the "
        f"new one, {_deactivate(rotation.new_certificate_id)}, and provision the device anew."
    )


def of_rest(certificate_id: str, because: str) -> str:
    """Return the notice that a shared certificate that no thing holds stays, ``because`` it may be in use."""
    return (
        f"certificate {certificate_id} was shared, no thing holds it any more, and it stays ACTIVE, because "
        f"{because}. Find out who uses it; if nobody may, {_deactivate(certificate_id)} and delete it."
    )


def quoted(text: object) -> str:
    """Return somebody else's text on one line, printable, bounded, and in quotation marks."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)[: 4 * MAX_QUOTED]).split())
    cut = line if len(line) <= MAX_QUOTED else f"{line[:MAX_QUOTED]}…"
    return f'"{cut.replace(chr(34), chr(39))}"'


def _holders(rotation: Rotation) -> str:
    new = rotation.new_certificate_id
    known = {
        "committed": rotation.committed_at,
        "new one last seen": rotation.new_seen_at,
        "old one last seen": rotation.old_seen_at,
        "a second key was asked for": rotation.contested_at,
    }
    facts = "; ".join(f"{what} {at}" for what, at in known.items() if at is not None) or "neither was seen"
    return (
        f"Known: {facts}. Find out on the device which one it uses (its log names the certificate). "
        f"If it uses the new one, somebody else holds a copy of the old one's key, or nobody uses the old one "
        f"any more: {_give_up(rotation)}. If it uses the old one, nobody uses the new one, or somebody else does: "
        f"{_deactivate(new)}. "
        "A certificate that you deactivate or detach is removed within 15 minutes."
    )


def _give_up(rotation: Rotation) -> str:
    """Return the command by which a person gives up the old certificate: deactivates it, or detaches a shared one."""
    if not rotation.is_shared:
        return _deactivate(rotation.old_certificate_id)
    arn = rotation.arn(rotation.old_certificate_id)
    return f"`aws iot detach-thing-principal --thing-name {rotation.thing_name} --principal {arn}`"


def _deactivate(certificate_id: str | None) -> str:
    return f"`aws iot update-certificate --new-status INACTIVE --certificate-id {certificate_id}`"
