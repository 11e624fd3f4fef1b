"""The rights of a component on MQTT, by the access-control policies of its configuration.

``accessControl: {service: {policyId: {operations: […], resources: […]}}}``. A resource is a topic or
filter; ``*`` stands for any characters, ``+`` and ``#`` for levels as in MQTT. Recipe variables in
resources count only if the nucleus interpolates component configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

MQTT_SERVICE = "aws.greengrass.ipc.mqttproxy"
_NAMESPACE = "aws.greengrass#"


def is_allowed(access_control: object, operation: str, resource: str) -> bool:
    """Return whether a policy allows this operation (``PublishToIoTCore``, ``SubscribeToIoTCore``) on the topic."""
    return any(
        operation in _names(policy.get("operations")) and _covers(policy.get("resources"), resource)
        for policy in _policies(access_control)
    )


def _policies(access_control: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(access_control, Mapping):
        service = access_control.get(MQTT_SERVICE)
        if isinstance(service, Mapping):
            yield from (policy for policy in service.values() if isinstance(policy, Mapping))


def _names(operations: object) -> set[str]:
    listed = operations if isinstance(operations, list) else []
    names = {str(name).removeprefix(_NAMESPACE) for name in listed}
    return names | {"PublishToIoTCore", "SubscribeToIoTCore"} if "*" in names else names


def _covers(resources: object, resource: str) -> bool:
    listed = resources if isinstance(resources, list) else []
    return any(_pattern(str(pattern)).fullmatch(resource) for pattern in listed)


def _pattern(resource: str) -> re.Pattern[str]:
    levels = resource.split("/")
    parts: list[str] = []
    for index, level in enumerate(levels):
        separator = "/" if index else ""
        if level == "#" and index == len(levels) - 1:
            parts.append(f"({separator}.*)?")
        elif level == "+":
            parts.append(f"{separator}[^/]+")
        else:
            parts.append(separator + ".*".join(map(re.escape, level.split("*"))))
    return re.compile("".join(parts), re.DOTALL)
