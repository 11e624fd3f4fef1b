"""What a deployment chooses: CDK context, and the authorities of the desired state.

The three ``Pca…`` variables are those of the stock solution. The table of named authorities is read
from the ``CertificateAuthority`` documents of a desired-state folder (context ``DesiredState``), or
given as JSON in the context variable ``Authorities``; nothing else may issue.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from backend.functions.environment import PrivateAuthority
from protocol.algorithms import CaSigningAlgorithm
from protocol.names import AWS_IOT_AUTHORITY, DEFAULT_STACK_NAME, BackendNames

_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"([1-9][0-9]*)([mhdw])")
_CA_ID = r"^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})?$"

_ENVIRONMENT = r"^[\w-]+$"
_BUCKET = r"^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?$"
_ROLE_ARN = r"arn:aws[\w-]*:iam::\d{12}:role/[\w+=,.@/-]+"
_ROLE_ARNS = rf"^({_ROLE_ARN}( {_ROLE_ARN})*)?$"


class SettingsError(ValueError):
    """The context or the desired state cannot be deployed; the text says which variable or document."""


class Settings(BaseModel):
    """Everything that a deployment may choose."""

    model_config = ConfigDict(frozen=True)

    stack_name: str = Field(default=DEFAULT_STACK_NAME, alias="StackName", pattern=r"^[A-Za-z][A-Za-z0-9]{0,39}$")
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
    component_bucket: str = Field(default="", alias="ComponentBucket", pattern=_BUCKET)  # of the component's artifacts
    test_thing_group: str = Field(default="", alias="TestThingGroup", pattern=r"^[a-zA-Z0-9:_-]{0,100}$")
    authorities: dict[str, PrivateAuthority] = Field(default_factory=dict)
    reconcile: bool = Field(default=False, alias="reconcile")  # the reconcile loop as a function, see docs
    reconcile_every_minutes: int = Field(default=60, alias="ReconcileEveryMinutes", ge=5, le=720)
    reconcile_repository: str = Field(default="", alias="ReconcileRepository", pattern=r"^([\w.-]+(/[\w.-]+)+)?$")
    reconcile_signing_key_arn: str = Field(
        default="", alias="ReconcileSigningKeyArn", pattern=r"^(arn:aws[\w-]*:kms:[\w-]+:\d{12}:key/[\w-]+)?$"
    )
    reconcile_fleet: str = Field(default="", alias="ReconcileFleet", pattern=r"^[\w-]*$")
    reconcile_quota_factor: float = Field(default=1.0, alias="ReconcileQuotaFactor", gt=0, le=100)  # of AWS' defaults
    reconcile_assumes: str = Field(default="", alias="ReconcileAssumes", pattern=_ROLE_ARNS)  # by spaces
    read_assumes: str = Field(default="", alias="ReadAssumes", pattern=_ROLE_ARNS)  # likewise

    @field_validator("authorities")
    @classmethod
    def _aws_iot_is_taken(cls, value: dict[str, PrivateAuthority]) -> dict[str, PrivateAuthority]:
        if AWS_IOT_AUTHORITY in value:
            raise ValueError(f"'{AWS_IOT_AUTHORITY}' is AWS IoT's own CA and cannot be declared")
        return value

    @model_validator(mode="after")
    def _reconcile_knows_its_repository(self) -> Self:
        if self.reconcile and not self.bundle_repository:
            raise ValueError("reconcile=true needs GitHubRepository or ReconcileRepository: no other bundle is taken")
        return self

    @model_validator(mode="after")
    def _environments_differ(self) -> Self:
        environments = (self.github_environment, self.github_override_environment, self.github_release_environment)
        if len(set(environments)) < len(environments):
            raise ValueError(
                f"GitHubEnvironment, GitHubOverrideEnvironment and GitHubReleaseEnvironment are {environments}: "
                "each protects something else, so name three"
            )
        return self

    @property
    def bundle_repository(self) -> str:
        """The one repository whose bundles the reconcile function takes, as host and path."""
        github = f"github.com/{self.github_repository}" if self.github_repository else ""
        return self.reconcile_repository or github

    @property
    def assumed_roles(self) -> tuple[str, ...]:
        """ARNs of the roles that Fleet documents name, which the reconcile function may assume."""
        return tuple(self.reconcile_assumes.split())

    @property
    def assumed_to_read(self) -> tuple[str, ...]:
        """ARNs of the roles that Fleet documents name in readRoleArn, which GitHub's reading role may assume."""
        return tuple(self.read_assumes.split())

    @property
    def names(self) -> BackendNames:
        """Every name that derives from the stack's."""
        return BackendNames(self.stack_name)

    def authorities_json(self) -> str:
        """The table as the functions read it: canonical, so that equal tables are equal templates."""
        table = {
            name: authority.model_dump(mode="json", by_alias=True, exclude_none=True)
            for name, authority in self.authorities.items()
        }
        return json.dumps(table, sort_keys=True, separators=(",", ":"))


def from_context(context: Callable[[str], Any]) -> Settings:
    """Read the settings; ``context`` gives a variable's value or None."""
    names = [field.alias for field in Settings.model_fields.values() if field.alias]
    values = {name: context(name) for name in names if context(name) is not None}
    authorities: dict[str, Any] = {}
    if folder := context("DesiredState"):
        authorities |= read_authorities(Path(folder))
    if given := context("Authorities"):
        authorities |= json.loads(given) if isinstance(given, str) else given
    return Settings.model_validate({**values, "authorities": authorities})


def read_authorities(folder: Path) -> dict[str, dict[str, Any]]:
    """The private CAs among the documents of a desired-state folder, by name.

    ``certfleet validate`` checks the documents; here only what is deployed is read.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix in {".yaml", ".yml"} and path.is_file())
    if not paths:
        raise SettingsError(f"DesiredState: {folder} holds no YAML document")
    found: dict[str, dict[str, Any]] = {}
    for path in paths:
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if isinstance(document, Mapping) and document.get("kind") == "CertificateAuthority":
                name, spec = document["metadata"]["name"], document["spec"]
                if name in found and found[name] != _authority(spec, path):
                    raise SettingsError(f"{path}: authority {name!r} is declared twice, differently")
                found[name] = _authority(spec, path)
    return found


def _authority(spec: Mapping[str, Any], path: Path) -> dict[str, Any]:
    validity = _DURATION.fullmatch(str(spec.get("validity")))
    if validity is None:
        raise SettingsError(f"{path}: validity is {spec.get('validity')!r}, expected a duration such as 365d")
    authority = {
        "arn": spec.get("arn"),
        "signingAlgorithm": spec.get("signingAlgorithm"),
        "validitySeconds": int(validity[1]) * _SECONDS[validity[2]],
    }
    if spec.get("templateArn"):
        authority["templateArn"] = spec["templateArn"]
    return authority
