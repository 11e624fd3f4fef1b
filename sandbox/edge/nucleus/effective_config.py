"""``<root>/config/effectiveConfig.yaml``: what the nucleus is set to, on disk, where components may read it.

It is also this nucleus' memory: read at every start, written whenever a deployment changes it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

NUCLEUS = "aws.greengrass.Nucleus"
PKCS11_PROVIDER = "aws.greengrass.crypto.Pkcs11Provider"
DEFAULT_CERTIFICATE = "thingCert.crt"  # where the nucleus looks if its configuration names no file
DEFAULT_PRIVATE_KEY = "privKey.key"
DEFAULT_ROOT_CA = "rootCA.pem"


class ConfigError(Exception):
    """The configuration on disk cannot be used; the text says what was expected."""


@dataclass(frozen=True, slots=True)
class Pkcs11Settings:
    """The provider's configuration: shared library, slot id and PIN (never shown)."""

    name: str
    library: str
    slot: int
    user_pin: str

    def __repr__(self) -> str:
        return f"Pkcs11Settings(name={self.name!r}, library={self.library!r}, slot={self.slot})"


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """What a connection to AWS IoT Core needs; certificate and key are paths or ``pkcs11:`` URIs."""

    thing_name: str
    host: str
    port: int
    certificate: str
    private_key: str
    root_ca: str
    pkcs11: Pkcs11Settings | None = None


class EffectiveConfig:
    """Reads and writes the file; every write is atomic."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.path = root / "config" / "effectiveConfig.yaml"

    def read(self) -> dict[str, Any]:
        """The whole document; raises ConfigError."""
        try:
            document = yaml.safe_load(self.path.read_text())
        except (OSError, yaml.YAMLError) as error:
            message = f"{self.path} cannot be read: {error}"
            raise ConfigError(message) from error
        if not isinstance(document, dict) or not isinstance(document.get("services"), dict):
            message = f"{self.path}: expected a mapping with system and services"
            raise ConfigError(message)
        return document

    def write(self, document: Mapping[str, Any]) -> None:
        """Replace the document."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        temporary.unlink(missing_ok=True)
        with open(temporary, "w", opener=_private) as file:  # it may hold a PIN
            yaml.safe_dump(dict(document), file, sort_keys=False)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)

    def configuration(self, component: str) -> dict[str, Any] | None:
        """A component's configuration, or None if it is not installed."""
        service = self.read()["services"].get(component)
        return dict(service.get("configuration") or {}) if isinstance(service, dict) else None

    def version(self, component: str) -> str | None:
        """A component's version, or None if it is not installed."""
        service = self.read()["services"].get(component)
        return str(service.get("version")) if isinstance(service, dict) else None

    def set_configuration(self, component: str, configuration: Mapping[str, Any], version: str | None = None) -> None:
        """Store a component's configuration, and its version if that is given."""
        document = self.read()
        service = document["services"].setdefault(component, {"componentType": "GENERIC"})
        service["configuration"] = dict(configuration)
        if version is not None:
            service["version"] = version
        self.write(document)

    @property
    def interpolates(self) -> bool:
        """Whether recipe variables count in component configuration; off unless it was turned on."""
        return (self.configuration(NUCLEUS) or {}).get("interpolateComponentConfiguration") is True

    def system(self) -> dict[str, Any]:
        """The nucleus' own part."""
        return dict(self.read().get("system") or {})

    def connection(self) -> ConnectionSettings:
        """How to connect; raises ConfigError."""
        system = self.system()
        nucleus = self.configuration(NUCLEUS) or {}
        try:
            return ConnectionSettings(
                thing_name=system["thingName"],
                host=nucleus["iotDataEndpoint"],
                port=int((nucleus.get("mqtt") or {}).get("port", 8883)),
                certificate=self._location(system.get("certificateFilePath"), DEFAULT_CERTIFICATE),
                private_key=self._location(system.get("privateKeyPath"), DEFAULT_PRIVATE_KEY),
                root_ca=self._location(system.get("rootCaPath"), DEFAULT_ROOT_CA),
                pkcs11=self._pkcs11(),
            )
        except KeyError as error:
            message = f"{self.path}: {error} is missing"
            raise ConfigError(message) from error

    def _location(self, configured: str | None, default: str) -> str:
        return (configured or str(self._root / default)).removeprefix("file://")

    def _pkcs11(self) -> Pkcs11Settings | None:
        provider = self.configuration(PKCS11_PROVIDER)
        if provider is None:
            return None
        return Pkcs11Settings(
            name=str(provider.get("name", "")),
            library=str(provider["library"]),
            slot=int(provider["slot"]),
            user_pin=str(provider["userPin"]),
        )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
