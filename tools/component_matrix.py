"""Run the component's tests on every Python that it promises to run on: ``make component-matrix``.

For each of 3.9 to 3.13: a virtual environment with the component's own pinned requirements, in which the tests
of component and protocol run; then, played by this Python, the sandbox's nucleus rotates a device whose component
runs in that environment, over real IPC and mutual TLS. Versions may be named (``PYTHONS="3.9 3.13"``): those must be
there. Without names, every one that is found counts, and the others are named at the end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
REQUIREMENTS = ("component/requirements.txt", "requirements/component-tests.txt")
IN_SANDBOX = "tests/component/in_sandbox"
DEVICE_TESTS = ("tests/component", "tests/protocol", f"--ignore={IN_SANDBOX}")
SANDBOX_TESTS = (
    f"{IN_SANDBOX}/test_component_on_nuclei.py::test_it_rotates_again_and_again_without_an_error[lite-2.6]",
    f"{IN_SANDBOX}/test_component_in_sandbox.py::test_a_wrong_configuration_fails_the_job_if_it_came_unasked_and_the_deployment_once_the_component_listens",
    f"{IN_SANDBOX}/test_component_losses.py::test_what_is_lost_at_any_step_costs_seconds_not_the_rotation[classic-IPC]",
)
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")


def main(arguments: list[str]) -> int:
    """Return 0 if the tests pass on every version named, or found."""
    wanted = arguments or list(VERSIONS)
    if unknown := set(wanted) - set(VERSIONS):
        sys.stderr.write(f"unknown versions: {' '.join(sorted(unknown))}; the component runs on {' '.join(VERSIONS)}\n")
        return 1
    found = {version: path for version in wanted if (path := find(version))}
    missing = [version for version in wanted if version not in found]
    results = {version: passes(version, path) for version, path in found.items()}
    for version, passed in results.items():
        sys.stdout.write(f"Python {version}: {'passed' if passed else 'FAILED'} ({found[version]})\n")
    for version in missing:
        sys.stdout.write(f"Python {version}: NOT FOUND as python{version} in PATH or under ~/.pyenv/versions\n")
    ran_enough = bool(results) and not (arguments and missing)
    return 0 if ran_enough and all(results.values()) else 1


def find(version: str) -> Path | None:
    """Return the interpreter of this version, in PATH or among those that pyenv has installed; one that really runs."""
    in_path = shutil.which(f"python{version}")
    installed = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    for candidate in ([Path(in_path)] if in_path else []) + installed:
        say = "import sys; print('%d.%d' % sys.version_info[:2])"
        done = subprocess.run([candidate, "-c", say], capture_output=True, text=True, check=False)  # noqa: S603  # own words
        if done.stdout.strip() == version:
            return candidate
    return None


def passes(version: str, interpreter: Path) -> bool:
    """Return whether everything passes on this version."""
    folder = ROOT / "build" / "matrix" / version
    python = folder / "bin" / "python"
    run(interpreter, "-m", "venv", "--clear", folder)
    files = [word for name in REQUIREMENTS for word in ("-r", name)]
    pip = ("-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--only-binary=:all:", "--require-hashes")
    if not run(python, *pip, *files):
        return False
    sys.stdout.write(f"\nPython {version}: the component's own tests\n")
    on_device = run(python, *PYTEST, "-n", "auto", *DEVICE_TESTS)
    sys.stdout.write(f"\nPython {version}: the component in the sandbox\n")
    in_sandbox = run(sys.executable, *PYTEST, "-n", "0", *SANDBOX_TESTS, COMPONENT_PYTHON=str(python))
    return on_device and in_sandbox


def run(program: Path | str, *arguments: Path | str, **environment: str) -> bool:
    """Run a command in the repository; return whether it succeeded."""
    sys.stdout.flush()
    command = [str(program), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=False)  # noqa: S603  # own words
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
