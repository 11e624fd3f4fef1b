"""How a device must behave, whatever its table says: each rule looks at one input of the device and what came of it."""

from __future__ import annotations

import component_table as table
import smallworld_device as component
from component_table import (
    CERTIFICATE_NEW,
    COMMIT,
    CREATE,
    GET,
    KEY_NEXT,
    OPEN,
    SILENT,
    START,
    TIME_LIMIT,
    hears,
    journal,
)

from component.certificate_rotator.journal import UNNOTED
from protocol import topics

IDLE_SECONDS = 180.0  # at least, between two questions of a device that has nothing to do


def broken_by(act):
    """The first rule that is broken by it; None if none is."""
    return next((name for name, is_broken in RULES.items() if is_broken(act)), None)


def lost(act):
    """The device holds no credential that works."""
    return not any(act.after.cloud.lets_in(certificate) for certificate in component.held(act.after.device))


def gone(act):
    return component.held(act.device) - component.held(act.found.device)


def let_go(act):
    """A credential went that had to be kept.

    The old one goes when a commit is accepted and two were sent, at two starts, and their job has SUCCEEDED; the new
    one after a commit, and whatever was kept before, when the next rotation installs.
    """
    world, in_place = act.before, component.in_place(act.found.device)
    is_accepted = world.accepted or act.confirms
    has_succeeded = journal(act.device).get("committed") in map(table.job, world.cloud.succeeded)
    old_may_go = world.is_sole or (world.commits >= 2 and is_accepted and has_succeeded)
    return not act.installs and any(not old_may_go if name < in_place else name in world.sent for name in gone(act))


def unseen(act):
    """The device settled on a credential that does not connect."""
    is_asked = act.doing != START and not act.installs
    return is_asked and bool(gone(act)) and not act.before.cloud.lets_in(component.in_place(act.found.device))


def error(act):
    """An action met what it was not made for, or complained although nothing was wrong."""
    return act.found.is_error or (bool(act.found.log) and not (act.trouble or act.before.excused))


def needless_restart(act):
    """The nucleus was restarted twice, or had nothing new to read."""
    # (At its start the component cannot know what the nucleus has read; what was owed since then may come later.)
    knows = not act.trouble and act.doing != START and not act.before.owed
    times, in_place = act.found.restarted, component.in_place(act.found.device)
    return times > 1 or (times == 1 and knows and in_place == act.device.loaded)


def needless_exchange(act):
    """A device that was connected with a credential that the backend had accepted left it.

    Unless it could not know: AWS IoT Jobs did not answer, which the backend's silence alone does not mean.
    """
    world = act.before
    knows = act.doing[0] == "hear" or world.cloud.quirk == SILENT
    return knows and world.online and world.accepted and act.is_other and act.doing != START and not act.installs


def untrue(act):
    """A job that has just been queued was told its end. (What the cloud itself finds untrue: component_table.py.)"""
    own = topics.jobs_update(table.THING, table.job(act.before.cloud.number))
    ends = any(topic == own and b"IN_PROGRESS" not in payload for topic, payload in act.found.published)
    is_heard = hears(act.doing, f"{GET}/accepted") and b'"QUEUED"' in act.doing[2]
    return ends and not act.trouble and (is_heard or (act.doing == START and act.before.cloud.job == "QUEUED"))


def again(act):
    """A certificate was asked for though one had come. (For a job begun anew: component_table.py.)"""
    names = {name for name, _ in act.device.files}
    return CREATE in dict(act.found.published) and CERTIFICATE_NEW in names and KEY_NEXT not in names


def chatter(act):
    """A message was sent that nothing asked for, or at once after it had been refused."""
    published = act.found.published
    asks = GET in dict(published) and hears(act.doing, f"{GET}/accepted")
    is_noted = journal(act.device).get("job_id") != UNNOTED  # else it asks which one it is
    is_idle = asks and is_noted and _changed_nothing(act)
    return len(published) > 1 or is_idle or (table.is_refused_claim(act.doing) and bool(published))


def _changed_nothing(act):
    device = act.found.device
    return (
        device.memory is not None
        and device.files == act.device.files
        and device.memory.record == act.device.memory.record
    )


def silent_trouble(act):
    """Something failed on the device, and neither its log nor the job tells."""
    said = " ".join((*act.found.log, *map(str, act.found.published)))
    is_told = "No space left" in said or "world has it" in said
    is_noticed = act.trouble in ((("full", True),), (("restart", "refused"),))
    return is_noticed and not is_told and act.found.device.files == act.device.files


def wear(act):
    """The disk was written to while the device only waited."""
    return act.doing == table.RESEND and not act.before.excused and act.found.device.files != act.device.files


def miscounted(act):
    """The journal counts exchanges, or the time with a new credential, otherwise than it says."""
    now, then, world = journal(act.found.device), journal(act.device), act.before
    swaps, awake = now.get("swaps", 0), now.get("awake", 0.0)
    if act.after.rests and awake:
        return True
    if act.trouble or world.stuck:
        return False
    is_on_trial = act.doing == START and then.get("step") == "CONNECTING" and act.found.device.memory is not None
    return any([
        act.is_other and swaps > world.exchanges,
        act.is_other and act.doing == TIME_LIMIT and world.accepted and swaps <= then.get("swaps", 0) < 2,
        hears(act.doing, f"{COMMIT}/rejected") and swaps < then.get("swaps", 0),
        is_on_trial and awake <= then["awake"],
    ])  # fmt: skip


def misnoted(act):
    """The journal tells of the other credential than the one in place."""
    now, files = journal(act.found.device), dict(act.found.device.files)
    is_told = now.get("kept") and now != journal(act.device) and now["step"] != "SWITCHING" and not act.trouble
    if not is_told or CERTIFICATE_NEW not in files:
        return False
    return (now["kept"] == "NEW") != (files[component.CERTIFICATE] == files[CERTIFICATE_NEW])


def sleepless(act):
    """The device has nothing to do, and asks again soon."""
    waits, is_none = act.found.waits, hears(act.doing, f"{GET}/accepted", b"{}")
    is_soon = not waits or waits[-1] < IDLE_SECONDS
    return is_none and act.after.rests and not act.found.published and is_soon


def waits(act):
    """The device waits, and nobody owes it an answer; a claim that was refused it does not wait long to ask again."""
    after, memory = act.after, act.after.device.memory
    if table.is_refused_claim(act.doing) and memory is not None:
        return memory.record is not None or min(act.found.waits, default=IDLE_SECONDS) >= IDLE_SECONDS
    is_done = after.rests and after.cloud.job not in OPEN
    return after.online and not (after.inbox or after.owed or is_done)


RULES = {
    "lost": lost, "let go": let_go, "unseen": unseen, "error": error, "needless restart": needless_restart,
    "needless exchange": needless_exchange, "untrue": untrue, "again": again, "chatter": chatter,
    "silent trouble": silent_trouble, "wear": wear, "miscounted": miscounted, "misnoted": misnoted,
    "sleepless": sleepless, "waits": waits,
}  # fmt: skip
