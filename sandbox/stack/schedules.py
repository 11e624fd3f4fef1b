"""EventBridge rules that run a function again and again, on the sandbox's clock.

If the clock leaps, what fell due in between runs once, not once for each time: as on AWS after an outage of
the scheduler, nothing is made up for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sandbox.aws.site import Site, new_id

from .functions import StackFunctions
from .template import TemplateError

_RATE = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")


def every(expression: str) -> timedelta:
    """Return the period of a schedule; TemplateError for what the sandbox does not have."""
    found = _RATE.fullmatch(expression)
    if found is None:
        raise TemplateError(f"the sandbox has schedules of the form rate(15 minutes), found {expression!r}")
    return timedelta(**{f"{found[2]}s": int(found[1])})


class Schedules:
    """The schedules of one stack."""

    def __init__(self, site: Site, functions: StackFunctions) -> None:
        self._site, self._functions = site, functions

    def add(self, arn: str, properties: Mapping[str, Any]) -> None:
        """Run the targets of a rule from now on; a rule over events hears nothing, as the sandbox has no CloudTrail."""
        if properties.get("State", "ENABLED") != "ENABLED" or "EventPattern" in properties:
            return
        self._later(arn, properties["Targets"], every(properties["ScheduleExpression"]))

    def _later(self, arn: str, targets: list[Mapping[str, Any]], period: timedelta) -> None:
        def due() -> None:
            for target in targets:
                event = json.loads(target["Input"]) if "Input" in target else self._event(arn, self._site.now())
                self._functions.invoke(_name(target), event)
            self._later(arn, targets, period)

        with self._site.transaction():
            self._site.timers.at(self._site.now() + period, due)

    def _event(self, arn: str, now: datetime) -> dict[str, Any]:
        return {
            "version": "0",
            "id": new_id(),
            "detail-type": "Scheduled Event",
            "source": "aws.events",
            "account": self._site.account,
            "time": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": self._site.region,
            "resources": [arn],
            "detail": {},
        }


def _name(target: Mapping[str, Any]) -> str:
    return str(target["Arn"]).rpartition(":")[2]
