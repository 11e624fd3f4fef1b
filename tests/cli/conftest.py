"""Commands against a sandbox cloud."""

from __future__ import annotations

from contextlib import closing

import pytest
from cli_factory import Factory
from cli_heal_world import World
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


def _there(made, surroundings):
    """Its cloud is the one that commands speak to."""
    for name, value in made.cloud.environment().items():
        surroundings.setenv(name, value)
    with closing(made):
        yield made


@pytest.fixture
def factory(tmp_path, surroundings):
    yield from _there(Factory(tmp_path), surroundings)


@pytest.fixture
def world(tmp_path, surroundings):
    """With our backend's table and rules, for what healing and evidence read."""
    yield from _there(World(tmp_path, surroundings), surroundings)
