"""One device under its policy at one moment: the input of every check, computed once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from controller.reconcile.schedule import counted_failures, dates_of, timing_of
from controller.reconcile.values import RotationResult, Timing, span_text
from protocol.watch import MOST_HOLDERS

from .governance import drills_on, issued_at, taints

if TYPE_CHECKING:
    from controller.reconcile.schedule import Dates
    from controller.reconcile.values import (
        Attachment,
        Certificate,
        Device,
        DeviceExecution,
        Drill,
        Finding,
        Incident,
        Policy,
        Preflight,
        Unknown,
    )

    from .governance import Governance, Governed

Check = Callable[["Case"], "Finding | None"]
"""A pure function that returns one finding; None if it finds nothing."""

COMING_WITHIN = timedelta(days=7)  # NotYetDue is told from here on
CLOCKS_DIFFER = timedelta(days=1)  # at most, between whoever issues certificates and this machine


class Case:
    """The facts that the checks look at.

    ``certificate`` is the device's only one, None if it has none or several. ``timing`` is None
    if the policy sets no date, and while the earliest possible date lies further ahead than
    ``COMING_WITHIN``, as it does for most of a fleet, of which there is nothing to report.
    """

    __slots__ = (
        "attachment",
        "certificate",
        "dates",
        "demands",
        "device",
        "drills",
        "failures",
        "governance",
        "governed",
        "in_vain",
        "is_before_cutoff",
        "is_urgent",
        "last_rotation",
        "now",
        "policy",
        "result",
        "taints",
        "timing",
    )

    def __init__(self, device: Device, governed: Governed, governance: Governance) -> None:
        self.device, self.governed, self.governance = device, governed, governance
        self.policy: Policy = governed.policy
        self.now: datetime = governance.now
        self.attachment: Attachment | None = device.attachments[0] if len(device.attachments) == 1 else None
        self.certificate: Certificate | None = self.attachment.certificate if self.attachment else None
        self.dates: Dates | None = None
        self.timing: Timing | None = None
        self.taints: tuple[Incident, ...] = ()  # by deadline; of any certificate that is attached
        if governed.incidents:
            held = [attachment.certificate for attachment in device.attachments]
            self.taints = tuple(i for i in governed.incidents if any(taints(i, c) for c in held))
        self.drills: tuple[Drill, ...] = drills_on(governance, governed.policy, device)  # by deadline
        self.is_before_cutoff = self.is_urgent = False
        self.last_rotation: DeviceExecution | None = None  # of which the certificate came; of who has demands
        self.in_vain: Finding | None = None  # the demand that it should have put right
        self.demands: tuple[Finding, ...] = ()  # what is demanded of the certificate, once that has been asked
        self.failures: tuple[DeviceExecution, ...] = ()
        self.result: RotationResult | Unknown | None = (
            None  # what a rotation makes of it; None: no certificate could be read
        )
        if self.certificate is not None:
            self._look_at(self.certificate)

    @property
    def is_triggered(self) -> bool:
        """Whether age or expiry calls for a rotation by now."""
        return self.timing is not None and (self.timing.start <= self.now or self.timing.due <= self.now)

    @property
    def is_to_come(self) -> bool:
        """Whether the certificate's validity begins only later, by more than clocks differ."""
        start = self.certificate.not_before if self.certificate else None
        return start is not None and start - self.now > CLOCKS_DIFFER

    @property
    def preflight(self) -> Preflight | None:
        """The device's pre-flight answer about this very rotation, unless the device was rotated or tried since."""
        found, certificate, result = self.device.preflight, self.certificate, self.result
        if found is None or certificate is None or not isinstance(result, RotationResult):
            return None
        newest = max([certificate.created_at, *(failure.last_updated_at for failure in self.failures)])
        wanted = replace(result.document("", None), policy=None)
        return found if found.at >= newest and replace(found.asked, policy=None, commit=None) == wanted else None

    @property
    def is_split(self) -> bool:
        """Whether the device gets a certificate of its own if others hold the one that it has."""
        return self.is_to_be_split and self.governance.state.splits and not self.is_held_by_too_many

    @property
    def is_to_be_split(self) -> bool:
        """Whether the policy demands that a shared certificate is split."""
        return self.policy.certificate.shared_certificate is not None

    @property
    def is_held_by_too_many(self) -> bool:
        """Whether so many things hold the certificate that no backend splits it."""
        return self.attachment is not None and self.attachment.others >= MOST_HOLDERS

    @property
    def is_tried_again(self) -> bool:
        """Whether a person has asked that this device be tried again now, whatever came of it before."""
        return self.device.name in self.governance.overrides.again

    def since(self, instant: datetime) -> str:
        """Return how long ago that was, in words; no less than nothing, as AWS's clock may be ahead of this one."""
        return span_text(max(timedelta(0), self.now - instant))

    def rotation_timing(self) -> Timing:
        """Return when this device, which must rotate, does: by its dates, or now, or as soon as a window opens."""
        ends = [incident.deadline for incident in self.taints[:1]] + [drill.deadline for drill in self.drills[:1]]
        if self.certificate is not None and self.certificate.not_after is not None:
            ends.append(self.certificate.not_after)
        deadline = min(ends, default=None)
        timing, start = self.timing, self.now
        if timing is None or not self.is_triggered:
            timing = Timing(self.now, self.now, self.now)
        if not self.is_urgent and not self.governed.is_open_now:
            window = self.governed.opens
            start = window.start if window else datetime.max.replace(tzinfo=self.now.tzinfo)
        elif timing.start < start:
            start = timing.start
        return Timing(timing.due, timing.target, start, self.is_urgent, timing.misses_max_age, deadline)

    def _look_at(self, certificate: Certificate) -> None:
        if certificate.key_type is not None and certificate.parse_error is None:
            self.result = self.governance.result_for(self.governed, certificate, self.device)
        if self.device.failures:
            self.failures = counted_failures(self.device, certificate, self.policy.name, self.governed.family)
        dates = self.dates = None if self.is_to_come else dates_of(self.policy, certificate)
        if dates is None:
            return
        if self.governed.cutoff is not None:
            issued = issued_at(certificate)
            self.is_before_cutoff = issued is not None and issued < self.governed.cutoff
        self.is_urgent = (
            self.is_before_cutoff
            or (bool(self.taints) and any(incident.ignore_windows for incident in self.taints))
            or (bool(self.drills) and any(drill.ignore_windows for drill in self.drills))
            or dates.urgent_from <= self.now
        )
        if dates.due is None:
            return
        if dates.due <= self.now:
            # Overdue: it starts as soon as it may, so where the schedule had put it does not matter any more.
            self.timing = Timing(dates.due, dates.due, self.now, self.is_urgent, misses_max_age=True)
        elif dates.due - dates.jitter <= self.now + COMING_WITHIN:
            self.timing = timing_of(self.policy, certificate, dates, self.governed.open_time, is_urgent=self.is_urgent)
