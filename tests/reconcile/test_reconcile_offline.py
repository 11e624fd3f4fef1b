"""Devices that connect rarely: when they are expected again, who is at risk, and who is asked ahead of its wave."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reconcile_rollouts import HOUR, OLD, World, names

from controller.reconcile.outlook import Luck, explain, simulate
from controller.reconcile.schedule import LEAST_GAPS, in_order, risk_of, seen_again, usual_absence
from controller.reconcile.values import Absences, Guardrails, OfflineRisk, Reason, WaveStatus, parse_overrides

DAY = timedelta(days=1)
GAPS = st.lists(st.integers(1, 400 * 24).map(lambda hours: hours * HOUR), max_size=30)


@pytest.mark.parametrize(
    ("days", "usual"),
    [
        pytest.param((), None, id="none"),
        pytest.param((9, 9, 9, 9), None, id="four say nothing"),
        pytest.param((1, 2, 3, 4, 5), 5, id="of five the longest"),
        pytest.param((5, 1, 4, 2, 3), 5, id="in whatever order"),
        pytest.param((*range(1, 11),), 9, id="of ten the second longest"),
        pytest.param((1,) * 18 + (70, 80), 1, id="two long ones of twenty are passed over"),
        pytest.param((1,) * 17 + (60, 70, 80), 60, id="three are not"),
    ],
)
def test_nine_in_ten_absences_are_no_longer_by_nearest_rank(days, usual):
    assert usual_absence([day * DAY for day in days]) == (None if usual is None else usual * DAY)


@pytest.mark.parametrize(
    ("last", "usual", "expected"),
    [
        pytest.param(-2, 10, 8, id="it is expected when its absence is usually over"),
        pytest.param(-10, 10, 10, id="which is just over: it may begin anew"),
        pytest.param(-30, 10, 10, id="away for longer than ever: nobody can say less than as long again"),
        pytest.param(0, 10, 10, id="here now, it may leave now"),
    ],
)
def test_a_device_is_expected_again_after_its_usual_absence(make, last, usual, expected):
    assert seen_again(make.now + last * DAY, usual * DAY, make.now) == make.now + expected * DAY


@given(gaps=GAPS, more=st.integers(1, 400 * 24).map(lambda hours: hours * HOUR))
def test_the_usual_absence_is_one_of_them_and_grows_with_longer_ones(gaps, more):
    usual = usual_absence(gaps)
    assert (usual is None) == (len(gaps) < LEAST_GAPS)
    assert usual == usual_absence(gaps[::-1])
    if usual is not None:
        assert usual in gaps
        assert 10 * sum(gap <= usual for gap in gaps) >= 9 * len(gaps)
        assert 10 * sum(gap < usual for gap in gaps) < 9 * len(gaps), "no shorter one would do"
        longer = usual_absence([gap + more for gap in gaps])
        assert longer == usual + more
        assert usual_absence([*gaps, usual]) <= usual, "one more of the same makes nobody wait longer"


@given(away=st.integers(0, 9_000), later=st.integers(0, 9_000), usual=st.integers(1, 9_000), more=st.integers(0, 99))
def test_it_is_expected_in_the_future_and_no_sooner_for_a_longer_absence(make, away, later, usual, more):
    now, last = make.now, make.now - away * HOUR
    expected = seen_again(last, usual * HOUR, now)
    assert now < expected <= now + usual * HOUR
    assert seen_again(last, (usual + more) * HOUR, now) >= expected or away >= usual
    assert seen_again(last, usual * HOUR, now + later * HOUR) >= expected, "a later look never expects it sooner"


def rare(make, device, *, away=3, usual=70, gaps=5, is_away=True, left=60):
    """The device with a certificate that ends in so many days, away for so long, and usually so long."""
    held = device.attachments[0]
    ends = make.replace(held.certificate, not_after=make.now + left * DAY)
    known = Absences(make.now - away * DAY, is_away, (usual * DAY,) * gaps)
    return make.replace(device, attachments=(make.replace(held, certificate=ends),), absences=known)


@pytest.mark.parametrize(
    ("scene", "at_risk"),
    [
        pytest.param({}, True, id="it ends while it is usually away"),
        pytest.param({"left": 68}, False, id="it is back a day before"),
        pytest.param({"left": 67}, True, id="it is expected in the second of its end"),
        pytest.param({"away": 90, "left": 68}, True, id="away for longer than ever"),
        pytest.param({"is_away": False, "away": 0}, True, id="here now, and gone for longer than is left"),
        pytest.param({"gaps": 4}, False, id="too little is known"),
    ],
)
def test_a_device_is_at_risk_whose_certificate_ends_before_it_is_expected(make, scene, at_risk):
    risk = risk_of(rare(make, make.device(), **scene), make.now)
    assert risk is not None
    assert risk.is_at_risk is at_risk


def test_who_has_never_been_away_or_holds_nothing_that_ends_is_no_risk(make):
    assert risk_of(make.device(), make.now) is None
    assert risk_of(make.replace(rare(make, make.device()), attachments=()), make.now) is None


def test_of_several_certificates_the_last_to_end_counts(make):
    both = rare(make, make.device(), left=10)
    longer = make.replace(both.attachments[0], certificate=make.certificate(name="b"))
    risk = risk_of(make.replace(both, attachments=(*both.attachments, longer)), make.now)
    assert risk is not None
    assert not risk.is_at_risk


def test_the_order_is_by_what_is_left_once_it_is_expected_then_by_wave(make):
    def risk(name, margin, left=60):
        again = None if margin is None else make.now + (left - margin) * DAY
        return OfflineRisk(name, make.now + left * DAY, make.now, is_away=True, gaps=5, absence=DAY, seen_again=again)

    known = [risk("late", 5), risk("b", -5), risk("a", -5), risk("first", -9)]
    risks = [risk("unknown", None), *known, risk("soon", None, 2)]
    found = [one.device for one in in_order(risks, {"a": 3, "b": 1}, 9)]
    assert found == ["first", "b", "a", "late", "soon", "unknown"]


# ---- in the plan


def fleet(make, *, first=True, left=(50, 40), healthy=True, guardrails=None, **rollout):
    """A hundred old devices whose canary is done; some of the others connect rarely, and end in so many days."""
    world = World(make, offline_first=first, **rollout)
    if healthy:
        world.wave(1, {"g000": "SUCCEEDED"}, ended=2 * HOUR)
    for number, days in enumerate(left, start=90):
        world.devices[f"g{number:03d}"] = rare(make, world.devices[f"g{number:03d}"], left=days)
    if guardrails:
        world.desired = make.desired(world.policy, guardrails=guardrails)
    return world


def early(plan):
    return [name for job in plan.jobs for name in job.early]


def after(world, plan):
    """Carry out what the plan asks in its standing jobs: everyone is queued there."""
    for job in plan.jobs:
        if job.is_standing:
            executions = {d.name: world.make.execution(job.job_id, queued=timedelta(0)) for d in job.devices}
            world.jobs.append(world.make.job(job.job_id, executions, is_continuous=True, age=timedelta(0)))
            for name, execution in executions.items():
                world.devices[name] = world.make.replace(world.devices[name], executions=(execution,))
    return world


def at_risk(plan):
    return [risk.device for risk in plan.outlooks[0].at_risk]


def test_a_plan_names_who_may_expire_while_away_nearest_to_its_end_first(make):
    plan = fleet(make, first=False, left=(50, 40, 69)).plan()
    assert at_risk(plan) == ["g091", "g090"]
    assert early(plan) == [], "who has not said offlineFirst waits for the wave"
    assert fleet(make, first=False, left=()).plan().outlooks[0].at_risk == ()


def test_of_those_with_as_much_left_who_is_asked_comes_first_and_then_the_next_wave(make):
    world = fleet(make, healthy=False, first=False, left=()).wave(1, {"g000": "SUCCEEDED", "g070": "CANCELED"})
    world.wave(2, {"g050": "QUEUED"}, queued=HOUR).wave(None, {"g060": "QUEUED"}, queued=HOUR)
    world.devices["g099"] = make.device("g099", age=OLD + DAY)  # starts now
    for name in ("g010", "g050", "g060", "g070", "g099"):
        world.devices[name] = rare(make, world.devices[name])
    assert at_risk(world.plan()) == ["g060", "g050", "g099", "g010", "g070"]


def test_who_is_asked_ahead_of_its_wave_comes_with_those_who_were_before(make):
    world = fleet(make, left=()).wave(None, {"g090": "QUEUED", "g092": "QUEUED"}, queued=HOUR)
    for name in ("g090", "g091", "g092"):
        world.devices[name] = rare(make, world.devices[name])
    plan = world.plan()
    assert (at_risk(plan), early(plan)) == (["g090", "g091", "g092"], ["g091"])


def test_in_sync_devices_are_named_as_well(make):
    world = World(make, number=3)
    world.devices = {"g000": rare(make, make.device("g000"))}
    assert at_risk(world.plan()) == ["g000"]


def test_one_is_named_among_many_like_it_of_which_there_is_nothing_to_say(make):
    world = World(make, number=0)
    world.devices = {f"g{n:03d}": make.device(f"g{n:03d}", age=(300 - n) * HOUR, left=60 * DAY) for n in range(200)}
    world.devices["g199"] = rare(make, world.devices["g199"], left=60)
    assert at_risk(world.plan()) == ["g199"]


def test_of_many_at_risk_a_hundred_are_named_and_all_counted(make):
    world = fleet(make, first=False, left=())
    world.devices = {name: rare(make, device) for name, device in world.devices.items() if name != "g000"}
    world.devices |= {f"h{n}": rare(make, make.device(f"h{n}", age=OLD)) for n in range(10)}
    outlook = world.plan().outlooks[0]
    assert (len(outlook.at_risk), outlook.more_at_risk) == (100, 9)


def test_of_whom_too_little_is_known_the_plan_gives_the_number(make):
    world = fleet(make)
    world.devices["g092"] = rare(make, world.devices["g092"], gaps=4)
    world.devices["g093"] = rare(make, world.devices["g093"], gaps=4, is_away=False)
    plan = world.plan()
    assert plan.outlooks[0].away_unknown == 1
    [notice] = [notice for notice in plan.notices if "absences known" in notice]
    assert notice.startswith("policy line-a: 1 device away, with fewer than 5 absences known")


def test_who_is_at_risk_is_asked_in_the_standing_job_ahead_of_its_wave(make):
    plan = fleet(make).plan()
    assert plan.waves[0].status is WaveStatus.SOAKING, "no wave asks anybody now"
    [job] = plan.jobs
    assert (job.is_standing, [device.name for device in job.devices]) == (True, ["g090", "g091"])
    assert job.early == ("g090", "g091")
    assert plan.outlooks[0].offline == 2, "they rotate when they come back"


def test_it_is_asked_there_beside_a_wave_and_not_in_it(make):
    world = fleet(make, healthy=False).wave(1, {"g000": "SUCCEEDED"})
    wave, standing = world.plan().jobs
    assert (wave.wave, len(wave.devices), standing.early) == (2, 9, ("g090", "g091"))


def test_it_is_asked_while_the_first_wave_goes_on_that_some_have_shown_to_work(make):
    world = fleet(make, healthy=False, waves=("10", "100%")).wave(1, names(5, "SUCCEEDED"))
    wave, standing = world.plan().jobs
    assert (wave.wave, len(wave.devices), standing.early) == (1, 5, ("g090", "g091"))


@pytest.mark.parametrize(
    "canary", [{}, {"g000": "IN_PROGRESS"}, {"g000": "FAILED"}], ids=["not asked", "at work", "failed"]
)
def test_what_the_first_wave_has_not_shown_to_work_is_not_tried_on_them(make, canary):
    world = fleet(make, healthy=False, abort=(make.abort(20, 5),))
    if canary:
        world.wave(1, canary, ended=HOUR)
    assert early(world.plan()) == []


def test_while_an_unhealthy_wave_is_tried_again_none_of_them_is_asked(make):
    world = fleet(make, healthy=False, abort=(make.abort(20, 50),)).wave(1, {"g000": "SUCCEEDED"}, ended=60 * HOUR)
    plan = world.wave(2, names(4, "FAILED", 1) | names(5, "SUCCEEDED", 5)).plan()
    assert plan.waves[0].status is WaveStatus.UNHEALTHY
    assert (at_risk(plan), early(plan)) == (["g091", "g090"], [])


def test_a_second_plan_asks_nobody_again(make):
    world = fleet(make)
    world = after(world, world.plan())
    plan = world.plan()
    assert plan.jobs == ()
    assert at_risk(plan) == ["g091", "g090"], "they are named for as long as they are at risk"
    assert plan.policies[0].rotating == 2, "they count as in flight"


def test_no_more_of_them_are_asked_than_may_be_in_flight(make):
    world = fleet(make, left=(50, 40, 30), max_in_flight=2)
    plan = world.plan()
    assert early(plan) == ["g091", "g092"]
    assert early(after(world, plan).plan()) == []


def test_one_more_joins_the_standing_job_that_there_is(make):
    world = fleet(make)
    before = world.plan()
    world = after(world, before)
    world.devices["g095"] = rare(make, world.devices["g095"])
    [job] = world.plan().jobs
    assert (job.job_id, job.early) == (before.jobs[0].job_id, ("g095",))


def test_a_plan_that_was_reviewed_before_asks_only_whom_it_named(make):
    world = fleet(make)
    allowed = {d.name: d.certificate_id for job in world.plan().jobs for d in job.devices}
    world.devices["g095"] = rare(make, world.devices["g095"])
    assert early(world.plan()) == ["g090", "g091", "g095"]
    assert early(world.plan(permitted=allowed)) == ["g090", "g091"]


def test_the_guardrail_counts_them(make):
    world = fleet(make, left=(50,) * 5, guardrails=Guardrails(4))
    refusals = world.plan().refusals
    assert ["rotates 5 devices" in refusal.message for refusal in refusals] == [True, True]
    world = after(world, world.plan())
    world.devices["g096"] = rare(make, world.devices["g096"])
    messages = [refusal.message for refusal in world.plan().refusals]
    assert all("5 in flight" in message for message in messages), "also in a later plan, while they are asked"
    assert messages


def test_one_apply_counts_those_of_its_rounds_before(make):
    world = fleet(make, guardrails=Guardrails(3))
    world.devices["g096"] = rare(make, world.devices["g096"])
    assert world.plan().refusals == ()
    done = frozenset({"g001", "g002"})
    assert [refusal.guardrail for refusal in world.plan(begun=done).refusals] == ["maxChangePercent"] * 2


def test_no_more_than_max_in_flight_are_asked_the_nearest_to_their_end_first(make):
    assert early(fleet(make, max_in_flight=1).plan()) == ["g091"]
    world = fleet(make, healthy=False, max_in_flight=3).wave(1, {"g000": "SUCCEEDED"})
    assert [len(job.devices) for job in world.plan().jobs] == [1, 2], "the wave has what they leave"


def test_a_halted_rollout_asks_none_of_them(make):
    world = fleet(make, healthy=False)
    world.wave(1, names(8, "FAILED") | {"g009": "SUCCEEDED"})
    plan = world.plan()
    assert plan.waves[0].status is WaveStatus.HALTED
    assert early(plan) == []


@pytest.mark.parametrize("job_status", ["IN_PROGRESS", "CANCELED"], ids=["asks on", "has ended"])
def test_what_they_answer_counts_and_may_halt_the_rollout(make, job_status):
    left = (50,) * 6
    world = fleet(make, left=left)
    executions = {
        f"g{n:03d}": make.execution(world.job_id(0), "FAILED", queued=2 * HOUR, updated=HOUR) for n in range(90, 96)
    }
    world.jobs.append(make.job(world.job_id(0), executions, is_continuous=True, age=2 * HOUR, status=job_status))
    for name, execution in executions.items():
        world.devices[name] = make.replace(world.devices[name], failures=(execution,))
    assert world.plan().waves[0].status is WaveStatus.HALTED


def test_they_do_not_hold_a_wave_while_they_are_away(make):
    world = fleet(make, healthy=False).wave(1, {"g000": "SUCCEEDED"})
    executions = {name: make.execution(world.job_id(0), queued=20 * HOUR) for name in ("g090", "g091")}
    world.jobs.append(make.job(world.job_id(0), executions, is_continuous=True, age=20 * HOUR))
    for name, execution in executions.items():
        world.devices[name] = make.replace(world.devices[name], executions=(execution,))
    assert [job.wave for job in world.plan().jobs] == [2]


@pytest.mark.parametrize("why", [Reason.WAIVED, Reason.OUTSIDE_WINDOW, Reason.BACKING_OFF, Reason.QUARANTINED])
def test_what_keeps_any_device_from_rotating_keeps_these(make, why):
    world = fleet(make)
    if why is Reason.WAIVED:
        world.desired = make.desired(world.policy, waivers=(make.waiver("g090"),))
    elif why is Reason.QUARANTINED:
        world.desired = make.desired(world.policy, quarantines=(make.quarantine("g090"),))
    elif why is Reason.BACKING_OFF:
        failed = make.execution(world.job_id(2, "1"), "FAILED", updated=HOUR / 60)
        world.devices["g090"] = make.replace(world.devices["g090"], failures=(failed,))
    else:
        closed = make.replace(world.policy.schedule, windows=(make.window(),))
        world.desired = make.desired(make.replace(world.policy, schedule=closed))
    plan = world.plan()
    assert early(plan) == ([] if why is Reason.OUTSIDE_WINDOW else ["g091"])
    is_decided = why is Reason.WAIVED or why is Reason.QUARANTINED
    assert at_risk(plan) == (["g091"] if is_decided else ["g091", "g090"]), "who has decided is not reminded"


@pytest.mark.parametrize("first", [True, False])
def test_a_simulation_asks_them_ahead_of_their_wave_as_the_plan_does(make, first):
    world = fleet(make, first=first, healthy=False)
    devices, state = list(world.devices.values()), make.state(group_sizes={"line-a": 100})
    played = simulate(devices, world.desired, state, make.now, span=30 * DAY, luck=Luck(1, 0, 0))
    assert (played.rotations, played.stragglers) == (100, 2 if first else 0)


def test_a_person_who_resumes_lets_the_failed_be_tried_first(make):
    world = fleet(make, healthy=False).wave(1, names(6, "FAILED"), ended=30 * HOUR)
    plan = world.plan(overrides=parse_overrides(["resume=line-a"]))
    assert early(plan) == []


def test_the_explanation_says_when_it_is_expected_and_what_to_do(make):
    desired, state = make.desired(), make.state()
    found = explain(rare(make, make.device(), usual=70), desired, state, make.now)
    text = " ".join(found.words)
    assert (
        "It has been away since 2026-11-20T12:00:00Z; nine in ten of its 5 known absences were no longer than 70 days"
        in text
    )
    assert "expected by 2027-01-29T12:00:00Z" in text
    assert "ends before that, at 2027-01-22T12:00:00Z: bring it online until then" in text
    assert "rollout.offlineFirst: true" in text
    assert "renewBefore above 71d" in text
    assert [line.value for line in found.arithmetic if line.name in {"p90", "at risk"}] == ["70 days", "yes"]
    few = explain(rare(make, make.device(), gaps=2), desired, state, make.now)
    assert "nobody knows when it comes back: 2 absences of it known, 5 are needed" in few.words[-1]
    plain = explain(make.device(), desired, state, make.now)
    assert not any("absence" in sentence for sentence in plain.words)
