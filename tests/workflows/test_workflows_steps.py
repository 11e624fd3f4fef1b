"""What steps do around a command of certfleet: its report, its log, its exit code; the change that it is about."""

import io
import os

import pytest

from controller.github.__main__ import main


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in place of certfleet, as a step does; returns its exit code, and what became of the files."""

    def run_script(script, *options):
        program = tmp_path / "certfleet"
        program.write_text(f"#!/bin/bash\n{script}")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        files = {name: tmp_path / name for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
        report = str(tmp_path / "report.md")
        given = [
            "run",
            "--report",
            report,
            "--title",
            "No plan",
            *options,
            "--",
            "plan",
            "--also",
            f"markdown={report}",
        ]
        code = main(given, {name: str(path) for name, path in files.items()})
        return code, *(path.read_text() for path in files.values())

    return run_script


def test_a_command_that_ends_without_a_report_shows_the_last_lines_that_it_logged_without_colour(run, capsys):
    said = (
        "for n in {0..99}; do echo line $n; done >&2; printf '\\e[1;31mcertfleet: error:\\e[0m ``` no\\n' >&2; exit 1"
    )
    code, summary, output = run(said)
    assert (code, output) == (1, "exit-code=1\n")
    assert summary.startswith("## ❌ No plan\n\n````text\nline 61\n")
    assert "certfleet: error: ``` no\n````\n" in summary
    assert capsys.readouterr().err.startswith("line 0\nline 1\n")
    assert "It printed nothing" in run("exit 1")[1]


def test_a_command_that_reports_has_its_report_in_the_summary_and_passes_if_the_step_says_so(run):
    reports = 'echo "# 3 devices rotate" > "${3#markdown=}"; exit 2'
    assert run(reports) == (2, "# 3 devices rotate\n", "exit-code=2\n")
    code, summary, _ = run(reports, "--passes", "2", "3")
    assert (code, summary) == (0, "# 3 devices rotate\n" * 2)


def test_what_is_logged_is_passed_on_at_once(run, tmp_path, monkeypatch):
    """A first look at a fleet takes an hour, and somebody watches it."""
    os.mkfifo(heard := tmp_path / "heard")

    class Watched(io.StringIO):
        def write(self, text):
            heard.write_text("\n")  # only now the command ends
            return super().write(text)

    monkeypatch.setattr("sys.stderr", Watched())
    assert run(f"echo 'fleet plant: 12 min left' >&2; read -r < {heard}; exit 0")[0] == 0


def test_a_change_that_cannot_be_fetched_is_an_error_that_keeps_the_token_to_itself(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = {"GITHUB_SHA": "c0ffee", "GITHUB_SERVER_URL": "https://github.com", "GITHUB_TOKEN": "ghs_secret"}
    assert main(["fetch"], {**os.environ, **given}) == 1
    said = capsys.readouterr().err
    assert "not a git repository" in said
    assert "fetch-depth: 0" in said
    assert "ghs_secret" not in said
    assert main(["fetch"], {}) == 1
    assert "GITHUB_SHA is not set" in capsys.readouterr().err
