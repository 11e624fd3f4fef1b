"""``certfleet bundle``: the checked desired state of one commit, in one file for the reconcile Lambda."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from controller.commands.context import Context
from controller.commands.documents import source_of
from controller.commands.history import in_bucket
from controller.commands.options import add_desired
from controller.desired import DEFAULT_LIMITS, load_snapshot
from controller.desired.bundle import Bundle, make_bundle, write_bundle
from controller.errors import CertfleetError, ExitCode
from controller.fleet import AwsSession
from controller.fleet.aws import ActAs
from controller.fleet.kms_signature import callers_key
from controller.reconcile.values import Fleet
from controller.report import words


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of what to pack, and of who signs."""
    add_desired(parser)
    parser.add_argument(
        "--repository", metavar="NAME", help="host and path, such as github.com/acme/fleet (default: origin)"
    )
    parser.add_argument("--kms-key", metavar="ARN", help="sign with this KMS key, with the caller's own credentials")
    parser.add_argument(
        "--output",
        metavar="PLACE",
        help="write there, whole or not at all, not to stdout: a file, or s3://BUCKET/KEY by the caller's own role",
    )


def run(context: Context) -> ExitCode:
    """Read, check, pack."""
    arguments = context.arguments
    snapshot = source_of(context).read(DEFAULT_LIMITS)
    fleets = load_snapshot(snapshot, now=context.now(), fleet=arguments.fleet)
    bundle = make_bundle(snapshot, context.now(), arguments.repository)
    packed, output = _packed(bundle, arguments.kms_key or None, fleets[0].fleet), arguments.output
    if output is not None and "://" in output:
        _put(output, packed, fleets[0].fleet)
        context.say(f"wrote {output}")
    else:
        arguments.output = None if output is None else Path(output)
        context.write(packed.decode())
    signed = "signed" if arguments.kms_key else "not signed"
    context.say(f"packed {words.count(len(fleets), 'fleet')} at {words.commit(snapshot.commit)}, {signed}")
    return ExitCode.IN_SYNC


def _packed(bundle: Bundle, key_id: str | None, fleet: Fleet) -> bytes:
    """Return the bundle's bytes, signed if a key is named."""
    return write_bundle(bundle, None if key_id is None else callers_key(key_id, fleet))


def _put(place: str, packed: bytes, fleet: Fleet) -> None:
    found = in_bucket(place)
    if found is None or not found[1]:
        raise CertfleetError(
            f"--output is {place}, expected a file or s3://BUCKET/KEY", "correct it, such as: --output bundle.json"
        )
    session = AwsSession(fleet, ActAs.CALLER)
    session.call("s3", "PutObject", Bucket=found[0], Key=found[1], Body=packed, ContentType="application/json")
