"""The surface: help, usage, versions, completion, streams and colours. None of it needs AWS."""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import jsonschema
import pytest
from cli_page import command_line_page
from rich.progress import TimeRemainingColumn
from shared_golden import assert_golden

from controller import cli
from controller.commands import installation, streams, version
from controller.commands.context import look_for
from controller.commands.progress import progress_on
from controller.commands.progress_lines import _BOARD
from controller.errors import CertfleetError

ROOT = Path(__file__).parents[2]
FLEET = """\
apiVersion: certfleet/v1
kind: Fleet
metadata: {name: factory}
spec: {account: "123456789012", region: eu-west-1}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working tree with a desired state, and the current directory."""
    (tmp_path / "desired_state").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_COLOR", raising=False)
    return tmp_path


@pytest.fixture
def valid(folder):
    policy = """\
---
apiVersion: certfleet/v1
kind: RotationPolicy
metadata: {name: line-a}
spec: {thingGroup: line-a, certificate: {maxAge: 90d}}
"""
    (folder / "desired_state" / "factory.yaml").write_text(FLEET + policy)
    return folder


@pytest.fixture
def broken(folder):
    policy = """\
---
apiVersion: certfleet/v1
kind: RotationPolicy
metadata: {name: line-a}
spec:
  thingGroup: line-a
  certificate:
    maxAge: ninety
    keytype: RSA-2048
"""
    (folder / "desired_state" / "factory.yaml").write_text(FLEET + policy)
    return folder


def test_help_names_every_command_and_teaches_by_example(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for name in cli.COMMANDS:
        assert f"    {name}" in out
    assert "certfleet apply --wait" in out
    assert "3 refused by a guardrail" in out


COMMANDS = sorted(set(cli.COMMANDS) - {"sandbox", "demo"})


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(name, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([name, "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "examples:" in out
    assert f"certfleet {name}" in out.partition("examples:")[2]
    assert max(map(len, out.splitlines())) <= 80


USAGE = {
    "an unknown command": (["rotate"], "invalid choice: 'rotate'"),
    "an unknown option": (["plan", "--forse"], "unrecognized arguments: --forse\n→ see certfleet plan --help"),
    "a format that the command cannot give": (["explain", "x", "--format", "sarif"], "choose from"),
    "a time without a zone": (["drift", "--now", "2026-12-01"], "expected ISO 8601 with a zone"),
    "no duration": (["apply", "--timeout", "soon"], "found 'soon'"),
    "no percentage": (["simulate", "--failures", "120"], "expected a number from 0 to 100"),
    "two sources": (["validate", "--ref", "HEAD", "--bundle", "b"], "drop --ref"),
}


@pytest.mark.parametrize(("arguments", "message"), USAGE.values(), ids=USAGE.keys())
def test_a_usage_error_exits_1_and_says_what_is_possible(folder, arguments, message, capsys):
    assert cli.main(arguments) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_without_a_command_help_goes_to_stderr_and_the_exit_code_is_1(capsys):
    assert cli.main([]) == 1
    captured = capsys.readouterr()
    assert "usage: certfleet" in captured.err
    assert captured.out == ""


def test_version_names_versions_commit_and_formats(capsys):
    assert cli.main(["--version"]) == 0
    out = capsys.readouterr().out
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert out.startswith("certfleet ")
    assert head.stdout.strip() in out
    assert "desired state certfleet/v1, plan format 2" in out
    assert "botocore " in out


REPOSITORY = {"url": "https://example.org/fleet.git", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}}


class _Installed:
    """A distribution as pip leaves it (PEP 610)."""

    version = "1.2.3"

    def __init__(self, origin):
        self.origin = origin

    def read_text(self, name):
        assert name == "direct_url.json"
        return json.dumps(self.origin) if self.origin else None


def test_an_installed_version_names_the_commit_that_it_was_installed_from(monkeypatch, capsys):
    monkeypatch.setattr(installation, "distribution", lambda _name: _Installed(REPOSITORY))
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("certfleet 1.2.3 (commit c0ffee)\n")


def test_a_program_of_unknown_origin_says_so(monkeypatch, capsys, tmp_path):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(installation, "distribution", missing)
    monkeypatch.setattr(version, "__file__", str(tmp_path / "controller" / "commands" / "version.py"))
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("certfleet (not installed) (commit unknown)\n")


def test_valid_documents_are_said_to_be_valid(valid, capsys):
    assert cli.main(["validate"]) == 0
    assert capsys.readouterr().out.startswith("VALID  factory  1 policy, 1 authority")


def test_every_mistake_is_told_at_once_on_stderr_with_its_line(broken, capsys):
    assert cli.main(["validate"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "factory.yaml:12: " in captured.err
    assert "factory.yaml:13: " in captured.err
    assert "→ " in captured.err


@pytest.mark.parametrize("name", ["json", "markdown", "github", "sarif", "junit"])
def test_mistakes_in_a_machine_format_go_to_stdout(broken, name, capsys):
    assert cli.main(["validate", "--format", name]) == 1
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "factory.yaml" in captured.out
    assert "ninety" in captured.out


@pytest.mark.parametrize("name", ["json", "markdown", "github", "sarif", "junit"])
def test_valid_documents_in_a_machine_format(valid, name, capsys):
    assert cli.main(["validate", "--format", name]) == 0
    assert "ninety" not in capsys.readouterr().out


def test_github_annotations_name_the_file_as_the_checkout_has_it(broken, capsys):
    subprocess.run(["git", "init", "-q"], cwd=broken, check=True)
    cli.main(["validate", "--format", "github"])
    assert capsys.readouterr().out.startswith("::error file=desired_state/factory.yaml,line=12,col=")


def test_schema_prints_a_json_schema(capsys):
    assert cli.main(["schema"]) == 0
    jsonschema.Draft202012Validator.check_schema(json.loads(capsys.readouterr().out))


def test_output_is_written_whole_and_said_on_stderr(valid, capsys):
    assert cli.main(["validate", "--format", "json", "--output", "report.json"]) == 0
    captured = capsys.readouterr()
    assert json.loads((valid / "report.json").read_text())["valid"] is True
    assert captured.out == ""
    assert "wrote report.json" in captured.err
    assert sorted(path.name for path in valid.iterdir()) == ["desired_state", "report.json"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    target = tmp_path / "report"
    target.write_text("old")

    def fail(_number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(streams.os, "fsync", fail)
    with pytest.raises(CertfleetError, match="No space left on device"):
        streams.write_file(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_no_fatal_error_is_raised_without_what_to_do_about_it():
    """Read from the source: an error that no test reaches must have a remedy as well."""
    sources = {
        path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "controller").rglob("*.py"))
    }
    nodes = [(path, node) for path, tree in sources.items() for node in ast.walk(tree)]
    fatal = {"CertfleetError"}
    for _ in range(3):  # their descendants
        classes = (node for _path, node in nodes if isinstance(node, ast.ClassDef))
        fatal |= {node.name for node in classes if fatal & {ast.unparse(base) for base in node.bases}}
    without = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, node in nodes
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
        if ast.unparse(node.exc.func) in fatal and len(node.exc.args) + len(node.exc.keywords) < 2
    ]
    assert {"PlanError", "UsageError", "LostRaceError", "AwsCallError"} <= fatal
    assert without == []


def test_an_unwritable_output_is_an_error_with_a_remedy(valid, capsys):
    assert cli.main(["validate", "--output", "missing/folder/report"]) == 1
    assert "give --output a writable place" in capsys.readouterr().err


class _Terminal(io.StringIO):
    def isatty(self):
        return True


COLOR = {
    "on a terminal": (_Terminal(), {}, False, True),
    "into a pipe": (io.StringIO(), {}, False, False),
    "with NO_COLOR": (_Terminal(), {"NO_COLOR": "1"}, False, False),
    "with an empty NO_COLOR": (_Terminal(), {"NO_COLOR": ""}, False, True),
    "with --no-color": (_Terminal(), {}, True, False),
    "on a dumb terminal": (_Terminal(), {"TERM": "dumb"}, False, False),
}


@pytest.mark.parametrize(("stream", "environment", "no_color", "expected"), COLOR.values(), ids=COLOR.keys())
def test_colour(stream, environment, no_color, expected):
    assert look_for(stream, environment, no_color=no_color).color is expected


def test_errors_are_red_on_a_terminal_only(broken, monkeypatch):
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.delenv("TERM", raising=False)
    cli.main(["validate"])
    assert terminal.getvalue().startswith("\x1b[1;31mcertfleet: error:\x1b[0m")


def test_progress_is_drawn_on_terminals_only_and_only_after_a_second():
    seconds = iter([0.0, 0.5, 2.0])
    terminal, pipe = _Terminal(), io.StringIO()
    with progress_on(terminal, lambda: next(seconds)) as tell:
        tell("listing", 1, 10)
        assert terminal.getvalue() == ""
        tell("listing", 5, 10)
    assert "listing" in terminal.getvalue()
    with progress_on(pipe) as tell:
        tell("listing", 1, None)
    assert pipe.getvalue() == ""


def test_each_fleet_has_a_line_of_its_own_with_what_is_left_and_how_long_that_takes():
    terminal, pace = _Terminal(), iter(range(0, 1000, 10))
    with progress_on(terminal, lambda: next(pace), label="north") as north:
        north("things", 0, 300)
        with progress_on(terminal, lambda: next(pace), label="south") as south:
            south("things", 5, 10)
            north("things", 100, 300)
            shown = [task.description for task in _BOARD.lines.tasks]
            assert (shown, _BOARD.lines.tasks[0].remaining) == (["north things", "south things"], 200)
            assert any(isinstance(column, TimeRemainingColumn) for column in _BOARD.lines.columns)
        assert [task.description for task in _BOARD.lines.tasks] == ["north things"]


def test_an_interrupt_says_that_nothing_is_lost(valid, monkeypatch, capsys):
    def interrupted(*_arguments, **_more):
        raise KeyboardInterrupt

    monkeypatch.setattr("controller.commands.validate.load_desired", interrupted)
    assert cli.main(["validate"]) == 1
    assert "the next run carries on" in capsys.readouterr().err


def test_a_reader_that_has_enough_causes_no_complaint(valid):
    command = f"{sys.executable} -m controller.cli schema | head -c 10"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=valid,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert len(done.stdout) == 10


def test_debug_shows_where_an_error_arose(folder, capsys):
    assert cli.main(["validate", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


ORIGINS = {
    "a repository": (REPOSITORY, "certfleet[sandbox] @ git+https://example.org/fleet.git@c0ffee"),
    "a wheel": ({"url": "file:///tmp/certfleet.whl"}, "certfleet[sandbox] @ file:///tmp/certfleet.whl"),
    "unknown": (None, "./certfleet-1.2.3-py3-none-any.whl[sandbox]"),
}


@pytest.mark.parametrize(("origin", "requirement"), ORIGINS.values(), ids=ORIGINS)
def test_the_sandbox_without_its_extra_says_what_to_install_and_never_a_bare_name(
    origin, requirement, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "sandbox.cli", None)
    monkeypatch.setattr(installation, "distribution", lambda _name: _Installed(origin))
    assert cli.main(["demo"]) == 1
    err = capsys.readouterr().err
    assert "the sandbox is not installed" in err
    assert f"pip install '{requirement}'" in err


def test_a_plan_file_that_is_none_is_refused(valid, capsys):
    (valid / "plan.json").write_text("{broken")
    assert cli.main(["apply", "--plan", "plan.json"]) == 1
    assert "is not a plan" in capsys.readouterr().err
    assert cli.main(["apply", "--plan", "missing.json"]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_a_valid_production_state_is_told_with_its_waivers_and_incidents(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert cli.main(["validate", "--fleet", "production", "--now", "2026-11-23T00:00:00Z"]) == 0
    assert "1 waiver, 1 incident" in capsys.readouterr().out


def test_the_page_of_the_command_line_is_what_the_parser_has():
    assert_golden(ROOT / "docs" / "command-line.md", command_line_page())
