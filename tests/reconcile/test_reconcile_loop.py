"""The loop is closed: what a rotation came to decides whether there is another."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.desired.models import LONGEST_KNOWN
from controller.errors import CertfleetError
from controller.reconcile.outlook import explain
from controller.reconcile.values import (
    FAILED,
    LOOK_BACK,
    Baseline,
    Mode,
    Source,
    WaveStatus,
    parse_overrides,
    place_of,
    require_known,
)
from protocol.algorithms import KeyType

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


class ClosedLoop:
    """A fleet, a backend that issues what ``issue`` says, and runs of the planner with time in between.

    ``issue(certificate, now)`` gives the members of the new certificate that differ from the rule's.
    """

    def __init__(self, make, policy, issue, *, number=4, desired=None, **held):
        self.make, self.issue, self.now = make, issue, make.now
        self.desired = desired or make.desired(policy)
        self.devices = {f"g{n:02d}": make.device(f"g{n:02d}", **held) for n in range(number)}
        self.jobs = []
        self.rotations = dict.fromkeys(self.devices, 0)
        self.baseline = Baseline({"line-a": number})
        self.ends = itertools.cycle(["SUCCEEDED"])  # how AWS IoT ends the executions, once the device has rotated
        self.repeated = itertools.cycle([False])  # whether AWS IoT has repeated that by itself, to the same end

    def _state(self):
        sizes = {"line-a": len(self.devices)}
        return self.make.state(*self.jobs, now=self.now, group_sizes=sizes, baseline=self.baseline)

    def plan(self, *overrides):
        state = self._state()
        return self.make.plan(
            list(self.devices.values()), self.desired, state, now=self.now, overrides=parse_overrides(overrides)
        )

    def run(self, *overrides):
        """Plan, and let every device that is asked rotate within two minutes."""
        plan = self.plan(*overrides)
        assert not plan.refusals
        resumed = {**self.baseline.resumed, **dict.fromkeys(plan.resumed, self.now)}
        self.baseline = self.make.replace(self.baseline, resumed=resumed)
        for planned in plan.jobs:
            asked = self.now + MINUTE
            executions = {}
            for device in planned.devices:
                execution = self.make.execution(planned.job_id, next(self.ends))
                times = {"queued_at": asked, "started_at": asked, "last_updated_at": asked + MINUTE}
                self._rotate(device.name, planned, asked + MINUTE / 2)
                if next(self.repeated):
                    is_begun = execution.status.value not in {"CANCELED", "REMOVED"}
                    again = {"queued_at": asked + MINUTE, "started_at": asked + 1.2 * MINUTE if is_begun else None}
                    times |= again | {"last_updated_at": asked + 1.5 * MINUTE, "first_queued_at": asked}
                executions[device.name] = self.make.replace(execution, **times)
                if executions[device.name].status in FAILED:
                    failures = (executions[device.name],)  # those of before the certificate are not told
                    self.devices[device.name] = self.make.replace(self.devices[device.name], failures=failures)
            document = planned.document.to_json()
            job = self.make.job(planned.job_id, executions, status="COMPLETED", document=document)
            self.jobs.append(self.make.replace(job, created_at=asked, completed_at=asked + 1.5 * MINUTE))
        self.now += timedelta(minutes=3)
        return plan

    def _rotate(self, name, planned, at):
        self.rotations[name] += 1
        [attachment] = self.devices[name].attachments
        old = attachment.certificate
        asked = {
            "key_type": planned.document.key_type.value if planned.document.key_type else old.key_type,
            "authority": planned.document.certificate_authority or old.authority,
        }
        fresh = {"created_at": at, "not_before": at - HOUR, "not_after": at - HOUR + 365 * DAY}
        content = sha256(f"{name} {self.rotations[name]}".encode()).hexdigest()
        values = {"certificate_id": content} | asked | fresh
        new = self.make.replace(old, **(values | self.issue(old, at)))
        self.devices[name] = self.make.replace(
            self.devices[name], attachments=(self.make.replace(attachment, certificate=new),)
        )

    def let_pass(self, span):
        self.now += span

    def assessments(self):
        state = self._state()
        return {name: self.make.assess(d, self.desired, state, self.now) for name, d in self.devices.items()}


def at_once(make, waves=("1", "100%"), **rollout):
    return make.rollout(waves, soak=timedelta(0), **rollout)


def of_another_ca(_old, _now):
    return {"authority": None, "issuer": "CN=the CA before"}


def backdated(_old, at):
    return {"not_before": at - 300 * DAY}


def test_a_backend_that_issues_from_another_ca_rotates_one_device_and_no_more(make):
    loop = ClosedLoop(make, make.policy(rollout=at_once(make)), of_another_ca, authority="old-ca")

    loop.run()
    halted = loop.run()
    for _ in range(60):
        loop.run()
        loop.let_pass(12 * HOUR)

    assert sum(loop.rotations.values()) == 1
    assert halted.waves[0].status is WaveStatus.HALTED
    assert "1 device rotated without coming nearer to the policy" in halted.waves[0].message
    assert "--override resume=line-a" in halted.waves[0].remedy


@pytest.mark.parametrize("repeated", [False, True], ids=["once", "repeated by AWS IoT"])
@pytest.mark.parametrize("ends", ["TIMED_OUT", "FAILED", "REJECTED", "CANCELED", "REMOVED"])
@pytest.mark.parametrize(
    ("number", "issue", "reason"),
    [(1, of_another_ca, "AuthorityMismatch"), (4, of_another_ca, "AuthorityMismatch"), (1, backdated, "AgeExceeded")],
)
def test_a_rotation_in_vain_is_one_however_its_job_ended(make, ends, number, issue, reason, repeated):
    policy = make.policy(rollout=at_once(make))
    loop = ClosedLoop(make, policy, issue, authority="old-ca", number=number)
    loop.ends, loop.repeated = itertools.repeat(ends), itertools.repeat(repeated)
    for _ in range(5):
        told = loop.run().waves[0]
        loop.let_pass(DAY)

    assert sum(loop.rotations.values()) == 1
    assert told.status is WaveStatus.HALTED
    assert make.reasons(loop.assessments()["g00"]) == [reason, "RotationIneffective"]


@pytest.mark.parametrize("repeated", [False, True], ids=["once", "repeated by AWS IoT"])
@pytest.mark.parametrize("ends", ["TIMED_OUT", "FAILED", "REJECTED"])
def test_devices_in_sync_through_a_job_have_rotated_however_it_ended(make, ends, repeated):
    """Too slow for its time limit: the rollout goes on, and asks nobody twice."""
    loop = ClosedLoop(make, make.policy(rollout=at_once(make)), lambda *_: {}, authority="old-ca")
    loop.ends, loop.repeated = itertools.repeat(ends), itertools.repeat(repeated)
    for _ in range(3):
        told = loop.run().waves[0]
        loop.let_pass(HOUR)

    assert loop.rotations == dict.fromkeys(loop.devices, 1)
    assert (told.status, told.failed) == (WaveStatus.IDLE, 0)
    assert all(not a.findings for a in loop.assessments().values())


@pytest.mark.parametrize("begun", [None, HOUR])
def test_a_certificate_put_there_by_hand_while_a_job_waited_did_not_come_of_that(make, begun):
    failed = make.execution("by-hand", "REJECTED", queued=3 * HOUR, updated=HOUR / 2)
    failed = make.replace(failed, started_at=begun and make.now - begun)
    device = make.device(age=2 * HOUR, key_type="RSA-2048", created_at=make.now - 2 * HOUR, failures=(failed,))
    assert "RotatedRecently" not in make.reasons(make.assess(device, make.desired()))


def test_the_device_says_what_its_rotation_came_to_and_what_a_person_can_do(make):
    loop = ClosedLoop(make, make.policy(rollout=at_once(make)), of_another_ca, authority="old-ca")
    loop.run()

    [finding] = [f for f in loop.assessments()["g00"].findings if f.reason.value == "RotationIneffective"]

    assert finding.outcome.value == "blocked"
    assert "rotated by job cf-line-a-w1-" in finding.message
    assert "issued by an unknown authority (CN=the CA before), the policy demands plant-ca" in finding.message
    assert "--override resume=line-a" in finding.remedy
    assert loop.plan().policies[0].blocked == 1


def test_waves_count_what_rotations_came_to(make):
    policy = make.policy(rollout=at_once(make, ("1", "25%", "100%")))
    loop = ClosedLoop(make, policy, of_another_ca, number=12, authority="old-ca")
    loop.run()
    for _ in range(10):
        told = loop.run().waves[0]
        assert (told.wave, told.status) == (1, WaveStatus.HALTED)
    assert sum(loop.rotations.values()) == 1


def test_once_the_cause_is_gone_a_person_resumes_and_the_rollout_ends_in_sync(make):
    loop = ClosedLoop(make, make.policy(rollout=at_once(make)), of_another_ca, authority="old-ca")
    loop.run()
    loop.let_pass(25 * HOUR)
    assert not loop.run().jobs

    loop.issue = lambda _old, _now: {}  # the backend was deployed
    loop.run("resume=line-a")
    for _ in range(4):
        loop.run()

    assert all(not a.findings for a in loop.assessments().values())
    assert sorted(loop.rotations.values()) == [1, 1, 1, 2]


def test_a_changed_rule_starts_anew_but_not_before_the_least_interval(make):
    loop = ClosedLoop(make, make.policy(rollout=at_once(make)), of_another_ca, authority="old-ca")
    loop.run()
    changed = make.policy(rule=make.rule(key_type=KeyType.ECDSA_P384), rollout=at_once(make))
    loop.desired, loop.issue = make.desired(changed), lambda _old, _now: {}

    loop.run()
    assert loop.rotations["g00"] == 1  # others go first
    [finding] = [f for f in loop.assessments()["g00"].findings if f.outcome.value == "waiting"]
    assert finding.reason.value == "RotatedRecently"
    assert "left alone until 2026-11-24T12:01:30Z" in finding.message
    loop.let_pass(DAY)
    for _ in range(5):
        loop.run()
    assert all(not a.findings for a in loop.assessments().values())


def test_a_certificate_put_there_by_hand_after_the_rotation_is_judged_by_itself(make):
    loop = ClosedLoop(make, make.policy(rollout=at_once(make)), of_another_ca, authority="old-ca", number=1)
    loop.run()
    loop.let_pass(HOUR)
    right = make.certificate(name="by hand", created_at=loop.now - MINUTE, not_before=loop.now - HOUR)
    loop.devices["g00"] = make.device("g00", certificates=(right,))

    assert loop.run().waves[0].status is WaveStatus.IDLE
    assert not loop.assessments()["g00"].findings


def test_a_device_rotated_by_hand_is_left_alone_for_a_while_too(make):
    policy = make.policy()
    done = make.execution("by-hand", "SUCCEEDED", queued=HOUR, updated=HOUR / 2)
    job = make.job("by-hand", {"gateway-1": done}, status="COMPLETED")
    device = make.device(age=HOUR, key_type="RSA-2048", created_at=make.now - HOUR / 2)

    told = make.assess(device, make.desired(policy), make.state(job))

    assert make.reasons(told) == ["KeyTypeMismatch", "RotatedRecently"]
    failed = make.execution("by-hand", "TIMED_OUT", queued=HOUR, updated=HOUR / 4)
    late = make.replace(device, failures=(failed,))
    assert "RotatedRecently" in make.reasons(make.assess(late, make.desired(policy), make.state()))


@pytest.mark.parametrize(("ends_in", "expected"), [(12 * HOUR, False), (360 * DAY, True)])
def test_the_least_interval_gives_way_before_a_short_life_ends(make, ends_in, expected):
    job = make.job(
        "by-hand", {"gateway-1": make.execution("by-hand", "SUCCEEDED", queued=13 * HOUR, updated=12 * HOUR)}
    )
    device = make.device(age=13 * HOUR, left=ends_in, key_type="RSA-2048", created_at=make.now - 12.5 * HOUR)
    found = make.reasons(make.assess(device, make.desired(), make.state(job)))
    assert ("RotatedRecently" in found) is expected


def test_an_incident_waits_where_the_last_rotation_brought_something_else_though_the_rule_has_changed_since(make):
    issue = {"authority": "aws-iot"}
    loop = ClosedLoop(make, make.policy(rollout=at_once(make)), lambda *_: issue, authority="old-ca", number=1)
    loop.run()
    changed = make.policy(rule=make.rule(key_type=KeyType.ECDSA_P384), rollout=at_once(make))
    leak = make.incident(authority="aws-iot", deadline=loop.now + DAY)
    loop.desired = make.desired(changed, incidents=(leak,))
    loop.run()
    assert loop.rotations == {"g00": 1}


def test_an_incident_does_not_wait_where_the_last_rotation_did_what_it_promised(make):
    loop = ClosedLoop(make, make.policy(rollout=at_once(make)), lambda _old, _now: {}, authority="old-ca", number=2)
    for _ in range(3):
        loop.run()
    loop.let_pass(HOUR)
    leak = make.incident(issued_before=loop.now, deadline=loop.now + DAY)
    loop.desired = make.desired(make.policy(rollout=at_once(make)), incidents=(leak,))

    for _ in range(4):
        loop.run()

    assert set(loop.rotations.values()) == {2}
    assert all(not a.findings for a in loop.assessments().values())


WRONG = st.one_of(
    st.sampled_from(["RSA-2048", "ECDSA-P384", "RSA-4096"]).map(lambda key: {"key_type": key}),
    st.sampled_from([None, "aws-iot", "old-ca"]).map(lambda name: {"authority": name}),
    st.integers(1, 400).map(lambda days: {"backdated": days * DAY}),
    st.integers(1, 200).map(lambda days: {"validity": days * DAY}),
)


@settings(max_examples=60, deadline=None)
@given(
    wrong=st.lists(WRONG, min_size=1, max_size=3),
    waves=st.sampled_from([("100%",), ("1", "100%"), ("2", "50%", "100%")]),
    demand=st.sampled_from([{}, {"max_age": 90 * DAY}, {"max_age": None, "renew_before": 60 * DAY}]),
    incident=st.sampled_from([None, "issued_before", "authority"]),
    ends=st.lists(st.sampled_from(["SUCCEEDED", "TIMED_OUT", "FAILED", "CANCELED"]), min_size=1, max_size=3),
    repeated=st.lists(st.booleans(), min_size=1, max_size=2),
    pauses=st.lists(st.sampled_from([MINUTE, HOUR, DAY, 5 * DAY]), min_size=4, max_size=12),
)
def test_whatever_else_a_backend_issues_no_device_rotates_twice(
    make, wrong, waves, demand, incident, ends, repeated, pauses
):
    departs = {}
    for one in wrong:
        departs |= one

    def issue(_old, at):
        fields = {key: value for key, value in departs.items() if key in {"key_type", "authority"}}
        start = at - departs.get("backdated", HOUR)
        return fields | {"not_before": start, "not_after": start + departs.get("validity", 365 * DAY)}

    policy = make.policy(rule=make.rule(**demand), rollout=at_once(make, waves))
    conditions = {"issued_before": {"issued_before": make.now}, "authority": {"authority": "old-ca"}}
    leaks = (make.incident(**conditions[incident], deadline=make.now + 30 * DAY),) if incident else ()
    loop = ClosedLoop(
        make, policy, issue, number=5, desired=make.desired(policy, incidents=leaks), authority="old-ca", age=120 * DAY
    )
    loop.ends, loop.repeated = itertools.cycle(ends), itertools.cycle(repeated)
    until = loop.now + 30 * DAY
    for pause in pauses:
        if loop.now + pause < until:
            loop.run()
            loop.let_pass(pause)
    assert max(loop.rotations.values()) <= 1


@pytest.mark.parametrize(
    "other",
    [{"key_type": "RSA-2048"}, {"authority": "aws-iot"}, {"authority": None}],
    ids=["key", "authority", "unknown"],
)
def test_a_backend_that_does_not_keep_what_the_policy_leaves_out_halts_the_rollout(make, other):
    rule = make.rule(key_type=None, authority=None)
    loop = ClosedLoop(make, make.policy(rule=rule, rollout=at_once(make)), lambda _o, _n: other, age=200 * DAY)
    loop.run()
    for _ in range(5):
        told = loop.run().waves[0]
    assert told.status is WaveStatus.HALTED
    assert "or to something else than the job asked for" in told.message
    assert sum(loop.rotations.values()) == 1


# ---- what ended long ago is not read any more


class ForgettingLoop(ClosedLoop):
    """Applied once a day: a look reads what has ended since 45 days before the last apply."""

    def _state(self):
        self.jobs = [job for job in self.jobs if job.completed_at >= self.now - DAY - LOOK_BACK]
        return super()._state()

    def run_daily(self, days):
        for _ in range(days):
            self.run()
            self.let_pass(DAY)


def test_a_rollout_goes_on_after_the_longest_soak_that_a_policy_may_have(make):
    policy = make.policy(rollout=make.rollout(("1", "100%"), soak=LONGEST_KNOWN))
    loop = ForgettingLoop(make, policy, lambda _old, _now: {}, key_type="RSA-2048")
    loop.run_daily(LONGEST_KNOWN // DAY + 2)
    assert set(loop.rotations.values()) == {1}


def test_the_longest_least_interval_that_a_policy_may_have_is_kept(make):
    policy = make.policy(rollout=at_once(make, ("100%",)))
    policy = make.replace(policy, schedule=make.replace(policy.schedule, least_interval=LONGEST_KNOWN))
    loop = ForgettingLoop(make, policy, lambda _old, _now: {}, number=1, key_type="RSA-2048")
    loop.run()
    loop.desired = make.desired(make.replace(policy, certificate=make.rule(key_type=KeyType.ECDSA_P384)))
    loop.run_daily(LONGEST_KNOWN // DAY - 1)
    assert loop.rotations["g00"] == 1
    loop.run_daily(3)
    assert loop.rotations["g00"] == 2


# ---- what a person does lets a rollout go on


class Halting:
    """Ten devices in waves of five and all; the first job ended with three of five failed."""

    def __init__(self, make):
        self.make = make
        self.policy = make.policy(rollout=at_once(make, ("5", "100%"), abort=(make.abort(50, 3),)))
        self.desired = make.desired(self.policy)
        self.devices = {f"g{n}": make.device(f"g{n}", age=200 * DAY) for n in range(10)}
        self.jobs, self.baseline = [], Baseline({"line-a": 10})
        self.now = make.now
        self.end(self.plan().jobs[0], {"g0": "FAILED", "g1": "FAILED", "g2": "FAILED"})

    def plan(self, *overrides):
        state = self.make.state(*self.jobs, now=self.now, group_sizes={"line-a": 10}, baseline=self.baseline)
        devices = list(self.devices.values())
        return self.make.plan(devices, self.desired, state, now=self.now, overrides=parse_overrides(overrides))

    def end(self, planned, failed, others="SUCCEEDED"):
        """The job's devices answer an hour later; ``others`` is what becomes of who did not fail."""
        made = {"queued_at": self.now, "started_at": self.now}
        self.now += HOUR
        executions = {}
        for device in planned.devices:
            status = failed.get(device.name, others)
            bare = self.make.execution(planned.job_id, status)
            done = self.make.replace(bare, **made, last_updated_at=self.now)
            executions[device.name] = self.make.replace(done, started_at=None) if status == "QUEUED" else done
            self._show(device.name, executions[device.name], made["queued_at"])
        status = "IN_PROGRESS" if others == "QUEUED" else "COMPLETED"
        job = self.make.job(planned.job_id, executions, status=status)
        self.jobs.append(self.make.replace(job, created_at=made["queued_at"]))

    def _show(self, name, execution, asked):
        device = self.devices[name]
        if execution.status.value == "SUCCEEDED":
            new = self.make.certificate(name=f"{name} new", created_at=asked, not_before=asked)
            self.devices[name] = self.make.device(name, certificates=(new,))
        elif execution.status.value == "FAILED":
            self.devices[name] = self.make.replace(device, failures=(*device.failures, execution))
        else:
            self.devices[name] = self.make.replace(device, executions=(execution,))

    def resume(self):
        self.baseline = self.make.replace(self.baseline, resumed={"line-a": self.now})

    def record(self, plan):
        """As apply does; and then all jobs become too old to be read."""
        self.baseline = self.make.replace(self.baseline, halted=plan.halts)
        self.now += LOOK_BACK
        self.jobs = []

    def rest(self, **fields):
        self.desired = self.make.desired(self.make.replace(self.policy, **fields))


def test_a_halt_outlasts_what_is_known_of_its_jobs_until_a_person_resumes(make):
    world = Halting(make)
    world.record(world.plan())
    [wave] = world.plan().waves
    assert (wave.status, wave.wave, wave.held) == (WaveStatus.HALTED, 1, 8)
    assert "too old to be read" in wave.message
    assert "--override resume=line-a" in wave.remedy
    assert world.plan().jobs == ()
    plan = world.plan("resume=line-a")
    assert (plan.waves[0].status, len(plan.jobs[0].devices), plan.halts) == (WaveStatus.OPEN, 5, {})


def test_a_halt_of_long_ago_that_nobody_has_recorded_stands_while_its_jobs_are_read(make):
    """Nobody has applied since, so its jobs are read from further back."""
    world = Halting(make)
    ended = world.now
    world.now += 3 * LOOK_BACK
    plan = world.plan()
    assert (plan.jobs, plan.waves[0].status, plan.waves[0].wave) == ((), WaveStatus.HALTED, 1)
    assert plan.halts["line-a"].known_until == world.jobs[0].created_at + LOOK_BACK < ended + LOOK_BACK < world.now
    resumed = world.plan("resume=line-a")
    assert (resumed.waves[0].status, resumed.halts, len(resumed.jobs[0].devices)) == (WaveStatus.OPEN, {}, 5)
    world.rest(mode=Mode.REPORT)
    assert world.plan().halts == plan.halts


def test_a_recorded_halt_stands_if_somebody_deletes_the_jobs_that_led_to_it(make):
    world = Halting(make)
    now = world.now
    world.record(world.plan())
    world.now = now
    [wave] = world.plan().waves
    assert (wave.status, "are gone" in wave.message) == (WaveStatus.HALTED, True)
    assert world.plan("resume=line-a").waves[0].status is WaveStatus.OPEN


@pytest.mark.parametrize(("seconds", "is_halted"), [(0, True), (-1, False)])
def test_a_recorded_halt_stands_by_itself_from_the_second_on_in_which_its_jobs_may_be_gone(make, seconds, is_halted):
    world = Halting(make)
    another = make.replace(world.jobs[0], executions={})
    world.record(world.plan())
    world.now = world.baseline.halted["line-a"].known_until + timedelta(seconds=seconds)
    world.jobs = [another]
    [wave] = world.plan().waves
    assert (wave.status is WaveStatus.HALTED, "too old to be read" in wave.message) == (is_halted, is_halted)


def test_a_recorded_halt_stays_as_it_was_recorded_and_says_nothing_of_another_rule(make):
    world = Halting(make)
    first = world.plan().halts
    assert first["line-a"].known_until == world.jobs[0].created_at + LOOK_BACK
    world.record(world.plan())
    assert world.plan().halts == first
    rule = make.replace(world.policy.certificate, max_age=100 * DAY, key_type=KeyType.ECDSA_P384)
    world.rest(certificate=rule)
    plan = world.plan()
    assert (plan.waves[0].status, plan.halts) == (WaveStatus.OPEN, {})


@pytest.mark.parametrize("rests", ["suspend", "mode"])
def test_a_policy_that_rests_keeps_its_halt(make, rests):
    world = Halting(make)
    fields = {"suspend": make.suspension(make.now + 91 * DAY)} if rests == "suspend" else {"mode": Mode.REPORT}
    world.rest(**fields)
    world.record(world.plan())
    world.record(world.plan())
    world.rest()
    assert world.plan().waves[0].status is WaveStatus.HALTED


def test_a_recorded_halt_ends_with_what_halted_the_rollout_while_that_can_be_read(make):
    world = Halting(make)
    world.baseline = make.replace(world.baseline, halted=world.plan().halts)
    by_hand = make.certificate(name="by hand", created_at=world.now + HOUR)
    world.devices |= {name: make.device(name, certificates=(by_hand,)) for name in ("g0", "g1", "g2")}
    world.now += 2 * HOUR
    plan = world.plan()
    assert plan.halts == {}
    assert plan.waves[0].status is not WaveStatus.HALTED


def test_what_a_person_resumed_goes_on_in_the_runs_that_follow(make):
    world = Halting(make)
    world.now += 2 * HOUR
    assert world.plan().waves[0].status is WaveStatus.HALTED
    plan = world.plan("resume=line-a")
    assert plan.resumed == ("line-a",)
    assert [[d.name for d in job.devices] for job in plan.jobs] == [["g0", "g1", "g2"]]
    world.resume()
    world.end(plan.jobs[0], {}, others="QUEUED")

    later = world.plan()

    assert (later.steps, later.waves[0].status) == ((), WaveStatus.RUNNING)


def test_a_resumed_rollout_that_fails_again_halts_again(make):
    world = Halting(make)
    world.now += 2 * HOUR
    plan = world.plan("resume=line-a")
    world.resume()
    world.end(plan.jobs[0], {"g0": "FAILED", "g1": "FAILED", "g2": "FAILED"})
    world.now += 3 * HOUR
    assert world.plan().waves[0].status is WaveStatus.HALTED


@pytest.mark.parametrize("way", ["waived", "replaced by hand", "resumed"])
def test_a_first_wave_that_was_given_up_goes_on_once_a_person_has_seen_to_it(make, way):
    policy = make.policy(rollout=at_once(make))
    canary = "cf-line-a-w1-" + ClosedLoop(make, policy, None, age=200 * DAY).plan().jobs[0].job_id[-16:]
    failures = tuple(make.execution(canary, "FAILED", queued=(9 - n) * DAY, updated=(9 - n) * DAY) for n in range(5))
    jobs = [
        make.replace(make.job(canary[:-1] + str(n), {"g0": failure}, status="COMPLETED"), created_at=failure.queued_at)
        for n, failure in enumerate(failures)
    ]
    devices = [make.device(f"g{n}", age=200 * DAY) for n in range(4)]
    devices[0] = make.replace(devices[0], failures=failures)
    desired, baseline = make.desired(policy), Baseline({"line-a": 4})
    stuck = make.plan(devices, desired, make.state(*jobs, baseline=baseline))
    assert not stuck.jobs
    assert stuck.waves[0].status in {WaveStatus.UNHEALTHY, WaveStatus.HALTED}
    assert "--override resume=line-a" in stuck.waves[0].remedy
    others = make.desired(make.policy(rollout=at_once(make, ("3", "100%"))))
    held = make.plan(devices, others, make.state(*jobs, baseline=baseline))
    assert (held.jobs, held.waves[0].remedy) == ((), stuck.waves[0].remedy), "other waves alone are no such way"

    if way == "waived":
        desired = make.desired(policy, waivers=(make.waiver("g0"),))
    elif way == "resumed":
        baseline = Baseline({"line-a": 4}, resumed={"line-a": make.now - HOUR})
    else:
        devices[0] = make.device("g0", age=HOUR)

    assert [job.wave for job in make.plan(devices, desired, make.state(*jobs, baseline=baseline)).jobs] == [1]


@pytest.mark.parametrize(
    ("wave", "statuses", "status"),
    [
        (1, {"FAILED": 3}, WaveStatus.HALTED),
        (2, {"SUCCEEDED": 2, "FAILED": 3}, WaveStatus.HALTED),
        (2, {"SUCCEEDED": 40, "FAILED": 2}, WaveStatus.OPEN),
        (2, {"SUCCEEDED": 8, "FAILED": 1}, WaveStatus.OPEN),
        (2, {"SUCCEEDED": 30, "FAILED": 10}, WaveStatus.HALTED),
        (2, {"SUCCEEDED": 1, "FAILED": 2}, WaveStatus.HALTED),
        (2, {"FAILED": 2}, WaveStatus.OPEN),  # two may be an accident: they back off, and the third decides
    ],
    ids=str,
)
def test_without_abort_rules_every_wave_has_a_brake_the_last_one_too(make, wave, statuses, status):
    policy = make.policy(rollout=at_once(make, ("3", "100%")))
    head = ClosedLoop(make, policy, None, age=200 * DAY).plan().jobs[0].job_id[-16:]
    job_id, executions, devices = f"cf-line-a-w{wave}-{head}", {}, []
    for kind, number in statuses.items():
        for n in range(number):
            name = f"{kind.lower()}-{n}"
            executions[name] = make.execution(job_id, kind, queued=30 * HOUR, updated=29 * HOUR)
            failures = (executions[name],) if kind == "FAILED" else ()
            age = 29.5 * HOUR if kind == "SUCCEEDED" else 200 * DAY
            devices.append(make.device(name, age=age, failures=failures))
    devices += [make.device(f"waiting-{n}", age=200 * DAY) for n in range(60)]
    job = make.job(job_id, executions, status="COMPLETED", age=30 * HOUR)
    plan = make.plan(devices, make.desired(policy), make.state(job, baseline=Baseline({})))
    assert plan.waves[0].status is status


# ---- what lies aside


def test_a_rule_that_comes_back_starts_with_its_first_wave_again(make):
    rollout = at_once(make, ("1", "50%", "100%"))
    before, between = make.policy(rollout=rollout), make.policy(rule=make.rule(max_age=100 * DAY), rollout=rollout)
    devices = [make.device(f"g{n}", age=200 * DAY) for n in range(10)]
    jobs = []
    for policy, age in ((before, 90 * HOUR), (between, 50 * HOUR)):
        for number, planned in enumerate(make.plan(devices, make.desired(policy)).jobs * 3, 1):
            job_id = planned.job_id.replace("-w1-", f"-w{number}-")
            done = {"g0": make.execution(job_id, "SUCCEEDED", queued=age, updated=age)}
            jobs.append(make.job(job_id, done, status="COMPLETED", age=age - number * HOUR))
    [job] = make.plan(devices, make.desired(before), make.state(*jobs, baseline=Baseline({}))).jobs
    assert (job.wave, len(job.devices)) == (1, 1)
    [job] = make.plan(devices, make.desired(before), make.state(*jobs[:3], baseline=Baseline({}))).jobs
    assert job.wave == 3, "nothing came in between"


def test_a_rotation_that_ended_by_a_clock_ahead_of_this_one_was_just_now(make):
    done = make.execution("by-hand", "SUCCEEDED", queued=MINUTE, updated=-MINUTE)
    device = make.device(age=MINUTE, key_type="RSA-2048", created_at=make.now - MINUTE / 2)
    told = make.assess(device, make.desired(), make.state(make.job("by-hand", {"gateway-1": done}, status="COMPLETED")))
    assert "rotated by job by-hand 0 seconds ago" in told.findings[-1].message


@pytest.mark.parametrize("text", ["resume=line-z", "result=line-z", "deployment=plant", "older=" + "d" * 12])
def test_an_override_of_a_name_that_is_not_there_is_refused_with_those_that_are(make, text):
    with pytest.raises(CertfleetError, match="there is no such name") as caught:
        require_known(parse_overrides([text]), [make.desired()])
    assert caught.value.remedy in {"there are: line-a", "there are: aws-iot, plant-ca", "there are: " + "c" * 12}
    known = ["resume=line-a", "again=anything", "deployment=plant-ca", "older=" + "c" * 12, "older=" + "c" * 40]
    require_known(parse_overrides(known), [make.desired()])


@pytest.mark.parametrize(
    ("start", "end", "reasons"),
    [
        (datetime(9999, 11, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC), ["Unparseable"]),
        (datetime(2026, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC), ["AgeExceeded"]),
        (datetime(2, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC), ["AgeExceeded"]),
        (datetime(1, 1, 1, tzinfo=UTC), datetime(1, 1, 2, tzinfo=UTC), ["Expiring", "AgeExceeded", "Expired"]),
    ],
)
def test_no_date_that_a_certificate_may_carry_stops_the_others(make, start, end, reasons):
    odd = make.device("odd", not_before=start, not_after=end)
    rule = make.rule(renew_before=30 * DAY)
    desired = make.desired(make.policy(rule=rule, jitter=50))
    plan = make.plan([odd, make.device("old", age=200 * DAY)], desired)
    assert "old" in {device.name for job in plan.jobs for device in job.devices}
    found = make.reasons(make.assess(odd, desired))
    assert set(reasons) <= set(found)
    assert explain(odd, desired, make.state(), make.now) is not None


def test_a_device_that_is_to_be_tried_again_and_is_not_there_is_told(make):
    devices = [make.device("h-02", age=200 * DAY)]
    told = make.plan(devices, make.desired(), overrides=parse_overrides(["again=h-002", "again=h-02"])).notices
    assert "--override again names h-002, which no policy governs; is h-02 meant? It is not tried again" in told


def test_a_waiver_of_a_name_that_is_not_there_is_told_with_the_name_that_may_be_meant(make):
    desired = make.desired(waivers=(make.waiver("h-002", "h-03"),))
    plan = make.plan([make.device("h-02", age=200 * DAY), make.device("h-03", age=200 * DAY)], desired)
    assert "waiver spare-part (demo/policies.yaml:3) names h-002, which no policy governs; is h-02 meant?" in " ".join(
        plan.notices
    )


ABSENT = "ab" * 32
LOST = frozenset({"h-002"})
H_002 = "h-002, which no policy governs; is h-02 meant? It is not "
NAMED = {  # every field that names devices, or what they hold, and what is told of a name that is none
    "waiver": (lambda m: {"waivers": (m.waiver("h-002"),)}, H_002 + "waived"),
    "quarantine, devices": (lambda m: {"quarantines": (m.quarantine("h-002"),)}, H_002 + "cut off"),
    "quarantine, certificates": (
        lambda m: {"quarantines": (m.quarantine(certificates=(ABSENT,)),)},
        "certificate abababababab, which no device of a policy holds",
    ),
    "incident, acceptedLosses": (
        lambda m: {"incidents": (m.incident(issued_before=m.now - DAY, accepted_losses=LOST),)},
        H_002 + "accepted as lost",
    ),
    "drill, devices": (lambda m: {"drills": (m.drill("h-002"),)}, H_002 + "drilled"),
}


@pytest.mark.parametrize(("documents", "told"), NAMED.values(), ids=NAMED)
def test_a_name_that_is_not_there_is_told_whatever_field_of_a_document_has_it(make, documents, told):
    desired = make.desired(**documents(make))
    [notice] = [one for one in make.plan([make.device("h-02", age=200 * DAY)], desired).notices if "names" in one]
    who, _, rest = notice.partition(" names ")
    assert rest == told
    assert who.endswith(" (demo/policies.yaml:3)"), "it is told at its line"


def test_a_certificate_in_quarantine_is_there_if_a_device_holds_it_beside_others_or_policies_tie_over_it(make):
    held = [make.certificate(name=name) for name in ("one", "two", "three")]
    policies = make.policy("line-a"), make.policy("line-b")
    devices = [
        make.device("several", certificates=held[:2]),
        make.device("tied", groups=("line-a", "line-b"), certificates=held[2:]),
    ]
    desired = make.desired(*policies, quarantines=(make.quarantine(certificates=[c.certificate_id for c in held[1:]]),))
    assert not [notice for notice in make.plan(devices, desired).notices if "names" in notice]


def test_a_document_that_is_over_names_nobody_any_more(make):
    over = {"waivers": (make.waiver("gone", expires=make.now - DAY),), "drills": (make.drill("gone", lasts=HOUR / 2),)}
    assert not [notice for notice in make.plan([make.device()], make.desired(**over)).notices if "names" in notice]


def test_a_policy_without_a_device_is_told_and_whether_another_one_of_equal_priority_claims_them(make):
    assert "policy line-a governs no device: its thing group is empty" in " ".join(
        make.plan([], make.desired()).notices
    )
    devices = [make.device(f"g{n}", groups=("line-a", "line-b", "line-c")) for n in range(9)]
    line_c = make.policy("line-c", priority=-1)
    told = make.plan(devices, make.desired(make.policy("line-a"), make.policy("line-b"), line_c)).notices
    tie = "line-a and line-b claim 9 devices with equal priority; give one of them a higher priority"
    assert [notice for notice in told if "governs no device" in notice] == [
        f"policy line-a governs no device: {tie}",
        f"policy line-b governs no device: {tie}",
        "policy line-c governs no device: its thing group is empty, or others govern all of it",
    ]


def test_a_finding_is_told_at_the_document_behind_it(make):
    waiver = make.replace(make.waiver("gateway-1"), source=Source("demo/waivers.yaml", 7))
    leak = make.replace(
        make.incident(authority="plant-ca", issued_before=make.now - DAY), source=Source("demo/x.yaml", 4)
    )
    desired = make.desired(waivers=(waiver,), incidents=(leak,))
    found = {f.reason.value: place_of(desired, "line-a", f) for f in make.assess(make.device(), desired).findings}
    assert found == {"AuthorityTainted": "demo/x.yaml:4", "Waived": "demo/waivers.yaml:7"}
    theft = make.replace(make.quarantine("gateway-1"), source=Source("demo/q.yaml", 2))
    drill = make.replace(make.drill("gateway-1"), source=Source("demo/drills.yaml", 9))
    for desired, place in (
        (make.desired(quarantines=(theft,)), "demo/q.yaml:2"),
        (make.desired(drills=(drill,)), "demo/drills.yaml:9"),
    ):
        [finding] = make.assess(make.device(), desired).findings
        assert place_of(desired, "line-a", finding) == place


def refused_by_the_backend(make, *hours_ago, version=None, reason="Create was rejected."):
    """A device of which the backend has refused so many creates of the present rollout."""
    head = ClosedLoop(make, make.policy(), None, age=200 * DAY).plan().jobs[0].job_id
    failures = tuple(make.execution(head, "FAILED", n * HOUR, reason=reason, version=version) for n in hours_ago)
    return make.device(age=200 * DAY, key_type="RSA-2048", failures=failures)


def test_a_stock_component_that_is_refused_again_and_again_is_not_asked_for_ever(make):
    device = refused_by_the_backend(make, 44, 42, 40)
    told = make.assess(device, make.desired())
    assert make.reasons(told) == ["AgeExceeded", "KeyTypeMismatch", "UnsupportedByComponent"]
    assert "ECDSA-P256 with ECDSA-WITH-SHA256 from plant-ca" in told.findings[-1].message
    assert "--override again=gateway-1" in told.findings[-1].remedy
    again = parse_overrides(["again=gateway-1"])
    assert make.plan([device], make.desired(), overrides=again).jobs


@pytest.mark.parametrize("hours_ago", [(40,), (42, 40)])
def test_one_refusal_of_a_stock_component_may_be_an_outage_so_it_is_tried_again_by_itself(make, hours_ago):
    assert make.plan([refused_by_the_backend(make, *hours_ago)], make.desired(make.policy(rollout=at_once(make)))).jobs


def test_a_stock_component_that_was_just_refused_rests_and_is_told_what_that_may_mean(make):
    [*_, resting] = make.assess(refused_by_the_backend(make, 0.1), make.desired()).findings
    assert (resting.reason.value, "or it makes another key than asked" in resting.message) == ("BackingOff", True)


@pytest.mark.parametrize("other", [{"version": "1.0.0"}, {"reason": "no space left"}])
def test_what_another_component_or_another_reason_says_is_no_refusal_of_a_stock_component(make, other):
    refused, failed = (
        refused_by_the_backend(make, *hours, **said) for hours, said in [((46, 44, 42), {}), ((40,), other)]
    )
    device = make.replace(refused, failures=(*refused.failures, *failed.failures))
    assert "UnsupportedByComponent" not in make.reasons(make.assess(device, make.desired()))


def test_a_waiver_reaches_a_device_that_was_asked_and_has_not_begun(make):
    policy = make.policy()
    devices = [make.device(f"g{n}", age=200 * DAY) for n in range(3)]
    [planned] = make.plan(devices, make.desired(policy)).jobs
    asked = {name: make.execution(planned.job_id, queued=72 * HOUR) for name in ("g0", "g1")}
    asked["g2"] = make.execution(planned.job_id, "IN_PROGRESS", queued=72 * HOUR)
    devices = [make.replace(device, executions=(asked[device.name],)) for device in devices]
    state = make.state(make.job(planned.job_id, asked, age=72 * HOUR), baseline=Baseline({}))
    desired = make.desired(policy, waivers=(make.waiver("g0", "g2"),))

    plan = make.plan(devices, desired, state)

    assert [(step.job_id, step.reason[:8]) for step in plan.steps] == [(planned.job_id, "a waiver")]
    assert "g0" not in {device.name for job in plan.jobs for device in job.devices}
    assert make.reasons(make.assess(devices[0], desired, state)) == ["AgeExceeded", "Straggler", "Waived"]
    assert "Waived" not in make.reasons(make.assess(devices[2], desired, state)), "it is at work already"


@pytest.mark.parametrize(("overrides", "devices"), [((), []), (("again=g0",), ["g0"]), (("again=g1",), ["g1"])])
def test_again_now_after_a_backoff_is_an_override_for_the_device_that_is_named(make, overrides, devices):
    failed = [make.execution("of-before", "FAILED", queued=HOUR / 2, updated=HOUR / 4)]
    fleet = [make.device(f"g{n}", age=200 * DAY, failures=tuple(failed)) for n in range(2)]
    desired = make.desired(make.policy(rollout=at_once(make)))
    plan = make.plan(fleet, desired, make.state(baseline=Baseline({})), overrides=parse_overrides(overrides))
    assert [device.name for job in plan.jobs for device in job.devices] == devices


def test_what_ends_in_the_second_of_a_resume_has_not_been_looked_at(make):
    """The run that resumes makes a job, and its device answers within the second: in vain again, and no third time."""
    loop = ClosedLoop(make, make.policy(rollout=at_once(make)), of_another_ca, authority="old-ca")
    loop.run()
    loop.let_pass(25 * HOUR)
    loop.run("resume=line-a")
    ended = loop.jobs[-1].executions["g00"].last_updated_at
    loop.baseline = make.replace(loop.baseline, resumed={"line-a": ended})
    for _ in range(5):
        loop.let_pass(25 * HOUR)
        assert loop.run().waves[0].status is WaveStatus.HALTED
    assert sum(loop.rotations.values()) == 2
