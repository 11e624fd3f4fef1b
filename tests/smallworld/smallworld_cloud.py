"""The cloud as a value: AWS IoT's jobs, the account, and what Lambda has yet to run; and what can happen to it.

AWS IoT gives no order to what its rules hand over, so that any event may run next. Nothing here knows how the device
stands: what follows is worked out once for each cloud, and a million worlds have a few thousand of them.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import NamedTuple

import smallworld_backend as backend
import smallworld_pool as pool
from smallworld_backend import DOCUMENT, JOB, THING, Event
from smallworld_pool import Interned

from protocol import topics

QUEUED, IN_PROGRESS = "QUEUED", "IN_PROGRESS"
OPEN = (QUEUED, IN_PROGRESS)
THIEFS_KEY = "t1"
NEW, THIEFS = "new", "thief's"  # whose new certificate a commit came over
CONNECTED = ("connected", b"")  # what the registry notes when a device connects
MANY = 200_000  # clouds of which it is remembered what follows


class Pending(NamedTuple):
    """An event that a rule has handed over and Lambda has not run."""

    event: Event
    sent: int
    late: bool = False


class Cloud:
    """``execution``: its status, None if deleted; ``times``: the instants in the account's table; ``over``: its end."""

    __slots__ = ("account", "execution", "now", "over", "pending", "quiet", "times")

    def __init__(self, execution, account, times, pending, now, over):
        self.execution, self.account, self.times = execution, account, times
        self.pending, self.now, self.over = pending, now, over
        self.quiet = all(p.late for p in pending)


clouds = Interned(Cloud)


class Move(NamedTuple):
    """Something happens to the cloud: at which price, what is there then, and what it tells."""

    label: str
    prices: tuple
    cloud: Cloud
    answers: tuple = ()  # to the device
    told: bool = False  # a person was told
    proven: frozenset = frozenset()  # over whose new certificate a commit was sent
    gone: frozenset = frozenset()  # certificates
    failed: bool = False  # after a FAILED, and no commit was heard of


def cloud(execution, account, times, pending, now, over):
    """The one cloud with this content: what can matter yet, the smallest instants, what is late in a fixed order."""
    over = now if execution in OPEN else over
    execution, account, times, pending = what_can_matter(execution, account, times, pending)
    marks = [(now, NOW), (over, END)]
    marks += zip(times, account.instants, strict=True)
    marks += ((p.sent, word) for p in pending for word in _words(p.event))
    small = squeeze(frozenset(marks))
    late_last = sorted(
        (p._replace(sent=small[p.sent]) for p in pending), key=lambda p: (True, *p) if p.late else (False,)
    )
    times = tuple(small[t] for t in times)
    return clouds(execution, account, _one(times), _one(tuple(late_last)), small[now], small[over])


_one = lru_cache(None)(lambda values: values)  # of equal ones always the same, which takes less room

# What an instant is to the evidence; those of one word are never compared, only the latest or the earliest counts.
NOW, BEGUN, SEEN_OLD, SEEN_NEW, COMMIT, END = "now", "startedAt", "oldSeenAt", "newSeenAt", "committedAt", "endedAt"
COMPARED = {
    BEGUN: {END},
    SEEN_OLD: {SEEN_NEW, COMMIT, END},
    SEEN_NEW: {SEEN_OLD, END},
    COMMIT: {SEEN_OLD},
    END: {BEGUN, SEEN_OLD, SEEN_NEW},
}


def _words(event):
    """What the instant at which an event was sent is to the evidence."""
    seen = SEEN_OLD if event.principal == pool.FIRST else SEEN_NEW
    return {"ended": (END,), "commit": (seen, COMMIT)}.get(event.kind, (seen,))


@lru_cache(None)
def squeeze(marks):
    """Instants → the smallest that lie alike to those with which they are compared, and as long before.

    The backend compares instants of some kinds only (``COMPARED``), and all with the present. So each is as small as
    those allow with which it is compared; what happened before a long pause stays before it.
    """
    small, at, last, placed = {}, 0, None, []
    for instant in sorted({instant for instant, _ in marks}):
        words = {word for found, word in marks if found == instant}
        if last is not None and instant - last >= backend.LONG:
            at = max(value for value, _ in placed) + (backend.DAY if instant - last >= backend.DAY else backend.LONG)
        compared = set().union(*(COMPARED.get(word, ()) for word in words))
        below = [value for value, others in placed if NOW in words or compared & others]
        small[instant] = max([at, *(value + 1 for value in below)])
        placed.append((small[instant], words))
        last = instant
    return small


def what_can_matter(execution, account, times, pending):
    """Forget what can no longer make a difference, but to whether a person is told."""
    if execution not in OPEN:
        pending = without_late_creates(pending)
        if not account.is_open:
            return without_what_is_over(execution, account, times, pending)
    known = dict(zip(account.instants, times, strict=True))
    if COMMIT in known and ("contestedAt" in known or known.get(SEEN_OLD, 0) > known[COMMIT]):
        return without_sightings(execution, account, known, pending)
    return execution, account, times, tuple(p for p in pending if not is_no_news(p, known))


def without_late_creates(pending):
    """Once the execution has ended each create is rejected.

    A device that awaits the answer has sent one itself: what a late one did to it, its own one does if that is not
    lost, which costs nothing.
    """
    return tuple(p for p in pending if p.event.kind != "create" or not p.late)


def is_no_news(item, known):
    """Whether an event changes nothing: the certificate is known to be seen later, or the end is known."""
    seen = SEEN_OLD if item.event.principal == pool.FIRST else SEEN_NEW
    return (item.event.kind == "connected" and item.sent <= known.get(seen, -1)) or (
        item.event.kind == "ended" and END in known
    )


def without_sightings(execution, account, known, pending):
    """Forget when which certificate was seen, once two holders may be at work: both stay whatever is heard."""
    after = account.contested
    others = dict.fromkeys(("contestedAt", COMMIT), known[BEGUN])
    asked = tuple(
        p._replace(sent=known[BEGUN]) if p.event.kind == "commit" else p for p in pending if p.event.kind != "connected"
    )
    return execution, after, tuple({**known, **others}[name] for name in after.instants), asked


def without_what_is_over(execution, account, times, pending):
    """Forget the evidence once the execution has ended and no rotation is open.

    None begins any more: a create is rejected before the table is looked at, and a commit is answered by the outcome
    alone. Whatever else is heard (an end, a connection) tells a person at most, which no invariant forbids: a world in
    which it is never heard is judged the more severely.
    """
    asked = (p._replace(sent=0) for p in pending if p.event.kind in ("create", "commit"))
    after = account.at_its_end
    return execution, after, (0,) * len(after.instants), tuple(asked)


def first():
    """A job is queued, and nothing has happened."""
    return cloud(QUEUED, backend.first(), (), (), 0, 0)


def _with(before, **changes):
    content = {name: getattr(before, name) for name in ("execution", "account", "times", "pending", "now", "over")}
    return cloud(**{**content, **changes})


def _hand_over(before, event, **changes):
    pending = (*before.pending, Pending(event, before.now))
    return _with(before, pending=pending, now=before.now + 1, **changes)


# What the device tells -----------------------------------------------------------------------------------


@lru_cache(MANY)
def arrive(before, messages, principal):
    """What becomes of messages over a connection with ``principal``: each arrives, or is lost on its way."""
    if not messages:
        return (Move("", (), before),)
    found = []
    for first_one in _arrives(before, *messages[0], principal):
        for rest in arrive(first_one.cloud, messages[1:], principal):
            label, prices, answers = (first_one[i] + rest[i] for i in (0, 1, 3))
            proven = first_one.proven | rest.proven
            found.append(Move(label, prices, rest.cloud, answers, proven=proven))
    return tuple(found)


@lru_cache(MANY)
def arrive_late(before, messages, principal):
    """What becomes of them if the thief has updated the execution just before."""
    return tuple(
        move._replace(label=f"{move.label}, after {his.label}", prices=(*his.prices, *move.prices))
        for his in (thief_updates(before) if messages else ())
        for move in arrive(his.cloud, messages, principal)
    )


def _arrives(before, topic, payload, principal):
    if (topic, payload) == CONNECTED:  # lost as an event, if at all; so are requests
        yield Move("", (), _hand_over(before, Event("connected", principal)))
    elif topic == topics.jobs_get_next(THING):
        status = before.execution
        yield Move("", (), before, ((get("accepted"), execution(status)) if status in OPEN else NO_JOB,))
        yield Move(", get throttled", ("troubles",), before, (THROTTLED,))
    elif topic in (topics.create(THING), topics.commit(THING)):
        yield _request(before, topic, json.loads(payload), principal)
    else:
        yield _update(before, topic, json.loads(payload))
        yield Move(", update lost", ("losses",), before)


def _request(before, topic, message, principal):
    if message["jobId"] != JOB:
        return Move("", (), before)
    if topic == topics.commit(THING):
        return _commit(before, principal)
    key = next(name for name in (*pool.DEVICES, THIEFS_KEY) if pool.csr(name) == message["csr"])
    return Move("", (), _hand_over(before, Event("create", principal, key)))


def _commit(before, principal):
    event = Event("commit", principal)
    return Move("", (), _hand_over(before, event), proven=_whose(event))


@lru_cache(None)
def _whose(event):
    """Over whose new certificate a commit is sent."""
    if event.kind != "commit" or event.principal == pool.FIRST:
        return frozenset()
    return frozenset({THIEFS if event.principal.startswith(THIEFS_KEY) else NEW})


def _update(before, topic, message):
    """The device's (or the thief's) update of the execution."""
    token = {"clientToken": message["clientToken"]} if "clientToken" in message else {}
    if before.execution not in OPEN:
        state = {"executionState": {"status": before.execution}} if before.execution else {}  # None: deleted
        refusal = {"code": "InvalidStateTransition", "message": "terminal", **state, **token}
        return Move("", (), before, ((f"{topic}/rejected", json.dumps(refusal).encode()),))
    status, mark = message["status"], "" if "statusDetails" in message else backend.UNMARKED
    after = _with(before, execution=status) if status == IN_PROGRESS else ended(before, status, mark)
    return Move("", (), after, ((f"{topic}/accepted", json.dumps(token).encode()),))


def ended(before, status, mark=""):
    """The execution has ended, or was DELETED."""
    execution = None if status == "DELETED" else status
    return _hand_over(before, Event("ended", None, status + mark), execution=execution, over=before.now)


def get(outcome):
    """The topic of the answer to $next/get."""
    return f"$aws/things/{THING}/jobs/$next/get/{outcome}"


NO_JOB = get("accepted"), b"{}"
THROTTLED = get("rejected"), b'{"code": "RequestThrottled"}'


def is_of_jobs(message):
    """Whether it is an answer of the jobs service to its client, and no announcement to all."""
    topic = message[0]
    return topic.startswith("$aws/") and topic != topics.jobs_notify_next(THING)


@lru_cache(None)
def certificate_in(message):
    """The name of the certificate that a message brings; None if it brings none."""
    pem = json.loads(message[1]).get("certificatePem")
    return pem and pool.name_of(pem)


def execution(status):
    """What the jobs service tells of the job."""
    return json.dumps({"execution": {"jobId": JOB, "status": status, "jobDocument": DOCUMENT}}).encode()


# What happens without the device --------------------------------------------------------------------------


@lru_cache(MANY)
def functions(before):
    """Lambda runs what came first, and what is late at any time; what came first may be lost, doubled, late."""
    found = []
    prompt = True
    for index, item in enumerate(before.pending):
        if item.late or prompt:
            others = (*before.pending[:index], *before.pending[index + 1 :])
            found += _run_or_not(before, item, others)
        prompt = prompt and item.late
    return tuple(found)


def _run_or_not(before, item, others):
    name = " ".join(filter(None, item.event))
    yield _run(before, item, others, f"Lambda runs {name}")
    if not item.late:
        later = (*others, item._replace(late=True))
        yield Move(f"{name} is lost", ("losses",), _with(before, pending=others))
        yield _run(before, item, later, f"Lambda runs {name}, and will again", ("copies",))
        yield Move(f"{name} is late", ("delays",), _with(before, pending=later))


def _run(before, item, others, label, prices=()):
    known, event = before.account, item.event
    outcome = backend.handle(known, before.times, event, item.sent, before.now, before.execution, before.over)
    account = outcome.account
    after = _with(before, account=account, times=outcome.times, pending=others, now=before.now + 1)
    gone = known.names - account.names
    return Move(label, prices, after, outcome.published, outcome.told, gone=gone, failed=account.failed)


@lru_cache(MANY)
def ends(before):
    """The cloud ends the execution."""
    how = {QUEUED: ("CANCELED", "DELETED"), IN_PROGRESS: ("TIMED_OUT", "DELETED")}.get(before.execution, ())
    return tuple(Move(f"the cloud ends the job: {status}", ("cloud",), ended(before, status)) for status in how)


@lru_cache(MANY)
def pause(before, long):
    """Much time, and the sweep at its end; a request that Lambda still holds is given up by then."""
    others = tuple(p for p in before.pending if p.event.kind not in ("create", "commit"))
    later = _with(before, pending=others, now=before.now + long)
    return _run(later, Pending(Event("sweep"), later.now), later.pending, "twenty minutes pass", ("pauses",))


# What a thief does who holds the key that the device has when the world begins ----------------------------


@lru_cache(None)
def thiefs(account):
    """The certificates that the thief can connect with."""
    return [n for n, status, _ in account.certificates
            if status == "ACTIVE" and (n == pool.FIRST or n.startswith(THIEFS_KEY))]  # fmt: skip


@lru_cache(MANY)
def thief_updates(before):
    """He updates the execution."""
    moves = []
    for status in ("IN_PROGRESS", "SUCCEEDED", "FAILED", "REJECTED") if before.execution in OPEN else ():
        if thiefs(before.account) and (status != IN_PROGRESS or before.execution == QUEUED):
            told = _update(before, topics.jobs_update(THING, JOB), {"status": status})
            moves.append(told._replace(label=f"the thief says {status}", prices=("moves",), answers=()))
    return tuple(moves)


@lru_cache(MANY)
def thief_events(before):
    """He has connected, committed or asked at any instant up to now, and Lambda runs what tells of it now.

    Until then it has changed nothing, so no world is apart for what of his is on its way. This allows him more than
    there is: for nothing his events are as late as he likes, and overtake others.
    """
    room, moves = _with_room(before), {}
    for event in _thiefs(before):
        for sent in _instants(room):
            item = Pending(event, sent)
            once = _run(room, item, room.pending, f"Lambda runs the thief's {' '.join(event[:2])}", ("moves",))
            later = (*room.pending, item._replace(late=True))
            again = _run(room, item, later, f"{once.label}, and will again", ("moves", "copies"))
            for move in (once, again):
                moves.setdefault(move[1:], move._replace(proven=_whose(event)))
    return tuple(moves.values())


def _thiefs(before):
    """The events that he can have brought about."""
    kinds = [Event("connected"), Event("commit")]
    kinds += [Event("create", detail=THIEFS_KEY)] if before.execution != QUEUED else []
    mine = (pool.FIRST, *(name for name in before.account.issued if name.startswith(THIEFS_KEY)))
    return [event._replace(principal=name) for name in mine for event in kinds]


def _with_room(before):
    """The same with an instant between any two."""
    pending = tuple(p._replace(sent=2 * p.sent) for p in before.pending)
    times = tuple(2 * t for t in before.times)
    return Cloud(before.execution, before.account, times, pending, 2 * before.now, 2 * before.over)


def _instants(before):
    """The present, and just before and after each instant that there is."""
    marks = {*before.times, *(p.sent for p in before.pending), before.over}
    return sorted({before.now, *(mark + side for mark in marks for side in (-1, 1) if mark + side < before.now)})


@lru_cache(None)
def forgeries(account):
    """Whatever the jobs service or a backend can tell the device; the worst policy lets any client of the thing."""
    update, no = topics.jobs_update(THING, JOB), b'{"errorMsg": "no"}'
    certificates = [(n, json.dumps({"certificatePem": pool.certificate_pem(n)}).encode())
                    for n, _, _ in account.certificates]  # fmt: skip
    return (
        ("commit/accepted", f"{topics.commit(THING)}/accepted", b"{}"),
        ("commit/rejected", f"{topics.commit(THING)}/rejected", no),
        ("create/rejected", f"{topics.create(THING)}/rejected", no),
        *((f"create/accepted with {n}", f"{topics.create(THING)}/accepted", body) for n, body in certificates),
        ("no job", *NO_JOB),
        ("a queued job", get("accepted"), execution(QUEUED)),
        ("a job in progress", get("accepted"), execution(IN_PROGRESS)),
        ("a throttled get", *THROTTLED),
        ("update/accepted", f"{update}/accepted", b"{}"),
        ("update/rejected", f"{update}/rejected", b'{"code": "InvalidStateTransition"}'),
        ("an announcement", topics.jobs_notify_next(THING), execution(QUEUED)),
    )
