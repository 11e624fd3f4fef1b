"""``certfleet demo``: a drifted fleet comes into sync, on this machine."""

from __future__ import annotations

from argparse import ArgumentParser

from controller.commands.context import Context
from controller.commands.sandbox import sandbox_cli
from controller.errors import ExitCode


def add_arguments(parser: ArgumentParser) -> None:
    """Add the demo's options."""
    sandbox_cli().add_demo_arguments(parser)


def run(context: Context) -> ExitCode:
    """Run the demo."""
    return ExitCode(sandbox_cli().run_demo(context.arguments))
