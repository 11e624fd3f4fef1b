"""IAM statements over what belongs to the stack's own account and region."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aws_cdk import Stack
from aws_cdk import aws_iam as iam

EITHER_NAME = {
    "iot:ListThingPrincipalsV2": "iot:ListThingPrincipals",
    "iot:ListPrincipalThingsV2": "iot:ListPrincipalThings",
}
"""Calls for which AWS' references differ: the API reference asks for the action without V2, the service authorization
reference lists both. A statement that allows one allows the other."""


class Grants:
    """Makes statements. A resource is written without the ARN's head: ``iot:thing/*``.

    AWS' service authorization reference lists the resources that an action knows; the tests hold every
    statement to it. An action that knows none stands in a statement of its own (``anywhere``), so
    that its wildcard covers nothing else.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def arn(self, resource: str) -> str:
        """Return the ARN of a resource such as ``lambda:function:NAME``.

        The account stands in it; the region too, but not for IAM, which has none.
        """
        service, _, rest = resource.partition(":")
        region = "" if service == "iam" else self._stack.region
        return f"arn:{self._stack.partition}:{service}:{region}:{self._stack.account}:{rest.removeprefix(':')}"

    def on(self, resources: str | Sequence[str], *actions: str) -> iam.PolicyStatement:
        """Allow actions on resources."""
        listed = [resources] if isinstance(resources, str) else resources
        named = [*actions, *(EITHER_NAME[action] for action in actions if action in EITHER_NAME)]
        return iam.PolicyStatement(actions=named, resources=[self.arn(resource) for resource in listed])

    @staticmethod
    def on_arns(arns: Iterable[str], *actions: str) -> iam.PolicyStatement:
        """Allow actions on resources that are known by their whole ARN."""
        return iam.PolicyStatement(actions=list(actions), resources=list(arns))

    @staticmethod
    def anywhere(*actions: str) -> iam.PolicyStatement:
        """Allow actions that know no resource."""
        return iam.PolicyStatement(actions=list(actions), resources=["*"])


def attach(role: iam.IRole, statements: Iterable[iam.PolicyStatement]) -> None:
    """Add the statements to a role, in order."""
    for statement in statements:
        role.add_to_principal_policy(statement)
