"""``certfleet bundle``: the checked desired state of one commit, in one file for the reconcile Lambda."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from controller.commands.context import Context
from controller.commands.documents import source_of
from controller.commands.options import add_desired
from controller.desired import DEFAULT_LIMITS, load_snapshot
from controller.desired.bundle import Bundle, make_bundle, write_bundle
from controller.errors import ExitCode
from controller.fleet.kms_signature import callers_key
from controller.reconcile.values import Fleet
from controller.report import words


def add_arguments(parser: ArgumentParser) -> None:
    """What to pack, and who signs."""
    add_desired(parser)
    parser.add_argument(
        "--repository", metavar="NAME", help="host and path, such as github.com/acme/fleet (default: origin)"
    )
    parser.add_argument("--kms-key", metavar="ARN", help="sign with this KMS key, with the caller's own credentials")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there, whole or not at all, not to stdout")


def run(context: Context) -> ExitCode:
    """Read, check, pack."""
    arguments = context.arguments
    snapshot = source_of(context).read(DEFAULT_LIMITS)
    fleets = load_snapshot(snapshot, now=context.now(), fleet=arguments.fleet)
    bundle = make_bundle(snapshot, context.now(), arguments.repository)
    context.write(_packed(bundle, arguments.kms_key or None, fleets[0].fleet).decode())
    signed = "signed" if arguments.kms_key else "not signed"
    context.say(f"packed {words.count(len(fleets), 'fleet')} at {words.commit(snapshot.commit)}, {signed}")
    return ExitCode.IN_SYNC


def _packed(bundle: Bundle, key_id: str | None, fleet: Fleet) -> bytes:
    """The bundle's bytes, signed where a key is named."""
    return write_bundle(bundle, None if key_id is None else callers_key(key_id, fleet))
