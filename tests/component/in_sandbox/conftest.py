"""One real device in the sandbox: built archive, recipe, IPC, mutual TLS, and a site around it."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
from component_site import RESTART_TAKES, THING, Site, enrol
from shared_warm_component import warm_starts

from component import build
from sandbox.edge import Component, Nucleus, Profile, Provisioning, provision

VERSION = "1.2.3"
PYTHON = os.environ.get("COMPONENT_PYTHON", sys.executable)  # see tools/component_matrix.py


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    """The built archive beside its recipe, as of a release."""
    folder = tmp_path_factory.mktemp("build")
    build.main(["--output", str(folder), "--version", VERSION])
    return folder


def deployed(folder, **component):
    """What is deployed of a build."""
    archive = folder / build.ARCHIVE
    return Component(folder / "recipe.yaml", folder, run_install=True, archive=archive, python=PYTHON, **component)


@pytest.fixture
def next_version(artifacts, tmp_path):
    """The same component with another digest, as the next release."""
    folder = tmp_path / "next"
    folder.mkdir()
    archive = folder / build.ARCHIVE
    shutil.copy(artifacts / build.ARCHIVE, archive)
    with zipfile.ZipFile(archive, "a") as added:
        added.writestr("news.txt", "of the next version")
    before, after = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (artifacts / build.ARCHIVE, archive))
    recipe = (artifacts / "recipe.yaml").read_text()
    assert before in recipe
    (folder / "recipe.yaml").write_text(recipe.replace(before, after).replace(VERSION, "1.2.4"))
    return deployed(folder)


@pytest.fixture
def warm():
    """Steps of the recipe are forks here: for tests in which the component starts again and again."""
    with warm_starts(PYTHON):
        yield


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    yield site
    site.stop()


@pytest.fixture
def start(tmp_path, site, artifacts):
    """Provision a device with a first credential and start its nucleus; a restart takes 30 s of the world's clock."""
    started = []

    def run(*, profile=Profile.CLASSIC, interpolate=True, configuration=None, environment=None, online=True, **system):
        root = Path(os.path.realpath(tmp_path)) / "gg"
        config = provision(
            root,
            Provisioning(
                THING,
                site.endpoint.host,
                site.endpoint.port,
                site.ca_file,
                profile=profile,
                interpolate=interpolate,
                **system,
            ),
        )
        if "pkcs11" not in system:
            enrol(site, root)
        component = deployed(artifacts, environment=environment or {})
        nucleus = Nucleus(root, component, profile=profile, clock=site.clock, restart_takes=RESTART_TAKES)
        if configuration:
            default = {**nucleus.recipe.default_configuration, **configuration}
            config.set_configuration(nucleus.recipe.name, default, VERSION)
        if not online:
            nucleus.disconnect()
        nucleus.start()
        started.append(nucleus)
        return nucleus

    yield run
    for nucleus in started:
        nucleus.stop()
