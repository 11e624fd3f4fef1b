"""``certfleet completion``: a script that completes commands and options, made from the parser itself."""

from __future__ import annotations

from argparse import Action, ArgumentParser, _SubParsersAction
from collections.abc import Callable, Iterator, Mapping

from controller.commands.completion_scripts import CommandEntry, Option, bash_script, fish_script, zsh_script
from controller.commands.context import Context
from controller.errors import ExitCode

SHELLS: Mapping[str, Callable[[list[CommandEntry]], str]] = {
    "bash": bash_script,
    "zsh": zsh_script,
    "fish": fish_script,
}


def add_arguments(parser: ArgumentParser) -> None:
    """Add the argument that names the shell."""
    parser.add_argument("shell", choices=tuple(SHELLS), help="the shell to complete in")


def run(context: Context) -> ExitCode:
    """Print the script."""
    context.stdout.write(SHELLS[context.arguments.shell](entries_of(context.whole_parser())))
    return ExitCode.IN_SYNC


def entries_of(parser: ArgumentParser) -> list[CommandEntry]:
    """Return every command with its words and options, as the parser has them."""
    [commands] = [action for action in _actions(parser) if isinstance(action, _SubParsersAction)]
    summaries = {choice.dest: choice.help or "" for choice in commands._choices_actions}  # noqa: SLF001 (as below)
    return [
        CommandEntry(
            name,
            summaries[name],
            tuple(word for action in _actions(command) if not action.option_strings for word in _words(action)),
            tuple(_option(action) for action in _with_nested(command) if action.option_strings),
        )
        for name, command in commands.choices.items()
    ]


def _actions(parser: ArgumentParser) -> list[Action]:
    return parser._actions  # noqa: SLF001 (argparse has no public way to what a parser was given)


def _with_nested(parser: ArgumentParser) -> Iterator[Action]:
    """Yield a command's actions, and those of its own subcommands."""
    seen = set()
    for action in _actions(parser):
        nested = action.choices.values() if isinstance(action, _SubParsersAction) else ()
        for each in (action, *(inner for one in nested for inner in _with_nested(one))):
            if tuple(each.option_strings) not in seen:
                seen.add(tuple(each.option_strings))
                yield each


def _option(action: Action) -> Option:
    takes_value = action.nargs != 0
    is_path = action.metavar in {"FILE", "FOLDER", "PLACE"}
    return Option(tuple(action.option_strings), action.help or "", _words(action), takes_value, is_path)


def _words(action: Action) -> tuple[str, ...]:
    return tuple(str(choice) for choice in action.choices or ())
