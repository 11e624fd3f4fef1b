"""Everything beyond the cloud's door: the MQTT endpoint, Greengrass nuclei, and devices in this process."""

from __future__ import annotations

from .faults import Delivery, Direction, Fault, Faults
from .mqtt.endpoint import MqttEndpoint

__all__ = ["Delivery", "Direction", "Fault", "Faults", "MqttEndpoint"]
