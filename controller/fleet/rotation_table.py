"""The records of rotations and of shared certificates in the backend's table: read only."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from controller.fleet.aws import AwsSession
from controller.fleet.aws_errors import AwsCallError
from protocol.deployment import DeployedBackend
from protocol.errors import ProtocolError
from protocol.rotation_record import CURRENT, ENDED, FINISHED, REFUSED, RefusalRecord, RotationRecord
from protocol.watch import SHARED_KEY

BATCH = 100  # keys of one BatchGetItem
MOST_ASKED = 50  # certificates a look, of which no governed thing holds any, that are asked for their things


def rotation_table(session: AwsSession) -> str | None:
    """Name the table of the fleet's own backend; None if none is deployed, or a stock one."""
    function = session.fleet.backend.create_function
    answer = session.find("lambda", "GetFunctionConfiguration", FunctionName=function) or {}
    name: str | None = answer.get("Environment", {}).get("Variables", {}).get("TABLE_NAME")
    return name


@dataclass(slots=True)
class RotationRecords:
    """The records that the table keeps for good, of one thing or of all; ``unreadable``: why an item cannot be read."""

    rotations: list[RotationRecord] = field(default_factory=list)
    refusals: list[RefusalRecord] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def read_records(session: AwsSession, table: str, thing: str | None = None) -> RotationRecords:
    """Read every rotation, ended or not, and every refusal, of one thing or of all.

    The latest rotation stands in the table twice once it has ended; it is returned once.

    Raises:
        AwsCallError: DynamoDB refuses or does not answer.
    """
    found = RotationRecords()
    for item in _items(session, table, thing):
        name = str(item.get("record"))
        try:
            if name.startswith(REFUSED):
                found.refusals.append(RefusalRecord.from_item(item))
            elif name.startswith(ENDED) or (name == CURRENT and item.get("phase") != FINISHED):
                found.rotations.append(RotationRecord.from_item(item))
        except ProtocolError as error:
            found.unreadable.append(str(error))
    return found


def read_current(session: AwsSession, table: str, things: Sequence[str]) -> list[RotationRecord]:
    """Return the latest rotation of each of the things; one that cannot be read is left out.

    A call for every hundred. Keys that a throttled table leaves out are asked for again at the end, by as many calls at
    most.

    Raises:
        AwsCallError: DynamoDB refuses or does not answer.
    """
    waiting: list[dict[str, Any]] = [{"thingName": {"S": thing}, "record": {"S": CURRENT}} for thing in things]
    found = []
    for _ in range(2 * -(-len(waiting) // BATCH)):
        keys, waiting = waiting[:BATCH], waiting[BATCH:]
        asked = {table: {"Keys": keys, "ConsistentRead": True}}
        answer = session.call("dynamodb", "BatchGetItem", is_optional=True, RequestItems=asked)
        waiting += answer.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])
        for item in answer["Responses"].get(table, ()):
            with suppress(ProtocolError):
                found.append(RotationRecord.from_item(_record(item)))
        if not waiting:
            break
    return found


def _items(session: AwsSession, table: str, thing: str | None) -> Iterator[dict[str, Any]]:
    request: dict[str, Any] = {"TableName": table, "ConsistentRead": True}
    operation = "Scan"
    if thing is not None:
        operation = "Query"
        request["KeyConditionExpression"] = "thingName = :thing"
        request["ExpressionAttributeValues"] = {":thing": {"S": thing}}
    while True:
        answer = session.call("dynamodb", operation, **request)
        for item in answer["Items"]:
            yield _record(item)
        if not answer.get("LastEvaluatedKey"):
            return
        request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


def read_items(session: AwsSession, table: str, partition: str) -> list[dict[str, Any]]:
    """Return all items of a table below one partition key."""
    return list(_items(session, table, partition))


def read_item(session: AwsSession, table: str, key: dict[str, str]) -> dict[str, Any] | None:
    """Return the item of a table under a key; None if there is none."""
    answer = session.call(
        "dynamodb",
        "GetItem",
        TableName=table,
        Key={name: {"S": value} for name, value in key.items()},
        ConsistentRead=True,
        ReturnConsumedCapacity="TOTAL",  # by which the answer that there is no item differs from no answer
    )
    item = answer.get("Item")
    return _record(item) if item else None


def _record(item: dict[str, Any]) -> dict[str, Any]:
    from boto3.dynamodb.types import TypeDeserializer  # noqa: PLC0415 (all of boto3 with it, which most runs do not need)

    deserialize = TypeDeserializer().deserialize
    return {name: deserialize(value) for name, value in item.items()}


def read_shared(
    session: AwsSession, deployment: DeployedBackend | None, connection: sqlite3.Connection
) -> tuple[dict[str, tuple[str, ...]], str | None]:
    """Return the shared certificates, each with its things if no governed one holds it; or why they are unknown.

    The reason is None if they are known. If the ``deployment`` does not split shared certificates, there are none. A
    certificate that no thing holds any more is left out: the backend removes it. Two calls, and one for each
    certificate that no governed thing holds.
    """
    if deployment is None or not deployment.splits:
        return {}, None
    try:
        table = rotation_table(session)
        item = read_item(session, table, SHARED_KEY) if table else None
    except AwsCallError as error:
        if not error.is_denied:
            raise
        return {}, f"which certificates have been shared is not known: {error}; {error.remedy}"
    listed = sorted(map(str, (item or {}).get("certificateIds", ())))
    held = (
        {one for (one,) in connection.execute("SELECT DISTINCT certificate_id FROM attachments")} if listed else set()
    )
    found: dict[str, tuple[str, ...]] = dict.fromkeys(listed, ())
    for certificate_id in [one for one in listed if one not in held][:MOST_ASKED]:
        principal = session.arn(f"cert/{certificate_id}")
        things = session.find_all("ListPrincipalThingsV2", "principalThingObjects", principal=principal) or []
        if things:
            found[certificate_id] = tuple(sorted(str(one["thingName"]) for one in things))
        else:
            del found[certificate_id]
    return found, None
