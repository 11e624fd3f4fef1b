"""The documents that a command's arguments name: from a folder, a git ref or a bundle."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import cast

from controller.commands.context import Context
from controller.desired import DesiredStateSource, GitRef, WorkingTree, load
from controller.errors import CertfleetError
from controller.reconcile.values import DesiredState, Policy

MAX_BUNDLE_BYTES = 256 * 1024 * 1024  # a longer one is cut, and refused for that


def load_desired(context: Context) -> tuple[DesiredState, ...]:
    """Return the documents that the arguments name, one value per fleet; raises CertfleetError."""
    fleets = load(source_of(context), now=context.now(), fleet=context.arguments.fleet)
    inventory: Path | None = getattr(context.arguments, "inventory", None)
    if inventory is not None and len(fleets) > 1:
        raise CertfleetError(
            f"--inventory names one file for {len(fleets)} fleets; an inventory is of one account and region",
            "name a fleet with --fleet, or leave --inventory out: then each fleet has its own",
        )
    return fleets


def of_policy(context: Context, fleets: tuple[DesiredState, ...]) -> tuple[DesiredState, ...]:
    """Keep the fleets that have the policy which ``--policy`` names; all of them, if it names none.

    Raises:
        CertfleetError: No fleet has it.
    """
    name: str | None = context.arguments.policy
    found = tuple(desired for desired in fleets if name is None or policy_named(desired, name) is not None)
    if not found:
        known = sorted({policy.name for desired in fleets for policy in desired.policies})
        raise CertfleetError(f"no fleet has a policy {name!r}", f"there are: {', '.join(known) or 'none'}")
    return found


def policy_named(desired: DesiredState, name: str | None) -> Policy | None:
    """Return the policy of that name; None if there is none, or no name."""
    return next((policy for policy in desired.policies if policy.name == name), None)


def source_of(context: Context) -> DesiredStateSource:
    """Return the source that the arguments name: a bundle, a git ref, or the folder itself; raises CertfleetError."""
    arguments = context.arguments
    folder: Path = arguments.desired_state
    if arguments.bundle is not None:
        if arguments.ref is not None:
            raise CertfleetError("--ref and --bundle were both given", "a bundle has its commit in it: drop --ref")
        bundles = import_module("controller.desired.bundle_reader")  # which few need, and takes long to import
        bundle = bundles.read_bundle(_bundle_bytes(arguments.bundle), now=context.now())
        return cast("DesiredStateSource", bundles.BundleSource(bundle))
    return WorkingTree(folder) if arguments.ref is None else GitRef(folder, arguments.ref)


def _bundle_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BUNDLE_BYTES)
    except OSError as error:
        raise CertfleetError(f"{path} cannot be read: {error.strerror}", "make one with: certfleet bundle") from error
