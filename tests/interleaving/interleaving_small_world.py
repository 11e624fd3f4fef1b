"""Small worlds in which a few moves are played in every order: all that can happen so, from a beginning on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

from interleaving_edits import EDITS
from interleaving_moves import (
    ABORT,
    MEANWHILE,
    NO_WINDOW,
    WINDOW,
    Step,
    a_commit_is_reverted,
    a_day_of_the_loop,
    a_device_begins_to_fail_or_ceases_to,
    a_device_gets_a_credential_by_hand,
    a_device_gets_half_way,
    a_device_goes_offline_or_returns,
    a_device_goes_to_the_other_group,
    a_device_is_known_to_be_away_for_long,
    a_device_is_new,
    a_device_is_quarantined_or_no_longer,
    a_person_answers_for_the_deployment_for_a_day,
    a_person_resumes,
    a_person_starts_a_job,
    a_person_waives_a_device,
    a_policy_rests_or_goes_on,
    an_incident_is_declared,
    an_older_commit_is_applied,
    another_policy_governs_the_other_group,
    apply_runs,
    days_pass,
    devices_answer,
    devices_begin_to_fail_or_cease_to,
    edited_plan_is_applied,
    hours_pass,
    kept_plan_is_applied,
    made,
    minutes_pass,
    one_device_answers,
    others_make_many_jobs,
    plan_is_kept,
    plan_runs,
    the_arn_in_git_changes,
    the_authority_changes,
    the_backend_ceases_to_say_what_it_is,
    the_backend_does_something_else,
    the_backend_is_mended,
    the_key_type_changes,
    the_policy_is_renamed,
    the_waves_change,
    the_windows_change,
    two_runs_at_once,
    weeks_pass,
    what_the_preview_of_the_change_told_happens,
    what_the_preview_told_happens,
    what_was_issued_before_now_is_to_be_replaced,
)
from interleaving_recovery import REMEDIES, an_outage_is_over, everything_is_mended
from interleaving_world import ARNS, DAY, World, rule

History = tuple[Step, ...]


def as_it_is_then(_world: World) -> None:
    """The end of a history after which nobody sees to anything."""


@dataclass(frozen=True)
class SmallWorld:
    """A world, what has happened in it before, the moves that are played in it, and how it may end."""

    family: str  # of moves, from which these are the ones that matter here
    spec: dict[str, Any]
    before: History
    moves: History
    endings: tuple[Step, ...] = (as_it_is_then,)

    def begin(self) -> World:
        """The world as it is before the first move."""
        world = made(**self.spec)
        for step in self.before:
            step(world)
        return world

    def play(self, history: History, ending: Step = as_it_is_then) -> World:
        """The world after this history, closed. At its end devices do what they are asked, and the loop runs again."""
        world = self.begin()
        try:
            for step in (*history, devices_answer, apply_runs, ending):
                if not world.judge.faults:
                    step(world)
        finally:
            world.close()
        return world

    def play_all(self, longest: int) -> Iterator[tuple[History, World]]:
        """Every history of up to so many moves with each ending, the shortest first."""
        for length in range(1, longest + 1):
            for history in product(self.moves, repeat=length):
                for ending in self.endings:
                    yield history, self.play(history, ending)


CHANGES_NOW = (the_key_type_changes, a_day_of_the_loop, a_day_of_the_loop)
FIRST_IS_SILENT = a_device_goes_offline_or_returns
SECOND_IS_SILENT = partial(a_device_goes_offline_or_returns, at=1)
A_TRY = (apply_runs, devices_answer, partial(days_pass, hours=40))
A_DAY_WITHOUT_ANSWER = (apply_runs, devices_answer, days_pass)

ON_PLANT_CA = {"count": 4, "age": 10 * DAY, "certificate": rule(authority="plant-ca"), "authority": ARNS[0]}
OTHER_KEY = partial(the_backend_does_something_else, issues="another key")
OTHER_AUTHORITY = partial(the_backend_does_something_else, issues="another authority")
AWS_IOT_FROM_NOW_ON = partial(the_authority_changes, authority="aws-iot")


def two_runs(firsts: Iterable[int], seconds: Iterable[int]) -> History:
    """Every way in which one of two runs stops after so many calls, and the other goes on."""
    return tuple(
        partial(two_runs_at_once, first=first, second=second, meanwhile=happens, first_ends_first=ends)
        for happens, first, second, ends in product(MEANWHILE, firsts, seconds, (True, False))
        if happens != "a window closes"  # there is none
    )


SMALL_WORLDS = {
    "halted": SmallWorld(
        "waves",
        {"count": 8, "rollout": {"waves": ["1", "100%"], "maxInFlight": 4}},
        (a_day_of_the_loop, devices_begin_to_fail_or_cease_to, apply_runs, devices_answer, plan_runs),
        (
            hours_pass,
            weeks_pass,
            apply_runs,
            partial(apply_runs, cache="cold"),
            others_make_many_jobs,
            a_person_resumes,
            one_device_answers,
            devices_begin_to_fail_or_cease_to,
        ),
    ),
    "given up": SmallWorld(
        "given up",
        {"count": 4},
        (a_device_begins_to_fail_or_ceases_to, *A_TRY * 7),
        (
            a_person_waives_a_device,
            a_device_gets_a_credential_by_hand,
            a_person_resumes,
            a_day_of_the_loop,
            weeks_pass,
            what_the_preview_told_happens,
        ),
        tuple(REMEDIES.values()),
    ),
    "the only device is given up": SmallWorld(
        "given up",
        {"count": 1},
        (a_device_begins_to_fail_or_ceases_to, *A_TRY * 7, weeks_pass),
        (weeks_pass, apply_runs, a_person_resumes, what_the_preview_told_happens),
    ),
    "plan files": SmallWorld(
        "plans",
        {"count": 6, "rollout": {"waves": ["2", "100%"]}, "schedule": {"windows": [WINDOW]}},
        (a_day_of_the_loop, plan_is_kept, a_device_is_new, plan_is_kept),
        (
            kept_plan_is_applied,
            partial(kept_plan_is_applied, at=1),
            *(partial(edited_plan_is_applied, how=how) for how in EDITS),
            hours_pass,
            weeks_pass,
            a_policy_rests_or_goes_on,
            a_person_starts_a_job,
            devices_answer,
        ),
    ),
    "a plan file and a halt": SmallWorld(
        "plans",
        {"count": 6, "rollout": {"waves": ["2", "100%"], "abort": ABORT}},
        (a_day_of_the_loop, plan_is_kept, a_device_is_new, devices_begin_to_fail_or_cease_to),
        (devices_begin_to_fail_or_cease_to, a_day_of_the_loop, what_the_preview_told_happens, kept_plan_is_applied),
    ),
    "changes": SmallWorld(
        "git",
        {"count": 4},
        (a_day_of_the_loop, a_day_of_the_loop, *CHANGES_NOW),
        (
            a_commit_is_reverted,
            an_older_commit_is_applied,
            the_policy_is_renamed,
            two_runs_at_once,
            the_authority_changes,
            a_day_of_the_loop,
            what_the_preview_told_happens,
            what_the_preview_of_the_change_told_happens,
        ),
    ),
    "two policies": SmallWorld(
        "git",
        {"count": 4, "rollout": {"waves": ["2", "100%"]}},
        (another_policy_governs_the_other_group, apply_runs),
        (
            a_device_goes_to_the_other_group,
            another_policy_governs_the_other_group,
            apply_runs,
            a_policy_rests_or_goes_on,
            a_person_waives_a_device,
            devices_answer,
            what_the_preview_told_happens,
        ),
    ),
    "just rotated": SmallWorld(
        "git",
        {"count": 2, "rollout": {"waves": ["100%"]}, "schedule": {"leastInterval": "5d"}},
        (apply_runs, devices_answer, minutes_pass, the_key_type_changes),
        (days_pass, apply_runs, an_incident_is_declared, devices_answer, what_the_preview_told_happens),
    ),
    "jitter": SmallWorld(
        "waves",
        {"count": 3, "age": 65 * DAY, "rollout": {"waves": ["100%"]}, "schedule": {"jitterPercent": 20}},
        (),
        (apply_runs, partial(weeks_pass, days=20), days_pass, what_the_preview_told_happens),
    ),
    "hours in which nobody may rotate": SmallWorld(
        "plans",
        {"count": 3, "schedule": {"windows": [NO_WINDOW]}},
        (plan_is_kept,),
        (apply_runs, kept_plan_is_applied, hours_pass, what_the_preview_told_happens, the_windows_change),
    ),
    "half at once": SmallWorld(
        "waves",
        {"count": 6, "rollout": {"waves": ["2", "100%"]}, "maxChangePercent": 50},
        (apply_runs, devices_answer, days_pass),
        (apply_runs, what_the_preview_told_happens, a_person_resumes, partial(a_device_is_new, age=100)),
    ),
    "one is away for long, and asked first": SmallWorld(
        "silence",
        {"count": 4, "rollout": {"offlineFirst": True, "soak": "24h"}}
        | {"certificate": rule(authority="plant-ca"), "authority": ARNS[0]},
        (plan_runs, partial(a_device_is_known_to_be_away_for_long, at=3)),
        (
            apply_runs,
            devices_answer,
            hours_pass,
            what_the_preview_told_happens,
            a_policy_rests_or_goes_on,
            FIRST_IS_SILENT,
        ),
    ),
    "certificates that end": SmallWorld(
        "git",
        {"count": 2, "age": 85 * DAY, "authority": ARNS[0]}
        | {"certificate": {"renewBefore": "280d", "keyType": "ECDSA-P256", "authority": "plant-ca"}},
        (),
        (a_day_of_the_loop, what_was_issued_before_now_is_to_be_replaced, what_the_preview_told_happens),
        (everything_is_mended,),
    ),
    "cut off": SmallWorld(
        "silence",
        {"count": 4, "rollout": {"waves": ["2", "100%"]}},
        (apply_runs,),
        (
            a_device_is_quarantined_or_no_longer,
            partial(a_device_is_quarantined_or_no_longer, at=3),
            apply_runs,
            devices_answer,
            days_pass,
            what_the_preview_told_happens,
        ),
    ),
    "a wave that soaks": SmallWorld(
        "git",
        {"count": 4, "rollout": {"soak": "24h"}},
        (apply_runs, devices_answer),
        (
            the_policy_is_renamed,
            the_waves_change,
            the_key_type_changes,
            a_commit_is_reverted,
            hours_pass,
            what_the_preview_told_happens,
            what_the_preview_of_the_change_told_happens,
        ),
    ),
    "a deadline that has passed": SmallWorld(
        "git",
        {"count": 4},
        (an_incident_is_declared, weeks_pass, a_day_of_the_loop, days_pass),
        (
            what_the_preview_of_the_change_told_happens,
            what_the_preview_told_happens,
            a_commit_is_reverted,
            the_waves_change,
            a_day_of_the_loop,
        ),
    ),
    "silent devices": SmallWorld(
        "silence",
        {"count": 4, "rollout": {"waves": ["100%"]}, "authority": ARNS[0]},
        (FIRST_IS_SILENT, SECOND_IS_SILENT, *A_DAY_WITHOUT_ANSWER * 2, apply_runs, FIRST_IS_SILENT),
        (
            a_device_gets_half_way,
            an_incident_is_declared,
            what_the_preview_told_happens,
            apply_runs,
            a_person_waives_a_device,
            partial(a_person_waives_a_device, at=1),
            days_pass,
        ),
    ),
    "just fallen silent": SmallWorld(
        "silence",
        {"count": 3, "rollout": {"waves": ["100%"]}},
        (FIRST_IS_SILENT, SECOND_IS_SILENT, apply_runs, devices_answer),
        (
            days_pass,
            a_person_waives_a_device,
            a_policy_rests_or_goes_on,
            what_the_preview_told_happens,
            FIRST_IS_SILENT,
        ),
    ),
    "something else is issued": SmallWorld(
        "backend",
        ON_PLANT_CA,
        (),
        (
            OTHER_KEY,
            OTHER_AUTHORITY,
            the_key_type_changes,
            AWS_IOT_FROM_NOW_ON,
            the_arn_in_git_changes,
            a_day_of_the_loop,
            the_backend_is_mended,
        ),
    ),
    "something else is issued, and its job has timed out": SmallWorld(
        "backend",
        ON_PLANT_CA,
        (OTHER_KEY, the_key_type_changes, apply_runs, a_device_gets_half_way, days_pass),
        (devices_answer, a_day_of_the_loop, the_backend_is_mended, a_person_resumes, what_the_preview_told_happens),
    ),
    "something else is issued, and AWS IoT has repeated its job": SmallWorld(
        "backend",
        ON_PLANT_CA | {"rollout": {"waves": ["1", "100%"], "soak": "0s", "retries": 1}},
        (OTHER_KEY, the_key_type_changes, apply_runs, a_device_gets_half_way, hours_pass),
        (devices_answer, a_day_of_the_loop, the_backend_is_mended, a_person_resumes, what_the_preview_told_happens),
    ),
    "after an outage of the backend": SmallWorld(
        "backend",
        {"count": 4},
        (partial(the_backend_does_something_else, issues="nothing"), apply_runs, devices_answer, the_backend_is_mended),
        (apply_runs, a_person_resumes, a_day_of_the_loop, what_the_preview_told_happens, the_key_type_changes),
        (an_outage_is_over,),
    ),
    "a backend that does not say what it is": SmallWorld(
        "backend",
        ON_PLANT_CA,
        (the_backend_ceases_to_say_what_it_is,),
        (
            the_arn_in_git_changes,
            a_person_answers_for_the_deployment_for_a_day,
            a_day_of_the_loop,
            the_backend_is_mended,
        ),
    ),
    "a window that closes while a run looks": SmallWorld(
        "at once",
        {"count": 3, "rollout": {"waves": ["100%"]}, "schedule": {"windows": [WINDOW]}},
        (),
        tuple(
            partial(two_runs_at_once, first=first, second=0, meanwhile="a window closes") for first in (9, 20, 24, 28)
        ),
    ),
    "two runs at once": SmallWorld(
        "at once",
        {"count": 2, "rollout": {"waves": ["100%"]}},
        (partial(a_device_is_new, age=89.5),),  # nearly due
        two_runs(firsts=range(0, 31, 3), seconds=(0, 30)),
    ),
}
