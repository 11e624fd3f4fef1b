"""The settings of the nucleus, on disk: its memory, read at every start and written whenever a deployment changes it.

Nucleus classic keeps ``<root>/config/config.tlog``, one JSON object a line, of which the last for a path counts, and
writes what it knew at its launch to ``effectiveConfig.yaml`` beside it, for people and components. There the paths of
a fleet-provisioned device's credential are blank, for ever. Nucleus lite keeps a database that only its configuration
service reads; here that is a JSON file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .traits import CREDENTIAL_PATHS, Paths, Profile

NUCLEUS = "aws.greengrass.Nucleus"
PKCS11_PROVIDER = "aws.greengrass.crypto.Pkcs11Provider"
DEFAULT_CERTIFICATE = "thingCert.crt"  # where the nucleus looks if its configuration names no file
DEFAULT_PRIVATE_KEY = "privKey.key"
DEFAULT_ROOT_CA = "rootCA.pem"


class ConfigError(Exception):
    """The configuration on disk cannot be used; the text shows what was expected."""


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
    """The settings that a connection to AWS IoT Core needs; certificate and key are paths or ``pkcs11:`` URIs."""

    thing_name: str
    host: str
    port: int
    certificate: str
    private_key: str
    root_ca: str
    pkcs11: Pkcs11Settings | None = None


class EffectiveConfig:
    """Reads and writes the memory; every write is atomic."""

    def __init__(self, root: Path, profile: Profile = Profile.CLASSIC) -> None:
        self._root = root
        self._is_log = CREDENTIAL_PATHS.on(profile) is Paths.TLOG
        self.path = root / ("config/config.tlog" if self._is_log else "ggconfigd.json")
        self.snapshot = root / "config" / "effectiveConfig.yaml"

    def read(self) -> dict[str, Any]:
        """Return the whole document; raises ConfigError."""
        try:
            text = self.path.read_text()
            document = _folded(text) if self._is_log else json.loads(text)
        except (OSError, ValueError) as error:
            message = f"{self.path} cannot be read: {error}"
            raise ConfigError(message) from error
        if not isinstance(document, dict) or not isinstance(document.get("services"), dict):
            message = f"{self.path}: expected a mapping with system and services"
            raise ConfigError(message)
        return document

    def write(self, document: Mapping[str, Any]) -> None:
        """Replace the document."""
        lines = (json.dumps(line) + "\n" for line in _lines([], document)) if self._is_log else [json.dumps(document)]
        _replace(self.path, "".join(lines))

    def write_snapshot(self, system: Mapping[str, Any] | None = None) -> None:
        """Write what classic leaves for others to read at its launch; ``system`` is its first entry of itself."""
        if not self._is_log:
            return
        document = self.read()
        if system is None:
            system = yaml.safe_load(self.snapshot.read_text())["system"]
        _replace(self.snapshot, yaml.safe_dump({**document, "system": dict(system)}, sort_keys=False))

    def configuration(self, component: str) -> dict[str, Any] | None:
        """Return a component's configuration, or None if it is not installed."""
        service = self.read()["services"].get(component)
        return dict(service.get("configuration") or {}) if isinstance(service, dict) else None

    def version(self, component: str) -> str | None:
        """Return a component's version, or None if it is not installed."""
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
        """Return the nucleus' own part."""
        return dict(self.read().get("system") or {})

    def connection(self) -> ConnectionSettings:
        """Return how to connect; raises ConfigError."""
        system = self.system()
        nucleus = self.configuration(NUCLEUS) or {}
        key = str(system.get("privateKeyPath"))
        key_in_token = key if key.startswith("pkcs11:") else None  # its certificate has the same label
        try:
            return ConnectionSettings(
                thing_name=system["thingName"],
                host=nucleus["iotDataEndpoint"],
                port=int((nucleus.get("mqtt") or {}).get("port", 8883)),
                certificate=self._location(system.get("certificateFilePath") or key_in_token, DEFAULT_CERTIFICATE),
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


def _lines(path: list[str], value: Any) -> Iterator[dict[str, Any]]:
    """Yield the log that leads to a value; what stands for an empty map is there too."""
    if isinstance(value, Mapping):
        yield {"TS": 1, "TP": path, "W": "interiorAdded"}
        for key, item in value.items():
            yield from _lines([*path, str(key)], item)
    else:
        yield {"TS": 1, "TP": path, "W": "changed", "V": value}


def _folded(log: str) -> Any:
    """Return the value that a log leads to."""
    top: dict[str, Any] = {}
    for line in filter(None, log.splitlines()):
        entry = json.loads(line)
        place, path = top, ["", *entry["TP"]]
        for key in path[:-1]:
            place = place.setdefault(key, {})
        if entry["W"] == "changed":
            place[path[-1]] = entry["V"]
        else:
            place.setdefault(path[-1], {})
    return top.get("")


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    with open(temporary, "w", opener=_private) as file:  # it may hold a PIN
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
