"""One device, its cloud, and what is on its way to the device: every world that can follow a world.

Each trouble (a loss, a second copy, a delay …) is paid for. How much may still go wrong, and what only an invariant
asks for, is no part of a world but its ``Spare``: worlds that differ in nothing else are compared by it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import lru_cache
from typing import NamedTuple

import smallworld_backend as backend
import smallworld_cloud as clouds
import smallworld_device as component
import smallworld_pool as pool
from smallworld_backend import THING
from smallworld_cloud import CONNECTED, NEW, THIEFS, Cloud
from smallworld_pool import Interned

from component.certificate_rotator.machine import Event as Happens
from component.certificate_rotator.machine import State
from protocol import topics

THIEF, ALL = 1, 2


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
    races: int = ALL  # what comes between a message and what it does: anything; THIEF: his moves; 0: what is paid late


PRICES = tuple(name for name in Budget._fields if name not in ("at_all", "races"))


class Spare:
    """``budget``; ``late``: messages to the device; ``sent``: those that it may hear again; ``told``: a person was;
    ``proven``: over whose new certificates commits were sent."""

    __slots__ = ("budget", "late", "mask", "payable", "proven", "sent", "told")

    def __init__(self, budget, late, sent, told, proven):
        self.budget, self.late, self.sent, self.told, self.proven = budget, late, sent, told, proven
        self.mask = sum(1 << _BITS[good] for good in _goods(self))
        self.payable = frozenset(price for price in PRICES if budget.at_all and getattr(budget, price))

    def covers(self, other):
        """Whether whatever can be found from a world with the other can be found from it with this one.

        What may go wrong, or be heard yet, only adds steps. That a person was told, or a commit sent, adds none and
        takes none away; it only keeps the judges from finding something.
        """
        return not other.mask & ~self.mask

    @lru_cache(None)  # noqa: B019  # all of them are few, and kept
    def after(self, cost):
        """What there is to spare after a step; None if that cannot be paid."""
        budget, late = self.budget, list(self.late)
        for price in cost.prices:
            left = getattr(budget, price)
            if not (left and budget.at_all):
                return None
            budget = budget._replace(**{price: left - 1, "at_all": budget.at_all - 1})
        if cost.late:
            late.append(cost.late)
        sent = self.sent.union(cost.said)
        return to_spare(budget, late, sent, self.told or cost.told, self.proven | cost.proven, cost.ears)

    @lru_cache(None)  # noqa: B019
    def heard(self, message):
        """Without that late message."""
        late = list(self.late)
        late.remove(message)
        return to_spare(self.budget, late, self.sent, self.told, self.proven)


def to_spare(budget, late=(), sent=(), told=False, proven=frozenset(), ears=None):
    """The one spare with this content: of messages only those that can be heard yet, and will be heeded.

    What the jobs service answers goes past the broker to the client that has asked, once; it is doubled, if at all, by
    the broker, which forgets what it has not delivered when the nucleus starts: the first session of each run is a new
    one. What the backend publishes may be published twice, however late.
    """
    if not (budget.copies and budget.at_all):
        sent = ()
    if ears is not None:
        late = [message for message in late if is_heeded(message, ears.keys)]
        sent = [m for m in sent if is_heeded(m, ears.keys) and (ears.in_session or not clouds.is_of_jobs(m))]
    return spare(budget, tuple(sorted(late)), frozenset(sent), told, proven)


class Cost:
    """What a step costs, and what is learnt by it; ``said``: messages that are sent to the device by it, of which
    ``late`` comes later."""

    __slots__ = ("ears", "late", "prices", "proven", "said", "told")

    def __init__(self, prices, told, proven, said, late, ears):
        self.prices, self.told, self.proven, self.said, self.late = prices, told, proven, said, late
        self.ears = ears


@lru_cache(None)
def cost(device, prices=(), told=False, proven=frozenset(), said=(), late=None):
    """The one cost of this content, for a step after which the device is this one."""
    return _costs(prices, told, proven, said, late, component.ears(device))


def is_heeded(message, keys):
    """Whether it is not a certificate for a key that the device has not."""
    certificate = clouds.certificate_in(message)
    return certificate is None or certificate.partition(".")[0] in keys


def _goods(of):
    """Whatever adds something: it may go wrong, may be heard yet, or was not learnt."""
    for name, amount in of.budget._asdict().items():
        yield from ((name, number) for number in range(amount))
    late = Counter(of.late)
    yield from (("late", message, number) for message in late for number in range(late[message]))
    yield from (("again", message) for message in of.sent)
    yield from ("nobody was told" for _ in range(not of.told))
    yield from (("not proven", whose) for whose in {NEW, THIEFS} - of.proven)


_BITS: dict = defaultdict()  # one for each of them
_BITS.default_factory = _BITS.__len__


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


spare, inbox, _costs = Interned(Spare), Interned(Inbox), Interned(Cost)


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
    """What happens, the world then, what it costs, and the certificates that are gone."""

    label: tuple
    world: World
    cost: Cost
    gone: frozenset = frozenset()
    failed: bool = False


def first():
    """The device has connected and asks in vain; then a job is announced."""
    cloud = clouds.first()
    device = component.start(component.first(), online=True)[0].device
    device = component.hear(device, True, *clouds.NO_JOB)[0].device
    return World(device, cloud, inbox(ANNOUNCEMENT))


ANNOUNCEMENT = (topics.jobs_notify_next(THING), clouds.execution(clouds.QUEUED))


def at_first(budget):
    """What there is to spare then: what the device has heard, it may hear again."""
    return to_spare(budget, sent=(clouds.NO_JOB, ANNOUNCEMENT))


# What can happen next ------------------------------------------------------------------------------------


class Crossroads:
    """A world, and what can follow it with one of these spares."""

    def __init__(self, world, spares, *, races):
        self._payable = frozenset().union(*(left.payable for left in spares))
        self._world, self._hears = world, {}
        self._steps = tuple(steps(world, self._payable, races=races))
        self._listens = world.online and (races == ALL or not world.inbox.messages)

    def successors(self, left):
        """Every step that can be paid, and what there is to spare then."""
        yield from _paid(self._steps, left)
        if self._listens:
            for message in dict.fromkeys(left.late):
                yield from _paid(self._hearing(message, "at last"), left.heard(message))
            again = left.sent and left.after(cost(self._world.device, ("copies",)))
            for message in sorted(left.sent) if again else ():
                yield from _paid(self._hearing(message, "again"), again)

    def _hearing(self, message, how):
        if message not in self._hears:
            label = "the device hears ", how, " ", _name(message)
            self._hears[message] = tuple(_hear(self._world, message, self._payable, label))
        return self._hears[message]


def _paid(steps, left):
    for step in steps:
        rest = left.after(step.cost)
        if rest is not None:
            yield step, rest


def steps(world, payable, *, races):
    """Every step from here but what the device hears late: the free ones first, in the order of a good day.

    What is neither late nor lost comes promptly and in order: before the device starts anew or asks again. What is
    late comes at any time, and the thief moves, the power fails and the cloud ends the job at any time; by ``races``
    only the thief does, or nobody before what is prompt has come. ``payable``: what may go wrong.
    """
    cloud = world.cloud
    is_empty = not world.inbox.messages
    quiet = cloud.quiet and is_empty
    if not is_empty:
        yield from _device_hears(world, payable, races=races)
    if is_empty or races == ALL:
        yield from _in_the_cloud(world, clouds.functions(cloud), payable)
    if "moves" in payable and (quiet or races):
        yield from _thief_moves(world, payable, races=races)
    if not (quiet or races == ALL):
        return
    if quiet:
        yield from _device_starts(world, payable)
        yield from _timer_is_due(world, payable)
        if "pauses" in payable:
            yield from _nothing_happens(world, payable)
    if "deaths" in payable and world.device.memory is not None:
        after = dead(world)
        yield Step(("the power fails",), after, cost(after.device, ("deaths",)))
    if "cloud" in payable:
        yield from _in_the_cloud(world, clouds.ends(cloud), payable)


def _thief_moves(world, payable, *, races):
    """He moves at any point, but what comes to the same a little later, he does then.

    What he tells the cloud changes nothing that is on its way to the device: he does it when all of that has come, or
    right before the device tells the cloud something itself (``overtaken``).
    """
    if world.online and clouds.thiefs(world.cloud.account):
        for name, *message in component.heeded(world.device, clouds.forgeries(world.cloud.account)):
            label = "the thief forges ", name
            yield from _hear(world, message, payable, label, ("moves",), overtaken=bool(world.inbox.messages))
    if races == ALL or not world.inbox.messages:
        yield from _in_the_cloud(world, clouds.thief_updates(world.cloud), payable)
        yield from _in_the_cloud(world, clouds.thief_events(world.cloud), payable)


def _in_the_cloud(world, moves, payable, device=None, label=(), prices=(), *, waited=None):
    """What becomes of the cloud, after a step of the device or without one."""
    device, waited = device or world.device, world.waited if waited is None else waited
    for move in moves:
        if not payable.issuperset(move.prices):
            continue
        after = world_then(device, move.cloud, world.inbox, move.answers, waited=waited)
        learnt = (*prices, *move.prices), move.told, move.proven, move.answers
        step = Step((*label, move.label), after, cost(device, *learnt), move.gone, move.failed)
        yield step
        if move.answers and "delays" in payable and not after.online:
            for answer in move.answers:  # they reach nobody, or somebody later
                late = cost(device, (*learnt[0], "delays"), *learnt[1:], answer)
                yield step._replace(label=(*step.label, ", and the answer will be late"), cost=late)


def world_then(device, cloud, before, answers, *, waited):
    """The world with what was answered on its way; nothing is on its way to a device that is off line."""
    world = World(device, cloud, before, waited)
    if not world.online:
        return world._replace(inbox=inbox())
    return world._replace(inbox=before.with_(answers)) if answers else world


def _take(world, steps, payable, label, principal, *, waited, prices=(), overtaken=False):
    """After a step of the device, and what it has told the cloud with it; the thief may have told something before."""
    for step in steps:
        if payable.issuperset(step.prices):
            moves = clouds.arrive(world.cloud, step.published, principal)
            if overtaken and "moves" in payable:
                moves += clouds.arrive_late(world.cloud, step.published, principal)
            how, paid = (*label, step.how), (*prices, *step.prices)
            yield from _in_the_cloud(world, moves, payable, step.device, how, paid, waited=waited)


def _device_starts(world, payable):
    if world.device.memory is not None:
        return
    certificate = component.in_place(world.device)
    online = certificate in world.cloud.account.active
    steps = component.start(world.device, online)
    if online:
        steps = _noted(steps)
    yield from _take(world, steps, payable, ("the nucleus starts",), certificate, waited=False)


@lru_cache(None)
def _noted(steps):
    return tuple(step._replace(published=(CONNECTED, *step.published)) for step in steps)


def _device_hears(world, payable, *, races):
    message, others = world.inbox.turn()
    rest, name = world._replace(inbox=others), _name(message)
    if not world.online:
        yield Step((name, " reaches nobody"), rest, cost(world.device))
        return
    yield from _hear(rest, message, payable, ("the device hears ", name), overtaken=bool(races))
    if "losses" in payable:
        yield Step((name, " is lost"), rest, cost(world.device, ("losses",)))
    if "delays" in payable:
        yield Step((name, " is late"), rest, cost(world.device, ("delays",), late=message))


@lru_cache(None)
def _name(message):
    topic, payload = message
    certificate = clouds.certificate_in(message) or payload.decode()
    return f"{topic.rpartition('/things/')[2].partition('/')[2]} {certificate}"


def _hear(world, message, payable, label, prices=(), *, overtaken=False):
    steps = component.hear(world.device, True, *message)
    before, after = world.device.memory, steps[0].device.memory
    waited = world.waited and after is not None and after.state is before.state
    loaded = world.device.loaded
    yield from _take(world, steps, payable, label, loaded, waited=waited, prices=prices, overtaken=overtaken)


def _timer_is_due(world, payable):
    """Repeats come when everything else has come; the end of patience when a repeat brought nothing either."""
    device, online = world.device, world.online
    timers = () if device.memory is None else device.memory.timers
    if Happens.TIME_LIMIT in timers and (world.waited or not online or Happens.RESEND not in timers):
        steps = component.timer(device, online, Happens.TIME_LIMIT)
        yield from _take(world, steps, payable, ("its patience ends",), device.loaded, waited=False)
    if Happens.RESEND in timers and (online or device.memory.state in _TRY_AGAIN):
        steps = component.timer(device, online, Happens.RESEND)
        yield from _take(world, steps, payable, ("it asks again",), device.loaded, waited=True)


_TRY_AGAIN = (State.SWITCHING,)


def _nothing_happens(world, payable):
    """Twenty minutes, and the sweep at their end."""
    memory = world.device.memory
    is_urgent = memory is not None and Happens.TIME_LIMIT in memory.timers and world.online
    if not is_urgent:
        yield from _in_the_cloud(world, [clouds.pause(world.cloud, backend.LONG)], payable)


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


def broken_by(before, left, step, *, is_honest):
    """What no step may do; ``is_honest``: the thief has not moved."""
    device = before.device
    proven = left.proven | step.cost.proven
    if pool.FIRST in step.gone and not proven:
        return "the old certificate went without a commit over the new one's connection"
    committed_away = device.loaded == pool.FIRST and proven
    # One that has said FAILED from its old certificate may go to the new one after all, if it had sent a commit of
    # which nobody heard: what it says last decides, and it comes back on the old one by itself.
    is_given_up = device.loaded != pool.FIRST and NEW in proven and step.failed
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
