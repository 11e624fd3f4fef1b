"""The component's configuration, checked before a deployment is accepted.

Keys are spelled as in ``recipe.yaml``; unknown ones are errors, because a misspelt limit that is
silently ignored is found out in the field. Numbers may arrive as floats, because the nucleus speaks JSON,
and as text: nucleus lite reads every scalar of a YAML recipe so.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field, fields
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from protocol.algorithms import (
    DEFAULT_CSR_SIGNING_ALGORITHM,
    DEFAULT_KEY_TYPE,
    CsrSigningAlgorithm,
    KeyType,
    parse_csr_algorithm,
    parse_key_type,
    require_matching,
)
from protocol.errors import ProtocolError

from .errors import ConfigurationError

SAFE_RECONNECT_LIMIT = 180.0  # seconds
SILENT_SECONDS = 130.0  # of nucleus classic, if it tries to publish before its PKCS#11 provider is there


@dataclass(frozen=True)
class Configuration:
    """How this device rotates; a job document overrides the two algorithms."""

    key_type: KeyType = field(
        default=DEFAULT_KEY_TYPE,
        metadata={"key": "keyAlgorithm", "meaning": "Key type if the job names none."},
    )
    signing_algorithm: CsrSigningAlgorithm = field(
        default=DEFAULT_CSR_SIGNING_ALGORITHM,
        metadata={
            "key": "signingAlgorithm",
            "meaning": "How the signing request is signed if the job names nothing. It must be of the key's family.",
        },
    )
    resend_interval: float = field(
        default=10.0,
        metadata={
            "key": "resendIntervalSeconds",
            "meaning": "An unanswered message is repeated after so many seconds. It must be below the step time limit.",
        },
    )
    step_time_limit: float = field(
        default=30.0,
        metadata={"key": "stepTimeLimitSeconds", "meaning": "Seconds for one answer from the cloud."},
    )
    reconnect_limit: float = field(
        default=SAFE_RECONNECT_LIMIT,
        metadata={
            "key": "reconnectTimeLimitSeconds",
            "meaning": "Seconds for the nucleus to restart and connect. After that the old credential comes back. "
            "Below 180 the component warns in its log: nucleus classic may need 120 s to connect after a cut, and with "
            "PKCS#11 it may send nothing for 130 s after a slow start. If such a start takes more than 50 s, set more.",
        },
    )
    restart_command: Tuple[str, ...] = field(
        default=(),
        metadata={
            "key": "restartCommand",
            "meaning": "Program and arguments that restart the nucleus. Left out: `systemctl restart --no-block "
            "greengrass.service`; on nucleus lite its IoT core service; on Windows the service `greengrass`, by a "
            "helper process that outlives the component.",
        },
    )


_LIMITS: Mapping[str, Tuple[str, float, float]] = {  # key: (field, least, most), in seconds
    "resendIntervalSeconds": ("resend_interval", 1, 300),
    "stepTimeLimitSeconds": ("step_time_limit", 5, 600),
    "reconnectTimeLimitSeconds": ("reconnect_limit", 10, 3600),
}
_NUMBER = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")
_PASSED_THROUGH = ("accessControl",)  # the nucleus' own


def parse(values: Mapping[str, Any]) -> Configuration:
    """Read what the nucleus has merged; ConfigurationError names every problem at once."""
    problems: List[str] = []
    values_read: Dict[str, Any] = {}

    def read(key: str, name: str, parser: Callable[[Any], Any]) -> None:
        if values.get(key) is not None:
            try:
                values_read[name] = parser(values[key])
            except (ProtocolError, ConfigurationError) as error:
                problems.append(f"{key}: {error}")

    read("keyAlgorithm", "key_type", parse_key_type)
    read("signingAlgorithm", "signing_algorithm", parse_csr_algorithm)
    for key, (name, least, most) in _LIMITS.items():
        read(key, name, functools.partial(_seconds, least=least, most=most))
    read("restartCommand", "restart_command", _command)
    known = {*(one.metadata["key"] for one in fields(Configuration)), *_PASSED_THROUGH}
    problems += [f"{key}: no such setting; allowed: {', '.join(sorted(known))}" for key in values if key not in known]
    configuration = Configuration(**values_read)
    problems += filter(None, [_mismatch(configuration, problems), _resends(configuration)])
    if problems:
        raise ConfigurationError("; ".join(problems))
    return configuration


def _mismatch(configuration: Configuration, problems: List[str]) -> Optional[str]:
    if any(problem.startswith(("keyAlgorithm", "signingAlgorithm")) for problem in problems):
        return None
    try:
        require_matching(configuration.key_type, configuration.signing_algorithm)
    except ProtocolError as error:
        return f"keyAlgorithm and signingAlgorithm: {error}"
    return None


def _resends(configuration: Configuration) -> Optional[str]:
    if configuration.resend_interval < configuration.step_time_limit:
        return None
    return (
        f"resendIntervalSeconds is {configuration.resend_interval:g}, expected less than "
        f"stepTimeLimitSeconds, which is {configuration.step_time_limit:g}: else nothing is ever sent again"
    )


def _seconds(value: object, *, least: float, most: float) -> float:
    number = float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not least <= number <= most:
        raise ConfigurationError(f"found {value!r}, expected seconds from {least:g} to {most:g}")
    return float(number)


def _command(value: object) -> Tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(part, str) and part for part in value):
        raise ConfigurationError(f"found {value!r}, expected a list of non-empty strings, or an empty list")
    return tuple(value)
