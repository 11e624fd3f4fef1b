"""A reviewed plan carried out: each action derived anew just before it is made, at a rate, until the first surprise."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from controller.errors import CertfleetError, FleetError
from protocol.watch import Watch

from .facts import ACTIVE, INACTIVE, Held, Waits
from .registry import Registry
from .rules import Action, Kind, of_loose, of_thing


@dataclass(slots=True)
class Done:
    """What was carried out; ``stopped_by`` is the surprise that ended it, at ``stopped_at``."""

    actions: list[Action] = field(default_factory=list)
    stopped_at: Action | None = None
    stopped_by: CertfleetError | None = None


class Healer:
    """Carries actions out. ``rotating`` are things with a rotation at work; ``now`` tells the time."""

    def __init__(
        self, registry: Registry, waits: Waits, rotating: Collection[str], now: Callable[[], datetime]
    ) -> None:
        self._registry, self._waits, self._rotating, self._now = registry, waits, rotating, now

    def carry_out(self, actions: Iterable[Action], pause: Callable[[], None]) -> Done:
        """Do what is still derived, in order; ``pause`` comes before every action but the first."""
        done = Done()
        for action in sorted(actions, key=lambda one: list(Kind).index(one.kind)):
            if done.actions:
                pause()
            try:
                self._do(action)
            except CertfleetError as error:
                done.stopped_at, done.stopped_by = action, error
                break
            done.actions.append(action)
        return done

    def _do(self, action: Action) -> None:
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

    def _required(self, action: Action) -> Held:
        """The certificate, if the rules still ask for this very action; else FleetError."""
        if action.thing:
            thing = self._registry.thing(action.thing, is_rotating=action.thing in self._rotating)
            derived, held = of_thing(thing, self._now(), self._waits)[0], thing.held
        else:
            one = self._registry.certificate(action.certificate_id)
            held = (one,) if one is not None else ()
            derived = of_loose(held[0], self._now(), self._waits)[0] if held else ()
        if action.is_same_as not in {one.is_same_as for one in derived}:
            raise FleetError(
                f"{action.kind.value} {action.certificate_id[:12]} of {action.thing or 'no thing'} is not called for "
                f"any more ({action.precondition}); nothing was done to it, nor after it",
                "look at what has changed, and make the plan again: certfleet heal plan",
            )
        return next(one for one in held if one.certificate_id == action.certificate_id)

    def _take_back_if_used(self, certificate_id: str, seen: datetime | None) -> None:
        """Somebody may have connected between the last look and the change: then it is active again at once."""
        watch = self._registry.watch(certificate_id)
        if watch is not None and watch.last_seen != seen:
            self._registry.set_status(certificate_id, ACTIVE)
            self._registry.save(replace(watch, deactivated=None))
            raise FleetError(
                f"a connection with {certificate_id[:12]} was heard of while it was deactivated; it is active again",
                "make the plan again: certfleet heal plan",
            )
