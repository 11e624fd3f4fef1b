"""Documents written as the tests need them, in folders and repositories of their own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controller.desired import DocumentFile, Snapshot, load_snapshot
from controller.errors import DesiredStateError
from controller.reconcile.values import DesiredState

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)

FLEET = """\
apiVersion: certfleet/v1
kind: Fleet
metadata: {name: plant}
spec: {account: "123456789012", region: eu-west-1}
"""
AUTHORITY = """\
apiVersion: certfleet/v1
kind: CertificateAuthority
metadata: {name: plant-ca}
spec:
  type: PrivateCA
  arn: arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/5f0c9a52-3d0f-4f6f-9a53-b1d1e6a9c001
  signingAlgorithm: SHA256WITHECDSA
  validity: 365d
"""
POLICY = """\
apiVersion: certfleet/v1
kind: RotationPolicy
metadata: {name: gateways}
spec:
  thingGroup: gateways
  certificate: {maxAge: 90d}
"""


@pytest.fixture
def now() -> datetime:
    """The moment at which the documents are read."""
    return NOW


@pytest.fixture
def documents() -> Mapping[str, str]:
    """A correct document of the three kinds that every fleet has."""
    return {"fleet": FLEET, "authority": AUTHORITY, "policy": POLICY}


@pytest.fixture
def states() -> Callable[..., tuple[DesiredState, ...]]:
    """Load files given as path and text."""

    def load_files(files: Mapping[str, str | bytes], **options: object) -> tuple[DesiredState, ...]:
        taken = [
            DocumentFile(path, path, text.encode() if isinstance(text, str) else text) for path, text in files.items()
        ]
        return load_snapshot(Snapshot("desired", tuple(taken)), **{"now": NOW, **options})

    return load_files


@pytest.fixture
def problems(states: Callable[..., tuple[DesiredState, ...]]) -> Callable[..., list[str]]:
    """Every problem of files given as path and text; none is a failure of the test."""

    def all_problems(files: Mapping[str, str | bytes], **options: object) -> list[str]:
        with pytest.raises(DesiredStateError) as raised:
            states(files, **options)
        return [str(problem) for problem in raised.value.problems]

    return all_problems


class Repository:
    """A git repository in a folder, driven by the git command."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=Tester", "-c", "user.email=tester@example.com", "-c", "commit.gpgsign=false"]
        command = ["git", *identity, "-c", "protocol.file.allow=always", *arguments]
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def write(self, files: Mapping[str, str | bytes]) -> None:
        for path, text in files.items():
            target = self.root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text.encode() if isinstance(text, str) else text)

    def commit(self, files: Mapping[str, str | bytes] | None = None) -> str:
        self.write(files or {})
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=change", "--allow-empty")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """An empty repository."""
    return Repository(tmp_path / "repository")
