"""A stand-in for the Greengrass nucleus that runs a real component as its own process."""

from __future__ import annotations

from .component_process import LifecycleState
from .deployments import ConfigurationUpdate, DeploymentOutcome
from .effective_config import Pkcs11Settings
from .installation import NO_INDEX, Component
from .nucleus import Nucleus
from .provision import Provisioning, provision
from .traits import Profile

__all__ = [
    "NO_INDEX",
    "Component",
    "ConfigurationUpdate",
    "DeploymentOutcome",
    "LifecycleState",
    "Nucleus",
    "Pkcs11Settings",
    "Profile",
    "Provisioning",
    "provision",
]
