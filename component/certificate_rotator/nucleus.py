"""The settings of the nucleus on this device: where the credential lies, and who may use it.

Two rules. The file that the nucleus really uses counts, not one that lies at a place where it often does: nucleus
classic keeps that in ``<root>/config/config.tlog`` (``effectiveConfig.yaml`` beside it is a snapshot, blank on a
device that was provisioned by its fleet), nucleus lite in its configuration service. And a PIN, which may stand in a
``pkcs11:`` URI or in the provider's configuration, is never shown, logged or copied, in no form: messages quote
labels only.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple, Union
from urllib.parse import unquote, urlsplit

from protocol.algorithms import Family, KeyType
from protocol.names import LEAST_NUCLEUS

from .errors import DeviceError
from .ports import MessagesError

LITE_FOLDER = Path("/etc/greengrass")
SECRET_MANAGER = b"aws.greengrass.SecretManager"
PKCS11_PROVIDER = "aws.greengrass.crypto.Pkcs11Provider"
CERTIFICATE, PRIVATE_KEY = "certificateFilePath", "privateKeyPath"
NEXT_MAJOR = (3, 0)

_MAX_BYTES = 8 * 1024 * 1024
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # two letters and more: one is a Windows drive
# As in file:///C:/greengrass; urllib.request, which knows it, brings HTTP along.
_DRIVE = re.compile(r"^/(?=[A-Za-z]:/)")
_REMEDY = "the component does not guess: set it, or rotate this device by other means"


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
Settings = Dict[str, Any]


def root_of(work_folder: Path) -> Path:
    """Return the nucleus' root folder, seen from a component's working folder; raises DeviceError."""
    folder = work_folder.resolve()
    if folder.parent.name != "work":
        raise DeviceError(f"expected to run in <root>/work/<component>, found {folder}; let the nucleus start this")
    return folder.parent.parent


def thing_name(environment: Mapping[str, str]) -> str:
    """Return this device's name, as the nucleus reports it to its components; raises DeviceError."""
    name = environment.get("AWS_IOT_THING_NAME", "")
    if not name:
        raise DeviceError(
            "AWS_IOT_THING_NAME is empty or not set: this program is a Greengrass component, and its nucleus has no "
            "thing name; set system.thingName in the nucleus' configuration"
        )
    return name


def refuse_version(environment: Mapping[str, str]) -> None:
    """Raise DeviceError if this component was not made for the version that the nucleus reports.

    Both kinds of nucleus report it to their components; nucleus lite heeds no dependency of a recipe on a version.
    """
    version = environment.get("GGC_VERSION", "")
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers and not LEAST_NUCLEUS <= (int(numbers[1]), int(numbers[2])) < NEXT_MAJOR:
        raise DeviceError(
            f"this is Greengrass nucleus {version[:40]}; the component needs 2.6 or later of version 2: deploy such a "
            "nucleus first"
        )


def of_classic(root: Path) -> Credential:
    """Return the credential of nucleus classic; DeviceError shows what is missing."""
    snapshot, log = root / "config" / "effectiveConfig.yaml", root / "config" / "config.tlog"
    if not snapshot.exists() and not log.exists():
        raise DeviceError(f"neither {log} nor {snapshot} exists: no nucleus is configured here")
    settings = _load(snapshot) if snapshot.exists() else {}
    system = dict(_mapping(settings.get("system"), f"{snapshot}: system"))
    services = _mapping(settings.get("services"), f"{snapshot}: services")
    provider = dict(_service(services, PKCS11_PROVIDER))
    if log.exists():
        known = _last_words(log)
        system.update({name: known[path] for name in (CERTIFICATE, PRIVATE_KEY) if (path := ("system", name)) in known})
        place = ("services", PKCS11_PROVIDER, "configuration")
        provider.update({path[-1]: value for path, value in known.items() if path[:-1] == place})
    return _credential(system.get(CERTIFICATE), system.get(PRIVATE_KEY), provider, f"{log} or {snapshot}")


def refuse_loss_of_secrets(root: Path, wanted: KeyType, in_place: str) -> None:
    """Raise DeviceError if the nucleus in ``root`` holds secrets that it would lose with a key of the ``wanted`` type.

    ``in_place`` is the type of the key in place: only an RSA key wraps secrets, and only an RSA key can take over.
    """
    log = root / "config" / "config.tlog"
    if wanted.family is Family.RSA or not in_place.startswith("RSA") or not log.exists():
        return
    with log.open("rb") as file:
        held = any(SECRET_MANAGER in line for line in file)
    if held:
        raise DeviceError(
            f"{SECRET_MANAGER.decode()} wraps its secrets with the device's RSA key, and would lose them with the "
            f"{wanted.value} key that the job demands; let it demand RSA-2048 or RSA-3072"
        )


def of_lite(ask: Callable[[str], object], folder: Path = LITE_FOLDER) -> Credential:
    """Return the credential of nucleus lite in ``folder``; raises DeviceError. ``ask`` reads a system setting."""
    try:
        certificate, key = ask(CERTIFICATE), ask(PRIVATE_KEY)
        where = "the nucleus' configuration service"
    except MessagesError:  # a version that does not tell: what it was started with, if that says anything
        system: Settings = {}
        for source in _lite_sources(folder):
            system.update(_mapping(_load(source).get("system"), f"{source}: system"))
        certificate, key = system.get(CERTIFICATE), system.get(PRIVATE_KEY)
        where = f"{folder}/config.yaml, and the nucleus' configuration service does not report"
    if _in_token(certificate) or _in_token(key):
        raise DeviceError(
            "the device's credential is in a token (pkcs11:), which nucleus lite reads through OpenSSL: this component "
            "rotates only files there; move the credential to files, or rotate this device by other means"
        )
    return _credential(certificate, key, {}, where)


def _lite_sources(folder: Path) -> List[Path]:
    base = folder / "config.yaml"
    fragments = sorted((folder / "config.d").glob("*.yaml")) + sorted((folder / "config.d").glob("*.yml"))
    return [path for path in (base, *fragments) if path.exists()]


def _last_words(log: Path) -> Dict[Tuple[str, ...], Any]:
    """Return the last value of each path that concerns the credential; None if it was removed."""
    latest: Dict[Tuple[str, ...], Tuple[int, Any]] = {}
    for path, time, value in _lines(log):
        if time >= latest.get(path, (0, None))[0]:
            latest[path] = time, value
    return {path: value for path, (_, value) in latest.items()}


def _lines(log: Path) -> Iterator[Tuple[Tuple[str, ...], int, Any]]:
    try:
        with log.open(encoding="utf-8", errors="replace") as file:
            for text in file:
                if '"system"' in text or PKCS11_PROVIDER in text:
                    yield from _line(text)
    except OSError as error:
        raise DeviceError(f"cannot read {log}: {error}; the component needs RequiresPrivilege") from error


def _line(text: str) -> Iterator[Tuple[Tuple[str, ...], int, Any]]:
    try:
        line = json.loads(text)
        path, time, what = tuple(map(str, line["TP"])), int(line["TS"]), line.get("W", "changed")
    except (ValueError, KeyError, TypeError):  # the last line may be half written
        return
    if what in ("changed", "removed"):
        yield path, time, line.get("V") if what == "changed" else None


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


def _credential(certificate: object, key: object, provider: Mapping[str, Any], where: str) -> Credential:
    if _is_blank(key):
        raise DeviceError(f"{where} does not show where the device's private key lies ({PRIVATE_KEY}); {_REMEDY}")
    if _in_token(key) and _is_blank(certificate):  # legal: it lies beside its key
        certificate = key
    if _is_blank(certificate):
        raise DeviceError(f"{where} does not show where the device's certificate lies ({CERTIFICATE}); {_REMEDY}")
    if not _in_token(certificate) and not _in_token(key):
        return FileCredential(_path(certificate, CERTIFICATE), _path(key, PRIVATE_KEY))
    if not (_in_token(certificate) and _in_token(key)):
        raise DeviceError(
            f"one of {CERTIFICATE} and {PRIVATE_KEY} is a pkcs11: URI and the other a file; "
            "a rotation needs both in the token or both in files"
        )
    labels = {_label(str(certificate)), _label(str(key))}
    if len(labels) > 1:
        raise DeviceError(
            f"key and certificate must share one label, found {' and '.join(sorted(labels))}; rename one of them with "
            "pkcs11-tool, and name it in the nucleus' configuration"
        )
    return TokenCredential(
        labels.pop(),
        library=str(_required(provider, "library")),
        slot=_slot(_required(provider, "slot")),
        user_pin=str(_required(provider, "userPin")),
    )


def _is_blank(value: object) -> bool:
    return value is None or value == ""


def _in_token(value: object) -> bool:
    return isinstance(value, str) and value.startswith("pkcs11:")


def _path(value: object, name: str) -> Path:
    if not isinstance(value, str):
        raise DeviceError(f"system.{name} is {type(value).__name__}, expected a path or URI")
    if value.startswith("file:"):
        return Path(_DRIVE.sub("", unquote(urlsplit(value).path)))
    scheme = _SCHEME.match(value)
    if scheme:
        raise DeviceError(f"system.{name} is a {scheme[0]} URI; keys are rotated in files and PKCS#11 tokens only")
    return Path(value)


def _label(uri: str) -> str:
    attributes = dict(part.split("=", 1) for part in re.split("[;?&]", uri[len("pkcs11:") :]) if "=" in part)
    label = unquote(attributes.get("object", ""))
    if not label:
        raise DeviceError(
            "a pkcs11: URI of the nucleus' configuration has no object=LABEL; name the object by its label"
        )
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
        raise DeviceError(f"{PKCS11_PROVIDER}: slot is not a number") from None


def _service(services: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    service = _mapping(services.get(name), f"services.{name}")
    return _mapping(service.get("configuration"), f"services.{name}.configuration")


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DeviceError(f"{what} is {type(value).__name__}, expected a mapping")
    return value
