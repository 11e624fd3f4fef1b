"""One device, its backend, AWS IoT's jobs between them, and what may go wrong: every world that can follow a world.

A world is a value: device, execution, account, what Lambda has yet to run, what is on its way to the device, what
has happened that an invariant asks for, and what may still go wrong. AWS IoT gives no order to what its rules
hand over, so that any event may run next; each trouble (a loss, a second copy, a delay …) is paid for.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import NamedTuple

import smallworld_backend as backend
import smallworld_device as component
import smallworld_pool as pool
from smallworld_backend import DOCUMENT, JOB, Event
from smallworld_device import THING

from component.certificate_rotator.machine import Event as Happens
from component.certificate_rotator.machine import State
from protocol import topics

QUEUED, IN_PROGRESS = "QUEUED", "IN_PROGRESS"
OPEN = (QUEUED, IN_PROGRESS)
THIEFS_KEY = "t1"


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

    @lru_cache(None)  # noqa: B019  # budgets are few, and values
    def spend(self, what):
        """What is left without one of these; None where there is none."""
        left = getattr(self, what)
        return self._replace(**{what: left - 1, "at_all": self.at_all - 1}) if left and self.at_all else None


class Pending(NamedTuple):
    """An event that a rule has handed over and Lambda has not run."""

    event: Event
    sent: int
    late: bool = False


class World(NamedTuple):
    device: component.Device
    execution: str | None  # None: deleted
    account: backend.Account
    times: tuple  # that stand in the account's table
    pending: tuple
    inbox: tuple  # (topic, payload)
    now: int
    over: int = 0  # since when the execution has ended
    owed: int = 0  # messages to the device that are late
    waited: bool = False  # the device has asked again in this step, and nothing came
    proven: tuple = ()  # certificates over whose connection a commit was sent
    told: bool = False
    later: int = 0  # how much of what comes when all is over has come (smallworld_search.py)

    @property
    def online(self):
        device = self.device
        return device.memory is not None and device.loaded in self.account.active

    @property
    def quiet(self):
        """Nothing is on its way but what is late."""
        return not self.inbox and all(p.late for p in self.pending)


def first():
    device = component.start(component.first(), online=True)["done"][0].device
    [step] = component.hear(device, online=True, topic=_get("accepted"), payload=b"{}")["done"]
    announced = (topics.jobs_notify_next(THING), _execution(QUEUED))
    return World(step.device, QUEUED, backend.first(), (), (), (announced,), 0)


def canonical(world):
    """The same world with the smallest instants, and what is late in a fixed order."""
    over = world.now if world.execution in OPEN else world.over
    small, _ = backend.squeeze(frozenset((world.now, over, *world.times, *(p.sent for p in world.pending))))
    return world._replace(
        times=_one(tuple(small[t] for t in world.times)),
        pending=_one(tuple(sorted((p._replace(sent=small[p.sent]) for p in world.pending), key=_late_last))),
        inbox=_one(world.inbox if world.online else ()),
        now=small[world.now],
        over=small[over],
    )


@lru_cache(None)
def _one(values):
    """Of equal ones always the same, which takes less room."""
    return values


def _late_last(item):
    return (True, *item) if item[-1] else (False,)


# What AWS IoT's jobs answer -----------------------------------------------------------------------------


def _get(outcome):
    return f"$aws/things/{THING}/jobs/$next/get/{outcome}"


def _execution(status):
    return json.dumps({"execution": {"jobId": JOB, "status": status, "jobDocument": DOCUMENT}}).encode()


def _told_next(world):
    return _execution(world.execution) if world.execution in OPEN else b"{}"


def _update(world, topic, message):
    """The device's (or the thief's) update of the execution."""
    token = {"clientToken": message["clientToken"]} if "clientToken" in message else {}
    if world.execution not in OPEN:
        refusal = {"code": "InvalidStateTransition", "message": "terminal", **token}
        return _to_device(world, f"{topic}/rejected", json.dumps(refusal).encode())
    world = _to_device(world, f"{topic}/accepted", json.dumps(token).encode())
    return (
        _ended(world, message["status"]) if message["status"] != IN_PROGRESS else world._replace(execution=IN_PROGRESS)
    )


def _ended(world, status):
    execution = None if status == "DELETED" else status
    return _hand_over(world._replace(execution=execution, over=world.now), Event("ended", None, status))


def _to_device(world, topic, payload):
    message = (topic, payload)
    return world if message in world.inbox else world._replace(inbox=(*world.inbox, message))


def _hand_over(world, event):
    return world._replace(pending=(*world.pending, Pending(event, world.now)), now=world.now + 1)


# What the device does ------------------------------------------------------------------------------------


def _take(world, steps, budget, label, principal):
    """Worlds after a step of the device: it goes well, the power fails in it, or something else does."""
    for step in steps["done"]:
        yield from _publish(world._replace(device=step.device), step.published, budget, label, principal)
    for price, what in (("deaths", "the power fails in the middle"), ("troubles", "disk or restart in trouble")):
        left = budget.spend(price)
        if left is not None:
            for step in steps[price]:
                yield from _publish(
                    world._replace(device=step.device), step.published, left, f"{label}, {what}", principal
                )


def _publish(world, messages, budget, label, principal):
    """Each message of the device arrives, or is lost on its way to the cloud."""
    if not messages:
        yield label, world, budget
        return
    (topic, payload), rest = messages[0], messages[1:]
    for how, after, left in _arrive(world, topic, json.loads(payload), budget, principal):
        yield from _publish(after, rest, left, label + how, principal)


def _arrive(world, topic, message, budget, principal):
    if topic == topics.jobs_get_next(THING):
        yield "", _to_device(world, _get("accepted"), _told_next(world)), budget
        return
    if topic in (topics.create(THING), topics.commit(THING)):  # lost as an event, if at all
        yield "", request(world, topic, message, principal), budget
        return
    yield "", _update(world, topic, message), budget
    left = budget.spend("losses")
    if left is not None:
        yield ", update lost", world, left


def request(world, topic, message, principal):
    """A create or commit on its way to its function."""
    if message["jobId"] != JOB:
        return world
    if topic == topics.commit(THING):
        proven = tuple(sorted({*world.proven, principal}))
        return _hand_over(world._replace(proven=proven), Event("commit", principal))
    return _hand_over(world, Event("create", principal, key_of(message["csr"])))


def key_of(csr):
    return next(name for name in ("d1", "d2", "d3", "d4", "d5", "d6", THIEFS_KEY) if pool.csr(name) == csr)


# What can happen next ------------------------------------------------------------------------------------


def successors(world, budget):
    """(what happens, the world then, what may still go wrong).

    What is neither late nor lost comes promptly and in order: before the device starts anew or asks again. What is
    late comes at any time, and the thief moves, the power fails and the cloud ends the job at any time.
    """
    yield from _device_hears(world, budget)
    if world.inbox and not budget.races:
        return
    yield from _function_runs(world, budget)
    if not (world.quiet or budget.races):
        return
    if world.quiet:
        yield from _device_starts(world, budget)
        yield from _timer_is_due(world, budget)
        yield from _nothing_happens(world, budget)
    yield from _power_fails(world, budget)
    yield from _cloud_ends(world, budget)
    if left := budget.spend("moves"):
        yield from _thief_moves(world, left)


def _turns(queue):
    """The first of those that are not late, and every one that is; each with the rest."""
    prompt = True
    for index, item in enumerate(queue):
        if item[-1] or prompt:
            yield item, (*queue[:index], *queue[index + 1 :])
        prompt = prompt and item[-1]


def _device_starts(world, budget):
    if world.device.memory is not None:
        return
    certificate = component.in_place(world.device)
    online = certificate in world.account.active
    if online:
        world = _hand_over(world, Event("connected", certificate))
    steps = component.start(world.device, online)
    yield from _take(world._replace(waited=False), steps, budget, "the nucleus starts", certificate)


def _device_hears(world, budget):
    if world.inbox:
        (topic, payload), *others = world.inbox
        rest, name = world._replace(inbox=tuple(others)), topic.rpartition("/things/")[2].partition("/")[2]
        if not world.online:
            yield f"{name} reaches nobody", rest, budget
            return
        yield from _hear(rest, topic, payload, budget, f"the device hears {name}")
        if left := budget.spend("losses"):
            yield f"{name} is lost", rest, left
        if left := budget.spend("delays"):
            yield f"{name} is late", rest._replace(owed=world.owed + 1), left
    elif world.online:
        yield from _device_hears_late(world, budget)


def _device_hears_late(world, budget):
    """Whatever may have been on its way comes at last, or once more: at any time that nothing else is on its way."""
    copied = budget.spend("copies")
    for name, topic, payload in said(world, {"jobId": JOB}) if world.owed or copied else ():
        if world.owed:
            late = world._replace(owed=world.owed - 1)
            yield from _hear(late, topic, payload, budget, f"the device hears {name} at last")
        if copied:
            yield from _hear(world, topic, payload, copied, f"the device hears {name} again")


def _hear(world, topic, payload, budget, label):
    steps = component.hear(world.device, True, topic, payload)
    yield from _take(_moved_on(world, steps), steps, budget, label, world.device.loaded)


def _moved_on(world, steps):
    before, after = world.device.memory, steps["done"][0].device.memory
    return world if after is not None and after.state is before.state else world._replace(waited=False)


def _function_runs(world, budget):
    for pending, others in _turns(world.pending):
        rest, name = world._replace(pending=others), " ".join(filter(None, pending.event))
        yield f"Lambda runs {name}", run(rest, pending), budget
        if pending.late:
            continue
        if left := budget.spend("losses"):
            yield f"{name} is lost", rest, left
        later = rest._replace(pending=(*others, pending._replace(late=True)))
        if left := budget.spend("copies"):
            yield f"Lambda runs {name}, and will again", run(later, pending), left
        if left := budget.spend("delays"):
            yield f"{name} is late", later, left


def run(world, pending):
    outcome = backend.handle(
        world.account, world.times, pending.event, pending.sent, world.now, world.execution, world.over
    )
    world = world._replace(
        account=outcome.account, times=outcome.times, told=world.told or outcome.told, now=world.now + 1
    )
    for topic, payload in outcome.published:
        world = _to_device(world, topic, payload)
    return world


def _timer_is_due(world, budget):
    """Repeats come when everything else has come; the end of patience when a repeat brought nothing either."""
    memory = world.device.memory
    if memory is None:
        return
    if Happens.RESEND in memory.timers and (world.online or memory.state in _TRY_AGAIN):
        steps = component.timer(world.device, world.online, Happens.RESEND)
        yield from _take(world._replace(waited=True), steps, budget, "it asks again", world.device.loaded)
    if Happens.TIME_LIMIT in memory.timers and (world.waited or not world.online or not _asks(memory)):
        steps = component.timer(world.device, world.online, Happens.TIME_LIMIT)
        yield from _take(world._replace(waited=False), steps, budget, "its patience ends", world.device.loaded)


_TRY_AGAIN = (State.SWITCHING,)


def _asks(memory):
    return Happens.RESEND in memory.timers


def _power_fails(world, budget):
    if world.device.memory is not None and (left := budget.spend("deaths")):
        yield "the power fails", world._replace(device=component.die(world.device), waited=False), left


def _cloud_ends(world, budget):
    left = budget.spend("cloud")
    if left is None or world.execution not in OPEN:
        return
    for status in ("CANCELED", "DELETED") if world.execution == QUEUED else ("TIMED_OUT", "DELETED"):
        yield f"the cloud ends the job: {status}", _ended(world, status), left


def _nothing_happens(world, budget):
    """Twenty minutes, and the sweep at their end; a request that Lambda still holds is given up by then."""
    left = budget.spend("pauses")
    memory = world.device.memory
    if left is None or (memory is not None and Happens.TIME_LIMIT in memory.timers and world.online):
        return
    yield "twenty minutes pass", pause(world, backend.LONG), left


def pause(world, long):
    pending = tuple(p for p in world.pending if p.event.kind not in ("create", "commit"))
    world = world._replace(pending=pending, now=world.now + long)
    return run(world, Pending(Event("sweep"), world.now))


# What a thief does who holds the key that the device has when the world begins ----------------------------


def thiefs(world):
    """The certificates that the thief can connect with."""
    return [n for n, status, _ in world.account.certificates
            if status == "ACTIVE" and (n == pool.FIRST or n.startswith(THIEFS_KEY))]  # fmt: skip


def _thief_moves(world, left):
    for certificate in thiefs(world):
        yield f"the thief connects with {certificate}", _hand_over(world, Event("connected", certificate)), left
        yield (
            f"the thief commits over {certificate}",
            request(world, topics.commit(THING), {"jobId": JOB}, certificate),
            left,
        )
        if world.execution == IN_PROGRESS:
            asked = Event("create", certificate, THIEFS_KEY)
            yield f"the thief asks for a certificate over {certificate}", _hand_over(world, asked), left
    if not thiefs(world):
        return
    for status in ("IN_PROGRESS", "SUCCEEDED", "FAILED", "REJECTED"):
        if world.execution in OPEN and (status != IN_PROGRESS or world.execution == QUEUED):
            told = _update(world, topics.jobs_update(THING, JOB), {"status": status})
            yield f"the thief says {status}", told._replace(inbox=world.inbox), left
    if world.online:
        for name, topic, payload in said(world, {}):
            yield from _hear(world, topic, payload, left, f"the thief forges {name}")


def said(world, signed):
    """Whatever the jobs service or a backend can tell the device; the worst policy lets any client of the thing."""
    update = topics.jobs_update(THING, JOB)
    yield "commit/accepted", f"{topics.commit(THING)}/accepted", json.dumps(signed).encode()
    yield "commit/rejected", f"{topics.commit(THING)}/rejected", json.dumps({"errorMsg": "no", **signed}).encode()
    yield "create/rejected", f"{topics.create(THING)}/rejected", json.dumps({"errorMsg": "no", **signed}).encode()
    for name, _, _ in world.account.certificates:
        body = json.dumps({"certificatePem": pool.certificate_pem(name), **signed}).encode()
        yield f"create/accepted with {name}", f"{topics.create(THING)}/accepted", body
    yield "no job", _get("accepted"), b"{}"
    yield "a queued job", _get("accepted"), _execution(QUEUED)
    yield "a job in progress", _get("accepted"), _execution(IN_PROGRESS)
    yield "a throttled get", _get("rejected"), b'{"code": "RequestThrottled"}'
    yield "update/accepted", f"{update}/accepted", b"{}"
    yield "update/rejected", f"{update}/rejected", b'{"code": "InvalidStateTransition"}'
    yield "an announcement", topics.jobs_notify_next(THING), _execution(QUEUED)
