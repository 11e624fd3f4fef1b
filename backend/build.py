"""Build the code of the functions: the same bytes from the same sources, in ``build/``.

``python -m backend.build`` does it by hand; the CDK application does it by itself. ``functions.zip`` holds
``backend/functions``, ``protocol`` and the locked wheels of ``backend/requirements.txt`` for Lambda's arm64; boto3 is
part of the runtime. ``reconcile.zip`` holds ``controller``, ``protocol`` and the wheels of
``backend/reconcile-requirements.txt``, without botocore's models of services that the controller never names; it is
made if the context has ``reconcile=true``, or by ``python -m backend.build reconcile``. A zip is built anew only if one
of its sources has changed.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "backend" / "requirements.txt"
ZIP = ROOT / "build" / "functions.zip"
RECONCILE_REQUIREMENTS = ROOT / "backend" / "reconcile-requirements.txt"
RECONCILE_ZIP = ROOT / "build" / "reconcile.zip"
PYTHON = "3.14"  # of the Lambda runtime (backend/infrastructure/function.py)
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")  # Amazon Linux 2023 takes all
_MODEL = re.compile(r"botocore/data/([^/]+)/")
_SERVICE = re.compile(rb'"([a-z0-9-]+)"')
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say


class BuildError(RuntimeError):
    """The wheels could not be downloaded; the text shows pip's output."""


def sources() -> Iterator[tuple[str, bytes]]:
    """Yield our own files: name inside the zip, and content."""
    yield "backend/__init__.py", (ROOT / "backend" / "__init__.py").read_bytes()
    for folder in ("backend/functions", "protocol"):
        for path in sorted((ROOT / folder).glob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_bytes()


def reconcile_sources() -> Iterator[tuple[str, bytes]]:
    """Yield our own files of the reconcile function: name inside the zip, and content."""
    for folder in ("controller", "protocol"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_bytes()


def fingerprint(files: list[tuple[str, bytes]], requirements: Path) -> str:
    """Return the SHA-256, hex, over a zip's ``files`` and the locked ``requirements`` beside them."""
    digest = hashlib.sha256(f"{PYTHON} {PLATFORMS}".encode())
    makers = [("requirements", requirements.read_bytes()), ("build", Path(__file__).read_bytes())]
    for name, content in [*files, *makers]:
        digest.update(f"{name} {len(content)} ".encode() + content)
    return digest.hexdigest()


def build() -> Path:
    """Return the zip of the backend's functions, built if need be; raises BuildError."""
    return _build(ZIP, list(sources()), REQUIREMENTS)


def build_reconcile() -> Path:
    """Return the zip of the reconcile function, built if need be; raises BuildError."""
    return _build(RECONCILE_ZIP, list(reconcile_sources()), RECONCILE_REQUIREMENTS)


def _build(path: Path, files: list[tuple[str, bytes]], requirements: Path) -> Path:
    stamp = path.with_suffix(".sha256")
    wanted = fingerprint(files, requirements)
    if path.exists() and stamp.exists() and stamp.read_text(encoding="ascii") == wanted:
        return path
    with tempfile.TemporaryDirectory() as folder:
        install_wheels(Path(folder), requirements)
        write_zip(path, [*files, *needed(_files(Path(folder)), files)])
    stamp.write_text(wanted, encoding="ascii")
    return path


def install_wheels(folder: Path, requirements: Path) -> None:
    """Put the wheels that ``requirements`` locks, by hash, into a folder; nothing is compiled. Raises BuildError."""
    platforms = [argument for platform in PLATFORMS for argument in ("--platform", platform)]
    command = [
        *(
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-compile",
            "--no-deps",
        ),
        *("--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON, *platforms),
        *("--require-hashes", "--requirement", str(requirements), "--target", str(folder)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # our own arguments
    if done.returncode != 0:
        raise BuildError(f"pip could not get the wheels of {requirements.name} for Lambda:\n{done.stderr.strip()}")


def needed(wheels: Iterable[tuple[str, bytes]], ours: list[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Yield the files of the wheels, without botocore's models of services that no string in ``ours`` names.

    That leaves out about four hundred models.
    """
    named = {word.decode() for _, content in ours for word in _SERVICE.findall(content)}
    for name, content in wheels:
        model = _MODEL.match(name)
        if model is None or model[1] in named:
            yield name, content


def write_zip(path: Path, files: list[tuple[str, bytes]]) -> None:
    """Write a zip of ``files``, whose bytes depend on names and contents only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in sorted(files):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content)


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in {"direct_url.json", "RECORD"} and "bin" not in path.parts:
            yield path.relative_to(folder).as_posix(), path.read_bytes()


if __name__ == "__main__":
    sys.stdout.write(f"{build_reconcile() if sys.argv[1:] == ['reconcile'] else build()}\n")
