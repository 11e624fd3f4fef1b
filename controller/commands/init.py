"""``certfleet init``: first documents for a fleet as it is, and what keeps its devices from rotating today."""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import botocore.session

from controller.adoption import CI_FOLDERS, GroupSurvey, ci_files, first_documents, free_name, survey
from controller.commands.context import Context
from controller.commands.options import DEFAULT_FOLDER
from controller.commands.pipeline import default_inventory
from controller.commands.progress import progress_on
from controller.desired import WorkingTree, load
from controller.errors import CertfleetError, ExitCode
from controller.fleet import ActAs, AwsSession, Inventory, rebuilt_where_damaged, refresh
from controller.fleet.backend import read_deployment
from controller.fleet.discovery import NOWHERE, depths, own_account, private_authorities, thing_groups
from controller.fleet.lock import Patience
from controller.reconcile.checks import assess_fleet
from controller.reconcile.values import CertificateAuthority, CertificateRule, DesiredState, Fleet, Mode, Policy
from controller.report.adoption import render_first_look
from protocol.algorithms import CaSigningAlgorithm
from protocol.deployment import DeployedAuthority
from protocol.names import AWS_IOT_AUTHORITY

ALL = "all"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of which part of which account, and of where the documents go."""
    parser.add_argument("--region", help="AWS region (default: that of the AWS configuration)")
    parser.add_argument(
        "--thing-group",
        action="append",
        default=[],
        metavar="NAME",
        help=f"a thing group that gets a policy, or '{ALL}'; may be repeated (asked for on a terminal)",
    )
    parser.add_argument("--name", default="fleet", help="name of the Fleet document (default: %(default)s)")
    parser.add_argument(
        "--desired-state",
        type=Path,
        default=DEFAULT_FOLDER,
        metavar="FOLDER",
        help="where the documents are written; it must hold none yet (default: ./desired_state)",
    )
    parser.add_argument(
        "--ci", choices=CI_FOLDERS, help="write the files that let CI reconcile, too; needs --workflows"
    )
    parser.add_argument(
        "--workflows",
        default="",
        metavar="OWNER/REPOSITORY@COMMIT",
        help="your copy of certfleet's repository, and the commit of a release (or its tag)",
    )


def run(context: Context) -> ExitCode:
    """Look, write the documents, and show what the look found. Nothing in AWS changes."""
    folder: Path = context.arguments.desired_state
    _require_empty(folder)
    ci = _ci(context.arguments.ci, context.arguments.workflows)
    region = _region(context)
    fleet = Fleet(context.arguments.name, own_account(region), region, NOWHERE)
    session = AwsSession(fleet, ActAs.READER)
    chosen = _chosen_groups(context, session)
    above = depths(session, chosen)
    authorities = _authorities(context, session)
    now = context.present()
    surveys = rebuilt_where_damaged(lambda: _look(context, session, above, authorities, now))
    found = [(each, above[each.group]) for each in surveys]
    files = first_documents(fleet.name, fleet.account, region, found, authorities)
    _write(folder, files, now)
    for path, text in ci.items():
        _write_new(path, text)
        context.say(f"wrote {path}")
    context.write(render_first_look(str(folder), tuple(files), surveys, context.look()))
    return ExitCode.IN_SYNC


def _require_empty(folder: Path) -> None:
    found = sorted(path.name for pattern in ("*.yaml", "*.yml") for path in folder.rglob(pattern))
    if found:
        raise CertfleetError(
            f"{folder} holds documents already, such as {found[0]}; init never overwrites",
            "name a folder of its own: certfleet init --desired-state FOLDER",
        )


def _ci(system: str | None, workflows: str) -> dict[Path, str]:
    """Return the files that CI needs, by path; raises CertfleetError if one is there already."""
    if system is None:
        return {}
    files = {Path(CI_FOLDERS[system], name): text for name, text in ci_files(system, workflows).items()}
    for path in files:
        if path.exists():
            raise CertfleetError(f"{path} is there already; init never overwrites", "leave --ci out, or move the file")
    return files


def _region(context: Context) -> str:
    region = context.arguments.region or botocore.session.Session().get_config_variable("region")
    if not region:
        raise CertfleetError("no AWS region is known", "name one, such as: certfleet init --region eu-west-1")
    return str(region)


def _authorities(context: Context, session: AwsSession) -> tuple[CertificateAuthority, ...]:
    """Return the private CAs, as the deployed backend names and uses them; others under their subject's name."""
    found, told = private_authorities(session)
    for sentence in told:
        context.say(sentence)
    deployment, _ = read_deployment(session)
    deployed = deployment.authorities if deployment is not None else {}
    names = {authority.arn: name for name, authority in deployed.items()}
    taken = {*deployed}
    return tuple(
        _as_deployed(each, names[each.arn], deployed[names[each.arn]])
        if each.arn in names
        else replace(each, name=free_name(each.name, taken, "private-ca"))
        for each in found
    )


def _as_deployed(found: CertificateAuthority, name: str, deployed: DeployedAuthority) -> CertificateAuthority:
    return replace(
        found,
        name=name,
        signing_algorithm=CaSigningAlgorithm(deployed.signing_algorithm),
        validity=deployed.validity,
        template_arn=deployed.template_arn or None,
    )


def _chosen_groups(context: Context, session: AwsSession) -> tuple[str, ...]:
    given: list[str] = context.arguments.thing_group
    if given and ALL not in given:
        return tuple(dict.fromkeys(given))
    groups = thing_groups(session)
    if not groups:
        raise CertfleetError(
            f"there is no thing group in {session.where}, and policies govern thing groups",
            "make one and put devices in: aws iot create-thing-group, aws iot add-thing-to-thing-group",
        )
    if given:
        return groups
    if not context.stdin.isatty():
        raise CertfleetError(
            f"which thing groups get a policy? There are: {', '.join(groups)}",
            f"certfleet init {' '.join(f'--thing-group {group}' for group in groups[:3])}   (or --thing-group {ALL})",
        )
    return _asked(context, groups)


def _asked(context: Context, groups: tuple[str, ...]) -> tuple[str, ...]:
    """Ask on the terminal until the answer is understood."""
    for number, group in enumerate(groups, 1):
        context.say(f"{number:>4}  {group}")
    while True:
        context.say(f"Which of these get a policy? Numbers with commas between, or '{ALL}':")
        answer = context.stdin.readline()
        if not answer:
            raise CertfleetError("no thing group was chosen", "see certfleet init --help")
        words = answer.replace(",", " ").split()
        if words == [ALL]:
            return groups
        if words and all(word.isdecimal() and 1 <= int(word) <= len(groups) for word in words):
            return tuple(dict.fromkeys(groups[int(word) - 1] for word in words))


def _look(
    context: Context,
    session: AwsSession,
    above: dict[str, int],
    authorities: tuple[CertificateAuthority, ...],
    now: datetime,
) -> tuple[GroupSurvey, ...]:
    """Return every device of the groups, assessed as if it had to rotate now."""
    rule = CertificateRule(rotate_issued_before=now)
    policies = tuple(Policy(group, group, NOWHERE, depth, rule, mode=Mode.REPORT) for group, depth in above.items())
    known = {each.name: each for each in (CertificateAuthority(AWS_IOT_AUTHORITY), *authorities)}
    desired = DesiredState(session.fleet, known, policies)
    patience = Patience(tell=context.say)
    with Inventory(default_inventory(session.fleet), patience=patience, tell=context.say, is_cache=True) as inventory:
        with progress_on(context.stderr) as tell:
            state = refresh(session, inventory, desired, now, tell)
        assessments = assess_fleet(inventory.devices(desired, state), desired, state, now)
        return survey(assessments, {policy.name: policy.thing_group for policy in policies}, now)


def _write(folder: Path, files: dict[str, str], now: datetime) -> None:
    """Write the documents to a folder beside, read them back, and move them into place if they are valid."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        for name, text in files.items():
            (Path(place) / name).write_text(text, encoding="utf-8")
        load(WorkingTree(Path(place)), now=now)
    for name, text in files.items():
        _write_new(folder / name, text)


def _write_new(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
