"""The content of an account before any document names it: its thing groups and its private CAs."""

from __future__ import annotations

from collections.abc import Iterable

from controller.errors import FleetError
from controller.fleet.aws import ActAs, AwsSession
from controller.fleet.aws_errors import AwsCallError
from controller.fleet.baseline import RECORD_GROUP
from controller.reconcile.values import CertificateAuthority, Fleet, PrivateCa, Source, policy_in
from protocol.algorithms import CaSigningAlgorithm

_WITHOUT_A_CERTIFICATE = {"CREATING", "PENDING_CERTIFICATE", "FAILED"}  # statuses of CAs that have issued nothing
NOWHERE = Source("(none yet)", 1)


def own_account(region: str) -> str:
    """Return the account of the credentials in use. One call."""
    caller = AwsSession(Fleet("caller", "", region, NOWHERE), ActAs.CALLER)
    return str(caller.call("sts", "GetCallerIdentity")["Account"])


def thing_groups(session: AwsSession) -> tuple[str, ...]:
    """Return every thing group by name, but for those that certfleet makes for itself. ⌈groups/250⌉ calls."""
    names = (str(entry["groupName"]) for entry in session.find_all("ListThingGroups", "thingGroups") or [])
    return tuple(sorted(name for name in names if name != RECORD_GROUP and policy_in(name) is None))


def depths(session: AwsSession, groups: Iterable[str]) -> dict[str, int]:
    """Return how many of these groups stand above each; FleetError names one that does not exist. One call each."""
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


def private_authorities(session: AwsSession) -> tuple[tuple[CertificateAuthority, ...], tuple[str, ...]]:
    """Return the private CAs that may have issued certificates, by subject, and why others are left out.

    One call for each page of CAs, and one for each CA.
    """
    try:
        pages = session.pages("ListCertificateAuthorities", service="acm-pca")
        listed = [entry for answer in pages for entry in answer["CertificateAuthorities"]]
    except AwsCallError as error:
        if error.is_denied:
            return (), (f"private CAs may not be listed, so what they issued is of an unknown issuer here: {error}",)
        raise
    found, told = [], []
    for entry in listed:
        arn, made = str(entry["Arn"]), entry["CertificateAuthorityConfiguration"]
        ca = PrivateCa(entry["Status"], made["KeyAlgorithm"])
        if ca.status in _WITHOUT_A_CERTIFICATE:
            continue
        if ca.family is None:
            told.append(f"{arn} is left out: this version does not know its key algorithm {ca.key_algorithm}")
        elif session.ask("acm-pca", "GetCertificateAuthorityCertificate", CertificateAuthorityArn=arn) is None:
            told.append(f"{arn} is left out: its certificate cannot be read (it is {ca.status})")
        else:
            subject = str(made.get("Subject", {}).get("CommonName", ""))
            algorithm = next(algorithm for algorithm in CaSigningAlgorithm if algorithm.family is ca.family)
            found.append(CertificateAuthority(subject, arn=arn, signing_algorithm=algorithm))
    return tuple(found), tuple(told)
