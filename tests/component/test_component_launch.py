"""The recipe's two steps: an environment that is good is left alone, and root runs nothing that others can change."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import yaml
from component_faults import Killed

from component import build
from component.certificate_rotator import launch

pytestmark = pytest.mark.posix  # the script is a shell's

OTHER = 65534  # the user that components run as here
PINNED = "".join(f"{name}==0.0.1 \\\n    --hash=sha256:00\n" for name in (*launch.NEEDED, launch.FOR_TOKENS))
PYTHON = """#!/bin/sh
# Stands in for an environment's Python: tells what was installed, and installs if there is an index.
here=$(dirname "$0")/..
case "$*" in
*"-m pip"*)
    [ -e "$INDEX" ] || { echo "ERROR: no index"; exit 1; }
    wanted=$here/requirements.txt
    grep -q "$UNAVAILABLE" "$wanted" && { echo "ERROR: No matching distribution found for $UNAVAILABLE"; exit 1; }
    sed -n "s/^\\([a-z0-9-]*\\)==\\([0-9.]*\\).*/\\1 \\2/p" "$wanted" > "$here/packages" ;;
*) cat "$here/packages" 2>/dev/null ;;
esac
"""


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def artifact(tmp_path):
    (tmp_path / "artifact").mkdir()
    (tmp_path / "artifact" / "requirements.txt").write_text(PINNED)
    return tmp_path / "artifact"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """The index can be reached while this file is there."""

    def create(folder, **_options):
        (Path(folder) / "bin").mkdir(parents=True)
        python = Path(folder) / "bin" / "python3"
        python.write_text(PYTHON)
        python.chmod(0o755)

    monkeypatch.setattr(launch.venv, "create", create)
    reachable = tmp_path / "index"
    reachable.touch()
    monkeypatch.setenv("INDEX", str(reachable))
    monkeypatch.setenv("UNAVAILABLE", "nothing-at-all")
    return reachable


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_an_environment_that_satisfies_the_pins_is_left_alone_whether_an_index_can_be_reached_or_not(
    home, artifact, index
):
    python = launch.environment(home, artifact)
    before = contents(home)
    index.unlink()
    for _ in range(52):  # a year of them
        assert launch.environment(home, artifact) == python
    assert contents(home) == before


def test_the_pins_are_asked_of_the_environment_itself(home, artifact, index):
    python = launch.environment(home, artifact)
    packages = python.parent.parent / "packages"
    packages.write_text(packages.read_text().replace("awscrt 0.0.1", "awscrt 0.0.0"))
    launch.environment(home, artifact)
    assert "awscrt 0.0.1" in packages.read_text()


def test_a_python_that_has_the_pinned_versions_already_is_taken_as_it_is(home, artifact, capsys):
    found = launch._versions_here()
    (artifact / "requirements.txt").write_text("".join(f"{name}=={version}\n" for name, version in found.items()))
    assert launch.environment(home, artifact) == Path(sys.executable)
    assert "installed already" in capsys.readouterr().out
    assert list(home.iterdir()) == []


def test_a_new_python_minor_and_new_pins_get_an_environment_beside_the_one_in_use(home, artifact, index, monkeypatch):
    first = launch.environment(home, artifact)
    before = contents(first.parent.parent)
    monkeypatch.setattr(launch.sys, "version", "3.99.0 (of tomorrow)")
    second = launch.environment(home, artifact)
    (artifact / "requirements.txt").write_text(PINNED.replace("0.0.1", "0.0.2"))
    third = launch.environment(home, artifact)
    assert len({first, second, third}) == 3
    assert contents(first.parent.parent) == before


def test_an_upgrade_without_an_index_fails_with_what_to_do_and_leaves_the_old_environment(home, artifact, index):
    launch.environment(home, artifact)
    before = {path for path in contents(home) if "env-" in str(path)}
    index.unlink()
    (artifact / "requirements.txt").write_text(PINNED.replace("0.0.1", "0.0.2"))
    with pytest.raises(launch.LaunchError, match=r"no index.*; give the device an index, or build .*--wheelhouse"):
        launch.environment(home, artifact)
    assert before <= set(contents(home))


@pytest.fixture
def step(home, artifact, monkeypatch):
    """Carry out a step; returns its code, and how often it had to wait."""

    def step(name, *, wait):
        waits = []
        monkeypatch.setattr(launch, "__file__", str(artifact / "certificate_rotator" / "launch.py"))
        monkeypatch.setattr(launch.time, "sleep", lambda seconds: (waits.append(seconds), wait(len(waits))))
        monkeypatch.setattr(launch.time, "monotonic", lambda: sum(waits))
        monkeypatch.setattr(launch.os, "execv", lambda *_: sys.exit("runs"))
        return launch.main([str(home), name]), len(waits)

    return step


def test_a_run_step_that_cannot_have_its_environment_waits_for_it_and_does_not_end(step, index):
    """Three ends within an hour are all that a nucleus forgives."""
    index.unlink()
    with pytest.raises(SystemExit, match="runs"):
        step("run", wait=lambda number: index.touch() if number == 50 else None)


def test_an_install_step_tries_for_some_minutes_and_then_says_what_to_do(step, index, capsys):
    index.unlink()
    code, waits = step("install", wait=lambda _number: None)
    assert (code, waits) == (1, 5)
    assert "give the device an index" in capsys.readouterr().err


def test_an_install_step_that_will_never_succeed_says_so_at_once(step, monkeypatch, capsys):
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda _name: None)
    assert step("install", wait=lambda _number: None) == (1, 0)
    assert "-venv" in capsys.readouterr().err


class Interruptions:
    """Ends the step before or after one of the calls that change the disk."""

    def __init__(self, patch, wanted):
        self.seen, self.wanted = 0, wanted
        for owner, name in ((launch.venv, "create"), (launch, "_pip"), (launch, "_to_disk"), (Path, "replace"),
                            (launch.shutil, "rmtree")):  # fmt: skip
            patch.setattr(owner, name, self.around(getattr(owner, name)))

    def point(self):
        self.seen += 1
        if self.seen == self.wanted:
            raise Killed

    def around(self, method):
        def call(*arguments, **options):
            self.point()
            result = method(*arguments, **options)
            self.point()
            return result

        return call


def test_an_environment_is_whole_or_absent_wherever_the_step_is_interrupted(home, artifact, index, monkeypatch, capsys):
    requirements = artifact / "requirements.txt"
    points, newer = 0, PINNED.replace("0.0.1", "0.0.2")
    finished = False
    while not finished:
        points += 1
        folder = home / str(points)
        folder.mkdir()
        requirements.write_text(PINNED)
        old = launch.environment(folder, artifact).parent.parent
        before = contents(old)
        requirements.write_text(newer)
        with monkeypatch.context() as patch:
            Interruptions(patch, points)
            try:
                launch.environment(folder, artifact)
                finished = True
            except Killed:
                finished = False
        assert contents(old) == before
        assert launch.satisfies(launch.environment(folder, artifact), newer)
    with capsys.disabled():
        print(f"\ninstall step: {points - 1} points of interruption", end=" ")  # noqa: T201  # how exhaustive
    assert points > 8


def test_without_ensurepip_the_package_to_install_is_named(home, artifact, monkeypatch):
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(launch.LaunchError, match=rf"apt-get install python3\.{sys.version_info.minor}-venv"):
        launch.environment(home, artifact)


def test_a_device_with_credentials_in_files_needs_no_pkcs11_package(home, artifact, index, monkeypatch, capsys):
    monkeypatch.setenv("UNAVAILABLE", launch.FOR_TOKENS)
    python = launch.environment(home, artifact)
    assert launch.FOR_TOKENS not in (python.parent.parent / "packages").read_text()
    assert "credentials in tokens cannot be rotated" in capsys.readouterr().err


def test_32_bit_arm_installs_from_a_wheelhouse_or_is_refused_with_how_to_make_one(home, artifact, index, monkeypatch):
    monkeypatch.setattr(launch.platform, "machine", lambda: "armv7l")
    with pytest.raises(launch.LaunchError, match=r"32-bit ARM \(armv7l\).*pip wheel -r requirements.txt"):
        launch.environment(home, artifact)
    (artifact / "wheelhouse").mkdir()
    launch.environment(home, artifact)


def test_what_is_in_use_and_what_a_rollback_needs_is_kept(home):
    kinds = ["env-a", "env-b", "env-c", "env-d", "code-a", "code-b", "code-c"]
    for kind in kinds:
        (home / kind).mkdir()
    script = home / "env-a" / "python3"
    script.write_text("#!/bin/sh\nread -r _\n")
    script.chmod(0o755)
    for number, kind in enumerate(kinds):
        os.utime(home / kind, (number, number))
    with subprocess.Popen([str(script)], stdin=subprocess.PIPE) as process:
        while str(script) not in Path(f"/proc/{process.pid}/cmdline").read_text():
            pass  # until it is the script
        (home / "venv" / "bin").mkdir(parents=True)
        launch.tidy(home, {home / "env-d", home / "code-c"}, home / "venv")
        process.stdin.close()
    assert {path.name for path in home.iterdir()} == {"env-a", "env-c", "env-d", "code-b", "code-c"}


# The script of the recipe, as a nucleus runs it ------------------------------------------------------------------


class Gateway:
    """A device whose components run as another user, and own their folders."""

    def __init__(self, folder, wheelhouse=None):
        self.root = folder / "gg"
        self.work, self.home = self.root / "work" / build.DEFAULT_NAME, self.root / "certificate-rotator"
        self.artifacts = self.root / "packages"
        for path in (self.root, self.work, self.artifacts):
            path.mkdir(parents=True, exist_ok=True)
        self.archive = self.artifacts / build.ARCHIVE
        build.write_archive(self.archive, wheelhouse)
        self.recipe = build.write_recipe(
            folder, name=build.DEFAULT_NAME, version="1.0.0", bucket="b", archive=self.archive
        )
        if os.geteuid() == 0:  # lite gives the unpacked artifacts away too
            for path in (self.work, self.artifacts, self.archive):
                os.chown(path, OTHER, OTHER)

    def start(self, step, **environment):
        lifecycle = yaml.safe_load(self.recipe.read_text())["Manifests"][0]["Lifecycle"]
        script = lifecycle[step]["Script"].replace("{artifacts:path}", str(self.artifacts))
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        return subprocess.Popen(
            ["/bin/sh", "-c", script], cwd=self.work, env={"PATH": path, **environment},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run(self, step, **environment):
        process = self.start(step, **environment)
        said, _ = process.communicate()
        return process.returncode, said


@pytest.fixture
def gateway(tmp_path):
    for folder in [tmp_path, *tmp_path.parents][:3]:  # the other user may pass
        folder.chmod(folder.stat().st_mode | 0o011)
    return Gateway(tmp_path)


def test_root_runs_its_own_copy_though_the_other_user_plants_what_python_would_import(gateway):
    marker = gateway.root / "planted"
    evil = f"import pathlib; pathlib.Path({str(marker)!r}).write_text('')\n"
    for name in ("certificate_rotator", "protocol", "awsiot"):
        (gateway.work / name).mkdir()
        (gateway.work / name / "__init__.py").write_text(evil)
    for name in ("sitecustomize.py", "usercustomize.py", "runpy.py", "argparse.py", "zipfile.py"):
        (gateway.work / name).write_text(evil)
    (gateway.work / "venv" / "bin").mkdir(parents=True)
    (gateway.work / "venv" / "bin" / "python3").write_text(f"#!/bin/sh\ntouch {marker}\n")
    (gateway.work / "venv" / "bin" / "python3").chmod(0o755)
    code, said = gateway.run("install", PYTHONPATH=str(gateway.work), PYTHONSTARTUP=str(gateway.work / "runpy.py"))
    assert code == 0, said
    _, said = gateway.run("run", PYTHONPATH=str(gateway.work))
    assert "AWS_IOT_THING_NAME is empty or not set" in said  # it came as far as the component itself
    assert not marker.exists()
    assert not list(gateway.home.rglob("__pycache__"))


def test_what_root_runs_cannot_be_changed_by_the_user_that_components_run_as(gateway):
    assert gateway.run("install")[0] == 0
    paths = [gateway.home, *gateway.home.rglob("*")]
    if os.geteuid() == 0:
        attempt = (
            "import os, sys\n"
            "for path in sys.argv[1:]:\n"
            "    for act in (lambda: open(path, 'ab'), lambda: os.rename(path, path + 'x'), lambda: os.unlink(path),\n"
            "                lambda: os.mkdir(path + '/x'), lambda: os.chmod(path, 0o777)):\n"
            "        try: act()\n"
            "        except OSError: pass\n"
            "        else: print('changed', path)\n"
        )
        tried = subprocess.run(
            ["/usr/bin/python3", "-I", "-c", attempt, *map(str, paths)], user=OTHER, group=OTHER, extra_groups=[],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert tried.stdout == ""
    assert all(path.stat().st_uid == os.geteuid() and not path.stat().st_mode & 0o022 for path in paths)


def test_an_archive_that_is_not_the_recipes_is_refused_and_does_no_harm_once_root_has_its_copy(gateway):
    good = gateway.archive.read_bytes()
    with zipfile.ZipFile(gateway.archive, "a") as archive:
        archive.writestr("runpy.py", "raise SystemExit(99)")
    code, said = gateway.run("install")
    assert code == 1
    assert "was changed on its way or on this device" in said
    assert "deploy the component again" in said
    assert not list(gateway.home.glob("code-*"))
    changed = gateway.archive.read_bytes()
    gateway.archive.write_bytes(good)
    assert gateway.run("install")[0] == 0
    gateway.archive.write_bytes(changed)
    assert gateway.run("install")[0] == 0
    gateway.archive.unlink()
    assert gateway.run("install")[0] == 0


def test_a_root_folder_that_the_other_user_can_change_is_refused(gateway):
    if os.geteuid() == 0:
        os.chown(gateway.root, OTHER, OTHER)
    else:
        gateway.root.chmod(0o777)
    code, said = gateway.run("install")
    assert code == 1
    assert f"{gateway.root} can be changed by the user that components run as" in said
    assert "chown it to root" in said


def test_a_copy_that_the_other_user_has_planted_is_not_run(gateway):
    """Before there is root's own: the folder, and in it what would be run."""
    digest = hashlib.sha256(gateway.archive.read_bytes()).hexdigest()
    planted = gateway.home / f"code-{digest[:16]}"
    planted.mkdir(parents=True)
    (planted / "bootstrap.py").write_text("raise SystemExit(99)")
    if os.geteuid() != 0:
        return  # there is no other user that one could become
    for path in (gateway.home, planted, planted / "bootstrap.py"):
        os.chown(path, OTHER, OTHER)
    code, said = gateway.run("run")
    assert code == 1
    assert "can be changed by the user that components run as" in said


def test_code_that_was_half_unpacked_when_the_power_failed_is_unpacked_again(gateway):
    draft = gateway.home / "draft-code"
    draft.mkdir(parents=True)
    (draft / "archive").write_bytes(gateway.archive.read_bytes()[:100])
    (draft / "half").touch()
    assert gateway.run("install")[0] == 0
    (code,) = gateway.home.glob("code-*")
    assert not (code / "half").exists()
    assert not draft.exists()


def wheel(folder, name):
    """A package with nothing in it; returns its line for requirements.txt."""
    stem = f"{name.replace('-', '_')}-0.0.1"
    files = {
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.0.1\n",
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{stem}.dist-info/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{stem}.dist-info/RECORD"])
    target = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return f"{name}==0.0.1 \\\n    --hash=sha256:{hashlib.sha256(target.read_bytes()).hexdigest()}\n"


def test_two_steps_at_once_make_one_environment_from_the_wheelhouse_alone(tmp_path, monkeypatch):
    """As nucleus lite starts them, with the real pip; there is no index that it could ask."""
    wheels, sources = tmp_path / "wheels" / "3.11-x86_64", tmp_path / "sources"
    wheels.mkdir(parents=True)
    shutil.copytree(build.COMPONENT / "certificate_rotator", sources / "certificate_rotator")
    shutil.copytree(build.COMPONENT.parent / "protocol", tmp_path / "protocol")
    for name in ("recipe.yaml", "loader.py", "bootstrap.py"):
        shutil.copy(build.COMPONENT / name, sources)
    lines = [wheel(wheels, name) for name in (*launch.NEEDED, launch.FOR_TOKENS)]
    (sources / "requirements.txt").write_text("".join(lines))
    monkeypatch.setattr(build, "COMPONENT", sources)
    gateway = Gateway(tmp_path, tmp_path / "wheels")
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0"}
    both = [gateway.start("install", **nowhere) for _ in range(2)]
    for process in both:
        said, _ = process.communicate()
        assert process.returncode == 0, said
    (environment,) = gateway.home.glob("env-*")
    assert launch.satisfies(launch.python_of(environment), "".join(lines))
    assert not list(gateway.home.glob("draft-*"))

    shutil.rmtree(next(environment.rglob("pyyaml-0.0.1.dist-info")))
    wrong = re.sub(r"sha256:....", "sha256:0000", "".join(lines))
    problem = launch._pip(environment, wrong, ["--no-index", "--find-links", str(wheels)])
    assert problem, "hashes are checked"


def test_an_environment_works_where_it_was_moved_to(tmp_path):
    venv.create(str(tmp_path / "draft"), with_pip=False)
    (tmp_path / "draft").rename(tmp_path / "place")
    asked = [str(launch.python_of(tmp_path / "place")), "-I", "-c", "import sys; print(sys.prefix)"]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip() == str(tmp_path / "place")
