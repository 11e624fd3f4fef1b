"""What machines read: every command's output keeps to docs/report.schema.json, down to the last field."""

from __future__ import annotations

import jsonschema
import pytest
from cli_schema import SCHEMA, STRICT, check

from controller import cli
from controller.commands import apply_report
from controller.report import comparison, explanation, forecast, problems


@pytest.fixture
def drifted(factory, rsa_key):
    """Three too old, one with another key type, one right, one blocked, one of no policy, one that has failed."""
    for name in ("old-1", "old-2", "old-3"):
        factory.device(name, age=200)
    factory.device("wrong-key", key=rsa_key)
    factory.device("right")
    factory.device("twice")
    factory.certificate("twice")
    factory.failing = {"old-2"}
    return factory


def test_every_document_for_machines_is_described(drifted):
    for kind, arguments in {
        "driftReport": ("drift",),
        "plan": ("plan",),
        "forecast": ("forecast", "--horizon", "120d"),
        "explanation": ("explain", "old-1"),
        "simulation": ("simulate", "--span", "90d"),
        "validation": ("validate",),
        "checkup": ("doctor", "--migrate"),
        "preflightReport": ("preflight",),
        "healPlan": ("heal", "plan"),
        "comparison": ("plan", "--base", "HEAD"),
        "applyReport": ("apply", "--wait", "--timeout", "60s"),
    }.items():
        told = drifted.run(*arguments, "--format", "json")
        assert told.code in (0, 1, 2), told.err
        check(kind, told.json)
        if kind == "plan":
            assert told.json["jobs"], "a plan that says something"
            STRICT.validate([told.json, told.json])
        if kind == "driftReport":
            undescribed = told.json
            undescribed["fleets"][0]["devices"][0]["findings"][0]["mood"] = "good"
            with pytest.raises(jsonschema.ValidationError, match="mood"):
                check(kind, undescribed)
    assert drifted.run("status", "--format", "json").json["kind"] == "DriftReport"
    drifted.write("kind: Fleet\napiVersion: certfleet/v2\n")
    check("validation", drifted.run("validate", "--format", "json").json)
    check("explanation", drifted.run("explain", "twice", "--ref", "HEAD", "--format", "json").json)


def test_the_schema_is_one_and_has_a_document_for_every_command_with_json():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    kinds = {
        entry["properties"]["kind"]["const"]
        for entry in SCHEMA["$defs"].values()
        if "kind" in entry.get("properties", {})
    }
    assert kinds == {
        "DriftReport",
        "Comparison",
        "ApplyReport",
        "Forecast",
        "Explanation",
        "Simulation",
        "Validation",
        "Checkup",
        "PreflightReport",
        "HealPlan",
        "Evidence",
    }
    with_json = {name for name, command in cli.COMMANDS.items() if "json" in _formats(command.module)}
    named = "validate plan apply status drift forecast explain simulate doctor preflight heal evidence"
    assert with_json == set(named.split())
    for module in (apply_report, comparison, explanation, forecast, problems):
        assert "json" in {str(name) for name in module.RENDERERS}


def _formats(command: str) -> list[str]:
    parser = cli.build_parser(command)
    commands = next(action for action in parser._actions if action.dest == "command")
    return next((list(a.choices) for a in commands.choices[command]._actions if a.dest == "format"), [])
