"""``certfleet schema``: the JSON Schema of the desired state."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from controller.commands.context import Context
from controller.desired.schema import schema_text
from controller.errors import ExitCode


def add_arguments(parser: ArgumentParser) -> None:
    """Add the option of where to write it."""
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there, whole or not at all, not to stdout")


def run(context: Context) -> ExitCode:
    """Print the schema."""
    context.write(schema_text())
    return ExitCode.IN_SYNC
