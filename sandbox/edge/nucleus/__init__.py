"""A stand-in for the Greengrass nucleus that runs a real component as its own process."""

from __future__ import annotations

from .deployments import Deployment, DeploymentOutcome
from .effective_config import Pkcs11Settings
from .nucleus import Component, Nucleus
from .provision import Provisioning, provision
from .recipe import Variant

__all__ = [
    "Component",
    "Deployment",
    "DeploymentOutcome",
    "Nucleus",
    "Pkcs11Settings",
    "Provisioning",
    "Variant",
    "provision",
]
