"""The registry and the backend's table as healing sees them: facts about one thing or certificate, and the changes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from boto3.dynamodb.types import TypeSerializer

from controller.errors import FleetError
from controller.fleet.aws import AwsSession
from controller.fleet.aws_errors import AwsCallError
from controller.fleet.backend import read_rules
from controller.fleet.reading import read_principals
from controller.fleet.rotation_table import read_item, read_items, rotation_table
from controller.reconcile.values import AttachmentType, CertificateStatus
from protocol import quarantine
from protocol.job_document import is_check, is_rotation
from protocol.quarantine import Quarantined
from protocol.rotation_record import CURRENT, FINISHED
from protocol.watch import Watch, key_of

from .facts import CertificateHolders, ThingFacts
from .quarantine import Suspect

DETACHING = (1.0, 2.0, 4.0, 8.0)  # seconds between tries to delete: a detachment may take several to propagate
LEAVING = (0.0, 1.0, 2.0, 4.0, 8.0)  # seconds until a connection that was ended is looked for again
CLIENTS = ("", *(f"#{number}" for number in range(1, 6)))
"""The suffixes that Greengrass appends to the thing's name for its connections. Others end minutes later."""
_OTHER_VERSION = "ConditionalCheckFailedException"
_HAS_ENDED = "InvalidStateTransitionException"
_STILL_ATTACHED = "DeleteConflictException"
_NEVER_KNOWN = datetime.max.replace(tzinfo=UTC)
_serialize = TypeSerializer().serialize


def table_of(session: AwsSession) -> str | None:
    """Return the table of the fleet's own backend.

    None if the backend hears of no connections now; a stock backend never does.
    """
    if not (read_rules(session) or {}).get(session.fleet.backend.presence_rule):
        return None
    return rotation_table(session)


class HealingRegistry:
    """One account and region. ``sleep`` paces what AWS does in its own time."""

    def __init__(self, session: AwsSession, table: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._session, self._table, self._sleep = session, table, sleep

    # facts

    def thing(self, name: str, *, is_rotating: bool) -> ThingFacts:
        """Return what a thing holds now; ``is_rotating`` is what is known of its jobs."""
        principals = read_principals(self._session, name) or []
        held = [self.certificate(certificate_id, AttachmentType(kind)) for certificate_id, kind in principals]
        is_busy = is_rotating or self._is_undecided(name) or self.quarantined(name) is not None
        return ThingFacts(name, tuple(one for one in held if one is not None), is_busy)

    def suspect(self, name: str) -> Suspect:
        """Return what a quarantine of a thing, or its end, goes by; all of it is read now."""
        principals = read_principals(self._session, name)
        held = [self.certificate(certificate_id, AttachmentType(kind)) for certificate_id, kind in principals or ()]
        seen = self._session.ask("iot", "GetThingConnectivityData", thingName=name) or {}
        record = self.quarantined(name)
        gone = set(record.deactivated if record else ()) - {certificate_id for certificate_id, _ in principals or ()}
        elsewhere = [self.certificate(certificate_id) for certificate_id in sorted(gone)]
        return Suspect(
            name,
            tuple(one for one in held if one is not None),
            tuple(self._rotations_asked_of(name)) if principals is not None else (),
            bool(seen.get("connected")),
            record,
            principals is not None,
            tuple(one for one in elsewhere if one is not None),
        )

    def loose_suspect(self, certificate_id: str) -> Suspect:
        """Return the suspect for a certificate that no thing holds."""
        held = self.certificate(certificate_id)
        record = self.quarantined("", certificate_id)
        return Suspect("", () if held is None else (held,), record=record, is_there=held is not None)

    def quarantined(self, thing: str, certificate_id: str = "") -> Quarantined | None:
        """Return what was done to a thing in quarantine, or to this certificate of it; None if it is not there."""
        item = self._item(quarantine.key_of(thing, certificate_id))
        return Quarantined.from_record(item) if item else None

    def all_quarantined(self) -> list[Quarantined]:
        """Return everything that is in quarantine."""
        return [Quarantined.from_record(item) for item in read_items(self._session, self._table, quarantine.PARTITION)]

    def _rotations_asked_of(self, name: str) -> Iterator[str]:
        """Yield the jobs that ask the thing for a rotation now, whoever made them."""
        for status in ("QUEUED", "IN_PROGRESS"):
            asked = {"thingName": name, "status": status}
            for one in self._session.find_all("ListJobExecutionsForThing", "executionSummaries", **asked) or ():
                answer = self._session.find("iot", "GetJobDocument", jobId=one["jobId"]) or {}
                document = _json(answer.get("document"))
                if is_rotation(document) or is_check(document):
                    yield one["jobId"]

    def certificate(
        self, certificate_id: str, kind: AttachmentType = AttachmentType.EXCLUSIVE
    ) -> CertificateHolders | None:
        """Return one certificate, held by this kind of attachment; None if it is gone."""
        found = self._session.find("iot", "DescribeCertificate", certificateId=certificate_id)
        if found is None:
            return None
        told, arn = found["certificateDescription"], self._arn(certificate_id)
        things = self._session.find_all("ListPrincipalThingsV2", "principalThingObjects", principal=arn) or []
        policies = self._session.find_all("ListAttachedPolicies", "policies", target=arn) or []
        return CertificateHolders(
            certificate_id,
            CertificateStatus(told["status"]),
            told["creationDate"],
            told.get("lastModifiedDate", _NEVER_KNOWN),
            tuple(sorted(one["thingName"] for one in things)),
            tuple(sorted(one["policyName"] for one in policies)),
            kind,
            self.watch(certificate_id),
        )

    def watch(self, certificate_id: str) -> Watch | None:
        """Return what the table holds of a certificate; None if it is not watched."""
        item = self._item(key_of(certificate_id))
        return Watch.from_record(item) if item else None

    def _is_undecided(self, thing: str) -> bool:
        """Return whether the backend has a rotation of the thing that has not come to its end."""
        item = self._item({"thingName": thing, "record": CURRENT})
        return item is not None and item.get("phase") != FINISHED

    def _item(self, key: dict[str, str]) -> dict[str, Any] | None:
        return read_item(self._session, self._table, key)

    # changes

    def save(self, watch: Watch) -> None:
        """Write a watch over the version that was read; FleetError if somebody was faster."""
        written = replace(watch, version=watch.version + 1)
        try:
            self._put(written.to_record(), watch.version)
        except AwsCallError as error:
            if error.code != _OTHER_VERSION or self.watch(watch.certificate_id) != written:
                raise  # else it was written by an attempt whose answer was lost

    def save_quarantined(self, record: Quarantined) -> Quarantined:
        """Write what is done to a thing over the version that was read; AwsCallError if somebody was faster."""
        written = replace(record, version=record.version + 1)
        try:
            self._put(written.to_record(), record.version)
        except AwsCallError as error:
            if error.code != _OTHER_VERSION or self.quarantined(record.thing, record.certificate_id) != written:
                raise  # else it was written by an attempt whose answer was lost
        return written

    def _put(self, record: dict[str, Any], read: int) -> None:
        item = {name: _serialize(value) for name, value in record.items()}
        self._session.call("dynamodb", "PutItem", TableName=self._table, Item=item, **_unless_changed(read))

    def forget_quarantined(self, record: Quarantined) -> None:
        """Remove the record of a quarantine."""
        typed = {n: _serialize(v) for n, v in quarantine.key_of(record.thing, record.certificate_id).items()}
        try:
            self._session.call(
                "dynamodb", "DeleteItem", TableName=self._table, Key=typed, **_unless_changed(record.version)
            )
        except AwsCallError as error:
            if error.code != _OTHER_VERSION or self.quarantined(record.thing, record.certificate_id) is not None:
                raise  # else it was removed by an attempt whose answer was lost

    def end_connections(self, thing: str, *, may_return: bool = False) -> bool:
        """End every connection of a thing, and what waits for it; return whether it stays away, or ``may_return``."""
        for pause in LEAVING:
            if pause:
                self._sleep(pause)
            for suffix in CLIENTS:
                self._session.find(
                    "iot-data",
                    "DeleteConnection",
                    clientId=f"{thing}{suffix}",
                    cleanSession=True,
                    preventWillMessage=True,  # which would be the words of whoever was connected
                )
            seen = self._session.ask("iot", "GetThingConnectivityData", thingName=thing) or {}
            if may_return or not seen.get("connected"):
                return True
        return False

    def cancel(self, thing: str, job_id: str) -> None:
        """Take one thing out of a job, whether it has begun or not; nobody else's part in it ends."""
        try:
            self._session.find("iot", "CancelJobExecution", jobId=job_id, thingName=thing, force=True)
        except AwsCallError as error:
            if error.code != _HAS_ENDED:
                raise

    def set_status(self, certificate_id: str, status: CertificateStatus) -> None:
        """Activate or deactivate a certificate."""
        self._session.call("iot", "UpdateCertificate", certificateId=certificate_id, newStatus=status.value)

    def remove(self, held: CertificateHolders) -> None:
        """Detach from everything and delete, then forget the watch; repeated, it goes on where it stopped."""
        arn = self._arn(held.certificate_id)
        for policy in held.policies:
            self._session.call("iot", "DetachPolicy", policyName=policy, target=arn)
        for thing in held.things:
            self._session.call("iot", "DetachThingPrincipal", thingName=thing, principal=arn)
        self._delete(held.certificate_id)
        typed = {name: _serialize(value) for name, value in key_of(held.certificate_id).items()}
        self._session.call("dynamodb", "DeleteItem", TableName=self._table, Key=typed)

    def _delete(self, certificate_id: str) -> None:
        for pause in DETACHING:
            try:
                self._session.find("iot", "DeleteCertificate", certificateId=certificate_id)
            except AwsCallError as error:
                if error.code != _STILL_ATTACHED:
                    raise
                self._sleep(pause)
            else:
                return
        raise FleetError(f"{certificate_id} is still attached, long after it was detached", "run again in a minute")

    def _arn(self, certificate_id: str) -> str:
        return self._session.arn(f"cert/{certificate_id}")


def _unless_changed(version: int) -> dict[str, Any]:
    """Return the condition that an item is as it was read; for version 0, that there is no such item."""
    if not version:
        return {"ConditionExpression": "attribute_not_exists(thingName)"}
    return {"ConditionExpression": "version = :read", "ExpressionAttributeValues": {":read": _serialize(version)}}


def _json(text: str | None) -> Any:
    try:
        return json.loads(text or "null")
    except (ValueError, RecursionError):
        return None
