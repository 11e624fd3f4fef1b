"""Devices and the backend as the controller meets them: what a rotation leaves in the registry, step by step.

The backend issues what it was asked, or what ``issues`` makes of it. It refuses as the real one does:
a device that is not asked by a job, or does not hold exactly one certificate, gets none. A device that
falls silent half way keeps both of its certificates. What was replaced is removed some time after the job has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from protocol.algorithms import KeyType
from protocol.deployment import DeployedAuthority, DeployedBackend
from protocol.job_document import JobDocument, parse_job_document
from protocol.names import AWS_IOT_AUTHORITY, FAILURE_REASON_KEY, STATUS_DETAILS_KEY
from sandbox.aws import Cloud

CURVES = {KeyType.ECDSA_P256: ec.SECP256R1, KeyType.ECDSA_P384: ec.SECP384R1, KeyType.ECDSA_P521: ec.SECP521R1}


FIELDS = ("keyAlgorithm", "signingAlgorithm", "certificateAuthority", "certificateAuthorityArn", "policy", "commit")


@cache
def public_key(key_type: KeyType) -> Any:
    """One key for all certificates of a type: to make one takes longer than a whole run of a command."""
    if key_type in CURVES:
        return ec.generate_private_key(CURVES[key_type]()).public_key()
    return rsa.generate_private_key(65537, int(key_type.value.removeprefix("RSA-"))).public_key()


@dataclass(frozen=True)
class Holding:
    """A certificate as the plant knows it; ``authority`` is ``aws-iot`` or an ARN."""

    certificate_id: str
    key_type: KeyType
    authority: str
    not_before: datetime
    not_after: datetime
    created_at: datetime


@dataclass(frozen=True)
class Rotation:
    """A certificate that replaced another."""

    device: str
    job_id: str
    old: Holding
    new: Holding
    at: datetime


@dataclass
class Backend:
    """What is deployed. ``issues`` makes of what was asked what is issued, or None: nothing."""

    authorities: dict[str, str]  # name → ARN
    validity: dict[str, timedelta]
    issues: Callable[[JobDocument], JobDocument | None] = lambda asked: asked
    default_key: KeyType = KeyType.ECDSA_P256  # of the component's configuration
    is_published: bool = True  # a backend of before neither says what it is nor heeds the ARN of a job

    def describes_itself(self) -> str:
        """What it says of itself in its parameter of Systems Manager."""
        private = {name: arn for name, arn in self.authorities.items() if name != AWS_IOT_AUTHORITY}
        authorities = {n: DeployedAuthority(arn, "SHA256WITHECDSA", self.validity[arn]) for n, arn in private.items()}
        return DeployedBackend("1.0.0", authorities, frozenset(FIELDS)).to_json()


@dataclass
class Plant:
    """Devices by name. ``offline`` and ``failing`` are as a test sets them."""

    cloud: Cloud
    backend: Backend
    offline: set[str] = field(default_factory=set)
    failing: set[str] = field(default_factory=set)
    holds: dict[str, list[Holding]] = field(default_factory=dict)  # the last is the newest
    rotations: list[Rotation] = field(default_factory=list)
    half_way: dict[str, str] = field(default_factory=dict)  # device → job, between issue and commit
    attempts: dict[str, int] = field(default_factory=dict)  # by device: of the job that it is half way in
    replaced: dict[str, list[Holding]] = field(default_factory=dict)  # by device: what the backend has still to remove
    groups: dict[str, str] = field(default_factory=dict)
    on_rotated: Callable[[Rotation], None] = lambda rotation: None
    on_failed: Callable[[str, str], None] = lambda device, job_id: None

    def now(self) -> datetime:
        return self.cloud.now()

    def add(self, name: str, group: str, *, age: timedelta, key: KeyType, authority: str = AWS_IOT_AUTHORITY) -> None:
        """A device whose certificate is of that age."""
        self.cloud.seed.thing(name, [group])
        self.groups[name] = group
        self.holds[name] = [self._certify(name, key, authority, self.now() - age)]
        self.connect(name)

    def remove(self, name: str) -> None:
        """A device is taken out of service: out of its group, and its certificates are deleted."""
        self.remove_replaced(name)
        for holding in self.holds.pop(name):
            self._remove(name, holding)
        self.half_way.pop(name, None)
        self.attempts.pop(name, None)
        self.offline.discard(name)
        self.failing.discard(name)
        group = {"thingName": name, "thingGroupName": self.groups.pop(name)}
        self.cloud.services["iot"].call("RemoveThingFromThingGroup", group)

    def move(self, name: str, group: str) -> None:
        """A device goes from its group to another."""
        registry = self.cloud.services["iot"]
        registry.call("RemoveThingFromThingGroup", {"thingName": name, "thingGroupName": self.groups[name]})
        registry.call("AddThingToThingGroup", {"thingName": name, "thingGroupName": group})
        self.groups[name] = group

    def connect(self, name: str) -> None:
        """Presence, with the newest certificate."""
        self.cloud.registry.connected(self.holds[name][-1].certificate_id, name)

    def disconnect(self, name: str) -> None:
        self.cloud.registry.disconnected(self.holds[name][-1].certificate_id, name)

    # what a device does

    def answer(self, name: str) -> None:
        """Do whatever is asked, to the end: rotate, or fail."""
        while name not in self.offline and (name in self.half_way or self.next_of(name)):
            if name in self.failing and name not in self.half_way:
                self.fail(name)
            else:
                self.begin(name)
                self.finish(name)

    def next_of(self, name: str) -> dict[str, Any] | None:
        pending = self.cloud.jobs.get_pending(name)
        return next(iter([*pending["inProgressJobs"], *pending["queuedJobs"]]), None)

    def begin(self, name: str) -> None:
        """Take up the next job and have a certificate issued; fails where the backend refuses."""
        if name in self.half_way:
            return
        execution = self.cloud.jobs.start_next(name, {}).get("execution")
        if not execution:
            return
        issued = self._issue(name, execution)
        if issued is None:
            self._end(name, execution["jobId"], "FAILED", reason="Create was rejected.")
        else:
            self.half_way[name] = execution["jobId"]
            self.attempts[name] = execution["executionNumber"]

    def finish(self, name: str) -> None:
        """Connect with the new certificate, and report; the backend removes the old one some time later."""
        job_id = self.half_way.pop(name, None)
        if job_id is None or len(self.holds[name]) < 2:
            return
        old, new = self.holds[name][-2:]
        self.connect(name)
        self.replaced[name] = self.holds[name][:-1]
        self.holds[name] = [new]
        rotation = Rotation(name, job_id, old, new, self.now())
        self.rotations.append(rotation)
        self.on_rotated(rotation)
        self._end(name, job_id, "SUCCEEDED")

    def fail(self, name: str) -> None:
        """Take up the next job and fail; a certificate that was issued for it is removed."""
        job_id = self.half_way.pop(name, None)
        if job_id is None:
            execution = self.cloud.jobs.start_next(name, {}).get("execution")
            job_id = execution["jobId"] if execution else None
        elif len(self.holds[name]) > 1:
            self._remove(name, self.holds[name].pop())
        if job_id is not None:
            self._end(name, job_id, "FAILED", reason="no space left on /greengrass")

    def replace_by_hand(self, name: str, key: KeyType, authority: str = AWS_IOT_AUTHORITY) -> None:
        """A person gives the device a new credential and removes every other; the job goes on where there is one."""
        self.half_way.pop(name, None)
        self.attempts.pop(name, None)
        self.remove_replaced(name)
        for holding in self.holds[name]:
            self._remove(name, holding)
        self.holds[name] = [self._certify(name, key, authority, self.now())]
        self.connect(name)

    # what the backend does

    def remove_replaced(self, *names: str) -> None:
        """Of these devices, or of all."""
        for name in names or tuple(self.replaced):
            for holding in self.replaced.pop(name, ()):
                self._remove(name, holding)

    def _issue(self, name: str, execution: dict[str, Any]) -> Holding | None:
        asked = parse_job_document(execution["jobDocument"])
        made = self.backend.issues(asked)
        is_again = asked.policy is not None and self._has_brought(name, execution["jobId"])
        if made is None or len(self.holds[name]) != 1 or name in self.replaced or is_again:
            return None
        own = self.backend.authorities
        deployed = own.get(asked.certificate_authority or AWS_IOT_AUTHORITY)
        demanded = asked.certificate_authority_arn if self.backend.is_published else None
        authority = own.get(made.certificate_authority or AWS_IOT_AUTHORITY)
        if authority is None or (demanded is not None and demanded != deployed):
            return None
        key = made.key_type or self.backend.default_key
        holding = self._certify(name, key, authority, self.now())
        self.holds[name].append(holding)
        return holding

    def _has_brought(self, name: str, job_id: str) -> bool:
        """Whether an attempt of the job has brought the certificate in place: it came to its end too late."""
        return any((one.job_id, one.new) == (job_id, self.holds[name][-1]) for one in self.rotations)

    def _certify(self, name: str, key: KeyType, authority: str, at: datetime) -> Holding:
        life = self.backend.validity.get(authority)
        seed = self.cloud.seed
        made = seed.certificate(
            public_key(key), authority=authority, not_before=at, not_after=at + life if life else None, created_at=at
        )
        seed.attach(name, made.certificate_id)
        certificate = self.cloud.services["iot"].call("DescribeCertificate", {"certificateId": made.certificate_id})
        end = certificate["certificateDescription"]["validity"]["notAfter"]
        return Holding(made.certificate_id, key, authority, at, end, at)

    def _remove(self, name: str, holding: Holding) -> None:
        iot = self.cloud.services["iot"]
        principal = self.cloud.site.arn(f"cert/{holding.certificate_id}")
        iot.call("DetachThingPrincipal", {"thingName": name, "principal": principal})
        iot.call("UpdateCertificate", {"certificateId": holding.certificate_id, "newStatus": "INACTIVE"})
        iot.call("DeleteCertificate", {"certificateId": holding.certificate_id})

    def _end(self, name: str, job_id: str, status: str, reason: str | None = None) -> None:
        details = {STATUS_DETAILS_KEY: "test"} | ({FAILURE_REASON_KEY: reason} if reason else {})
        execution, attempt = self.next_of(name), self.attempts.pop(name, None)
        is_open = execution is not None and execution["jobId"] == job_id
        if is_open and attempt not in (None, execution["executionNumber"]):
            self.remove_replaced(name)  # AWS IoT has repeated it: the backend has heard of the end, and of the device
        elif is_open:  # else it has timed out, or was cancelled by force
            self.cloud.jobs.update(name, job_id, {"status": status, "statusDetails": details})
            if status == "FAILED":
                self.on_failed(name, job_id)


def other_key(asked: JobDocument) -> JobDocument:
    """A backend whose devices make another key than they were told."""
    key = KeyType.ECDSA_P521 if asked.key_type is not KeyType.ECDSA_P521 else KeyType.ECDSA_P256
    return replace(asked, key_type=key, signing_algorithm=None)


def other_authority(asked: JobDocument) -> JobDocument:
    """A backend that takes another CA than it was told."""
    return replace(asked, certificate_authority="plant-ca" if asked.certificate_authority != "plant-ca" else None)
