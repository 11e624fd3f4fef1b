"""The backend, running: a synthesised template whose rules hear the bus and whose functions run here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from protocol.names import DEFAULT_STACK_NAME
from sandbox.aws import Cloud
from sandbox.aws.functions import Invoke
from sandbox.bus import Bus

from .clients import Clients
from .functions import InvokeConfig, StackFunctions, TimeSource
from .invocations import Unkindness
from .resources import Made, ResourceSite, make, rule_payload
from .rules import RuleEngine
from .schedules import Schedules
from .template import PSEUDO_PARTITION, Resolver, TemplateError


class Stack:
    """One deployed template.

    ``start`` makes the resources through the cloud's API and begins to hear the bus; ``drain`` waits
    until every message heard so far has had its effect; ``stop`` ends it (the resources stay, as the
    cloud goes with them).
    """

    def __init__(
        self,
        template: Mapping[str, Any],
        cloud: Cloud,
        bus: Bus,
        clock: TimeSource,
        stack_name: str = DEFAULT_STACK_NAME,
        *,
        code: Mapping[str, Invoke] | None = None,
        workers: int = 8,
    ) -> None:
        """``code``: what runs for a handler of this name, for functions that are not the backend's own."""
        self._resources: Mapping[str, Mapping[str, Any]] = template["Resources"]
        self._outputs: Mapping[str, Mapping[str, Any]] = template.get("Outputs", {})
        self._bus = bus
        self._clients = Clients(cloud)
        self._functions = StackFunctions(cloud, self._clients, clock, code or {}, workers)
        self._site = ResourceSite(self._clients, self._functions, cloud.site.account, cloud.site.region, stack_name)
        self._rules = RuleEngine(cloud.rules, self._functions, clock.now)
        self._schedules = Schedules(cloud.site, self._functions)
        self._made: dict[str, Made] = {}
        self._being_made: list[str] = []
        self._resolver = Resolver(
            {
                "AWS::AccountId": cloud.site.account,
                "AWS::NoValue": "",
                "AWS::Partition": PSEUDO_PARTITION,
                "AWS::Region": cloud.site.region,
                "AWS::StackName": stack_name,
                "AWS::URLSuffix": "amazonaws.com",
            },
            lambda logical_id: self._make(logical_id).ref,
            self._attribute,
        )

    def start(self) -> None:
        """Make every resource, then hear the bus."""
        for logical_id in self._resources:
            self._make(logical_id)
        for name, config in self._invoke_configs():
            self._functions.configure(name, config)
        for _, resource in self._of_type("AWS::IoT::TopicRule"):
            properties = self._resolver.value(resource["Properties"])
            self._rules.add(properties["RuleName"], rule_payload(properties))
        for logical_id, resource in self._of_type("AWS::Events::Rule"):
            self._schedules.add(self._made[logical_id].attributes["Arn"], self._resolver.value(resource["Properties"]))
        self._bus.listen(self._rules.hear)

    def drain(self, timeout: float) -> bool:
        """Wait until no rule and no function is at work; False if that takes longer (seconds)."""
        return self._functions.drain(timeout)

    def settle(self, timeout: float) -> bool:
        """Wait until none is at work, whatever Lambda still holds back; False if that takes longer (seconds)."""
        return self._functions.settle(timeout)

    @property
    def unkindness(self) -> Unkindness:
        """The faults of asynchronous invocations."""
        return self._functions.unkindness

    def stop(self) -> None:
        """Let what runs finish, and run nothing more."""
        self._functions.stop()

    @property
    def outputs(self) -> dict[str, str]:
        """The stack's outputs, as CloudFormation would show them."""
        return {name: str(self._resolver.value(output["Value"])) for name, output in self._outputs.items()}

    def invoke(self, function: str, event: Mapping[str, Any]) -> None:
        """Invoke a function asynchronously, as ``aws lambda invoke --invocation-type Event`` does."""
        self._functions.invoke(function, event)

    def _make(self, logical_id: str) -> Made:
        if logical_id in self._made:
            return self._made[logical_id]
        if logical_id not in self._resources:
            raise TemplateError(f"a reference leads to {logical_id}, which the template does not have")
        if logical_id in self._being_made:
            raise TemplateError(f"references run in a circle: {' → '.join([*self._being_made, logical_id])}")
        self._being_made.append(logical_id)
        resource = self._resources[logical_id]
        properties = self._properties(resource)
        self._made[logical_id] = make(self._site, logical_id, resource["Type"], properties)
        self._being_made.pop()
        return self._made[logical_id]

    def _properties(self, resource: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return resolved properties; none for a type with a stand-in, because they may name what is not here."""
        resolve: Callable[[Any], Any] = self._resolver.value
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::Lambda::Function" and not self._functions.runs(properties):
            return dict(properties)
        skipped = _NOT_LOOKED_AT.get(resource["Type"], frozenset())
        if skipped is None:
            return {}
        return {name: resolve(value) for name, value in properties.items() if name not in skipped}

    def _attribute(self, logical_id: str, attribute: str) -> str:
        made = self._make(logical_id)
        if attribute not in made.attributes:
            known = ", ".join(sorted(made.attributes)) or "none"
            raise TemplateError(f"{logical_id} has no attribute {attribute} in the sandbox; known: {known}")
        return made.attributes[attribute]

    def _invoke_configs(self) -> Iterator[tuple[str, InvokeConfig]]:
        queues = {
            self._made[logical_id].attributes["Arn"]: self._made[logical_id].ref
            for logical_id, _ in self._of_type("AWS::SQS::Queue")
        }
        for _, resource in self._of_type("AWS::Lambda::EventInvokeConfig"):
            properties = self._resolver.value(resource["Properties"])
            destination = properties.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
            yield (
                properties["FunctionName"],
                InvokeConfig(
                    properties["MaximumRetryAttempts"],
                    properties["MaximumEventAgeInSeconds"],
                    queues.get(destination),
                ),
            )

    def _of_type(self, kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        return ((name, resource) for name, resource in self._resources.items() if resource["Type"] == kind)


# Properties that mean nothing here, by type; None: none is looked at.
_NOT_LOOKED_AT: Mapping[str, frozenset[str] | None] = {
    "AWS::CloudWatch::Alarm": None,
    "AWS::CloudWatch::Dashboard": None,
    "AWS::Events::Rule": None,
    "AWS::IAM::Policy": None,
    "AWS::IAM::Role": None,
    "AWS::KMS::Key": None,
    "AWS::Lambda::EventInvokeConfig": None,
    "AWS::Lambda::Function": frozenset({"Code", "LoggingConfig", "Role"}),
    "AWS::Lambda::Permission": None,
    "AWS::Logs::LogGroup": None,
    "AWS::Logs::MetricFilter": None,
    "AWS::SNS::Topic": frozenset({"KmsMasterKeyId"}),
    "AWS::SNS::TopicPolicy": None,
    "AWS::SQS::Queue": frozenset({"KmsMasterKeyId"}),
    "AWS::SQS::QueuePolicy": None,
}
