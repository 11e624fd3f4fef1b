"""How much one device may ask for: counted before anything scarce is called, and remembered. Pure.

A device that asks wrongly, or too often, costs others: a private CA bills each certificate, and an account has ten
calls a second to most of the registry. So each request is counted once it is well-formed and of this device, and a
device over its budget is refused from its record alone. The last refusal is kept, so that the notice of a job's end can
quote it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from protocol.rejections import RejectionCode

from .errors import RejectionError

REQUESTS_PER_JOB = 40  # a device repeats create and commit every ten seconds, three times each at every attempt
REQUESTS_PER_DAY = 600
CERTIFICATES_PER_JOB = 5
CERTIFICATES_PER_DAY = 100  # of many jobs: devices on which releases are tried out rotate all day


@dataclass(frozen=True, slots=True)
class BudgetRefusal:
    """The backend's last refusal of a device's request."""

    job_id: str
    code: str
    sentence: str

    def to_record(self) -> dict[str, str]:
        """Return plain values for the table."""
        return {"jobId": self.job_id, "code": self.code, "sentence": self.sentence}


@dataclass(frozen=True, slots=True)
class CertificateBudget:
    """The requests and certificates that one thing has used up today, and under its latest job."""

    thing_name: str
    day: str = ""  # UTC, ISO 8601
    requests: int = 0
    certificates: int = 0
    job_id: str = ""  # of the latest request
    job_requests: int = 0
    issued: tuple[str, ...] = ()  # the job of each certificate, the latest last
    causes: tuple[str, ...] = ()  # codes of today's refusals
    refusal: BudgetRefusal | None = None
    rival: tuple[str, str] | None = None  # digest of the key whose certificate was made, and when another was asked for
    version: int = 0  # of the stored record; 0 before the first write

    def request(self, job_id: str, now: datetime) -> CertificateBudget:
        """Return the budget with one create or commit more; raises RejectionError if that is too many."""
        known = self.under(job_id).on(now)
        _require(known.job_requests < REQUESTS_PER_JOB, f"{REQUESTS_PER_JOB} requests under one job")
        _require(known.requests < REQUESTS_PER_DAY, f"{REQUESTS_PER_DAY} requests of one device a day")
        return replace(known, requests=known.requests + 1, job_requests=known.job_requests + 1)

    def certificate(self) -> CertificateBudget:
        """Return the budget with one certificate more, under the job of the latest request.

        Raises RejectionError if that is too many.
        """
        known = self.issued.count(self.job_id)
        _require(known < CERTIFICATES_PER_JOB, f"{CERTIFICATES_PER_JOB} certificates under one job")
        _require(self.certificates < CERTIFICATES_PER_DAY, f"{CERTIFICATES_PER_DAY} certificates of one device a day")
        issued = (*self.issued, self.job_id)[-CERTIFICATES_PER_DAY:]
        return replace(self, certificates=self.certificates + 1, issued=issued)

    def refused(self, refusal: BudgetRefusal, now: datetime) -> tuple[CertificateBudget, bool]:
        """Return the budget with a ``refusal`` noted, and whether it is the day's first for this cause."""
        known = self.on(now)
        is_first = refusal.code not in known.causes
        causes = (*known.causes, refusal.code) if is_first else known.causes
        return replace(known, causes=causes, refusal=refusal if refusal.job_id else known.refusal), is_first

    def rivalled(self, digest: str, at: datetime) -> CertificateBudget:
        """Return the budget with the note that a second key was asked for at this instant.

        That was while the certificate for the key with this ``digest`` was made; the first such request counts.
        """
        return self if self.rival_of(digest) else replace(self, rival=(digest, at.isoformat()))

    def rival_of(self, digest: str) -> datetime | None:
        """Return when a second key was asked for while this key's certificate was made; None if none was."""
        return None if self.rival is None or self.rival[0] != digest else datetime.fromisoformat(self.rival[1])

    def on(self, now: datetime) -> CertificateBudget:
        """Return the budget for the day of ``now`` (UTC): its counts start at zero if the record is of another day."""
        day = now.date().isoformat()
        return self if self.day == day else replace(self, day=day, requests=0, certificates=0, causes=())

    def under(self, job_id: str) -> CertificateBudget:
        """Return the budget under this job: its count of requests starts at zero if the record is of another job."""
        return self if self.job_id == job_id else replace(self, job_id=job_id, job_requests=0)

    def to_record(self) -> dict[str, Any]:
        """Return plain values for the table."""
        return {
            "day": self.day,
            "requests": self.requests,
            "certificates": self.certificates,
            "jobId": self.job_id,
            "jobRequests": self.job_requests,
            "issued": list(self.issued),
            "jobCertificates": self.issued.count(self.job_id),  # read by earlier versions, if one is deployed again
            "causes": list(self.causes),
            "version": self.version,
            **({"refusal": self.refusal.to_record()} if self.refusal else {}),
            **({"rival": list(self.rival)} if self.rival else {}),
        }

    @classmethod
    def from_record(cls, thing_name: str, record: Mapping[str, Any]) -> CertificateBudget:
        """Read what ``to_record`` wrote, in this version or an earlier one."""
        refusal = record.get("refusal")
        issued = record.get("issued", [record["jobId"]] * int(record["jobCertificates"]))
        return cls(
            thing_name,
            record["day"],
            int(record["requests"]),
            int(record["certificates"]),
            record["jobId"],
            int(record["jobRequests"]),
            tuple(issued),
            tuple(record["causes"]),
            BudgetRefusal(refusal["jobId"], refusal["code"], refusal["sentence"]) if refusal else None,
            (record["rival"][0], record["rival"][1]) if "rival" in record else None,
            int(record["version"]),
        )


def _require(condition: bool, most: str) -> None:  # noqa: FBT001  # reads as a sentence
    if not condition:
        raise RejectionError(RejectionCode.OVER_BUDGET, f"This device asks too often: at most {most} are allowed.")
