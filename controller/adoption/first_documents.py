"""The first documents of a fleet, each number with a comment that shows what it was derived from.

They only report: every policy has ``mode: report``, and demands nothing that the certificates do not show.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from statistics import median

from controller.plain_text import one_line
from controller.reconcile.values import ENDLESS_DAYS, MAX_POLICY_NAME, CertificateAuthority, count_text
from protocol.algorithms import KeyType

from .survey import GroupSurvey

DAY = timedelta(days=1)
USUAL_AGE = 365 * DAY  # of certificates whose own end bounds nothing
SMALL = 20  # devices: five per cent of fewer is not a wave of its own

_HEADER = "apiVersion: certfleet/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n"


def first_documents(
    fleet: str,
    account: str,
    region: str,
    surveys: Sequence[tuple[GroupSurvey, int]],
    authorities: Iterable[CertificateAuthority],
) -> dict[str, str]:
    """Write what a fleet's folder holds on its first day.

    Args:
        fleet: Name of the Fleet document.
        account: Twelve digits.
        region: Such as ``eu-west-1``.
        surveys: The find in each chosen thing group, and the group's depth below the other chosen ones.
        authorities: Private CAs, those with a validity as the backend is deployed with them; one that issued none of
            the certificates gets no document.

    Returns:
        The text of each file, by its name.
    """
    files = {"fleet.yaml": _fleet(fleet, account, region)}
    groups = [found for found, _ in surveys]
    issuers = [each for each in authorities if any(found.authorities[each.name] for found in groups)]
    documents = [_authority(authority, groups) for authority in issuers]
    if documents:
        files["authorities.yaml"] = "---\n".join(documents)
    taken: set[str] = set()
    for found, depth in surveys:
        name = free_name(found.group, taken, "group")
        files[f"{name}.yaml"] = _policy(name, found, depth)
    return files


def free_name(after: str, taken: set[str], otherwise: str) -> str:
    """Return a name for a document, made from ``after``: the name of a thing group, or the subject of a CA.

    The name keeps only characters that every document takes; if none is left, it is ``otherwise``. A name that is in
    ``taken`` gets a number. The result is added to ``taken``.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", after.lower()).strip("-")[:MAX_POLICY_NAME].rstrip("-") or otherwise
    name, number = plain, 1
    while name in taken:
        number += 1
        end = f"-{number}"
        name = plain[: MAX_POLICY_NAME - len(end)] + end
    taken.add(name)
    return name


def _fleet(name: str, account: str, region: str) -> str:
    return (
        "# One AWS account and region.\n"
        + _HEADER.format(kind="Fleet", name=name)
        + f'  account: "{account}" # of the credentials that were in use; those of any other account are refused\n'
        f"  region: {region}\n"
        "  # roleArn and readRoleArn: roles for CI, once there are some; until then the caller's own identity acts\n"
    )


def _authority(authority: CertificateAuthority, surveys: Iterable[GroupSurvey]) -> str:
    assert authority.signing_algorithm is not None  # noqa: S101 (a private authority has one)
    lives = [life for found in surveys for life in found.lives_by[authority.name]]
    validity = timedelta(days=min(max(int(median(life / DAY for life in lives)), 1), 3_650))
    why = (
        "after the family of the CA's own key",
        f"median of the {count_text(len(lives), 'certificate')} that it issued",
    )
    if authority.validity is not None:
        validity, why = authority.validity, ("as the backend is deployed", "likewise")
    template = f"  templateArn: {authority.template_arn} # likewise\n" if authority.template_arn else ""
    return (
        _HEADER.format(kind="CertificateAuthority", name=authority.name)
        + f"  type: PrivateCA\n  arn: {authority.arn} # its key verifies certificates of this fleet\n"
        f"  signingAlgorithm: {authority.signing_algorithm.value} # {why[0]}\n"
        f"  validity: {validity // DAY}d # {why[1]}\n{template}"
    )


def _policy(name: str, found: GroupSurvey, depth: int) -> str:
    lines = [f'  thingGroup: "{found.group}" # {count_text(found.devices, "device")}']
    if depth:
        lines.append(f"  priority: {depth} # it lies inside another group that has a policy")
    lines += [
        "  certificate:",
        *_ages(found),
        *_demand("keyType", found.key_types, [key_type.value for key_type in KeyType]),
        *_demand("authority", found.authorities + found.strangers, list(found.authorities)),
        "  rollout:",
        *_waves(found.devices),
        "  mode: report # nothing rotates before this line is removed",
    ]
    return _HEADER.format(kind="RotationPolicy", name=name) + "\n".join(lines) + "\n"


def _ages(found: GroupSurvey) -> list[str]:
    """Return the lines ``maxAge`` and ``renewBefore``, derived from the shortest life that was found."""
    if not found.ages:
        return [f"    maxAge: {USUAL_AGE.days}d # a year, as is usual: no certificate could be read"]
    oldest, shortest = max(found.ages), min(life for lives in found.lives_by.values() for life in lives)
    if shortest >= ENDLESS_DAYS * DAY:  # as AWS IoT's own, which run to 2049
        older = sum(age > USUAL_AGE for age in found.ages)
        why = "a year, as is usual, for these certificates have no near end of their own"
        return [
            f"    maxAge: {USUAL_AGE.days}d # {why}; {older} of {len(found.ages)} are older, the oldest {oldest.days} d"
        ]
    why = f"two thirds of the shortest life found, {shortest.days} d"
    return [
        f"    maxAge: {max(shortest * 2 // 3 // DAY, 1)}d # {why}; the oldest is {oldest.days} d old",
        f"    renewBefore: {max(shortest // 6 // DAY, 1)}d # a sixth of that life",
    ]


def _demand(field: str, found: Counter[str], allowed: Sequence[str]) -> list[str]:
    """Return a demand that all certificates meet already; if there is none, a comment that the field is left out."""
    seen = ", ".join(f"{number} × {one_line(what)}" for what, number in found.most_common())
    if len(found) == 1 and next(iter(found)) in allowed:
        return [f"    {field}: {next(iter(found))} # found: {seen}"]
    return [f"    # {field} left out, each device keeps what it has; found: {seen or 'none'}"]


def _waves(devices: int) -> list[str]:
    if devices > SMALL:
        return [f'    waves: ["1", "5%", "100%"] # cumulative, of {devices} devices']
    return [f'    waves: ["1", "100%"] # cumulative, of {count_text(devices, "device")}']
