"""One account with our backend's table, and ``certfleet heal`` in its repository."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cli_factory import Factory

from protocol.names import BackendNames
from protocol.watch import Watch, key_of
from sandbox.clock import SandboxClock

NAMES = BackendNames()
ARN = "arn:aws:iot:eu-west-1:123456789012:cert/"
TABLE = "Rotations"


class World(Factory):
    """``clock`` is that of the account; ``ahead`` is how far the commands' own is before the machine's."""

    def __init__(self, folder, monkeypatch):
        super().__init__(folder)
        self.monkeypatch, self.ahead = monkeypatch, timedelta()
        self.clock: SandboxClock = self.cloud.site.clock
        self.dynamodb = self.client("dynamodb")
        names = ("thingName", "record")
        self.dynamodb.create_table(
            TableName=TABLE,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": n, "KeyType": kind} for n, kind in zip(names, ("HASH", "RANGE"), strict=True)],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in names],
        )
        self.cloud.functions.register(NAMES.create_function, lambda event, _: event, {"TABLE_NAME": TABLE})
        self.iot.create_topic_rule(
            ruleName=NAMES.presence_rule, topicRulePayload={"sql": "SELECT * FROM 'a'", "actions": []}
        )
        self.file = folder / "heal.json"

    @property
    def now(self):
        return datetime.now(UTC) + self.ahead

    def pass_by(self, days):
        """Time goes on for the account and for the commands."""
        self.ahead += timedelta(days=days)
        self.clock.advance(timedelta(days=days))
        self.monkeypatch.setenv("CERTFLEET_CLOCK_AHEAD", str(self.ahead.total_seconds()))

    def plan(self, *arguments):
        """(kind, certificate, thing) of each action; the plan lies in ``file``."""
        told = self.run("heal", "plan", "--format", "json", "--output", str(self.file), *arguments)
        assert told.code in (0, 2), told.err
        [found] = json.loads(self.file.read_text())["fleets"]
        return [(one["kind"], one["certificate_id"], one["thing"]) for one in found["actions"]], found["left"]

    def apply(self):
        return self.run("heal", "apply", str(self.file), "--pause", "0s")

    def heal(self):
        """Plan and apply until nothing is left to do now."""
        kinds = []
        while actions := self.plan()[0]:
            kinds += [kind for kind, *_ in actions]
            told = self.apply()
            assert told.code == 0, told.out + told.err
        return kinds

    def connected(self, certificate_id, client_id, at=None):
        """What the backend's function makes of a connection."""
        item = self.item(certificate_id)
        if item is not None:
            known = Watch.from_record(item).seen(client_id, at or self.now)
            self.put(replace(known, version=known.version + 1).to_record())

    def item(self, certificate_id):
        key = {name: {"S": value} for name, value in key_of(certificate_id).items()}
        found = self.dynamodb.get_item(TableName=TABLE, Key=key).get("Item")
        return found and {name: value.get("S") or int(value.get("N", 0)) for name, value in found.items()}

    def put(self, record):
        typed = {name: {"N": str(v)} if isinstance(v, int) else {"S": v} for name, v in record.items()}
        self.dynamodb.put_item(TableName=TABLE, Item=typed)

    def statuses(self, thing):
        """Status by certificate of what a thing holds."""
        held = self.iot.list_thing_principals_v2(thingName=thing)["thingPrincipalObjects"]
        ids = [one["principal"].rpartition("/")[2] for one in held]
        return {
            one: self.iot.describe_certificate(certificateId=one)["certificateDescription"]["status"] for one in ids
        }

    def certificates(self):
        return {one["certificateId"]: one["status"] for one in self.iot.list_certificates(pageSize=250)["certificates"]}
