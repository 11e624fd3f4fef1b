"""``certfleet sandbox``: hands over to the sandbox, which is an extra of its own."""

from __future__ import annotations

from argparse import ArgumentParser
from importlib import import_module
from types import ModuleType

from controller.commands.context import Context
from controller.commands.installation import requirement
from controller.errors import CertfleetError, ExitCode


def add_arguments(parser: ArgumentParser) -> None:
    """Add the sandbox's options."""
    sandbox_cli().add_sandbox_arguments(parser)


def run(context: Context) -> ExitCode:
    """Run the sandbox's own command."""
    return ExitCode(sandbox_cli().run_sandbox(context.arguments))


def sandbox_cli() -> ModuleType:
    """Return ``sandbox.cli``, which the controller imports only here. Raises CertfleetError if it is missing."""
    try:
        return import_module("sandbox.cli")
    except ModuleNotFoundError as error:
        raise CertfleetError(
            f"the sandbox is not installed: there is no module {error.name}",
            f"install it with: pip install '{requirement('sandbox')}'",
        ) from error
