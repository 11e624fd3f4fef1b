"""Fixtures of the device on virtual time. These tests run on every Python that the component runs on."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from component_cloud import Ca, pem_of, subject_of
from component_tokens import SoftHsm, Tpm
from component_world import World
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from protocol.algorithms import CsrSigningAlgorithm, KeyType

# It stands on the small world, which runs the backend's functions: not on every Python that the component runs on.
collect_ignore = [] if find_spec("boto3") else ["test_component_table.py"]


def pytest_collection_modifyitems(items):
    """Mark what needs one of the tokens that are made here: there are none for Windows."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        named = set(item.fixturenames) | (set(map(str, callspec.params.values())) if callspec else set())
        if named & {"softhsm", "tpm"}:
            item.add_marker(pytest.mark.posix)


@pytest.fixture(scope="session")
def ca():
    return Ca()


@pytest.fixture(scope="session")
def first_pair(ca):
    """The credential a device is born with: (certificate PEM, key PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = ca.issue(key.public_key(), subject_of())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return pem_of(certificate), pem


def temporary_in_memory():
    """A folder in memory where there is such: what is synced is counted here, and a disk would only be waited for."""
    shared = Path("/dev/shm")
    return tempfile.TemporaryDirectory(dir=str(shared) if shared.is_dir() else None)


@pytest.fixture
def memory_folder():
    with temporary_in_memory() as folder:
        yield Path(folder)


@pytest.fixture
def world(memory_folder, ca, first_pair):
    return World(memory_folder, ca, first_pair)


def made_once(kind, temporary):
    """A token for the whole process: its library reads the environment when it is loaded."""
    with pytest.MonkeyPatch.context() as patch, temporary as folder:
        token = kind(Path(folder))
        for name, value in token.environment.items():
            patch.setenv(name, value)
        yield token
        token.stop()


@pytest.fixture(scope="session")
def softhsm():
    yield from made_once(SoftHsm, temporary_in_memory())


@pytest.fixture(scope="session")
def tpm():
    yield from made_once(Tpm, tempfile.TemporaryDirectory())


@pytest.fixture
def make_world(ca, first_pair):
    def make(folder, pair=first_pair, **device):
        folder.mkdir(parents=True, exist_ok=True)
        return World(folder, ca, pair, **device)

    return make


def rotation(key_type=KeyType.ECDSA_P256, algorithm=CsrSigningAlgorithm.SHA256_ECDSA):
    return {"operation": "ROTATE_CERTIFICATE", "keyAlgorithm": key_type.value, "signingAlgorithm": algorithm.value}


@pytest.fixture
def rotation_document():
    return rotation


@pytest.fixture
def say(capsys):
    """Print a line although output is captured."""

    def say(text):
        with capsys.disabled():
            print(f"\n{text}", end=" ")  # noqa: T201  # how exhaustive it was

    return say
