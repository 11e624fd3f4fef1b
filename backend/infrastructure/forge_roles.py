"""The roles that jobs of a forge may assume; made if the context names a repository of GitHub or a project of GitLab.

No key is stored: a job shows the token that its forge signed for it. On GitHub the token's subject shows in which
environment, or for which event, the job runs; on GitLab it shows the branch. The forge decides who may start such a
job: protect the branch and the environments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aws_cdk import Aws, CfnOutput, Duration, Stack
from aws_cdk import aws_iam as iam
from constructs import Construct

from .access_controller import assuming, beating, healing, remembering, rotating
from .access_release import deploying, publishing, testing
from .grants import Grants, attach
from .settings import StackSettings
from .storage import Storage

GITHUB = "token.actions.githubusercontent.com"
MAIN = "ref:refs/heads/main"
RECONCILE, READ, HEAL, RELEASE = "ReconcileRole", "ReadRole", "HealRole", "ReleaseRole"


class ForgeRoles(Construct):
    """One role to read, one to reconcile, one to heal, and on GitHub one to release."""

    def __init__(
        self, stack: Stack, grants: Grants, settings: StackSettings, storage: Storage, read: list[iam.PolicyStatement]
    ) -> None:
        super().__init__(stack, "GitHub" if settings.github_repository else "GitLab")
        self._issuer = GITHUB if settings.github_repository else settings.gitlab_host
        subjects = _subjects_on_github(settings) if settings.github_repository else _subjects_on_gitlab(settings)
        rotate = rotating(grants, settings)
        self.reconcile = self._role(
            RECONCILE,
            "certfleet: reads the registry and makes rotation jobs",
            subjects,
            [*read, *rotate, *assuming(settings.assumed_to_write)],
            hours=2,  # a run waits for its jobs up to 90 minutes
        )
        self.read = self._role(
            READ,
            "certfleet: previews a pull request and reports drift, changes nothing",
            subjects,
            [*read, *beating(), *assuming(settings.assumed_to_read), *remembering(settings)],
            hours=2,  # the first reading of a large fleet takes its time
        )
        roles = [self.reconcile, self.read]
        roles.append(
            self._role(
                HEAL,
                "certfleet: removes certificates by a reviewed plan, in steps far apart",
                subjects,
                [*read, *healing(grants, storage)],
                hours=6,  # a plan of a large fleet is carried out slowly
            )
        )
        if RELEASE in subjects:
            roles.append(
                self._role(
                    RELEASE,
                    "certfleet: deploys the backend, publishes the component, tries both on test devices",
                    subjects,
                    [*deploying(grants, stack), *publishing(grants, settings), *testing(grants, settings)],
                    hours=6,  # the integration suite rotates real devices many times
                )
            )
        for role in roles:
            CfnOutput(stack, f"{role.node.id}Arn", value=role.role_arn)

    def _role(
        self,
        name: str,
        description: str,
        subjects: Mapping[str, list[str]],
        statements: Iterable[iam.PolicyStatement],
        *,
        hours: int,
    ) -> iam.Role:
        role = iam.Role(
            self,
            name,
            assumed_by=self._jobs(subjects[name]),
            description=description,
            max_session_duration=Duration.hours(hours),
        )
        attach(role, statements)
        return role

    def _jobs(self, subjects: list[str]) -> iam.WebIdentityPrincipal:
        """Return the jobs that have one of these subjects, through the account's OIDC provider."""
        provider = f"arn:{Aws.PARTITION}:iam::{Aws.ACCOUNT_ID}:oidc-provider/{self._issuer}"
        audience, subject = {f"{self._issuer}:aud": "sts.amazonaws.com"}, {f"{self._issuer}:sub": subjects}
        is_pattern = any(each.endswith("*") for each in subjects)
        equals, like = (audience, subject) if is_pattern else (audience | subject, {})
        return iam.WebIdentityPrincipal(provider, {"StringEquals": equals, **({"StringLike": like} if like else {})})


def _subjects_on_github(settings: StackSettings) -> dict[str, list[str]]:
    """Return for each role the token subjects of its jobs: exact subjects, without a pattern."""
    writing = (settings.github_environment, settings.github_override_environment)
    jobs = {
        RECONCILE: [f"environment:{name}" for name in writing],
        READ: ["pull_request", MAIN],
        HEAL: [f"environment:{settings.github_heal_environment}"],
        RELEASE: [f"environment:{settings.github_release_environment}"],
    }
    return {role: [f"repo:{settings.github_repository}:{each}" for each in of_it] for role, of_it in jobs.items()}


def _subjects_on_gitlab(settings: StackSettings) -> dict[str, list[str]]:
    """Return for each role the token subjects of its jobs.

    A subject on GitLab names the branch and no environment, so the role to read takes every branch by a pattern.
    """
    branch = f"project_path:{settings.gitlab_project}:ref_type:branch:ref:"
    return {RECONCILE: [f"{branch}main"], READ: [f"{branch}*"], HEAL: [f"{branch}main"]}
