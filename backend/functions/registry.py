"""Everything that the functions ask of AWS IoT: registry, jobs data plane, shadow and publishing.

The scarce calls (10/s per account, see docs/backend.md) are counted out: a rotation that goes well
makes at most two of each, over all functions.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from botocore.exceptions import ClientError

from protocol.deployment import EXCLUSIVE
from protocol.messages import ExecutionStatus

from .csr import certifies
from .errors import error_code
from .verdicts import Ending

DETACHING = (0.0, 1.0, 2.0, 4.0)
"""Seconds between tries to delete: a detachment may take several to propagate, as DetachThingPrincipal documents."""
FIRST_ATTEMPT = 1
_GONE = "ResourceNotFoundException"
_PAGE = 250

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Principal:
    """One principal of a thing."""

    arn: str
    association: str

    @property
    def certificate_id(self) -> str | None:
        """The certificate's id; None if the principal is not a certificate."""
        kind, _, identifier = self.arn.split(":", 5)[-1].partition("/")
        return identifier if kind == "cert" else None


@dataclass(frozen=True, slots=True)
class CertificateDescription:
    """The answer of DescribeCertificate."""

    arn: str
    pem: str
    status: str
    created: datetime
    changed: datetime  # its status, the last time


@dataclass(frozen=True, slots=True)
class View:
    """The public view of a thing's rotation, whoever wrote it."""

    progress: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class ExecutionState:
    """One thing's execution of a job; ``document`` is the job document as parsed JSON, None if it is not JSON.

    ``status`` is None for an execution that has ended, because the data plane no longer shows it. ``queued`` is when
    the device was asked in this attempt, which AWS IoT has repeated by itself if its ``number`` is not the first.
    """

    status: ExecutionStatus | None
    document: Any = field(default=None)
    queued: datetime | None = None
    number: int = FIRST_ATTEMPT


@dataclass(frozen=True, slots=True)
class ExecutionEnd:
    """How and when an execution has ended; ``at`` is None if the execution was deleted with its job."""

    ending: Ending
    at: datetime | None


class IotRegistry:
    """Talks to AWS IoT."""

    def __init__(self, iot: Any, jobs: Any, data: Any, *, shadow: str, shadow_before: str, presence_rule: str) -> None:
        """``shadow`` is the name under which this backend shows a rotation, ``shadow_before`` the stock one's."""
        self._iot = iot
        self._jobs = jobs
        self._data = data
        self._presence_rule = presence_rule
        self._shadow, self._shadow_before = shadow, shadow_before

    def execution(self, thing_name: str, job_id: str) -> ExecutionState | None:
        """Return the thing's execution of the job; None if there is none."""
        named = {"jobId": job_id, "thingName": thing_name}
        try:
            found = _unless_gone(self._jobs.describe_job_execution, includeJobDocument=True, **named)
        except ClientError as error:
            if error_code(error) == "TerminalStateException":
                return ExecutionState(None)
            raise
        if found is None:
            return None
        execution = found["execution"]
        queued = datetime.fromtimestamp(execution["queuedAt"], UTC) if "queuedAt" in execution else None
        return ExecutionState(
            ExecutionStatus(execution["status"]),
            _json(execution.get("jobDocument", "")),
            queued,
            execution.get("executionNumber", FIRST_ATTEMPT),
        )

    def first_queued(self, thing_name: str, job_id: str) -> datetime | None:
        """Return when the job asked the thing in its first attempt; None if AWS IoT does not know that any more."""
        named = {"jobId": job_id, "thingName": thing_name}
        answer = _unless_gone(self._iot.describe_job_execution, executionNumber=FIRST_ATTEMPT, **named)
        queued: datetime | None = None if answer is None else answer["execution"]["queuedAt"]
        return queued

    def end_of(self, thing_name: str, job_id: str) -> ExecutionEnd | None:
        """Return how the thing's latest execution of the job has ended; None while it has not."""
        answer = _unless_gone(self._iot.describe_job_execution, jobId=job_id, thingName=thing_name)
        if answer is None:
            return ExecutionEnd(Ending.DELETED, None)
        found = answer["execution"]
        if found["status"] not in Ending.__members__:
            return None
        return ExecutionEnd(Ending(found["status"]), found["lastUpdatedAt"])

    def principals(self, thing_name: str) -> list[Principal]:
        """Return the thing's principals; one page, because more than a few are refused anyway."""
        answer = self._iot.list_thing_principals_v2(thingName=thing_name)
        return [Principal(p["principal"], p["thingPrincipalType"]) for p in answer["thingPrincipalObjects"]]

    def things_of(self, certificate_arn: str) -> list[str] | None:
        """Return the things that a certificate is attached to; None if the certificate is gone."""
        names: list[str] = []
        token: dict[str, str] = {}
        while True:
            page = _unless_gone(self._iot.list_principal_things_v2, principal=certificate_arn, **token)
            if page is None:
                return None
            names += [thing["thingName"] for thing in page["principalThingObjects"]]
            if not page.get("nextToken"):
                return names
            token = {"nextToken": page["nextToken"]}

    def certificate(self, certificate_id: str) -> CertificateDescription:
        """Return one certificate."""
        found = self._iot.describe_certificate(certificateId=certificate_id)["certificateDescription"]
        return CertificateDescription(
            found["certificateArn"],
            found["certificatePem"],
            found["status"],
            found["creationDate"],
            found.get("lastModifiedDate", found["creationDate"]),
        )

    def find(self, certificate_id: str) -> CertificateDescription | None:
        """Return one certificate; None if it is gone."""
        return _unless_gone(self.certificate, certificate_id=certificate_id)

    def status(self, certificate_id: str) -> str | None:
        """Return a certificate's status; None if it is gone."""
        found = self.find(certificate_id)
        return None if found is None else found.status

    def policies(self, certificate_arn: str) -> list[str]:
        """Return names of the policies attached to a certificate."""
        names: list[str] = []
        marker: dict[str, str] = {}
        while True:
            page = self._iot.list_attached_policies(target=certificate_arn, pageSize=_PAGE, **marker)
            names += [policy["policyName"] for policy in page["policies"]]
            if not page.get("nextMarker"):
                return names
            marker = {"marker": page["nextMarker"]}

    def attach(self, thing_name: str, certificate_arn: str, policies: list[str]) -> None:
        """Give a certificate its policies, then its thing, exclusively."""
        for policy in policies:
            self._iot.attach_policy(policyName=policy, target=certificate_arn)
        self._iot.attach_thing_principal(thingName=thing_name, principal=certificate_arn, thingPrincipalType=EXCLUSIVE)

    def remove(self, thing_name: str, certificate_id: str, certificate_arn: str) -> None:
        """Deactivate, detach and delete a certificate; each step may have been done before."""
        self.set_status(certificate_id, "INACTIVE")
        self.detach(thing_name, certificate_arn)
        self.delete(certificate_id, certificate_arn)

    def set_status(self, certificate_id: str, status: str) -> None:
        """Give a certificate, if it is there, a ``status``: ACTIVE or INACTIVE."""
        _unless_gone(self._iot.update_certificate, certificateId=certificate_id, newStatus=status)

    def detach(self, thing_name: str, certificate_arn: str) -> None:
        """Detach a certificate from a thing, if both are there."""
        _unless_gone(self._iot.detach_thing_principal, thingName=thing_name, principal=certificate_arn)

    def delete(self, certificate_id: str, certificate_arn: str) -> None:
        """Delete a certificate that is INACTIVE, if it is there.

        If it is still attached to a thing, its detachment is waited for. Forced deletion takes a certificate's policy
        attachments along; if it does not, they are detached one by one, unless somebody has begun to use the
        certificate.
        """
        _unless_gone(self._delete, certificate_id=certificate_id, certificate_arn=certificate_arn)

    def _delete(self, certificate_id: str, certificate_arn: str) -> None:
        for pause in DETACHING:
            try:
                self._iot.delete_certificate(certificateId=certificate_id, forceDelete=True)
            except ClientError as error:
                if error_code(error) != "DeleteConflictException":
                    raise
            else:
                return
            if self.status(certificate_id) == "INACTIVE" and not self.things_of(certificate_arn):
                for policy in self.policies(certificate_arn):
                    self._iot.detach_policy(policyName=policy, target=certificate_arn)
            time.sleep(pause)
        self._iot.delete_certificate(certificateId=certificate_id, forceDelete=True)

    def issued_over(
        self, digest: str, since: datetime, until: datetime, besides: Collection[str | None] = ()
    ) -> str | None:
        """Return the id of a certificate, ``besides`` these, over the key with this ``digest``; None if there is none.

        It was registered between ``since`` and ``until``. The search is needed only if an answer of AWS IoT was lost:
        then the certificate exists, but nobody knows its id.
        """
        for candidate in self._newest_certificates():
            if candidate["creationDate"] < since:
                return None
            found = str(candidate["certificateId"])
            is_possible = found not in besides and candidate["creationDate"] <= until
            if is_possible and certifies(self.certificate(found).pem, digest):
                return found
        return None

    def _newest_certificates(self) -> Iterator[dict[str, Any]]:
        marker: dict[str, str] = {}
        while True:
            page = self._iot.list_certificates(pageSize=_PAGE, ascendingOrder=False, **marker)
            yield from page["certificates"]
            if not page.get("nextMarker"):
                return
            marker = {"marker": page["nextMarker"]}

    def show(self, thing_name: str, progress: str, old: str, new: str | None) -> None:
        """Show ``progress`` and the ``old`` and ``new`` certificate in the public view: the named shadow."""
        view = {"progress": progress, "oldCertificateId": old, "newCertificateId": new}
        answer = self._data.update_thing_shadow(
            thingName=thing_name,
            shadowName=self._shadow,
            payload=json.dumps({"state": {"reported": view}}).encode(),
        )
        _read(answer["payload"])

    def view(self, thing_name: str) -> View | None:
        """Return what the stock backend's shadow shows of a rotation; None if it shows none."""
        answer = _unless_gone(self._data.get_thing_shadow, thingName=thing_name, shadowName=self._shadow_before)
        if answer is None:
            return None
        document = _json(_read(answer["payload"]))
        state = document.get("state") if isinstance(document, dict) else None
        reported = state.get("reported") if isinstance(state, dict) else None
        found = [(reported or {}).get(name) for name in ("progress", "oldCertificateId", "newCertificateId")]
        texts = [value for value in found if isinstance(value, str)]
        return View(*texts) if len(texts) == len(found) else None

    def document(self, job_id: str) -> Any:
        """Return a job's document as parsed JSON; None if it is not JSON, or the job is gone."""
        answer = _unless_gone(self._iot.get_job_document, jobId=job_id)
        return None if answer is None else _json(answer.get("document", ""))

    def hears_connections(self) -> bool:
        """Return whether the topic rule that brings connections to the functions is enabled."""
        return not self._iot.get_topic_rule(ruleName=self._presence_rule)["rule"]["ruleDisabled"]

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish ``payload`` to a device's ``topic`` at QoS 0: it must not be spooled, the device asks again."""
        self._data.publish(topic=topic, qos=0, payload=payload)


def _unless_gone(call: Callable[..., T], **arguments: Any) -> T | None:
    """Return what a call answers; None if AWS knows nothing by that name."""
    try:
        return call(**arguments)
    except ClientError as error:
        if error_code(error) == _GONE:
            return None
        raise


def _read(stream: Any) -> bytes:
    """Return what an answer holds that comes as a stream.

    The connection is free for the next call only after that.
    """
    with closing(stream):
        return bytes(stream.read())


def _json(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
