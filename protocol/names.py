"""Names that derive from the backend's stack name, as in the public solution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

DEFAULT_STACK_NAME = "AWSLabsCertificateRotator"
COMPONENT_NAME = "aws.greengrass.labs.CertificateRotator"

STATUS_DETAILS_KEY = "CertificateRotator"
"""Key in an execution's statusDetails that marks it as a rotation; a stock backend selects on it, ours does not."""

CHECK_DETAILS_KEY = "CertificateRotatorCheck"
"""Key in an execution's statusDetails that marks it as a check, which is not a rotation to any backend."""

FAILURE_REASON_KEY = "DeviceFailureReason"
"""Key in an execution's statusDetails under which the device reports why it failed."""

COMPONENT_VERSION_KEY = "ComponentVersion"
"""Key in an execution's statusDetails under which a device may report which version of the component ran it.

A failure of one version does not count against another.
"""

LEAST_NUCLEUS = (2, 6)
"""The oldest nucleus that the component runs on. Classic takes wildcards of MQTT in access control from this version
on; of lite nothing older was tried."""

LEAST_NUCLEUS_FOR_PRIVATE_CA = (2, 7)
"""The oldest classic nucleus that talks to AWS IoT with a certificate of a private CA (``greengrassDataPlaneEndpoint:
iotdata``)."""

AWS_IOT_AUTHORITY = "aws-iot"
"""The authority that always exists: AWS IoT's own CA."""


@dataclass(frozen=True)
class BackendNames:
    """Every name of one deployed backend."""

    stack_name: str = DEFAULT_STACK_NAME

    @property
    def job_template(self) -> str:
        """Id of the AWS IoT job template for rotations started by hand."""
        return self.stack_name

    @property
    def deployment_parameter(self) -> str:
        """Name of the Systems Manager parameter in which the backend describes itself."""
        return f"/certfleet/{self.stack_name}"

    @property
    def shadow(self) -> str:
        """Name of the named shadow: the public view of a rotation."""
        return self.stack_name

    @property
    def create_function(self) -> str:
        """Lambda function and topic rule that answer ``create``."""
        return f"{self.stack_name}CreateCertificate"

    @property
    def commit_function(self) -> str:
        """Lambda function and topic rule that answer ``commit``."""
        return f"{self.stack_name}CommitCertificate"

    @property
    def terminal_function(self) -> str:
        """Lambda function and topic rule that handle ended executions."""
        return f"{self.stack_name}JobExecutionTerminal"

    @property
    def sweep_function(self) -> str:
        """Lambda function that brings to its end what no event has."""
        return f"{self.stack_name}Sweep"

    @property
    def presence_rule(self) -> str:
        """Topic rule that reports connections to our backend, and to it alone."""
        return f"{self.stack_name}PresenceConnected"

    @property
    def stock_rules(self) -> Tuple[str, str, str]:
        """The topic rules that both backends have."""
        return self.create_function, self.commit_function, self.terminal_function

    @property
    def rules(self) -> Tuple[str, str, str, str]:
        """The topic rules of our backend."""
        return (*self.stock_rules, self.presence_rule)

    @property
    def notification_topic(self) -> str:
        """SNS topic for what a person must know."""
        return f"{self.stack_name}Notification"
