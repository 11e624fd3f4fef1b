"""Builds the things, certificates and misfits of a fleet file into a cloud, and a folder per device.

Everything is written through the cloud's seeding interface, so that certificates can be of any age.
The files of a device's disk lie in its folder when this is done; nothing runs yet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from protocol.algorithms import Family, KeyType
from protocol.job_document import JobDocument
from protocol.messages import ExecutionStatus
from protocol.names import AWS_IOT_AUTHORITY, FAILURE_REASON_KEY, STATUS_DETAILS_KEY
from sandbox.aws import Cloud
from sandbox.aws.issuer import DEFAULT_SUBJECT
from sandbox.aws.seed import SeededCertificate

from .fleet_file import Devices, Misfit, SandboxFleet

DEVICE_POLICY = "GreengrassDevice"
SHIPPED_POLICY = Path(__file__).resolve().parent.parent / "backend" / "device-policy.json"
FAILURES_TO_QUARANTINE = 5
MAX_COMMON_NAME = 64  # characters; X.520
FAILURE_REASON = "the certificate could not be written: no space left on device; free some space, then rotate again"

_CURVES: Mapping[KeyType, type[ec.EllipticCurve]] = {
    KeyType.ECDSA_P256: ec.SECP256R1,
    KeyType.ECDSA_P384: ec.SECP384R1,
    KeyType.ECDSA_P521: ec.SECP521R1,
}


@dataclass(frozen=True, slots=True)
class Credential:
    """A private key and a certificate, PEM, as a device keeps them in files."""

    key_pem: bytes
    certificate_pem: bytes


@dataclass(frozen=True, slots=True)
class BuiltDevice:
    """One thing of the fleet file; ``credential`` is None if it holds none that could connect."""

    name: str
    entry: Devices
    is_process: bool
    credential: Credential | None


def generate_key(key_type: KeyType) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    """Return a new private key."""
    if key_type.family is Family.RSA:
        return rsa.generate_private_key(65537, key_type.bits)
    return ec.generate_private_key(_CURVES[key_type]())


def private_key_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """Return the key as Greengrass provisioning writes it: PKCS#8, not encrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class FleetBuilder:
    """Fills one cloud from one fleet file."""

    def __init__(self, fleet: SandboxFleet, cloud: Cloud, iot: Any) -> None:
        """``iot`` is a boto3 client of this cloud."""
        self._fleet = fleet
        self._cloud = cloud
        self._iot = iot
        self._now = cloud.now
        self._arns = {authority.name: authority.arn for authority in fleet.authorities}
        self._shared: dict[str, tuple[SeededCertificate, Credential]] = {}  # by prefix of the entry

    def build(self) -> list[BuiltDevice]:
        """Make everything; returns the devices in the order of the file."""
        self.build_ground()
        planned = [(entry, index, name) for entry in self._fleet.devices for index, name in enumerate(entry.names())]
        with ThreadPoolExecutor(2) as pool:  # RSA keys take their time, and leave Python's lock alone
            keys = list(pool.map(lambda item: generate_key(item[0].key_type), planned))
        return [self._device(entry, index, name, key) for (entry, index, name), key in zip(planned, keys, strict=True)]

    def build_ground(self) -> None:
        """Authorities, groups and the policy that lets a device speak for itself only."""
        seed = self._cloud.seed
        for authority in self._fleet.authorities:
            seed.private_ca(
                authority.arn, authority.key_algorithm, authority.signing_algorithm.value, f"{authority.name} root"
            )
        waiting = {group.name: group.parent for group in self._fleet.groups}
        while waiting:
            ready = [name for name, parent in waiting.items() if parent not in waiting]
            for name in ready:
                seed.group(name, waiting.pop(name))
        seed.policy(DEVICE_POLICY, json.dumps(device_policy(self._fleet.account, self._fleet.region)))

    def _device(self, entry: Devices, index: int, name: str, key: Any) -> BuiltDevice:
        seed = self._cloud.seed
        seed.thing(name, entry.groups)
        credential: Credential | None = None
        if entry.misfit is Misfit.UNPARSEABLE:
            found = seed.unparseable_certificate(created_at=self._now() - entry.age_of(index))
            seed.attach(name, found.certificate_id, policies=[DEVICE_POLICY])
        elif entry.misfit is Misfit.SHARED_CERTIFICATE:
            if entry.prefix not in self._shared:
                self._shared[entry.prefix] = self._issue(entry, index, name, key)
            certificate, credential = self._shared[entry.prefix]
            seed.attach(name, certificate.certificate_id, exclusive=False, policies=[DEVICE_POLICY])
        elif entry.misfit is not Misfit.NO_CERTIFICATE:
            certificate, credential = self._issue(entry, index, name, key)
            exclusive = entry.misfit is not Misfit.NOT_EXCLUSIVE and entry.misfit is not Misfit.EXTRA_CERTIFICATE
            seed.attach(name, certificate.certificate_id, exclusive=exclusive, policies=[DEVICE_POLICY])
        if entry.misfit is Misfit.EXTRA_CERTIFICATE:
            spare, _ = self._issue(entry, index, name, generate_key(entry.key_type))
            seed.attach(name, spare.certificate_id, exclusive=False, policies=[DEVICE_POLICY])
        if entry.misfit is Misfit.REPEATEDLY_FAILED:
            self._fail_repeatedly(name)
        return BuiltDevice(name, entry, index < entry.processes, credential)

    def _issue(self, entry: Devices, index: int, name: str, key: Any) -> tuple[SeededCertificate, Credential]:
        begin = self._now() - entry.age_of(index)
        certificate = self._cloud.seed.certificate(
            key.public_key(),
            authority=self._arns.get(entry.authority, AWS_IOT_AUTHORITY),
            not_before=begin,
            not_after=begin + entry.lifetime if entry.lifetime is not None else None,
            status="INACTIVE" if entry.misfit is Misfit.CERTIFICATE_INACTIVE else "ACTIVE",
            subject=_subject(name),
        )
        return certificate, Credential(private_key_pem(key), certificate.pem.encode())

    def _fail_repeatedly(self, name: str) -> None:
        """Give the device a history of rotations, started by hand, that it could not finish.

        A job id takes neither the colons nor the length that a thing name takes.
        """
        arn = f"arn:aws:iot:{self._fleet.region}:{self._fleet.account}:thing/{name}"
        details = {STATUS_DETAILS_KEY: "installing", FAILURE_REASON_KEY: FAILURE_REASON}
        for number in range(1, FAILURES_TO_QUARANTINE + 1):
            job_id = f"by-hand-{sha256(name.encode()).hexdigest()[:16]}-{number}"
            self._iot.create_job(jobId=job_id, targets=[arn], document=JobDocument().to_json())
            self._cloud.site.tick()
            self._cloud.jobs.start_next(name, {})
            self._cloud.jobs.update(name, job_id, {"status": ExecutionStatus.FAILED.value, "statusDetails": details})


def _subject(name: str) -> x509.Name:
    """Return the thing's name, or, if that is too long for a common name, what AWS IoT writes by itself."""
    if len(name) > MAX_COMMON_NAME:
        return DEFAULT_SUBJECT
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def device_policy(account: str, region: str) -> dict[str, Any]:
    """Return the policy that the backend ships for devices: connect as itself, and speak of itself."""
    text = SHIPPED_POLICY.read_text(encoding="utf-8").replace("REGION", region).replace("ACCOUNT", account)
    policy: dict[str, Any] = json.loads(text)
    return policy
