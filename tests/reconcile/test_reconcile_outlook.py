"""Forecast, comparison of two refs, simulation."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from controller.reconcile.checks import Governance
from controller.reconcile.outlook import compare, forecast
from controller.reconcile.outlook.comparison import CALLS_PER_ROTATION
from controller.reconcile.rollout import Ahead, Opening, rate_per_minute
from controller.reconcile.values import CertificateStatus, Mode, Reason, WaveStatus, WindowKind
from protocol.algorithms import KeyType

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


def _forecast(make, devices, desired, days=90):
    plan = make.plan(devices, desired)
    return forecast(devices, desired, make.state(), make.now, horizon=days * DAY, plan=plan)


def _compare(make, devices, base, head, state=None, now=None):
    return compare(lambda: devices, base, head, state or make.state(), now or make.now)


# ---- forecast


def test_a_forecast_counts_each_rotation_on_its_day_with_successors(make):
    rule = make.rule(max_age=30 * DAY)
    found = _forecast(make, [make.device(age=10 * DAY)], make.desired(make.policy(rule=rule)))
    assert [(row.day, row.rotations) for row in found.rows] == [
        (date(2026, 12, 13), 1),
        (date(2027, 1, 12), 1),
        (date(2027, 2, 11), 1),
    ]
    assert (found.total, found.peak, found.peak_day, found.days) == (3, 1, date(2026, 12, 13), 90)
    assert found.mean == pytest.approx(3 / 90)


def test_what_must_rotate_now_counts_today_and_what_is_blocked_does_not(make):
    devices = [
        make.device("old", age=200 * DAY),
        make.device("key", key_type="RSA-2048"),
        make.device("blocked", age=200 * DAY, status=CertificateStatus.INACTIVE),
        make.device("elsewhere", groups=()),
        make.device("tied", groups=("line-a", "line-b")),
        make.device("two", certificates=(make.certificate(), make.certificate(name="b")),
                    executions=(make.execution(status="IN_PROGRESS"),)),
    ]  # fmt: skip
    found = _forecast(make, devices, make.desired(make.policy("line-a"), make.policy("line-b")), days=1)
    assert found.per_day == {date(2026, 11, 23): 2}
    assert found.blocked == 2


def test_a_policy_without_dates_forecasts_nothing(make):
    desired = make.desired(make.policy(rule=make.rule(max_age=None)))
    found = _forecast(make, [make.device(), make.device("key", key_type="RSA-2048")], desired)
    assert found.per_day == {date(2026, 11, 23): 1}


def test_a_forecast_of_nothing_is_empty(make):
    found = _forecast(make, [], make.desired())
    assert (found.rows, found.peak, found.peak_day, found.total) == ((), 0, None, 0)


def test_jitter_flattens_the_peak_of_a_fleet_born_on_one_day(make):
    devices = [make.device(f"g{n}", age=150 * DAY) for n in range(200)]
    found = _forecast(make, devices, make.desired(make.policy(jitter=10)), days=60)
    assert found.peak_without_jitter == 200
    assert found.peak < 40
    assert found.total == 200


def test_capacity_is_rate_times_open_minutes_and_too_much_is_told(make):
    rollout = make.rollout(maximum_per_minute=1)
    policy = make.policy(rollout=rollout, windows=[make.window("0 2 * * *", HOUR)])
    devices = [make.device(f"g{n}", age=179 * DAY) for n in range(61)]
    found = _forecast(make, devices, make.desired(policy), days=5)
    (row,) = found.rows
    assert (row.policy, row.authority, row.rotations, row.capacity) == ("line-a", "plant-ca", 61, 60)
    assert [(one.policy, one.rotations, one.capacity) for one in found.over_capacity] == [("line-a", 61, 60)]
    assert _forecast(make, devices[1:], make.desired(policy), days=5).over_capacity == ()


def test_the_authoritys_validity_shortens_the_life_of_successors(make):
    rule = make.rule(max_age=None, renew_before=300 * DAY)  # of 365
    found = _forecast(make, [make.device(age=10 * DAY, left=310 * DAY)], make.desired(make.policy(rule=rule)), days=200)
    assert [row.day for row in found.rows] == [date(2026, 12, 3), date(2027, 2, 6), date(2027, 4, 12)]


def test_a_policy_that_could_never_rest_is_forecast_once(make):
    rule = make.rule(max_age=None, renew_before=400 * DAY, authority=None)
    (row,) = _forecast(make, [make.device(age=DAY, left=450 * DAY)], make.desired(make.policy(rule=rule))).rows
    assert row.rotations == 1


def test_a_device_under_rotation_whose_old_certificate_cannot_be_read_has_no_dates(make):
    pair = (make.certificate(not_before=None, not_after=None), make.certificate(name="b"))
    device = make.device(certificates=pair, executions=(make.execution(status="IN_PROGRESS"),))
    assert _forecast(make, [device], make.desired()).total == 0


def test_authorities_are_told_apart_and_share_their_policys_capacity(make):
    desired = make.desired(make.policy(rule=make.rule(authority=None)))
    devices = [make.device("a", age=200 * DAY), make.device("b", age=200 * DAY, authority="aws-iot")]
    rows = _forecast(make, devices, desired, days=1).rows
    assert [(row.authority, row.rotations) for row in rows] == [("aws-iot", 1), ("plant-ca", 1)]
    assert rows[0].capacity == rows[1].capacity == 100 * 24 * 60


def test_authorities_that_ask_too_much_only_together_are_told_with_their_sum(make):
    rollout = make.rollout(maximum_per_minute=1)
    policy = make.policy(rule=make.rule(authority=None), rollout=rollout, windows=[make.window("0 2 * * *", HOUR)])
    devices = [make.device(f"g{n}", age=179 * DAY, authority="aws-iot" if n % 2 else "plant-ca") for n in range(62)]
    found = _forecast(make, devices, make.desired(policy), days=5)
    assert {row.rotations for row in found.rows} == {31}
    assert [(one.rotations, one.capacity) for one in found.over_capacity] == [(62, 60)]


@pytest.mark.parametrize(
    ("sentence", "age", "days_left", "starts"),
    [
        ("overdue: as soon as it may", 200, None, ["2026-12-03"]),
        ("due while it is held: likewise", 175, None, ["2026-12-03"]),
        ("due after that: on its day", 160, None, ["2026-12-13"]),
        ("its certificate ends while it is held", 200, 9, []),
        ("and would end soon after", 200, 12, ["2026-12-03"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("by", ["waiver", "suspension", "both"])
def test_who_is_left_out_for_ten_days_rotates_after_that(make, by, sentence, age, days_left, starts):
    until, sooner = make.now + 10 * DAY, make.now + 4 * DAY
    suspend = {"waiver": None, "suspension": make.suspension(until), "both": make.suspension(sooner)}[by]
    waivers = () if by == "suspension" else (make.waiver("g", expires=until),)
    desired = make.desired(make.policy(suspend=suspend), waivers=waivers)
    found = _forecast(make, [make.device("g", age=age * DAY, left=days_left and days_left * DAY)], desired)
    assert [str(row.day) for row in found.rows] == starts, sentence
    assert found.blocked == (not starts), sentence


def test_who_is_held_waits_for_the_window_after_that_unless_its_end_is_near(make):
    nightly = [make.window("0 2 * * 0", HOUR)]  # a Sunday; 3 December is a Thursday
    desired = make.desired(make.policy(suspend=make.suspension(make.now + 10 * DAY), windows=nightly))
    days = [
        str(row.day)
        for left in (None, 12 * DAY)
        for row in _forecast(make, [make.device(age=200 * DAY, left=left)], desired).rows
    ]
    assert days == ["2026-12-06", "2026-12-03"]
    never = [*nightly, make.window("0 0 * * *", 25 * HOUR, kind=WindowKind.DENY)]
    shut = make.desired(make.policy(suspend=make.suspension(make.now + 10 * DAY), windows=never))
    assert _forecast(make, [make.device(age=200 * DAY)], shut).total == 0


def test_who_is_left_out_for_longer_than_the_horizon_is_counted_with_the_blocked(make):
    desired = make.desired(waivers=(make.waiver("old", "young", expires=make.now + 100 * DAY),))
    devices = [make.device("old", age=200 * DAY), make.device("young", age=150 * DAY), make.device("free")]
    found = _forecast(make, devices, desired)
    assert (found.total, found.blocked) == (0, 1)


def test_what_a_policy_only_reports_is_no_rotation_to_come(make):
    devices = [make.device("a", age=200 * DAY), make.device("b"), make.device("c", certificates=())]
    found = _forecast(make, devices, make.desired(make.policy(mode=Mode.REPORT)))
    assert (found.total, found.blocked, found.reported) == (0, 0, 3)


def test_of_a_policy_that_only_reports_everybody_is_counted(make):
    policy = make.policy(mode=Mode.REPORT, windows=[make.window()])
    devices = [make.device("a", age=200 * DAY), make.device("b", age=200 * DAY, left=2 * DAY)]
    asked = make.execution("cf-line-a-w1-0123456789abcdef", "QUEUED", 30 * HOUR)
    devices.append(make.device("c", age=200 * DAY, executions=(asked,)))
    [outlook] = make.plan(devices, make.desired(policy)).outlooks
    assert (outlook.reported, outlook.offline) == (2, 1), "who rotates now or in a window, and who does not answer"


# ---- estimate


def test_rates_are_the_lesser_of_starts_and_flight(make):
    assert rate_per_minute(make.rollout(maximum_per_minute=100, max_in_flight=100, timeout=5 * MINUTE)) == 20
    assert rate_per_minute(make.rollout(maximum_per_minute=10, max_in_flight=500, timeout=5 * MINUTE)) == 10
    assert rate_per_minute(make.rollout(maximum_per_minute=500, max_in_flight=100, timeout=MINUTE)) == 100


def test_a_rollout_takes_its_waves_soaks_and_windows(make):
    first = Opening(1, WaveStatus.OPEN, "", 1)

    def finish(devices, *, is_urgent=False, opening=first, **fields):
        rollout = make.rollout(("1", "50%", "100%"), maximum_per_minute=10, soak=DAY)
        policy = make.policy(rollout=rollout, **fields)
        governed = Governance(make.desired(policy), make.state(), make.now).policies["line-a"]
        return Ahead(policy, governed.open_time, opening, 100).finish(devices, make.now, is_urgent=is_urgent)

    assert finish(0) == make.now
    assert make.now + 2 * DAY < finish(100) < make.now + 2 * DAY + HOUR
    soaked = Opening(2, WaveStatus.OPEN, "", 49)
    assert finish(40, opening=soaked) == make.now + 4 * MINUTE + timedelta(seconds=1) + make.rollout().timeout
    assert make.now + DAY < finish(100, opening=soaked) < make.now + DAY + HOUR
    running, soaking = Opening(1, WaveStatus.RUNNING, ""), Opening(1, WaveStatus.SOAKING, "", until=make.now + HOUR)
    assert make.now + 2 * DAY < finish(99, opening=running) < make.now + 2 * DAY + HOUR
    assert make.now + DAY + HOUR < finish(99, opening=soaking) < make.now + DAY + 2 * HOUR
    assert finish(1) < make.now + HOUR
    nightly = [make.window("0 2 * * *", HOUR)]
    assert finish(1, windows=nightly) > datetime(2026, 11, 24, 2, tzinfo=UTC)
    assert finish(1, windows=nightly, is_urgent=True) < make.now + HOUR
    assert finish(1, windows=[make.window("0 0 * * *", 25 * HOUR, kind=WindowKind.DENY)]) is None


# ---- compare


def test_a_tighter_max_age_tells_who_rotates_and_what_it_takes(make):
    base = make.desired(commit="a" * 40)
    rollout = make.rollout(("1", "100%"), max_in_flight=2)
    policy = make.policy(rule=make.rule(max_age=90 * DAY), rollout=rollout)
    head = make.desired(policy, commit="b" * 40)
    devices = [make.device(f"g{n}", age=age * DAY) for n, age in enumerate([10, 100, 120, 150, 200])]
    found = _compare(make, devices, base, head)
    (of,) = found.policies
    assert (found.base_commit, found.head_commit, found.newly_due) == ("a" * 40, "b" * 40, 3)
    assert [(c.field, c.base, c.head) for c in of.changes] == [
        ("spec.certificate.maxAge", "180 days", "90 days"),
        ("spec.rollout.waves", "100%", "1, 100%"),
        ("spec.rollout.maxInFlight", "500", "2"),
    ]
    assert (of.governed_base, of.governed_head, of.newly_due, of.no_longer_due, of.due) == (5, 5, 3, 0, 4)
    assert of.reasons == {Reason.AGE_EXCEEDED: 3}
    assert of.jobs == 3  # one device, then three of them two at a time
    assert of.peak_per_day == 3  # the wave after the first
    assert of.remote_actions == 3 * CALLS_PER_ROTATION
    assert of.span.finish is not None
    assert of.moved is None
    assert of.has_effect


def test_other_authority_and_key_type_are_counted(make):
    base = make.desired()
    head = make.desired(make.policy(rule=make.rule(authority="aws-iot", key_type=None)))
    devices = [make.device("a"), make.device("b", authority="aws-iot"), make.device("c", key_type="RSA-2048")]
    (of,) = _compare(make, devices, base, head).policies
    assert (of.newly_due, of.no_longer_due, of.authority_changes, of.key_type_changes) == (1, 1, 1, 0)
    (back,) = _compare(make, devices, head, base).policies
    assert (back.newly_due, back.authority_changes, back.key_type_changes) == (1, 1, 0)
    stricter = make.desired(make.policy(rule=make.rule(key_type=KeyType.ECDSA_P384)))
    (keys,) = _compare(make, [make.device()], base, stricter).policies
    assert (keys.authority_changes, keys.key_type_changes) == (0, 1)


def test_a_policy_that_is_new_or_gone_is_told_with_all_its_fields(make):
    one, both = make.desired(make.policy("line-a")), make.desired(make.policy("line-a"), make.policy("line-b"))
    devices = [make.device("x", age=200 * DAY, groups=("line-b",))]
    added = _compare(make, devices, one, both).policies[1]
    assert (added.policy, added.governed_base, added.governed_head, added.newly_due) == ("line-b", 0, 1, 1)
    assert ("spec.thingGroup", None, "line-b") in [(c.field, c.base, c.head) for c in added.changes]
    gone = _compare(make, devices, both, one).policies[1]
    assert (gone.governed_base, gone.governed_head, gone.no_longer_due, gone.jobs, gone.span.finish) == (
        1,
        0,
        1,
        0,
        None,
    )


def test_a_suspension_that_is_put_off_is_a_change_and_so_is_every_field_that_a_policy_will_ever_have(make):
    shorter, longer = (make.desired(make.policy(suspend=make.suspension(make.now + n * DAY))) for n in (1, 3650))
    (of,) = _compare(make, [make.device()], shorter, longer).policies
    assert [change.field for change in of.changes] == ["spec.suspend.until"]


def test_no_change_has_no_effect_and_changes_of_every_kind_are_words(make):
    same = _compare(make, [make.device()], make.desired(), make.desired()).policies[0]
    assert (same.changes, same.has_effect) == ((), False)
    head = make.policy(
        mode=Mode.REPORT, suspend=make.suspension(), windows=[make.window()],
        rule=make.rule(rotate_issued_before=make.now, key_type=None), rollout=make.rollout(abort=(make.abort(),)),
    )  # fmt: skip
    other = _compare(make, [], make.desired(), make.desired(head)).policies[0]
    assert {c.field: (c.base, c.head) for c in other.changes} == {
        "spec.certificate.keyType": ("ECDSA-P256", None),
        "spec.certificate.rotateIssuedBefore": (None, "2026-11-23T12:00:00Z"),
        "spec.schedule.windows": (None, "allow 0 2 * * * UTC for 4 hours"),
        "spec.rollout.abort": (None, "20 % FAILED of at least 5"),
        "spec.mode": ("enforce", "report"),
        "spec.suspend.reason": (None, "line rebuild"),
        "spec.suspend.until": (None, "2026-11-24T12:00:00Z"),
    }


def test_a_policy_that_only_reports_rotates_nothing_until_it_is_enforced(make):
    reporting, enforcing = make.desired(make.policy(mode=Mode.REPORT)), make.desired()
    devices = [make.device("old", age=200 * DAY), make.device("key", key_type="RSA-2048"), make.device("young")]

    def counts(base, head):
        (of,) = _compare(make, devices, base, head).policies
        return of.newly_due, of.no_longer_due, of.due, of.jobs, of.peak_per_day

    assert counts(reporting, enforcing) == (2, 0, 2, 1, 2)
    assert counts(enforcing, reporting) == (0, 2, 0, 0, 0)
    stricter = make.desired(make.policy(rule=make.rule(max_age=5 * DAY), mode=Mode.REPORT))
    assert counts(reporting, stricter) == (0, 0, 0, 0, 0)


YEARLY = {"windows": [("0 2 1 12 *", 4 * HOUR)]}


@pytest.mark.parametrize(
    ("sentence", "base", "head", "starts", "days"),
    [
        ("windows that open later", {}, YEARLY, ["2026-11-23", "2026-12-01"], [0, 8]),
        ("windows that are taken away", YEARLY, {}, ["2026-12-01", "2026-11-23"], [8, 0]),
        ("waves with a soak", {}, {"waves": ("1", "100%"), "soak": 3 * DAY}, ["2026-11-23", "2026-11-23"], [0, 3]),
        ("a slower rate by some seconds only", {}, {"maximum_per_minute": 90}, None, None),
        ("a wider age", {}, {"max_age": 190 * DAY}, None, None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_devices_that_are_due_already_and_come_to_another_time_are_told(make, sentence, base, head, starts, days):
    def desired(windows=(), max_age=180 * DAY, waves=("100%",), **rollout):
        policy = make.policy(
            windows=[make.window(*window) for window in windows],
            rule=make.rule(max_age=max_age),
            rollout=make.rollout(waves, **rollout),
        )
        return make.desired(policy)

    devices = [make.device("a", age=200 * DAY), make.device("b", age=200 * DAY), make.device("c")]
    found = _compare(make, devices, desired(**base), desired(**head))
    (of,) = found.policies
    assert (of.newly_due, of.no_longer_due) == (0, 0), sentence
    assert found.makes_rotate == of.has_effect == (starts is not None), sentence
    if starts is None:
        assert of.moved is None, sentence
        return
    assert of.moved.devices == 2
    spans = (of.moved.base, of.moved.head)
    assert [f"{span.start:%Y-%m-%d}" for span in spans] == starts
    assert [(span.finish - make.now).days for span in spans] == pytest.approx(days, abs=1)


@pytest.mark.parametrize(
    ("base", "head", "told"),
    [
        ({"waves": ("1", "100%")}, {}, (5, 4, 0)),
        ({}, {"waves": ("1", "100%")}, (5, 0, 4)),
        ({"max_in_flight": 3}, {}, (5, 2, 0)),
    ],
    ids=["a first wave is taken away", "a first wave is put in", "more at once"],
)
def test_devices_that_start_with_the_first_because_of_a_change_are_told_though_all_end_within_minutes(
    make, base, head, told
):
    def desired(waves=("100%",), **rollout):
        return make.desired(make.policy(rollout=make.rollout(waves, soak=0 * DAY, timeout=5 * MINUTE, **rollout)))

    devices = [make.device(f"d{n}", age=200 * DAY) for n in range(5)]
    found = _compare(make, devices, desired(**base), desired(**head))
    (of,) = found.policies
    assert (of.moved.devices, of.moved.sooner, of.moved.later) == told
    assert of.moved.base.start == of.moved.head.start == make.now
    assert found.makes_rotate


def test_windows_that_never_open_move_what_is_due_to_never(make):
    shut = make.desired(make.policy(windows=[make.window("0 0 * * *", 25 * HOUR, kind=WindowKind.DENY)]))
    (of,) = _compare(make, [make.device(age=200 * DAY)], make.desired(), shut).policies
    assert (of.moved.devices, of.moved.head.start, of.moved.head.finish) == (1, None, None)


def test_devices_that_policies_tie_over_are_counted_under_none(make):
    tied = make.desired(make.policy("line-a"), make.policy("line-b"))
    found = _compare(make, [make.device(groups=("line-a", "line-b"))], tied, tied)
    assert [policy.governed_head for policy in found.policies] == [0, 0]


def _person_needed(found):
    return [(one.device, one.policy, one.person_needed_for.reason.value) for one in found.blocked]


@pytest.mark.parametrize(
    ("why", "base", "head", "expected"),
    [
        ("two policies tie", ["line-a"], ["line-a", "line-b"], ("both", None, "PolicyConflict")),
        ("nobody can tell the result", ["line-c"], ["line-a"], ("other", "line-a", "ResultUnknown")),
    ],
)
def test_a_device_that_a_change_blocks_is_told_once_by_the_change_that_does_it(make, why, base, head, expected):
    rules = {"line-a": make.rule(key_type=None)}
    documents = {name: make.policy(name, rule=rules.get(name)) for name in {*base, *head}}
    devices = [make.device("quiet"), make.device("lost", groups=("line-a", "line-c"), certificates=())]
    if expected[0] == "both":
        devices.append(make.device("both", groups=("line-a", "line-b")))
    else:
        devices.append(make.device("other", age=200 * DAY, key_type="RSA-4096"))
    base, head = (make.desired(*(documents[name] for name in names)) for names in (base, head))
    assert _person_needed(_compare(make, devices, base, head)) == [expected], why
    assert not _compare(make, devices, head, head).blocked, "nor is what is blocked without the change its fault"


def test_a_device_that_a_change_leaves_out_because_a_person_says_so_is_not_blocked_by_it(make):
    waived = make.desired(waivers=(make.waiver("old"),))
    found = _compare(make, [make.device("old", age=200 * DAY)], make.desired(), waived)
    assert (found.blocked, found.no_longer_due) == ((), 1)


def test_an_incident_that_a_change_declares_is_told_with_what_the_plan_says_of_it(make):
    head = make.desired(incidents=(make.incident(issued_before=make.now - DAY),))
    two = (make.certificate(20 * DAY), make.certificate(30 * DAY, name="x"))
    devices = [make.device("a"), make.device("lost", certificates=two)]
    found = _compare(make, devices, make.desired(), head)
    assert found.incidents == make.plan(devices, head).incidents
    assert [one.needs_person for one in found.missed] == [True]
    without = _compare(make, devices, head, head)
    assert (without.incidents, without.missed) == (found.incidents, ()), "without the change it is missed as well"
    assert not _compare(make, devices[:1], make.desired(), head).missed
