"""What Lambda may do to asynchronous invocations, each trait by itself, on a clock that only the test moves."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta

import pytest

from sandbox.aws import Cloud
from sandbox.bus import Bus
from sandbox.clock import SandboxClock
from sandbox.stack import TemplateError, functions, schedules
from sandbox.stack.clients import Clients
from sandbox.stack.invocations import Gate, InvocationFault, RetryDelays, doubled, late, lost

HANDLER = "backend.functions.job_execution_terminal.handler"
NAME = "StackProbe"
PATIENCE = 30


class Probe:
    """A function that notes which events it was given, and fails where it is told to."""

    def __init__(self, folder, monkeypatch):
        self.clock = SandboxClock(frozen_at=datetime(2026, 11, 29, tzinfo=UTC))
        self.cloud = Cloud("123456789012", "eu-west-1", self.clock, Bus(), folder)
        self.cloud.start()
        clients = Clients(self.cloud)
        self.queue = clients.get("sqs").create_queue(QueueName="dead")["QueueUrl"]
        self.sqs = clients.get("sqs")
        self.given, self.fails, self._lock = [], False, threading.Lock()
        monkeypatch.setattr(functions, "_handler", lambda _name: self._run)
        self.pool = functions.StackFunctions(self.cloud, clients, self.clock)
        monkeypatch.setattr(self.pool, "_services", lambda _name, _variables: None)
        self.pool.create(NAME, {}, {"Handler": HANDLER, "Timeout": 5})
        self.unkindness = self.pool.unkindness

    def _run(self, event, _context):
        with self._lock:
            self.given.append(event.get("n"))
        if self.fails:
            raise RuntimeError("as told")

    def send(self, *numbers):
        for number in numbers:
            self.pool.invoke(NAME, {"n": number})

    def after(self, seconds=0.0):
        """What has been given when this much time has passed."""
        self.clock.advance(timedelta(seconds=seconds))
        self.settle()
        return self.given

    def settle(self):
        assert self.pool.settle(PATIENCE)

    def dead_letters(self):
        answer = self.sqs.receive_message(QueueUrl=self.queue)
        return [json.loads(message["Body"])["requestContext"]["condition"] for message in answer.get("Messages", [])]

    def close(self):
        self.pool.stop()
        self.cloud.stop()


@pytest.fixture
def probe(tmp_path, monkeypatch):
    probe = Probe(tmp_path, monkeypatch)
    yield probe
    probe.close()


def test_without_a_fault_an_event_runs_once_and_at_once(probe):
    probe.send(1)
    assert probe.after() == [1]


def test_an_event_that_is_late_is_overtaken(probe):
    probe.unkindness.add(InvocationFault("Probe", late(60), when=lambda event: event["n"] == 1))
    probe.send(1, 2)
    assert probe.after() == [2]
    assert probe.after(59) == [2]
    assert probe.after(1) == [2, 1]


def test_an_event_that_is_doubled_comes_a_second_time_later(probe):
    probe.unkindness.add(InvocationFault("Probe", doubled(30), times=1))
    probe.send(1, 2)
    assert sorted(probe.after()) == [1, 2]
    assert probe.after(30)[2:] == [1]


def test_an_event_that_is_lost_never_comes(probe):
    fault = probe.unkindness.add(InvocationFault("Probe", lost()))
    probe.send(1)
    assert probe.after(7 * 3600) == []
    assert (fault.struck, probe.dead_letters()) == (1, [])


def test_a_fault_of_another_function_meets_nothing(probe):
    fault = probe.unkindness.add(InvocationFault("Other", lost()))
    probe.send(1)
    assert (probe.after(), fault.struck) == ([1], 0)


def test_a_gate_lets_events_go_in_the_order_that_the_test_chooses(probe):
    gates = {number: Gate() for number in (1, 2, 3)}
    for number, gate in gates.items():
        probe.unkindness.add(InvocationFault("Probe", gate, when=lambda event, number=number: event["n"] == number))
    probe.send(1, 2, 3)
    assert gates[3].wait()
    assert probe.after() == []
    for number in (3, 1, 2):
        gates[number].release()
        probe.settle()
    assert probe.given == [3, 1, 2]


def test_kind_again_nothing_more_is_struck(probe):
    probe.unkindness.add(InvocationFault("Probe", lost()))
    probe.unkindness.down("Probe", probe.clock.now() + timedelta(days=1))
    probe.unkindness.clear()
    probe.send(1)
    assert probe.after() == [1]


def test_a_function_that_fails_is_tried_again_after_one_minute_and_two_more(probe):
    probe.unkindness.waits = RetryDelays.of_lambda()
    probe.pool.configure(NAME, functions.InvokeConfig(2, 6 * 3600, probe.queue))
    probe.fails = True
    probe.send(1)
    assert probe.after() == [1]
    assert probe.after(59) == [1]
    assert probe.after(1) == [1, 1]
    assert probe.after(119) == [1, 1]
    assert probe.after(1) == [1, 1, 1]
    assert probe.dead_letters() == ["RetriesExhausted"]


def test_a_function_that_is_down_for_a_day_loses_its_events_to_the_queue(probe):
    probe.unkindness.waits = RetryDelays.of_lambda()
    probe.pool.configure(NAME, functions.InvokeConfig(2, 6 * 3600, probe.queue))
    probe.unkindness.down("Probe", probe.clock.now() + timedelta(days=1))
    probe.send(1)
    for seconds in (0, 60, 120):
        assert probe.after(seconds) == []
    assert probe.dead_letters() == ["RetriesExhausted"]
    assert probe.after(24 * 3600) == []
    probe.send(2)
    assert probe.after() == [2]


def test_a_throttled_event_is_held_with_longer_and_longer_pauses_and_runs_when_it_may(probe):
    probe.unkindness.waits = RetryDelays.of_lambda()
    levers = probe.cloud.functions
    levers.put_function_concurrency({"FunctionName": NAME, "ReservedConcurrentExecutions": 0})
    probe.send(1)
    for seconds in (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300):
        assert probe.after(seconds) == []
    levers.delete_function_concurrency({"FunctionName": NAME})
    assert probe.after(299) == []
    assert probe.after(1) == [1]


@pytest.mark.parametrize("is_moved", [False, True], ids=["nothing on a busy machine", "as much as the clock is moved"])
def test_an_event_that_a_gate_holds_grows_older_by(probe, is_moved):
    probe.pool.configure(NAME, functions.InvokeConfig(2, 60, probe.queue))
    gate = Gate()
    probe.unkindness.add(InvocationFault(NAME, gate))
    probe.send(1)
    if is_moved:
        probe.clock.advance(timedelta(seconds=61))
    else:
        probe.clock._frozen_at += timedelta(seconds=61)
    gate.release()
    assert probe.after() == ([] if is_moved else [1])
    assert probe.dead_letters() == (["EventAgeExceeded"] if is_moved else [])


def test_a_throttled_event_is_given_up_after_six_hours(probe):
    probe.unkindness.waits = RetryDelays.of_lambda()
    probe.pool.configure(NAME, functions.InvokeConfig(2, 6 * 3600, probe.queue))
    probe.cloud.functions.put_function_concurrency({"FunctionName": NAME, "ReservedConcurrentExecutions": 0})
    probe.send(1)
    probe.after()
    assert probe.after(6 * 3600 + 1) == []
    assert probe.dead_letters() == ["EventAgeExceeded"]


# Schedules ---------------------------------------------------------------------------------------------


def schedule(probe, **properties):
    arn = "arn:aws:events:eu-west-1:123456789012:rule/Sweep"
    target = {"Arn": f"arn:aws:lambda:eu-west-1:123456789012:function:{NAME}", "Id": "1", "Input": '{"n": "sweep"}'}
    rule = {"ScheduleExpression": "rate(15 minutes)", "Targets": [target], **properties}
    schedules.Schedules(probe.cloud.site, probe.pool).add(arn, rule)


def test_a_schedule_runs_its_function_again_and_again(probe):
    schedule(probe)
    assert probe.after(899) == []
    assert probe.after(1) == ["sweep"]
    assert probe.after(900) == ["sweep", "sweep"]


def test_a_clock_that_leaps_makes_a_schedule_run_once(probe):
    schedule(probe)
    assert probe.after(24 * 3600) == ["sweep"]


def test_a_schedule_that_is_disabled_does_not_run(probe):
    schedule(probe, State="DISABLED")
    assert probe.after(900) == []


def test_without_an_input_the_event_is_that_of_eventbridge(probe):
    arn = "arn:aws:events:eu-west-1:123456789012:rule/Sweep"
    event = schedules.Schedules(probe.cloud.site, probe.pool)._event(arn, probe.clock.now())
    assert (event["source"], event["detail-type"], event["resources"]) == ("aws.events", "Scheduled Event", [arn])
    assert event["time"] == "2026-11-29T00:00:00Z"


@pytest.mark.parametrize("expression", ["cron(0 12 * * ? *)", "rate(soon)", ""])
def test_a_schedule_that_the_sandbox_does_not_have_is_refused(expression):
    with pytest.raises(TemplateError, match=r"rate\(15 minutes\)"):
        schedules.every(expression)
