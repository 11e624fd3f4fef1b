"""The choices of a deployment: CDK context, and what the desired state holds already.

The three ``Pca…`` variables are those of the stock solution. The table of named authorities is read
from the ``CertificateAuthority`` documents of a desired-state folder (context ``DesiredState``), or
given as JSON in the context variable ``Authorities``; nothing else may issue. The roles of other
accounts are read from the ``Fleet`` documents of a folder (context ``Fleets``); no other is assumed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from backend.functions.environment import PrivateAuthority
from protocol.algorithms import CaSigningAlgorithm
from protocol.names import AWS_IOT_AUTHORITY, DEFAULT_STACK_NAME, BackendNames

from .documents import AssumedRoles, read_authorities, read_roles, read_thing_groups

_CA_ID = r"^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})?$"

_ENVIRONMENT = r"^[\w-]+$"
_BUCKET = r"^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?$"
_ROLE_ARN = r"arn:aws[\w-]*:iam::\d{12}:role/[\w+=,.@/-]+"
_ROLE_ARNS = rf"^({_ROLE_ARN}( {_ROLE_ARN})*)?$"
_PREFIX = r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w.-]+)+/?)?$"

RETENTIONS = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
)  # fmt: skip

_Roles = tuple[Annotated[str, Field(pattern=rf"^{_ROLE_ARN}$")], ...]


_STACK = r"^[A-Za-z][A-Za-z0-9]{0,39}$"


READ_OF_DOCUMENTS = {
    "DesiredState": "A folder whose `CertificateAuthority` documents become the table of named authorities, and whose "
    "`RotationPolicy` documents name thing groups that jobs may have as target. Left out: none.",
    "Authorities": 'The same table as JSON: `{"NAME": {"arn", "signingAlgorithm", "validitySeconds", '
    '"templateArn"}}`, of which the last may be missing. Left out: none.',
    "ThingGroups": "Further thing groups, by spaces, that jobs of the controller may have as target. Left out: those "
    "of `DesiredState`; if there are none, every group.",
    "Fleets": "A folder, such as `desired_state`, whose Fleet documents name roles of "
    "[other accounts](backend.md#several-accounts): the read role may assume each `readRoleArn`, the reconcile role "
    "and the reconcile function each `roleArn`, which must trust them. Left out: none.",
}
"""Context variables beside the fields of the settings, with their meaning."""


class StackSettings(BaseModel):
    """Everything that a deployment may choose."""

    model_config = ConfigDict(frozen=True)

    stack_name: str = Field(
        default=DEFAULT_STACK_NAME,
        alias="StackName",
        description="The stack's name, in letters and digits. Job template, shadow, rules and functions derive theirs "
        "from it. Beside a stock stack, take another name: [migration](migration.md).",
        pattern=_STACK,
    )
    replaces: str = Field(
        default="",
        alias="Replaces",
        description="The name of the stock stack that this one takes over from. Rotations that it has begun are "
        "looked up in the shadow of that name. Left out: none.",
        pattern=rf"({_STACK})?",
    )
    hears: bool = Field(
        default=True,
        alias="RulesEnabled",
        description="`false` makes rules and schedule, but switched off: for a stack that stands beside another one "
        "until it takes over.",
    )
    pca_ca_id: str = Field(
        default="",
        alias="PcaCaId",
        description="The id of the private CA for jobs that name no authority, as in the stock solution. Left out: "
        "AWS IoT issues.",
        pattern=_CA_ID,
    )
    pca_validity_days: int = Field(
        default=7,
        alias="PcaValidityInDays",
        description="How long the certificates of that CA are valid, in days.",
        ge=1,
    )
    pca_signing_algorithm: CaSigningAlgorithm = Field(
        default=CaSigningAlgorithm.SHA256_RSA,
        alias="PcaSigningAlgorithm",
        description="The algorithm that this CA signs with.",
    )
    github_repository: str = Field(
        default="",
        alias="GitHubRepository",
        description="`owner/name`: makes the [four roles](backend.md#roles-for-github) for its workflows. The account "
        "must have GitHub's OIDC provider. Left out: no roles.",
        pattern=r"^([\w.-]+/[\w.-]+)?$",
    )
    github_environment: str = Field(
        default="certfleet",
        alias="GitHubEnvironment",
        description="The environment whose jobs may assume the role for `reconcile`. The four environments must "
        "differ.",
        pattern=_ENVIRONMENT,
    )
    github_override_environment: str = Field(
        default="certfleet-override",
        alias="GitHubOverrideEnvironment",
        description="The environment whose jobs may assume that role to override a guardrail.",
        pattern=_ENVIRONMENT,
    )
    github_release_environment: str = Field(
        default="certfleet-release",
        alias="GitHubReleaseEnvironment",
        description="The environment whose jobs may assume the role for releases.",
        pattern=_ENVIRONMENT,
    )
    github_heal_environment: str = Field(
        default="certfleet-heal",
        alias="GitHubHealEnvironment",
        description="The environment whose jobs may assume the role for healing.",
        pattern=_ENVIRONMENT,
    )
    gitlab_project: str = Field(
        default="",
        alias="GitLabProject",
        description="`GROUP/PROJECT`, instead of `GitHubRepository`: makes [three roles](backend.md#roles-for-gitlab) "
        "for its pipelines. The account must have an OIDC provider of that host. Left out: no roles.",
        pattern=r"^([\w.-]+(/[\w.-]+)+)?$",
    )
    gitlab_host: str = Field(
        default="gitlab.com",
        alias="GitLabHost",
        description="The host of that GitLab.",
        pattern=r"^[\w.-]+(:\d{1,5})?$",
    )
    component_bucket: str = Field(
        default="",
        alias="ComponentBucket",
        description="The bucket of the component's artifacts, which a release may write. Left out: none.",
        pattern=_BUCKET,
    )
    test_thing_group: str = Field(
        default="",
        alias="TestThingGroup",
        description="The thing group whose devices the integration suite may rotate. Their names begin with the "
        "group's and a hyphen. Left out: none.",
        pattern=r"^[a-zA-Z0-9:_-]{0,100}$",
    )
    history_url: str = Field(
        default="",
        alias="HistoryUrl",
        description="`s3://BUCKET/PREFIX` where [drift reports](gitops.md) keep the trend. The read role may list, "
        "read and put objects below that prefix. The bucket is yours, in any region. Left out: none.",
        pattern=_PREFIX,
    )
    fleet_read_trusts: str = Field(
        default="",
        alias="FleetReadTrusts",
        description="In [another account](backend.md#several-accounts): ARNs, by spaces, of the roles that may assume "
        "its role for looking. Left out: none.",
        pattern=_ROLE_ARNS,
    )
    fleet_reconcile_trusts: str = Field(
        default="",
        alias="FleetReconcileTrusts",
        description="In such an account: ARNs, by spaces, of the roles that may assume its role for `apply`. Left "
        "out: none.",
        pattern=_ROLE_ARNS,
    )
    authorities: dict[str, PrivateAuthority] = Field(default_factory=dict)
    thing_groups: tuple[Annotated[str, Field(pattern=r"^[a-zA-Z0-9:_-]{1,128}$")], ...] = ()  # none: every group
    assumed_to_read: _Roles = ()  # every readRoleArn of the Fleet documents
    assumed_to_write: _Roles = ()  # every roleArn of them
    reconcile: bool = Field(
        default=False,
        alias="reconcile",
        description="Makes [the reconcile function](lambda-reconcile.md) with bucket, schedule and alarms, and lets "
        "the role of CI replace the bundle.",
    )
    reconcile_every_minutes: int = Field(
        default=60,
        alias="ReconcileEveryMinutes",
        description="How often the function runs, in minutes: 5 to 720.",
        ge=5,
        le=720,
    )
    reconcile_repository: str = Field(
        default="",
        alias="ReconcileRepository",
        description="The one repository whose bundles the function takes, as host and path such as "
        "`git.example.com/team/fleet`. Left out: `GitHubRepository` or `GitLabProject`.",
        pattern=r"^([\w.-]+(/[\w.-]+)+)?$",
    )
    reconcile_signing_key_arn: str = Field(
        default="",
        alias="ReconcileSigningKeyArn",
        description="A KMS key (`ECC_NIST_P256`, `SIGN_VERIFY`): the function takes only bundles that it has signed. "
        "The function may verify, CI may sign. Left out: bundles need no signature.",
        pattern=r"^(arn:aws[\w-]*:kms:[\w-]+:\d{12}:key/[\w-]+)?$",
    )
    reconcile_fleet: str = Field(
        default="",
        alias="ReconcileFleet",
        description="The one fleet of the bundle to reconcile. Left out: all of them.",
        pattern=r"^[\w-]*$",
    )
    reconcile_concurrency: int = Field(
        default=0,
        alias="ReconcileConcurrency",
        description="How many fleets a [state machine](lambda-reconcile.md#many-fleets-a-state-machine) reconciles at "
        "once. 0: one function, fleet by fleet.",
        ge=0,
        le=900,
    )
    reconcile_quota_factor: float = Field(
        default=1.0,
        alias="ReconcileQuotaFactor",
        description="Multiplies every rate limit: 2 for an account whose AWS IoT quotas were doubled.",
        gt=0,
        le=100,
    )

    own_key: bool = Field(
        default=False,
        alias="OwnKey",
        description="Encrypts table, log groups and the functions' environment with the stack's own KMS key, as topic "
        "and queue always are (0.03 USD per 10,000 uses).",
    )
    permissions_boundary: str = Field(
        default="",
        alias="PermissionsBoundary",
        description="The ARN of the boundary of every role of the stack, also of the CDK's own. Left out: none.",
        pattern=r"^(arn:aws[\w-]*:iam::(\d{12}|aws):policy/[\w+=,.@/-]+)?$",
    )
    tags: dict[str, str] = Field(
        default_factory=dict,
        alias="Tags",
        description='Tags of every resource that takes them, as JSON such as `{"owner": "plant"}`. Left out: none.',
    )
    subnet_ids: str = Field(
        default="",
        alias="SubnetIds",
        description="Subnets, by spaces: the functions run in that VPC. It needs a way to AWS IoT's data and jobs "
        "endpoints, IoT, DynamoDB, SNS, SQS, KMS, CloudWatch Logs, and ACM-PCA if used: interface "
        "endpoints, or NAT. Left out: no VPC.",
        pattern=r"^(subnet-[0-9a-f]{8,17}( subnet-[0-9a-f]{8,17})*)?$",
    )
    security_group_ids: str = Field(
        default="",
        alias="SecurityGroupIds",
        description="Security groups of the functions in that VPC, by spaces. Left out: no VPC.",
        pattern=r"^(sg-[0-9a-f]{8,17}( sg-[0-9a-f]{8,17})*)?$",
    )
    reserved_concurrency: int = Field(
        default=0,
        alias="ReservedConcurrency",
        description="Concurrency reserved for each of the four functions. Too small a number delays endings and "
        "connections, which Lambda keeps for six hours; it also bounds what a storm of connections can "
        "take of the account's concurrency. 0: none is reserved.",
        ge=0,
        le=1000,
    )
    log_retention_days: int = Field(
        default=0,
        alias="LogRetentionDays",
        description="Days that every log group keeps its lines. Left out: 90, and 30 for the deployment's own.",
    )

    @field_validator("tags", mode="before")
    @classmethod
    def _tags_may_be_text(cls, value: Any) -> Any:
        return json.loads(value) if isinstance(value, str) else value

    @field_validator("log_retention_days")
    @classmethod
    def _logs_knows_the_retention(cls, value: int) -> int:
        if value and value not in RETENTIONS:
            raise ValueError(f"{value} days; CloudWatch Logs knows {', '.join(map(str, RETENTIONS))}")
        return value

    @model_validator(mode="after")
    def _vpc_is_whole(self) -> Self:
        if bool(self.subnet_ids) is not bool(self.security_group_ids):
            raise ValueError("SubnetIds and SecurityGroupIds belong together: name both, or neither")
        return self

    @field_validator("authorities")
    @classmethod
    def _aws_iot_is_taken(cls, value: dict[str, PrivateAuthority]) -> dict[str, PrivateAuthority]:
        if AWS_IOT_AUTHORITY in value:
            raise ValueError(f"'{AWS_IOT_AUTHORITY}' is AWS IoT's own CA and cannot be declared")
        return value

    @model_validator(mode="after")
    def _reconcile_knows_its_repository(self) -> Self:
        if self.reconcile and not self.bundle_repository:
            raise ValueError(
                "reconcile=true needs GitHubRepository, GitLabProject or ReconcileRepository: no other bundle is taken"
            )
        return self

    @model_validator(mode="after")
    def _somebody_is_there_for_it(self) -> Self:
        if self.github_repository and self.gitlab_project:
            raise ValueError("the roles are for one forge: name GitHubRepository or GitLabProject")
        named = "name GitHubRepository or GitLabProject, too"
        if self.history_url and not self.forge_repository:
            raise ValueError(f"HistoryUrl is for the read role: {named}")
        if (self.assumed_to_read or self.assumed_to_write) and not (self.forge_repository or self.reconcile):
            raise ValueError(f"Fleets names roles, and nobody here would assume them: {named}")
        return self

    @model_validator(mode="after")
    def _environments_differ(self) -> Self:
        environments = (
            self.github_environment,
            self.github_override_environment,
            self.github_release_environment,
            self.github_heal_environment,
        )
        if len(set(environments)) < len(environments):
            raise ValueError(
                f"GitHubEnvironment, GitHubOverrideEnvironment, GitHubReleaseEnvironment and GitHubHealEnvironment are "
                f"{environments}: each protects something else, so name four"
            )
        return self

    @property
    def bundle_repository(self) -> str:
        """The one repository whose bundles the reconcile function takes, as host and path."""
        return self.reconcile_repository or self.forge_repository

    @property
    def forge_repository(self) -> str:
        """The repository whose jobs get roles, as host and path; empty if none is named."""
        if self.github_repository:
            return f"github.com/{self.github_repository}"
        return f"{self.gitlab_host}/{self.gitlab_project}" if self.gitlab_project else ""

    @property
    def names(self) -> BackendNames:
        """Every name that derives from the stack's."""
        return BackendNames(self.stack_name)

    @property
    def before(self) -> BackendNames:
        """The names of the backend whose rotations in flight go on with this one."""
        return BackendNames(self.replaces or self.stack_name)

    def authorities_json(self) -> str:
        """Return the table as the functions read it: canonical, so that equal tables are equal templates."""
        table = {
            name: authority.model_dump(mode="json", by_alias=True, exclude_none=True)
            for name, authority in self.authorities.items()
        }
        return json.dumps(table, sort_keys=True, separators=(",", ":"))


def from_context(context: Callable[[str], Any]) -> StackSettings:
    """Read the settings; ``context`` gives a variable's value or None."""
    names = [field.alias for field in StackSettings.model_fields.values() if field.alias]
    values = {name: context(name) for name in names if context(name) is not None}
    authorities: dict[str, Any] = {}
    groups = set(str(context("ThingGroups") or "").split())
    if folder := context("DesiredState"):
        authorities |= read_authorities(Path(folder))
        groups |= read_thing_groups(Path(folder))
    if given := context("Authorities"):
        authorities |= json.loads(given) if isinstance(given, str) else given
    roles = read_roles(Path(fleets)) if (fleets := context("Fleets")) else AssumedRoles()
    derived = {"assumed_to_read": roles.to_read, "assumed_to_write": roles.to_write, "thing_groups": sorted(groups)}
    return StackSettings.model_validate({**values, **derived, "authorities": authorities})
