"""This deployment's description of itself, for whoever plans rotations: one parameter of Systems Manager."""

from __future__ import annotations

import tomllib
from pathlib import Path

from aws_cdk import aws_ssm as ssm
from constructs import Construct

from backend.functions.decide import ROTATABLE
from protocol.deployment import MAX_BYTES, DeployedAuthority, DeployedBackend
from protocol.job_document import DOCUMENT_FIELDS

from .documents import SettingsError
from .settings import StackSettings

_PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def publish_deployment(scope: Construct, settings: StackSettings) -> None:
    """Make the parameter, which changes with the authorities; raises SettingsError if it grows too long."""
    text = deployment_of(settings).to_json()
    if len(text.encode()) > MAX_BYTES:
        raise SettingsError(
            f"{len(settings.authorities)} authorities take {len(text.encode()):,} bytes to publish, at most "
            f"{MAX_BYTES:,} fit: deploy a second backend for some of them (context StackName)"
        )
    ssm.CfnParameter(
        scope,
        "Deployment",
        name=settings.names.deployment_parameter,
        type="String",
        tier="Intelligent-Tiering",
        description="certfleet: what this backend is; the controller compares it with git",
        value=text,
    )


def deployment_of(settings: StackSettings) -> DeployedBackend:
    """Version, authorities and job fields of this deployment."""
    return DeployedBackend(
        version=tomllib.loads(_PROJECT.read_text(encoding="utf-8"))["project"]["version"],
        authorities={
            name: DeployedAuthority(
                authority.arn, authority.signing_algorithm.value, authority.validity, authority.template_arn or ""
            )
            for name, authority in settings.authorities.items()
        },
        job_document_fields=DOCUMENT_FIELDS,
        attachments=ROTATABLE,
        heeds_quarantine=True,
    )
