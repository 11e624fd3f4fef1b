"""Worlds for the end-to-end tests, and the command line as a process of its own."""

import os
import subprocess
import sys
import textwrap
import zipfile

import pytest
import yaml
from e2e_wheel import build, copy_sources

from sandbox.fleet_file import SandboxFleet
from sandbox.world import World


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    return build("wheel", copy_sources(tmp_path_factory.mktemp("wheel") / "sources"))


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """The folder that a wheel is installed into: nothing of the checkout, before all else on ``PYTHONPATH``."""
    folder = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


@pytest.fixture
def build_world(tmp_path):
    """Builds worlds from the text of a fleet file; each is online when it is handed over, and ends with the test."""
    worlds = []

    def build(text, clock=None):
        fleet = SandboxFleet.model_validate(yaml.safe_load(textwrap.dedent(text)))
        world = World(fleet, tmp_path / f"world-{len(worlds)}", clock)
        worlds.append(world)
        world.start()
        assert world.wait_until_online() == []
        return world

    yield build
    for world in worlds:
        world.stop()


@pytest.fixture
def run_certfleet(tmp_path):
    """Runs ``certfleet`` as a process in a repository against a world; ``program`` replaces the plain start."""

    def run(world, repository, *arguments, program=None, environment=None):
        start = [sys.executable, "-m", "controller.cli"] if program is None else [sys.executable, "-c", program]
        command = [*start, *arguments, "--inventory", str(tmp_path / "inventory.sqlite")]
        return subprocess.run(
            command,
            cwd=repository,
            env=os.environ | world.environment() | (environment or {}),
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    return run
