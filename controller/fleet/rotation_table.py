"""What the backend's table holds of rotations: read only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from boto3.dynamodb.types import TypeDeserializer

from controller.fleet.aws import AwsSession
from protocol.errors import ProtocolError
from protocol.rotation_record import CURRENT, ENDED, FINISHED, RotationRecord

_deserialize = TypeDeserializer().deserialize


def rotation_table(session: AwsSession) -> str | None:
    """Name the table of the fleet's own backend; None where none is deployed, or a stock one."""
    function = session.fleet.backend.create_function
    answer = session.find("lambda", "GetFunctionConfiguration", FunctionName=function) or {}
    name: str | None = answer.get("Environment", {}).get("Variables", {}).get("TABLE_NAME")
    return name


def read_rotations(session: AwsSession, table: str, thing: str | None = None) -> tuple[list[RotationRecord], list[str]]:
    """Read every rotation of one thing, or of all: those that have ended, and those that have not.

    The latest rotation stands in the table twice once it has ended; it is returned once.

    Returns:
        The rotations, and what is wrong with each item that this version cannot read.

    Raises:
        AwsCallError: DynamoDB refuses or does not answer.
    """
    found: list[RotationRecord] = []
    unreadable: list[str] = []
    for item in _items(session, table, thing):
        name = str(item.get("record"))
        is_open = name == CURRENT and item.get("phase") != FINISHED
        if not is_open and not name.startswith(ENDED):
            continue
        try:
            found.append(RotationRecord.from_item(item))
        except ProtocolError as error:
            unreadable.append(str(error))
    return found, unreadable


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
            yield {name: _deserialize(value) for name, value in item.items()}
        if not answer.get("LastEvaluatedKey"):
            return
        request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
