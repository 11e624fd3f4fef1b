"""Lays out a core device's root folder, as an installer or fleet provisioning would have left it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .effective_config import (
    DEFAULT_CERTIFICATE,
    DEFAULT_PRIVATE_KEY,
    NUCLEUS,
    PKCS11_PROVIDER,
    EffectiveConfig,
    Pkcs11Settings,
)
from .recipe import Variant
from .traits import Profile

VERSIONS: Mapping[Profile, str] = {
    Profile.CLASSIC: "2.18.2",
    Profile.LITE_2_6: "2.6.0",
    Profile.LITE_MAIN: "2.6.0-326e992",
}


@dataclass(frozen=True, slots=True)
class Provisioning:
    """A device's configuration; empty certificate and key leave the nucleus' own defaults in its root folder."""

    thing_name: str
    host: str
    port: int
    root_ca: Path
    region: str = "us-east-1"
    certificate: str = ""  # path, file: URI or pkcs11: URI
    private_key: str = ""
    pkcs11: Pkcs11Settings | None = None
    profile: Profile = Profile.CLASSIC
    interpolate: bool = True  # interpolateComponentConfiguration
    by_fleet: bool = False  # its credential's paths stand in the nucleus' memory alone
    nucleus: Mapping[str, Any] = field(default_factory=dict)  # further nucleus configuration


def provision(root: Path, device: Provisioning) -> EffectiveConfig:
    """Write what the nucleus remembers, and make the folders; returns the configuration."""
    for folder in ("config", "logs", "work", "packages"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    lite = device.profile.variant is Variant.LITE
    nucleus: dict[str, Any] = {
        "awsRegion": device.region,
        "iotDataEndpoint": device.host,
        "greengrassDataPlaneEndpoint": "iotdata",  # certificates of a private CA need it
        "mqtt": {"port": device.port},
        "interpolateComponentConfiguration": device.interpolate,
        **device.nucleus,
    }
    services: dict[str, Any] = {
        NUCLEUS: {
            "componentType": "NUCLEUS",
            "version": VERSIONS[device.profile],
            "configuration": nucleus,
        }
    }
    if device.pkcs11:
        provider = device.pkcs11
        services[PKCS11_PROVIDER] = {
            "componentType": "PLUGIN",
            "configuration": {
                "name": provider.name,
                "library": provider.library,
                "slot": provider.slot,
                "userPin": provider.user_pin,
            },
        }
    system = {
        "certificateFilePath": device.certificate or ("" if device.pkcs11 else str(root / DEFAULT_CERTIFICATE)),
        "privateKeyPath": device.private_key or str(root / DEFAULT_PRIVATE_KEY),
        "rootCaPath": str(device.root_ca),
        "rootPath" if lite else "rootpath": str(root),
        "thingName": device.thing_name,
    }
    config = EffectiveConfig(root, device.profile)
    config.write({"system": system, "services": services})
    blank = {"certificateFilePath": "", "privateKeyPath": ""} if device.by_fleet else {}
    config.write_snapshot(system | blank)
    return config
