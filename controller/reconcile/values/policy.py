"""The values that git holds: the desired state, resolved and checked, as values.

``controller.desired`` builds these from YAML documents; nothing here knows of files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from protocol.names import AWS_IOT_AUTHORITY, DEFAULT_STACK_NAME, BackendNames

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from protocol.algorithms import CaSigningAlgorithm, CsrSigningAlgorithm, KeyType


BEARS_ON = "bears_on"
"""Under this name the metadata of a document's field shows what changing it does: a ``Bearing``."""


class Bearing(StrEnum):
    """The part of a rotation that a field of a document bears on; of a section it holds for all that stands in it."""

    ROTATION = "rotation"  # what a certificate must be: the policy's rollout starts anew with its first wave
    ROLLOUT = "rollout"  # who is reached when: a rollout under way goes on otherwise
    NEITHER = "neither"  # names, reasons, and how certfleet itself reaches the fleet


_ROTATION, _ROLLOUT, _NEITHER = ({BEARS_ON: bearing} for bearing in Bearing)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a document stands: path (from the repository's root, if there is one) and line of each field.

    ``lines`` maps a dotted field path (``spec.certificate.maxAge``) to its line; ``line`` is the
    document's first.
    """

    path: str
    line: int
    lines: Mapping[str, int] = field(default_factory=dict)

    def at(self, field_path: str) -> str:
        """``path:line`` of the field, or of its nearest enclosing field that has a line."""
        while field_path:
            if field_path in self.lines:
                return f"{self.path}:{self.lines[field_path]}"
            field_path = field_path.rpartition(".")[0]
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class Guardrails:
    """Refuse a plan that rotates, or cuts off, more than this at once."""

    max_change_percent: int = 30  # of the devices governed, per policy and per fleet
    min_existing: int = 10  # below this many governed devices the percentage is not applied
    max_quarantined: int = 10  # devices that may be in quarantine at the same time


@dataclass(frozen=True, slots=True)
class Fleet:
    """One AWS account and region."""

    name: str
    account: str = field(metadata=_NEITHER)
    region: str = field(metadata=_NEITHER)
    source: Source
    role_arn: str | None = field(default=None, metadata=_NEITHER)  # assumed by who changes something
    read_role_arn: str | None = field(default=None, metadata=_NEITHER)  # by who only reads; None: as role_arn
    site_attribute: str | None = field(default=None, metadata=_NEITHER)  # of a thing; reports show its value
    stack_name: str = field(default=DEFAULT_STACK_NAME, metadata=_NEITHER)
    guardrails: Guardrails = field(default=Guardrails(), metadata=_ROLLOUT)

    @property
    def backend(self) -> BackendNames:
        """Names of the fleet's backend."""
        return BackendNames(self.stack_name)


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """A CA that policies may demand: AWS IoT's own, or a private CA of ACM-PCA."""

    name: str
    source: Source | None = None  # None for aws-iot, which always exists
    arn: str | None = field(default=None, metadata=_ROTATION)  # None for aws-iot
    signing_algorithm: CaSigningAlgorithm | None = field(default=None, metadata=_ROTATION)
    validity: timedelta | None = field(default=None, metadata=_ROTATION)
    template_arn: str | None = field(default=None, metadata=_ROTATION)

    @property
    def is_aws_iot(self) -> bool:
        """Whether this is AWS IoT's own CA."""
        return self.name == AWS_IOT_AUTHORITY


class SharedCertificate(StrEnum):
    """How a certificate that several things hold is put right; a policy without it leaves that to a person."""

    SPLIT = "split"  # each thing gets its own


@dataclass(frozen=True, slots=True)
class CertificateRule:
    """The demands of a policy on a certificate; None demands nothing. New fields come last: docs/adding-a-reason.md."""

    max_age: timedelta | None = field(default=None, metadata=_ROTATION)  # from notBefore
    renew_before: timedelta | None = field(default=None, metadata=_ROTATION)  # before notAfter
    key_type: KeyType | None = field(default=None, metadata=_ROTATION)
    csr_signing_algorithm: CsrSigningAlgorithm | None = field(default=None, metadata=_ROTATION)
    rotate_issued_before: datetime | None = field(default=None, metadata=_ROTATION)
    authority: str | None = field(default=None, metadata=_ROTATION)
    shared_certificate: SharedCertificate | None = field(default=None, metadata=_ROTATION)


class Reason(StrEnum):
    """Every reason a device departs from its policy, and what it means. The order inside a group is the order shown."""

    meaning: str

    def __new__(cls, name: str, meaning: str) -> Self:
        """Return the reason of that name; its meaning is for readers who meet it first."""
        made = str.__new__(cls, name)
        made._value_, made.meaning = name, meaning
        return made

    # rotate
    AUTHORITY_TAINTED = (
        "AuthorityTainted",
        "An incident names the authority, or the key, of the certificate: it must be replaced.",
    )
    DRILLED = "Drilled", "A drill names the device, which therefore rotates as in an incident."
    ISSUED_BEFORE_CUTOFF = "IssuedBeforeCutoff", "The certificate was issued before the policy's rotateIssuedBefore."
    EXPIRING = "Expiring", "The certificate ends within the policy's renewBefore."
    AGE_EXCEEDED = "AgeExceeded", "The certificate is older than the policy's maxAge allows."
    KEY_TYPE_MISMATCH = "KeyTypeMismatch", "The key is of another type than the policy's keyType."
    AUTHORITY_MISMATCH = "AuthorityMismatch", "The certificate was issued by another authority than the policy's."
    # blocked
    POLICY_CONFLICT = "PolicyConflict", "Two policies of equal priority claim the device. Give one a higher priority."
    NO_CERTIFICATE = (
        "NoCertificate",
        "No certificate is attached to the thing. Provision it, or take it out of the group.",
    )
    EXTRA_CERTIFICATE = (
        "ExtraCertificate",
        "Several certificates are attached. Keep the one in use: certfleet heal plan finds it.",
    )
    SHARED_CERTIFICATE = (
        "SharedCertificate",
        "Several things hold one certificate: a rotation of one would take it from the others.",
    )
    NOT_EXCLUSIVE = "NotExclusive", "The certificate is attached so that other things may hold it as well."
    CERTIFICATE_INACTIVE = (
        "CertificateInactive",
        "The certificate is not ACTIVE, so that the device cannot connect to be rotated.",
    )
    UNPARSEABLE = "Unparseable", "The certificate cannot be read. Replace it by hand."
    EXPIRED = "Expired", "The certificate has ended: the device cannot connect any more. Provision it anew."
    UNSUPPORTED_BY_BACKEND = (
        "UnsupportedByBackend",
        "The stock backend would make something else than the policy demands.",
    )
    UNSUPPORTED_BY_COMPONENT = (
        "UnsupportedByComponent",
        "The stock component makes another key than the policy demands.",
    )
    RESULT_UNKNOWN = "ResultUnknown", "Nobody can know what a rotation would make of the device, so none is begun."
    ROTATION_INEFFECTIVE = (
        "RotationIneffective",
        "A rotation succeeded and did not put the finding right. Look at what is deployed.",
    )
    EXECUTION_UNKNOWN = (
        "ExecutionUnknown",
        "AWS IoT gives this part of a job a status that this version of certfleet does not know.",
    )
    PREFLIGHT_FAILED = "PreflightFailed", "The device has reported that the rotation that it needs would fail, and why."
    REPEATEDLY_FAILED = (
        "RepeatedlyFailed",
        "Rotations failed until certfleet gave up. Remove the cause that the device names.",
    )
    QUARANTINED = (
        "Quarantined",
        "A quarantine names the device, or its certificate: it is cut off, and nobody rotates it.",
    )
    WAIVED = "Waived", "A waiver leaves the device out until its end: a person has decided so."
    SUSPENDED = "Suspended", "The policy is suspended: a person has decided so."
    # waiting
    ROTATING = "Rotating", "A job asks the device now, or the device is rotating."
    STRAGGLER = "Straggler", "The device has not answered its job for long. It rotates when it comes back."
    ROTATED_RECENTLY = (
        "RotatedRecently",
        "The device was rotated within schedule.leastInterval. It waits for that to pass.",
    )
    BACKING_OFF = "BackingOff", "A rotation failed, and is tried again later."
    OUTSIDE_WINDOW = "OutsideWindow", "No maintenance window is open. The device rotates when one opens."
    NOT_YET_DUE = "NotYetDue", "The device is in sync and rotates soon."
    WAVE_SOAKING = "WaveSoaking", "The device must rotate, and its wave has not started: an earlier one goes first."


class WindowKind(StrEnum):
    """Whether a window opens or closes time; deny beats allow."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Window:
    """A recurring span: starts when the cron expression fires in the time zone, lasts ``duration``."""

    cron: str
    timezone: str
    duration: timedelta
    kind: WindowKind = WindowKind.ALLOW


@dataclass(frozen=True, slots=True)
class Schedule:
    """When devices rotate."""

    jitter_percent: int = 10  # of the certificate's life; only ever brings forward
    windows: tuple[Window, ...] = ()
    least_interval: timedelta = timedelta(hours=24)  # between two rotations of one device, whatever the reason

    @property
    def zones(self) -> tuple[str, ...]:
        """The time zones that its windows are written in."""
        return tuple(dict.fromkeys(window.timezone for window in self.windows))


@dataclass(frozen=True, slots=True)
class WaveSize:
    """A wave's cumulative size: a count of devices, or a percentage of the policy's devices."""

    value: int
    is_percent: bool

    def __str__(self) -> str:
        return f"{self.value}%" if self.is_percent else str(self.value)


class FailureType(StrEnum):
    """The failures that an abort rule counts, as AWS IoT Jobs spells it."""

    FAILED = "FAILED"
    REJECTED = "REJECTED"
    TIMED_OUT = "TIMED_OUT"
    ALL = "ALL"


@dataclass(frozen=True, slots=True)
class AbortRule:
    """Cancel a wave when so many per cent of the executed devices ended so."""

    failure_type: FailureType
    threshold_percentage: float
    min_number_of_executed_things: int


DEFAULT_BRAKES = (
    AbortRule(FailureType.ALL, 25.0, 10),
    AbortRule(FailureType.ALL, 50.0, 3),  # small waves and fleets
)
"""The rules that stop a wave, the last one too, if a policy sets none."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """How many devices rotate at once, in which waves, and which failures stop them."""

    waves: tuple[WaveSize, ...] = (WaveSize(100, is_percent=True),)
    soak: timedelta = timedelta(hours=24)
    max_in_flight: int = 500
    maximum_per_minute: int = 100
    timeout: timedelta = timedelta(minutes=5)  # from IN_PROGRESS; whole minutes on AWS
    retries: int = 2
    abort: tuple[AbortRule, ...] = ()
    stragglers_after: timedelta = timedelta(hours=24)
    offline_first: bool = False  # who may expire while away is asked ahead of its wave

    @property
    def brakes(self) -> tuple[AbortRule, ...]:
        """The abort rules, or those that hold if the policy gives none."""
        return self.abort or DEFAULT_BRAKES


class Mode(StrEnum):
    """Whether a policy acts."""

    ENFORCE = "enforce"
    REPORT = "report"


@dataclass(frozen=True, slots=True)
class Suspension:
    """A policy does not rotate until then; it expires by itself."""

    reason: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Policy:
    """A RotationPolicy document; governs the devices of its thing group and child groups."""

    name: str
    thing_group: str = field(metadata=_ROLLOUT)
    source: Source
    priority: int = field(default=0, metadata=_ROLLOUT)
    certificate: CertificateRule = field(default=CertificateRule(), metadata=_ROTATION)
    schedule: Schedule = field(default=Schedule(), metadata=_ROLLOUT)
    rollout: Rollout = field(default=Rollout(), metadata=_ROLLOUT)
    mode: Mode = field(default=Mode.ENFORCE, metadata=_ROLLOUT)
    suspend: Suspension | None = field(default=None, metadata=_ROLLOUT)


@dataclass(frozen=True, slots=True)
class Waiver:
    """Devices that are left out of rotation until ``expires``, and who answers for that."""

    name: str
    devices: frozenset[str] = field(metadata=_ROLLOUT)
    owner: str = field(metadata=_NEITHER)
    reason: str = field(metadata=_NEITHER)
    expires: datetime = field(metadata=_ROLLOUT)
    source: Source


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Devices, or the holders of certificates, that are cut off as long as the document stands."""

    name: str
    devices: frozenset[str] = field(metadata=_ROLLOUT)  # whatever certificates they hold
    certificates: frozenset[str] = field(metadata=_ROLLOUT)  # ids: these alone, whoever holds them
    owner: str = field(metadata=_NEITHER)
    reason: str = field(metadata=_NEITHER)
    since: datetime = field(metadata=_NEITHER)
    source: Source

    def concerns(self, device: str, certificates: Iterable[str]) -> bool:
        """Return whether it is about this device, or about a certificate that the device holds."""
        return device in self.devices or not self.certificates.isdisjoint(certificates)


@dataclass(frozen=True, slots=True)
class Incident:
    """An authority, key type or issue period declared compromised.

    A certificate matches when it matches every condition that is given; at least one is.
    """

    name: str
    reason: str = field(metadata=_NEITHER)
    deadline: datetime = field(metadata=_ROLLOUT)
    source: Source
    authority: str | None = field(default=None, metadata=_ROLLOUT)
    key_type: KeyType | None = field(default=None, metadata=_ROLLOUT)
    issued_after: datetime | None = field(default=None, metadata=_ROLLOUT)
    issued_before: datetime | None = field(default=None, metadata=_ROLLOUT)
    ignore_windows: bool = field(default=True, metadata=_ROLLOUT)
    accepted_losses: frozenset[str] = field(default=frozenset(), metadata=_ROLLOUT)


@dataclass(frozen=True, slots=True)
class DrillSample:
    """How a drill's devices were chosen; ``certfleet drill`` draws them, and the document names them."""

    of: int  # devices that the policy governed then
    count: int | None = None  # None: all that are in the group
    group: str | None = None  # among the devices of this thing group; None: of the whole policy
    stratify_by: Stratum | None = None  # as many of each kind, in proportion; None: whoever the draw meets

    def __str__(self) -> str:
        number = "all" if self.count is None else f"{self.count:,}"
        group = f" in the group {self.group}" if self.group else ""
        strata = f", in proportion by {self.stratify_by.value}" if self.stratify_by else ""
        return f"{number}{group} of {self.of:,}{strata}"


class Stratum(StrEnum):
    """The property that a stratified sample has in proportion."""

    KEY_TYPE = "keyType"
    AUTHORITY = "authority"
    GROUP = "group"  # those of the groups that policies name


@dataclass(frozen=True, slots=True)
class Drill:
    """An incident that is practised: devices of one policy rotate as if what they held at ``since`` were compromised.

    The document names its devices, so that a sample never grows by itself: who leaves the policy makes it smaller.
    """

    name: str
    policy: str = field(metadata=_ROLLOUT)
    reason: str = field(metadata=_NEITHER)
    since: datetime = field(metadata=_ROLLOUT)
    deadline: datetime = field(metadata=_ROLLOUT)  # from then on nobody is asked any more
    devices: frozenset[str] = field(metadata=_ROLLOUT)
    sample: DrillSample = field(metadata=_NEITHER)
    source: Source
    ignore_windows: bool = field(default=False, metadata=_ROLLOUT)

    def runs_at(self, now: datetime) -> bool:
        """Return whether it asks devices at that moment."""
        return self.since <= now < self.deadline


@dataclass(frozen=True, slots=True)
class DesiredState:
    """All documents of one fleet at one commit."""

    fleet: Fleet
    authorities: Mapping[str, CertificateAuthority]  # by name; always holds aws-iot
    policies: tuple[Policy, ...]
    waivers: tuple[Waiver, ...] = ()
    incidents: tuple[Incident, ...] = ()
    quarantines: tuple[Quarantine, ...] = ()
    drills: tuple[Drill, ...] = ()
    commit: str | None = None  # full hash; None outside a repository
    committed_at: datetime | None = None
    is_dirty: bool = False  # the documents differ from that commit
    ancestors: frozenset[str] | None = None  # the newest commits that this one contains; None: not known


def follows(
    ancestors: Container[str] | None, committed_at: datetime | None, last: str, last_committed_at: datetime | None
) -> bool:
    """Return whether a commit, of its ``ancestors`` and ``committed_at``, contains the ``last`` one applied.

    If nobody knows what it contains (a shallow clone, a bundle of before), it must at least be of a later second.
    """
    if ancestors is not None:
        return last in ancestors
    return committed_at is None or last_committed_at is None or committed_at > last_committed_at
