"""IAM, by statement: what each function may do, and on which resources.

Where AWS IoT knows no resource for an action (docs: service authorization reference), the resource
is ``*`` and the action stands in a statement of its own, so that the wildcard covers nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import Aws, Stack
from aws_cdk import aws_iam as iam

from .settings import Settings


class Access:
    """The statements of one deployment."""

    def __init__(self, stack: Stack, settings: Settings) -> None:
        self._settings = settings
        self._iot = f"arn:{stack.partition}:iot:{stack.region}:{stack.account}"
        self._default_ca = default_ca_arn(settings)

    def create(self) -> list[iam.PolicyStatement]:
        """Of the function that creates certificates, and undoes what failed half-way."""
        return [
            *self._executions(),
            *self._answers("create"),
            *self._principals(),
            *self._removal(),
            self._any("iot:CreateCertificateFromCsr", "iot:ListCertificates", "iot:AttachThingPrincipal"),
            self._on("cert/*", "iot:DescribeCertificate", "iot:ListAttachedPolicies", "iot:AttachPolicy"),
            *self._private_authorities(),
        ]

    def commit(self) -> list[iam.PolicyStatement]:
        """Of the function that takes the proof, and settles what was left unresolved."""
        return [*self._answers("commit"), *self._principals(), *self._removal()]

    def terminal(self) -> list[iam.PolicyStatement]:
        """Of the function that removes the certificate that is not needed."""
        return [*self._executions(), *self._views(), *self._lost(), *self._removal()]

    def reconcile(self) -> list[iam.PolicyStatement]:
        """Of the controller: it reads the registry and makes jobs; it can neither issue nor delete a certificate."""
        return [
            self._any(
                "iot:DescribeEndpoint",
                "iot:ListCertificates",
                "iot:ListJobs",
                "iot:ListJobTemplates",
                "iot:ListPrincipalThings",
                "iot:ListPrincipalThingsV2",
                "iot:ListThingGroups",
                "iot:ListThingPrincipals",
                "iot:ListThingPrincipalsV2",
                "iot:ListThings",
                "servicequotas:GetServiceQuota",
                "servicequotas:ListServiceQuotas",
            ),
            self._on("index/*", "iot:SearchIndex"),
            self._on("cert/*", "iot:DescribeCertificate"),
            self._on("thing/*", "iot:DescribeThing", "iot:ListJobExecutionsForThing", "iot:ListThingGroupsForThing"),
            self._on(f"jobtemplate/{self._settings.names.job_template}", "iot:DescribeJobTemplate"),
            self._on(
                "job/*",
                "iot:AssociateTargetsWithJob",
                "iot:CancelJob",
                "iot:CreateJob",
                "iot:DescribeJob",
                "iot:GetJobDocument",
                "iot:ListJobExecutionsForJob",
                "iot:TagResource",
            ),
            iam.PolicyStatement(
                actions=["iot:CreateJob", "iot:DescribeJobExecution"],
                resources=[f"{self._iot}:thing/*", f"{self._iot}:thinggroup/*"],
            ),
            self._on("thinggroup/*", "iot:DescribeThingGroup", "iot:ListThingsInThingGroup"),
            iam.PolicyStatement(  # cohort groups, and no other group
                actions=[
                    "iot:AddThingToThingGroup",
                    "iot:CreateThingGroup",
                    "iot:DeleteThingGroup",
                    "iot:RemoveThingFromThingGroup",
                    "iot:UpdateThingGroup",
                ],
                resources=[f"{self._iot}:thinggroup/cf-*"],
            ),
            self._on("thing/*", "iot:AddThingToThingGroup", "iot:RemoveThingFromThingGroup"),
            *self._authority_certificates(),
        ]

    def _executions(self) -> list[iam.PolicyStatement]:
        return [self._on("thing/*", "iotjobsdata:DescribeJobExecution")]

    def _answers(self, operation: str) -> list[iam.PolicyStatement]:
        topic = f"{self._iot}:topic/awslabs/things/*/certificate/{operation}"
        publish = iam.PolicyStatement(actions=["iot:Publish"], resources=[f"{topic}/accepted", f"{topic}/rejected"])
        return [publish, *self._views()]

    def _views(self) -> list[iam.PolicyStatement]:
        return [self._on(f"thing/*/{self._settings.names.shadow}", "iot:UpdateThingShadow")]

    def _principals(self) -> list[iam.PolicyStatement]:
        return [self._any("iot:ListThingPrincipals", "iot:ListThingPrincipalsV2")]

    def _lost(self) -> list[iam.PolicyStatement]:
        return [self._any("iot:ListCertificates"), self._on("cert/*", "iot:DescribeCertificate")]

    def _removal(self) -> list[iam.PolicyStatement]:
        return [
            self._any("iot:ListPrincipalThings", "iot:ListPrincipalThingsV2", "iot:DetachThingPrincipal"),
            self._on(
                "cert/*",
                "iot:DeleteCertificate",
                "iot:DetachPolicy",
                "iot:ListAttachedPolicies",
                "iot:UpdateCertificate",
            ),
        ]

    def _authority_arns(self) -> list[str]:
        arns = sorted({authority.arn for authority in self._settings.authorities.values()})
        return [*arns, self._default_ca] if self._default_ca else arns

    def _authority_certificates(self) -> list[iam.PolicyStatement]:
        """The controller compares a certificate's issuer with the CA's own certificate."""
        arns = self._authority_arns()
        action = "acm-pca:GetCertificateAuthorityCertificate"
        return [iam.PolicyStatement(actions=[action], resources=arns)] if arns else []

    def _private_authorities(self) -> list[iam.PolicyStatement]:
        arns = self._authority_arns()
        if not arns:
            return []
        return [
            iam.PolicyStatement(actions=["acm-pca:GetCertificate", "acm-pca:IssueCertificate"], resources=arns),
            self._any("iot:RegisterCertificateWithoutCA"),
        ]

    def _on(self, resource: str, *actions: str) -> iam.PolicyStatement:
        return iam.PolicyStatement(actions=list(actions), resources=[f"{self._iot}:{resource}"])

    @staticmethod
    def _any(*actions: str) -> iam.PolicyStatement:
        return iam.PolicyStatement(actions=list(actions), resources=["*"])


def default_ca_arn(settings: Settings) -> str:
    """ARN of the stock-compatible authority; empty where AWS IoT issues."""
    if not settings.pca_ca_id:
        return ""
    return f"arn:{Aws.PARTITION}:acm-pca:{Aws.REGION}:{Aws.ACCOUNT_ID}:certificate-authority/{settings.pca_ca_id}"


def github_role_principal(settings: Settings) -> iam.WebIdentityPrincipal:
    """Jobs of one GitHub environment of one repository, through the account's OIDC provider."""
    issuer = "token.actions.githubusercontent.com"
    subject = f"repo:{settings.github_repository}:environment:{settings.github_environment}"
    return iam.WebIdentityPrincipal(
        f"arn:{Aws.PARTITION}:iam::{Aws.ACCOUNT_ID}:oidc-provider/{issuer}",
        {"StringEquals": {f"{issuer}:aud": "sts.amazonaws.com", f"{issuer}:sub": subject}},
    )


def attach(role: iam.IRole, statements: Sequence[iam.PolicyStatement]) -> None:
    """Add the statements to a role, in order."""
    for statement in statements:
        role.add_to_principal_policy(statement)
