"""Everything beyond the cloud's door: the MQTT endpoint, Greengrass nuclei, and devices in this process."""

from __future__ import annotations

from .faults import Delivery, Direction, Fault, Faults
from .in_process import InProcessDevice
from .in_process_host import InProcessHost
from .mqtt.endpoint import MqttEndpoint
from .nucleus import (
    NO_INDEX,
    Component,
    ConfigurationUpdate,
    DeploymentOutcome,
    LifecycleState,
    Nucleus,
    Pkcs11Settings,
    Profile,
    Provisioning,
    provision,
)
from .nucleus.deployment_agent import DeploymentAgent

__all__ = [
    "NO_INDEX",
    "Component",
    "ConfigurationUpdate",
    "Delivery",
    "DeploymentAgent",
    "DeploymentOutcome",
    "Direction",
    "Fault",
    "Faults",
    "InProcessDevice",
    "InProcessHost",
    "LifecycleState",
    "MqttEndpoint",
    "Nucleus",
    "Pkcs11Settings",
    "Profile",
    "Provisioning",
    "provision",
]
