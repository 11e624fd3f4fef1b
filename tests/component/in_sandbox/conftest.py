"""One real device in the sandbox: built archive, recipe, IPC, mutual TLS, and a site around it."""

from __future__ import annotations

import os
import sys
import zipfile
from datetime import timedelta
from pathlib import Path

import pytest
from component_site import THING, Site, enrol

from component import build
from sandbox.edge import Component, Nucleus, Profile, Provisioning, provision

RESTART_TAKES = timedelta(seconds=30)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    """The built archive, unpacked as the nucleus unpacks it, beside its recipe."""
    folder = tmp_path_factory.mktemp("build")
    build.main(["--output", str(folder), "--version", "1.2.3"])
    with zipfile.ZipFile(folder / build.ARCHIVE) as archive:
        archive.extractall(folder / "unpacked")
    return folder


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
        component = Component(
            artifacts / "recipe.yaml",
            artifacts / "unpacked",
            environment=environment or {},
            run_install=True,
            archive=artifacts / build.ARCHIVE,
            python=os.environ.get("COMPONENT_PYTHON", sys.executable),  # see tools/component_matrix.py
        )
        nucleus = Nucleus(root, component, profile=profile, clock=site.clock, restart_takes=RESTART_TAKES)
        if configuration:
            default = {**nucleus.recipe.default_configuration, **configuration}
            config.set_configuration(nucleus.recipe.name, default, "1.2.3")
        if not online:
            nucleus.disconnect()
        nucleus.start()
        started.append(nucleus)
        return nucleus

    yield run
    for nucleus in started:
        nucleus.stop()
