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


class StackSettings(BaseModel):
    """Everything that a deployment may choose."""

    model_config = ConfigDict(frozen=True)

    stack_name: str = Field(default=DEFAULT_STACK_NAME, alias="StackName", pattern=_STACK)
    replaces: str = Field(default="", alias="Replaces", pattern=rf"({_STACK})?")  # the stack whose rotations go on here
    hears: bool = Field(default=True, alias="RulesEnabled")  # false: beside another backend, until that one is deaf
    pca_ca_id: str = Field(default="", alias="PcaCaId", pattern=_CA_ID)  # empty: AWS IoT issues
    pca_validity_days: int = Field(default=7, alias="PcaValidityInDays", ge=1)
    pca_signing_algorithm: CaSigningAlgorithm = Field(
        default=CaSigningAlgorithm.SHA256_RSA, alias="PcaSigningAlgorithm"
    )
    github_repository: str = Field(default="", alias="GitHubRepository", pattern=r"^([\w.-]+/[\w.-]+)?$")
    github_environment: str = Field(default="certfleet", alias="GitHubEnvironment", pattern=_ENVIRONMENT)
    github_override_environment: str = Field(
        default="certfleet-override", alias="GitHubOverrideEnvironment", pattern=_ENVIRONMENT
    )
    github_release_environment: str = Field(
        default="certfleet-release", alias="GitHubReleaseEnvironment", pattern=_ENVIRONMENT
    )
    github_heal_environment: str = Field(default="certfleet-heal", alias="GitHubHealEnvironment", pattern=_ENVIRONMENT)
    gitlab_project: str = Field(default="", alias="GitLabProject", pattern=r"^([\w.-]+(/[\w.-]+)+)?$")
    gitlab_host: str = Field(default="gitlab.com", alias="GitLabHost", pattern=r"^[\w.-]+(:\d{1,5})?$")
    component_bucket: str = Field(default="", alias="ComponentBucket", pattern=_BUCKET)  # of the component's artifacts
    test_thing_group: str = Field(default="", alias="TestThingGroup", pattern=r"^[a-zA-Z0-9:_-]{0,100}$")
    history_url: str = Field(default="", alias="HistoryUrl", pattern=_PREFIX)  # where reports keep the trend
    fleet_read_trusts: str = Field(default="", alias="FleetReadTrusts", pattern=_ROLE_ARNS)  # by spaces
    fleet_reconcile_trusts: str = Field(default="", alias="FleetReconcileTrusts", pattern=_ROLE_ARNS)  # by spaces
    authorities: dict[str, PrivateAuthority] = Field(default_factory=dict)
    thing_groups: tuple[Annotated[str, Field(pattern=r"^[a-zA-Z0-9:_-]{1,128}$")], ...] = ()  # none: every group
    assumed_to_read: _Roles = ()  # every readRoleArn of the Fleet documents
    assumed_to_write: _Roles = ()  # every roleArn of them
    reconcile: bool = Field(default=False, alias="reconcile")  # the reconcile loop as a function, see docs
    reconcile_every_minutes: int = Field(default=60, alias="ReconcileEveryMinutes", ge=5, le=720)
    reconcile_repository: str = Field(default="", alias="ReconcileRepository", pattern=r"^([\w.-]+(/[\w.-]+)+)?$")
    reconcile_signing_key_arn: str = Field(
        default="", alias="ReconcileSigningKeyArn", pattern=r"^(arn:aws[\w-]*:kms:[\w-]+:\d{12}:key/[\w-]+)?$"
    )
    reconcile_fleet: str = Field(default="", alias="ReconcileFleet", pattern=r"^[\w-]*$")
    # Fleets that a state machine reads at once; 0: one function reads them one after the other.
    reconcile_concurrency: int = Field(default=0, alias="ReconcileConcurrency", ge=0, le=900)
    reconcile_quota_factor: float = Field(default=1.0, alias="ReconcileQuotaFactor", gt=0, le=100)  # of AWS' defaults

    own_key: bool = Field(default=False, alias="OwnKey")  # the stack's KMS key for table, logs and environment, too
    permissions_boundary: str = Field(
        default="", alias="PermissionsBoundary", pattern=r"^(arn:aws[\w-]*:iam::(\d{12}|aws):policy/[\w+=,.@/-]+)?$"
    )
    tags: dict[str, str] = Field(default_factory=dict, alias="Tags")
    subnet_ids: str = Field(
        default="", alias="SubnetIds", pattern=r"^(subnet-[0-9a-f]{8,17}( subnet-[0-9a-f]{8,17})*)?$"
    )
    security_group_ids: str = Field(
        default="", alias="SecurityGroupIds", pattern=r"^(sg-[0-9a-f]{8,17}( sg-[0-9a-f]{8,17})*)?$"
    )
    reserved_concurrency: int = Field(default=0, alias="ReservedConcurrency", ge=0, le=1000)  # 0: none is reserved
    log_retention_days: int = Field(default=0, alias="LogRetentionDays")  # 0: as it is without

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
