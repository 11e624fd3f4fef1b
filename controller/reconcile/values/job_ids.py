"""Job ids: policy, wave and plan digest in one name, so that creating a job twice is harmless.

AWS IoT cannot filter jobs by tag or prefix, so a job's identity stands in its id:
``cf-<policy>-w<wave>-<digest>``, and ``cf-<policy>-standing-<digest>`` for the policy's standing job.
At most 64 of ``[a-zA-Z0-9_-]`` (AWS IoT CreateJob); policy names are at most 32 for that.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

DIGEST_CHARACTERS = 16
MAX_POLICY_NAME = 32

_PATTERN = re.compile(
    rf"cf-(?P<policy>[a-z0-9][a-z0-9-]{{0,{MAX_POLICY_NAME - 1}}})"
    rf"-(?:w(?P<wave>[1-9][0-9]{{0,3}})|standing)-(?P<digest>[0-9a-f]{{{DIGEST_CHARACTERS}}})"
)


class JobId(NamedTuple):
    """The parts of one of our job ids; ``wave`` is None on a standing job."""

    policy: str
    wave: int | None
    digest: str

    def __str__(self) -> str:
        part = "standing" if self.wave is None else f"w{self.wave}"
        return f"cf-{self.policy}-{part}-{self.digest}"


def make_job_id(policy: str, wave: int | None, digest: str) -> str:
    """The id of a policy's wave (from 1), or of its standing job (None); ``digest`` is hexadecimal."""
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
