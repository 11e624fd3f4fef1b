"""What the nucleus on this device is set to: where the credential lies, and who may use it.

Greengrass IPC does not show the ``system`` part of the configuration; nucleus classic writes it to
``<root>/config/effectiveConfig.yaml``, nucleus lite reads it from ``/etc/greengrass``. A component runs
in ``<root>/work/<component>``. The PIN that may stand there is never shown, logged or copied.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, List, Mapping, Optional, Union
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from .errors import DeviceError

DEFAULT_CERTIFICATE = "thingCert.crt"  # the nucleus' own, in its root folder
DEFAULT_PRIVATE_KEY = "privKey.key"
LITE_FOLDER = Path("/etc/greengrass")
PKCS11_PROVIDER = "aws.greengrass.crypto.Pkcs11Provider"
_MAX_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class FileCredential:
    """A certificate and its key, each in a PEM file."""

    certificate: Path
    private_key: Path


@dataclass(frozen=True)
class TokenCredential:
    """A certificate and its key under one label of a PKCS#11 token."""

    label: str
    library: str
    slot: int
    user_pin: str = field(repr=False)


Credential = Union[FileCredential, TokenCredential]


def root_of(work_folder: Path) -> Path:
    """The nucleus' root folder, seen from a component's working folder."""
    folder = work_folder.resolve()
    if folder.parent.name != "work":
        raise DeviceError(f"expected to run in <root>/work/<component>, found {folder}; let the nucleus start this")
    return folder.parent.parent


def thing_name(environment: Mapping[str, str]) -> str:
    """The name that this device goes by, as the nucleus tells its components."""
    name = environment.get("AWS_IOT_THING_NAME", "")
    if not name:
        raise DeviceError(
            "AWS_IOT_THING_NAME is empty or not set: this program is a Greengrass component, and its nucleus has no "
            "thing name; set system.thingName in the nucleus' configuration"
        )
    return name


def read(root: Path, lite_folder: Path = LITE_FOLDER) -> Credential:
    """Read what the nucleus is set to; DeviceError says what is missing."""
    effective = root / "config" / "effectiveConfig.yaml"
    sources = [effective] if effective.exists() else _lite_sources(lite_folder)
    if not sources:
        raise DeviceError(f"neither {effective} nor {lite_folder}/config.yaml exists: no nucleus is configured here")
    system: dict[str, Any] = {}
    services: dict[str, Any] = {}
    for source in sources:
        document = _load(source)
        system.update(_mapping(document.get("system"), f"{source}: system"))
        services.update(_mapping(document.get("services"), f"{source}: services"))
    certificate, key = system.get("certificateFilePath"), system.get("privateKeyPath")
    return _credential(root, certificate, key, services)


def _lite_sources(folder: Path) -> List[Path]:
    base = folder / "config.yaml"
    fragments = sorted((folder / "config.d").glob("*.yaml")) + sorted((folder / "config.d").glob("*.yml"))
    return [path for path in (base, *fragments) if path.exists()]


def _load(path: Path) -> Mapping[str, Any]:
    import yaml  # noqa: PLC0415  # read once, and only where there is a file to read

    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise DeviceError(f"{path} is larger than {_MAX_BYTES} bytes")
        return _mapping(yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)), str(path))  # noqa: S506
    except OSError as error:
        raise DeviceError(f"cannot read {path}: {error}; the component needs RequiresPrivilege") from error
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", -1) + 1  # the text itself may hold a PIN
        raise DeviceError(f"{path} is not YAML (line {line})") from None


def _credential(root: Path, certificate: object, key: object, services: Mapping[str, Any]) -> Credential:
    in_token = [isinstance(value, str) and value.startswith("pkcs11:") for value in (certificate, key)]
    if not any(in_token):
        return FileCredential(
            _path(certificate, root / DEFAULT_CERTIFICATE, "certificateFilePath"),
            _path(key, root / DEFAULT_PRIVATE_KEY, "privateKeyPath"),
        )
    if not all(in_token):
        raise DeviceError(
            "one of certificateFilePath and privateKeyPath is a pkcs11: URI and the other a file; "
            "a rotation needs both in the token or both in files"
        )
    labels = {_label(str(certificate)), _label(str(key))}
    if len(labels) > 1:
        raise DeviceError(f"key and certificate must share one label, found {' and '.join(sorted(labels))}")
    provider = _service(services, PKCS11_PROVIDER)
    return TokenCredential(
        labels.pop(),
        library=str(_required(provider, "library")),
        slot=_slot(_required(provider, "slot")),
        user_pin=str(_required(provider, "userPin")),
    )


def _path(value: object, default: Path, name: str) -> Path:
    if value is None or value == "":
        return default
    if not isinstance(value, str):
        raise DeviceError(f"system.{name} is {type(value).__name__}, expected a path or URI")
    if value.startswith("file:"):
        return Path(url2pathname(unquote(urlsplit(value).path)))
    return Path(value)


def _label(uri: str) -> str:
    attributes = dict(part.split("=", 1) for part in uri[len("pkcs11:") :].split(";") if "=" in part)
    label = unquote(attributes.get("object", ""))
    if not label:
        raise DeviceError(f"expected pkcs11:object=LABEL;type=…, found {uri!r}")
    return label


def _required(provider: Mapping[str, Any], name: str) -> Any:
    value: Optional[Any] = provider.get(name)
    if value is None:
        raise DeviceError(f"the credential is in a token, but {PKCS11_PROVIDER} has no {name}; configure the provider")
    return value


def _slot(value: object) -> int:
    try:
        return int(str(value), 0)
    except ValueError:
        raise DeviceError(f"{PKCS11_PROVIDER}: slot is {value!r}, expected a number") from None


def _service(services: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    service = _mapping(services.get(name), f"services.{name}")
    return _mapping(service.get("configuration"), f"services.{name}.configuration")


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DeviceError(f"{what} is {type(value).__name__}, expected a mapping")
    return value
