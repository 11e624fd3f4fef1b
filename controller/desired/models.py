"""The documents as they are written: one model a kind, field by field.

These are the source of the JSON Schema and of the reference page. A model checks field by field;
every rule over two fields or two documents is checked in ``document_checks`` and ``fleet_checks``.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from controller.reconcile.values import (
    LOOK_BACK,
    MAX_POLICY_NAME,
    FailureType,
    Mode,
    SharedCertificate,
    Stratum,
    WaveSize,
    WindowKind,
)
from protocol.algorithms import CaSigningAlgorithm, CsrSigningAlgorithm, KeyType
from protocol.names import DEFAULT_STACK_NAME

from .fields import Choice, Pattern, Percentage, Text, Truth, Wave, Whole
from .time_fields import Cron, DurationField, Instant, TimeZone

API_VERSION = "certfleet/v1"
MAX_JITTER_PERCENT = 50  # beyond half a life, new certificates would be brought forward to the day they were issued
MAX_WAVES = 50
MAX_LIST = 10_000

_DAY, _HOUR, _MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
LONGEST_KNOWN = LOOK_BACK - 5 * _DAY
"""The longest span that a policy may count from the end of a rotation: no run reads jobs that ended long before."""
_THING = Pattern(r"[a-zA-Z0-9:_-]{1,128}", "1 to 128 of letters, digits, colon, underscore and hyphen")
_ATTRIBUTE = Pattern(r"[a-zA-Z0-9_.,@/:#-]{1,128}", "the name of a thing attribute, such as site")
_CERTIFICATE = Pattern(r"[0-9a-f]{64}", "the id of a certificate: 64 of 0-9 and a-f")
_NAME = Pattern(r"[a-z0-9][a-z0-9-]{0,62}", "1 to 63 of a-z, 0-9 and hyphen, not starting with a hyphen")
_POLICY_NAME = Pattern(
    rf"[a-z0-9][a-z0-9-]{{0,{MAX_POLICY_NAME - 1}}}",
    f"1 to {MAX_POLICY_NAME} of a-z, 0-9 and hyphen, not starting with a hyphen",
)
_AUTHORITY_NAME = _NAME
_PARTITION = "arn:aws(?:-[a-z]+)*"
_RoleArn = Annotated[
    str, Pattern(rf"{_PARTITION}:iam::[0-9]{{12}}:role/[\w+=,.@/-]{{1,512}}", "the ARN of an IAM role")
]


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=to_camel,
        arbitrary_types_allowed=True,
        defer_build=True,  # parts of a document are checked by it, and seldom alone
    )


class Metadata(_Model):
    """The name of a document."""

    name: Annotated[str, _NAME] = Field(description="Unique among the documents of its kind in the fleet.")


class PolicyMetadata(_Model):
    """The name of a policy."""

    name: Annotated[str, _POLICY_NAME] = Field(description="Unique in the fleet; part of the ids of its AWS IoT jobs.")


class Document(_Model):
    """The fields of every document."""

    kind_name: ClassVar[str]
    purpose: ClassVar[str]

    api_version: Literal["certfleet/v1"] = Field(description="Version of this format.")


class Backend(_Model):
    """The deployed cloud side."""

    stack_name: Annotated[
        str, Pattern(r"[A-Za-z][A-Za-z0-9]{0,43}", "1 to 44 letters and digits, starting with a letter")
    ] = Field(
        default=DEFAULT_STACK_NAME,
        description="Name of the backend's stack; names of job template, shadow, rules and functions derive from it.",
    )


class Guardrails(_Model):
    """Refuse a plan that rotates, or cuts off, more than this at once."""

    max_change_percent: Annotated[int, Whole(1, 100)] = Field(
        default=30,
        description="Most devices that one plan may rotate, in per cent of those governed, per policy and per fleet.",
    )
    min_existing: Annotated[int, Whole(0, 1_000_000)] = Field(
        default=10, description="With fewer governed devices than this the percentage is not applied."
    )
    max_quarantined: Annotated[int, Whole(0, 1_000_000)] = Field(
        default=10, description="Most devices that may be in quarantine at the same time."
    )


class FleetSpec(_Model):
    """One AWS account and region."""

    account: Annotated[str, Pattern(r"[0-9]{12}", "twelve digits, in quotes", ("123456789012",))] = Field(
        description="The AWS account. Credentials of any other account are refused."
    )
    region: Annotated[str, Pattern(r"[a-z]{2,8}(?:-[a-z]+)+-[0-9]{1,2}", "an AWS region such as eu-west-1")] = Field(
        description="The AWS region."
    )
    role_arn: _RoleArn | None = Field(
        default=None,
        description="Role that `apply` and the reconcile function assume. Left out: the caller's own identity acts.",
    )
    read_role_arn: _RoleArn | None = Field(
        default=None,
        description="Role that every command but `apply` assumes. It only reads, so a pull request's preview cannot "
        "make a job. Left out: the role in `roleArn`.",
    )
    site_attribute: Annotated[str, _ATTRIBUTE] | None = Field(
        default=None,
        description="Thing attribute whose value reports show as a device's site. It is read from the listing of all "
        "things, which a look makes once a day anyway. Left out: no site is read, and reports have no such column.",
    )
    backend: Backend = Field(default=Backend(), description="The deployed cloud side.")
    guardrails: Guardrails = Field(default=Guardrails(), description="Limits on what a plan may change at once.")


class FleetDocument(Document):
    """The AWS account and region that a folder speaks of."""

    kind_name = "Fleet"
    purpose = "The AWS account and region that the documents of a folder speak of. Exactly one a folder."

    kind: Literal["Fleet"] = Field(description="Kind of the document.")
    metadata: Metadata = Field(description="Name of the fleet.")
    spec: FleetSpec = Field(description="The fleet.")


class CertificateAuthoritySpec(_Model):
    """A private CA of AWS Private CA."""

    type: Literal["PrivateCA"] = Field(description="The only type that is declared: `aws-iot` always exists.")
    arn: Annotated[
        str,
        Pattern(
            rf"{_PARTITION}:acm-pca:[a-z0-9-]+:[0-9]{{12}}:certificate-authority/[0-9a-f]{{8}}(?:-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}",
            "an ARN such as arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/ and a UUID",
        ),
    ] = Field(description="The CA, in the fleet's region. A CA of another account must be shared with the fleet's.")
    signing_algorithm: Annotated[CaSigningAlgorithm, Choice(CaSigningAlgorithm)] = Field(
        description="How the CA signs: an algorithm of the family of the CA's own key."
    )
    validity: Annotated[timedelta, DurationField(_DAY, 3_650 * _DAY, step=_DAY)] = Field(
        description="Validity of the certificates that the CA issues, in whole days."
    )
    template_arn: (
        Annotated[
            str,
            Pattern(
                rf"{_PARTITION}:acm-pca:::template/[A-Za-z0-9_]{{1,100}}/V[0-9]{{1,2}}", "an ACM-PCA template's ARN"
            ),
        ]
        | None
    ) = Field(default=None, description="ACM-PCA template. Left out: the CA's default for end entities.")


class CertificateAuthorityDocument(Document):
    """A private CA that policies may demand."""

    kind_name = "CertificateAuthority"
    purpose = "A private CA that policies may demand by name. AWS IoT's own CA, `aws-iot`, always exists."

    kind: Literal["CertificateAuthority"] = Field(description="Kind of the document.")
    metadata: Metadata = Field(description="Name by which policies call the authority.")
    spec: CertificateAuthoritySpec = Field(description="The authority.")


class CertificateSpec(_Model):
    """The demands of a policy on a certificate; a field that is left out stays as the device has it."""

    max_age: Annotated[timedelta, DurationField(_HOUR)] | None = Field(
        default=None, description="The greatest age of a certificate, from its notBefore. Left out: any age."
    )
    renew_before: Annotated[timedelta, DurationField(_HOUR)] | None = Field(
        default=None,
        description="How long before notAfter a certificate is replaced. Left out: only `maxAge` and "
        "`rotateIssuedBefore` ask for a new one in time.",
    )
    key_type: Annotated[KeyType, Choice(KeyType)] | None = Field(
        default=None, description="The key that each device must hold. Left out: each keeps its key type."
    )
    csr_signing_algorithm: Annotated[CsrSigningAlgorithm, Choice(CsrSigningAlgorithm)] | None = Field(
        default=None,
        description="How devices sign their requests; needs `keyType`, of the same family. Left out: SHA-256 with the "
        "key's own family.",
    )
    authority: Annotated[str, _AUTHORITY_NAME] | None = Field(
        default=None,
        description="The issuer of the certificate: `aws-iot`, or the name of a CertificateAuthority. Left out: each "
        "device keeps the issuer that it has.",
    )
    rotate_issued_before: Annotated[datetime, Instant()] | None = Field(
        default=None,
        description="Every certificate issued earlier is replaced, and no window is awaited. Never in the future. Left "
        "out: no cutoff.",
    )
    shared_certificate: Annotated[SharedCertificate, Choice(SharedCertificate)] | None = Field(
        default=None,
        description="`split`: each of the things that share a certificate gets its own. Left out: such devices are "
        "blocked, and an operator decides.",
    )


class WindowSpec(_Model):
    """A recurring span of time."""

    cron: Annotated[str, Cron()] = Field(
        description="When the window opens: minute hour day-of-month month day-of-week."
    )
    timezone: Annotated[str, TimeZone()] = Field(description="The time zone in which the cron expression is read.")
    duration: Annotated[timedelta, DurationField(_MINUTE, 31 * _DAY, step=_MINUTE)] = Field(
        description="How long the window stays open, in elapsed time."
    )
    kind: Annotated[WindowKind, Choice(WindowKind)] = Field(
        default=WindowKind.ALLOW, description="`allow` opens time for rotations, `deny` closes it; deny beats allow."
    )


class ScheduleSpec(_Model):
    """When devices rotate."""

    jitter_percent: Annotated[int, Whole(0, MAX_JITTER_PERCENT)] = Field(
        default=10, description="How far rotations are brought forward at most, in per cent of a certificate's life."
    )
    windows: Annotated[tuple[WindowSpec, ...], Field(max_length=20, strict=False)] = Field(
        default=(), description="Maintenance windows. Left out: devices rotate at any time."
    )
    least_interval: Annotated[timedelta, DurationField(timedelta(0), LONGEST_KNOWN)] = Field(
        default=_DAY,
        description="How long a device is left alone after a rotation, whatever the reason for the next. An incident "
        "does not wait for it. Never more than half of the certificate's life.",
    )


class AbortSpec(_Model):
    """Cancel a wave when too many of its devices end badly."""

    failure_type: Annotated[FailureType, Choice(FailureType)] = Field(description="The endings that count.")
    threshold_percentage: Annotated[float, Percentage()] = Field(
        description="Cancel at this many per cent of the devices that have ended."
    )
    min_number_of_executed_things: Annotated[int, Whole(1, 1_000_000)] = Field(
        description="Not before this many devices have ended."
    )


class RolloutSpec(_Model):
    """How many at once."""

    waves: Annotated[
        tuple[Annotated[WaveSize, Wave()], ...], Field(min_length=1, max_length=MAX_WAVES, strict=False)
    ] = Field(
        default=(WaveSize(100, is_percent=True),),
        description="Cumulative sizes: counts first, then percentages, increasing, the last one `100%`.",
    )
    soak: Annotated[timedelta, DurationField(timedelta(0), LONGEST_KNOWN)] = Field(
        default=_DAY, description="How long a wave must have been healthy before the next one starts."
    )
    max_in_flight: Annotated[int, Whole(1, 1_000_000)] = Field(
        default=500, description="Most devices that rotate at the same time."
    )
    maximum_per_minute: Annotated[int, Whole(1, 1_000)] = Field(
        default=100, description="Most devices that are asked to rotate within a minute."
    )
    timeout: Annotated[timedelta, DurationField(_MINUTE, 10_080 * _MINUTE, step=_MINUTE)] = Field(
        default=5 * _MINUTE, description="How long a device may take once it has begun, in whole minutes."
    )
    retries: Annotated[int, Whole(0, 10)] = Field(default=2, description="How often AWS IoT repeats a failed device.")
    abort: Annotated[tuple[AbortSpec, ...], Field(max_length=10, strict=False)] = Field(
        default=(),
        description="When to cancel a wave. Left out: at 25 % of at least 10 devices, or 50 % of at least 3.",
    )
    stragglers_after: Annotated[timedelta, DurationField(_MINUTE, 365 * _DAY)] = Field(
        default=_DAY,
        description="Devices queued longer than this leave the wave and wait in the policy's standing job.",
    )
    offline_first: Annotated[bool, Truth()] = Field(
        default=False,
        description="Once the first wave is healthy, devices that will expire before they are likely to be seen again "
        "are asked in the policy's standing job, ahead of their wave. Left out: they wait for their wave.",
    )


class SuspendSpec(_Model):
    """A pause."""

    reason: Annotated[str, Text()] = Field(description="Why, for every report.")
    until: Annotated[datetime, Instant()] = Field(description="When the policy acts again by itself.")


class RotationPolicySpec(_Model):
    """The rules for the devices of a thing group."""

    thing_group: Annotated[str, _THING] = Field(description="The thing group that is governed, with its child groups.")
    priority: Annotated[int, Whole(-1_000, 1_000)] = Field(
        default=0, description="If two policies name a device, the higher one governs; a tie is an error."
    )
    certificate: CertificateSpec = Field(description="Demands on the certificate.")
    schedule: ScheduleSpec = Field(default=ScheduleSpec(), description="When devices rotate.")
    rollout: RolloutSpec = Field(default=RolloutSpec(), description="How many at once.")
    mode: Annotated[Mode, Choice(Mode)] = Field(
        default=Mode.ENFORCE, description="`report` assesses and reports, and never rotates."
    )
    suspend: SuspendSpec | None = Field(
        default=None, description="A pause: no rotation starts until it ends. Left out: the policy acts."
    )


class RotationPolicyDocument(Document):
    """The rules for the devices of a thing group."""

    kind_name = "RotationPolicy"
    purpose = "How old a certificate may get, what key it must hold and who must have issued it, for a thing group."

    kind: Literal["RotationPolicy"] = Field(description="Kind of the document.")
    metadata: PolicyMetadata = Field(description="Name of the policy.")
    spec: RotationPolicySpec = Field(description="The policy.")


class WaiverSpec(_Model):
    """Devices that are left out for a while."""

    devices: Annotated[tuple[Annotated[str, _THING], ...], Field(min_length=1, max_length=MAX_LIST, strict=False)] = (
        Field(description="Thing names.")
    )
    owner: Annotated[str, Text()] = Field(description="Person who answers for the exception.")
    reason: Annotated[str, Text()] = Field(description="Why, for every report.")
    expires: Annotated[datetime, Instant()] = Field(
        description="From then on the waiver is an error: renew or remove it."
    )


class WaiverDocument(Document):
    """Devices that are left out of rotation for a while."""

    kind_name = "Waiver"
    purpose = "Devices that are left out of rotation until a date, and who answers for that."

    kind: Literal["Waiver"] = Field(description="Kind of the document.")
    metadata: Metadata = Field(description="Name of the waiver.")
    spec: WaiverSpec = Field(description="The waiver.")


class QuarantineSpec(_Model):
    """The devices to cut off: devices with all that they hold, single certificates, or both; at least one is named."""

    devices: Annotated[tuple[Annotated[str, _THING], ...], Field(max_length=MAX_LIST, strict=False)] = Field(
        default=(),
        description="Thing names: every certificate that these hold, whenever it was made. Left out: only the named "
        "certificates.",
    )
    certificates: Annotated[tuple[Annotated[str, _CERTIFICATE], ...], Field(max_length=MAX_LIST, strict=False)] = Field(
        default=(),
        description="Ids of certificates: these alone. A device that has rotated since goes on with its new one. Left "
        "out: only the named devices.",
    )
    owner: Annotated[str, Text()] = Field(description="Person who answers for the quarantine.")
    reason: Annotated[str, Text()] = Field(description="Why, for every report.")
    since: Annotated[datetime, Instant()] = Field(description="When it was decided. Never in the future.")


class QuarantineDocument(Document):
    """Devices that are cut off."""

    kind_name = "Quarantine"
    purpose = (
        "Devices that are cut off as long as the document stands: their certificates are INACTIVE, and nobody rotates "
        "them. `certfleet heal` carries it out, and takes it back when the document is gone."
    )

    kind: Literal["Quarantine"] = Field(description="Kind of the document.")
    metadata: Metadata = Field(description="Name of the quarantine.")
    spec: QuarantineSpec = Field(description="The quarantine.")


class IncidentSpec(_Model):
    """The compromised certificates: those that match every condition that is given; at least one is."""

    reason: Annotated[str, Text()] = Field(description="Short account of what happened, for every report.")
    deadline: Annotated[datetime, Instant()] = Field(description="When the last matching certificate must be replaced.")
    authority: Annotated[str, _AUTHORITY_NAME] | None = Field(
        default=None, description="Issued by this authority. Left out: by any."
    )
    key_type: Annotated[KeyType, Choice(KeyType)] | None = Field(
        default=None, description="Holds a key of this type. Left out: of any type."
    )
    issued_after: Annotated[datetime, Instant()] | None = Field(
        default=None, description="Issued at or after this instant. Left out: from the first one on."
    )
    issued_before: Annotated[datetime, Instant()] | None = Field(
        default=None, description="Issued before this instant. Never in the future. Left out: up to now."
    )
    ignore_windows: Annotated[bool, Truth()] = Field(default=True, description="Whether windows are ignored.")
    accepted_losses: Annotated[tuple[Annotated[str, _THING], ...], Field(max_length=MAX_LIST, strict=False)] = Field(
        default=(),
        description="Thing names of devices that no longer count: the incident may end although they still match. Left "
        "out: every matching device counts.",
    )


class IncidentDocument(Document):
    """Certificates that are declared compromised."""

    kind_name = "Incident"
    purpose = "An authority, a key type or a period of issue declared compromised, with a deadline."

    kind: Literal["Incident"] = Field(description="Kind of the document.")
    metadata: Metadata = Field(description="Name of the incident.")
    spec: IncidentSpec = Field(description="The incident.")


class SampleSpec(_Model):
    """How the devices were chosen."""

    of: Annotated[int, Whole(1, 10_000_000)] = Field(
        description="How many devices the policy governed when the sample was drawn from them."
    )
    count: Annotated[int, Whole(1, MAX_LIST)] | None = Field(
        default=None, description="How many are drawn, by chance. Left out: all that are in the group."
    )
    group: Annotated[str, _THING] | None = Field(
        default=None, description="Thing group that they are drawn from. Left out: from all devices of the policy."
    )
    stratify_by: Annotated[Stratum, Choice(Stratum)] | None = Field(
        default=None,
        description="Each key type, authority or group has its share of the sample. Left out: chance alone.",
    )


class DrillSpec(_Model):
    """An incident that is practised, and on whom."""

    policy: Annotated[str, _POLICY_NAME] = Field(description="The policy whose devices practise.")
    reason: Annotated[str, Text()] = Field(description="Short account of what is practised, for every report.")
    since: Annotated[datetime, Instant()] = Field(
        description="When it was decided. Older certificates are rotated, and times are measured from here. Never "
        "in the future."
    )
    deadline: Annotated[datetime, Instant()] = Field(
        description="When the last device should be done. From then on no device is asked."
    )
    ignore_windows: Annotated[bool, Truth()] = Field(
        default=False, description="Whether windows are ignored, as in an incident."
    )
    sample: SampleSpec = Field(description="How the devices were chosen.")
    devices: Annotated[tuple[Annotated[str, _THING], ...], Field(min_length=1, max_length=MAX_LIST, strict=False)] = (
        Field(description="Thing names, as `certfleet drill` has drawn them: nobody else is touched.")
    )


class DrillDocument(Document):
    """An incident that is practised."""

    kind_name = "Drill"
    purpose = (
        "An incident that is practised: some devices of a policy rotate as if what they hold were compromised. "
        "`certfleet drill` draws the devices and writes the document."
    )

    kind: Literal["Drill"] = Field(description="Kind of the document.")
    metadata: Metadata = Field(description="Name of the drill.")
    spec: DrillSpec = Field(description="The drill.")


KINDS: dict[str, type[Document]] = {
    model.kind_name: model
    for model in (
        FleetDocument,
        CertificateAuthorityDocument,
        RotationPolicyDocument,
        WaiverDocument,
        QuarantineDocument,
        IncidentDocument,
        DrillDocument,
    )
}
"""Every kind by its name, in the order of the reference."""
