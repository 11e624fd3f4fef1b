"""The surroundings of a component on its device: its folders, its environment, its steps with all variables."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .component_process import Launch, ScriptRun
from .effective_config import NUCLEUS, EffectiveConfig
from .recipe import configuration_variables, interpolate, load_recipe, merge
from .traits import (
    FILLS_IN_ACCESS_CONTROL,
    INSTALL_LIMIT,
    MAX_RECIPE_BYTES,
    SCALARS_ARE_TEXT,
    UPGRADE,
    FillsIn,
    Profile,
    Upgrade,
)

NO_INDEX = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
"""Variables for a device that reaches no package index: nobody listens on port 9."""


@dataclass(frozen=True, slots=True)
class Component:
    """The deployed parts: a recipe, and the folder with the content of the artifact that is to be unpacked."""

    recipe: Path
    artifacts: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    run_install: bool = False  # whether the recipe's install step runs, as often as the nucleus runs it
    python: str = sys.executable  # what `python3` means to the recipe's scripts
    archive: Path | None = None  # the artifact as it is downloaded
    user: str | None = None  # who runs what needs no privilege; None: this process' own user


class Installation:
    """One component on one device."""

    def __init__(
        self, root: Path, component: Component, *, thing_name: str, config: EffectiveConfig, profile: Profile
    ) -> None:
        """Raises RecipeError."""
        self._root, self._thing_name, self._component = root, thing_name, component
        self._config, self._profile = config, profile
        self.recipe = load_recipe(
            component.recipe,
            profile.variant,
            scalars_are_text=SCALARS_ARE_TEXT.on(profile),
            most_bytes=MAX_RECIPE_BYTES.on(profile),
        )
        self.work = root / "work" / self.recipe.name

    def lay_out(self) -> bool:
        """Unpack what the recipe wants, and store its configuration; True for a version that is new here."""
        is_new = self._config.version(self.recipe.name) != self.recipe.version
        if is_new:
            self._config.set_configuration(self.recipe.name, self._deployed(), self.recipe.version)
        self.work.mkdir(parents=True, exist_ok=True)
        if self._component.user:
            shutil.chown(self.work, self._component.user)
        if self._component.archive:
            folder = Path(self._variables()["artifacts:path"])
            folder.mkdir(parents=True, exist_ok=True)
            copy = shutil.copy(self._component.archive, folder)
            if self._component.user:
                shutil.chown(copy, self._component.user)
        for folder in self._unpacked():
            folder.parent.mkdir(parents=True, exist_ok=True)
            if not folder.is_symlink():
                folder.symlink_to(self._component.artifacts, target_is_directory=True)
        return is_new

    def launch(self, environment: Callable[[], Mapping[str, str]], *, beside: bool) -> Launch:
        """Return what the nucleus runs of it; ``beside``: both steps at the same moment."""
        install = self._step("install") if self._component.run_install else None
        return Launch(install, self._step("run", "startup"), beside, environment, self.work)

    def _step(self, *names: str) -> ScriptRun | None:
        """Return the first of these steps that the recipe has, ready to run."""
        step = next((self.recipe.steps[name] for name in names if name in self.recipe.steps), None)
        if step is None:
            return None
        configuration = self._config.configuration(self.recipe.name) or {}
        script = str(interpolate(step.script, self._variables() | configuration_variables(configuration)))
        limit = (step.limit or INSTALL_LIMIT.on(self._profile)) if "install" in names else None
        return ScriptRun(script, None if step.privileged else self._component.user, limit)

    def access_control(self) -> object:
        """Return what the component may do, recipe variables filled in if this nucleus does that."""
        declared = (self._config.configuration(self.recipe.name) or {}).get("accessControl")
        rule = FILLS_IN_ACCESS_CONTROL.on(self._profile)
        if rule is FillsIn.ALWAYS or (rule is FillsIn.IF_SET and self._config.interpolates):
            return interpolate(declared, self._variables())
        return declared

    def environment(self, socket: Path, token: str, programs: Path, version: str) -> dict[str, str]:
        """Return the variables of its processes; ``programs`` comes first in their PATH."""
        configuration: Mapping[str, Any] = self._config.configuration(NUCLEUS) or {}
        region = str(configuration.get("awsRegion", ""))
        inherited = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        return {
            **inherited,
            "PATH": f"{programs}:{os.environ.get('PATH', '/usr/bin:/bin')}",
            "PYTHONUNBUFFERED": "1",
            "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT": str(socket),
            "SVCUID": token,
            "AWS_IOT_THING_NAME": self._thing_name,
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "GGC_VERSION": version,
            **{k: str(interpolate(v, self._variables())) for k, v in self.recipe.environment.items()},
            **self._component.environment,
        }

    def _deployed(self) -> Mapping[str, Any]:
        defaults, present = self.recipe.default_configuration, self._config.configuration(self.recipe.name) or {}
        first = UPGRADE.on(self._profile) is Upgrade.RECIPE
        deployed: Mapping[str, Any] = merge(present, defaults) if first else merge(defaults, present)
        return deployed

    def _unpacked(self) -> list[Path]:
        parent = self._root / "packages" / "artifacts-unarchived" / self.recipe.name / self.recipe.version
        return [parent / archive for archive in self.recipe.archives]

    def _variables(self) -> dict[str, str]:
        packages = self._root / "packages"
        unique = f"{self.recipe.name}/{self.recipe.version}"
        return {
            "iot:thingName": self._thing_name,
            "work:path": str(self.work),
            "kernel:rootPath": str(self._root),
            "artifacts:path": str(packages / "artifacts" / unique),
            "artifacts:decompressedPath": str(packages / "artifacts-unarchived" / unique),
        }
