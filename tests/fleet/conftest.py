"""A fleet, a registry in memory, and sessions that speak to it without waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fleet_registry import ACCOUNT, REGION, Registry

from controller.fleet import ActAs, AwsSession, Inventory
from controller.reconcile.values import CertificateAuthority, DesiredState, Fleet, Policy, Source
from protocol.names import AWS_IOT_AUTHORITY

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def no_ambient_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials of nobody, and nothing of this machine's own AWS configuration."""
    for variable in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE", "AWS_SESSION_TOKEN", "CERTFLEET_QUOTA_FACTOR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def make_desired() -> Callable[..., DesiredState]:
    def make(*groups: str, private: dict[str, str] | None = None, **fleet: str | None) -> DesiredState:
        source = Source("fleet/fleet.yaml", 1, {"spec.account": 5, "spec.backend.stackName": 9, "spec.arn": 14})
        authorities = {AWS_IOT_AUTHORITY: CertificateAuthority(AWS_IOT_AUTHORITY)}
        for label, arn in (private or {}).items():
            authorities[label] = CertificateAuthority(label, source, arn)
        policies = tuple(Policy(f"p-{g}", g, Source("fleet/policies.yaml", 1, {"spec.thingGroup": 7})) for g in groups)
        return DesiredState(Fleet("test", ACCOUNT, REGION, source, **fleet), authorities, policies)

    return make


@pytest.fixture
def registry() -> Registry:
    """Three devices in one group, each with its own certificate."""
    registry = Registry()
    registry.groups["line-a"] = ["a-1", "a-2", "a-3"]
    for number in (1, 2, 3):
        registry.add_certificate(f"c{number}", f"a-{number}")
    registry.templates["AWSLabsCertificateRotator"] = {
        "document": '{"operation":"ROTATE_CERTIFICATE"}',
        "description": "certfleet: rotate by hand",
    }
    return registry


@pytest.fixture
def make_session(make_desired) -> Callable[..., AwsSession]:
    def make(registry: Registry, **settings) -> AwsSession:
        fleet = settings.pop("fleet", None) or make_desired("line-a").fleet
        return AwsSession(
            fleet,
            settings.pop("act_as", ActAs.READER),
            new_session=registry.new_session,
            sleep=lambda seconds: None,
            attempts=settings.pop("attempts", 2),
            **settings,
        )

    return make


@pytest.fixture
def inventory(tmp_path: Path) -> Iterator[Inventory]:
    with Inventory(tmp_path / "inventory.sqlite") as inventory:
        yield inventory
