"""Payloads as the rules deliver them, read by the models."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from backend.functions.events import CommitEvent, CreateEvent, Ending, parse_terminal

EVENTS = Path(__file__).parent / "events"
PRINCIPAL = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def load(name: str):
    return json.loads((EVENTS / f"{name}.json").read_text())


def test_create_and_commit_name_thing_connection_and_job():
    for model, name in ((CreateEvent, "create"), (CommitEvent, "commit")):
        event = model.model_validate(load(name))
        assert (event.thing_name, event.client_id, event.principal) == ("gw-1", "gw-1#2", PRINCIPAL)
        assert event.job_id == "certfleet-line-a-1"


def test_an_ended_execution_names_its_thing_and_its_end():
    event = parse_terminal(load("ended-timed-out"))
    assert (event.thing_name, event.ending) == ("gw-1", Ending.TIMED_OUT)
    assert event.at == datetime.fromtimestamp(1763900000, UTC)


def test_a_deleted_execution_is_ended_whatever_its_last_status():
    assert parse_terminal(load("ended-deleted")).ending is Ending.DELETED


def test_a_connection_names_its_thing_without_greengrass_suffix():
    event = parse_terminal(load("connected"))
    assert (event.thing_name, event.principal) == ("gw-1", PRINCIPAL)
    assert event.at == datetime(2025, 11, 23, 12, 13, 20, 123000, UTC)
