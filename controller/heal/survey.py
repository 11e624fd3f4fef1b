"""A whole account looked through: every thing and certificate that healing may have to do with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime

from controller.fleet.aws import AwsSession
from controller.fleet.progress import Progress
from controller.fleet.rotation_table import rotation_table
from controller.reconcile.values import DesiredState, Device, FleetState, Refusal, count_text, names_text
from protocol.deployment import DeployedBackend

from .facts import ACTIVE, HealingWaits
from .quarantine import concerning, of_suspect, too_many
from .registry import HealingRegistry
from .rules import HealingAction, Kind, Untidy, of_loose, of_thing


def survey(
    session: AwsSession,
    registry: HealingRegistry | None,
    devices: Iterable[Device],
    state: FleetState,
    *,
    now: datetime,
    waits: HealingWaits,
    progress: Progress,
    besides: Collection[str] = (),
) -> tuple[tuple[HealingAction, ...], tuple[Untidy, ...]]:
    """Return what is to be done, and what is left to a person.

    Cost: the account's certificates and policies are listed, six calls for each thing that holds several or inactive
    certificates, and three for each certificate that no governed thing holds.

    Args:
        registry: None if no backend of ours hears of connections; then everything is left to a person.
        besides: Things, and ids of certificates, that are left to their quarantine.
    """
    by_target = _policies(session)
    held: set[str] = set()
    suspects: list[Device] = []
    bare: list[str] = []
    wide: list[str] = []
    for device in devices:
        ids = {one.certificate.certificate_id for one in device.attachments}
        held |= ids
        if device.name in besides or not ids.isdisjoint(besides):
            continue
        if len(ids) > 1 or any(one.certificate.status is not ACTIVE for one in device.attachments):
            suspects.append(device)
        if ids and not any(by_target.get(session.arn(f"cert/{one}")) for one in ids):
            bare.append(device.name)
        if any(one.type not in state.rotatable for one in device.attachments):
            wide.append(device.name)
    actions: list[HealingAction] = []
    untidy = [*_summed_up(bare, wide, state), *_unused(by_target)]
    if registry is None:
        return (), (*untidy, *(_unwatched(device) for device in suspects))
    for number, device in enumerate(suspects, 1):
        found = of_thing(registry.thing(device.name, is_rotating=is_rotating(device)), now, waits)
        actions += found[0]
        untidy += found[1]
        progress("things", number, len(suspects))
    loose = sorted(_certificates(session) - held - set(besides))
    for number, certificate_id in enumerate(loose, 1):
        one = registry.certificate(certificate_id)
        found = of_loose(one, now, waits) if one is not None else ((), ())
        actions += found[0]
        untidy += found[1]
        progress("certificates", number, len(loose))
    return tuple(sorted(actions)), tuple(untidy)


def of_quarantines(
    session: AwsSession, desired: DesiredState, deployment: DeployedBackend | None
) -> tuple[tuple[HealingAction, ...], tuple[Untidy, ...], tuple[Refusal, ...]]:
    """As ``survey_quarantines``; if the deployment is not one of ours, cutting off is left to a person."""
    table = rotation_table(session)
    if table is not None:
        return survey_quarantines(HealingRegistry(session, table), desired, deployment)
    remedy = (
        "deploy this project's backend, which remembers whom quarantine has cut off; until then by hand: "
        "aws iot update-certificate --new-status INACTIVE, aws iot-data delete-connection"
    )
    found = (
        "this project's backend is not deployed, so that a quarantine could not be lifted again; no device is cut off"
    )
    return (), tuple(Untidy("quarantine", one.name, found, remedy) for one in desired.quarantines), ()


def survey_quarantines(
    registry: HealingRegistry, desired: DesiredState, deployment: DeployedBackend | None
) -> tuple[tuple[HealingAction, ...], tuple[Untidy, ...], tuple[Refusal, ...]]:
    """Return what is to be done for the documents' quarantines, what is left to a person, and what is refused.

    ``deployment`` is the backend. Cost: one query, three calls for each named certificate, and about six for each
    thing with one certificate.
    """
    quarantines, records = desired.quarantines, registry.all_quarantined()
    names = {name for one in quarantines for name in one.devices} | {one.thing for one in records if one.thing}
    loose = {one.certificate_id for one in records if not one.thing}
    untidy: list[Untidy] = []
    for certificate_id in sorted({one for document in quarantines for one in document.certificates}):
        held = registry.certificate(certificate_id)
        if held is None:
            untidy.append(_gone(certificate_id))
        elif held.things:
            names |= set(held.things)
        else:
            loose.add(certificate_id)
    suspects = [*map(registry.suspect, sorted(names)), *map(registry.loose_suspect, sorted(loose))]
    actions: list[HealingAction] = []
    for suspect in suspects:
        found = of_suspect(suspect, quarantines)
        actions += found[0]
        untidy += found[1]
    new = [one for one in actions if one.kind is Kind.QUARANTINE]
    if new and (deployment is None or not deployment.heeds_quarantine):
        untidy.append(_of_a_backend_of_before(len(new)))
    there = sum(  # who is to be brought back is so only after the others are cut off
        one.record is not None or (one.is_there and bool(concerning(one, quarantines))) for one in suspects
    )
    refusal = too_many(there, len(new), desired.fleet.guardrails)
    return tuple(sorted(actions)), tuple(untidy), () if refusal is None else (refusal,)


def _gone(certificate_id: str) -> Untidy:
    remedy = (
        "if a rotation has replaced it, and its successor may be in wrong hands, name the device: "
        "certfleet evidence --format csv shows which one held it"
    )
    return Untidy("quarantine of nobody", certificate_id, "the registry has no such certificate", remedy)


def _of_a_backend_of_before(number: int) -> Untidy:
    found = (
        f"the deployed backend knows no quarantine: a rotation under way on {count_text(number, 'device')} may go on"
    )
    remedy = "deploy this project's backend in this version; the devices are cut off all the same"
    return Untidy("backend of before", "the fleet", found, remedy)


def is_rotating(device: Device) -> bool:
    """Return whether a rotation is asked of the device, or at work on it."""
    return any(not one.status.is_terminal for one in device.executions)


def _policies(session: AwsSession) -> dict[str | None, list[str]]:
    """Return the policies by what they are attached to; under None those that are attached to nothing."""
    found: defaultdict[str | None, list[str]] = defaultdict(list)
    for page in session.pages("ListPolicies"):
        for policy in page["policies"]:
            name = policy["policyName"]
            targets = [
                one for answer in session.pages("ListTargetsForPolicy", policyName=name) for one in answer["targets"]
            ]
            for target in targets or [None]:
                found[target].append(name)
    return found


def _certificates(session: AwsSession) -> set[str]:
    pages = session.pages("ListCertificates")
    return {one["certificateId"] for page in pages for one in page["certificates"]}


def _unused(by_target: dict[str | None, list[str]]) -> Iterator[Untidy]:
    """Yield policies that nothing has; healing deletes none, as a provisioning template may name one."""
    for name in by_target.get(None, ()):
        remedy = f"delete it if no provisioning template names it: aws iot delete-policy --policy-name {name}"
        yield Untidy("policy of nothing", name, "it is attached to no certificate and no thing group", remedy)


def _summed_up(bare: list[str], wide: list[str], state: FleetState) -> Iterator[Untidy]:
    if bare:
        remedy = "attach one, unless a thing group's policy serves them: aws iot attach-policy (docs/backend.md)"
        yield Untidy("certificate without a policy", count_text(len(bare), "thing"), names_text(bare), remedy)
    if wide:
        remedy = (
            "deploy this project's backend, which rotates them as they are and attaches the successor exclusively: "
            "whether AWS IoT changes an attachment in place is not documented, and detaching would leave a device "
            "without a certificate for a moment"
        )
        yield Untidy("attached non-exclusively", count_text(len(wide), "thing"), names_text(wide), remedy)
    if state.unmanaged_count:
        found = f"such as {names_text(state.unmanaged, 3)}"
        remedy = "put them into a governed group"
        yield Untidy("governed by no policy", count_text(state.unmanaged_count, "thing"), found, remedy)


def _unwatched(device: Device) -> Untidy:
    states = ", ".join(
        f"{one.certificate.certificate_id[:12]} {one.certificate.status.value}" for one in device.attachments
    )
    remedy = "deploy this project's backend, rules on, which learns from connections what is in use"
    return Untidy("several or inactive certificates", device.name, states, remedy)
