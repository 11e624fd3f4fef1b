"""``certfleet drill``: draw the devices of a drill, and write its document."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml

from controller.commands.context import Context
from controller.commands.documents import load_desired, of_policy
from controller.commands.options import add_desired, add_fleet, duration
from controller.commands.pipeline import Observed, observe
from controller.desired.models import API_VERSION, MAX_LIST
from controller.errors import CertfleetError, ExitCode
from controller.jobs import IotJobs
from controller.reconcile.checks import Governance
from controller.reconcile.outlook import draw
from controller.reconcile.values import DesiredState, DrillSample, Stratum, count_text


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of who practises, how many, and until when."""
    parser.add_argument("name", help="what the drill is called; another name draws other devices")
    parser.add_argument("--policy", required=True, metavar="NAME", help="the policy whose devices practise")
    parser.add_argument(
        "--count", type=int, metavar="N", help="how many devices to draw by chance (default: all of the group)"
    )
    parser.add_argument(
        "--group", metavar="GROUP", help="draw among the devices of that thing group (default: of the policy)"
    )
    parser.add_argument(
        "--stratify-by",
        choices=[stratum.value for stratum in Stratum],
        help="of each key type, authority or group as many as its share of the devices is",
    )
    parser.add_argument(
        "--lasts",
        type=duration,
        default=timedelta(hours=8),
        metavar="DURATION",
        help="how long the drill lasts, until its deadline (default: 8h)",
    )
    parser.add_argument("--reason", default="practise an incident", metavar="TEXT", help="what is practised")
    parser.add_argument(
        "--ignore-windows", action="store_true", help="let devices rotate outside their windows, as an incident may"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there, whole or not at all, not to stdout")
    add_desired(parser, is_question=False)
    add_fleet(parser)


def run(context: Context) -> ExitCode:
    """Print the document; nothing rotates before it is merged. Raises CertfleetError."""
    arguments = context.arguments
    if arguments.count is None and arguments.group is None:
        raise CertfleetError(
            "neither --count nor --group was given: a drill needs a sample", "give how many: --count 100"
        )
    if arguments.count is not None and not 1 <= arguments.count <= MAX_LIST:
        raise CertfleetError(f"--count {arguments.count}: expected 1 to {MAX_LIST:,}", "draw fewer: --count 100")
    fleets = of_policy(context, load_desired(context))
    if len(fleets) > 1:
        names = ", ".join(desired.fleet.name for desired in fleets)
        raise CertfleetError(f"several fleets have the policy {arguments.policy!r}: {names}", "name one: --fleet NAME")
    document = _drawn(context, fleets[0])
    context.write(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120))
    return ExitCode.IN_SYNC


def _drawn(context: Context, desired: DesiredState) -> dict[str, object]:
    arguments = context.arguments
    with observe(context, desired) as observed:
        governance = Governance(desired, observed.state, observed.now)
        governed = [device for device in observed.devices() if governance.claims_on(device) == (arguments.policy,)]
        chosen = governed
        if arguments.group is not None:
            members = _members(context, observed)
            chosen = [device for device in governed if device.name in members]
    if not chosen:
        where = f"the group {arguments.group!r} under policy" if arguments.group is not None else "policy"
        raise CertfleetError(
            f"{where} {arguments.policy!r} has no device", "certfleet status shows how many each policy has"
        )
    stratum = None if arguments.stratify_by is None else Stratum(arguments.stratify_by)
    sample = DrillSample(len(governed), arguments.count, arguments.group, stratum)
    devices = draw(arguments.name, sample, chosen)
    if len(devices) > MAX_LIST:
        raise CertfleetError(
            f"group {arguments.group!r} has {count_text(len(devices), 'device')}, a drill takes at most {MAX_LIST:,}",
            f"draw some of them: --count {MAX_LIST}",
        )
    now = context.now().astimezone(UTC).replace(microsecond=0)
    chosen_by = {"of": sample.of, "count": sample.count, "group": sample.group, "stratifyBy": arguments.stratify_by}
    return {
        "apiVersion": API_VERSION,
        "kind": "Drill",
        "metadata": {"name": arguments.name},
        "spec": {
            "policy": arguments.policy,
            "reason": arguments.reason,
            "since": _text(now),
            "deadline": _text(now + arguments.lasts),
            **({"ignoreWindows": True} if arguments.ignore_windows else {}),
            "sample": {name: value for name, value in chosen_by.items() if value is not None},
            "devices": list(devices),
        },
    }


def _members(context: Context, observed: Observed) -> Collection[str]:
    """Return the things of the group to draw among; a look has listed those of the groups that policies name."""
    group: str = context.arguments.group
    if group in observed.state.group_arns:
        return frozenset(observed.inventory.members(group))
    if context.arguments.max_age is not None:
        raise CertfleetError(
            f"no look lists the group {group!r}, because no policy names it",
            "let this run ask AWS: leave out --no-refresh and --max-age",
        )
    return IotJobs(observed.session).group_members(group)


def _text(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")
