"""A component's recipe: what runs on this platform, with which configuration, and its variables filled in.

Source of the format: the AWS IoT Greengrass component recipe reference (``RecipeFormatVersion`` 2020-01-25).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

_VARIABLE = re.compile(r"\{([a-zA-Z]+):([^{}]+)\}")


class Variant(StrEnum):
    """The two kinds of nucleus."""

    CLASSIC = "classic"
    LITE = "lite"

    @property
    def runtime(self) -> str:
        """How a recipe's manifest names it."""
        return "aws_nucleus_classic" if self is Variant.CLASSIC else "aws_nucleus_lite"


class RecipeError(Exception):
    """The recipe cannot be run here; the text shows what was expected."""


@dataclass(frozen=True, slots=True)
class LifecycleStep:
    """One step of a component's lifecycle."""

    script: str
    privileged: bool = False
    limit: float | None = None  # seconds; None: the nucleus' own


@dataclass(frozen=True, slots=True)
class Recipe:
    """The part of a recipe that counts on one platform."""

    name: str
    version: str
    default_configuration: Mapping[str, Any]
    steps: Mapping[str, LifecycleStep]  # by lower-case name
    environment: Mapping[str, str]
    archives: tuple[str, ...]  # names, without suffix, of artifacts that are unpacked


def load_recipe(
    path: Path, variant: Variant, *, scalars_are_text: bool = False, most_bytes: int | None = None
) -> Recipe:
    """Read a recipe and choose the first manifest for Linux and this kind of nucleus; raises RecipeError.

    ``scalars_are_text``: the values of its default configuration are read as they are written, none is a number.
    """
    text = path.read_text()
    if most_bytes is not None and len(text.encode()) > most_bytes:
        message = f"{path}: a recipe of {len(text.encode())} bytes; this nucleus takes at most {most_bytes}"
        raise RecipeError(message)
    document = yaml.safe_load(text)
    if not isinstance(document, dict) or "ComponentName" not in document:
        message = f"{path}: expected a component recipe, found no ComponentName"
        raise RecipeError(message)
    manifest = next((m for m in document.get("Manifests", []) if _fits(m.get("Platform") or {}, variant)), None)
    if manifest is None:
        message = f"{path}: no manifest for os linux and runtime {variant.runtime}"
        raise RecipeError(message)
    lifecycle = manifest.get("Lifecycle") or document.get("Lifecycle") or {}
    written = yaml.load(text, yaml.BaseLoader) if scalars_are_text else document  # noqa: S506  # makes texts only
    return Recipe(
        name=document["ComponentName"],
        version=str(document.get("ComponentVersion", "0.0.0")),
        default_configuration=(written.get("ComponentConfiguration") or {}).get("DefaultConfiguration") or {},
        steps={step.lower(): _step(value) for step, value in lifecycle.items() if _is_step(step)},
        environment={str(k): str(v) for k, v in (_any_case(lifecycle, "setenv") or {}).items()},
        archives=tuple(_stem(a) for a in manifest.get("Artifacts") or [] if str(a.get("Unarchive")).upper() == "ZIP"),
    )


def interpolate(value: Any, variables: Mapping[str, str]) -> Any:
    """Fill recipe variables (``{iot:thingName}``) in texts at any depth, keys too; unknown ones stay as they are."""
    if isinstance(value, str):
        return _VARIABLE.sub(lambda m: variables.get(f"{m[1]}:{m[2]}", m[0]), value)
    if isinstance(value, Mapping):
        return {interpolate(key, variables): interpolate(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolate(item, variables) for item in value]
    return value


def configuration_variables(configuration: Mapping[str, Any]) -> dict[str, str]:
    """Return the variable ``configuration:/a/b`` of each scalar of a configuration, with its value as text."""
    found: dict[str, str] = {}

    def walk(pointer: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                walk(f"{pointer}/{key}", item)
        elif isinstance(value, (str, int, float)):
            found[f"configuration:{pointer}"] = str(value)

    walk("", configuration)
    return found


def merge(base: Any, update: Any) -> Any:
    """Return the configuration after a deployment's merge: maps are merged key by key, everything else is replaced."""
    if isinstance(base, Mapping) and isinstance(update, Mapping):
        return {key: merge(base.get(key), update[key]) if key in update else base[key] for key in {**base, **update}}
    return update


def reset(configuration: Mapping[str, Any], pointers: list[str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration after a reset: each JSON pointer gets its default, or goes; ``""`` is everything."""
    result = dict(configuration)
    for pointer in pointers:
        if not pointer:
            return dict(defaults)
        result = _reset_one(result, pointer.strip("/").split("/"), defaults)
    return result


def _reset_one(configuration: Mapping[str, Any], path: list[str], defaults: object) -> dict[str, Any]:
    result = dict(configuration)
    key, *deeper = path
    default = defaults.get(key) if isinstance(defaults, Mapping) else None
    if deeper and isinstance(result.get(key), Mapping):
        result[key] = _reset_one(result[key], deeper, default)
    elif not deeper and default is not None:
        result[key] = default
    elif not deeper:
        result.pop(key, None)
    return result


def _fits(platform: Mapping[str, Any], variant: Variant) -> bool:
    system, runtime = platform.get("os", "*"), platform.get("runtime")
    if variant is Variant.LITE:
        return system in ("*", "all", "linux") and runtime in ("*", variant.runtime)
    return system in ("*", "all", "linux") and runtime in (None, "*", variant.runtime)


def _is_step(step: str) -> bool:
    return step.lower() in ("install", "startup", "run", "shutdown", "recover", "bootstrap")


def _any_case(mapping: Mapping[str, Any], name: str) -> Any:
    return next((value for key, value in mapping.items() if key.lower() == name), None)


def _step(value: Any) -> LifecycleStep:
    if not isinstance(value, Mapping):
        return LifecycleStep(str(value))
    limit = _any_case(value, "timeout")
    return LifecycleStep(
        str(_any_case(value, "script") or ""),
        privileged=str(_any_case(value, "requiresprivilege")).lower() == "true",
        limit=None if limit is None else float(limit),
    )


def _stem(artifact: Mapping[str, Any]) -> str:
    uri = str(artifact.get("Uri") or artifact.get("URI") or "")
    return uri.rsplit("/", 1)[-1].removesuffix(".zip")
