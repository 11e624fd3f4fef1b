"""The part of the desired state that a deployment reads, so that nothing is written twice.

``certfleet validate`` checks the documents; here only what is deployed is read. It takes effect with the deployment: a
change of a document alone changes nobody's rights.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"([1-9][0-9]*)([mhdw])")


class SettingsError(ValueError):
    """The context or the desired state cannot be deployed; the text shows which variable or document."""


@dataclass(frozen=True, slots=True)
class AssumedRoles:
    """ARNs of the roles that Fleet documents name, sorted."""

    to_read: tuple[str, ...] = ()  # readRoleArn
    to_write: tuple[str, ...] = ()  # roleArn


def read_roles(folder: Path) -> AssumedRoles:
    """Return the roles that the Fleet documents of a folder, of many fleets or one, name; raises SettingsError."""
    specs = [document["spec"] for _, document in _documents("Fleets", folder, "Fleet")]
    if not specs:
        raise SettingsError(f"Fleets: {folder} holds no Fleet document")
    named = [{spec[field] for spec in specs if spec.get(field)} for field in ("readRoleArn", "roleArn")]
    return AssumedRoles(*(tuple(sorted(arns)) for arns in named))


def read_authorities(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the private CAs among the documents of a desired-state folder, by name; raises SettingsError."""
    found: dict[str, dict[str, Any]] = {}
    for path, document in _documents("DesiredState", folder, "CertificateAuthority"):
        name, authority = document["metadata"]["name"], _authority(document["spec"], path)
        if found.setdefault(name, authority) != authority:
            raise SettingsError(f"{path}: authority {name!r} is declared twice, differently")
    return found


def read_thing_groups(folder: Path) -> set[str]:
    """Return the thing groups that the rotation policies of a desired-state folder govern."""
    return {str(document["spec"]["thingGroup"]) for _, document in _documents("DesiredState", folder, "RotationPolicy")}


def _documents(variable: str, folder: Path, kind: str) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield every document of a kind with its file; raises SettingsError if the folder holds none of any kind."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in {".yaml", ".yml"} and path.is_file())
    if not paths:
        raise SettingsError(f"{variable}: {folder} holds no YAML document")
    for path in paths:
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if isinstance(document, Mapping) and document.get("kind") == kind:
                yield path, document


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
