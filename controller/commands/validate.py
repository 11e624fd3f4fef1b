"""``certfleet validate``: every mistake in the documents at once, each on its line."""

from __future__ import annotations

from argparse import ArgumentParser

from controller.commands.context import Context
from controller.commands.options import add_desired, add_output
from controller.commands.pipeline import load_desired
from controller.desired.notes import notes_of
from controller.errors import DesiredStateError, ExitCode
from controller.report.formats import Format
from controller.report.problems import RENDERERS, Validation


def add_arguments(parser: ArgumentParser) -> None:
    """Which documents, and how to say what is wrong."""
    add_desired(parser)
    add_output(parser, RENDERERS)


def run(context: Context) -> ExitCode:
    """Load the documents and say what was found; as text, errors go where errors go."""
    folder = str(context.arguments.desired_state)
    try:
        fleets = load_desired(context)
        result = Validation(folder, fleets, notes=tuple(note for fleet in fleets for note in notes_of(fleet)))
    except DesiredStateError as error:
        if context.arguments.format == Format.TEXT and context.output is None:
            raise
        result = Validation(folder, (), tuple(error.problems))
    context.emit(result, RENDERERS)
    return ExitCode.ERROR if result.problems else ExitCode.IN_SYNC
