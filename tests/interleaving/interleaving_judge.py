"""Whoever watches every call, and knows from the plant alone what must never happen.

Nothing here asks the controller what it thinks: governing, reasons, windows and halts are worked out
from documents, certificates and executions anew, in the plainest way. What was broken is kept, not
raised, so that no code under test can swallow it.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from interleaving_aws import Call, Endless
from interleaving_plant import Holding, Rotation
from interleaving_world import Commit, Documents, Outcome, Run, World

from controller.durations import parse_duration
from controller.fleet.jobs_reader import MAX_FOREIGN
from controller.reconcile.values import parse_job_id
from protocol.names import AWS_IOT_AUTHORITY

PLAN_ENDS = timedelta(days=7)  # no plan is carried out that is older
REST = timedelta(minutes=30)  # at least, after a failure
MOST_CALLS = 3_000  # of one run over a handful of devices
ENOUGH = 3  # devices: where so many failed, and more than went well, nobody new is asked


@dataclass(frozen=True)
class Fault:
    """An invariant that does not hold, and how that was seen."""

    invariant: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text}"


@dataclass
class Memory:
    """What has come of one policy's rule, since it last changed or a person last said to go on."""

    failed: set[str] = field(default_factory=set)
    cured: set[str] = field(default_factory=set)
    started: dict[str, datetime] = field(default_factory=dict)  # device → when it was asked first
    in_vain: dict[str, frozenset[str]] = field(default_factory=dict)  # device → the reasons that its rotation left
    is_halted: bool = False

    def forgive(self) -> None:
        """Forget what went wrong."""
        self.failed, self.cured, self.started, self.in_vain, self.is_halted = set(), set(), {}, {}, False


@dataclass
class Rollout:
    """One policy's rule, since it is another one than the jobs before had."""

    rule: str
    last: int = 0  # jobs that were made by any policy until its own last one
    has_shown_itself: bool = False  # a device was cured by it
    reached: set[str] = field(default_factory=set)  # devices that were ever asked: to try one again reaches nobody new


class Judge:
    """Listens to one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.faults: list[Fault] = []
        self._memory: dict[tuple[str, str], Memory] = defaultdict(Memory)
        self._rule: dict[str, str] = {}  # the rule of each policy that was applied last
        self._rollouts: dict[str, Rollout] = {}  # by policy
        self._taken_over: dict[str, tuple[str, Rollout]] = {}  # by policy: by which one, and the rollout that it ended
        self._made: list[tuple[str, frozenset[str]]] = []  # of each job that asks devices: policy, and whom it asks
        self._was_in_vain = False  # any rotation ever, or one that brought what was not asked for
        self._latest = -1  # the newest commit that was applied
        self._clock = itertools.count(1)
        self._asked: dict[tuple[str, str], int] = {}  # (job, device) → when it was asked
        self._got: dict[str, int] = {}  # device → when it got the certificate in place
        self._failed_at: dict[tuple[str, str, str], datetime] = {}  # (device, policy, rule)
        self.failures: Counter[str] = Counter()  # by device
        self._resumed: dict[str, tuple[str, str]] = {}  # job → policy and rule, made by a run that was told to resume
        world.aws.before = self._before
        world.aws.after = self._after
        world.plant.on_rotated = self._rotated
        world.plant.on_failed = self._failed
        world.on_run.append(self._begins)
        world.after_run.append(self._ended)

    def check(self) -> None:
        """Raise where anything was broken; of each invariant the first is told."""
        if self.faults:
            first = {fault.invariant: str(fault) for fault in reversed(self.faults)}
            raise AssertionError("\n".join([*first.values(), self.world.describe()]))

    def has_applied(self, commit: Commit) -> bool:
        """Whether it, or a newer one, was applied to its end."""
        return self._latest >= commit.number

    def broken(self) -> set[str]:
        """Names of the invariants that did not hold."""
        return {fault.invariant for fault in self.faults}

    def forgive(self, policy: str | None = None) -> None:
        """A person has looked: what went wrong before counts no more."""
        for (name, _rule), memory in self._memory.items():
            if policy in (None, name):
                memory.forgive()
        self._failed_at.clear()

    def has_left(self, device: str) -> None:
        """A device that is its policy's no more is evidence no more: a rollout that it has halted may go on."""
        for memory in self._memory.values():
            memory.failed.discard(device)
            memory.is_halted = False  # the next preview tells whether it still is

    # what a device's certificate must be

    def reasons(
        self, documents: Documents, spec: dict[str, Any], holding: Holding, now: datetime, *, is_early: bool = False
    ) -> frozenset[str]:
        """Why a device with this certificate is to be rotated under a policy; ``is_early``: as jitter allows it."""
        rule = spec["certificate"]
        soon = now + _life(spec, holding) * spec["schedule"]["jitterPercent"] / 100 * is_early
        found = {
            "age": "maxAge" in rule and soon - holding.not_before >= parse_duration(rule["maxAge"]),
            "expiry": "renewBefore" in rule and holding.not_after - soon <= parse_duration(rule["renewBefore"]),
            "key": rule.get("keyType", holding.key_type.value) != holding.key_type.value,
            "authority": "authority" in rule and _arn(documents, rule["authority"]) != holding.authority,
            "cutoff": "rotateIssuedBefore" in rule
            and holding.not_before < datetime.fromisoformat(rule["rotateIssuedBefore"]) <= now,
            "incident": any(
                _arn(documents, i["authority"]) == holding.authority
                if "authority" in i
                else i["keyType"] == holding.key_type.value
                for i in documents.incidents.values()
            ),
        }
        return frozenset(name for name, holds in found.items() if holds)

    def is_in_sync(self, documents: Documents, device: str) -> bool:
        """Whether the device holds one certificate, and nothing is wrong with it."""
        spec = next((s for _n, s in _governing(documents, self.world.plant.groups[device])), None)
        held = self.world.plant.holds[device]
        return spec is None or (len(held) == 1 and not self.reasons(documents, spec, held[0], self.world.now()))

    # what happens

    def _begins(self, run: Run) -> None:
        for name, spec in run.commit.documents.policies.items():
            rule = _rule_text(run.commit.documents, spec)
            if run.command == "apply" and self._rule.get(name) != rule:
                self._rule[name] = rule
                self._memory[name, rule] = Memory()
        if run.command == "apply":
            for override in run.overrides:
                if override.startswith("resume="):
                    self.forgive(override.removeprefix("resume="))

    def _ended(self, run: Run, outcome: Outcome) -> None:
        if not self.world.running:
            self._each_is_asked_once()
        if outcome.crash:
            self.tell("no command ends with a traceback", outcome.crash)
        if run.command == "apply" and outcome.code in (0, 2):
            self._latest = max(self._latest, run.commit.number)
            if not self.world.running:
                self._nobody_is_asked_on(run)
        if run.command == "plan" and outcome.code in (0, 2, 3) and "--base" not in run.arguments:
            for wave in outcome.json["waves"]:
                spec = run.commit.documents.policies[wave["policy"]]
                memory = self._memory[wave["policy"], _rule_text(run.commit.documents, spec)]
                memory.is_halted |= wave["status"] == "halted"
                if wave["remedy"] and not self._has_gone_wrong():
                    self.tell("nobody is called for what mends itself", wave["message"])

    def _has_gone_wrong(self) -> bool:
        """Whether any rotation ever failed, or was in vain, or its device is another one of the same name by now."""
        jobs, plant = self.world.jobs().values(), self.world.plant
        statuses = {execution.status for job in jobs for execution in job.executions.values()}
        held = {name: holdings[-1].created_at for name, holdings in plant.holds.items()}
        is_another = any(held.get(rotation.device, rotation.at) < rotation.at for rotation in plant.rotations)
        return self._was_in_vain or is_another or not statuses.isdisjoint({"FAILED", "TIMED_OUT", "REJECTED"})

    def _each_is_asked_once(self) -> None:
        """Asked once no run is under way: of two that made jobs in one moment, one takes its own back."""
        for device in self.world.plant.holds:
            pending = self.world.cloud.jobs._engine.pending_of(device)
            ours = [execution.job_id for execution in pending if parse_job_id(execution.job_id) is not None]
            if len(ours) > 1:
                self.tell("nobody is in two open executions", f"{device} in {' and '.join(ours)}")

    def _nobody_is_asked_on(self, run: Run) -> None:
        """Whoever a job asks still, and has not begun, is its policy's own and may start, but for the hour."""
        for job in self.world.jobs().values():
            parsed = parse_job_id(job.job_id)
            queued = [e.thing for e in job.executions.values() if e.status == "QUEUED"] if job.is_active else []
            for device in queued if parsed else ():
                governing = dict(_governing(run.commit.documents, self.world.plant.groups.get(device, "-")))
                spec = governing.get(parsed.policy)
                why = "nobody is asked on for a policy that is not its own" if spec is None else None
                why = why or self._why_forbidden(run, spec, device)
                if why not in (None, "nobody starts in closed time"):
                    self.tell(why, f"{device} is asked on in {job.job_id}")

    def _before(self, call: Call) -> None:
        run = self.world.current_run()
        if run is None:
            return
        run.calls += 1
        if run.calls > MOST_CALLS:
            self.tell("every run ends", f"{run.command} has made {run.calls} calls")
            raise Endless
        seen = getattr(self, f"_on_{call.operation}", None)
        if seen is not None:
            seen(run, call.parameters)

    def _on_CreateJob(self, run: Run, request: dict[str, Any]) -> None:  # noqa: N802 - AWS's name
        if request["jobId"] not in self.world.jobs():
            self._job_starts(run, request["jobId"], self._reached(request["targets"]))

    def _on_AddThingToThingGroup(self, run: Run, request: dict[str, Any]) -> None:  # noqa: N802
        if self._is_open(request["thingGroupName"]):
            self._job_starts(run, request["thingGroupName"], [request["thingName"]])

    def _on_RemoveThingFromThingGroup(self, _run: Run, request: dict[str, Any]) -> None:  # noqa: N802
        name, device = request["thingGroupName"], request["thingName"]
        execution = self.world.jobs()[name].executions.get(device) if self._is_open(name) else None
        if execution is not None and execution.status == "IN_PROGRESS":
            self.tell("who rotates stays in its job", f"{device} is taken out of {name}")

    def _on_DeleteThingGroup(self, _run: Run, request: dict[str, Any]) -> None:  # noqa: N802
        name = request["thingGroupName"]
        if not name.startswith("cf-"):
            self.tell("what is not ours is left alone", f"group {name} is deleted")
        elif self._is_open(name):
            self.tell("no group of an open job is deleted", name)

    def _on_CancelJob(self, run: Run, request: dict[str, Any]) -> None:  # noqa: N802
        self._cancelled(run, request["jobId"])

    def _after(self, call: Call, answer: Any) -> None:
        run = self.world.current_run()
        if run is not None and call.operation in {"CreateJob", "AddThingToThingGroup"}:
            name = call.parameters.get("jobId") or call.parameters.get("thingGroupName")
            job = self.world.jobs().get(name)
            for device in job.executions if job else ():
                self._asked.setdefault((name, device), next(self._clock))

    def _cancelled(self, run: Run, name: str) -> None:
        job, parsed = self.world.jobs().get(name), parse_job_id(name)
        if parsed is None:
            self.tell("what is not ours is left alone", f"job {name} is cancelled")
        policy, rule = self._resumed.get(name, ("", ""))
        spec = run.commit.documents.policies.get(policy)
        if job is None or spec is None:
            return
        statuses = {execution.status for execution in job.executions.values()}
        asks_still = "QUEUED" in statuses and statuses <= {"QUEUED", "IN_PROGRESS", "SUCCEEDED"}
        untouched = asks_still and rule == _rule_text(run.commit.documents, spec)
        is_young = self.world.now() - job.created_at < timedelta(hours=24)
        documents, now, held = run.commit.documents, self.world.now(), self.world.plant.holds
        groups = self.world.plant.groups
        needs = (self.reasons(documents, spec, held[n][-1], now, is_early=True) for n in job.executions if n in held)
        is_needed = all(needs)  # who needs none any more is let go, and the others are asked anew
        are_its_own = all(groups.get(name) == spec["thingGroup"] for name in job.executions)
        may_all_start = are_its_own and all(self._why_forbidden(run, spec, name) is None for name in job.executions)
        if untouched and is_needed and is_young and may_all_start:
            self.tell("what a person resumed goes on", f"{name} is cancelled by the next run")

    def _job_starts(self, run: Run, job_id: str, devices: list[str]) -> None:
        world, parsed = self.world, parse_job_id(job_id)
        documents, now = run.commit.documents, world.now()
        if run.commit.number < self._latest and not any(o.startswith("older") for o in run.overrides):
            self.tell(
                "git does not go back unasked", f"commit {run.commit.number} rotates after {self._latest} was applied"
            )
        if run.plan_file is not None and now - _made_at(run) > PLAN_ENDS:
            self.tell("a plan ends", f"one of {_made_at(run):%Y-%m-%d} makes {job_id}")
        spec = documents.policies.get(parsed.policy) if parsed else None
        if parsed is not None and spec is not None and f"resume={parsed.policy}" in run.overrides:
            self._resumed[job_id] = parsed.policy, _rule_text(documents, spec)
        for device in devices:
            self._device_starts(run, job_id, device, documents, now)
        if parsed is not None and spec is not None:
            self._end_what_another_took_over(parsed.policy, spec, documents)
        if parsed is not None:
            self._made.append((parsed.policy, frozenset(devices)))
        if parsed is not None and spec is not None and parsed.wave is not None:
            self._first_wave(parsed.policy, spec, documents, devices)
        elif parsed is not None and spec is not None:
            self._ahead_of_waves(parsed.policy, _rule_text(documents, spec), devices)
        if parsed is not None:
            reached = self._rollouts[parsed.policy].reached if parsed.policy in self._rollouts else set()
            waited = reached if parsed.wave is None else set()  # who was asked before goes on waiting
            self._guardrail(run, parsed.policy, [device for device in devices if device not in waited])

    def _device_starts(self, run: Run, job_id: str, device: str, documents: Documents, now: datetime) -> None:
        governing = _governing(documents, self.world.plant.groups.get(device, "-"))
        if not governing:
            self.tell("only what a policy governs rotates", f"{device} in {job_id}")
            return
        [(policy, spec)] = governing
        why = self._why_forbidden(run, spec, device)
        if why:
            self.tell(why, f"{device} starts in {job_id}")
        held = self.world.plant.holds[device]
        reasons = self.reasons(documents, spec, held[-1], now, is_early=True)
        if not reasons:
            self.tell("nobody rotates without a reason", f"{device} in {job_id}")
        rotated = next((r for r in reversed(self.world.plant.rotations) if r.new == held[-1]), None)
        rest = min(parse_duration(spec["schedule"].get("leastInterval", "1d")), _life(spec, held[-1]) / 2)
        is_asked_for = "incident" in reasons or f"again={device}" in run.overrides
        is_known = rotated is None or parse_job_id(rotated.job_id) is not None or not self._is_pushed_out()
        if rotated is not None and is_known and now - rotated.at < rest and not is_asked_for:
            self.tell("nobody rotates within the least interval", f"{device} in {job_id}, rotated {rotated.at}")
        self._as_remembered(policy, spec, run.commit, job_id, device, reasons)

    def _is_pushed_out(self) -> bool:
        """Whether there are more jobs of others than a run looks into: a rotation that a person started may be one."""
        return sum(parse_job_id(job_id) is None for job_id in self.world.jobs()) > MAX_FOREIGN

    def _as_remembered(
        self, policy: str, spec: dict[str, Any], commit: Commit, job_id: str, device: str, reasons: frozenset[str]
    ) -> None:
        memory = self._memory[policy, _rule_text(commit.documents, spec)]
        left = memory.in_vain.get(device)
        if left is not None and reasons and reasons <= left:
            self.tell("nobody rotates in vain twice", f"{device} in {job_id} for {', '.join(sorted(reasons))}")
        is_new = device not in memory.failed | memory.cured | memory.in_vain.keys()
        if is_new and memory.in_vain and not memory.cured:
            told = f"{device} in {job_id} after {', '.join(sorted(memory.in_vain))} rotated in vain"
            self.tell("what was in vain goes no further", told)
        if is_new and len(memory.failed) >= ENOUGH and len(memory.failed) > len(memory.cured):
            self.tell("where most fail nobody new starts", f"{device} in {job_id} after {len(memory.failed)} failed")
        if memory.is_halted:
            self.tell("nobody starts while halted", f"{device} in {job_id}")
        failed_at = self._failed_at.get((device, policy, _rule_text(commit.documents, spec)))
        if failed_at is not None and self.world.now() - failed_at < REST:
            self.tell("who failed rests", f"{device} in {job_id}, {self.world.now() - failed_at} after it failed")

    def _end_what_another_took_over(self, policy: str, spec: dict[str, Any], documents: Documents) -> None:
        """If a policy that is gone has asked a device of this one since its last job, it starts with its first wave."""
        rollout, groups = self._rollouts.get(policy), self.world.plant.groups
        for other, devices in self._made[rollout.last :] if rollout is not None else ():
            if other not in documents.policies and any(groups.get(name) == spec["thingGroup"] for name in devices):
                self._taken_over[policy] = other, self._rollouts.pop(policy, rollout)
        other, before = self._taken_over.get(policy, ("", None))
        rollout = self._rollouts.get(policy)
        if before is not None and rollout is not None and other in documents.policies and before.rule == rollout.rule:
            rollout.has_shown_itself |= before.has_shown_itself  # that policy is there again: nothing was taken over
            rollout.reached |= before.reached

    def _first_wave(self, policy: str, spec: dict[str, Any], documents: Documents, devices: list[str]) -> None:
        rule = _rule_text(documents, spec)
        memory, now = self._memory[policy, rule], self.world.now()
        rollout = self._rollouts.get(policy)
        if rollout is None or rollout.rule != rule:
            rollout = self._rollouts[policy] = Rollout(rule)
            memory.started.clear()
        rollout.last = len(self._made)
        new = set(devices) - rollout.reached
        rollout.reached |= new
        for device in devices:
            memory.started.setdefault(device, now)
        groups = self.world.plant.groups
        governed = sum(group == spec["thingGroup"] for group in groups.values())
        its_own = [d for d in memory.started if groups.get(d) == spec["thingGroup"]]
        patience = parse_duration(spec["rollout"].get("stragglersAfter", "1d"))
        asked = [d for d in its_own if now - memory.started[d] < patience]  # others take the place of who is silent
        is_over = len(asked) > _first_size(spec, governed)
        if new and is_over and not rollout.has_shown_itself and not documents.incidents:
            self.tell("a change starts with its first wave", f"{len(asked)} of {policy} were asked: {asked}")

    def _ahead_of_waves(self, policy: str, rule: str, devices: list[str]) -> None:
        """Who is asked ahead of its wave is not the one with whom a change is tried."""
        rollout = self._rollouts.get(policy)
        if rollout is not None and rollout.rule == rule:
            rollout.last = len(self._made)
        if rollout is not None and rollout.rule == rule and not rollout.has_shown_itself:
            for device in set(devices) - rollout.reached:
                self.tell("nobody is asked ahead of a wave that has shown nothing", f"{device} of {policy}")

    def _why_forbidden(self, run: Run, spec: dict[str, Any], device: str) -> str | None:
        now, documents = self.world.now(), run.commit.documents
        if spec.get("mode") == "report":
            return "report-only policies rotate nobody"
        if "suspend" in spec and datetime.fromisoformat(spec["suspend"]["until"]) > now:
            return "nobody starts while suspended"
        for waiver in documents.waivers.values():
            if device in waiver["devices"] and datetime.fromisoformat(waiver["expires"]) > now:
                return "nobody starts while waived"
        if any(device in quarantine["devices"] for quarantine in documents.quarantines.values()):
            return "nobody starts while in quarantine"
        held = self.world.plant.holds[device][-1]
        is_urgent = self.reasons(documents, spec, held, now) & {"incident", "cutoff"} or _is_late(spec, held, now)
        return None if is_urgent or _is_open(spec, now) else "nobody starts in closed time"

    def _guardrail(self, run: Run, policy: str, devices: list[str]) -> None:
        guardrails = run.commit.documents.guardrails
        started = run.started
        started[policy] += len(devices)
        spec = run.commit.documents.policies.get(policy)
        governed = sum(group == spec["thingGroup"] for group in self.world.plant.groups.values()) if spec else 0
        given = [float(o.partition("=")[2]) for o in run.overrides if o.startswith("maxChangePercent=")]
        limit = max([guardrails["maxChangePercent"], *given])
        if governed >= guardrails["minExisting"] and 100 * started[policy] > limit * governed:
            self.tell("guardrails hold", f"{started[policy]} of {governed} of {policy} start, {limit} % are allowed")

    def _rotated(self, rotation: Rotation) -> None:
        device, parsed = rotation.device, parse_job_id(rotation.job_id)
        asked = self._asked.get((rotation.job_id, device))
        if parsed is not None and asked is not None and asked < self._got.get(device, 0):
            self.tell("nobody rotates again for the same", f"{device} in {rotation.job_id}")
        self._got[device] = next(self._clock)
        if parsed is None:
            return
        if sum((one.device, one.job_id) == (device, rotation.job_id) for one in self.world.plant.rotations) > 1:
            self.tell("nobody rotates twice in one job", f"{device} in {rotation.job_id}")
        commit = next(c for c in self.world.history if c.hash == self._commit_of(rotation.job_id))
        spec = commit.documents.policies[parsed.policy]
        before = self.reasons(commit.documents, spec, rotation.old, rotation.at)
        after = self.reasons(commit.documents, spec, rotation.new, rotation.at)
        left = before & after
        self._was_in_vain |= bool(after)
        memory = self._memory[parsed.policy, _rule_text(commit.documents, spec)]
        memory.failed.discard(device)
        if left:
            memory.in_vain[device] = left
        else:
            memory.cured.add(device)
            if parsed.policy in self._rollouts:
                self._rollouts[parsed.policy].has_shown_itself = True
            memory.in_vain.pop(device, None)

    def _failed(self, device: str, job_id: str) -> None:
        parsed = parse_job_id(job_id)
        self.failures[device] += 1
        if parsed is None:
            return
        commit = next(c for c in self.world.history if c.hash == self._commit_of(job_id))
        rule = _rule_text(commit.documents, commit.documents.policies[parsed.policy])
        self._failed_at[device, parsed.policy, rule] = self.world.now()
        if not any((one.device, one.job_id) == (device, job_id) for one in self.world.plant.rotations):
            self._memory[parsed.policy, rule].failed.add(device)  # else it has rotated, in an attempt of before

    # inside

    def _commit_of(self, job_id: str) -> str:
        return json.loads(self.world.jobs()[job_id].document).get("commit")

    def _reached(self, targets: list[str]) -> list[str]:
        return list(self.world.cloud.jobs._engine._expand(targets))

    def _is_open(self, job_id: str) -> bool:
        job = self.world.jobs().get(job_id)
        return job is not None and job.is_active

    def tell(self, invariant: str, text: str) -> None:
        self.faults.append(Fault(invariant, text))


def _governing(documents: Documents, group: str) -> list[tuple[str, dict[str, Any]]]:
    return [(name, spec) for name, spec in documents.policies.items() if spec["thingGroup"] == group]


def _arn(documents: Documents, authority: str) -> str:
    return AWS_IOT_AUTHORITY if authority == AWS_IOT_AUTHORITY else documents.arn


def _rule_text(documents: Documents, spec: dict[str, Any]) -> str:
    arn = documents.arn if spec["certificate"].get("authority") == "plant-ca" else None
    return json.dumps([spec["certificate"], arn], sort_keys=True)


def _first_size(spec: dict[str, Any], governed: int) -> int:
    first = spec["rollout"]["waves"][0]
    return max(1, -(-governed * int(first[:-1]) // 100) if first.endswith("%") else int(first))


def _made_at(run: Run) -> datetime:
    return datetime.fromisoformat(json.loads(run.plan_file.read_text())["created_at"])


def _is_late(spec: dict[str, Any], held: Holding, now: datetime) -> bool:
    """Whether so little life is left that windows do not count."""
    return held.not_after - now <= _life(spec, held) / 20


def _life(spec: dict[str, Any], held: Holding) -> timedelta:
    """For how long the certificate may be used under the policy's rule."""
    life = held.not_after - held.not_before
    return min(life, parse_duration(spec["certificate"]["maxAge"])) if "maxAge" in spec["certificate"] else life


def _is_open(spec: dict[str, Any], now: datetime) -> bool:
    """Windows here are all daily, in UTC; those that close time beat the others."""
    windows = spec["schedule"].get("windows", ())
    denied = [window for window in windows if window["kind"] == "deny"]
    allowed = [window for window in windows if window["kind"] == "allow"]
    return not (denied and _is_within(denied, now)) and (not allowed or _is_within(allowed, now))


def _is_within(windows: list[dict[str, Any]], now: datetime) -> bool:
    starts = [now.replace(hour=int(w["cron"].split()[1]), minute=0, second=0, microsecond=0) for w in windows]
    lasting = [parse_duration(w["duration"]) for w in windows]
    return any(
        start <= now < start + length or start - timedelta(days=1) + length > now
        for start, length in zip(starts, lasting, strict=True)
    )
