"""What a preview told is what happens: ``plan`` beside the run after it, ``plan --base`` beside both commits' runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from interleaving_world import Outcome, World

from controller.desired.bundle_reader import BundleSource, read_bundle
from controller.desired.limits import Limits
from controller.reconcile.values import parse_job_id

ENDED = {"COMPLETED", "CANCELED"}
SHOWN = {0, 2, 3}  # exit codes of a preview that was made
SOON = timedelta(minutes=15)  # who starts that much sooner is not counted if the rollout is reported to start again


@dataclass(frozen=True)
class AtCommit:
    """What stands in for a git ref: the ref is the path of a commit's bundle."""

    folder: Path
    ref: str

    def read(self, limits: Limits) -> Any:
        data = Path(self.ref).read_bytes()
        return BundleSource(read_bundle(data, now=datetime.max.replace(tzinfo=UTC) - timedelta(days=1))).read(limits)


def what_a_preview_tells_happens(world: World) -> None:
    """The jobs of the plan, device by device, are those that the run after it makes; refused, it makes none."""
    planned = world.plan()
    before = set(world.jobs())
    goes_on = {job_id for job_id, job in world.jobs().items() if job.status not in ENDED}
    applied = world.apply()
    if planned.code not in SHOWN or applied.crash:
        return
    document = planned.json
    told = {job["job_id"]: {device["name"] for device in job["devices"]} for job in document["jobs"]}
    told = {} if document["refusals"] else {j: d for j, d in told.items() if j not in goes_on}
    happened = {j: set(world.jobs()[j].executions) for j in set(world.jobs()) - before}
    if told != happened:
        world.judge.tell("what the preview told happens", f"told {told}, happened {happened}")


def what_a_preview_of_a_change_tells_happens(world: World) -> None:
    """Who starts under the head, and would not under the base, was told: so many of each policy, or refused.

    The preview takes the base as applied: what that governed alone was, as orphans, never governed if it was not.
    Whoever is asked already and goes on to wait in the standing job does not start. A device that the base would
    ask soon need not be counted if the preview reports that the rollout starts again with its first wave.
    """
    if len(world.history) < 2:
        return
    base = world.history[-2]
    preview = world.run("plan", "--base", str(base.bundle), "--format", "json")
    of_base = world.plan(commit=base)
    without, now = _would_start(world, of_base), world.now()
    before, is_base_applied = set(world.jobs()), world.judge.has_applied(base)
    asked = {name for name in world.plant.holds if world.plant.next_of(name)}
    applied = world.apply()
    if preview.code not in SHOWN or applied.crash:
        return
    [fleet] = preview.json["fleets"]
    told = {policy["policy"]: policy["newly_due"] + _moved(policy) for policy in fleet["policies"]}
    soon = {policy["policy"]: _soon(policy, fleet, of_base, now) for policy in fleet["policies"]}
    made = {job_id: job for job_id, job in world.jobs().items() if job_id not in before}
    started: Counter[str] = Counter()
    for parsed, job in ((parse_job_id(job_id), job) for job_id, job in made.items()):
        started[parsed.policy] += len(job.executions.keys() - without - (asked if parsed.wave is None else set()))
    refused = [one for one in fleet["refusals"] if one["guardrail"] != "orphans" or is_base_applied]
    is_untold = any(number > told.get(name, 0) + soon.get(name, 0) for name, number in started.items())
    if is_untold or (refused and made):
        happened = f"{dict(started)} start that did not before"
        world.judge.tell("what the preview told happens", f"of the change: told {told}, {happened}: {preview.out}")


def _would_start(world: World, planned: Outcome) -> set[str]:
    """Refused or not: of a commit that another was applied after, the plan is refused, and complete."""
    if planned.code not in SHOWN:
        return set()
    jobs = [job for job in planned.json["jobs"] if job["job_id"] not in world.jobs()]
    return {device["name"] for job in jobs for device in job["devices"]}


def _soon(policy: dict[str, Any], fleet: dict[str, Any], of_base: Outcome, now: datetime) -> int:
    """How many of its devices start again with a first wave, and would have started soon as the base's plan has it."""
    if policy["moved"] or of_base.code not in SHOWN:  # who moves is told, of all that are due
        return 0
    name = policy["policy"]
    sources = {name} | {other["policy"] for other in fleet["policies"] if name in other["gives"]}
    stages = [stage for one in of_base.json["outlooks"] if one["policy"] in sources for stage in one["stages"]]
    soon = [stage for stage in stages if now < datetime.fromisoformat(stage["start"]) < now + SOON]
    return min(policy["first_wave"], sum(stage["devices"] for stage in soon))


def _moved(policy: dict[str, Any]) -> int:
    return policy["moved"]["devices"] if policy["moved"] else 0
