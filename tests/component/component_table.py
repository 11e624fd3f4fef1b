"""The machine's table, judged by what it makes a device do: a small world that is fair, and every trouble in it.

A world is a value: what the device is (the component's own rotator, actions, journal and store, see
tests/smallworld/smallworld_device.py), what the cloud holds, and what is on its way to the device. The cloud answers at
once; time passes only when nothing is on its way. Troubles are counted, and every world within so many is judged by
rules that know nothing of states and rows (component_table_rules.py).
"""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

import smallworld_device as component
import smallworld_pool as pool
from smallworld_backend import DOCUMENT, THING
from smallworld_pool import FIRST

from component.certificate_rotator import rotator
from component.certificate_rotator.actions import NO_REASON
from component.certificate_rotator.machine import ROWS, Event, State
from protocol import topics

BIT = {(row.state, row.event): 1 << number for number, row in enumerate(ROWS)}
OPEN = ("QUEUED", "IN_PROGRESS")
RESTING = (State.IDLE, State.ASKING)
AT_ONCE = 50  # events that one may lead to
GET, CREATE, COMMIT = topics.jobs_get_next(THING), topics.create(THING), topics.commit(THING)
CERTIFICATE_NEW, KEY_NEXT = f"{component.CERTIFICATE}.new", f"{component.KEY}.next"
NOTIFY = topics.jobs_notify_next(THING)

# One step of the device ----------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What came of an input; ``rows`` of the table were looked at, as bits."""

    device: component.Device
    published: tuple
    rows: int
    points: int  # at which the power can fail
    waits: tuple  # in seconds, as they were decided
    restarted: int  # times
    is_error: bool
    log: tuple  # of warnings


class _Ports(component._Ports):
    """Also notes how long is waited for, and whether the device goes on after a restart as nucleus lite wants it.

    Every start is another run of the nucleus, see ``World.dead``.
    """

    run = "this"

    def __init__(self, online, restart):
        super().__init__(online, restart)
        self.waits, self.restarted, self.outlived = [], 0, restart == "works"
        _Ports.last = self

    def nucleus_run(self):
        return _Ports.run

    def restart(self):
        self.restarted += 1
        super().restart()
        self.ended = False

    def call_soon(self, action):
        super().call_soon(action)
        self.ended = self.restarted > 0  # it goes on, by the journal: as at a start

    def call_later(self, seconds, action):
        self.waits.append(seconds)
        return self


class _Log(logging.Handler):
    def __init__(self):
        super().__init__(logging.WARNING)
        self.records = []

    def emit(self, record):
        self.records.append(record)


class _Looked(dict):
    """A table that notes which of its rows were asked for."""

    rows = times = 0

    def get(self, key):
        self.rows |= BIT.get(key, 0)
        self.times += 1
        if self.times > AT_ONCE:
            raise Endless
        return super().get(key)


class Endless(BaseException):
    """One event leads to another for ever."""


_log = _Log()


@contextmanager
def watching():
    """Log and ports of the device are those of this module, for as long as it lasts."""
    logger, ports, table = logging.getLogger("component.certificate_rotator"), component._Ports, rotator.TABLE
    before = logger.level, logger.propagate
    logger.addHandler(_log)
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    component._Ports = _Ports
    try:
        yield
    finally:
        component._Ports, rotator.TABLE = ports, table
        logger.removeHandler(_log)
        logger.level, logger.propagate = before


def _act(kind, *what):
    def start(rotator_):
        rotator_._start()

    def hear(rotator_):
        topic, payload = what
        for topic_filter, decoder in rotator_._incoming.subscriptions():
            wanted, found = topic_filter.split("/"), topic.split("/")
            if len(wanted) == len(found) and all(w in ("+", f) for w, f in zip(wanted, found)):
                rotator_._read(decoder, topic, payload)

    def timer(rotator_):
        rotator_._timers.pop(what[0])
        rotator_._dispatch(what[0])

    return {"start": start, "hear": hear, "timer": timer}[kind]


def take_step(table, device, online, doing, trouble):
    rotator.TABLE = looked = _Looked(table)
    _log.records.clear()
    how = dict(trouble)
    _Ports.run, kill_at = how.pop("run", "this"), how.pop("kill_at", None)
    try:
        step, killed = component._run(device, online, _act(*doing), **how)
    except Endless:
        return Outcome(device, (), looked.rows, 0, (), 0, True, ())
    ports = _Ports.last
    if kill_at is not None:
        step = killed[kill_at] if kill_at < len(killed) else step
        return Outcome(step.device, step.published, looked.rows, 0, (), 0, False, ())
    is_error = any(record.exc_info and record.levelno >= logging.ERROR for record in _log.records)
    goes_on = step.device.memory is None or not ports.outlived
    is_error = is_error or (ports.restarted > 0 and not goes_on)
    log, waits = tuple(record.getMessage() for record in _log.records), tuple(ports.waits)
    return Outcome(step.device, step.published, looked.rows, len(killed), waits, ports.restarted, is_error, log)


# The cloud -----------------------------------------------------------------------------------------------


class Cloud(NamedTuple):
    """``job``: the execution's status, of the job with this number; ``rotation``: (job, key, certificate, old one)."""

    job: str
    number: int
    active: frozenset
    rotation: tuple | None = None
    committed: bool = False  # the rotation
    issued: frozenset = frozenset()  # (job, certificate)
    proven: frozenset = frozenset()  # those of which a commit was accepted
    succeeded: frozenset = frozenset()  # jobs
    undecided: frozenset = frozenset()  # ended after a commit: the next connection shows which is used
    clearing: bool = False  # the execution has ended, and nobody has cleared away after it yet
    quirk: str = ""  # as long as the job lasts: what is not answered, whom the registry does not let in, …

    def lets_in(self, certificate):
        refused = self.quirk == "new refused" and self.rotation is not None and certificate == self.rotation[2]
        return certificate in self.active and not refused

    def connected(self, certificate):
        if certificate in self.undecided:
            return self._replace(active=self.active - self.undecided | {certificate}, undecided=frozenset())
        return self

    def ended(self, status):
        """The execution has ended, or waits to be done again."""
        return self._replace(job=status, quirk="").cleared()

    def cleared(self):
        """What one certificate too many comes to."""
        after = self._replace(rotation=None, clearing=False)
        if self.rotation is None or (self.rotation[0] != self.number and not self.clearing):
            return self._replace(clearing=False)
        number, _, new, old = self.rotation
        if not self.committed:
            return after._replace(active=self.active - {new})
        if self.job == "SUCCEEDED" and number == self.number:
            return after._replace(active=self.active - {old})
        return after._replace(undecided=frozenset({old, new}))


def job(number):
    return f"job-{number}"


@lru_cache(None)
def execution(cloud_job, number):
    if cloud_job not in OPEN:
        return b"{}"
    return json.dumps({"execution": {"jobId": job(number), "status": cloud_job, "jobDocument": DOCUMENT}}).encode()


def announcement(cloud):
    return NOTIFY, execution(cloud.job, cloud.number)


def answered(cloud, topic, message, principal, *, refused=False):
    """The cloud and the answers after a message of the device; what it tells that is not so, as the name of a rule."""
    if topic == GET:
        if refused or cloud.quirk == "throttled":
            return cloud, ((f"{topic}/rejected", b'{"code": "RequestThrottled"}'),), None
        return cloud, ((f"{topic}/accepted", execution(cloud.job, cloud.number)),), None
    if topic in (CREATE, COMMIT):
        return _backend(cloud, topic, message, principal, refused)
    return _update(cloud, topic, message, principal)


def _update(cloud, topic, message, principal):
    token, status = {"clientToken": message["clientToken"]}, message["status"]
    if topic != topics.jobs_update(THING, job(cloud.number)) or cloud.job not in OPEN:
        has_succeeded = any(topic == topics.jobs_update(THING, job(number)) for number in cloud.succeeded)
        state = {"executionState": {"status": "SUCCEEDED" if has_succeeded else "TIMED_OUT"}}
        refusal = {"code": "InvalidStateTransition", "message": "terminal", **state, **token}
        return cloud, ((f"{topic}/rejected", json.dumps(refusal).encode()),), None
    accepted = ((f"{topic}/accepted", json.dumps(token).encode()),)
    if status == "IN_PROGRESS":
        begun = cloud.rotation is not None and principal == cloud.rotation[3] and not cloud.clearing
        unheard = cloud.quirk == "claim unanswered"
        return cloud._replace(job=status), () if unheard else accepted, "again" if begun else None
    broken = None
    if status == "SUCCEEDED" and (cloud.number, principal) not in cloud.proven:
        broken = "untrue"
    if status == "FAILED":
        said = message["statusDetails"].get("DeviceFailureReason", "")
        is_new = cloud.rotation is not None and principal == cloud.rotation[2]
        if is_new and cloud.quirk != "rotated already":  # it had told before that it rotates, and was refused
            broken = "untrue"
        elif not said or NO_REASON in said:
            broken = "no reason"
    succeeded = cloud.succeeded | ({cloud.number} if status == "SUCCEEDED" else set())
    return cloud.ended(status)._replace(succeeded=succeeded), accepted, broken


def _backend(cloud, topic, message, principal, refused):
    number = int(message["jobId"].rpartition("-")[2] or 0)
    after, answer, broken = (_create if topic == CREATE else _commit)(cloud, number, message, principal)
    if refused:
        after, answer = cloud, {"errorMsg": "no"}
    if cloud.quirk == f"{topic.rpartition('/')[2]} unanswered" or (cloud.quirk == SILENT and topic == COMMIT):
        return after, (), broken
    outcome = "rejected" if "errorMsg" in answer else "accepted"
    return after, ((f"{topic}/{outcome}", json.dumps({**answer, "jobId": job(number)}).encode()),), broken


def _create(cloud, number, message, principal):
    cloud = cloud.cleared() if cloud.clearing else cloud
    key = next(name for name in pool.DEVICES if pool.csr(name) == message["csr"])
    if cloud.job != "IN_PROGRESS" or number != cloud.number:
        return cloud, {"errorMsg": "no rotation in progress"}, None
    if cloud.rotation is not None and cloud.rotation[0] == number:
        if cloud.rotation[1] == key and not cloud.committed:
            return cloud, {"certificatePem": pool.certificate_pem(cloud.rotation[2])}, None
        return cloud._replace(quirk="rotated already"), {"errorMsg": "no"}, None
    if cloud.active != {principal}:
        return cloud, {"errorMsg": "not exactly one certificate"}, None
    new = f"{key}.1"
    after = cloud._replace(
        active=cloud.active | {new}, rotation=(number, key, new, principal), committed=False,
        issued=cloud.issued | {(number, new)},
    )  # fmt: skip
    return after, {"certificatePem": pool.certificate_pem(new)}, None


def _commit(cloud, number, message, principal):
    if (number, principal) in cloud.proven:
        return cloud, {}, None
    if cloud.rotation is None or cloud.rotation[0] != number or cloud.rotation[2] != principal:
        return cloud, {"errorMsg": "not the new certificate"}, None if (number, principal) in cloud.issued else "untrue"
    if cloud.job != "IN_PROGRESS" and not cloud.committed:
        return cloud, {"errorMsg": "no rotation in progress"}, None
    return cloud._replace(committed=True, proven=cloud.proven | {(number, principal)}), {}, None


# The world -----------------------------------------------------------------------------------------------


class World(NamedTuple):
    """A device, its cloud, and what is on its way to the device; then what only the rules ask for."""

    device: component.Device
    cloud: Cloud
    inbox: tuple = ()
    waited: bool = False  # the device has asked again in this state, and nothing came
    stuck: int = 0  # restarts to come that do nothing; -1: all as long as the job lasts
    owed: bool = False  # what the device waits for was lost, or cannot come
    excused: bool = False  # the job may fail
    sent: frozenset = frozenset()  # certificates over which a commit was sent
    commits: int = 0  # starts at which a commit was sent over what is in place
    committed_now: bool = False  # at this start too
    accepted: bool = False  # one of them, as the device has noted
    accepted_now: bool = False  # at this start
    is_sole: bool = False  # another was issued over what is in place, as it is to the sole certificate of a device
    got: frozenset = frozenset()  # certificates that the device was given
    exchanges: int = 0  # of the two credentials since the last installation; a commit that was accepted counts as one

    @property
    def online(self):
        return self.device.memory is not None and self.cloud.lets_in(self.device.loaded)

    @property
    def rests(self):
        memory = self.device.memory
        is_free = memory is not None and memory.state in RESTING and memory.record is None
        return is_free and Event.TIME_LIMIT not in memory.timers

    def dead(self):
        """Without power; what comes then is another run of the nucleus than the journal tells of."""
        device = self.device
        files = tuple((name, data.replace(b'"run": "this"', b'"run": "before"') if name == component.JOURNAL else data)
                      for name, data in device.files)  # fmt: skip
        after = component.device(files, None, None, device.keys)
        return self._replace(
            device=after, inbox=(), owed=False, waited=False, committed_now=False, accepted_now=False, stuck=0
        )


class Step(NamedTuple):
    """What happens, the world then, its price, and the rule that it breaks (component_table_rules.py)."""

    label: str
    world: World
    cost: int = 0
    broken: str | None = None


class Act(NamedTuple):
    """One input of the device with all that belongs to it, for the rules."""

    before: World
    device: component.Device
    doing: tuple
    trouble: tuple
    found: Outcome
    after: World

    @property
    def is_other(self):
        """Whether the other credential lies in place now."""
        return component.in_place(self.found.device) != component.in_place(self.device)

    @property
    def installs(self):
        return hears(self.doing, f"{CREATE}/accepted")

    @property
    def confirms(self):
        return hears(self.doing, f"{COMMIT}/accepted")


START = ("start",)
RESEND, TIME_LIMIT = ("timer", Event.RESEND), ("timer", Event.TIME_LIMIT)
SILENT = "commits are not answered any more"  # trouble enough: no other comes to it
LOST, REFUSED = "lost", "refused"  # what becomes of a message of the device


def told(doing):
    """An input in words."""
    what = doing[1].partition("/things/")[2].partition("/")[2] if doing[0] == "hear" else doing[-1]
    return f"{doing[0]} {getattr(what, 'value', what)}"


def hears(doing, topic, payload=None):
    return doing[0] == "hear" and doing[1].endswith(topic) and payload in (None, doing[2])


def is_refused_claim(doing):
    return hears(doing, "/update/rejected") and b"in_progress" in doing[2]


def inputs(world):
    """What can happen to the device by itself: what is on its way comes before time passes."""
    device = world.device
    if device.memory is None:
        return [START]
    if world.inbox:
        return [("hear", *world.inbox[0])]
    timers, state = device.memory.timers, device.memory.state
    tries = Event.RESEND in timers and (world.online or state in (State.SWITCHING, State.IDLE))
    ends = Event.TIME_LIMIT in timers and (world.waited or not world.online or Event.RESEND not in timers)
    return [RESEND] * tries + [TIME_LIMIT] * ends


def troubles(found, doing):
    """What can go wrong on the device in a step."""
    yield from ((("kill_at", point),) for point in range(found.points))
    if found.points:
        yield (("full", True),)
    if found.restarted:
        yield from ((("restart", how),) for how in ("refused", "nothing"))
    if hears(doing, f"{COMMIT}/accepted"):
        yield (("run", "other"),)  # the nucleus has restarted by itself since, on lite


def settled_offline(world):
    """Nothing is on its way to a device that is off line."""
    return world if world.online else world._replace(inbox=())


def heard(after, act, message):
    """The world once the cloud has heard what the device has published; what of it is not so, as the name of a rule."""
    cloud, inbox, owed, excused, untrue = after.cloud, after.inbox, after.owed, after.excused, None
    principal, sent = act.device.loaded, after.sent
    for topic, payload in act.found.published:
        if topic == COMMIT:
            sent = sent | {principal}
        if message == LOST:
            owed = True
            continue
        is_refused = message == REFUSED
        cloud, answers, found = answered(cloud, topic, json.loads(payload), principal, refused=is_refused)
        is_excused = found == "again" and act.before.cloud.rotation[2] not in after.got
        untrue = untrue or (None if is_excused else found)
        inbox += tuple(answer for answer in answers if answer not in inbox)
        owed = not answers or answers[0][0] == f"{GET}/rejected"  # throttled: to be asked again
        excused = excused or (is_refused and (topic != GET or bool(journal(act.device))))
    return after._replace(cloud=cloud, inbox=inbox, sent=sent, owed=owed, excused=excused), untrue


def is_owed(act):
    """Whether the device must wait after this trouble: for its disk, or for a restart."""
    if act.before.stuck and act.found.restarted:
        return True
    if not act.trouble or (act.installs and ("restart", "refused") in act.trouble):
        return False
    in_place, cloud = component.in_place(act.found.device), act.before.cloud
    is_new = (cloud.number, in_place) in cloud.issued
    return act.doing == START or act.confirms or is_new or in_place != act.device.loaded


def counted(after, act):
    """What only the rules ask for."""
    world, found = act.before, act.found
    is_same_state = found.device.memory and act.device.memory and found.device.memory.state is act.device.memory.state
    commits, committed_now = (0, False) if act.is_other else (world.commits, world.committed_now)
    if COMMIT in dict(found.published) and not committed_now:
        commits, committed_now = min(commits + 1, 2), True
    is_noted = found.device.memory is not None or journal(found.device) != journal(act.device)
    accepted_now = not act.is_other and (world.accepted_now or (act.confirms and is_noted))
    accepted = not act.is_other and (world.accepted or accepted_now)
    is_sole = not act.is_other and (world.is_sole or act.installs)
    accepted = accepted or is_sole
    stuck = world.stuck - (world.stuck > 0 and found.restarted > 0)
    if ("restart", "nothing") in act.trouble:
        stuck = -1 if act.installs else 1
    exchanges = min(world.exchanges + (act.is_other or ("full", True) in act.trouble), 3)
    given = {world.cloud.rotation[2]} if act.installs and world.cloud.rotation else set()
    return after._replace(
        got=world.got | given,
        is_sole=is_sole, commits=commits, committed_now=committed_now, accepted=accepted, accepted_now=accepted_now,
        exchanges=0 if act.installs else 1 if act.confirms else exchanges,
        stuck=stuck if after.cloud.job in OPEN else max(0, stuck),
        waited=(world.waited or act.doing == RESEND) and bool(is_same_state),
    )  # fmt: skip


@lru_cache(None)
def journal(device):
    data = dict(device.files).get(component.JOURNAL)
    return json.loads(data) if data else {}


def around(world):
    """What the cloud does by itself."""
    cloud = world.cloud

    def queued(after):
        inbox = (*world.inbox, announcement(after)) if world.online else ()
        learns = world.rests or (world.device.memory is None and (cloud.job in OPEN or not journal(world.device)))
        is_contested = cloud.clearing or bool(after.undecided) or (after.clearing and after.committed)
        excused = not learns or (cloud.job in OPEN and world.rests) or is_contested
        return settled_offline(world._replace(cloud=after, inbox=inbox, excused=excused))

    excused = world._replace(excused=True)
    if cloud.job == "IN_PROGRESS":
        late = cloud._replace(clearing=cloud.rotation is not None, quirk="")
        step = journal(world.device).get("step")
        is_new = cloud.rotation is not None and component.in_place(world.device) == cloud.rotation[2]
        is_late = step == "CONNECTING" or (step == "INSTALLING" and is_new)
        for what, after in (("", cloud.ended("TIMED_OUT")), (", and cleared away later", late))[: 1 + is_late]:
            yield f"timed out{what}", settled_offline(excused._replace(cloud=after._replace(job="TIMED_OUT")))
            yield f"queued again{what}", queued(after._replace(job="QUEUED"))
    elif cloud.job == "QUEUED":
        yield "canceled", excused._replace(cloud=cloud.ended("CANCELED"))
    elif cloud.job == "FAILED":
        yield "queued again", queued(cloud._replace(job="QUEUED"))
    if cloud.number == 1:
        ended = cloud.ended("CANCELED") if cloud.job in OPEN else cloud
        yield "another job", queued(ended._replace(job="QUEUED", number=2))
    for certificate in sorted(cloud.undecided):
        others = component.held(world.device) & cloud.active - {certificate}
        if others and (certificate == FIRST or world.device.memory is None):
            after = cloud._replace(active=cloud.active - {certificate}, undecided=frozenset())
            yield f"{certificate} goes", settled_offline(excused._replace(cloud=after))
    yield from _for_as_long_as_the_job_lasts(excused)


def _for_as_long_as_the_job_lasts(excused):
    cloud = excused.cloud
    if not cloud.quirk and cloud.job in OPEN and not (cloud.committed and cloud.rotation):
        quirks = ["commit unanswered", "new refused"] if cloud.rotation else ["claim unanswered", "create unanswered"]
        noted = journal(excused.device)
        if excused.online and noted.get("step") == "RECONNECTING" and noted["job_id"] == job(cloud.number):
            quirks.append("throttled")
        for quirk in quirks:
            yield quirk, settled_offline(excused._replace(cloud=cloud._replace(quirk=quirk), owed=True))


def bits(mask):
    while mask:
        low = mask & -mask
        yield low
        mask ^= low
