"""``certfleet evidence``: which credential each device held when, and who answers; ``verify`` checks such a file."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from functools import cache, partial
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

from controller.commands.context import Context
from controller.commands.documents import load_desired, of_policy
from controller.commands.options import add_desired, add_fleet, add_output, add_policy, instant
from controller.commands.pipeline import Observed, each_fleet, gravest, observe
from controller.commands.progress import progress_on
from controller.desired.policy_history import CommitNote, DocumentHistory
from controller.errors import CertfleetError, ExitCode, FleetError
from controller.evidence import (
    Approval,
    DocumentCommit,
    EvidenceError,
    FleetEvidence,
    InUse,
    check,
    practised,
    seal,
    trace,
    whole,
)
from controller.evidence.documents import history_of
from controller.fleet import AwsSession
from controller.fleet.kms_signature import callers_key
from controller.fleet.rotation_table import read_records, rotation_table
from controller.forge.rest import ForgeError
from controller.github import approvals as github
from controller.github.api import GitHub
from controller.gitlab import approvals as gitlab
from controller.gitlab.api import GitLab
from controller.reconcile.checks import Governance, Governed, assess_fleet
from controller.reconcile.outlook import with_estimates
from controller.reconcile.planning import make_plan
from controller.reconcile.values import DesiredState, Device, DrillReport
from controller.report.evidence import RENDERERS, Found, to_document

PERIOD = timedelta(days=365)
MAX_BYTES = 1 << 30
_PLAN = re.compile(r", plan ([0-9a-f]{16})(?:,|$)")


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of whose evidence is gathered since when, and of which file to verify."""
    parser.add_argument(
        "what", nargs="*", metavar="THING", help="one device (default: all), or: verify FILE, to check an evidence file"
    )
    parser.add_argument(
        "--since",
        type=instant,
        metavar="INSTANT",
        help="show certificates that were in use since then (default: a year ago)",
    )
    parser.add_argument("--kms-key", metavar="ARN", help="sign with this KMS key; for verify: the key that you trust")
    parser.add_argument(
        "--public-key", type=Path, metavar="FILE", help="for verify: the key that you trust, PEM or DER"
    )
    add_policy(parser)
    add_desired(parser, is_question=False)
    add_fleet(parser, is_question=False)
    add_output(parser, RENDERERS)


def run(context: Context) -> ExitCode:
    """Gather evidence; or verify a file: 1 if it is not accepted. Raises CertfleetError."""
    what: list[str] = context.arguments.what
    if len(what) == 2 and what[0] == "verify":  # noqa: PLR2004 (verify FILE)
        return _verify(context, Path(what[1]))
    if len(what) > 1:
        raise CertfleetError(
            f"evidence of {' '.join(what)!r}: expected one thing, or verify and a file",
            "certfleet evidence THING, or: certfleet evidence verify FILE",
        )
    thing = what[0] if what else None
    if context.arguments.bundle is not None:
        raise CertfleetError("a bundle holds no history", "run inside a clone of the repository, without --bundle")
    fleets = of_policy(context, load_desired(context))
    found, failures = each_fleet(fleets, lambda desired: _gather(context, desired, thing))
    if thing is not None and not any(one.rows or one.refusals for one in found):
        raise CertfleetError(
            f"nothing is known of a thing named {thing!r}", "check the name; certfleet evidence lists all of them"
        )
    created_at, key_id = context.present(), context.arguments.kms_key or None
    key = None if key_id is None else callers_key(key_id, fleets[0].fleet)
    document = seal(to_document(created_at, found, failures), None if key is None else key.sign, key_id)
    context.emit(Found(created_at, found, document, failures), RENDERERS)
    return gravest([ExitCode.IN_SYNC], failures)


def _gather(context: Context, desired: DesiredState, thing: str | None) -> FleetEvidence:
    until = context.present()
    since = context.arguments.since or until - PERIOD
    documents = DocumentHistory(context.arguments.desired_state, context.arguments.ref or "HEAD")
    history = history_of(documents.editions(desired.fleet.name, since))
    approvals = _asking(context, documents.remote())
    with observe(context, desired) as observed, progress_on(context.stderr, label=desired.fleet.name) as tell:
        session = observed.session
        table = rotation_table(session)
        if table is None:
            raise FleetError(
                "found no backend of this project in the account; evidence is read from its table",
                "deploy it (docs/backend.md); what was rotated before then stays a gap",
            )
        tell("reading rotations", 0, 1)
        records = read_records(session, table, thing)
        in_use = list(_in_use(observed, thing))
        jobs = sorted({record.job_id for record in records.rotations if record.started_at >= since})
        change_of = cache(lambda commit: _change(documents.note(commit), approvals))
        rows = trace(
            records.rotations,
            in_use,
            history,
            change_of,
            since=since,
            until=until,
            plans=_plans(session, jobs, lambda done: tell("reading jobs", done, len(jobs))),
        )
        results = _results(observed)
    fleet = desired.fleet
    bare = FleetEvidence(fleet.name, fleet.account, fleet.region, since, until, desired.commit, (), (), ())
    evidence = whole(bare, rows, history, records.refusals, policy=context.arguments.policy)
    policy = context.arguments.policy
    asked = (
        one
        for one in history.drills
        if one.deadline >= since and policy in {None, one.policy} and (thing is None or thing in one.devices)
    )
    drills = practised(asked, records.rotations, change_of, results)
    return replace(evidence, drills=drills, unreadable_records=tuple(records.unreadable))


def _results(observed: Observed) -> dict[str, DrillReport]:
    """Return the result of each drill of today's documents, by name, with what it means for all devices."""
    desired, state = observed.desired, observed.state
    if not desired.drills:
        return {}
    plan = make_plan(assess_fleet(observed.devices(), desired, state, observed.now), desired, state, observed.now)
    return {report.drill: report for report in with_estimates(plan, desired, state).drills}


def _in_use(observed: Observed, thing: str | None) -> Iterable[InUse]:
    governance = Governance(observed.desired, observed.state, observed.now)
    devices: Iterable[Device] = observed.devices()
    if thing is not None:
        devices = observed.inventory.devices(observed.desired, observed.state, only={thing})
    for device in devices:
        governed = governance.policy_of(device)
        policy = governed.policy.name if isinstance(governed, Governed) else None
        for attachment in device.attachments:
            held = attachment.certificate
            yield InUse(
                device.name,
                held.certificate_id,
                held.created_at,
                held.not_before,
                held.key_type,
                held.authority,
                policy,
            )


def _plans(session: AwsSession, jobs: list[str], tell: Callable[[int], None]) -> dict[str, str]:
    """Return the plan that each job was made by, as its description shows; jobs that are deleted show nothing."""
    found: dict[str, str] = {}
    for number, job_id in enumerate(jobs):
        tell(number)
        answer = session.find("iot", "DescribeJob", jobId=job_id)
        match = None if answer is None else _PLAN.search(answer["job"].get("description", ""))
        if match is not None:
            found[job_id] = match[1]
    return found


def _change(note: CommitNote | None, ask: Callable[[str], tuple[Approval, ...]]) -> DocumentCommit | None:
    if note is None:
        return None
    approvals = tuple(Approval(who, how.lower()) for how, who in note.trailers)
    return DocumentCommit(note.commit, note.author, note.committed_at, note.subject, approvals + ask(note.commit))


def _asking(context: Context, remote: str | None) -> Callable[[str], tuple[Approval, ...]]:
    """Return a function that shows who approved a commit: nobody, without a token for the forge of the documents.

    Evidence is written without approvals too: a refusal of the forge is reported once, and the approvals are left out.
    """
    found, told = _of_gitlab(context, remote) or _of_github(context, remote), list[str]()

    def ask(commit: str) -> tuple[Approval, ...]:
        if found is None or told:
            return ()
        try:
            return found(commit)
        except ForgeError as error:
            told.append(str(error))
            context.say(f"cannot ask who approved, so that only the commits show it: {error}")
            return ()

    return ask


def _of_github(context: Context, remote: str | None) -> Callable[[str], tuple[Approval, ...]] | None:
    token = context.environment.get("GITHUB_TOKEN")
    repository = context.environment.get("GITHUB_REPOSITORY") or (remote or "").removeprefix("github.com/")
    if not token or not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        return None
    address = context.environment.get("GITHUB_API_URL", "https://api.github.com")
    return partial(github.approvals_of, GitHub(address, repository, token))


def _of_gitlab(context: Context, remote: str | None) -> Callable[[str], tuple[Approval, ...]] | None:
    token, (host, _, path) = context.environment.get("CERTFLEET_GITLAB_TOKEN"), (remote or "").partition("/")
    project = context.environment.get("CI_PROJECT_ID") or path
    address = context.environment.get("CI_API_V4_URL") or f"https://{host}/api/v4"
    if not token or not project or "://github.com/" in address:  # which must not see the token
        return None
    return partial(gitlab.approvals_of, GitLab(address, project, token))


# Verify ----------------------------------------------------------------------------------------------------


def _verify(context: Context, path: Path) -> ExitCode:
    try:
        text = path.read_bytes()[:MAX_BYTES].decode()
    except (OSError, ValueError) as error:
        raise EvidenceError(f"{path} cannot be read: {error}", "name an evidence file in JSON") from error
    arguments = context.arguments
    verify: Callable[[bytes, bytes], bool] | None = None
    if arguments.public_key is not None:
        verify = _with_public_key(arguments.public_key)
    elif arguments.kms_key:
        verify = callers_key(arguments.kms_key, load_desired(context)[0].fleet).verify
    document = check(text, verify, str(path))
    rows = sum(len(fleet["rows"]) for fleet in document["fleets"])
    context.write(f"{path}: as it was signed at {document['created_at']}, {rows:,} certificates\n")
    return ExitCode.IN_SYNC


def _with_public_key(path: Path) -> Callable[[bytes, bytes], bool]:
    try:
        data = path.read_bytes()
        key = load_pem_public_key(data) if data.startswith(b"-----") else load_der_public_key(data)
    except (OSError, ValueError) as error:
        raise EvidenceError(
            f"{path} holds no public key: {error}",
            "aws kms get-public-key --key-id ARN --query PublicKey --output text | base64 -d > key.der",
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise EvidenceError(f"{path} is not a key on a curve", "evidence is signed with a key of ECC_NIST_P256")

    def verify(digest: bytes, signature: bytes) -> bool:
        try:
            key.verify(signature, digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
        except InvalidSignature:
            return False
        return True

    return verify
