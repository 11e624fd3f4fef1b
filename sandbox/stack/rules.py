"""The rule engine: messages on the bus → SQL → functions.

A rule's definition is read from the cloud when a message meets its topic filter, so that
``disable_topic_rule`` and ``replace_topic_rule`` act at once.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sandbox.aws.iot.settings import TopicRules
from sandbox.bus import Message

from . import sql
from .functions import StackFunctions

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TopicRule:
    """A rule of the template: its name in the cloud, and the filter that finds its messages."""

    name: str
    topic_filter: str


class RuleEngine:
    """Hears every message; hands on what an enabled rule selects."""

    def __init__(self, rules: TopicRules, functions: StackFunctions, clock: Callable[[], datetime]) -> None:
        self._definitions = rules
        self._functions = functions
        self._clock = clock
        self._rules: list[TopicRule] = []

    def add(self, name: str, payload: Mapping[str, Any]) -> None:
        """Declare a rule that exists in the cloud; SqlError or RuleError if the sandbox cannot run it."""
        statement = sql.parse(payload["sql"])
        for action in payload["actions"]:
            if "lambda" not in action:
                raise sql.SqlError(f"rule {name}: the sandbox runs Lambda actions only, found {sorted(action)}")
        self._rules.append(TopicRule(name, statement.topic_filter))

    def hear(self, message: Message) -> None:
        """Handle an event of the bus, on the publisher's thread: what a rule starts has one of its own."""
        for rule in self._rules:
            if sql.matches(rule.topic_filter, message.topic):
                try:
                    self._apply(rule, message)
                except Exception:  # one rule's failure is no other rule's
                    log.exception("rule %s failed on %s", rule.name, message.topic)

    def _apply(self, rule: TopicRule, message: Message) -> None:
        definition = self._definitions.get(rule.name)
        if definition is None or definition["ruleDisabled"]:
            log.info("rule %s is disabled: a message on %s is passed over", rule.name, message.topic)
            return
        payload = _object(message.payload)
        if payload is None:
            log.warning("rule %s: the payload on %s is not a JSON object", rule.name, message.topic)
            return
        now = int(self._clock().timestamp() * 1000)
        context = sql.MessageContext(payload, message.topic, message.client_id, message.principal, now)
        selected = sql.parse(definition["sql"]).apply(context)
        if selected is None:
            return
        for action in definition["actions"]:
            self._functions.invoke(action["lambda"]["functionArn"].rpartition(":")[2], selected)


def _object(payload: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
