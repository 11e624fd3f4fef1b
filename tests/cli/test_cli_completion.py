"""Completion, asked of the shells themselves: what a line becomes when Tab is pressed at its end."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from argparse import ArgumentParser

import pytest

from controller import cli
from controller.commands.completion import entries_of
from controller.commands.completion_scripts import bash_script, fish_script, zsh_script

# What is typed before Tab, and what Tab makes of it.
COMPLETED = {
    "a command": ("certfleet drif", "drift"),
    "an option": ("certfleet apply --allow", "--allow-dirty"),
    "a value": ("certfleet drift --format s", "sarif"),
    "a shell": ("certfleet completion fi", "fish"),
    "an option of a subcommand": ("certfleet sandbox up --ah", "--ahead"),
}

# A zsh inside zsh, typed at as by a person. The command is a stand-in that prints what it was called with.
ZSH = """\
zmodload zsh/zpty
zpty inner zsh -f -i
zpty -w inner "$1; certfleet() {{ print \\"RAN=\\$*=\\" }}; print RE''ADY"
zpty -r -m inner out '*READY*'
zpty -w -n inner $'{line}\\t'
zpty -w -n inner $'\\n'
zpty -r -m inner out '*RAN=*=*'
print -r -- "$out"
"""
START = "autoload -Uz compinit; compinit -u -D"
IN_ZSH = {"evaluated": START + "; source {}/zsh", "found on fpath": "fpath=({}/site $fpath); " + START}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """The script of each shell, in a file."""
    folder = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh", "fish"):
        with (folder / shell).open("w") as file, contextlib.redirect_stdout(file):
            assert cli.main(["completion", shell]) == 0
    (folder / "site").mkdir()
    shutil.copy(folder / "zsh", folder / "site" / "_certfleet")
    return folder


def ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def in_bash(script: str, line: str) -> list[str]:
    words = line.split(" ")
    told = f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _certfleet; echo ${{COMPREPLY[@]}}"
    return ask("bash", "-c", told).split()


@pytest.mark.parametrize(("line", "word"), COMPLETED.values(), ids=COMPLETED.keys())
def test_bash_completes(scripts, line, word):
    assert in_bash(str(scripts / "bash"), line) == [word]


@pytest.mark.parametrize("start", IN_ZSH.values(), ids=IN_ZSH.keys())
@pytest.mark.parametrize(("line", "word"), COMPLETED.values(), ids=COMPLETED.keys())
def test_zsh_completes(scripts, line, word, start):
    told = ask("zsh", "-f", "-c", ZSH.format(line=line), "zsh", start.format(scripts))
    typed = line.removeprefix("certfleet ").rpartition(" ")[0]
    assert f"RAN={typed + ' ' if typed else ''}{word}=" in told


@pytest.mark.parametrize(("line", "word"), COMPLETED.values(), ids=COMPLETED.keys())
def test_fish_completes(scripts, line, word):
    told = ask("fish", "--no-config", "-c", f"source {scripts / 'fish'}; complete -C '{line}'")
    assert [found.split("\t")[0] for found in told.splitlines()] == [word]


def test_every_command_is_offered_with_what_it_does(scripts):
    assert set(in_bash(str(scripts / "bash"), "certfleet ''")) == {*cli.COMMANDS, "--help", "--version"}
    told = ask("fish", "--no-config", "-c", f"source {scripts / 'fish'}; complete -C 'certfleet '").splitlines()
    assert dict(line.split("\t") for line in told) == {name: one.summary for name, one in cli.COMMANDS.items()}


def test_a_sandbox_that_is_not_installed_leaves_the_rest_complete(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sandbox.cli", None)
    assert cli.main(["completion", "bash"]) == 0
    assert "--allow-dirty" in capsys.readouterr().out


def test_what_a_shell_could_take_for_its_own_is_quoted():
    parser = ArgumentParser()
    commands = parser.add_subparsers()
    told = commands.add_parser("ask", help="it's $(date): [x] \\ `y`")
    told.add_argument("--name", help="say 'no': [never] $HOME", metavar="NAME")
    entries = entries_of(parser)
    for shell, script in (("zsh", zsh_script(entries)), ("fish", fish_script(entries)), ("bash", bash_script(entries))):
        done = subprocess.run([shell, "-n", "/dev/stdin"], input=script, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), shell
    told = ask("fish", "--no-config", "-c", f"{fish_script(entries)}\ncomplete -C 'certfleet '")
    assert told.splitlines()[0] == "ask\tit's $(date): [x] \\ `y`"
