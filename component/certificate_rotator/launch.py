"""The steps of the recipe: see that the pinned requirements are there, then run the component with them.

Standard library only; runs on the system's own Python. An environment built here is named by its parts, made
beside its place, and renamed into it whole: an environment that another process runs from is never touched, and one
that satisfies the pins is left alone, whether an index can be reached or not. Whoever calls holds the lock of
``home`` (``bootstrap.py``), which ends with this process or with its becoming the component.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Set

NEEDED = ("asn1crypto", "awscrt", "awsiotsdk", "cryptography", "pyyaml")
"""The packages that the component imports; the rest are their requirements."""

FOR_TOKENS = "python-pkcs11"
"""Imported only if the credential is in a PKCS#11 token; a device without one does not need it."""

KEPT = 2  # environments, and versions of the code: the one in use and the one before, which a rollback needs

_PIN = re.compile(r"^(?P<name>[A-Za-z0-9_.-]+)==(?P<version>[^\s;]+)", re.MULTILINE)
_ASK = (
    "import importlib.metadata as m, sys\n"
    "for name in sys.argv[1:]:\n"
    "    try: print(name, m.version(name))\n"
    "    except m.PackageNotFoundError: pass"
)
_RUN = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
    "runpy.run_module('certificate_rotator', run_name='__main__', alter_sys=True)"
)


PAUSES = (15.0, 300.0)  # seconds between tries, at first and at most, while an index cannot be reached
INSTALL_SECONDS = 600.0  # that the install step tries, of the 900 that it has


class LaunchError(Exception):
    """The requirements cannot be installed; the text shows what to do."""

    may_pass = False


class UnreachableError(LaunchError):
    """Pip could not download the requirements; that may pass."""

    may_pass = True


def main(arguments: Optional[List[str]] = None) -> int:
    """Install, or run; return 1, with a line on standard error, if that cannot be done."""
    parser = argparse.ArgumentParser(prog="certificate_rotator.launch", description="Install or run the component.")
    parser.add_argument("--lock", type=int, help="descriptor of the lock that is held")
    parser.add_argument("home", type=Path, help="folder that only the component's user can change")
    parser.add_argument("step", choices=["install", "run"])
    options, rest = parser.parse_known_args(arguments)
    artifact = Path(__file__).resolve().parent.parent
    python = _patiently(options, artifact)
    if python is None:
        return 1
    if options.step == "install":
        tidy(options.home.resolve(), {artifact, python.parent.parent}, Path.cwd() / "venv")
        return 0
    command = [str(python), "-I", "-B", "-u", "-c", _RUN, str(artifact), *rest]
    sys.stdout.flush()
    if os.name == "posix":
        os.execv(command[0], command)  # noqa: S606  # in the same process
    return subprocess.call(command)  # noqa: S603  # on Windows exec is a new process that nobody waits for


def _patiently(options: argparse.Namespace, artifact: Path) -> Optional[Path]:
    """Return the Python to use; None if the install step gives up.

    The run step never gives up, because a nucleus forgives only three ends of it.
    """
    began, (pause, longest) = time.monotonic(), PAUSES
    while True:
        try:
            return environment(options.home.resolve(), artifact)
        except LaunchError as error:
            sys.stderr.write(f"certificate rotator: {error}\n")
            late = time.monotonic() + pause - began > INSTALL_SECONDS
            if options.step == "install" and (late or not error.may_pass):
                return None
        _sleep(pause, options.lock)
        pause = min(2 * pause, longest)


def _sleep(seconds: float, lock: Optional[int]) -> None:
    """Wait, and release the lock meanwhile, so that the other step can try."""
    if lock is None:
        time.sleep(seconds)
        return
    import fcntl  # noqa: PLC0415  # there is none on Windows, and no lock

    fcntl.flock(lock, fcntl.LOCK_UN)
    time.sleep(seconds)
    fcntl.flock(lock, fcntl.LOCK_EX)


def environment(home: Path, artifact: Path) -> Path:
    """Return the Python that has the artifact's requirements: this one, or one in ``home``, made before or now."""
    requirements = (artifact / "requirements.txt").read_text(encoding="utf-8")
    if _are_pinned(_versions_here(), requirements):
        sys.stdout.write("the requirements are installed already\n")
        return Path(sys.executable)
    made_of = f"{requirements}\n{sys.version}\n{platform.machine()}"
    place = home / f"env-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}"
    if not (place.is_dir() and satisfies(python_of(place), requirements)):
        _build(place, requirements, artifact / "wheelhouse")
    return python_of(place)


def satisfies(python: Path, requirements: str) -> bool:
    """Return whether that Python's own packages are those that ``requirements`` pins."""
    if not python.exists():
        return False
    done = subprocess.run(  # noqa: S603  # own words
        [str(python), "-I", "-B", "-c", _ASK, *NEEDED], capture_output=True, text=True, check=False
    )
    return _are_pinned(dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line), requirements)


def _are_pinned(found: Mapping[str, str], requirements: str) -> bool:
    pinned = pins(requirements)
    return all(found.get(name) in pinned[name] for name in NEEDED)


def _versions_here() -> Dict[str, str]:
    found = {}
    for name in NEEDED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def pins(text: str) -> Dict[str, Set[str]]:
    """Return the pinned versions of each requirement: several if they differ between versions of Python."""
    found: Dict[str, Set[str]] = {}
    for match in _PIN.finditer(text):
        found.setdefault(match["name"], set()).add(match["version"])
    return found


def python_of(folder: Path) -> Path:
    """Return the interpreter of an environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python3")


def without(name: str, requirements: str) -> str:
    """Return the requirements without the one of this name."""
    blocks = re.split(r"\n(?=\S)", requirements.strip())
    return "\n".join(block for block in blocks if not block.startswith(f"{name}==")) + "\n"


def tidy(home: Path, in_use: Set[Path], before: Path) -> None:
    """Remove what earlier versions left in ``home``, except for what is in use and what a rollback would need.

    ``before`` is where the first versions had their environment; they make it anew whenever they are installed.
    """
    if not set(_running([before])):
        shutil.rmtree(str(before), ignore_errors=True)
    for kind in ("env", "code"):
        found = sorted(home.glob(f"{kind}-*"), key=lambda path: path.stat().st_mtime, reverse=True)
        running = set(_running(found))
        for folder in [path for path in found if path not in in_use][KEPT - 1 :]:
            if folder not in running:
                shutil.rmtree(str(folder), ignore_errors=True)


def _running(folders: List[Path]) -> Iterator[Path]:
    """Yield each of the folders from which a running process was started."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            command = os.fsdecode(entry.read_bytes())
            yield from (folder for folder in folders if str(folder) in command)


def _build(place: Path, requirements: str, wheelhouse: Path) -> None:
    source = _source(wheelhouse)
    draft = place.with_name("draft-env")
    shutil.rmtree(str(draft), ignore_errors=True)
    if importlib.util.find_spec("ensurepip") is None:
        raise LaunchError(
            f"this Python has no ensurepip, which makes environments; on Debian and Ubuntu: "
            f"apt-get install python3.{sys.version_info.minor}-venv"
        )
    try:
        venv.create(str(draft), with_pip=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise LaunchError(f"cannot make an environment in {draft}: {error}; free the disk or repair Python") from error
    problem = _pip(draft, requirements, source)
    if problem and not _pip(draft, without(FOR_TOKENS, requirements), source):
        sys.stderr.write(f"credentials in tokens cannot be rotated, because {FOR_TOKENS} cannot be installed here\n")
    elif problem:
        raise UnreachableError(
            f"pip cannot install the requirements ({problem}); give the device an index, or build the component with "
            f"--wheelhouse for Python 3.{sys.version_info.minor} on {platform.machine()}"
        )
    _to_disk()
    if place.exists():  # whatever it is, it does not satisfy the pins
        shutil.rmtree(str(place))
    draft.replace(place)


def _source(wheelhouse: Path) -> List[str]:
    if wheelhouse.is_dir():
        return ["--no-index", "--find-links", str(wheelhouse)]
    if platform.machine().startswith("armv"):
        raise LaunchError(
            f"there are no wheels of awscrt for 32-bit ARM ({platform.machine()}): build them on such a machine with "
            "`pip wheel -r requirements.txt -w wheels`, and the component with --wheelhouse wheels"
        )
    return []


def _pip(folder: Path, requirements: str, source: List[str]) -> str:
    """Install the requirements; return an empty text if that worked, else pip's last words."""
    wanted = folder / "requirements.txt"
    wanted.write_text(requirements, encoding="utf-8")
    command = [str(python_of(folder)), "-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    done = subprocess.run(  # noqa: S603  # own words
        [*command, "--only-binary=:all:", "--require-hashes", *source, "-r", str(wanted)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    sys.stdout.write(done.stdout)
    words = [line for line in done.stdout.splitlines() if line.startswith("ERROR")] or [
        f"it ended with {done.returncode}"
    ]
    return "" if done.returncode == 0 else words[-1]


def _to_disk() -> None:
    if hasattr(os, "sync"):
        os.sync()


if __name__ == "__main__":
    sys.exit(main())
