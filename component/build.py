"""Builds what Greengrass deploys: ``python -m component.build --output DIR --version 1.2.3``.

Writes ``recipe.yaml`` and ``certificate-rotator.zip``, which holds ``bootstrap.py``, ``certificate_rotator/``,
``protocol/``, ``requirements.txt`` and, if one is given, ``wheelhouse/``; nothing else. The same
sources give the same bytes: names are sorted, times and permissions fixed. ``--gdk`` writes the
folders that the Greengrass Development Kit expects (see ``gdk-config.json``).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import textwrap
import zipfile
from pathlib import Path
from typing import Dict, List, Mapping, Optional

COMPONENT = Path(__file__).resolve().parent
ARCHIVE = "certificate-rotator.zip"
DEFAULT_NAME = "aws.greengrass.labs.CertificateRotator"
_PLACE = re.compile(r"^( *)LOADER$", re.MULTILINE)
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a ZIP file can tell


def main(arguments: Optional[List[str]] = None) -> int:
    """Build once; 0 when done."""
    parser = argparse.ArgumentParser(prog="component.build", description="Build the Greengrass component.")
    parser.add_argument("--output", type=Path, help="folder for recipe.yaml and the archive")
    parser.add_argument("--version", help="component version, as in 1.2.3")
    parser.add_argument("--name", default=DEFAULT_NAME, help="component name (default: %(default)s)")
    parser.add_argument("--bucket", default="BUCKET_NAME", help="S3 bucket that will hold the archive")
    parser.add_argument(
        "--wheelhouse", type=Path, help="folder of wheels to bundle (its own folders too), for devices without an index"
    )
    parser.add_argument("--gdk", action="store_true", help="build for the Greengrass Development Kit")
    options = parser.parse_args(arguments)
    if options.gdk:
        _build_for_gdk(options.wheelhouse)
        return 0
    if options.output is None or options.version is None:
        parser.error("--output and --version are required (or --gdk)")
    options.output.mkdir(parents=True, exist_ok=True)
    write_archive(options.output / ARCHIVE, options.wheelhouse)
    recipe = write_recipe(options.output, name=options.name, version=options.version, bucket=options.bucket)
    sys.stdout.write(f"{recipe}\n{options.output / ARCHIVE}\n")
    return 0


def write_recipe(folder: Path, *, name: str, version: str, bucket: str, archive: Optional[Path] = None) -> Path:
    """Return the recipe of this ``version`` for this ``bucket``; S3 still has to get the archive at the Uri it names.

    It holds the digest of ``archive`` (the one in the folder, unless another is named).
    """
    text = (COMPONENT / "recipe.yaml").read_text(encoding="utf-8")
    text = re.sub(r"^ *#.*\n|  # .*", "", text, flags=re.MULTILINE)  # nucleus lite takes 8,195 bytes
    script = (COMPONENT / "loader.py").read_text(encoding="utf-8").rstrip()
    script = re.sub(r"\n{2,}", "\n", script).replace("    ", " ")
    text = _PLACE.sub(lambda match: textwrap.indent(script, match[1]), text)
    digest = hashlib.sha256((archive or folder / ARCHIVE).read_bytes()).hexdigest()
    filled_in = {
        "COMPONENT_NAME": name, "COMPONENT_VERSION": version, "BUCKET_NAME": bucket, "ARCHIVE_DIGEST": digest
    }  # fmt: skip
    for placeholder, value in filled_in.items():
        text = text.replace(placeholder, value)
    target = folder / "recipe.yaml"
    target.write_text(text, encoding="utf-8")
    return target


def write_archive(target: Path, wheelhouse: Optional[Path] = None) -> None:
    """Write the artifact to ``target``, with the wheels of ``wheelhouse``: the same bytes for the same sources."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(_members(wheelhouse).items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, wherever it is built
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data)


def _members(wheelhouse: Optional[Path]) -> Dict[str, bytes]:
    members = {
        f"{package.name}/{source.name}": source.read_bytes()
        for package in (COMPONENT / "certificate_rotator", COMPONENT.parent / "protocol")
        for source in package.glob("*.py")
    }
    wheels = {wheel.name: wheel.read_bytes() for wheel in wheelhouse.rglob("*.whl")} if wheelhouse else {}
    requirements = (COMPONENT / "requirements.txt").read_text(encoding="utf-8")
    members["bootstrap.py"] = (COMPONENT / "bootstrap.py").read_bytes()
    members["requirements.txt"] = with_hashes(requirements, wheels).encode()
    return {**members, **{f"wheelhouse/{name}": data for name, data in wheels.items()}}


def with_hashes(requirements: str, wheels: Mapping[str, bytes]) -> str:
    """Return the requirements with the hashes of these ``wheels`` added: some are built by hand, as for 32-bit ARM."""
    blocks = re.split(r"\n(?=\S)", requirements.strip())
    for name, data in sorted(wheels.items()):
        digest = f"--hash=sha256:{hashlib.sha256(data).hexdigest()}"
        package, version = name.split("-")[:2]
        pin = f"{re.sub('[-_.]+', '-', package).lower()}=={version}"
        for index, block in enumerate(blocks):
            if block.startswith(f"{pin} ") and digest not in block:
                blocks[index] = f"{block} \\\n    {digest}"
    return "\n".join(blocks) + "\n"


def _build_for_gdk(wheelhouse: Optional[Path]) -> None:
    """Called by ``gdk component build`` in its own folder; GDK itself puts the bucket into the recipe."""
    settings = json.loads(Path("gdk-config.json").read_text(encoding="utf-8"))
    ((name, component),) = settings["component"].items()
    version = component["version"]
    artifacts = Path("greengrass-build", "artifacts", name, version)
    recipes = Path("greengrass-build", "recipes")
    artifacts.mkdir(parents=True, exist_ok=True)
    recipes.mkdir(parents=True, exist_ok=True)
    write_archive(artifacts / ARCHIVE, wheelhouse)
    write_recipe(recipes, name=name, version=version, bucket="BUCKET_NAME", archive=artifacts / ARCHIVE)


if __name__ == "__main__":
    sys.exit(main())
