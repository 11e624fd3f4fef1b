"""The settings of an account: endpoints, events, tags, topic rules as state (who runs them is sandbox.stack)."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from sandbox.aws.errors import AwsError, UnsupportedError, invalid
from sandbox.aws.paging import answer, page
from sandbox.aws.site import Site

EVENT_TYPES = (
    "THING", "THING_GROUP", "THING_TYPE", "THING_GROUP_MEMBERSHIP", "THING_GROUP_HIERARCHY", "THING_TYPE_ASSOCIATION",
    "JOB", "JOB_EXECUTION", "POLICY", "CERTIFICATE", "CA_CERTIFICATE",
)  # fmt: skip
_ENDPOINT_TYPES = ("iot:Data-ATS", "iot:Data", "iot:Jobs", "iot:CredentialProvider", "iot:Data-Beta")
_SQL_TOPIC = re.compile(r"\bFROM\s+'([^']*)'", re.IGNORECASE)


class Endpoints:
    """``describe_endpoint``: one stable address for all services; MQTT clients get theirs elsewhere."""

    def __init__(self, address: Callable[[], str]) -> None:
        self._address = address

    def describe_endpoint(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return ``host:port``, to be used as ``https://host:port``."""
        kind = request.get("endpointType", "iot:Data")
        if kind not in _ENDPOINT_TYPES:
            raise invalid(f"endpointType is {kind!r}, expected one of {', '.join(_ENDPOINT_TYPES)}")
        return {"endpointAddress": self._address()}


class EventConfigurations:
    """The registry and jobs events that are published; all off until somebody turns them on."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._enabled = dict.fromkeys(EVENT_TYPES, False)
        self._created: datetime | None = None
        self._modified: datetime | None = None

    def enabled(self, kind: str) -> bool:
        """Return whether events of this kind are published."""
        return self._enabled[kind]

    def update_event_configurations(self, request: dict[str, Any]) -> dict[str, Any]:
        """Turn kinds of events on or off."""
        for kind, setting in request.get("eventConfigurations", {}).items():
            self._enabled[kind] = bool(setting.get("Enabled", False))
        self._modified = self._site.now()
        self._created = self._created or self._modified
        return {}

    def describe_event_configurations(self, _request: dict[str, Any]) -> dict[str, Any]:
        """Return every kind, on or off."""
        return {
            "eventConfigurations": {kind: {"Enabled": on} for kind, on in self._enabled.items()},
            "creationDate": self._created,
            "lastModifiedDate": self._modified,
        }


class Tags:
    """Tags of any ARN."""

    def __init__(self) -> None:
        self._by_arn: dict[str, dict[str, str]] = {}

    def of(self, arn: str) -> dict[str, str]:
        """Return the tags as a dict."""
        return dict(self._by_arn.get(arn, {}))

    def put(self, arn: str, tags: dict[str, str]) -> None:
        """Add tags, replacing those of the same key."""
        self._by_arn.setdefault(arn, {}).update(tags)

    def forget(self, arn: str) -> None:
        """Forget a resource that is gone."""
        self._by_arn.pop(arn, None)


class IotTags:
    """The tag calls of AWS IoT."""

    def __init__(self, tags: Tags) -> None:
        self._tags = tags

    def tag_resource(self, request: dict[str, Any]) -> dict[str, Any]:
        """Add tags."""
        self._tags.put(request["resourceArn"], {t["Key"]: t.get("Value", "") for t in request["tags"]})
        return {}

    def untag_resource(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take tags away."""
        arn = request["resourceArn"]
        kept = {k: v for k, v in self._tags.of(arn).items() if k not in request["tagKeys"]}
        self._tags.forget(arn)
        self._tags.put(arn, kept)
        return {}

    def list_tags_for_resource(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return all tags of an ARN."""
        found, token = page(self._tags.of(request["resourceArn"]).items(), lambda item: item[0], request)
        return answer("tags", [{"Key": k, "Value": v} for k, v in found], token)


class TopicRules:
    """Topic rules as state. ``enabled`` and ``get`` let whoever evaluates them obey the operator's levers."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._by_name: dict[str, dict[str, Any]] = {}

    def names(self) -> list[str]:
        """Return all rules in name order."""
        return sorted(self._by_name)

    def get(self, name: str) -> dict[str, Any] | None:
        """Return the members of ``get_topic_rule``'s ``rule``; None if there is no such rule."""
        rule = self._by_name.get(name)
        return dict(rule) if rule else None

    def enabled(self, name: str) -> bool:
        """Return whether the rule exists and is not disabled."""
        rule = self._by_name.get(name)
        return rule is not None and not rule["ruleDisabled"]

    def create_topic_rule(self, request: dict[str, Any]) -> None:
        """Create a rule."""
        name = request["ruleName"]
        if name in self._by_name:
            raise AwsError("ResourceAlreadyExistsException", f"rule {name} already exists",
                           resourceId=name, resourceArn=self._arn(name))  # fmt: skip
        self._put(name, request["topicRulePayload"], self._site.now())

    def replace_topic_rule(self, request: dict[str, Any]) -> None:
        """Replace a rule."""
        old = self._require(request["ruleName"])
        self._put(request["ruleName"], request["topicRulePayload"], old["createdAt"])

    def get_topic_rule(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return all about one rule."""
        return {"ruleArn": self._arn(request["ruleName"]), "rule": self._require(request["ruleName"])}

    def list_topic_rules(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return rules in name order, by exact topic filter or by state."""
        rules = [self._summary(rule) for rule in self._by_name.values()]
        wanted = [r for r in rules if request.get("topic") in (None, r["topicPattern"])
                  and request.get("ruleDisabled") in (None, r["ruleDisabled"])]  # fmt: skip
        found, token = page(wanted, lambda r: str(r["ruleName"]), request)
        return answer("rules", found, token)

    def enable_topic_rule(self, request: dict[str, Any]) -> None:
        """Let the rule act again."""
        self._require(request["ruleName"])["ruleDisabled"] = False

    def disable_topic_rule(self, request: dict[str, Any]) -> None:
        """Stop the rule."""
        self._require(request["ruleName"])["ruleDisabled"] = True

    def delete_topic_rule(self, request: dict[str, Any]) -> None:
        """Delete a rule; one that is not there stays so."""
        self._by_name.pop(request["ruleName"], None)

    def _arn(self, name: str) -> str:
        return self._site.arn(f"rule/{name}")

    def _put(self, name: str, payload: dict[str, Any], created_at: datetime) -> None:
        if not _SQL_TOPIC.search(payload["sql"]):
            raise AwsError("SqlParseException", "the SQL of a rule needs FROM 'topic filter'")
        known = ("sql", "description", "actions", "ruleDisabled", "awsIotSqlVersion", "errorAction")
        rule = {key: payload[key] for key in known if key in payload}
        self._by_name[name] = {"ruleDisabled": False, "ruleName": name, "createdAt": created_at, **rule}

    def _require(self, name: str) -> dict[str, Any]:
        if name not in self._by_name:
            # What AWS answers to a rule that does not exist.
            raise AwsError("UnauthorizedException", f"access to topic rule {name!r} was denied (it does not exist)")
        return self._by_name[name]

    def _summary(self, rule: dict[str, Any]) -> dict[str, Any]:
        topic = _SQL_TOPIC.search(rule["sql"])
        return {
            "ruleArn": self._arn(rule["ruleName"]),
            "ruleName": rule["ruleName"],
            "topicPattern": topic[1] if topic else "",
            "createdAt": rule["createdAt"],
            "ruleDisabled": rule["ruleDisabled"],
        }


def unsupported_parameter(service: str, operation: str, parameter: str) -> UnsupportedError:
    """Return the error for a parameter that AWS acts on and the sandbox cannot."""
    return UnsupportedError(f"the sandbox does not support {parameter} of {service} {operation}; see docs/sandbox.md")
