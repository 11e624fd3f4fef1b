"""The functions' environment: one validated model, checked before the first event.

All functions are given the same variables by the stack. The three ``PCA_…`` variables are those of the stock solution,
so that the tools that switch its authority work here too; they state the authority for jobs that name none.
``AUTHORITIES`` holds the named ones. Only a deployment, or a person who may update the function's configuration,
changes either.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, Json, StringConstraints, field_validator

from protocol.algorithms import CaSigningAlgorithm
from protocol.names import AWS_IOT_AUTHORITY

DEFAULT_PRIVATE_AUTHORITY = "default-private-ca"
"""How evidence and logs name the authority of the ``PCA_…`` variables."""

CaArn = Annotated[
    str, StringConstraints(pattern=r"^arn:[a-z-]+:acm-pca:[a-z0-9-]+:[0-9]{12}:certificate-authority/[0-9a-f-]+$")
]


class PrivateAuthority(BaseModel):
    """A CA of ACM-PCA that this deployment may use, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    arn: CaArn
    signing_algorithm: CaSigningAlgorithm = Field(alias="signingAlgorithm")
    validity_seconds: int = Field(alias="validitySeconds", ge=3600)
    template_arn: str | None = Field(default=None, alias="templateArn", pattern=r"^arn:[a-z-]+:acm-pca:::template/.+$")

    @property
    def validity(self) -> timedelta:
        """How long an issued certificate is valid."""
        return timedelta(seconds=self.validity_seconds)


class Environment(BaseModel):
    """Every variable that the functions read."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    stack_name: str = Field(
        alias="STACK_NAME", min_length=1, description="The stack's name; topics, shadow and rules derive from it."
    )
    replaces: str = Field(
        default="",
        alias="REPLACES",
        description="The stack whose unfinished rotations go on here. Left out: there is none.",
    )
    table_name: str = Field(alias="TABLE_NAME", min_length=1, description="The rotation table.")
    topic_arn: str = Field(alias="SNS_TOPIC_ARN", pattern=r"^arn:[a-z-]+:sns:", description="The notifications' topic.")
    data_endpoint: str = Field(
        alias="IOT_DATA_ENDPOINT",
        pattern=r"^[A-Za-z0-9.:-]+$",
        description="The account's data endpoint, with a port or without.",
    )
    jobs_endpoint: str = Field(
        alias="IOT_JOBS_ENDPOINT",
        pattern=r"^[A-Za-z0-9.:-]+$",
        description="The account's jobs endpoint, with a port or without.",
    )
    authorities: Json[dict[str, PrivateAuthority]] = Field(
        alias="AUTHORITIES", description="The named private CAs, as JSON."
    )
    default_ca_arn: CaArn | None = Field(
        default=None,
        alias="PCA_CA_ARN",
        description="The CA for jobs that name none. Left out: AWS IoT's own CA.",
    )
    default_validity_days: int = Field(
        default=7, alias="PCA_VALIDITY_IN_DAYS", ge=1, description="The validity of that CA's certificates, in days."
    )
    default_signing_algorithm: CaSigningAlgorithm = Field(
        default=CaSigningAlgorithm.SHA256_RSA, alias="PCA_SIGNING_ALGORITHM", description="How that CA signs."
    )

    @field_validator("default_ca_arn", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return value or None

    def authority(self, name: str | None) -> tuple[str, PrivateAuthority | None]:
        """Return name and settings of the authority that a job names (None: the default).

        The settings are None for AWS IoT's own CA. Raises KeyError for a name not in the table.
        """
        if name is None:
            if self.default_ca_arn is None:
                return AWS_IOT_AUTHORITY, None
            return DEFAULT_PRIVATE_AUTHORITY, PrivateAuthority(
                arn=self.default_ca_arn,
                signingAlgorithm=self.default_signing_algorithm,
                validitySeconds=self.default_validity_days * 86_400,
            )
        if name == AWS_IOT_AUTHORITY:
            return AWS_IOT_AUTHORITY, None
        return name, self.authorities[name]

    @property
    def authority_names(self) -> list[str]:
        """Every name that a job may use."""
        return sorted({AWS_IOT_AUTHORITY, *self.authorities})


def read(variables: Mapping[str, str]) -> Environment:
    """Check the variables; pydantic's ValidationError names each that is missing or wrong."""
    return Environment.model_validate(dict(variables))
