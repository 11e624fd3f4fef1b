"""The roles that a Fleet document names if certfleet runs in another account.

Each is made if the context names whom it trusts: the roles, by their exact ARNs, that the workflows or the reconcile
function have in that other account. It has the same rights here as those have at home, and no more.
"""

from __future__ import annotations

from collections.abc import Iterable

from aws_cdk import CfnOutput, Stack
from aws_cdk import aws_iam as iam
from constructs import Construct

from .access_controller import rotating
from .grants import Grants, attach
from .settings import StackSettings


class FleetRoles(Construct):
    """One role to read, one to reconcile; each with an output for the Fleet document."""

    def __init__(self, stack: Stack, grants: Grants, settings: StackSettings, read: list[iam.PolicyStatement]) -> None:
        super().__init__(stack, "Fleet")
        reads = "certfleet of another account: reads the registry, changes nothing (readRoleArn)"
        reconciles = "certfleet of another account: reads the registry and makes rotation jobs (roleArn)"
        self._role(stack, "ReadRole", reads, settings.fleet_read_trusts, read)
        self._role(
            stack, "ReconcileRole", reconciles, settings.fleet_reconcile_trusts, [*read, *rotating(grants, settings)]
        )

    def _role(
        self, stack: Stack, name: str, description: str, trusts: str, statements: Iterable[iam.PolicyStatement]
    ) -> None:
        if not trusts:
            return
        trusted = iam.CompositePrincipal(*(iam.ArnPrincipal(arn) for arn in trusts.split()))
        role = iam.Role(self, name, assumed_by=trusted, description=description)
        attach(role, statements)
        CfnOutput(stack, f"Fleet{name}Arn", value=role.role_arn)
