"""The state machines of the template over a site's cloud: moto's interpreter, the real functions, real waiting."""

from __future__ import annotations

import io
import json
import re
import threading
import time
from functools import partial
from types import SimpleNamespace
from uuid import uuid4

from backend import synth
from controller import aws_states

WORKER, ANSWER = "AWSLabsCertificateRotatorReconcile", "AWSLabsCertificateRotatorReconcileAnswer"
ROLE = "arn:aws:iam::123456789012:role/states"
ALICE, BOB = "arn:aws:sts::123456789012:assumed-role/ops/alice", "arn:aws:sts::123456789012:assumed-role/ops/bob"


def definitions():
    """The definitions of the checked-in template, by the machine's name, as CloudFormation fills them in."""
    found = json.loads(synth.MACHINE.read_text())["Resources"].values()
    return {
        resource["Properties"]["StateMachineName"].removeprefix("AWSLabsCertificateRotator"): resource["Properties"][
            "DefinitionString"
        ].replace("${Partition}", "aws")
        for resource in found
        if resource["Type"] == "AWS::StepFunctions::StateMachine"
    }


class KilledError(BaseException):
    """The function's process ends here, with whatever it was doing."""


class Context:
    def __init__(self, milliseconds):
        self._milliseconds = milliseconds

    def get_remaining_time_in_millis(self):
        return self._milliseconds() if callable(self._milliseconds) else self._milliseconds


class Machines:
    """Both machines, the functions that they invoke, and all that these print."""

    def __init__(self, site, monkeypatch, question_seconds=86_400):
        self._lock, self._log = threading.Lock(), io.StringIO()
        say = partial(print, file=self._log)  # of all functions, which run side by side
        monkeypatch.setattr("controller.aws_lambda.print", say, raising=False)
        self.milliseconds = {}  # by fleet, of its next functions
        self.invoked = []
        self.sfn = site.client("stepfunctions")
        worker = site.cloud.functions.register(WORKER, self._work, {}, {"Handler": "controller.aws_states.handler"})
        self.arns = {}
        for name, written in definitions().items():
            text = re.sub(r'"IntervalSeconds": \d+', '"IntervalSeconds": 1', written)
            text = text.replace("${Worker}", worker).replace("86400", str(question_seconds))
            made = self.sfn.create_state_machine(name=f"AWSLabsCertificateRotator{name}", definition=text, roleArn=ROLE)
            self.arns[name] = made["stateMachineArn"]
        monkeypatch.setenv("CERTFLEET_QUESTION_MACHINE_ARN", self.arns["ReconcileQuestion"])
        monkeypatch.setenv("CERTFLEET_ANSWER_URL", "https://answer.example/")

    def run(self, seconds=600):
        """One run of the schedule, to its end."""
        machine, name = (
            self.arns["ReconcileFleets"],
            uuid4().hex,
        )  # AWS names what has no name; the interpreter does not
        started = self.sfn.start_execution(stateMachineArn=machine, name=name, input="{}")
        return self.ended(started["executionArn"], seconds)

    def ended(self, arn, seconds=600):
        until = time.monotonic() + seconds
        while (found := self.sfn.describe_execution(executionArn=arn))["status"] == "RUNNING":
            assert time.monotonic() < until, self.text
            time.sleep(0.1)
        return SimpleNamespace(status=found["status"], arn=arn, output=json.loads(found.get("output") or "null"))

    def questions(self):
        listed = self.sfn.list_executions(stateMachineArn=self.arns["ReconcileQuestion"])["executions"]
        return [one["executionArn"] for one in sorted(listed, key=lambda one: one["startDate"])]

    def asked(self, fleet="factory", seconds=600):
        """The question, as soon as it stands."""
        until = time.monotonic() + seconds
        while (answer := self.answer(query={"fleet": fleet}))["statusCode"] != 200:
            assert time.monotonic() < until, answer
            time.sleep(0.1)
        return json.loads(answer["body"])

    def answer(self, body=None, query=None, by=ALICE):
        """What the function URL's function says; ``by`` is put there by IAM."""
        request = {"http": {"method": "GET" if body is None else "POST"}}
        if by:
            request["authorizer"] = {"iam": {"userArn": by}}
        event = {"requestContext": request, "queryStringParameters": query, "body": body and json.dumps(body)}
        return aws_states.answer(event, Context(30_000))

    def permit(self, question, by=ALICE, **other):
        said = {name: question[name] for name in ("fleet", "plan", "overrides")} | other
        answer = self.answer(said, by=by)
        return answer["statusCode"], json.loads(answer["body"])

    @property
    def text(self):
        return self._log.getvalue()

    def _work(self, event, _environment):
        with self._lock:
            self.invoked.append((event["task"], event.get("fleet")))
            planned = self.milliseconds.get(event.get("fleet"), [])
            milliseconds = planned.pop(0) if planned else 300_000
        try:
            return aws_states.handler(event, Context(milliseconds))
        except KilledError as error:
            raise RuntimeError("Runtime exited with error: signal: killed") from error
