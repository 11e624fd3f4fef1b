"""One thing over the account in memory: its messages, as the rules turn them into events, and the functions' runs."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from backend_aws import JOB, PREFIX, START, Certificate, FakeAws, certify, make_csr, subject
from cryptography.hazmat.primitives.asymmetric import ec

from backend.functions import commit_certificate, create_certificate, job_execution_terminal, sweep
from protocol import topics
from protocol.rotation_record import REFUSED, RefusalRecord

FUNCTIONS = {
    create_certificate: "CreateCertificate",
    commit_certificate: "CommitCertificate",
    job_execution_terminal: "JobExecutionTerminal",
    sweep: "Sweep",
}


def run(aws: FakeAws, module: Any, event: dict[str, Any]) -> dict[str, Any]:
    """Run a function's handler as that function."""
    aws.acting = FUNCTIONS[module]
    try:
        answer: dict[str, Any] = module.handler(event, None)
    finally:
        aws.acting = None
    return answer


class Device:
    """One thing with a certificate, and the rules that turn its messages into events."""

    def __init__(self, aws: FakeAws, name: str = "gw-1", policies: tuple[str, ...] = ("device",)) -> None:
        self.aws = aws
        self.name = name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.old = aws.register(certify(self.key.public_key(), subject(), START - timedelta(days=200)))
        aws.certificates[self.old].created = START - timedelta(days=200)
        aws.certificates[self.old].things[name] = "EXCLUSIVE_THING"
        aws.certificates[self.old].policies = list(policies)
        self.new_key = ec.generate_private_key(ec.SECP256R1())
        self.csr = make_csr(self.new_key)
        self.start_job()

    def start_job(self, job: str = JOB, document: object = None, status: str = "IN_PROGRESS") -> None:
        text = json.dumps(document or {"operation": "ROTATE_CERTIFICATE"})
        self.aws.executions[self.name, job] = {"status": status, "jobDocument": text}

    def create_event(self, **changes: Any) -> dict[str, Any]:
        return {
            "jobId": JOB,
            "csr": self.csr,
            "thingName": self.name,
            "topic": topics.create(self.name),
            "clientId": self.name,
            "principal": self.old,
            "receivedAt": int(self.aws.now.timestamp() * 1000),
            **changes,
        }

    def commit_event(self, **changes: Any) -> dict[str, Any]:
        return {
            "jobId": JOB,
            "thingName": self.name,
            "topic": topics.commit(self.name),
            "clientId": f"{self.name}#2",
            "principal": self.new,
            "receivedAt": int(self.aws.now.timestamp() * 1000),
            **changes,
        }

    def ended_event(self, status: str, **changes: Any) -> dict[str, Any]:
        return {
            "eventType": "JOB_EXECUTION",
            "eventId": "7364ffd1-8b65-4824-85d5-6c14686c97c6",
            "timestamp": int(self.aws.now.timestamp()),
            "operation": status.lower(),
            "jobId": JOB,
            "thingArn": f"{PREFIX}:thing/{self.name}",
            "status": status,
            "statusDetails": {"CertificateRotator": "rotating"},
            **changes,
        }

    def connected_event(self, principal: str, **changes: Any) -> dict[str, Any]:
        return {
            "clientId": self.name,
            "timestamp": int(self.aws.now.timestamp() * 1000),
            "eventType": "connected",
            "sessionIdentifier": "00000000-0000-0000-0000-000000000000",
            "principalIdentifier": principal,
            **changes,
        }

    @property
    def attached(self) -> dict[str, Certificate]:
        return {i: c for i, c in self.aws.certificates.items() if self.name in c.things}

    @property
    def new(self) -> str:
        """The new certificate on record; one that cannot exist where there is none."""
        record = self.aws.items.get((self.name, "current"), {})
        return str(record.get("newCertificateId", {"S": "0" * 64})["S"])

    @property
    def refusals(self) -> list[RefusalRecord]:
        """What is kept of refusals under jobs that have ended, as others read it."""
        plain = {key: {n: v.get("S") for n, v in item.items()} for key, item in self.aws.items.items()}
        return [RefusalRecord.from_item(item) for (_, name), item in plain.items() if name.startswith(REFUSED)]

    @property
    def record(self) -> dict[str, Any]:
        return self.aws.items[self.name, "current"]

    # running the handlers

    def create(self, **changes: Any) -> dict[str, Any]:
        return run(self.aws, create_certificate, self.create_event(**changes))

    def commit(self, **changes: Any) -> dict[str, Any]:
        return run(self.aws, commit_certificate, self.commit_event(**changes))

    def ended(self, status: str, **changes: Any) -> dict[str, Any]:
        if (self.name, JOB) in self.aws.executions:
            self.aws.executions[self.name, JOB]["status"] = status if status != "DELETED" else "CANCELED"
        return self.handle_end(self.ended_event(status, **changes))

    def handle_end(self, event: dict[str, Any]) -> dict[str, Any]:
        return run(self.aws, job_execution_terminal, event)

    def connected(self, principal: str, **changes: Any) -> dict[str, Any]:
        return run(self.aws, job_execution_terminal, self.connected_event(principal, **changes))

    def sweep(self) -> dict[str, Any]:
        return run(self.aws, sweep, {})

    def assert_code(self, code: str) -> None:
        """The last answer is a rejection with this code and a sentence."""
        topic, payload = self.aws.published[-1]
        assert topic.endswith("/rejected")
        assert payload["errorCode"] == code, payload
        assert len(payload["errorMsg"]) > 20

    def assert_only(self, certificate: str) -> None:
        """One certificate is left in the account, attached and ACTIVE."""
        assert list(self.attached) == [certificate]
        assert list(self.aws.certificates) == [certificate]
        assert self.aws.certificates[certificate].status == "ACTIVE"
