"""The roles that GitHub's workflows may assume; made if the context names a repository.

No key is stored: a job shows the token that GitHub signed for it, and the token's subject shows in
which environment, or for which event, it runs. GitHub decides who may start such a job:
protect the branch and the environments.
"""

from __future__ import annotations

from collections.abc import Iterable

from aws_cdk import Aws, CfnOutput, Duration, Stack
from aws_cdk import aws_iam as iam
from constructs import Construct

from .access_controller import assuming, beating, healing, remembering, rotating
from .access_release import deploying, publishing, testing
from .grants import Grants, attach
from .settings import StackSettings
from .storage import Storage

ISSUER = "token.actions.githubusercontent.com"
MAIN = "ref:refs/heads/main"


class GitHubRoles(Construct):
    """One role to read, one to reconcile, one to heal, one to release."""

    def __init__(
        self, stack: Stack, grants: Grants, settings: StackSettings, storage: Storage, read: list[iam.PolicyStatement]
    ) -> None:
        super().__init__(stack, "GitHub")
        self._repository = settings.github_repository
        rotate = rotating(grants, settings)
        environments = (settings.github_environment, settings.github_override_environment)
        self.reconcile = self._role(
            "ReconcileRole",
            "certfleet: reads the registry and makes rotation jobs",
            [f"environment:{name}" for name in environments],
            [*read, *rotate, *assuming(settings.assumed_to_write)],
            hours=2,  # a run waits for its jobs up to 90 minutes
        )
        self.read = self._role(
            "ReadRole",
            "certfleet: previews a pull request and reports drift, changes nothing",
            ["pull_request", MAIN],
            [*read, *beating(), *assuming(settings.assumed_to_read), *remembering(settings)],
            hours=2,  # the first reading of a large fleet takes its time
        )
        self.heal = self._role(
            "HealRole",
            "certfleet: removes certificates by a reviewed plan, in steps far apart",
            [f"environment:{settings.github_heal_environment}"],
            [*read, *healing(grants, storage)],
            hours=6,  # a plan of a large fleet is carried out slowly
        )
        self.release = self._role(
            "ReleaseRole",
            "certfleet: deploys the backend, publishes the component, tries both on test devices",
            [f"environment:{settings.github_release_environment}"],
            [*deploying(grants, stack), *publishing(grants, settings), *testing(grants, settings)],
            hours=6,  # the integration suite rotates real devices many times
        )
        for role in (self.reconcile, self.read, self.heal, self.release):
            CfnOutput(stack, f"{role.node.id}Arn", value=role.role_arn)

    def _role(
        self,
        name: str,
        description: str,
        subjects: list[str],
        statements: Iterable[iam.PolicyStatement],
        *,
        hours: int,
    ) -> iam.Role:
        role = iam.Role(
            self,
            name,
            assumed_by=self._jobs(subjects),
            description=description,
            max_session_duration=Duration.hours(hours),
        )
        attach(role, statements)
        return role

    def _jobs(self, subjects: list[str]) -> iam.WebIdentityPrincipal:
        """Return jobs of the repository, through the account's OIDC provider: exact subjects, no pattern."""
        provider = f"arn:{Aws.PARTITION}:iam::{Aws.ACCOUNT_ID}:oidc-provider/{ISSUER}"
        allowed = [f"repo:{self._repository}:{subject}" for subject in subjects]
        return iam.WebIdentityPrincipal(
            provider, {"StringEquals": {f"{ISSUER}:aud": "sts.amazonaws.com", f"{ISSUER}:sub": allowed}}
        )
