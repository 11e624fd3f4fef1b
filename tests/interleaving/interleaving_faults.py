"""Faults of before, to be put back one by one: what is replaced by what, and who must find it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
from interleaving_aws import Turns
from interleaving_moves import (
    Step,
    a_commit_is_reverted,
    a_day_of_the_loop,
    a_device_gets_half_way,
    a_device_goes_to_the_other_group,
    a_device_is_quarantined_or_no_longer,
    a_person_answers_for_the_deployment_for_a_day,
    a_person_resumes,
    a_person_starts_a_job,
    a_policy_rests_or_goes_on,
    an_incident_is_declared,
    an_older_commit_is_applied,
    apply_runs,
    days_pass,
    devices_answer,
    edited_plan_is_applied,
    hours_pass,
    kept_plan_is_applied,
    minutes_pass,
    others_make_many_jobs,
    the_arn_in_git_changes,
    the_backend_is_mended,
    the_key_type_changes,
    the_policy_is_renamed,
    the_waves_change,
    two_runs_at_once,
    weeks_pass,
    what_the_preview_of_the_change_told_happens,
    what_the_preview_told_happens,
    what_was_issued_before_now_is_to_be_replaced,
)
from interleaving_plant import Plant
from interleaving_recovery import REMEDIES, an_outage_is_over, everything_is_mended
from interleaving_small_world import AWS_IOT_FROM_NOW_ON, OTHER_AUTHORITY, OTHER_KEY, History, as_it_is_then

import controller.commands.plan
import controller.fleet.baseline
import controller.fleet.jobs_reader
import controller.fleet.refresh
import controller.reconcile.checks.demands
import controller.reconcile.checks.gates
import controller.reconcile.checks.rotated
import controller.reconcile.outlook.moved
import controller.reconcile.planning.admission
import controller.reconcile.planning.given
import controller.reconcile.planning.guardrails
import controller.reconcile.planning.older
import controller.reconcile.planning.policy_plan
import controller.reconcile.planning.withdrawn
import controller.reconcile.rollout.evidence
import controller.reconcile.rollout.history
import controller.reconcile.rollout.standing
import controller.reconcile.rollout.waves
import controller.reconcile.schedule.dates
import controller.reconcile.schedule.windows
import controller.reconcile.values.job_ids
from controller.jobs.iot_jobs import IotJobs
from controller.jobs.ledger import Ledger
from controller.reconcile.checks import Governance
from controller.reconcile.outlook.moved import Queue
from controller.reconcile.rollout import RolloutHistory, Standing, open_executions
from controller.reconcile.values import LOOK_BACK, DeviceExecution, parse_job_id
from controller.reconcile.values.job_ids import policy_in
from protocol.messages import ExecutionStatus

PLAN_OBSERVED = controller.commands.plan.plan_observed
ADMITTED = controller.reconcile.planning.admission.why_left_out
BROUGHT = DeviceExecution.brought
IN_FLIGHT = IotJobs.in_flight
READ_ROLLOUT = controller.reconcile.rollout.history.read_rollout
REFRESH = sys.modules["controller.fleet.refresh"]  # the package has a function of that name
ISSUERS_OF = REFRESH.issuers_of
FOUND_IN_VAIN = controller.reconcile.checks.rotated.in_vain
OPEN_TIME_OF = controller.reconcile.schedule.windows.open_time_of
DATES_OF = controller.reconcile.schedule.dates.dates_of_validity
EARLY = controller.reconcile.planning.policy_plan._early
ARRANGE = controller.reconcile.rollout.standing._arrange


def as_the_file_says(observed, overrides, given=None, *more, **named):
    """The plan of the file, whatever has become of the world."""
    report, left_out = PLAN_OBSERVED(observed, overrides, None, *more, **named)
    return (replace(report, plan=given), {}) if given is not None else (report, left_out)


def not_asked_who_rotates(planned, present, *more):
    return ADMITTED(planned, replace(present, rotates_in=None), *more)


def nobody_is_at_work(kind, job, wanted):
    """Who is at work in the standing job does not wait in it any more."""
    arranged = ARRANGE(kind, job, wanted)
    return arranged if job is None else (Standing(kind, tuple(sorted(wanted)), (), job), None)


def waiting_or_at_work(job, devices):
    """Who is half way through a rotation counts as waiting."""
    return (name for name in open_executions(job) if name in devices and devices[name].needs_rotation)


def only_of_the_present_rule(policy, family, jobs, now, **more):
    """Jobs of rules between do not part those of one rule."""
    found = [job for job in jobs if (parsed := parse_job_id(job.job_id)) and parsed.digest.startswith(family)]
    return READ_ROLLOUT(policy, family, found, now, **more)


def known_unless_listed(name):
    """Where jobs are put in order of need, nobody knows whose they are."""
    return None if sys._getframe(1).f_code.co_name == "_to_look_into" else policy_in(name)


def one_refusal_is_enough(failures):
    return controller.reconcile.checks.gates.REFUSALS if failures else 0


def of_git_alone(session, inventory, desired):
    """A CA that git does not name at this moment has issued nothing."""
    named = {authority.arn for authority in desired.authorities.values()}
    return [issuer for issuer in ISSUERS_OF(session, inventory, desired) if issuer.arn in named]


def resumed_for_one_run(self, policy):
    return self.now if policy in self.overrides.resume else None


def without_later_waves(policy, family, jobs, now, *, last=None, **more):
    """Waves beyond the policy's last one are of a longer list, and nobody looks at them."""
    found = READ_ROLLOUT(policy, family, jobs, now, **more)
    return replace(found, waves={wave: of_wave for wave, of_wave in found.waves.items() if wave <= (last or wave)})


def somebody_cancels_by_force(world):
    for job_id, job in world.jobs().items():
        if job.is_active:
            world.cloud.services["iot"].call("CancelJob", {"jobId": job_id, "force": True})


def somebody_deletes_what_has_ended(world):
    for job_id in [job_id for job_id, job in world.jobs().items() if not job.is_active]:
        world.cloud.services["iot"].call("DeleteJob", {"jobId": job_id})


def a_device_begins_as_its_job_is_closed(world):
    """Nothing is issued to it yet: the registry shows it as the look has seen it."""
    run = Turns(world.apply)
    while run.waits_at != "CancelJob":
        run.step()
    world.cloud.jobs.start_next("line-a-1", {})
    run.finish()


def in_flight_but_of_what_it_has_cancelled(iot, besides):
    iot._cancelled.clear()
    return IN_FLIGHT(iot, besides)


def only_who_succeeded(case, last):
    """A device whose job has timed out has not rotated, whatever it holds."""
    return FOUND_IN_VAIN(case, last) if last is not None and last.status is ExecutionStatus.SUCCEEDED else None


def in_its_last_attempt(execution, made):
    return BROUGHT(replace(execution, first_queued_at=None), made)


def as_if_none_were_closed(windows):
    return OPEN_TIME_OF(tuple(window for window in windows if window.kind.value != "deny"))


def early_from_the_first(fresh, opening, at):
    return EARLY(fresh, replace(opening, wave=2), at)


def with_twice_the_jitter(*given):
    dates = DATES_OF(*given)
    return dates._replace(jitter=2 * dates.jitter)


def without(check, module, name):
    """The checks of a module but this one."""
    return module, name, tuple(one for one in getattr(module, name) if one.__name__ != check)


IN_VAIN = [(controller.reconcile.checks.rotated, "in_vain"), (controller.reconcile.rollout.evidence, "_holds_other")]
ASKED_TWICE = [
    (controller.reconcile.planning.admission, "why_left_out", not_asked_who_rotates),
    (sys.modules["controller.jobs.apply"], "_unless_asked_twice", lambda made, *_: made),
]
NO_WINDOW_AT_LAST = (sys.modules["controller.jobs.apply"], "_require_open")
ANY_PLAN_FILE = [(controller.commands.plan, "plan_observed", as_the_file_says), NO_WINDOW_AT_LAST]


RESUMED_FOR_ONE_RUN = [(Governance, "resumed_at", resumed_for_one_run)]
UNSETTLED = [(controller.reconcile.rollout.evidence, "_is_settled")]
UNCHECKED_PLAN_FILE = [*ANY_PLAN_FILE, (controller.reconcile.planning.given, "check_plan")]
SECOND_PLAN_IS_APPLIED = partial(kept_plan_is_applied, at=1)


@dataclass(frozen=True)
class PutBack:
    """A fault: what is replaced by what (nothing found, where that is not said), and who must find it."""

    fault: str
    places: list[tuple[Any, ...]]
    invariant: str
    world: str  # the small world whose histories find it
    history: History  # one that does
    ending: Step = as_it_is_then


FAULTS = [
    PutBack(
        "nobody asks what a rotation came to",
        IN_VAIN,
        "nobody rotates in vain twice",
        "something else is issued",
        (OTHER_AUTHORITY, AWS_IOT_FROM_NOW_ON, a_day_of_the_loop),
    ),
    PutBack(
        "nobody asks what became of a key",
        IN_VAIN,
        "what was in vain goes no further",
        "something else is issued",
        (OTHER_KEY, the_key_type_changes, a_day_of_the_loop),
    ),
    PutBack(
        "nobody asks what a rotation came to if its job has timed out",
        [
            (controller.reconcile.checks.rotated, "in_vain", only_who_succeeded),
            (controller.reconcile.rollout.evidence, "_has_rotated", lambda *_: False),
        ],
        "nobody rotates in vain twice",
        "something else is issued, and its job has timed out",
        (a_day_of_the_loop, a_day_of_the_loop, a_day_of_the_loop),
    ),
    PutBack(
        "of a job that AWS IoT has repeated, the last attempt alone is known",
        [(DeviceExecution, "brought", in_its_last_attempt)],
        "nobody rotates in vain twice",
        "something else is issued, and AWS IoT has repeated its job",
        (a_day_of_the_loop, a_day_of_the_loop, a_day_of_the_loop),
    ),
    PutBack(
        "the backend rotates a device again in another attempt of its job",
        [(Plant, "_has_brought", lambda *_: False)],
        "nobody rotates twice in one job",
        "something else is issued, and AWS IoT has repeated its job",
        (devices_answer,),
    ),
    PutBack(
        "nobody asks what became of the authority, where the backend does not say what it is",
        IN_VAIN,
        "nobody rotates in vain twice",
        "a backend that does not say what it is",
        (the_arn_in_git_changes, *(a_person_answers_for_the_deployment_for_a_day,) * 2),
    ),
    PutBack(
        "a plan file is carried out as it stands: two of them",
        [*ANY_PLAN_FILE, *ASKED_TWICE],
        "nobody is in two open executions",
        "plan files",
        (kept_plan_is_applied, SECOND_PLAN_IS_APPLIED),
    ),
    PutBack(
        "a plan file is carried out as it stands: after its window",
        ANY_PLAN_FILE,
        "nobody starts in closed time",
        "plan files",
        (hours_pass, kept_plan_is_applied),
    ),
    PutBack(
        "a plan file is carried out as it stands: weeks later",
        UNCHECKED_PLAN_FILE,
        "a plan ends",
        "plan files",
        (weeks_pass, kept_plan_is_applied),
    ),
    PutBack(
        "a plan file is carried out as it stands: after a halt",
        ANY_PLAN_FILE,
        "nobody starts while halted",
        "a plan file and a halt",
        (a_day_of_the_loop, what_the_preview_told_happens, kept_plan_is_applied),
    ),
    PutBack(
        "a plan file is carried out as it stands: after a suspension",
        ANY_PLAN_FILE,
        "nobody starts while suspended",
        "plan files",
        (a_policy_rests_or_goes_on, edited_plan_is_applied),
    ),
    PutBack(
        "a plan file is carried out as it stands: a foreign group",
        UNCHECKED_PLAN_FILE,
        "what is not ours is left alone",
        "plan files",
        (partial(edited_plan_is_applied, how="deletes_a_foreign_group"),),
    ),
    PutBack(
        "a plan file is carried out as it stands: a foreign job",
        UNCHECKED_PLAN_FILE,
        "what is not ours is left alone",
        "plan files",
        (a_person_starts_a_job, partial(edited_plan_is_applied, how="cancels_another_job")),
    ),
    PutBack(
        "a plan file is carried out as it stands: a thing that nobody governs",
        ANY_PLAN_FILE,
        "only what a policy governs rotates",
        "plan files",
        (partial(edited_plan_is_applied, how="rotates_an_ungoverned_thing"),),
    ),
    PutBack(
        "jobs of others push out our own",
        [(controller.fleet.jobs_reader, "policy_in", known_unless_listed)],
        "nobody starts while halted",
        "halted",
        (hours_pass, others_make_many_jobs, partial(apply_runs, cache="cold")),
    ),
    PutBack(
        "a resumed rollout is resumed for one run only",
        RESUMED_FOR_ONE_RUN,
        "what a person resumed goes on",
        "halted",
        (hours_pass, a_person_resumes, apply_runs),
    ),
    PutBack(
        "a resumed rollout is resumed for one run only, and waits for who was given up",
        RESUMED_FOR_ONE_RUN,
        "every policy can finish",
        "given up",
        (a_day_of_the_loop,),
        REMEDIES["resumed"],
    ),
    PutBack(
        "a waiver does not settle a failure",
        UNSETTLED,
        "every policy can finish",
        "given up",
        (a_day_of_the_loop,),
        REMEDIES["waived"],
    ),
    PutBack(
        "a credential put there by hand does not settle a failure",
        UNSETTLED,
        "every policy can finish",
        "given up",
        (a_day_of_the_loop,),
        REMEDIES["replaced by hand"],
    ),
    PutBack(
        "one refusal of a stock component blocks its device until a person acts",
        [(controller.reconcile.checks.gates, "_refused_in_a_row", one_refusal_is_enough)],
        "every policy can finish",
        "after an outage of the backend",
        (a_day_of_the_loop,),
        an_outage_is_over,
    ),
    PutBack(
        "a halt is forgotten with its jobs",
        [(Governance, "halt_of", lambda *_: None)],
        "nobody starts while halted",
        "halted",
        (weeks_pass, weeks_pass, apply_runs),
    ),
    PutBack(
        "a halt is forgotten with jobs that somebody deletes",
        [(RolloutHistory, "is_unknown", False)],
        "nobody starts while halted",
        "halted",
        (apply_runs, somebody_deletes_what_has_ended, hours_pass, partial(apply_runs, cache="cold")),
    ),
    PutBack(
        "a halt is forgotten if git has fewer waves",
        [(controller.reconcile.rollout.history, "read_rollout", without_later_waves)],
        "nobody starts while halted",
        "halted",
        (partial(the_waves_change, waves=["100%"]), hours_pass, apply_runs),
    ),
    PutBack(
        "of a job that was cancelled by force nobody asks what it has brought",
        [(controller.reconcile.rollout.history, "broken_off_of", lambda _jobs: {})],
        "nobody rotates in vain twice",
        "something else is issued",
        (
            OTHER_KEY,
            the_key_type_changes,
            apply_runs,
            a_device_gets_half_way,
            somebody_cancels_by_force,
            devices_answer,
            minutes_pass,
            a_day_of_the_loop,
            a_day_of_the_loop,
        ),
    ),
    PutBack(
        "jobs of long ago do not count, though nobody has applied since",
        [(controller.fleet.baseline, "jobs_count_from", lambda _record, now: now - LOOK_BACK)],
        "nobody starts while halted",
        "halted",
        (weeks_pass, weeks_pass),
    ),
    PutBack(
        "what a CA has issued is not its own if git named another one when it was read",
        [(REFRESH, "issuers_of", of_git_alone)],
        "nobody is called for what mends itself",
        "something else is issued",
        (
            the_arn_in_git_changes,
            the_backend_is_mended,
            *(a_day_of_the_loop,) * 2,
            partial(the_arn_in_git_changes, number=0),
            what_the_preview_told_happens,
            the_arn_in_git_changes,
            what_the_preview_told_happens,
        ),
    ),
    PutBack(
        "an older commit is applied like any other",
        [(controller.reconcile.planning.older, "goes_back")],
        "git does not go back unasked",
        "changes",
        (an_older_commit_is_applied,),
    ),
    PutBack(
        "a job that ended too long ago to be known lends its id to the next",
        [(controller.reconcile.values.job_ids, "_era")],
        "what the preview told happens",
        "the only device is given up",
        (weeks_pass, apply_runs, what_the_preview_told_happens),
    ),
    PutBack(
        "the preview of a change does not tell whose turn it moves",
        [(controller.reconcile.outlook.moved, "moved_of")],
        "what the preview told happens",
        "a wave that soaks",
        (the_policy_is_renamed, what_the_preview_of_the_change_told_happens),
    ),
    PutBack(
        "the preview of a change does not tell who starts with the first because of it",
        [(Queue, "first", lambda *_: frozenset())],
        "what the preview told happens",
        "a deadline that has passed",
        (what_the_preview_of_the_change_told_happens,),
    ),
    PutBack(
        "a job is made though the window has closed since the look",
        [NO_WINDOW_AT_LAST],
        "nobody starts in closed time",
        "a window that closes while a run looks",
        (partial(two_runs_at_once, first=20, second=0, meanwhile="a window closes"),),
    ),
    PutBack(
        "who has just rotated counts as lost until what it replaced is removed",
        [(controller.reconcile.checks.rotated, "is_settling")],
        "nobody is called for what mends itself",
        "a wave that soaks",
        (what_the_preview_told_happens,),
    ),
    PutBack(
        "whoever another policy governs by now is asked on",
        [(controller.reconcile.planning.withdrawn, "_asks_other")],
        "nobody is asked on for a policy that is not its own",
        "two policies",
        (a_device_goes_to_the_other_group, apply_runs),
    ),
    PutBack(
        "a suspension leaves alone what is queued",
        [(controller.reconcile.planning.withdrawn, "asking", lambda _rollout: [])],
        "nobody starts while suspended",
        "two policies",
        (a_policy_rests_or_goes_on, apply_runs),
    ),
    PutBack(
        "who comes into quarantine, or is waived, is asked on",
        [(controller.reconcile.planning.withdrawn, "_asks")],
        "nobody starts while in quarantine",
        "cut off",
        (a_device_is_quarantined_or_no_longer, apply_runs),
    ),
    PutBack(
        "nobody is left alone after a rotation",
        [without("rotated_recently", controller.reconcile.checks.gates, "GATES")],
        "nobody rotates within the least interval",
        "just rotated",
        (apply_runs,),
    ),
    PutBack(
        "jitter brings a rotation forward by more than the policy allows",
        [
            (controller.reconcile.schedule.dates, "dates_of_validity", with_twice_the_jitter),
            (controller.reconcile.schedule.dates, "share_of", lambda *_: 0.999),
        ],
        "nobody rotates without a reason",
        "jitter",
        (apply_runs,),
    ),
    PutBack(
        "hours that a window closes count as open",
        [(controller.reconcile.schedule.windows, "open_time_of", as_if_none_were_closed), NO_WINDOW_AT_LAST],
        "nobody starts in closed time",
        "hours in which nobody may rotate",
        (apply_runs,),
    ),
    PutBack(
        "a plan may rotate any number at once",
        [(controller.reconcile.planning.guardrails, "too_much_at_once")],
        "guardrails hold",
        "half at once",
        (apply_runs,),
    ),
    PutBack(
        "who may expire while away is asked before a wave has shown anything",
        [(controller.reconcile.planning.policy_plan, "_early", early_from_the_first)],
        "nobody is asked ahead of a wave that has shown nothing",
        "one is away for long, and asked first",
        (apply_runs,),
    ),
    PutBack(
        "nobody asks when a certificate ends",
        [without("expiring", controller.reconcile.checks.demands, "DEMANDS")],
        "every policy can finish",
        "certificates that end",
        (what_the_preview_told_happens,),
        everything_is_mended,
    ),
    PutBack(
        "nobody asks whether a certificate is of before the cutoff",
        [without("issued_before_cutoff", controller.reconcile.checks.demands, "DEMANDS")],
        "every policy can finish",
        "certificates that end",
        (a_day_of_the_loop, a_day_of_the_loop, what_was_issued_before_now_is_to_be_replaced),
        everything_is_mended,
    ),
    PutBack(
        "who is in quarantine rotates",
        [(controller.reconcile.checks.gates, "quarantined")],
        "nobody starts while in quarantine",
        "cut off",
        (partial(a_device_is_quarantined_or_no_longer, at=3), devices_answer, days_pass, apply_runs),
    ),
    PutBack(
        "two runs look and make their jobs as if alone",
        [(Ledger, "claim"), *ASKED_TWICE],
        "nobody is in two open executions",
        "two runs at once",
        (partial(two_runs_at_once, first=20, second=30, meanwhile="a day passes"),),
    ),
    PutBack(
        "nobody looks into a job that was cancelled a moment ago",
        [(IotJobs, "in_flight", in_flight_but_of_what_it_has_cancelled)],
        "nobody is in two open executions",
        "just fallen silent",
        (days_pass, a_device_begins_as_its_job_is_closed),
    ),
    PutBack(
        "who is at work is taken out of the standing job",
        [(controller.reconcile.rollout.standing, "_arrange", nobody_is_at_work)],
        "who rotates stays in its job",
        "silent devices",
        (a_device_gets_half_way, apply_runs),
    ),
    PutBack(
        "who is at work in the standing job is planned like those who wait",
        [(controller.reconcile.rollout.standing, "_waiting", waiting_or_at_work)],
        "no command ends with a traceback",
        "silent devices",
        (a_device_gets_half_way, an_incident_is_declared, apply_runs),
    ),
    PutBack(
        "a rule that comes back goes on where it was",
        [(controller.reconcile.rollout.history, "read_rollout", only_of_the_present_rule)],
        "a change starts with its first wave",
        "changes",
        (a_commit_is_reverted,),
    ),
    PutBack(
        "a policy that gets its name back goes on where it was",
        [(controller.reconcile.rollout.history, "asked_by_others", lambda *_: {})],
        "a change starts with its first wave",
        "a wave that soaks",
        (the_policy_is_renamed, what_the_preview_of_the_change_told_happens, the_policy_is_renamed),
        everything_is_mended,
    ),
    PutBack(
        "no wave has a brake of its own",
        [(controller.reconcile.rollout.waves, "_why_halted")],
        "where most fail nobody new starts",
        "halted",
        (hours_pass, apply_runs),
    ),
]


@contextmanager
def put_back(monkeypatch: pytest.MonkeyPatch, fault: PutBack) -> Iterator[None]:
    with monkeypatch.context() as patch:
        for owner, name, *instead in fault.places:
            for place in places_of(getattr(owner, name), name) if inspect.ismodule(owner) else [owner]:
                patch.setattr(place, name, instead[0] if instead else lambda *_a, **_k: None)
        yield


def places_of(function: Any, name: str) -> list[Any]:
    """Every module of the controller that knows the function by its name."""
    modules = [module for path, module in sys.modules.items() if path.startswith("controller.")]
    return [module for module in modules if getattr(module, name, None) is function]
