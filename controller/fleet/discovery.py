"""What an account holds before any document speaks of it: its thing groups and its private CAs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from controller.errors import FleetError
from controller.fleet.aws import ActAs, AwsSession
from controller.fleet.aws_errors import AwsCallError
from controller.reconcile.values import CertificateAuthority, Fleet, Source
from protocol.algorithms import CaSigningAlgorithm, Family

_WITH_A_KEY = {"ACTIVE", "DISABLED", "EXPIRED"}  # statuses of CAs that may have issued certificates
_MAX_NAME = 60  # leaves room for a number
NOWHERE = Source("(none yet)", 1)


def own_account(region: str) -> str:
    """The account of the credentials in use. One call."""
    caller = AwsSession(Fleet("caller", "", region, NOWHERE), ActAs.CALLER)
    return str(caller.call("sts", "GetCallerIdentity")["Account"])


def thing_groups(session: AwsSession) -> tuple[str, ...]:
    """Every thing group by name, but for those that certfleet makes for itself. ⌈groups/250⌉ calls."""
    prefix = f"{session.fleet.stack_name}-"
    names = (entry["groupName"] for entry in session.find_all("ListThingGroups", "thingGroups") or [])
    return tuple(sorted(name for name in names if not name.startswith(prefix)))


def depths(session: AwsSession, groups: Iterable[str]) -> dict[str, int]:
    """How many of these groups stand above each; FleetError names one that does not exist. One call each."""
    chosen = tuple(groups)
    above: dict[str, set[str]] = {}
    for group in chosen:
        answer = session.find("iot", "DescribeThingGroup", thingGroupName=group)
        if answer is None:
            raise FleetError(
                f"thing group {group!r} does not exist in {session.where}",
                f"see which there are: aws iot list-thing-groups --region {session.fleet.region}",
            )
        parents = answer["thingGroupMetadata"].get("rootToParentThingGroups", [])
        above[group] = {str(parent["groupName"]) for parent in parents}
    return {group: len(above[group] & set(chosen)) for group in chosen}


def private_authorities(session: AwsSession) -> tuple[CertificateAuthority, ...] | None:
    """The private CAs that may have issued certificates, each with the name of its subject; None: not to be listed.

    One call, and one for each CA, which is left out if its certificate may not be read.
    """
    try:
        pages = session.pages("ListCertificateAuthorities", service="acm-pca")
        found = [entry for answer in pages for entry in answer["CertificateAuthorities"]]
    except AwsCallError as error:
        if error.is_denied:
            return None
        raise
    taken: Counter[str] = Counter()
    return tuple(
        _authority(entry, taken)
        for entry in found
        if entry["Status"] in _WITH_A_KEY
        and session.ask("acm-pca", "GetCertificateAuthorityCertificate", CertificateAuthorityArn=entry["Arn"])
    )


def _authority(entry: dict[str, Any], taken: Counter[str]) -> CertificateAuthority:
    """A CA under a name that documents may give it: its subject's, in their characters."""
    made = entry["CertificateAuthorityConfiguration"]
    subject = str(made.get("Subject", {}).get("CommonName", ""))
    name = re.sub(r"[^a-z0-9]+", "-", subject.lower()).strip("-")[:_MAX_NAME].rstrip("-") or "private-ca"
    taken[name] += 1
    family = Family.RSA if made["KeyAlgorithm"].startswith("RSA") else Family.ECDSA
    return CertificateAuthority(
        name if taken[name] == 1 else f"{name}-{taken[name]}",
        arn=str(entry["Arn"]),
        signing_algorithm=next(algorithm for algorithm in CaSigningAlgorithm if algorithm.family is family),
    )
