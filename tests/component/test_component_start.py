"""What a start costs that has nothing to install and no rotation at hand: in calls and modules, never in seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from component_faults import MUTATING, CountingSystem, Injector

from component.certificate_rotator import launch

ROOT = Path(__file__).parents[2]
IMPORTED = """
import sys
import component.certificate_rotator.__main__
import component.certificate_rotator.greengrass
print(*sys.modules)
"""
MOST = 220  # modules, whatever the version of Python: 184 with 3.11
MOST_LOOKS = 6  # of one start at the disk: for a journal, what an interrupted write has left of it, and a credential
NOT_NEEDED = {"asyncio", "email", "http", "pkcs11", "ssl", "unittest", "venv", "yaml"}


def test_the_process_imports_what_it_needs_and_no_more():
    ran = subprocess.run([sys.executable, "-B", "-c", IMPORTED], cwd=ROOT, capture_output=True, text=True, check=True)
    modules = ran.stdout.split()
    assert {name.partition(".")[0] for name in modules} & NOT_NEEDED == set()
    assert len(modules) <= MOST


@pytest.mark.posix
def test_the_run_step_starts_one_process_beside_its_own_and_writes_nothing(tmp_path, monkeypatch):
    """It asks the environment for its packages, and becomes the component."""
    artifact, home = tmp_path / "artifact" / "certificate_rotator", tmp_path / "home"
    artifact.mkdir(parents=True)
    home.mkdir()
    (artifact.parent / "requirements.txt").write_text("".join(f"{name}==0.0.1\n" for name in launch.NEEDED))
    monkeypatch.setattr(launch, "__file__", str(artifact / "launch.py"))
    monkeypatch.setattr(launch.venv, "create", lambda *_, **__: pytest.fail("nothing has to be made"))
    made = []

    def run(command, **_options):
        made.append("process")
        return subprocess.CompletedProcess(command, 0, "".join(f"{name} 0.0.1\n" for name in launch.NEEDED))

    class BecameError(Exception):
        """This process is another program by now."""

    def become(*_arguments):
        raise BecameError

    monkeypatch.setattr(launch, "_to_disk", lambda: made.append("sync"))
    monkeypatch.setattr(launch.subprocess, "run", run)
    monkeypatch.setattr(launch.os, "execv", become)
    python = launch.python_of(_place(home, artifact.parent, monkeypatch))
    python.parent.mkdir(parents=True)
    python.touch()
    before = sorted(home.rglob("*"))
    with pytest.raises(BecameError):
        launch.main([str(home), "run"])
    assert (made, sorted(home.rglob("*"))) == (["process"], before)


def _place(home, artifact, monkeypatch):
    """Where the environment of these requirements belongs, told by the step itself."""
    asked = []
    with monkeypatch.context() as patch:
        patch.setattr(launch, "_build", lambda place, *_: asked.append(place))
        launch.environment(home, artifact)
    return asked[0]


def test_the_component_changes_nothing_on_disk(make_world, memory_folder):
    injector = Injector()
    world = make_world(memory_folder / "device", system=CountingSystem(injector))
    for _ in range(3):
        world.device.switch_on()
        world.run(30)
    assert MUTATING.isdisjoint(injector.points)
    assert len(injector.points) <= 3 * MOST_LOOKS, injector.points
