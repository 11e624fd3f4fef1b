"""DynamoDB: moto's tables, of which a transaction that only puts items copies none.

moto keeps a copy of the whole table to go back to, item by item, for each transaction: with the records of a few
hundred rotations that takes seconds and gigabytes.
"""

from __future__ import annotations

import copy
from functools import cache
from types import SimpleNamespace
from typing import Any

SERVICE = "dynamodb"


@cache
def prepare() -> None:
    """Patch moto so that a transaction copies no more than it needs; calls of moto come one at a time."""
    from moto.dynamodb import models  # noqa: PLC0415 (it takes a second to load)

    whole = models.DynamoDBBackend.transact_write_items

    def transact_write_items(backend: Any, transact_items: list[dict[str, Any]]) -> None:
        if any("Put" not in item for item in transact_items):  # an update changes an item in place
            whole(backend, transact_items)
            return
        plain, models.copy = models.copy, SimpleNamespace(deepcopy=_with_the_same_items)
        try:
            whole(backend, transact_items)
        finally:
            models.copy = plain

    models.DynamoDBBackend.transact_write_items = transact_write_items


def _with_the_same_items(table: Any) -> Any:
    """Return a copy in which other items may be put."""
    kept = copy.copy(table)
    kept.items = copy.copy(table.items)
    for key, of_range in table.items.items():
        kept.items[key] = copy.copy(of_range) if isinstance(of_range, dict) else of_range
    return kept
