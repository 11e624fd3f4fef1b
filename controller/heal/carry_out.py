"""A reviewed plan carried out: each action derived anew just before it is made, at a rate, until the first surprise.

Quarantine alone goes on after a surprise: no device waits to be cut off, or brought back, because of another one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from controller.errors import CertfleetError, FleetError
from controller.reconcile.values import Quarantine
from protocol.quarantine import Quarantined
from protocol.watch import Watch

from .facts import ACTIVE, INACTIVE, CertificateHolders, HealingWaits
from .quarantine import Suspect, concerning, kept_off, meant_by, of_suspect
from .registry import HealingRegistry
from .rules import OF_QUARANTINE, HealingAction, Kind, of_loose, of_thing

ROUNDS = 3  # of cutting off, until a thing is at rest
LINGERS = "is still connected: AWS IoT ends the connections of an INACTIVE certificate within minutes"


@dataclass(slots=True)
class Done:
    """The actions carried out, and their notes; ``stopped_by`` is the first surprise, ``stopped_at`` its action."""

    actions: list[HealingAction] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stopped_at: HealingAction | None = None
    stopped_by: CertfleetError | None = None


class Healer:
    """Carries actions out. ``rotating`` are things with a rotation at work; ``now`` gives the time.

    ``quarantines`` are the documents as they stand now.
    """

    def __init__(
        self,
        registry: HealingRegistry,
        waits: HealingWaits,
        rotating: Collection[str],
        now: Callable[[], datetime],
        quarantines: Sequence[Quarantine] = (),
    ) -> None:
        self._registry, self._waits, self._rotating, self._now = registry, waits, rotating, now
        self._quarantines = quarantines

    def carry_out(self, actions: Iterable[HealingAction], pause: Callable[[], None]) -> Done:
        """Do the actions that the rules still derive, in order; ``pause`` comes before every action but the first."""
        done = Done()
        for number, action in enumerate(sorted(actions, key=lambda one: list(Kind).index(one.kind))):
            if done.stopped_by is not None and action.kind not in OF_QUARANTINE:
                break
            if number:
                pause()
            try:
                note = self._do(action)
            except CertfleetError as error:
                if done.stopped_by is None:
                    done.stopped_at, done.stopped_by = action, error
                else:
                    done.notes.append(f"not done: {action.kind.value} {action.thing or action.certificate_id}: {error}")
                continue
            done.actions.append(action)
            done.notes += [note] if note else []
        return done

    def _do(self, action: HealingAction) -> str | None:
        if action.kind in OF_QUARANTINE:
            suspect = self._suspect(action)
            if not self._is_called_for(action, suspect):
                raise _not_called_for(action)
            if action.kind is Kind.LIFT:
                self._lift(suspect)
                return None
            return self._cut_off(action, suspect)
        held = self._required(action)
        now = self._now()
        watch = held.watch or Watch(held.certificate_id, action.thing, now)
        if action.kind is Kind.WATCH:
            anew = replace(watch, thing=action.thing, since=now, first_own=None, last_seen=None, deactivated=None)
            self._registry.save(anew)  # who shared it, and who else was seen with it, is known still
        elif action.kind is Kind.ACTIVATE:
            self._registry.set_status(held.certificate_id, ACTIVE)
            self._registry.save(replace(watch, deactivated=None))
        elif action.kind is Kind.DEACTIVATE:
            self._registry.save(replace(watch, deactivated=now))
            self._registry.set_status(held.certificate_id, INACTIVE)
            self._take_back_if_used(held.certificate_id, watch.last_seen)
        else:
            self._registry.remove(held)
        return None

    def _is_called_for(self, action: HealingAction, suspect: Suspect) -> bool:
        """Return whether the rules still ask for what was approved.

        One document may name several certificates of a thing. The plan has the first of them, which may be gone.
        """
        derived = of_suspect(suspect, self._quarantines)[0]
        if action.is_same_as in {one.is_same_as for one in derived}:
            return True
        together = [one.certificates for one in self._quarantines if action.certificate_id in one.certificates]
        return action.kind is Kind.QUARANTINE and any(
            one.kind is action.kind and one.thing == action.thing and one.certificate_id in named
            for one in derived
            for named in together
        )

    def _suspect(self, action: HealingAction) -> Suspect:
        if action.thing:
            return self._registry.suspect(action.thing)
        return self._registry.loose_suspect(action.certificate_id)

    def _cut_off(self, action: HealingAction, suspect: Suspect) -> str | None:
        """Cut off until nothing is left: a rotation under way may bring another certificate. Return a note, if any.

        The quarantine is recorded first: from then on the backend makes and removes no certificate of the thing.
        """
        for _ in range(ROUNDS):
            meant = [held for held in meant_by(suspect, self._quarantines) if held.status is ACTIVE]
            now = self._now()
            record = suspect.record or Quarantined(suspect.thing, now, suspect.certificate_id)
            noted = {**record.deactivated, **{held.certificate_id: now for held in meant}}
            if suspect.record is None or noted != record.deactivated:
                self._registry.save_quarantined(replace(record, deactivated=noted))
            for held in meant:
                self._registry.set_status(held.certificate_id, INACTIVE)
            goes_on = any(held.status is ACTIVE and held not in meant for held in suspect.held)
            try:
                is_away = not suspect.thing or self._registry.end_connections(suspect.thing, may_return=goes_on)
            finally:
                for job_id in suspect.jobs:
                    self._registry.cancel(suspect.thing, job_id)
            suspect = self._suspect(action)
            if not suspect.jobs and not any(held.status is ACTIVE for held in meant_by(suspect, self._quarantines)):
                return None if is_away else f"{suspect.thing} {LINGERS}"
        raise FleetError(
            f"{suspect.thing or suspect.certificate_id[:12]} was cut off {ROUNDS} times, and each time "
            "somebody made it a new job, or gave it an active certificate",
            "find out who makes them, and make the plan again: certfleet heal plan --only quarantine",
        )

    def _lift(self, suspect: Suspect) -> None:
        """Bring back what quarantine deactivated, but for what a document names still; the record goes last."""
        record = suspect.record
        assert record is not None  # noqa: S101 (else there is nothing to lift)
        kept = {held.certificate_id for held in kept_off(suspect, self._quarantines)}
        for certificate_id in suspect.brought_back.keys() - kept:
            self._registry.set_status(certificate_id, ACTIVE)
        left = {one: at for one, at in record.deactivated.items() if one in kept}
        if left or concerning(suspect, self._quarantines):
            self._registry.save_quarantined(replace(record, deactivated=left))
        else:
            self._registry.forget_quarantined(record)

    def _required(self, action: HealingAction) -> CertificateHolders:
        """Return the certificate, if the rules still ask for this very action; else FleetError."""
        if action.thing:
            thing = self._registry.thing(action.thing, is_rotating=action.thing in self._rotating)
            derived, held = of_thing(thing, self._now(), self._waits)[0], thing.held
        else:
            one = self._registry.certificate(action.certificate_id)
            held = (one,) if one is not None and self._registry.quarantined("", action.certificate_id) is None else ()
            derived = of_loose(held[0], self._now(), self._waits)[0] if held else ()
        if action.is_same_as not in {one.is_same_as for one in derived}:
            raise _not_called_for(action)
        return next(one for one in held if one.certificate_id == action.certificate_id)

    def _take_back_if_used(self, certificate_id: str, seen: datetime | None) -> None:
        """Activate the certificate again, and stop, if somebody connected between the last look and the change."""
        watch = self._registry.watch(certificate_id)
        if watch is not None and watch.last_seen != seen:
            self._registry.set_status(certificate_id, ACTIVE)
            self._registry.save(replace(watch, deactivated=None))
            raise FleetError(
                f"a device connected with certificate {certificate_id[:12]} while it was being deactivated; "
                "it is active again",
                "make the plan again: certfleet heal plan",
            )


def _not_called_for(action: HealingAction) -> FleetError:
    what = action.certificate_id[:12] or "all certificates"
    return FleetError(
        f"{action.kind.value} {what} of {action.thing or 'no thing'} is not called for any more "
        f"(it was planned for: {action.precondition}); this action was not done, and of those after it "
        "only quarantines",
        "look at what has changed, and make the plan again: certfleet heal plan",
    )
