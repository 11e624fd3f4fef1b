"""Completion scripts for the shells, from plain values. A character that a shell could take for its own is quoted."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a command; ``words`` are the values it allows, if it allows only some."""

    names: tuple[str, ...]
    summary: str
    words: tuple[str, ...]
    takes_value: bool
    is_path: bool


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """One command; ``words`` are what its argument may be, if it may only be some."""

    name: str
    summary: str
    words: tuple[str, ...]
    options: tuple[Option, ...]


_BASH = """\
_certfleet() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}" command="" each words
    for each in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case "$each" in -*) ;; *) command="$each"; break ;; esac
    done
    case "$command $previous" in
{choices}
    esac
    case "$command" in
{options}
        *) words="{commands} --help --version" ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    [[ ${{#COMPREPLY[@]}} -gt 0 || "$word" == -* ]] || COMPREPLY=($(compgen -f -- "$word"))
}}
complete -o filenames -F _certfleet certfleet
"""


def bash_script(entries: list[CommandEntry]) -> str:
    """Return the completion for bash."""
    options = [
        f'        {entry.name}) words="{" ".join([*entry.words, *(n for o in entry.options for n in o.names)])}" ;;'
        for entry in entries
    ]
    choices = [
        f'        "{entry.name} {name}") COMPREPLY=($(compgen -W "{" ".join(option.words)}" -- "$word")); return ;;'
        for entry in entries
        for option in entry.options
        for name in option.names
        if option.words
    ]
    commands = " ".join(entry.name for entry in entries)
    return _BASH.format(choices="\n".join(choices), options="\n".join(options), commands=commands)


_ZSH = """\
#compdef certfleet
_certfleet() {{
    local curcontext="$curcontext" state line
    local -a commands=(
{commands}
    )
    _arguments -C '(- *)'{{-h,--help}}'[show help]' '(- *)--version[versions and commit]' '1: :->command' '*:: :->rest'
    case $state in
        command) _describe -t commands 'certfleet command' commands ;;
        rest)
            case $words[1] in
{cases}
            esac ;;
    esac
}}
if [[ $funcstack[1] == _certfleet ]]; then _certfleet "$@"; else compdef _certfleet certfleet; fi
"""


def zsh_script(entries: list[CommandEntry]) -> str:
    """Return the completion for zsh, with descriptions; for ``eval``, or as the file ``_certfleet`` on ``fpath``."""
    commands = [f"        {shlex.quote(f'{entry.name}:{_colons(entry.summary)}')}" for entry in entries]
    cases = [f"                {entry.name}) _arguments {' '.join(_zsh_arguments(entry))} ;;" for entry in entries]
    return _ZSH.format(commands="\n".join(commands), cases="\n".join(cases))


def _zsh_arguments(entry: CommandEntry) -> Iterator[str]:
    for option in entry.options:
        value = f":value:{_zsh_value(option)}" if option.takes_value else ""
        told = re.sub(r"([\[\]\\])", r"\\\1", _colons(option.summary))
        for name in option.names:
            yield shlex.quote(f"*{name}[{told}]{value}")
    if entry.words:
        yield shlex.quote(f"1:argument:({' '.join(entry.words)})")


def _zsh_value(option: Option) -> str:
    if option.words:
        return f"({' '.join(option.words)})"
    return "_files" if option.is_path else " "


def _colons(text: str) -> str:
    return text.replace(":", "\\:")


def fish_script(entries: list[CommandEntry]) -> str:
    """Return the completion for fish, with descriptions."""
    lines = [
        "complete -c certfleet -f",
        "complete -c certfleet -n __fish_use_subcommand -s h -l help -d 'show help'",
        "complete -c certfleet -n __fish_use_subcommand -l version -d 'versions and commit'",
    ]
    for entry in entries:
        lines.append(f"complete -c certfleet -n __fish_use_subcommand -a {entry.name} -d {_fish(entry.summary)}")
        lines += _fish_arguments(entry)
    return "".join(f"{line}\n" for line in lines)


def _fish_arguments(entry: CommandEntry) -> Iterator[str]:
    start = f"complete -c certfleet -n {_fish(f'__fish_seen_subcommand_from {entry.name}')}"
    if entry.words:
        yield f"{start} -a {_fish(' '.join(entry.words))}"
    for option in entry.options:
        names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
        value = ""
        if option.words:
            value = f" -x -a {_fish(' '.join(option.words))}"
        elif option.takes_value:
            value = " -r -F" if option.is_path else " -x"
        yield f"{start} {names}{value} -d {_fish(option.summary)}"


def _fish(text: str) -> str:
    """Quote a text for fish: in single quotes only the backslash and the quote itself have a meaning."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
