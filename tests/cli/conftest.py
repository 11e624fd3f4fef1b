"""Commands against a sandbox cloud."""

from __future__ import annotations

import pytest
from cli_factory import Factory
from cryptography.hazmat.primitives.asymmetric import rsa


@pytest.fixture(scope="session")
def rsa_key():
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture
def surroundings(tmp_path, monkeypatch):
    """The environment of every command here, before any cloud is named."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "sandbox",
        "AWS_SECRET_ACCESS_KEY": "sandbox",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "CERTFLEET_QUOTA_FACTOR": "1000",
        "COLUMNS": "100",
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.fixture
def factory(tmp_path, surroundings):
    made = Factory(tmp_path)
    for name, value in made.cloud.environment().items():
        surroundings.setenv(name, value)
    yield made
    made.close()
