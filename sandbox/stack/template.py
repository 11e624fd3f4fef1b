"""A CloudFormation template and the intrinsic functions that ours use.

References are resolved on demand: to resolve one provisions the resource it names, so that the
order of provisioning follows from the references alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from protocol.deployment import DeployedAuthority, parse_deployment

PSEUDO_PARTITION = "aws"
AUTHORITIES_VARIABLE = "AUTHORITIES"  # of the backend's functions
_PLACEHOLDER = re.compile(r"\$\{([^}]+)\}")


class TemplateError(ValueError):
    """The template holds what the sandbox does not have; the text names it."""


def load(path: Path) -> dict[str, Any]:
    """Read a synthesised template."""
    template: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return template


def with_authorities(template: Mapping[str, Any], authorities: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the template as if it had been synthesised for these authorities besides its own, which come first."""

    def deployed(resource: Mapping[str, Any]) -> Mapping[str, Any]:
        if resource["Type"] == "AWS::SSM::Parameter":
            return {**resource, "Properties": _published_with(resource["Properties"], authorities)}
        variables = resource.get("Properties", {}).get("Environment", {}).get("Variables", {})
        if AUTHORITIES_VARIABLE not in variables:
            return resource
        table = {**authorities, **json.loads(variables[AUTHORITIES_VARIABLE])}
        environment = {"Variables": {**variables, AUTHORITIES_VARIABLE: json.dumps(table)}}
        return {**resource, "Properties": {**resource["Properties"], "Environment": environment}}

    return {**template, "Resources": {name: deployed(resource) for name, resource in template["Resources"].items()}}


def _published_with(properties: Mapping[str, Any], authorities: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the backend's description of itself, with these authorities besides its own."""
    deployment = parse_deployment(properties["Value"])
    added = {
        name: DeployedAuthority(
            one["arn"],
            one["signingAlgorithm"],
            timedelta(seconds=one["validitySeconds"]),
            one.get("templateArn", ""),
        )
        for name, one in authorities.items()
    }
    whole = replace(deployment, authorities={**added, **deployment.authorities})
    return {**properties, "Value": whole.to_json()}


class Resolver:
    """Turns a property into a plain value."""

    def __init__(
        self, pseudo: Mapping[str, str], ref: Callable[[str], str], attribute: Callable[[str, str], str]
    ) -> None:
        self._pseudo = pseudo
        self._ref = ref
        self._attribute = attribute

    def value(self, node: Any) -> Any:
        """Return the value of a node, with every function in it resolved."""
        if isinstance(node, list):
            return [self.value(item) for item in node]
        if not isinstance(node, Mapping):
            return node
        if len(node) == 1:
            name, argument = next(iter(node.items()))
            if name == "Ref" or name.startswith("Fn::"):
                return self._function(name, argument)
        return {key: self.value(item) for key, item in node.items()}

    def _function(self, name: str, argument: Any) -> Any:
        if name == "Ref":
            return self._pseudo[argument] if argument in self._pseudo else self._ref(argument)
        if name == "Fn::GetAtt":
            logical_id, attribute = argument if isinstance(argument, list) else argument.split(".", 1)
            return self._attribute(logical_id, attribute)
        if name == "Fn::Join":
            return str(argument[0]).join(str(self.value(part)) for part in argument[1])
        if name == "Fn::Sub":
            return self._substitute(argument)
        if name == "Fn::Select":
            return self.value(argument[1])[int(argument[0])]
        if name == "Fn::Split":
            return str(self.value(argument[1])).split(argument[0])
        raise TemplateError(f"the sandbox does not have the intrinsic function {name}")

    def _substitute(self, argument: Any) -> str:
        text, given = (argument, {}) if isinstance(argument, str) else argument

        def replace(match: re.Match[str]) -> str:
            name = match[1]
            if name in given:
                return str(self.value(given[name]))
            return str(self._function("Fn::GetAtt" if "." in name else "Ref", name))

        return _PLACEHOLDER.sub(replace, text)
