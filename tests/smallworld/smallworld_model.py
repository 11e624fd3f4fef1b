"""One device, its cloud, and what is on its way to the device: every world that can follow a world.

Each trouble (a loss, a second copy, a delay …) is paid for. How much may still go wrong, and what only an invariant
asks for, is no part of a world but its ``Spare``: worlds that differ in nothing else are compared by it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import smallworld_backend as backend
import smallworld_cloud as clouds
import smallworld_device as component
import smallworld_pool as pool
from smallworld_backend import THING
from smallworld_cloud import CONNECTED, NEW, OLD, THIEFS, Cloud
from smallworld_pool import Interned

from component.certificate_rotator.machine import Event as Happens
from component.certificate_rotator.machine import State
from protocol import topics


class Budget(NamedTuple):
    """What may still go wrong."""

    losses: int = 0
    copies: int = 0
    delays: int = 0
    deaths: int = 0
    troubles: int = 0  # a full disk, a restart that is refused or does not happen
    cloud: int = 0  # ends of the execution by the cloud
    pauses: int = 0  # longer than the backend waits for late evidence
    moves: int = 0  # of the thief
    at_all: int = 99  # of all these together
    races: bool = True  # anything may come between a message and what it does; if not, only what is paid for as late

    def covers(self, other):
        return all(mine >= its for mine, its in zip(self, other, strict=True))


class Spare:
    """``budget``; ``owed``: late messages to the device; ``told``: a person was; ``proven``: over whose certificates
    commits were sent."""

    def __init__(self, budget, owed, told, proven):
        self.budget, self.owed, self.told, self.proven = budget, owed, told, proven

    @lru_cache(None)  # noqa: B019  # all of them are few, and kept
    def covers(self, other):
        """Whether whatever can be found from a world with the other can be found from it with this one.

        What may go wrong only adds steps. That a person was told, or a commit sent, adds none and takes none away; it
        only keeps the judges from finding something.
        """
        return (
            self.budget.covers(other.budget)
            and self.owed >= other.owed
            and self.told <= other.told
            and self.proven <= other.proven
        )

    @lru_cache(None)  # noqa: B019
    def after(self, prices, told=False, proven=frozenset()):
        """What is left when these were paid and that was learnt; None if it cannot be paid."""
        budget = self.budget
        for price in prices:
            left = getattr(budget, price)
            if not (left and budget.at_all):
                return None
            budget = budget._replace(**{price: left - 1, "at_all": budget.at_all - 1})
        return spare(budget, self.owed, self.told or told, self.proven | proven)

    @lru_cache(None)  # noqa: B019
    def owing(self, more):
        """With so many more late messages."""
        return spare(self.budget, self.owed + more, self.told, self.proven)


class Inbox:
    """Messages on their way to the device: (topic, payload), each at most once."""

    def __init__(self, *messages):
        self.messages = messages

    @lru_cache(None)  # noqa: B019
    def with_(self, answers):
        """With these behind."""
        return inbox(*dict.fromkeys((*self.messages, *answers)))

    @lru_cache(None)  # noqa: B019
    def turn(self):
        """The first, and the others."""
        return self.messages[0], inbox(*self.messages[1:])


spare, inbox = Interned(Spare), Interned(Inbox)


class World(NamedTuple):
    device: component.Device
    cloud: Cloud
    inbox: Inbox
    waited: bool = False  # the device has asked again in this step, and nothing came

    @property
    def online(self):
        device = self.device
        return device.memory is not None and device.loaded in self.cloud.account.active


class Step(NamedTuple):
    """What happens, the world and the spare then, and the certificates that are gone."""

    label: str
    world: World
    spare: Spare
    gone: frozenset = frozenset()
    failed: bool = False


def first():
    """The device has connected and asks in vain; then a job is announced."""
    cloud = clouds.first()
    device = component.start(component.first(), online=True)[0].device
    device = component.hear(device, online=True, topic=clouds.get("accepted"), payload=b"{}")[0].device
    return World(device, cloud, inbox((topics.jobs_notify_next(THING), clouds.execution(cloud.execution))))


def unannounced():
    """The job was made while the device had no power: nobody will announce it."""
    return World(component.die(component.first()), clouds.first(), inbox())


# What can happen next ------------------------------------------------------------------------------------


def successors(world, left):
    """Every step from here: the free ones first, in the order of a good day.

    What is neither late nor lost comes promptly and in order: before the device starts anew or asks again. What is
    late comes at any time, and the thief moves, the power fails and the cloud ends the job at any time.
    """
    cloud, races = world.cloud, left.budget.races
    if world.inbox.messages:
        yield from _device_hears(world, left)
        if not races:
            return
    elif world.online:
        yield from _device_hears_late(world, left)
    yield from _in_the_cloud(world, left, clouds.functions(cloud))
    quiet = cloud.quiet and not world.inbox.messages
    if not (quiet or races):
        return
    if quiet:
        yield from _device_starts(world, left)
        yield from _timer_is_due(world, left)
        yield from _nothing_happens(world, left)
    yield from _power_fails(world, left)
    if left.budget.cloud:
        yield from _in_the_cloud(world, left, clouds.ends(cloud))
    if left.budget.moves:
        yield from _in_the_cloud(world, left, clouds.thief_moves(cloud))
        yield from _thief_forges(world, left)


def _in_the_cloud(world, left, moves):
    for move in moves:
        rest = left.after(move.prices, move.told, move.proven)
        if rest is not None:
            after = world_then(world.device, move.cloud, world.inbox, move.answers, waited=world.waited)
            yield Step(move.label, after, rest, move.gone, move.failed)


def world_then(device, cloud, before, answers, *, waited):
    """The world with what was answered on its way; nothing is on its way to a device that is off line."""
    world = World(device, cloud, before, waited)
    if not world.online:
        return world._replace(inbox=inbox())
    return world._replace(inbox=before.with_(answers)) if answers else world


def _take(world, steps, left, label, principal, *, waited):
    """After a step of the device, and what it has told the cloud with it."""
    for step in steps:
        paid = left.after(step.prices)
        if paid is None:
            continue
        for move in clouds.arrive(world.cloud, step.published, principal):
            rest = paid.after(move.prices, move.told, move.proven)
            if rest is not None:
                after = world_then(step.device, move.cloud, world.inbox, move.answers, waited=waited)
                yield Step(f"{label}{step.how}{move.label}", after, rest)


def _device_starts(world, left):
    if world.device.memory is not None:
        return
    certificate = component.in_place(world.device)
    online = certificate in world.cloud.account.active
    steps = component.start(world.device, online)
    if online:
        steps = _noted(steps)
    yield from _take(world, steps, left, "the nucleus starts", certificate, waited=False)


@lru_cache(None)
def _noted(steps):
    return tuple(step._replace(published=(CONNECTED, *step.published)) for step in steps)


def _device_hears(world, left):
    (topic, payload), others = world.inbox.turn()
    rest, name = world._replace(inbox=others), topic.rpartition("/things/")[2].partition("/")[2]
    if not world.online:
        yield Step(f"{name} reaches nobody", rest, left)
        return
    yield from _hear(rest, topic, payload, left, f"the device hears {name}")
    if paid := left.after(("losses",)):
        yield Step(f"{name} is lost", rest, paid)
    if paid := left.after(("delays",)):
        yield Step(f"{name} is late", rest, paid.owing(1))


def _device_hears_late(world, left):
    """Whatever may have been on its way comes at last, or once more: at any time that nothing else is on its way."""
    late = left.owing(-1) if left.owed else None
    for rest, how in ((late, "at last"), (left.after(("copies",)), "again")):
        for name, topic, payload in clouds.said(world.cloud.account, signed=True) if rest else ():
            yield from _hear(world, topic, payload, rest, f"the device hears {name} {how}")


def _thief_forges(world, left):
    if world.online and clouds.thiefs(world.cloud.account) and (rest := left.after(("moves",))):
        for name, topic, payload in clouds.said(world.cloud.account, signed=False):
            yield from _hear(world, topic, payload, rest, f"the thief forges {name}")


def _hear(world, topic, payload, left, label):
    steps = component.hear(world.device, True, topic, payload)
    before, after = world.device.memory, steps[0].device.memory
    stays = after is not None and after.state is before.state
    yield from _take(world, steps, left, label, world.device.loaded, waited=world.waited and stays)


def _timer_is_due(world, left):
    """Repeats come when everything else has come; the end of patience when a repeat brought nothing either."""
    device, online = world.device, world.online
    timers = () if device.memory is None else device.memory.timers
    if Happens.TIME_LIMIT in timers and (world.waited or not online or Happens.RESEND not in timers):
        steps = component.timer(device, online, Happens.TIME_LIMIT)
        yield from _take(world, steps, left, "its patience ends", device.loaded, waited=False)
    if Happens.RESEND in timers and (online or device.memory.state in _TRY_AGAIN):
        steps = component.timer(device, online, Happens.RESEND)
        yield from _take(world, steps, left, "it asks again", device.loaded, waited=True)


_TRY_AGAIN = (State.SWITCHING,)


def _nothing_happens(world, left):
    """Twenty minutes, and the sweep at their end."""
    memory = world.device.memory
    is_urgent = memory is not None and Happens.TIME_LIMIT in memory.timers and world.online
    if left.budget.pauses and not is_urgent:
        yield from _in_the_cloud(world, left, [clouds.pause(world.cloud, backend.LONG)])


def _power_fails(world, left):
    if world.device.memory is not None and (rest := left.after(("deaths",))):
        yield Step("the power fails", dead(world), rest)


def dead(world):
    """The same without power."""
    return World(component.die(world.device), world.cloud, inbox())


# Judgements -----------------------------------------------------------------------------------------------


def is_impersonated(left):
    """The thief has committed a certificate of his own: to the cloud he was the device in all that it could see."""
    return THIEFS in left.proven


def broken_in(world):
    """What must hold in every world."""
    if component.held(world.device).isdisjoint(world.cloud.account.active):
        return "the device holds no credential that works"
    return None


def broken_by(before, left, step, begun):
    """What no step may do."""
    device = before.device
    if pool.FIRST in step.gone and left.proven <= {OLD}:
        return "the old certificate went without a commit over the new one's connection"
    is_honest = step.spare.budget.moves == begun.moves
    committed_away = device.loaded == pool.FIRST and left.proven
    # One that has said FAILED from its old certificate may go to the new one after all, if it had sent a commit of
    # which nobody heard: what it says last decides, and it comes back on the old one by itself.
    is_given_up = device.loaded != pool.FIRST and NEW in left.proven and step.failed
    if is_honest and before.online and device.loaded in step.gone and not committed_away and not is_given_up:
        return "a certificate went with which its device is connected, and that it has not committed away"
    return None


def judged_at_the_end(world, told):
    """What there is when all is over."""
    account, uses = world.cloud.account, component.in_place(world.device)
    if not (world.online and uses in account.active):
        return "! the device ends without a connection"
    if account.names == {uses}:
        rotated = world.cloud.execution == "SUCCEEDED" and len(account.issued) > 1
        if clouds.thiefs(account) and rotated and not told:
            return "! the job has succeeded, and the thief's credential works: nobody was told"
        return "settled on the new one" if uses != pool.FIRST else "settled on the old one"
    return "a person was told" if told else "! certificates are left over, and nobody was told"
