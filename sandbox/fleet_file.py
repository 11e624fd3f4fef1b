"""The sandbox's fleet file: which devices to build, how old, how wrong.

YAML, one document; ``docs/sandbox.md`` shows a whole one. Ages and lifetimes are durations as in the
desired state (``90d``). Every mistake raises FleetFileError, which lists all of them.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from controller.durations import parse_duration
from controller.errors import CertfleetError
from protocol.algorithms import CaSigningAlgorithm, KeyType
from protocol.names import AWS_IOT_AUTHORITY, DEFAULT_STACK_NAME
from sandbox.edge import Profile

MAX_FILE_BYTES = 1024 * 1024
MAX_DEVICES = 100_000
MAX_NAME = 128  # characters of a thing's name; AWS IoT

Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9:_-]{1,128}$")]


class FleetFileError(CertfleetError):
    """A fleet file is wrong; the message lists every mistake with its place."""


class Misfit(StrEnum):
    """A fault of a device beyond age, key type and authority: one per blocked reason."""

    NO_CERTIFICATE = "NoCertificate"
    EXTRA_CERTIFICATE = "ExtraCertificate"
    SHARED_CERTIFICATE = "SharedCertificate"
    NOT_EXCLUSIVE = "NotExclusive"
    CERTIFICATE_INACTIVE = "CertificateInactive"
    UNPARSEABLE = "Unparseable"
    EXPIRED = "Expired"
    REPEATEDLY_FAILED = "RepeatedlyFailed"


class KeyStorage(StrEnum):
    """Where a device keeps its credential."""

    FILES = "files"
    SOFTHSM = "softhsm"


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True, arbitrary_types_allowed=True
    )


class AgeSpan(_Model):
    """A range of ages, spread evenly over the devices of an entry, youngest first."""

    youngest: Duration = Field(alias="from")
    oldest: Duration = Field(alias="to")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.youngest > self.oldest:
            raise ValueError("'from' is the youngest age and may not exceed 'to'")
        return self

    def at(self, index: int, count: int) -> timedelta:
        """Return the age of device ``index`` of ``count``."""
        if count == 1:
            return self.oldest
        return self.youngest + (self.oldest - self.youngest) * index / (count - 1)


class Authority(_Model):
    """A private CA that the sandbox runs under this ARN."""

    name: Name
    arn: Annotated[str, Field(pattern=r"^arn:aws:acm-pca:[a-z0-9-]+:\d{12}:certificate-authority/[0-9a-f-]{36}$")]
    key_algorithm: Literal["RSA_2048", "RSA_3072", "RSA_4096", "EC_prime256v1", "EC_secp384r1", "EC_secp521r1"] = (
        "EC_prime256v1"
    )
    signing_algorithm: CaSigningAlgorithm = CaSigningAlgorithm.SHA256_ECDSA
    validity: Duration = timedelta(days=365)  # of what the backend lets it issue


class FleetGroup(_Model):
    """A thing group."""

    name: Name
    parent: Name | None = None


class Devices(_Model):
    """A number of like devices: ``prefix`` and a running number from 001 name them."""

    prefix: Annotated[str, Field(pattern=r"^[a-zA-Z0-9:_-]+$")]
    count: Annotated[int, Field(ge=1, le=MAX_DEVICES)] = 1
    groups: tuple[Name, ...]
    age: AgeSpan | Duration
    lifetime: Duration | None = None  # None: until 2049-12-31T23:59:59Z, as AWS IoT issues
    key_type: KeyType = KeyType.RSA_2048
    authority: Name = AWS_IOT_AUTHORITY
    storage: KeyStorage = KeyStorage.FILES
    processes: Annotated[int, Field(ge=0)] = 0  # how many run the real component as a process of its own
    misfit: Misfit | None = None
    online: bool = True
    nucleus: Profile = Profile.CLASSIC  # of the processes
    restart_takes: Duration = timedelta()  # of a process' nucleus, beyond what it takes here

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(longest := self.names()[-1]) > MAX_NAME:
            raise ValueError(f"{longest!r} has {len(longest)} characters; a thing name has at most {MAX_NAME}")
        if self.processes > self.count:
            raise ValueError(f"processes is {self.processes}, more than the {self.count} devices")
        if self.storage is KeyStorage.SOFTHSM and self.nucleus is not Profile.CLASSIC:
            raise ValueError("nucleus lite has no PKCS#11 provider of this kind: set nucleus to classic")
        if self.storage is KeyStorage.SOFTHSM and self.processes < self.count:
            raise ValueError("a token needs a process of its own: set processes to count, or storage to files")
        if self.misfit is Misfit.EXPIRED and self.lifetime is None:
            raise ValueError("an expired certificate needs a lifetime below its age")
        return self

    def names(self) -> list[str]:
        """Return the thing names."""
        return [f"{self.prefix}{number:03d}" for number in range(1, self.count + 1)]

    def age_of(self, index: int) -> timedelta:
        """Return the age of the certificate of device ``index``, from 0."""
        return self.age.at(index, self.count) if isinstance(self.age, AgeSpan) else self.age


class FleetBackend(_Model):
    """The cloud side of the rotations."""

    stack_name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]{0,39}$")] = DEFAULT_STACK_NAME


class SandboxFleet(_Model):
    """A whole fleet file."""

    account: Annotated[str, Field(pattern=r"^\d{12}$")] = "123456789012"
    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")] = "eu-west-1"
    backend: FleetBackend = FleetBackend()
    authorities: tuple[Authority, ...] = ()
    groups: tuple[FleetGroup, ...]
    devices: tuple[Devices, ...]

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        groups = {group.name for group in self.groups}
        authorities = {authority.name for authority in self.authorities} | {AWS_IOT_AUTHORITY}
        problems = [
            f"group {group.name!r} has the unknown parent {group.parent!r}"
            for group in self.groups
            if group.parent is not None and group.parent not in groups
        ]
        names: set[str] = set()
        for devices in self.devices:
            problems += [
                f"devices {devices.prefix!r} are in the unknown group {group!r}; known: {sorted(groups)}"
                for group in devices.groups
                if group not in groups
            ]
            if devices.authority not in authorities:
                problems.append(
                    f"devices {devices.prefix!r} have the unknown authority {devices.authority!r}; "
                    f"known: {sorted(authorities)}"
                )
            twice = names.intersection(devices.names())
            problems += [f"two devices are called {name!r}" for name in sorted(twice)[:3]]
            names.update(devices.names())
        if problems:
            raise ValueError("; ".join(problems))
        return self


def load_fleet_file(path: Path) -> SandboxFleet:
    """Read and check a fleet file."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise FleetFileError(f"{path}: larger than {MAX_FILE_BYTES} bytes", "Use counts instead of single devices.")
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        return SandboxFleet.model_validate(document)
    except OSError as error:
        raise FleetFileError(f"{path}: {error.strerror}", "Name a fleet file; docs/sandbox.md shows one.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FleetFileError(f"{path}: no YAML: {error}", "docs/sandbox.md shows a fleet file.") from error
    except ValidationError as error:
        lines = [
            f"{path}: {'.'.join(str(part) for part in e['loc']) or 'document'}: {e['msg']}" for e in error.errors()
        ]
        raise FleetFileError("\n".join(lines), "docs/sandbox.md shows a fleet file.") from None
