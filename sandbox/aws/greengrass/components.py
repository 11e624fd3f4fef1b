"""Component versions, from inline recipes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import yaml

from sandbox.aws.errors import AwsError, UnsupportedError
from sandbox.aws.paging import answer, page
from sandbox.aws.site import Site


@dataclass(frozen=True, slots=True)
class ComponentVersion:
    """One version of one component."""

    name: str
    version: str
    recipe: dict[str, Any]
    created_at: datetime


class Components:
    """All component versions of the account, and the calls about them."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._versions: dict[tuple[str, str], ComponentVersion] = {}

    def create_component_version(self, request: dict[str, Any]) -> dict[str, Any]:
        """Register a recipe, JSON or YAML."""
        if not request.get("inlineRecipe"):
            raise UnsupportedError("the sandbox has only inlineRecipe of greengrassv2 CreateComponentVersion")
        recipe = _parsed(request["inlineRecipe"])
        name, version = recipe.get("ComponentName"), str(recipe.get("ComponentVersion") or "")
        if not isinstance(name, str) or version.count(".") < 2:  # noqa: PLR2004 (major.minor.patch)
            raise _invalid("the recipe needs ComponentName, and ComponentVersion as major.minor.patch")
        if (name, version) in self._versions:
            raise AwsError("ConflictException", f"{name} {version} already exists", resourceId=name,
                           resourceType="COMPONENT")  # fmt: skip
        found = ComponentVersion(name, version, recipe, self._site.now())
        self._versions[name, version] = found
        return {
            "arn": self._arn(found),
            "componentName": name,
            "componentVersion": version,
            "creationTimestamp": found.created_at,
            "status": {"componentState": "DEPLOYABLE", "message": "NONE", "errors": {}},
        }

    def describe_component(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return all about one version."""
        found = self._require(request["arn"])
        return {
            "arn": self._arn(found),
            "componentName": found.name,
            "componentVersion": found.version,
            "creationTimestamp": found.created_at,
            "publisher": str(found.recipe.get("ComponentPublisher", "")),
            "description": str(found.recipe.get("ComponentDescription", "")),
            "status": {"componentState": "DEPLOYABLE", "message": "NONE", "errors": {}},
            "platforms": _platforms(found.recipe),
        }

    def get_component(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the recipe, as JSON or YAML."""
        found, kind = self._require(request["arn"]), request.get("recipeOutputFormat", "JSON")
        is_json = kind == "JSON"
        text = json.dumps(found.recipe, default=str) if is_json else yaml.safe_dump(found.recipe, sort_keys=False)
        return {"recipeOutputFormat": kind, "recipe": text.encode()}

    def list_components(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the latest version of each private component."""
        if request.get("scope") == "PUBLIC":
            return {"components": []}
        latest = {found.name: found for found in sorted(self._versions.values(), key=_order)}
        shown, token = page(latest.values(), lambda f: f.name, request)
        return answer("components", [
            {
                "arn": self._arn(f).rpartition(":versions:")[0],
                "componentName": f.name,
                "latestVersion": {
                    "arn": self._arn(f), "componentVersion": f.version, "creationTimestamp": f.created_at,
                    "description": str(f.recipe.get("ComponentDescription", "")),
                    "publisher": str(f.recipe.get("ComponentPublisher", "")), "platforms": _platforms(f.recipe),
                },
            }
            for f in shown
        ], token)  # fmt: skip

    def list_component_versions(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return all versions of one component, newest first."""
        name = request["arn"].partition(":components:")[2].partition(":")[0]
        found = sorted((f for f in self._versions.values() if f.name == name), key=_order, reverse=True)
        if not found:
            raise _unknown(request["arn"])
        by_rank = {f"{rank:06d}": f for rank, f in enumerate(found)}
        shown, token = page(by_rank.items(), lambda item: item[0], request)
        return answer("componentVersions", [
            {"componentName": f.name, "componentVersion": f.version, "arn": self._arn(f)} for _, f in shown
        ], token)  # fmt: skip

    def delete_component(self, request: dict[str, Any]) -> None:
        """Delete one version."""
        found = self._require(request["arn"])
        del self._versions[found.name, found.version]

    def _arn(self, found: ComponentVersion) -> str:
        return self._site.arn(f"components:{found.name}:versions:{found.version}", "greengrass")

    def _require(self, arn: str) -> ComponentVersion:
        name, _, version = arn.partition(":components:")[2].partition(":versions:")
        if (name, version) not in self._versions:
            raise _unknown(arn)
        return self._versions[name, version]


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        recipe = yaml.safe_load(raw)  # JSON is YAML
    except yaml.YAMLError as error:
        raise _invalid(f"the recipe cannot be read: {error}") from None
    if not isinstance(recipe, dict):
        raise _invalid("the recipe must be an object")
    return recipe


def _platforms(recipe: dict[str, Any]) -> list[dict[str, Any]]:
    manifests = recipe.get("Manifests") or []
    return [{"attributes": {k: str(v) for k, v in (m.get("Platform") or {}).items()}} for m in manifests]


def _order(found: ComponentVersion) -> tuple[str, tuple[int | str, ...]]:
    return found.name, tuple(int(part) if part.isdigit() else -1 for part in found.version.split("."))


def _invalid(message: str) -> AwsError:
    return AwsError("ValidationException", message)


def _unknown(arn: str) -> AwsError:
    return AwsError("ResourceNotFoundException", f"there is no component {arn}", resourceId=arn,
                    resourceType="COMPONENT")  # fmt: skip
