"""The rotation table: conditional writes make repeats and races harmless.

Partition key ``thingName``, sort key ``record``: ``current`` for the latest rotation, ``rotation#<started>#<job>``
for the evidence of each that ended, ``refused#<ended>#<job>`` for the last refusal under a job that failed, and
``budget`` for what the thing has asked for. Under keys of no thing: ``watch`` for each certificate that is
watched, and the list of those that are shared. The index ``phase`` (partition key ``phase``, sort key ``startedAt``)
finds the rotations that are open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

from protocol import quarantine
from protocol.rotation_record import CURRENT, ENDED, RefusalRecord
from protocol.watch import SHARED_KEY, SharedWatch, Watch, key_of

from .budget import CertificateBudget
from .errors import ConflictError, error_code
from .rotation import Phase, Rotation

BUDGET = "budget"
INDEX = "phase"
RACES = 8  # that a change of what many write may lose
T = TypeVar("T")
_serialize = TypeSerializer().serialize
_deserialize = TypeDeserializer().deserialize
_LOST_RACE = frozenset(
    {"ConditionalCheckFailedException", "TransactionCanceledException", "TransactionConflictException"}
)


class RotationTable:
    """Talks to DynamoDB. Every write names the version it replaces; a lost race is a ConflictError."""

    def __init__(self, dynamodb: Any, name: str) -> None:
        self._dynamodb = dynamodb
        self._name = name

    def current(self, thing_name: str) -> Rotation | None:
        """Return the thing's latest rotation, read consistently; None if it has none."""
        record = self._read(thing_name, CURRENT)
        return Rotation.from_record(record) if record else None

    def concerned(self, thing_name: str, certificate_id: str) -> tuple[Rotation | None, Watch | None]:
        """Return the thing's latest rotation and the watch over the certificate, by one call; None for what is missing.

        A connection may be evidence for both.
        """
        key = key_of(certificate_id)
        rotation, watch = self._read_both((thing_name, CURRENT), (key["thingName"], key["record"]))
        return Rotation.from_record(rotation) if rotation else None, Watch.from_record(watch) if watch else None

    def budget(self, thing_name: str) -> CertificateBudget:
        """Return what the thing has asked for."""
        record = self._read(thing_name, BUDGET)
        return CertificateBudget.from_record(thing_name, record) if record else CertificateBudget(thing_name)

    def save_budget(self, budget: CertificateBudget) -> CertificateBudget:
        """Write the budget; ``budget.version`` is the version it was read with."""
        written = replace(budget, version=budget.version + 1)
        record = {**written.to_record(), "thingName": budget.thing_name, "record": BUDGET}
        self._write(self._put(record, budget.version))
        return written

    def note_refusal(self, refusal: RefusalRecord) -> None:
        """Keep the last answer to a device under a job that has ended; a repeat writes the same."""
        self._dynamodb.put_item(TableName=self._name, Item=_item(refusal.to_item()))

    def watch(self, certificate_id: str) -> Watch | None:
        """Return what is known of a certificate that healing watches; None for every other one."""
        key = key_of(certificate_id)
        record = self._read(key["thingName"], key["record"])
        return Watch.from_record(record) if record else None

    def save_watch(self, watch: Watch) -> Watch:
        """Write a watch; ``watch.version`` is the version it was read with."""
        written = replace(watch, version=watch.version + 1)
        self._write(self._put(written.to_record(), watch.version))
        return written

    def is_quarantined(self, thing_name: str, certificate_id: str = "") -> bool:
        """Return whether people have cut off the thing, or a certificate that no thing holds."""
        key = quarantine.key_of(thing_name, certificate_id)
        return self._read(key["thingName"], key["record"]) is not None

    def note_shared(self, certificate_id: str, things: Sequence[str], now: datetime) -> bool:
        """Return whether several things hold a certificate, or held it; ``things`` hold it now.

        Such a certificate is watched, and listed for the sweep, from now on.
        """

        def watched() -> bool:
            found = self.watch(certificate_id) or Watch(certificate_id, "", now)
            if len(things) <= 1 and not found.things:
                return False
            known = found.shared_by(things)
            if known != found:
                self.save_watch(known)
            return True

        is_shared = _until_won(watched)
        if is_shared:
            self._change_shared(lambda known: replace(known, certificate_ids=known.certificate_ids | {certificate_id}))
        return is_shared

    def forget_shared(self, certificate_id: str) -> None:
        """Forget a certificate that several things held: it is gone, or left to an operator."""
        self._change_shared(lambda known: replace(known, certificate_ids=known.certificate_ids - {certificate_id}))

    def shared(self) -> SharedWatch:
        """Return the certificates that several things hold, or held."""
        record = self._read(SHARED_KEY["thingName"], SHARED_KEY["record"])
        return SharedWatch.from_record(record) if record else SharedWatch()

    def note_heard(self, now: datetime, *, is_heard: bool) -> SharedWatch:
        """Note whether connections are heard of now; return the shared certificates with that note."""
        return self._change_shared(lambda known: known.heard(now) if is_heard else known.unheard())

    def _change_shared(self, change: Callable[[SharedWatch], SharedWatch]) -> SharedWatch:
        def changed() -> SharedWatch:
            known = self.shared()
            wanted = change(known)
            if wanted != known:
                wanted = replace(wanted, version=known.version + 1)
                self._write(self._put(wanted.to_record(), known.version))
            return wanted

        return _until_won(changed)

    def _read(self, thing_name: str, record: str) -> dict[str, Any] | None:
        key = _item({"thingName": thing_name, "record": record})
        item = self._dynamodb.get_item(TableName=self._name, Key=key, ConsistentRead=True).get("Item")
        return _record(item) if item else None

    def _read_both(self, *keys: tuple[str, str]) -> list[dict[str, Any] | None]:
        """Return the records of some keys.

        A record that a throttled table leaves out is read by a call of its own, which botocore repeats.
        """
        wanted = [_item({"thingName": thing_name, "record": record}) for thing_name, record in keys]
        answer = self._dynamodb.batch_get_item(RequestItems={self._name: {"Keys": wanted, "ConsistentRead": True}})
        found = {
            (item["thingName"]["S"], item["record"]["S"]): _record(item)
            for item in answer["Responses"].get(self._name, [])
        }
        left = answer.get("UnprocessedKeys", {}).get(self._name, {}).get("Keys", [])
        return [found.get(key) if one not in left else self._read(*key) for key, one in zip(keys, wanted, strict=True)]

    def open_since_before(self, instant: datetime) -> list[tuple[datetime, str]]:
        """Return start and thing of each unfinished rotation that began before this instant; the oldest first."""
        found = [pair for phase in Phase if phase is not Phase.FINISHED for pair in self._in_phase(phase, instant)]
        return sorted(found)

    def _in_phase(self, phase: Phase, before: datetime) -> Iterator[tuple[datetime, str]]:
        start: dict[str, Any] = {}
        while True:
            page = self._dynamodb.query(
                TableName=self._name,
                IndexName=INDEX,
                KeyConditionExpression="phase = :phase AND startedAt < :before",
                ExpressionAttributeValues={
                    ":phase": _serialize(phase.value),
                    ":before": _serialize(before.isoformat()),
                },
                **start,
            )
            for item in page["Items"]:
                yield datetime.fromisoformat(item["startedAt"]["S"]), item["thingName"]["S"]
            if not page.get("LastEvaluatedKey"):
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def save(self, rotation: Rotation) -> Rotation:
        """Write the current record; ``rotation.version`` is the version it was read with."""
        written, put = self._put_current(rotation)
        self._write(put)
        return written

    def finish(self, rotation: Rotation) -> Rotation:
        """Write the ended rotation and its evidence, both or neither."""
        written, put = self._put_current(rotation)
        evidence = {
            **written.to_record(),
            "record": f"{ENDED}{rotation.started_at}#{rotation.job_id}#{rotation.public_key_digest[:8]}",
        }
        try:
            self._dynamodb.transact_write_items(
                TransactItems=[{"Put": put}, {"Put": {"TableName": self._name, "Item": _item(evidence)}}]
            )
        except ClientError as error:
            _raise_if_lost(error)
            raise
        return written

    def _put_current(self, rotation: Rotation) -> tuple[Rotation, dict[str, Any]]:
        written = replace(rotation, version=rotation.version + 1)
        return written, self._put({**written.to_record(), "record": CURRENT}, rotation.version)

    def _put(self, record: dict[str, Any], read: int) -> dict[str, Any]:
        """Return the request that writes a record over the version that was ``read``; 0: there was no record."""
        put: dict[str, Any] = {"TableName": self._name, "Item": _item(record)}
        if read == 0:
            return {**put, "ConditionExpression": "attribute_not_exists(thingName)"}
        values = {":read": _serialize(read)}
        return {**put, "ConditionExpression": "version = :read", "ExpressionAttributeValues": values}

    def _write(self, put: dict[str, Any]) -> None:
        try:
            self._dynamodb.put_item(**put)
        except ClientError as error:
            _raise_if_lost(error)
            raise


def _until_won(change: Callable[[], T]) -> T:
    """Make a change; after a lost race read again and repeat, a few times: a device's clones ask in the same moment."""
    for _ in range(RACES):
        try:
            return change()
        except ConflictError:
            continue
    return change()


def _item(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _serialize(value) for name, value in record.items()}


def _record(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _deserialize(value) for name, value in item.items()}


def _raise_if_lost(error: ClientError) -> None:
    if error_code(error) in _LOST_RACE:
        raise ConflictError("another invocation has written this rotation meanwhile") from error
