"""Job ids: policy, wave and digest in one name, so that creating a job twice is harmless.

AWS IoT cannot filter jobs by tag or prefix, and certfleet stores nothing, so a job's identity stands in its id:
``cf-<policy>-w<wave>-<digest>``, and ``cf-<policy>-standing-<digest>`` for the policy's standing jobs. A pre-flight,
``cf-<policy>-check-<digest>``, is none of them: it rotates nobody.
At most 64 of ``[a-zA-Z0-9_-]`` (AWS IoT CreateJob); policy names are at most 32 for that.

The digest is made of three: six characters that show *what is rolled out* (the family), four that show *what is
asked of the device* (the kind: a policy that leaves key type or authority out keeps what each device has, so its
devices need jobs of several kinds), and six that show *to whom*. A job belongs to the present rollout if its policy
and its family are the present ones. See docs/decisions/0031-waves-without-a-store.md.
"""

from __future__ import annotations

import re
from dataclasses import Field, fields
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from .policy import BEARS_ON, Bearing, CertificateAuthority
from .result import KIND_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

    from .plan import PlannedDevice
    from .policy import Policy

LOOK_BACK = timedelta(days=45)  # jobs that ended longer ago are not looked at; failures in them no longer count
DIGEST_CHARACTERS = 16
FAMILY_CHARACTERS = 6
_FIRST_FIELDS = 6  # of the rule: they are in every id; one that was added later is, where a policy sets it
MAX_POLICY_NAME = 32

_POLICY = rf"cf-(?P<policy>[a-z0-9][a-z0-9-]{{0,{MAX_POLICY_NAME - 1}}})"
_DIGEST = rf"(?P<digest>[0-9a-f]{{{DIGEST_CHARACTERS}}})"
_PATTERN = re.compile(rf"{_POLICY}-(?:w(?P<wave>[1-9][0-9]{{0,3}})|standing)-{_DIGEST}")
_OF_CHECK = re.compile(rf"{_POLICY}-check-{_DIGEST}")


class JobId(NamedTuple):
    """The parts of one of our job ids; ``wave`` is None on a standing job."""

    policy: str
    wave: int | None
    digest: str

    def __str__(self) -> str:
        part = "standing" if self.wave is None else f"w{self.wave}"
        return f"cf-{self.policy}-{part}-{self.digest}"


def make_job_id(policy: str, wave: int | None, digest: str) -> str:
    """Return the id of a policy's wave (from 1), or of its standing job (None); ValueError unless the digest fits."""
    job_id = str(JobId(policy, wave, digest[:DIGEST_CHARACTERS]))
    if parse_job_id(job_id) is None:
        message = f"policy {policy!r}, wave {wave!r} and digest {digest!r} make no valid job id"
        raise ValueError(message)
    return job_id


@lru_cache(maxsize=1 << 14)  # every job is asked for several times in a run
def parse_job_id(job_id: str) -> JobId | None:
    """Read one of our ids; None for a job that is not ours."""
    match = _PATTERN.fullmatch(job_id)
    if match is None:
        return None
    wave = match["wave"]
    return JobId(match["policy"], int(wave) if wave else None, match["digest"])


def policy_in(name: str) -> str | None:
    """Return the policy whose job, rotation or pre-flight, or cohort group bears this name.

    None if it is not ours.
    """
    match = _PATTERN.fullmatch(name) or _OF_CHECK.fullmatch(name)
    return match["policy"] if match else None


def family_of(policy: Policy, authorities: Mapping[str, CertificateAuthority]) -> str:
    """Return six hexadecimal characters over what a rotation under this policy, with these authorities, demands.

    Fields that count are marked so on the models; changing anything else must not start over.
    """
    rule = policy.certificate
    authority = authorities.get(rule.authority or "") or CertificateAuthority("")
    first, later = fields(rule)[:_FIRST_FIELDS], fields(rule)[_FIRST_FIELDS:]
    demands = [getattr(rule, field.name) for field in first]
    demands += [getattr(authority, field.name) for field in fields(authority) if _starts_anew(field)]
    added = {field.name: getattr(rule, field.name) for field in later if _starts_anew(field)}
    demands += [f"{name}={_plain(demand)}" for name, demand in added.items() if demand is not None]
    return _digest(policy.name, *map(_plain, demands))[:FAMILY_CHARACTERS]


def _starts_anew(field: Field[Any]) -> bool:
    return field.metadata.get(BEARS_ON) is Bearing.ROTATION


def _plain(demand: object) -> object:
    return getattr(demand, "value", demand)


def kind_of(job_id: str) -> str:
    """Return the characters of one of our ids that show what its document asks for."""
    start = len(job_id) - DIGEST_CHARACTERS + FAMILY_CHARACTERS
    return job_id[start : start + KIND_CHARACTERS]


def job_id_for(
    policy: str,
    wave: int | None,
    head: str,
    devices: Iterable[PlannedDevice],
    *,
    ended: Container[str],
    now: datetime,
) -> str:
    """Return the id of a policy's job over these devices in a wave; the same situation gives the same id.

    ``head`` is family and kind.

    An id is never used again: if a job of ``ended`` has it (the same devices were asked before and
    the job was cancelled), the next of a fixed sequence is taken. Jobs that ended too long ago to be among them
    are of an earlier era.
    """
    digests = _digests(head, wave, devices, now)
    return next(job_id for digest in digests if (job_id := make_job_id(policy, wave, digest)) not in ended)


def check_id_for(
    policy: str, head: str, devices: Iterable[PlannedDevice], *, known: Container[str], now: datetime
) -> str:
    """Return the id of a job that asks these devices of a policy for a pre-flight.

    ``head`` as in ``job_id_for``, and none of ``known`` is used.
    """
    digests = _digests(head, "check", devices, now)
    return next(job_id for digest in digests if (job_id := f"cf-{policy}-check-{digest}") not in known)


def _digests(head: str, part: int | str | None, devices: Iterable[PlannedDevice], now: datetime) -> Iterator[str]:
    """Yield a sequence without end, always the same for the same devices."""
    members = sorted(f"{d.name} {d.certificate_id} {d.attempt}" for d in devices)
    return ((head + _digest(head, part, _era(now), n, *members))[:DIGEST_CHARACTERS] for n in count())


def _era(now: datetime) -> int:
    """Return a number that is another one whenever LOOK_BACK has passed."""
    return int(now.timestamp() // LOOK_BACK.total_seconds())


def _digest(*parts: object) -> str:
    return sha256("\n".join("-" if part is None else str(part) for part in parts).encode()).hexdigest()
