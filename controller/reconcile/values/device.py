"""The values that AWS reports: devices, their certificates and their job executions, as values.

``controller.fleet`` builds these from the registry; a fleet may have a million, so they are small.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from protocol import deployment
from protocol.algorithms import Family
from protocol.deployment import EXCLUSIVELY
from protocol.messages import ExecutionStatus

from .words import count_text, names_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from protocol.deployment import DeployedBackend
    from protocol.job_document import JobDocument

    from .absence import Absences

CLOCK_GRAIN = timedelta(seconds=2)  # AWS gives some instants in whole seconds
UNHEARD_OF = "UNHEARD_OF"
"""The name of every value that this version does not know."""


FAILED = frozenset({ExecutionStatus.FAILED, ExecutionStatus.TIMED_OUT, ExecutionStatus.REJECTED})
"""How an execution ends without success: by the device's word, its time limit, or its refusal."""

_FAMILIES = {"RSA": Family.RSA, "EC": Family.ECDSA}  # how the names of AWS Private CA's key algorithms begin


class _Open(StrEnum):
    """Values that AWS may add to: one that is not known here is a value of its own, and equal to no known one."""

    @classmethod
    def _missing_(cls, value: object) -> Self:
        unheard_of: Self = _unheard_of(cls, value)
        return unheard_of


def _unheard_of(kind: Any, value: object) -> Any:
    made = str.__new__(kind, value)
    made._name_, made._value_ = UNHEARD_OF, str(value)
    return made


class CertificateStatus(_Open):
    """Statuses of a certificate in the AWS IoT registry."""

    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"
    REVOKED = "REVOKED"
    PENDING_TRANSFER = "PENDING_TRANSFER"
    PENDING_ACTIVATION = "PENDING_ACTIVATION"
    REGISTER_INACTIVE = "REGISTER_INACTIVE"


class AttachmentType(_Open):
    """How a certificate is attached to a thing."""

    EXCLUSIVE = deployment.EXCLUSIVE
    NON_EXCLUSIVE = deployment.NON_EXCLUSIVE


def execution_status(value: str) -> ExecutionStatus:
    """Return an execution's status as AWS gives it.

    One that is not known here has not ended, as far as anybody can know.
    """
    try:
        return ExecutionStatus(value)
    except ValueError:
        unheard_of: ExecutionStatus = _unheard_of(ExecutionStatus, value)
        return unheard_of


def may_be_at_work(status: ExecutionStatus) -> bool:
    """Return whether a device is at its part of a job, or may be for all that is known here."""
    return status is not ExecutionStatus.QUEUED and not status.is_terminal


@dataclass(frozen=True, slots=True)
class Certificate:
    """One registered certificate. A field that comes from the PEM is None if it could not be parsed."""

    certificate_id: str
    status: CertificateStatus
    created_at: datetime
    key_type: str | None = None  # a KeyType's value, or what was found, such as RSA-4096
    signature_algorithm: str | None = None  # such as sha256WithRSAEncryption
    issuer: str | None = None  # RFC 4514
    authority: str | None = None  # name of the desired state's authority; None: issued by no known one
    not_before: datetime | None = None
    not_after: datetime | None = None
    parse_error: str | None = None


@dataclass(frozen=True, slots=True)
class Attachment:
    """A certificate attached to a device; ``shared_with`` names other things that hold it too, but for ``unnamed``."""

    certificate: Certificate
    type: AttachmentType
    shared_with: tuple[str, ...] = ()
    unnamed: int = 0  # of other things that hold it: how many are not named

    @property
    def others(self) -> int:
        """How many other things hold it."""
        return len(self.shared_with) + self.unnamed

    @property
    def others_text(self) -> str:
        """How many other things hold it, and which, as words."""
        names = names_text(self.shared_with, unnamed=self.unnamed)
        return f"{count_text(self.others, 'other thing')}: {names}"


@dataclass(frozen=True, slots=True)
class DeviceExecution:
    """A device's part of one rotation job."""

    job_id: str
    status: ExecutionStatus
    queued_at: datetime
    last_updated_at: datetime
    started_at: datetime | None = None
    failure_reason: str | None = None  # what the device said
    component_version: str | None = None  # that ran it, where the device said so
    first_queued_at: datetime | None = None  # in its first attempt, if AWS IoT has repeated it and that is known

    def was_of_another(self, component_version: str | None) -> bool:
        """Return whether another version of the component ran it: what failed then shows nothing of this one."""
        return None not in {self.component_version, component_version} and self.component_version != component_version

    def was_looked_at(self, resumed: datetime | None) -> bool:
        """Return whether it had ended when a person looked and resumed.

        If both fall into the same second nobody can know, and it counts as not ended.
        """
        return resumed is not None and self.last_updated_at < resumed

    def brought(self, made: datetime) -> bool:
        """Return whether it brought a certificate that was made then: between being asked first and its end.

        A device that is too slow for the time limit of its job may rotate no less, in an attempt that AWS IoT has
        repeated too; one that never began has not.
        """
        asked = self.first_queued_at or (self.queued_at if self.status is ExecutionStatus.SUCCEEDED else None)
        since = asked or self.started_at
        return since is not None and since - CLOCK_GRAIN <= made <= self.last_updated_at + CLOCK_GRAIN


@dataclass(frozen=True, slots=True)
class Preflight:
    """A device's last answer to the question whether a rotation would begin."""

    job_id: str
    at: datetime
    asked: JobDocument  # the rotation that was asked about
    reason: str | None = None  # why it would fail; None: it would begin


@dataclass(frozen=True, slots=True)
class Device:
    """A thing, with the certificates attached to it.

    ``groups`` holds the thing groups that policies name and this thing is in, directly or through
    child groups. ``failures`` are ended, unsuccessful executions since the certificate was created,
    oldest first. ``executions`` are those that have not ended, of rotation jobs only.
    """

    name: str
    groups: tuple[str, ...]
    attachments: tuple[Attachment, ...] = ()
    executions: tuple[DeviceExecution, ...] = ()
    failures: tuple[DeviceExecution, ...] = ()
    last_seen: datetime | None = None  # last connection known, where presence is known
    component_version: str | None = None
    key_algorithm: str | None = None  # that its component is set to make where no job says; None: not known
    setting_unknown: str | None = None  # why that is not known, as a sentence
    preflight: Preflight | None = None
    absences: Absences | None = None  # None: none is known


@dataclass(frozen=True, slots=True)
class RotationJob:
    """One AWS IoT job that rotates credentials, or asks for a pre-flight, with its executions if they were read."""

    job_id: str
    status: str  # IN_PROGRESS, COMPLETED, CANCELED, SCHEDULED, DELETION_IN_PROGRESS
    created_at: datetime
    policy: str | None = None  # from the job document; None on a stock job
    commit: str | None = None
    wave: int | None = None  # from the job id; None on a job that is not ours
    completed_at: datetime | None = None
    is_continuous: bool = False
    executions: dict[str, DeviceExecution] = field(default_factory=dict)  # by thing name
    document: str | None = None  # as JSON text, where it was read


@dataclass(frozen=True, slots=True)
class Halt:
    """A rollout that has stopped: it goes on once a person allows it, or the policy's certificate rule changes."""

    family: str  # of the rollout
    known_until: datetime  # then the first of what stopped it may have become too old to be read


@dataclass(frozen=True, slots=True)
class Baseline:
    """The devices that were governed at the last apply, as AWS keeps them; see ``controller.fleet.baseline``."""

    group_sizes: Mapping[str, int]  # things in each group that a policy named
    ungoverned: Mapping[str, int] = field(default_factory=dict)  # of the groups that none names now: things left over
    commit: str | None = None  # that was applied
    committed_at: datetime | None = None  # of that commit, or when it was applied if its date was still to come
    resumed: Mapping[str, datetime] = field(default_factory=dict)  # by policy: what failed until then was looked at
    halted: Mapping[str, Halt] = field(default_factory=dict)  # by policy
    applied_at: datetime | None = None  # when an apply last came to its end, give or take a day; None: nobody noted it
    version: int | None = None  # of the record when this was read: whoever writes it next must have seen it


@dataclass(frozen=True, slots=True)
class StockBackend:
    """How a stock backend issues, whatever it is asked."""

    arn: str | None = None  # of its private CA; None: AWS IoT's own
    validity: timedelta | None = None  # of a private CA's certificates
    unknown: str | None = None  # why nothing of this is known, as a sentence


@dataclass(frozen=True, slots=True)
class PrivateCa:
    """A CA of AWS Private CA, as it describes itself."""

    status: str  # ACTIVE, or why it issues nothing: DISABLED, EXPIRED, DELETED …
    key_algorithm: str  # such as RSA_2048, EC_prime256v1
    is_short_lived: bool = False  # its mode: only for certificates of a few days
    not_after: datetime | None = None

    @property
    def family(self) -> Family | None:
        """The family of the CA's key; None for an algorithm that is not known here."""
        return next((family for prefix, family in _FAMILIES.items() if self.key_algorithm.startswith(prefix)), None)


@dataclass(frozen=True, slots=True)
class FleetState:
    """The actual state of one fleet at one moment, but for the devices, which are streamed."""

    observed_at: datetime
    group_sizes: dict[str, int] = field(default_factory=dict)  # things in each governed group
    group_arns: dict[str, str] = field(default_factory=dict)
    jobs: tuple[RotationJob, ...] = ()  # in flight, and ended within the look-back of the reader
    checks: tuple[RotationJob, ...] = ()  # likewise; they rotate nobody
    backend_is_stock: bool = False  # the job template's document is exactly the stock one
    unmanaged: tuple[str, ...] = ()  # things that no policy governs; the first thousand
    unmanaged_count: int | None = 0  # None: not counted yet
    stock: StockBackend = StockBackend(unknown="nobody has looked at how the stock backend is set")
    baseline: Baseline | None = None  # None: nothing was recorded
    deployment: DeployedBackend | None = None  # what the backend publishes of itself; None: a stock one, or not known
    deployment_unknown: str | None = None  # why it is not known, as a sentence
    private_cas: Mapping[str, PrivateCa] = field(default_factory=dict)  # by ARN: those of git that could be asked
    cas_unknown: tuple[str, ...] = ()  # why others are not known, as sentences
    shared: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Certificates that several things hold or have held, if they are split; of those that no governed thing holds
    any more, who does."""
    shared_unknown: str | None = None  # why those are not known, as a sentence

    @property
    def splits(self) -> bool:
        """Whether the backend replaces a certificate that other things hold too."""
        return self.deployment is not None and self.deployment.splits

    @property
    def rotatable(self) -> frozenset[str]:
        """The types of attachment from which the backend rotates a certificate that is one thing's alone."""
        return self.deployment.attachments if self.deployment else EXCLUSIVELY
