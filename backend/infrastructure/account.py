"""The questions of a deployment to the account: its endpoints, and that AWS IoT publishes job events."""

from __future__ import annotations

from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import custom_resources as cr
from constructs import Construct


class AccountSetup(Construct):
    """Three calls at deploy time, so that no function needs them at run time."""

    def __init__(self, scope: Construct) -> None:
        super().__init__(scope, "Account")
        self._log_group = logs.LogGroup(self, "Log", retention=logs.RetentionDays.ONE_MONTH)
        self.data_endpoint = self._endpoint("DataEndpoint", "iot:Data-ATS")
        self.jobs_endpoint = self._endpoint("JobsEndpoint", "iot:Jobs")
        self._call(
            "JobExecutionEvents",
            "updateEventConfigurations",
            {"eventConfigurations": {"JOB_EXECUTION": {"Enabled": True}}},
            "iot:UpdateEventConfigurations",
        )

    def _endpoint(self, name: str, endpoint_type: str) -> str:
        call = self._call(name, "describeEndpoint", {"endpointType": endpoint_type}, "iot:DescribeEndpoint")
        return call.get_response_field("endpointAddress")

    def _call(self, name: str, action: str, parameters: dict[str, object], permission: str) -> cr.AwsCustomResource:
        return cr.AwsCustomResource(
            self,
            name,
            install_latest_aws_sdk=False,
            log_group=self._log_group,
            on_update=cr.AwsSdkCall(  # also made on creation; deletion leaves the account as it is
                service="Iot",
                action=action,
                parameters=parameters,
                physical_resource_id=cr.PhysicalResourceId.of(name),
            ),
            policy=cr.AwsCustomResourcePolicy.from_statements(
                [iam.PolicyStatement(actions=[permission], resources=["*"])]  # AWS IoT knows no resource for these
            ),
        )
