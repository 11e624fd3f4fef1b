"""Faults of before, put back one by one, are each found: by which history, and by which invariant.

``pytest -s`` prints the list.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from interleaving_cases import CASES

import controller.commands.plan
import controller.fleet.jobs_reader
import controller.reconcile.checks.rotated
import controller.reconcile.planning.admission
import controller.reconcile.planning.given
import controller.reconcile.planning.older
import controller.reconcile.rollout.history
import controller.reconcile.rollout.standing
import controller.reconcile.rollout.waves
from controller.jobs.ledger import Ledger
from controller.reconcile.checks import Governance
from controller.reconcile.rollout import Standing, open_executions
from controller.reconcile.values import parse_job_id

PLAN_OBSERVED = controller.commands.plan.plan_observed
ADMITTED = controller.reconcile.planning.admission.why_left_out
READ_ROLLOUT = controller.reconcile.rollout.history.read_rollout
ARRANGE = controller.reconcile.rollout.standing._arrange


def as_the_file_says(observed, overrides, given=None):
    """The plan of the file, whatever has become of the world."""
    report, left_out = PLAN_OBSERVED(observed, overrides, None)
    return (replace(report, plan=given), {}) if given is not None else (report, left_out)


def not_asked_who_rotates(planned, present):
    return ADMITTED(planned, replace(present, rotates_in=None))


def nobody_is_at_work(kind, job, wanted):
    """Who is at work in the standing job does not wait in it any more."""
    arranged = ARRANGE(kind, job, wanted)
    return arranged if job is None else (Standing(kind, tuple(sorted(wanted)), (), job), None)


def waiting_or_at_work(job, devices):
    """Who is half way through a rotation counts as waiting."""
    return (name for name in open_executions(job) if name in devices and devices[name].needs_rotation)


def only_of_the_present_rule(policy, family, jobs):
    """Jobs of rules between do not part those of one rule."""
    found = [job for job in jobs if (parsed := parse_job_id(job.job_id)) and parsed.digest.startswith(family)]
    return READ_ROLLOUT(policy, family, found)


def parsed_unless_listed(job_id):
    """Where jobs are put in order of need, nobody knows whose they are."""
    return None if sys._getframe(1).f_code.co_name == "_to_look_into" else parse_job_id(job_id)


def resumed_for_one_run(self, policy):
    return self.now if policy in self.overrides.resume else None


IN_VAIN = [(controller.reconcile.checks.rotated, "in_vain"), (controller.reconcile.rollout.waves, "_holds_other")]
ASKED_TWICE = [
    (controller.reconcile.planning.admission, "why_left_out", not_asked_who_rotates),
    (sys.modules["controller.jobs.apply"], "_unless_asked_twice", lambda made, *_: made),
]
ANY_PLAN_FILE = [(controller.commands.plan, "plan_observed", as_the_file_says)]


@dataclass(frozen=True)
class PutBack:
    """A fault: what is replaced by what (nothing found, where that is not said), and what must find it."""

    fault: str
    history: str
    invariant: str
    places: list[tuple[Any, ...]]


NOTHING = lambda *_a, **_k: ()  # noqa: E731

FAULTS = [
    PutBack("nobody asks what a rotation came to", "backend_takes_another_ca", "nobody rotates in vain twice", IN_VAIN),
    PutBack("nor what became of a key", "component_makes_another_key", "what was in vain goes no further", IN_VAIN),
    PutBack(
        "nor, where the backend does not say what it is, what became of the authority",
        "arn_in_git_is_not_the_deployed_one_and_the_backend_does_not_say",
        "nobody rotates in vain twice",
        IN_VAIN,
    ),
    PutBack(
        "a plan file is carried out as it stands: two of them",
        "two_plan_files_one_after_the_other",
        "nobody is in two open executions",
        [*ANY_PLAN_FILE, *ASKED_TWICE],
    ),
    PutBack(
        "a plan file is carried out as it stands: after its window",
        "plan_file_applied_after_its_window",
        "nobody starts in closed time",
        ANY_PLAN_FILE,
    ),
    PutBack(
        "a plan file is carried out as it stands: weeks later",
        "plan_file_applied_forty_days_later",
        "a plan ends",
        [*ANY_PLAN_FILE, (controller.reconcile.planning.given, "check_plan")],
    ),
    PutBack(
        "a plan file is carried out as it stands: after a halt",
        "plan_file_applied_after_a_halt",
        "nobody starts while halted",
        ANY_PLAN_FILE,
    ),
    PutBack(
        "a plan file is carried out as it stands: after a suspension",
        "plan_file_applied_after_a_suspension",
        "nobody starts while suspended",
        ANY_PLAN_FILE,
    ),
    PutBack(
        "a plan file is carried out as it stands: a foreign group",
        "edited_plan_deletes_a_foreign_group",
        "what is not ours is left alone",
        [*ANY_PLAN_FILE, (controller.reconcile.planning.given, "check_plan")],
    ),
    PutBack(
        "a plan file is carried out as it stands: a foreign job",
        "edited_plan_cancels_a_foreign_job",
        "what is not ours is left alone",
        [*ANY_PLAN_FILE, (controller.reconcile.planning.given, "check_plan")],
    ),
    PutBack(
        "a plan file is carried out as it stands: a thing that nobody governs",
        "edited_plan_rotates_an_ungoverned_thing",
        "only what a policy governs rotates",
        ANY_PLAN_FILE,
    ),
    PutBack(
        "jobs of others push out our own",
        "halt_is_forgotten_with_the_cache",
        "nobody starts while halted",
        [(controller.fleet.jobs_reader, "parse_job_id", parsed_unless_listed)],
    ),
    PutBack(
        "a resumed rollout is resumed for one run only",
        "resumed_attempt_is_cancelled_by_the_next_run",
        "what a person resumed goes on",
        [(Governance, "resumed_at", resumed_for_one_run)],
    ),
    PutBack(
        "a resumed rollout is resumed for one run only, and waits for who was given up",
        "first_wave_given_up_then_resumed",
        "every policy can finish",
        [(Governance, "resumed_at", resumed_for_one_run)],
    ),
    PutBack(
        "a waiver does not settle a failure",
        "first_wave_given_up_then_waived",
        "every policy can finish",
        [(controller.reconcile.rollout.waves, "_is_settled")],
    ),
    PutBack(
        "a credential put there by hand does not settle a failure",
        "first_wave_given_up_then_replaced_by_hand",
        "every policy can finish",
        [(controller.reconcile.rollout.waves, "_is_settled")],
    ),
    PutBack(
        "an older commit is applied like any other",
        "older_commit_is_applied",
        "git does not go back unasked",
        [(controller.reconcile.planning.older, "goes_back")],
    ),
    PutBack(
        "two runs look and make their jobs as if alone",
        "two_runs_and_a_job_by_hand",
        "nobody is in two open executions",
        [(Ledger, "claim"), *ASKED_TWICE],
    ),
    PutBack(
        "who is at work is taken out of the standing job",
        "straggler_at_work_is_taken_out_of_its_job",
        "who rotates stays in its job",
        [(controller.reconcile.rollout.standing, "_arrange", nobody_is_at_work)],
    ),
    PutBack(
        "who is at work in the standing job is planned like those who wait",
        "incident_meets_a_straggler_half_way",
        "no command ends with a traceback",
        [(controller.reconcile.rollout.standing, "_waiting", waiting_or_at_work)],
    ),
    PutBack(
        "a rule that comes back goes on where it was",
        "revert_opens_the_last_wave",
        "a change starts with its first wave",
        [(controller.reconcile.rollout.history, "read_rollout", only_of_the_present_rule)],
    ),
    PutBack(
        "no wave has a brake of its own",
        "everything_fails_and_goes_on",
        "where most fail nobody new starts",
        [(controller.reconcile.rollout.waves, "_why_halted")],
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


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.fault)
def test_a_fault_that_is_put_back_is_found(fault, monkeypatch):
    with put_back(monkeypatch, fault):
        world = CASES[fault.history]()
    world.close()
    found = ", ".join(sorted(world.judge.broken()))
    sys.stdout.write(f"{fault.fault}: {fault.history}, {world.runs} runs: {found}\n")
    assert fault.invariant in world.judge.broken()
