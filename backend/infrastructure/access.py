"""The rights of each function of the backend, statement by statement."""

from __future__ import annotations

from aws_cdk import Aws
from aws_cdk import aws_iam as iam

from backend.functions.table import INDEX

from .grants import Grants
from .settings import StackSettings

THINGS, CERTIFICATES = "iot:thing/*", "iot:cert/*"


class Access:
    """The statements of one deployment's functions."""

    def __init__(self, grants: Grants, settings: StackSettings, table_arn: str) -> None:
        self._grants, self._settings, self._table_arn = grants, settings, table_arn

    def create(self) -> list[iam.PolicyStatement]:
        """Return the statements of the function that creates certificates, and undoes what failed half-way."""
        return [
            *self._executions(),
            *self._ends(),
            *self._answers("create"),
            *self._principals(),
            *self._removal(),
            *self._lost(),
            self._grants.anywhere("iot:CreateCertificateFromCsr"),
            self._grants.on(CERTIFICATES, "iot:AttachPolicy", "iot:AttachThingPrincipal"),
            *self._private_authorities(),
        ]

    def commit(self) -> list[iam.PolicyStatement]:
        """Return the statements of the function that takes the proof, and settles what was left unresolved."""
        answers = self._answers("commit")
        return [*answers, *self._executions(), *self._principals(), *self._before(), *self._lost(), *self._removal()]

    def terminal(self) -> list[iam.PolicyStatement]:
        """Return the statements of the function that removes the certificate that is not needed."""
        document = self._grants.on("iot:job/*", "iot:GetJobDocument")
        records = self._grants.on_arns([self._table_arn], "dynamodb:BatchGetItem")
        found = [*self._executions(), *self._views(), *self._principals(), *self._before(), document, records]
        return [*found, *self._lost(), *self._removal()]

    def sweep(self) -> list[iam.PolicyStatement]:
        """Return the statements of the function that brings to its end what no event has."""
        index = self._grants.on_arns([f"{self._table_arn}/index/{INDEX}"], "dynamodb:Query")
        rule = self._grants.on(f"iot:rule/{self._settings.names.presence_rule}", "iot:GetTopicRule")
        return [*self._ends(), *self._views(), *self._lost(), *self._removal(), index, rule]

    def _ends(self) -> list[iam.PolicyStatement]:
        """Return the right to read how an execution has ended, which the jobs data plane does not report."""
        return [self._grants.on(["iot:job/*", THINGS], "iot:DescribeJobExecution")]

    def _executions(self) -> list[iam.PolicyStatement]:
        return [self._grants.on(THINGS, "iotjobsdata:DescribeJobExecution")]

    def _answers(self, operation: str) -> list[iam.PolicyStatement]:
        topic = f"iot:topic/awslabs/things/*/certificate/{operation}"
        return [self._grants.on([f"{topic}/accepted", f"{topic}/rejected"], "iot:Publish"), *self._views()]

    def _views(self) -> list[iam.PolicyStatement]:
        return [self._grants.on(f"iot:thing/*/{self._settings.names.shadow}", "iot:UpdateThingShadow")]

    def _before(self) -> list[iam.PolicyStatement]:
        """Return the right to read the shadow of the stock backend, in whose place this one may be deployed."""
        return [self._grants.on(f"iot:thing/*/{self._settings.before.shadow}", "iot:GetThingShadow")]

    def _principals(self) -> list[iam.PolicyStatement]:
        return [self._grants.on(THINGS, "iot:ListThingPrincipalsV2")]

    def _lost(self) -> list[iam.PolicyStatement]:
        """Return the rights to look at certificates: the current one, and one whose id never became known."""
        return [self._grants.anywhere("iot:ListCertificates"), self._grants.on(CERTIFICATES, "iot:DescribeCertificate")]

    def _removal(self) -> list[iam.PolicyStatement]:
        return [
            self._grants.anywhere("iot:ListAttachedPolicies"),
            self._grants.on(
                CERTIFICATES,
                "iot:DeleteCertificate",
                "iot:DetachPolicy",
                "iot:DetachThingPrincipal",
                "iot:ListPrincipalThingsV2",
                "iot:UpdateCertificate",
            ),
        ]

    def _private_authorities(self) -> list[iam.PolicyStatement]:
        arns = authority_arns(self._settings)
        if not arns:
            return []
        return [
            self._grants.on_arns(arns, "acm-pca:GetCertificate", "acm-pca:IssueCertificate"),
            self._grants.anywhere("iot:RegisterCertificateWithoutCA"),
        ]


def authority_arns(settings: StackSettings) -> list[str]:
    """Return the private CAs of the deployment: those of the table, and the stock-compatible one."""
    arns = sorted({authority.arn for authority in settings.authorities.values()})
    default = default_ca_arn(settings)
    return [*arns, default] if default else arns


def default_ca_arn(settings: StackSettings) -> str:
    """Return the ARN of the stock-compatible authority; empty if AWS IoT's own CA issues."""
    if not settings.pca_ca_id:
        return ""
    return f"arn:{Aws.PARTITION}:acm-pca:{Aws.REGION}:{Aws.ACCOUNT_ID}:certificate-authority/{settings.pca_ca_id}"
