"""Faults that the two halves once had, or that a careless change would bring: each put back for the time of a test."""

from __future__ import annotations

from contextlib import contextmanager
from functools import lru_cache

import smallworld_backend as backend
import smallworld_cloud as clouds
import smallworld_device as component

from backend.functions import commit_certificate, create_certificate, ending, verdicts
from backend.functions.verdicts import CertificateRole, Commit, ExecutionOutcome, Use
from component.certificate_rotator import actions, machine, rotator, store_files
from component.certificate_rotator.store import Generation

DEVICE = (component, ("_begun", "die", "hear", "heeded", "start", "timer"))
CLOUD = (clouds, ("arrive", "arrive_late", "ends", "functions", "pause", "thief_events", "thief_updates"))
HANDLED = (backend, ("_handle",))


@contextmanager
def replaced(*changes, anew):
    """Attributes of modules and classes, replaced for a time: (owner, name, value).

    ``anew``: what is remembered of the half that is changed, as (owner, names of functions): for that time they
    remember nothing of before, and afterwards nothing of that time.
    """
    functions = [(owner, name, getattr(owner, name)) for owner, names in anew for name in names]
    fresh = [(owner, name, lru_cache(None)(function.__wrapped__)) for owner, name, function in functions]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in (*changes, *fresh)]
    try:
        for owner, name, value in (*fresh, *changes):
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def in_backend(*changes):
    """The same for the backend."""
    return replaced(*changes, anew=(CLOUD, HANDLED))


def in_component(*changes):
    """The same for the component."""
    return replaced(*changes, (component, "DEAD", {}), anew=(DEVICE,))


def verdict(commit, end, use, goes):
    """The backend's table with another verdict in the row that begins so."""
    rows = tuple(row._replace(goes=goes) if row[:3] == (commit, end, use) else row for row in verdicts.ROWS)
    assert rows != verdicts.ROWS
    return in_backend((verdicts, "ROWS", rows))


def backup_goes_with_the_answer():
    """The device lets go of its old credential when the commit is answered."""
    committed = actions.Actions._committed

    def without_backup(self):
        committed(self)
        self.record = self.record.with_(kept=None)

    return in_component((actions.Actions, "_committed", without_backup))


def the_way_back_keeps_nothing():
    """A device that has sent a commit and hears of no answer, or a bad one, settles on its old credential."""
    commit = actions.Actions.commit

    def commit_without_keeping(self, cause):
        kept = self.record.kept
        commit(self, cause)
        self._save(self.record.with_(kept=kept))

    return in_component((actions.Actions, "commit", commit_without_keeping))


def a_later_start_only_connects():
    """The old credential goes at a later start that connects, without another commit, whoever answered the first."""
    state, rows, proven = machine.State.KEEPING, dict(machine.TABLE), actions.Actions._proven
    start = rows[state, machine.Event.START]
    rows[state, machine.Event.START] = start._replace(action=machine.Action.ASK)
    for event in (machine.Event.NOT_OURS, machine.Event.QUEUED, machine.Event.IN_PROGRESS, machine.Event.GET_REJECTED):
        rows[state, event] = machine.Transition(state, event, machine.Action.CONFIRM, machine.State.REPORTING)

    def connects(self):
        self.run_of_commit = self._restarter.nucleus_run()
        return proven(self)

    return in_component((rotator, "TABLE", rows), (actions.Actions, "_proven", connects))


def one_later_start_is_enough_after_the_way_back():
    """A device that went back and tries the new one again lets the old one go at its first start with it."""
    turn = actions.Actions._turn

    def with_run(self, record):
        turn(self, record.with_(run=record.run or "committing"))

    return in_component((actions.Actions, "_turn", with_run))


def success_is_not_waited_for():
    """The old credential goes after two commits, whether or not the jobs service has taken SUCCEEDED."""
    proven = actions.Actions._proven

    def at_once(self):
        self.record = self.record.with_(succeeded=True)
        return proven(self)

    return in_component((actions.Actions, "_proven", at_once))


def half_a_generation_is_exchanged_for():
    """What is not whole is read all the same."""
    return in_component((store_files.FileStore, "_exists", lambda _self, _path: True))


def a_kept_key_is_taken_for_the_new_one():
    """If the new key was cleared away and the journal has not heard of it, the one that is kept passes for it."""

    def new_key(self):
        if self._is_apart and self._exists(self._next_key):
            return self._next_key
        return store_files._of(self._key, Generation.NEW)

    return in_component((store_files.FileStore, "_new_key", new_key))


def late_commits_are_dropped():
    """What comes after the end of its job is heard, though it was sent before."""
    commit = commit_certificate._commit

    def drop(services, event, rotation):
        if not rotation.has_ended_after(event.sent(services.clock())):
            commit(services, event, rotation)

    return in_backend((commit_certificate, "_commit", drop))


def no_sweep():
    """What no event tells, nobody asks for."""
    return in_backend((backend, "RUNS", {**backend.RUNS, "sweep": lambda _event, _context: None}))


def unmarked_ends_are_not_heard():
    """The end of an execution is handled only if the device's own key stands in its details."""
    ended = backend.RUNS["ended"]

    def marked(event, context):
        return ended(event, context) if event["statusDetails"] else None

    return in_backend((backend, "RUNS", {**backend.RUNS, "ended": marked}))


def a_second_key_clears_the_first_away():
    """A create under the same job over another key takes the certificate away that was issued before."""

    def clear(services, asked, rotation):
        return ending.remove_new(services, rotation, asked.who)

    return in_backend((create_certificate, "_weigh", clear))


def verdict_row(commit, end, use, goes):
    """The same, for later."""
    return lambda: verdict(commit, end, use, goes)


NONE, PROVEN, OLD, NEW = Commit.NONE, Commit.PROVEN, CertificateRole.OLD, CertificateRole.NEW

FAULTS = {
    "what the cloud ends loses its new certificate": verdict_row(NONE, ExecutionOutcome.STOPPED, None, NEW),
    "SUCCEEDED without a commit is believed": verdict_row(NONE, ExecutionOutcome.SUCCEEDED, None, OLD),
    "FAILED takes a new one that is in use": verdict_row(NONE, ExecutionOutcome.FAILED, None, NEW),
    "FAILED after the commit takes the new one": verdict_row(PROVEN, ExecutionOutcome.FAILED, None, NEW),
    "FAILED after the commit takes the old one": verdict_row(PROVEN, ExecutionOutcome.FAILED, None, OLD),
    "a sighting settles for the old one": verdict_row(PROVEN, None, Use.CONTESTED, NEW),
    "a sighting is passed over": verdict_row(PROVEN, None, Use.CONTESTED, OLD),
    "the backup goes with the answer": backup_goes_with_the_answer,
    "the way back after a commit keeps nothing": the_way_back_keeps_nothing,
    "a later start only connects": a_later_start_only_connects,
    "one later start is enough after the way back": one_later_start_is_enough_after_the_way_back,
    "success is not waited for": success_is_not_waited_for,
    "half a generation is exchanged for": half_a_generation_is_exchanged_for,
    "a kept key is taken for the new one": a_kept_key_is_taken_for_the_new_one,
    "a commit that the end overtakes is dropped": late_commits_are_dropped,
    "nobody sweeps": no_sweep,
    "an end without the device's key is not heard": unmarked_ends_are_not_heard,
    "a second key clears the first away": a_second_key_clears_the_first_away,
}
