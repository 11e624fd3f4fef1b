"""The policy that governs a device, and what follows from policy, documents and backend for all its devices.

Built once per run from the desired and the actual state, so that a device costs a few comparisons.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from controller.reconcile.rollout import asked_by, broken_off_of, successes_of
from controller.reconcile.schedule import Interval, OpenTime, open_time_of
from controller.reconcile.values import NO_OVERRIDES, RotationResult, Unknown, family_of, result_of, result_of_stock

from .quiet import Quiet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from controller.reconcile.values import (
        Certificate,
        CertificateRule,
        DesiredState,
        Device,
        DeviceExecution,
        Drill,
        FleetState,
        Halt,
        Incident,
        Overrides,
        Policy,
        Quarantine,
        Waiver,
    )
    from protocol.job_document import JobDocument

# ACM-PCA puts notBefore an hour before the moment of issue by default, AWS IoT some minutes.
BACKDATING_TOLERANCE = timedelta(minutes=65)


@dataclass(frozen=True, slots=True)
class Governed:
    """A policy, and what is the same for all its devices."""

    policy: Policy
    family: str  # of the present rollout; see rollout_family
    open_time: OpenTime
    cutoff: datetime | None  # rotateIssuedBefore, once that instant has come
    is_suspended: bool
    incidents: tuple[Incident, ...]  # all of the fleet's, by deadline and name
    is_open_now: bool
    opens: Interval | None  # the open time that is, or comes next
    quiet: Quiet | None  # None where more than its age bears on whether a certificate has something to say
    results: dict[tuple[str | None, str | None], RotationResult | Unknown] = field(
        default_factory=dict
    )  # worked out already


@dataclass(frozen=True, slots=True)
class Tie:
    """Policies that claim a device with equal priority, by name."""

    policies: tuple[str, ...]


class Governance:
    """The desired state, ready to be asked about one device after the other."""

    def __init__(
        self, desired: DesiredState, state: FleetState, now: datetime, overrides: Overrides = NO_OVERRIDES
    ) -> None:
        self.desired, self.state, self.now, self.overrides = desired, state, now, overrides
        self.is_stock = state.backend_is_stock
        incidents = tuple(sorted(desired.incidents, key=lambda i: (i.deadline, i.name)))
        self.policies = {p.name: self._govern(p, incidents) for p in sorted(desired.policies, key=lambda p: p.name)}
        self._by_group: dict[str, list[Governed]] = {}
        for governed in self.policies.values():
            self._by_group.setdefault(governed.policy.thing_group, []).append(governed)
        self._verdicts: dict[tuple[str, ...], Governed | Tie | None] = {}
        self._quarantines = sorted(desired.quarantines, key=lambda q: (q.since, q.name))
        self.drills = tuple(sorted((d for d in desired.drills if d.runs_at(now)), key=lambda d: (d.deadline, d.name)))
        self.drilled = frozenset(device for drill in self.drills for device in drill.devices)  # by whatever policy
        self._waivers = {device: waiver for waiver in self._waivers_in_force() for device in waiver.devices}

    @cached_property
    def successes(self) -> dict[str, DeviceExecution]:
        """The latest execution of each device that succeeded, in any rotation job."""
        return successes_of(self.state.jobs)

    @cached_property
    def broken_off(self) -> dict[str, DeviceExecution]:
        """The latest execution of each device that had begun when its job was cancelled, or let it go."""
        return broken_off_of(self.state.jobs)

    @cached_property
    def documents(self) -> dict[str, JobDocument]:
        """The document of each job, by its id."""
        return {job.job_id: asked_by(job) for job in self.state.jobs}

    def policy_of(self, device: Device) -> Governed | Tie | None:
        """Return the policy that governs the device; Tie if several claim it, None if none does."""
        try:
            return self._verdicts[device.groups]
        except KeyError:
            verdict = self._verdicts[device.groups] = self._highest(device.groups)
            return verdict

    def claims_on(self, device: Device) -> tuple[str, ...]:
        """Return the policy that governs the device, or all that claim it with equal priority; by name."""
        verdict = self.policy_of(device)
        if isinstance(verdict, Tie):
            return verdict.policies
        return () if verdict is None else (verdict.policy.name,)

    def result_for(self, governed: Governed, certificate: Certificate, device: Device) -> RotationResult | Unknown:
        """Return what a rotation makes of the device that holds this certificate.

        This is worked out once for each kind of certificate.
        """
        if self.is_stock:
            return result_of_stock(device, self.state.stock, self.desired)
        key = certificate.key_type, certificate.authority
        found = governed.results.get(key)
        if found is None:
            found = governed.results[key] = result_of(certificate, governed.policy, self.desired, self.state.deployment)
        return found

    def resumed_at(self, policy: str) -> datetime | None:
        """Return up to when a person has looked at the policy's failures and lets it go on; None if nobody has."""
        before = self.state.baseline.resumed.get(policy) if self.state.baseline else None
        if policy not in self.overrides.resume:
            return before
        now = self.overrides.given_at or self.now
        return max(now, before) if before else now

    def halt_of(self, governed: Governed) -> Halt | None:
        """Return the halt on record for the present rollout; None if there is none, or a person lets it go on."""
        name = governed.policy.name
        found = self.state.baseline.halted.get(name) if self.state.baseline else None
        is_in_force = found is not None and found.family == governed.family and name not in self.overrides.resume
        return found if is_in_force else None

    def waiver_of(self, device: str) -> Waiver | None:
        """Return the waiver in force for the device, of several the longest; None if there is none."""
        return self._waivers.get(device)

    def holds_end(self, device: str, governed: Governed) -> list[datetime]:
        """Return when the waiver in force for the device ends, and its policy's suspension, if there are any."""
        waiver, suspension = self._waivers.get(device), governed.policy.suspend
        ends = [waiver.expires] if waiver else []
        return [*ends, suspension.until] if suspension and governed.is_suspended else ends

    def quarantine_of(self, device: Device) -> Quarantine | None:
        """Return the quarantine that the device is in, of several the first; None if it is in none."""
        return next(iter(self.quarantines_of(device)), None)

    def quarantines_of(self, device: Device) -> list[Quarantine]:
        """Return every quarantine that the device is in, those that name it first, the oldest of each first."""
        held = [attachment.certificate.certificate_id for attachment in device.attachments]
        found = [one for one in self._quarantines if one.concerns(device.name, held)]
        return sorted(found, key=lambda one: device.name not in one.devices)

    def _highest(self, groups: tuple[str, ...]) -> Governed | Tie | None:
        claims = [governed for group in sorted(set(groups)) for governed in self._by_group.get(group, ())]
        if not claims:
            return None
        highest = max(governed.policy.priority for governed in claims)
        top = [governed for governed in claims if governed.policy.priority == highest]
        return top[0] if len(top) == 1 else Tie(tuple(sorted(governed.policy.name for governed in top)))

    def _govern(self, policy: Policy, incidents: tuple[Incident, ...]) -> Governed:
        cutoff = policy.certificate.rotate_issued_before
        is_cut = cutoff is not None and cutoff <= self.now
        is_splitting = policy.certificate.shared_certificate is not None and bool(
            self.state.shared
        )  # each is looked up
        open_time = open_time_of(policy.schedule.windows)
        return Governed(
            policy=policy,
            family=family_of(policy, self.desired.authorities),
            open_time=open_time,
            cutoff=cutoff if is_cut else None,
            is_suspended=policy.suspend is not None and policy.suspend.until > self.now,
            incidents=incidents,
            is_open_now=open_time.is_open(self.now),
            opens=open_time.next_open(self.now),
            quiet=None if incidents or is_cut or is_splitting else Quiet(self.now),
        )

    def _waivers_in_force(self) -> Iterator[Waiver]:
        in_force = (waiver for waiver in self.desired.waivers if waiver.expires > self.now)
        return iter(sorted(in_force, key=lambda waiver: (waiver.expires, waiver.name)))


def issued_at(certificate: Certificate) -> datetime | None:
    """Return when the certificate was issued: its registration, or a much older notBefore; None if unknown."""
    if certificate.not_before is None:
        return None
    if certificate.created_at - certificate.not_before <= BACKDATING_TOLERANCE:
        return max(certificate.created_at, certificate.not_before)
    return certificate.not_before


def taints(incident: Incident, certificate: Certificate) -> bool:
    """Return whether the certificate matches every condition that the incident gives."""
    issued = issued_at(certificate)
    return (
        (incident.authority is None or certificate.authority == incident.authority)
        and (incident.key_type is None or certificate.key_type == incident.key_type)
        and (incident.issued_after is None or (issued is not None and issued >= incident.issued_after))
        and (incident.issued_before is None or (issued is not None and issued < incident.issued_before))
    )


def drills_on(governance: Governance, policy: Policy, device: Device) -> tuple[Drill, ...]:
    """Return the running drills, by deadline, that name the device and are younger than a certificate that it holds."""
    if device.name not in governance.drilled:
        return ()
    issued = [at for one in device.attachments if (at := issued_at(one.certificate)) is not None]
    own = (drill for drill in governance.drills if drill.policy == policy.name and device.name in drill.devices)
    return tuple(drill for drill in own if any(at < drill.since for at in issued))


def would_taint_successor(incident: Incident, rule: CertificateRule, now: datetime) -> bool:
    """Return whether a certificate issued now as the rule demands could match the incident again."""
    return (
        (incident.authority is None or rule.authority in {None, incident.authority})
        and (incident.key_type is None or rule.key_type in {None, incident.key_type})
        and (incident.issued_after is None or now >= incident.issued_after)
        and (incident.issued_before is None or now < incident.issued_before)
    )
