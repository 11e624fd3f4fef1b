"""``certfleet validate``: every mistake in the documents at once, each on its line; ``--live`` asks AWS as well."""

from __future__ import annotations

from argparse import ArgumentParser
from importlib import import_module

from controller.commands.context import Context
from controller.commands.documents import load_desired
from controller.commands.options import add_desired, add_fleet, add_output
from controller.desired.notes import notes_of
from controller.errors import DesiredStateError, ExitCode
from controller.report.formats import Format
from controller.report.problems import RENDERERS, Validation


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of which documents, and of how mistakes are reported."""
    parser.add_argument(
        "--live",
        action="store_true",
        help="compare the documents with what is deployed, too: the backend, the CAs, the things that waivers name",
    )
    add_desired(parser)
    add_fleet(parser)
    add_output(parser, RENDERERS)


def run(context: Context) -> ExitCode:
    """Load the documents and show what was found; as text, errors go where errors go."""
    folder, is_live = str(context.arguments.desired_state), context.arguments.live
    try:
        fleets = load_desired(context)
        notes = tuple(note for fleet in fleets for note in notes_of(fleet))
        result = Validation(folder, fleets, notes=notes, is_live=is_live)
    except DesiredStateError as error:
        if context.formats == {Format.TEXT} and context.output is None:
            raise
        result = Validation(folder, (), tuple(error.problems))
    if result.fleets and is_live:
        live = import_module("controller.commands.validate_live")  # the way to AWS, which takes long to import
        result = result.with_live(*live.contradictions(context, fleets))
    context.emit(result, RENDERERS)
    return ExitCode.ERROR if result.problems else ExitCode.IN_SYNC
