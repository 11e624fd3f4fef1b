"""Fleet time on a virtual clock: the short way gives what the whole planner gives, and never more than the rates."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.reconcile.checks import assess_fleet
from controller.reconcile.outlook import Luck, simulate
from controller.reconcile.outlook.simulation import Course
from controller.reconcile.outlook.virtual_fleet import Life, VirtualFleet
from controller.reconcile.planning import make_plan
from controller.reconcile.values import FleetState, Mode, StockBackend, WindowKind

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


def _simulate(make, devices, desired, *, days=365, state=None, every=HOUR, **luck):
    return simulate(devices, desired, state or make.state(), make.now, span=days * DAY, every=every, luck=Luck(**luck))


def _course(make, devices, policy, *, days, every=HOUR, **luck):
    """One policy's course, for what the sums do not show."""
    course = Course(policy, make.desired(policy), make.state(), {d.name: Life(d) for d in devices}, Luck(**luck))
    course.play(make.now, make.now + days * DAY, every)
    return course


# ---- against the whole planner


def _plainly(make, devices, desired, *, days, every, luck):
    """Every run, every device, the whole planner: who rotated when, by policy."""
    fleets = {
        policy.name: VirtualFleet(
            policy, desired.authorities, {d.name: Life(d) for d in devices if policy.thing_group in d.groups}, luck
        )
        for policy in desired.policies
    }
    now = make.now
    while now < make.now + days * DAY:
        for fleet in fleets.values():
            fleet.pass_until(now)
        state = FleetState(now, jobs=tuple(job for fleet in fleets.values() for job in fleet.jobs.values()))
        alive = [life.device for fleet in fleets.values() for life in fleet.lives.values()]
        plan = make_plan(assess_fleet(alive, desired, state, now), desired, state, now)
        for step in plan.steps:
            next(fleet for fleet in fleets.values() if step.job_id in fleet.jobs).cancel(step, now)
        for job in plan.jobs:
            fleets[job.policy].make(job, now)
        now += every
    for fleet in fleets.values():
        fleet.pass_until(make.now + days * DAY)
    return {name: fleet.record.rotated for name, fleet in fleets.items()}


@st.composite
def policies(draw, make):
    """Waves, soaks, windows, rates, abort rules and what else moves a rotation."""
    abort = (make.abort(30, 3),) if draw(st.booleans()) else ()
    rollout = make.rollout(
        draw(st.sampled_from([("100%",), ("1", "100%"), ("1", "30%", "100%")])),
        soak=draw(st.sampled_from([timedelta(0), 12 * HOUR, 2 * DAY])),
        max_in_flight=draw(st.sampled_from([2, 5, 500])),
        maximum_per_minute=draw(st.sampled_from([1, 100])),
        retries=draw(st.sampled_from([0, 1])),
        stragglers_after=draw(st.sampled_from([12 * HOUR, DAY])),
        abort=abort,
    )
    windows = draw(
        st.sampled_from([(), (make.window(),), (make.window("0 3 * * 1", 5 * HOUR),),
                         (make.window("0 6 * * *", 8 * HOUR, kind=WindowKind.DENY),)])
    )  # fmt: skip
    cutoff = draw(st.sampled_from([None, make.now + 10 * DAY]))
    rule = make.rule(max_age=draw(st.sampled_from([12 * DAY, 40 * DAY])), rotate_issued_before=cutoff)
    suspend = draw(st.sampled_from([None, make.suspension(make.now + 9 * DAY)]))
    name = draw(st.sampled_from(["line-a", "line-b"]))
    return make.policy(
        name, rule=rule, rollout=rollout, windows=windows, suspend=suspend, jitter=draw(st.integers(0, 20))
    )


def _devices(make, policy, ages, kinds):
    """By age in days; every certificate has 30 to 36 days left."""
    return [
        make.device(f"g{n:02d}", age=age * DAY, groups=(policy.thing_group,), key_type=kind, left=(30 + age % 7) * DAY)
        for n, (age, kind) in enumerate(zip(ages, kinds, strict=True))
    ]


def _both_ways(make, policy, devices, luck, every, days, incidents=()):
    """What rotated when: the short way, and run after run by the whole planner."""
    waiver = make.waiver("g00", expires=make.now + 6 * DAY)
    desired = make.desired(policy, waivers=(waiver,), incidents=incidents)
    course = Course(policy, desired, make.state(), {d.name: Life(d) for d in devices}, luck)
    course.play(make.now, make.now + days * DAY, every)
    return course.fleet.record.rotated, _plainly(make, devices, desired, days=days, every=every, luck=luck)[policy.name]


EC, RSA = "ECDSA-P256", "RSA-2048"
# sentence → (what the policy says, ages in days, key types, luck)
SCENES = {
    "stragglers make room for others in flight": (
        lambda m: m.policy(rollout=m.rollout(max_in_flight=2, stragglers_after=12 * HOUR)),
        [200] * 12, [EC] * 12, Luck(1, 0, 0.7)),
    "a straggler that begins takes its room in flight again": (
        lambda m: m.policy(rollout=m.rollout(max_in_flight=4, stragglers_after=2 * HOUR, timeout=9 * HOUR)),
        [200] * 12, [EC] * 12, Luck(0, 0, 0.5)),
    "who waits for its key type becomes due by age meanwhile": (
        lambda m: m.policy(rule=m.rule(max_age=12 * DAY), jitter=20,
                           rollout=m.rollout(("1", "30%", "100%"), soak=2 * DAY, retries=1)),
        [42, 8, 0, 32], [EC, RSA, RSA, RSA], Luck(7, 0.3)),
    "due at noon, and the window is at night": (
        lambda m: m.policy(rule=m.rule(max_age=12 * DAY), windows=[m.window()]), [0, 3], [EC, EC], Luck()),
    "a cutoff comes while others back off": (
        lambda m: m.policy(rule=m.rule(max_age=12 * DAY, rotate_issued_before=m.now + 10 * DAY),
                           rollout=m.rollout(max_in_flight=2, maximum_per_minute=1, retries=0)),
        [0, 0, 0], [EC] * 3, Luck(0, 0.3)),
    "a halted rollout with stragglers": (
        lambda m: m.policy(rule=m.rule(max_age=40 * DAY),
                           windows=[m.window("0 6 * * *", 8 * HOUR, kind=WindowKind.DENY)],
                           rollout=m.rollout(("1", "100%"), soak=2 * DAY, max_in_flight=5, maximum_per_minute=1,
                                             retries=0, abort=(m.abort(30, 3),))),
        [38, 4, 10, 8, 29, 38, 39, 8, 16, 20, 10, 28],
        [EC, EC, EC, RSA, EC, RSA, RSA, RSA, RSA, EC, EC, RSA], Luck(4, 0.3, 0.3)),
    "so little life is left that the window is not waited for": (
        lambda m: m.policy(rule=m.rule(max_age=None, renew_before=2 * DAY), windows=[m.window("0 2 1 1 *", HOUR)]),
        [300, 301, 302], [EC, RSA, RSA], Luck()),
}  # fmt: skip


@pytest.mark.unmeasured
@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_it_rotates_who_and_when_the_whole_planner_does_where(make, scene):
    policy_of, ages, kinds, luck = scene
    policy = policy_of(make)
    shortly, plainly = _both_ways(make, policy, _devices(make, policy, ages, kinds), luck, 2 * HOUR, 36)
    assert shortly == plainly
    assert shortly


def test_a_rollout_that_failures_in_its_standing_job_have_halted_stays_halted_once_the_halt_has_ended_that_job(make):
    rollout = make.rollout(max_in_flight=2, maximum_per_minute=1, retries=0, stragglers_after=12 * HOUR)
    policy = make.policy(rule=make.rule(max_age=12 * DAY), rollout=rollout)
    devices = _devices(make, policy, [0] * 4, [EC] * 4)
    shortly, plainly = _both_ways(make, policy, devices, Luck(0, 0.3, 0.3), 2 * HOUR, 16)
    assert [name for name, _ in plainly] == ["g01", "g02"]  # the others have failed, or wait for a person
    assert shortly == plainly


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_it_rotates_the_same_devices_at_the_same_minutes_as_the_whole_planner_run_after_run(make, data):
    policy = data.draw(policies(make))
    ages = data.draw(st.lists(st.integers(0, 45), min_size=1, max_size=12))
    kinds = data.draw(st.lists(st.sampled_from([EC, EC, RSA]), min_size=len(ages), max_size=len(ages)))
    rates = st.sampled_from([0, 0.3])
    luck = Luck(data.draw(st.integers(0, 99)), data.draw(rates), data.draw(rates))
    every, days = data.draw(st.sampled_from([(2 * HOUR, 16), (5 * HOUR, 30)]))
    leaks = [(), (make.incident(key_type=RSA, deadline=make.now + 3 * DAY, ignore_windows=data.draw(st.booleans())),)]
    incidents = data.draw(st.sampled_from(leaks))
    devices = _devices(make, policy, ages, kinds)
    shortly, plainly = _both_ways(make, policy, devices, luck, every, days, incidents)
    assert shortly == plainly


@pytest.mark.unmeasured
def test_policies_side_by_side_are_played_as_the_whole_planner_does(make):
    both = [make.policy("line-a", windows=[make.window()], jitter=10), make.policy("line-b")]
    desired = make.desired(*both)
    devices = [
        make.device(f"g{n:02d}", age=(150 + n) * DAY, groups=("line-a" if n % 2 else "line-b",)) for n in range(30)
    ]
    luck = Luck(4, 0.1, 0.2)
    plainly = _plainly(make, devices, desired, days=20, every=2 * HOUR, luck=luck)
    found = simulate(devices, desired, make.state(), make.now, span=20 * DAY, every=2 * HOUR, luck=luck)
    assert found.rotations == sum(map(len, plainly.values())) > 20


# ---- what it tells


@pytest.mark.unmeasured
def test_a_year_of_a_healthy_fleet_misses_nothing(make):
    devices = [make.device(f"g{n:03d}", age=(n % 170) * DAY) for n in range(300)]
    found = _simulate(make, devices, make.desired(make.policy(jitter=10)))
    assert 600 <= found.rotations <= 900
    assert (found.failures, found.absences, found.overdue, found.given_up, found.blocked) == (0, 0, 0, 0, 0)
    assert (found.stragglers, found.halted) == (0, {})
    assert found.misses <= 4  # those that jitter brought forward by less than the interval of the loop
    assert found.peak_per_day <= 25
    assert found.mean_per_day == pytest.approx(found.rotations / 365)
    assert found.jobs <= found.rotations


@pytest.mark.unmeasured
def test_failures_back_off_and_absent_devices_come_back(make):
    devices = [make.device(f"g{n:03d}", age=(n % 180) * DAY) for n in range(200)]
    policy = make.policy(jitter=20, rollout=make.rollout(retries=0, abort=(make.abort(90, 100),)))
    found = _simulate(make, devices, make.desired(policy), failure_rate=0.1, offline_rate=0.1, seed=3)
    assert found.failures > 20
    assert found.absences > 20
    assert 0 < found.stragglers <= found.absences
    assert found.standing_jobs > 0
    assert found.most_open_jobs <= 3
    assert found.given_up == 0
    assert found.rotations > 350


def test_devices_that_always_fail_are_given_up_and_end_overdue(make):
    policy = make.policy(rollout=make.rollout(retries=1))
    found = _simulate(make, [make.device(age=170 * DAY)], make.desired(policy), days=60, failure_rate=1.0)
    assert (found.rotations, found.failures, found.given_up, found.overdue) == (0, 10, 1, 1)


def test_a_wave_soaks_before_the_next_one_starts(make):
    policy = make.policy(rollout=make.rollout(("1", "50%", "100%"), soak=2 * DAY))
    course = _course(make, [make.device(f"g{n}", age=200 * DAY) for n in range(10)], policy, days=10)
    started = Counter(when.date() for _device, when in course.fleet.record.rotated)
    assert sorted(started.values()) == [1, 4, 5]
    days = sorted(started)
    assert all(later - earlier >= 2 * DAY for earlier, later in itertools.pairwise(days))


def test_a_rollout_that_halts_stays_halted_because_nobody_is_there(make):
    rollout = make.rollout(("5", "100%"), soak=HOUR, abort=(make.abort(50, 3),), retries=0)
    devices = [make.device(f"g{n}", age=200 * DAY) for n in range(20)]
    found = _simulate(make, devices, make.desired(make.policy(rollout=rollout)), days=30, failure_rate=0.95)
    assert list(found.halted) == ["line-a"]
    assert found.halted["line-a"] < make.now + DAY
    assert found.rotations < 5
    assert found.overdue == 20 - found.rotations


def test_a_rollout_goes_on_where_its_jobs_have_brought_it(make):
    policy = make.policy(rollout=make.rollout(("1", "100%"), soak=20 * DAY))
    desired = make.desired(policy)
    (first,) = make.plan([make.device("g0", age=200 * DAY)], desired).jobs
    done = make.job(first.job_id, {"g0": make.execution(first.job_id, "SUCCEEDED", queued=30 * DAY, updated=30 * DAY)},
                    status="COMPLETED", age=30 * DAY)  # fmt: skip
    devices = [make.device("g0", age=30 * DAY), *(make.device(f"g{n}", age=200 * DAY) for n in range(1, 5))]
    assert _simulate(make, devices, desired, days=5).rotations == 1
    assert _simulate(make, devices, desired, days=5, state=make.state(done)).rotations == 4


def test_what_is_in_flight_at_the_beginning_is_taken_to_end_well(make):
    pair = (make.certificate(200 * DAY, name="old"), make.certificate(DAY, name="new"))
    device = make.device(certificates=pair, executions=(make.execution(status="IN_PROGRESS"),))
    found = _simulate(make, [device], make.desired(), days=30)
    assert (found.rotations, found.blocked, found.overdue) == (0, 0, 0)


def test_runs_that_a_guardrail_would_stop_are_counted(make):
    devices = [make.device(f"g{n}", age=200 * DAY) for n in range(20)]
    strict = make.desired(guardrails=replace(make.desired().fleet.guardrails, max_change_percent=30))
    assert _simulate(make, devices, strict, days=3).refused == 1
    assert _simulate(make, devices, make.desired(), days=3).refused == 0


def test_the_blocked_the_ungoverned_and_the_tied_take_no_part(make):
    devices = [make.device("b", certificates=()), make.device("u", groups=()), make.device("t", groups=("line-a", "x"))]
    desired = make.desired(make.policy("line-a"), make.policy("x"))
    found = _simulate(make, devices, desired, days=10)
    assert (found.rotations, found.blocked, found.peak_day) == (0, 2, None)


def test_a_rotation_that_finds_no_window_never_happens(make):
    shut = make.policy(windows=[make.window("0 0 * * *", 25 * HOUR, kind=WindowKind.DENY)])
    assert _simulate(make, [make.device(key_type="RSA-2048")], make.desired(shut), days=10).rotations == 0
    unreadable = make.certificate(not_before=None, not_after=None, key_type=None)
    assert _simulate(make, [make.device("x", certificates=(unreadable,))], make.desired(), days=10).blocked == 1


def test_a_policy_without_dates_rotates_only_what_departs(make):
    desired = make.desired(make.policy(rule=make.rule(max_age=None)))
    found = _simulate(make, [make.device("a"), make.device("b", key_type="RSA-2048")], desired)
    assert (found.rotations, found.overdue) == (1, 0)


def test_a_policy_that_only_reports_rotates_nothing(make):
    desired = make.desired(make.policy(mode=Mode.REPORT))
    found = _simulate(make, [make.device(age=200 * DAY)], desired, days=20)
    assert (found.rotations, found.overdue) == (0, 1)


# ---- properties


@given(seed=st.integers(0, 1000), order=st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None)
def test_a_simulation_is_a_function_of_its_seed_in_any_order_of_devices(make, seed, order):
    devices = [make.device(f"g{n:02d}", age=(n * 9) * DAY) for n in range(20)]
    shuffled = order.sample(devices, len(devices))
    options = {"days": 60, "failure_rate": 0.2, "offline_rate": 0.2, "seed": seed}
    assert _simulate(make, devices, make.desired(), **options) == _simulate(make, shuffled, make.desired(), **options)


@given(
    rate=st.integers(1, 5), flight=st.integers(1, 20), every=st.sampled_from([3 * MINUTE, 17 * MINUTE, HOUR]),
    number=st.integers(1, 60), windows=st.booleans(), waves=st.sampled_from([("100%",), ("3", "100%")]),
    offline=st.sampled_from([0, 0.4]), seed=st.integers(0, 9),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_capacity_is_never_exceeded_on_any_minute_of_any_simulated_day(
    make, rate, flight, every, number, windows, waves, offline, seed
):
    rollout = make.rollout(waves, maximum_per_minute=rate, max_in_flight=flight, soak=HOUR)
    policy = make.policy(rollout=rollout, windows=[make.window("0 */2 * * *", HOUR)] if windows else [])
    devices = [make.device(f"g{n:02d}", age=200 * DAY) for n in range(number)]
    course = _course(make, devices, policy, days=2, every=every, offline_rate=offline, seed=seed)
    record = course.fleet.record
    assert max(record.minutes.values()) <= rate
    assert record.most_in_flight <= flight
    assert record.most_open_jobs <= 3
    assert len(record.rotated) == len({name for name, _when in record.rotated}), "each once"


# ---- the virtual AWS IoT Jobs


def test_a_standing_job_lets_go_of_who_leaves_and_forgets_what_it_did_weeks_ago(make):
    old = [make.device(f"g{n}", age=200 * DAY) for n in range(3)]
    (wave,) = make.plan(old, make.desired()).jobs
    standing = replace(wave, job_id="cf-line-a-standing-0123456789abcdef", is_standing=True)
    fleet = VirtualFleet(make.policy(), {}, {d.name: Life(d) for d in old}, Luck())
    fleet.lives["g1"].away_until = make.now + 90 * DAY
    assert fleet.make(standing, make.now) == {"g0", "g1", "g2"}
    fleet.pass_until(make.now + HOUR)
    assert [name for name, _when in fleet.record.rotated] == ["g0", "g2"]
    job = fleet.jobs[standing.job_id]

    later = make.now + 30 * DAY
    nobody = replace(standing, devices=())
    assert fleet.make(nobody, later) == {"g1"}
    assert {name: execution.status.value for name, execution in job.executions.items()} == {"g1": "REMOVED"}
    assert fleet.lives["g1"].device.executions == ()
    assert fleet.open_jobs == {standing.job_id}, "a continuous job does not end by itself"
    assert fleet.next_event is None


def test_a_certificate_that_says_it_has_no_end_is_simulated_like_any_other(make):
    endless = make.certificate(not_after=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
    policy = make.policy(rule=make.rule(max_age=None, renew_before=30 * DAY), windows=[make.window()])
    found = simulate(
        [make.device("a", certificates=(endless,))], make.desired(policy), make.state(), make.now, span=DAY
    )
    assert (found.rotations, found.overdue) == (0, 0)


@pytest.mark.unmeasured
def test_under_a_stock_backend_a_device_keeps_what_its_component_is_set_to_from_rotation_to_rotation(make):
    desired = make.desired(make.policy(rule=make.rule(authority="aws-iot")))
    devices = [make.set_to("ECDSA-P256", make.device(f"g{n}", age=200 * DAY, authority="aws-iot")) for n in range(5)]
    stock = make.state(backend_is_stock=True, stock=StockBackend())
    for luck in ({}, {"seed": 3, "failure_rate": 0.3}):
        found, ours = (_simulate(make, devices, desired, days=800, state=state, **luck) for state in (stock, None))
        assert found == ours
        assert found.rotations == 25
