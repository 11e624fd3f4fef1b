"""Transactions of the sandbox's DynamoDB: all or nothing, and no dearer with a larger table."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

KEY = {"AttributeName": "name", "KeyType": "HASH"}, {"AttributeName": "record", "KeyType": "RANGE"}


@pytest.fixture
def table(cloud, client):
    dynamodb = client("dynamodb")
    dynamodb.create_table(
        TableName="T", BillingMode="PAY_PER_REQUEST", KeySchema=KEY,
        AttributeDefinitions=[{"AttributeName": one["AttributeName"], "AttributeType": "S"} for one in KEY],
    )  # fmt: skip
    for number in range(3):
        dynamodb.put_item(TableName="T", Item=item(number, "old"))
    return dynamodb


def item(number, text):
    return {"name": {"S": f"n{number}"}, "record": {"S": "r"}, "text": {"S": text}}


def texts(table):
    return {one["name"]["S"]: one["text"]["S"] for one in table.scan(TableName="T")["Items"]}


def put(number, text, **condition):
    return {"Put": {"TableName": "T", "Item": item(number, text), **condition}}


def update(number, text):
    return {
        "Update": {
            "TableName": "T", "Key": {name: value for name, value in item(number, "").items() if name != "text"},
            "UpdateExpression": "SET #t = :t", "ExpressionAttributeNames": {"#t": "text"},
            "ExpressionAttributeValues": {":t": {"S": text}},
        }
    }  # fmt: skip


NEVER = {"ConditionExpression": "attribute_not_exists(#n)", "ExpressionAttributeNames": {"#n": "name"}}


@pytest.mark.parametrize("kind", [put, update])
def test_a_transaction_that_fails_in_part_changes_nothing(table, kind):
    with pytest.raises(ClientError, match="TransactionCanceledException"):
        table.transact_write_items(TransactItems=[kind(0, "new"), put(7, "new"), put(1, "new", **NEVER)])
    assert texts(table) == dict.fromkeys(("n0", "n1", "n2"), "old")
    table.transact_write_items(TransactItems=[kind(0, "new"), put(7, "new")])
    assert texts(table) == {"n0": "new", "n1": "old", "n2": "old", "n7": "new"}


def test_a_transaction_that_puts_copies_no_other_item(table, monkeypatch):
    from moto.dynamodb.models.dynamo_type import Item

    copied = []
    monkeypatch.setattr(Item, "__deepcopy__", lambda self, _memo: copied.append(self) or self)
    table.transact_write_items(TransactItems=[put(0, "new"), put(1, "new")])
    assert copied == []
