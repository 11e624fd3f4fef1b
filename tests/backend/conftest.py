"""The handlers over an AWS in memory, and what they are given."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from backend_aws import VARIABLES, FakeAws, Fault, denied, make_csr, subject
from backend_device import Device
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from backend.functions import issuers, services, sweep


@pytest.fixture
def aws() -> FakeAws:
    return FakeAws()


@pytest.fixture
def variables() -> dict[str, str]:
    return dict(VARIABLES)


@pytest.fixture(autouse=True)
def running(aws: FakeAws, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sweep, "PAUSE", 0)
    monkeypatch.setattr(issuers, "_PAUSES", (0, 0))
    denied.clear()
    with services.running(services.build(variables, aws.client, lambda: aws.now)):
        yield
    assert denied == []  # by the function's role in the template
    assert all(stream.closed for stream in aws.streams)


@pytest.fixture
def device(aws: FakeAws) -> Device:
    return Device(aws)


@pytest.fixture
def make_device():
    return Device


@pytest.fixture
def fault():
    return Fault


@pytest.fixture
def csr_of():
    return make_csr


@pytest.fixture
def name_of():
    return subject


@pytest.fixture(scope="session")
def keys() -> dict[str, Any]:
    return {
        "RSA-1024": rsa.generate_private_key(65537, 1024),  # a weak key on purpose
        "RSA-2048": rsa.generate_private_key(65537, 2048),
        "RSA-2048-exponent-3": rsa.generate_private_key(3, 2048),
        "RSA-3072": rsa.generate_private_key(65537, 3072),
        "ECDSA-P256": ec.generate_private_key(ec.SECP256R1()),
        "ECDSA-P384": ec.generate_private_key(ec.SECP384R1()),
        "ECDSA-P521": ec.generate_private_key(ec.SECP521R1()),
        "secp256k1": ec.generate_private_key(ec.SECP256K1()),
    }


@pytest.fixture
def iot_calls(aws: FakeAws):
    def count() -> Counter[str]:
        return Counter(call for call in aws.calls if call.startswith(("iot:", "iot-data:", "iot-jobs-data:")))

    return count
