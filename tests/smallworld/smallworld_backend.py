"""The functions as a function: registry, table and what a rule hands over → what is there then, and what is sent.

The handlers are the backend's own, over the account in memory of its tests. Instants are small numbers; only their
order and whether a long pause lies between them counts, so that worlds that differ in seconds are one.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from typing import NamedTuple

import smallworld_pool as pool
from backend_aws import PREFIX, VARIABLES, Certificate, FakeAws
from smallworld_pool import Interned

from backend.functions import commit_certificate, create_certificate, job_execution_terminal, services, sweep
from backend.functions.rotation import MAKING, Phase
from backend.functions.rotation import RotationOutcome as Ends
from protocol import topics
from protocol.names import STATUS_DETAILS_KEY

THING, JOB = "gateway-7", "job-1"
DOCUMENT = {"operation": "ROTATE_CERTIFICATE", "keyAlgorithm": "ECDSA-P256", "signingAlgorithm": "ECDSA-WITH-SHA256"}
UNIT = timedelta(seconds=30)  # between two things that happen: longer than a create's lease
LONG = 40  # units: 20 minutes, longer than what the backend waits for late evidence
DAY = 3000  # units: 25 hours
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?\+00:00")


class Account:
    """``certificates``: (name, status, attached); ``table``: its items as text, ``@`` for some instants."""

    def __init__(self, certificates, issued, table):
        self.certificates, self.issued, self.table = certificates, issued, table
        self.active = frozenset(name for name, status, attached in certificates if status == "ACTIVE" and attached)
        self.names = frozenset(name for name, _, _ in certificates)
        items = json.loads(table)
        self.item = next(iter(items.values()), {})
        self.instants = tuple(name for name in sorted(self.item) if self.item[name] == {"S": "@"})
        self.is_open = self.item.get("phase", {"S": Phase.FINISHED})["S"] != Phase.FINISHED
        self.is_committed = "committedAt" in self.item or self.item.get("outcome") == {"S": Ends.ROTATED}
        self.failed = self.item.get("ending") == {"S": "FAILED"} and "committedAt" not in self.item

    @cached_property
    def at_its_end(self):
        """Without what makes no difference once all is over."""
        return self._with_item({name: value for name, value in self.item.items() if name not in _EVIDENCE})

    @cached_property
    def contested(self):
        """Without what makes no difference once two holders may be at work."""
        kept = {name: value for name, value in self.item.items() if name not in ("oldSeenAt", "newSeenAt")}
        return self._with_item({**kept, "contestedAt": {"S": "@"}})

    def _with_item(self, item):
        table = json.dumps({f"{THING}|current": item} if item else {}, sort_keys=True)
        return account(self.certificates, self.issued, table)


_EVIDENCE = {
    "committedAt",
    "contestedAt",
    "endedAt",
    "ending",
    "newSeenAt",
    "oldSeenAt",
    "refusedJob",
    "removing",
    "told",
}
account = Interned(Account)


class Outcome(NamedTuple):
    """The account afterwards with the instants in its table, what was published, and whether a person was told."""

    account: Account
    times: tuple
    published: tuple
    told: bool


class Event(NamedTuple):
    """What a rule has handed over, without its instant."""

    kind: str  # create, commit, ended, connected, sweep
    principal: str | None = None  # a certificate's name
    detail: str = ""  # a key's name, or an ending and whether it is marked


UNMARKED = ", unmarked"  # an ending that another client has written, without the device's key in its details


def first():
    return account(((pool.FIRST, "ACTIVE", True),), (pool.FIRST,), "{}")


def handle(before, times, event, sent, now, execution, over):
    """Run a function; ``execution``: the status of the job's execution, None if there is none; ``over``: since when."""
    small, large = squeeze(frozenset((*times, sent, now, over)))
    times = tuple(small[t] for t in times)
    outcome = _handle(before, times, event, small[sent], small[now], execution, small[over])
    return outcome._replace(times=tuple(large[t] for t in outcome.times))


@lru_cache(None)
def squeeze(marks):
    """Instants ↔ the smallest that lie as they do: one after another, with or without a long pause between."""
    small, at, before = {}, 0, None
    for mark in sorted(marks):
        at += 0 if before is None else DAY if mark - before >= DAY else LONG if mark - before >= LONG else 1
        small[mark], before = at, mark
    return small, {value: mark for mark, value in small.items()}


@lru_cache(None)
def _handle(before, times, event, sent, now, execution, over):
    aws = _Aws(before, times, now, execution, over)
    run, payload = _invocation(event, sent)
    with services.running(aws.services):
        try:
            run(payload, None)
        except _ANY as error:
            raise AssertionError(f"{event} on {before.table}: {type(error).__name__}: {error}") from error
    published = tuple((topic, _as_read(body)) for topic, body in aws.published)
    return Outcome(*aws.account(), published, bool(aws.notices))


_ANY = Exception
RUNS = {
    "create": create_certificate.handler,
    "commit": commit_certificate.handler,
    "ended": job_execution_terminal.handler,
    "connected": job_execution_terminal.handler,
    "sweep": lambda _event, _context: sweep.sweep(services.services(), lambda _seconds: None),
}


def _at(instant):
    return pool.BEGIN + instant * UNIT


def _invocation(event, sent):
    at = int(_at(sent).timestamp() * 1000)
    principal = pool.identifier(event.principal) if event.principal else None
    if event.kind in ("create", "commit"):
        topic = topics.create(THING) if event.kind == "create" else topics.commit(THING)
        payload = {"jobId": JOB, "thingName": THING, "topic": topic, "clientId": THING, "principal": principal,
                   "receivedAt": at}  # fmt: skip
        if event.kind == "create":
            payload["csr"] = pool.csr(event.detail)
    elif event.kind == "ended":
        status = event.detail.removesuffix(UNMARKED)
        payload = {"eventType": "JOB_EXECUTION", "eventId": "e", "timestamp": at // 1000, "jobId": JOB,
                   "operation": status.lower(), "thingArn": f"{PREFIX}:thing/{THING}", "status": status,
                   "statusDetails": {STATUS_DETAILS_KEY: "x"} if status == event.detail else {}}  # fmt: skip
    elif event.kind == "connected":
        payload = {"clientId": THING, "timestamp": at, "eventType": "connected", "sessionIdentifier": "s",
                   "principalIdentifier": principal}  # fmt: skip
    else:
        payload = {}
    return RUNS[event.kind], payload


class _Client:
    """Calls the account without botocore's checks, which the backend's own tests make."""

    def __init__(self, aws, service):
        self._aws, self._service = aws, service.replace("-", "_")

    def __getattr__(self, name):
        method = getattr(self._aws, f"{self._service}_{name}")
        return lambda **request: method(request)


class _Aws(FakeAws):
    def __init__(self, before, times, now, execution, over):
        super().__init__()
        self.now, self.over, self.issued = _at(now), _at(over), list(before.issued)
        for name, status, attached in before.certificates:
            found = Certificate(pool.certificate_pem(name), status, pool.BEGIN - timedelta(days=200))
            found.policies = ["device"]
            if attached:
                found.things[THING] = "EXCLUSIVE_THING"
            self.certificates[pool.identifier(name)] = found
        instants = iter(times)
        text = re.sub("@", lambda _: _at(next(instants)).isoformat(), before.table)
        self.items = {tuple(key.split("|")): item for key, item in json.loads(text).items()}
        if execution is not None:
            self.executions[THING, JOB] = {"status": execution, "jobDocument": json.dumps(DOCUMENT)}
        self.services = services.build(VARIABLES, lambda service, _url: _Client(self, service), lambda: self.now)

    def iot_describe_job_execution(self, request):
        found = super().iot_describe_job_execution(request)
        return {"execution": {**found["execution"], "lastUpdatedAt": self.over}}

    def iot_create_certificate_from_csr(self, request):
        from cryptography import x509

        key = pool.key_of_request(x509.load_pem_x509_csr(request["certificateSigningRequest"].encode()))
        number = 1 + sum(name.startswith(f"{key}.") for name in self.issued)
        name = f"{key}.{number}"
        self.issued.append(name)
        identifier = self.register(pool.certificate_pem(name))
        pem = self.certificates[identifier].pem
        return {"certificateArn": f"{PREFIX}:cert/{identifier}", "certificateId": identifier, "certificatePem": pem}

    def account(self):
        by_id = {pool.identifier(name): name for name in self.issued}
        certificates = tuple(sorted((by_id[i], c.status, THING in c.things) for i, c in self.certificates.items()))
        items = {"|".join(key): _what_counts(item) for key, item in self.items.items() if key[1] == "current"}
        text = json.dumps(items, sort_keys=True)
        times = tuple(_instant(found) for found in _INSTANT.findall(text))
        return account(certificates, tuple(sorted(self.issued)), _INSTANT.sub("@", text)), times


def _as_read(body):
    """An answer without its code, and with one sentence for all: they are for people, and no device decides by them."""
    read = {name: "no" if name == "errorMsg" else value for name, value in body.items() if name != "errorCode"}
    return json.dumps(read, sort_keys=True).encode()


def _what_counts(item):
    """An item without what decides nothing any more, so that worlds that differ in it are one.

    Its lines are for people. Of some instants counts only that there is one; of the lease, while a certificate is
    made; of a sighting of the new one, whether it came after the commit; once all is over, of no sighting.
    """
    phase, begun = item["phase"]["S"], item["startedAt"]
    idle = {"contestedAt"} if phase in MAKING else {"contestedAt", "leaseUntil"}
    if phase == Phase.FINISHED:
        idle |= {"oldSeenAt", "newSeenAt"}
    elif "committedAt" in item and "newSeenAt" in item:
        item = {**item, "newSeenAt": {"S": max(item["newSeenAt"]["S"], item["committedAt"]["S"])}}
    return {**item, **dict.fromkeys(idle & item.keys(), begun), "history": {"L": []}, "version": {"N": "1"}}


def _instant(text):
    """The number of an instant; those between two (a lease's end) are the earlier one's."""
    return int((datetime.fromisoformat(text) - pool.BEGIN) / UNIT)
