"""The table: total, reachable, and drawn as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from component import diagram
from component.certificate_rotator.actions import Actions
from component.certificate_rotator.journal import JournalRecord, Step
from component.certificate_rotator.machine import IGNORED, ROWS, TABLE, Action, Event, State, resume_state
from component.certificate_rotator.reasons import reason
from component.certificate_rotator.store import Generation

RECORDS = [JournalRecord(step, kept=kept) for step in Step for kept in (None, *Generation)]
DOCS = Path(__file__).parents[2] / "docs" / "component.md"


@pytest.mark.parametrize("state", State)
def test_each_event_in_a_state_is_a_row_or_ignored_on_purpose(state):
    rows = {row.event for row in ROWS if row.state is state}
    assert rows | IGNORED[state] == set(Event)
    assert not rows & IGNORED[state]


def test_no_pair_has_two_rows():
    assert len(TABLE) == len(ROWS)


def test_every_state_can_be_reached_and_left():
    assert {row.next for row in ROWS} | {resume_state(record) for record in RECORDS} == set(State)
    assert {row.state for row in ROWS} == set(State)


def test_every_action_is_in_the_table_and_has_a_method():
    assert {row.action for row in ROWS} == set(Action)
    assert all(callable(getattr(Actions, action.value)) for action in Action)


@pytest.mark.parametrize("record", [None, *RECORDS], ids=lambda r: f"{r.step.value} {r.kept}" if r else "none")
def test_every_stored_step_has_a_resume_point(record):
    assert (resume_state(record), Event.START) in TABLE


def test_the_old_credential_is_only_given_up_when_the_new_one_answers_at_a_later_start_than_the_commits():
    settling = {Action.CONFIRM, Action.REPLACE, Action.DROP, Action.FAIL, Action.REPORT}
    new_in_place = {
        State.CONNECTING, State.COMMITTING, State.KEEPING, State.RETRYING, State.RESTARTING
    }  # fmt: skip
    assert {(row.state, row.event) for row in ROWS if row.state in new_in_place and row.action in settling} == {
        (State.KEEPING, Event.COMMIT_ACCEPTED)
    }


def test_the_documentation_shows_the_table_as_it_is():
    assert diagram.render() in DOCS.read_text(), "run python -m component.diagram docs/component.md"


def test_the_diagram_is_put_between_its_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{diagram.BEGIN}\nold\n{diagram.END}\nafter\n")
    assert diagram.main([str(page)]) == 0
    assert page.read_text() == f"before\n{diagram.BEGIN}\n{diagram.render()}{diagram.END}\nafter\n"


GIVING_UP = {(row.state, row.event) for row in ROWS if row.action in (Action.FAIL, Action.UNDO, Action.UNDO_LIVE)}


@pytest.mark.parametrize(("state", "event"), sorted(GIVING_UP), ids=lambda part: part.value)
def test_whoever_reads_why_a_rotation_was_given_up_learns_what_to_do(state, event):
    """An action that failed brings its own sentence; a state that was only waited in keeps the first reason."""
    said = reason(state, event, "the detail")
    brings_its_own = event in (Event.FAILED, Event.UNNOTICED) or state is State.RECONNECTING
    assert (
        said == "the detail" if brings_its_own else re.search("; check |; rotate |; let |start afresh|the detail", said)
    )
