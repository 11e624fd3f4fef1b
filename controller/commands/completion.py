"""``certfleet completion``: a script that completes commands and options, made from the parser itself."""

from __future__ import annotations

from argparse import ArgumentParser, _SubParsersAction

from controller.commands.context import Context
from controller.errors import ExitCode

BASH = """\
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
        *) words="{commands}" ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    [[ ${{#COMPREPLY[@]}} -gt 0 || "$word" == -* ]] || COMPREPLY=($(compgen -f -- "$word"))
}}
complete -o filenames -F _certfleet certfleet
"""
ZSH = "#compdef certfleet\nautoload -U +X bashcompinit && bashcompinit\n"


def add_arguments(parser: ArgumentParser) -> None:
    """For which shell."""
    parser.add_argument("shell", choices=("bash", "zsh"), help="the shell to complete in")


def run(context: Context) -> ExitCode:
    """Print the script."""
    script = bash_script(context.whole_parser())
    context.stdout.write(script if context.arguments.shell == "bash" else ZSH + script)
    return ExitCode.IN_SYNC


def bash_script(parser: ArgumentParser) -> str:
    """Completion for bash; zsh takes it through bashcompinit."""
    commands = _commands(parser)
    options = [f'        {name}) words="{" ".join(_options(entry))}" ;;' for name, entry in commands.items()]
    choices = [
        f'        "{name} {option}") COMPREPLY=($(compgen -W "{" ".join(values)}" -- "$word")); return ;;'
        for name, entry in commands.items()
        for option, values in _choices(entry).items()
    ]
    return BASH.format(choices="\n".join(choices), options="\n".join(options), commands=" ".join(commands))


def _commands(parser: ArgumentParser) -> dict[str, ArgumentParser]:
    return next(dict(action.choices) for action in parser._actions if isinstance(action, _SubParsersAction))  # noqa: SLF001 (argparse has no public way to its actions)


def _options(parser: ArgumentParser) -> list[str]:
    words = [option for action in parser._actions for option in action.option_strings]  # noqa: SLF001 (as above)
    for action in parser._actions:  # noqa: SLF001 (as above)
        if not action.option_strings and action.choices:
            words += [str(choice) for choice in action.choices]
    return words


def _choices(parser: ArgumentParser) -> dict[str, list[str]]:
    return {
        option: [str(choice) for choice in action.choices]
        for action in parser._actions  # noqa: SLF001 (as above)
        if action.choices
        for option in action.option_strings
    }
