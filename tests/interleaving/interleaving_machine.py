"""Every kind of thing that happens to a fleet, in any order. A judge watches; at the end all must heal."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from interleaving_aws import Call, Killed, Turns
from interleaving_edits import EDITS, edit
from interleaving_judge import Judge
from interleaving_plant import other_authority, other_key
from interleaving_recovery import recover
from interleaving_world import ARNS, DAY, Documents, World, policy
from interleaving_world import rule as rule_of

from protocol.algorithms import KeyType

ABORT = [{"failureType": "FAILED", "thresholdPercentage": 25, "minNumberOfExecutedThings": 2}]
WINDOW = {"cron": "0 12 * * *", "timezone": "UTC", "duration": "4h", "kind": "allow"}
KEYS = ["ECDSA-P256", "ECDSA-P384"]
CACHES = st.sampled_from(["ci", "ci", "function", "cold"])
CALLS = st.integers(1, 30)  # AWS calls of a run: about twenty, where it makes a job
MOST_DEVICES = 9
PLACES = st.integers(0, MOST_DEVICES - 1)  # in a list, which may be shorter
SPANS = st.sampled_from([{"minutes": 5}, {"hours": 2}, {"hours": 3}, {"hours": 25}, {"days": 3}, {"days": 40}])


def _pick(found, at: int):
    return found[at % len(found)]


class Interleaving(RuleBasedStateMachine):
    """One fleet of a few devices, its git, its backend, and everybody who acts on it."""

    @initialize(
        count=st.integers(2, 6),
        waves=st.sampled_from([["100%"], ["1", "100%"], ["2", "100%"], ["1", "50%", "100%"]]),
        soak=st.sampled_from(["0s", "0s", "24h"]),
        abort=st.sampled_from([[], ABORT]),
        windows=st.sampled_from([[], [], [WINDOW]]),
        age=st.sampled_from([100, 100, 80, 10]),
        authority=st.sampled_from([0, 0, 1]),
        others=st.booleans(),
    )
    def begin(self, count, waves, soak, abort, windows, age, authority, others) -> None:
        names = ["aws-iot", "plant-ca"]
        rollout = {"waves": waves, "soak": soak, "abort": abort}
        spec = policy(rollout=rollout, schedule={"windows": windows}, certificate=rule_of(authority=names[authority]))
        policies = {"line-a": spec} | ({"line-b": policy("line-b", rollout={"waves": ["100%"]})} if others else {})
        self.world = World(Documents(policies))
        self.judge = Judge(self.world)
        for number in range(1, count + 1):
            self._add(f"a-{number}", "line-a", age, names[authority])
        if others:
            self._add("b-1", "line-b", age, "aws-iot")
        self.plans: list = []

    def _add(self, name: str, group: str, age: int, authority: str = "aws-iot") -> None:
        arn = ARNS[0] if authority == "plant-ca" else authority
        self.world.plant.add(name, group, age=age * DAY, key=KeyType.ECDSA_P256, authority=arn)

    # time, and what devices do

    @rule(span=SPANS)
    def time_passes(self, span) -> None:
        self.world.pass_time(**span)

    @rule()
    def devices_answer(self) -> None:
        self.world.answer()

    @rule(at=PLACES)
    def one_device_answers(self, at) -> None:
        self.world.answer(self._device(at))

    @rule(at=PLACES)
    def a_device_gets_half_way(self, at) -> None:
        name = self._device(at)
        if name not in self.world.plant.offline:
            self.world.plant.begin(name)

    @rule(at=PLACES)
    def a_device_fails(self, at) -> None:
        self.world.plant.fail(self._device(at))

    @rule(at=PLACES)
    def a_device_goes_offline_or_returns(self, at) -> None:
        name, plant = self._device(at), self.world.plant
        if name in plant.offline:
            plant.offline.remove(name)
            plant.connect(name)
        else:
            plant.offline.add(name)
            plant.disconnect(name)

    @rule(all_of_them=st.booleans(), at=PLACES)
    def devices_begin_to_fail_or_cease_to(self, all_of_them, at) -> None:
        plant = self.world.plant
        plant.failing ^= set(plant.holds) if all_of_them else {self._device(at)}

    @rule(at=PLACES)
    def a_device_gets_a_credential_by_hand(self, at) -> None:
        name = self._device(at)
        self.world.plant.replace_by_hand(
            name, self.world.plant.holds[name][0].key_type, self.world.plant.holds[name][0].authority
        )
        self.judge.forgive(self.world.plant.groups[name])

    @rule(age=st.sampled_from([100, 10]))
    def a_device_is_new(self, age) -> None:
        if len(self.world.plant.holds) < MOST_DEVICES:
            self._add(f"n-{len(self.world.plant.holds)}", "line-a", age)

    # runs of the controller

    @rule(cache=CACHES)
    def apply_runs(self, cache) -> None:
        if cache == "cold":
            self.world.forget("cold")
        self.world.apply(cache=cache)

    @rule()
    def apply_waits(self) -> None:
        self.world.apply("--wait", "--timeout", "30m")

    @rule(cache=CACHES)
    def plan_runs(self, cache) -> None:
        self.world.plan(cache=cache)

    @rule()
    def plan_is_kept(self) -> None:
        path = self.world.folder / f"plan-{len(self.plans)}.json"
        if self.world.plan("--plan", str(path)).code in {0, 2, 3}:
            self.plans.append((path, self.world.head))

    @precondition(lambda self: self.plans)
    @rule(at=PLACES, at_head=st.booleans())
    def kept_plan_is_applied(self, at, at_head) -> None:
        path, commit = _pick(self.plans, at)
        self.world.apply("--plan", str(path), commit=self.world.head if at_head else commit)

    @precondition(lambda self: self.plans)
    @rule(at=PLACES, how=st.sampled_from(sorted(EDITS)))
    def edited_plan_is_applied(self, at, how) -> None:
        path, _commit = _pick(self.plans, at)
        edited = edit(path, EDITS[how], self.world)
        self.world.apply("--plan", str(edited))

    @rule()
    def what_the_preview_told_happens(self) -> None:
        world = self.world
        planned = world.plan()
        before = set(world.jobs())
        applied = world.apply()
        if planned.code not in {0, 2, 3} or applied.crash:
            return
        document = planned.json
        told = {job["job_id"]: {device["name"] for device in job["devices"]} for job in document["jobs"]}
        told = {} if document["refusals"] else {j: d for j, d in told.items() if j not in before}
        happened = {j: set(world.jobs()[j].executions) for j in set(world.jobs()) - before}
        if told != happened:
            self.judge.tell("what the preview told happens", f"told {told}, happened {happened}")

    @rule(days=st.sampled_from([60, 400]))
    def a_question_about_another_time(self, days) -> None:
        later = (self.world.now() + days * DAY).isoformat()
        self.world.run("explain", min(self.world.plant.holds), "--now", later)

    @rule(number=CALLS, after=st.booleans())
    def apply_is_killed(self, number, after) -> None:
        """``number`` calls are answered; the last of them may be carried out unheard."""
        left = [number]

        def count(call: Call, *_answer) -> None:
            left[0] -= 1
            if left[0] <= 0:
                raise Killed

        aws = self.world.aws
        heard = aws.after if after else aws.before
        setattr(aws, "after" if after else "before", lambda call, *answer: (heard(call, *answer), count(call)))
        try:
            self.world.apply()
        except Killed:
            pass
        finally:
            setattr(aws, "after" if after else "before", heard)

    @rule(number=st.integers(1, 8))
    def an_answer_is_lost(self, number) -> None:
        """The n-th change is carried out, its answer is lost, and botocore asks again."""
        left = [number]

        def is_lost(call: Call) -> bool:
            left[0] -= call.changes
            return call.changes and left[0] == 0

        self.world.aws.lose_next = is_lost
        self.world.apply()
        self.world.aws.lose_next = lambda _call: False

    @rule(first=CALLS, second=CALLS, at=PLACES, by_hand=st.booleans(), first_ends_first=st.booleans())
    def two_runs_at_once(self, first, second, at, by_hand, first_ends_first) -> None:
        """One stops after some calls, the other goes on for some or to its end; a person may start a job meanwhile."""
        ci = Turns(lambda: self.world.apply(cache="ci"))
        function = Turns(lambda: self.world.apply(cache="function"))
        for _ in range(first):
            ci.step()
        if by_hand:
            self.world.start_by_hand(self._device(at))
        for _ in range(second):
            function.step()
        for run in (ci, function) if first_ends_first else (function, ci):
            run.finish()

    # people

    @rule()
    def a_person_resumes(self) -> None:
        self.world.apply("--override", "resume=line-a")

    @rule(at=PLACES)
    def a_person_waives_a_device(self, at) -> None:
        documents, device = self.world.documents, self._device(at)
        expires = (self.world.now() + 300 * DAY).isoformat()
        documents.waivers["w"] = {"devices": [device], "owner": "o", "reason": "r", "expires": expires}
        self.world.commit(documents)
        self.judge.forgive()

    @rule()
    def a_person_ends_the_waiver(self) -> None:
        documents = self.world.documents
        documents.waivers.clear()
        self.world.commit(documents)

    @rule(field=st.sampled_from(["suspend", "mode", None]))
    def a_policy_rests_or_goes_on(self, field) -> None:
        until = (self.world.now() + 20 * DAY).isoformat()
        values = {"suspend": {"reason": "r", "until": until}, "mode": "report"}
        self.world.change(self._policy(), **{name: value if name == field else None for name, value in values.items()})

    @rule(key=st.sampled_from(KEYS))
    def the_key_type_changes(self, key) -> None:
        self._demand(keyType=key)

    @rule(authority=st.sampled_from(["aws-iot", "plant-ca"]))
    def the_authority_changes(self, authority) -> None:
        self._demand(authority=authority)

    @rule(waves=st.sampled_from([["100%"], ["1", "100%"], ["1", "50%", "100%"]]))
    def the_waves_change(self, waves) -> None:
        spec = self.world.documents.policies[self._policy()]
        self.world.change(self._policy(), rollout=spec["rollout"] | {"waves": waves})

    @rule(windows=st.sampled_from([[], [WINDOW]]))
    def the_windows_change(self, windows) -> None:
        spec = self.world.documents.policies[self._policy()]
        self.world.change(self._policy(), schedule=spec["schedule"] | {"windows": windows})

    @rule()
    def the_policy_is_renamed(self) -> None:
        documents = self.world.documents
        name = self._policy()
        documents.policies["line-c" if name == "line-a" else "line-a"] = documents.policies.pop(name)
        self.world.commit(documents)

    @precondition(lambda self: len(self.world.history) > 1)
    @rule()
    def a_commit_is_reverted(self) -> None:
        self.world.revert()

    @precondition(lambda self: len(self.world.history) > 1)
    @rule(at=PLACES)
    def an_older_commit_is_applied(self, at) -> None:
        self.world.apply(commit=_pick(self.world.history, at))

    @rule(days=st.sampled_from([1, 30]))
    def an_incident_is_declared(self, days) -> None:
        documents = self.world.documents
        authority = documents.policies[self._policy()]["certificate"]["authority"]
        deadline = (self.world.now() + days * DAY).isoformat()
        documents.incidents["leak"] = {"reason": "r", "authority": authority, "deadline": deadline}
        other = "aws-iot" if authority == "plant-ca" else "plant-ca"
        for spec in documents.policies.values():
            spec["certificate"]["authority"] = other
        self.world.commit(documents)

    @rule()
    def the_incident_is_over(self) -> None:
        documents = self.world.documents
        documents.incidents.clear()
        self.world.commit(documents)

    @rule(at=PLACES)
    def a_person_starts_a_job(self, at) -> None:
        self.world.start_by_hand(self._device(at))

    # the backend

    @rule(issues=st.sampled_from([other_key, other_authority, lambda _asked: None]))
    def the_backend_does_something_else(self, issues) -> None:
        self.world.plant.backend.issues = issues

    @rule()
    def the_backend_is_mended(self) -> None:
        self.world.plant.backend.issues = lambda asked: asked
        self.world.plant.backend.authorities["plant-ca"] = self.world.head.documents.arn
        self.judge.forgive()

    @rule(number=st.sampled_from([0, 1]))
    def the_arn_in_git_changes(self, number) -> None:
        documents = self.world.documents
        documents.arn = ARNS[number]
        self.world.commit(documents)

    # what must hold

    @invariant()
    def nothing_is_broken(self) -> None:
        if hasattr(self, "judge"):
            self.judge.check()

    def teardown(self) -> None:
        if not hasattr(self, "judge"):
            return
        try:
            if not self.judge.faults:
                recover(self.world, self.judge)
                self.nothing_is_broken()
        finally:
            self.world.close()

    # inside

    def _device(self, at) -> str:
        return _pick(sorted(self.world.plant.holds), at)

    def _policy(self) -> str:
        return next(n for n, s in self.world.head.documents.policies.items() if s["thingGroup"] == "line-a")

    def _demand(self, **demands) -> None:
        spec = self.world.documents.policies[self._policy()]
        self.world.change(self._policy(), certificate=spec["certificate"] | demands)
