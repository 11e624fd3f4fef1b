"""Which jobs belong to the present rollout of a policy.

AWS keeps the jobs, and their ids are all the memory there is. The last part of an id is therefore made
of three: six characters that say *what is rolled out* (the family), four that say *what is asked of the
device* (the kind: a policy that leaves key type or authority out keeps what each device has, so its devices
need jobs of several kinds), and six that say *to whom*. A job belongs to the present rollout if its policy
and its family are the present ones. See docs/decisions/0031-waves-without-a-store.md.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from .job_ids import DIGEST_CHARACTERS, make_job_id
from .result import KIND_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from .plan import PlannedDevice
    from .policy import CertificateAuthority, Policy

FAMILY_CHARACTERS = 6


def family_of(policy: Policy, authorities: Mapping[str, CertificateAuthority]) -> str:
    """Six hexadecimal characters over what a rotation under this policy demands.

    The certificate rule and the definition of its authority count; how it is rolled out (windows,
    waves, rates), the commit and every other document do not: changing those must not start over.
    """
    rule = policy.certificate
    authority = authorities.get(rule.authority) if rule.authority else None
    return _digest(
        policy.name,
        rule.max_age,
        rule.renew_before,
        rule.key_type and rule.key_type.value,
        rule.csr_signing_algorithm and rule.csr_signing_algorithm.value,
        rule.rotate_issued_before,
        rule.authority,
        authority and authority.arn,
        authority and authority.signing_algorithm and authority.signing_algorithm.value,
        authority and authority.validity,
        authority and authority.template_arn,
    )[:FAMILY_CHARACTERS]


def kind_of(job_id: str) -> str:
    """The characters of one of our ids that say what its document asks for."""
    start = len(job_id) - DIGEST_CHARACTERS + FAMILY_CHARACTERS
    return job_id[start : start + KIND_CHARACTERS]


def job_id_for(
    policy: str, wave: int | None, head: str, devices: Iterable[PlannedDevice], ended: Container[str]
) -> str:
    """The id of a job over these devices; the same situation gives the same id, in any order of devices.

    ``head`` is family and kind.

    An id is never used again: where a job of ``ended`` has it (the same devices were asked before and
    the job was cancelled), the next of a fixed sequence is taken.
    """
    members = sorted(f"{d.name} {d.certificate_id} {d.attempt}" for d in devices)
    repeat = 0
    while True:
        job_id = make_job_id(policy, wave, (head + _digest(head, wave, repeat, *members))[:DIGEST_CHARACTERS])
        if job_id not in ended:
            return job_id
        repeat += 1


def _digest(*parts: object) -> str:
    return sha256("\n".join("-" if part is None else str(part) for part in parts).encode()).hexdigest()
