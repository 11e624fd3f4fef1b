"""The plan as a whole: targets, documents, determinism, JSON, guardrails, incidents."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.errors import CertfleetError, PlanError
from controller.reconcile.checks import assess_fleet
from controller.reconcile.planning import (
    MAX_PLAN_BYTES,
    ChangeCount,
    HeldCertificate,
    Present,
    changed_groups,
    make_plan,
    plan_from_json,
    plan_to_json,
    settle,
    why_left_out,
)
from controller.reconcile.planning.guardrails import Late, too_late
from controller.reconcile.values import (
    NO_OVERRIDES,
    AttachmentType,
    Baseline,
    CertificateStatus,
    Guardrails,
    Mode,
    Outcome,
    Overrides,
    Reason,
    Refusal,
    StockBackend,
    Suspension,
    TargetKind,
    options_for,
    parse_overrides,
)

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
OLD = 200 * DAY


def _fleet(make, number, **fields):
    return [make.device(f"g{n:04d}", age=OLD, **fields) for n in range(number)]


# ---- targets and documents


@pytest.mark.parametrize(
    ("sentence", "due", "young", "size", "kind"),
    [
        ("the whole group", 7, 0, 7, TargetKind.GROUP),
        ("the whole group, however large", 300, 0, 300, TargetKind.GROUP),
        ("all but one that is in sync", 7, 1, 8, TargetKind.THINGS),
        ("all of ours, but the group has more", 7, 0, 9, TargetKind.THINGS),
        ("a hundred", 100, 1, 101, TargetKind.THINGS),
        ("more than a hundred", 101, 1, 102, TargetKind.COHORT),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_how_a_job_addresses_its_devices(make, sentence, due, young, size, kind):
    devices = _fleet(make, due) + [make.device(f"young{n}") for n in range(young)]
    (job,) = make.plan(devices, make.desired(), make.state(group_sizes={"line-a": size})).jobs
    assert job.target_kind is kind, sentence
    group = {TargetKind.GROUP: "line-a", TargetKind.THINGS: None, TargetKind.COHORT: job.job_id}[kind]
    assert job.target_group == group
    assert len(job.devices) == due


def test_a_job_says_in_full_what_is_wanted_and_a_stock_backend_gets_its_own_document(make):
    (job,) = make.plan(_fleet(make, 1), make.desired()).jobs
    assert job.document.to_wire() == {
        "operation": "ROTATE_CERTIFICATE",
        "keyAlgorithm": "ECDSA-P256",
        "signingAlgorithm": "ECDSA-WITH-SHA256",
        "certificateAuthority": "plant-ca",
        "certificateAuthorityArn": "arn:aws:acm-pca:plant",
        "policy": "line-a",
        "commit": "c" * 40,
    }
    silent = make.desired(make.policy(rule=make.rule(key_type=None, authority=None)))
    (device,) = _fleet(make, 1)
    state = make.state(backend_is_stock=True, stock=StockBackend("arn:aws:acm-pca:plant", 365 * DAY))
    (stock,) = make.plan([make.set_to("ECDSA-P256", device)], silent, state).jobs
    assert stock.document.to_wire() == {"operation": "ROTATE_CERTIFICATE"}


def test_devices_rotate_in_order_of_taint_urgency_and_date(make):
    incident = make.incident(authority="aws-iot", ignore_windows=True)
    devices = [
        make.device("a-late", age=181 * DAY),
        make.device("b-later", age=190 * DAY),
        make.device("c-ends-soon", age=200 * DAY, left=2 * DAY),
        make.device("d-tainted", authority="aws-iot"),
    ]
    (job,) = make.plan(devices, make.desired(incidents=(incident,))).jobs
    assert [device.name for device in job.devices] == ["d-tainted", "c-ends-soon", "b-later", "a-late"]
    assert [device.is_urgent for device in job.devices] == [True, True, False, False]
    assert job.devices[0].reasons == (Reason.AUTHORITY_TAINTED, Reason.AUTHORITY_MISMATCH)


def test_policies_are_summed_up(make):
    devices = [
        make.device("in-sync"),
        make.device("coming", age=175 * DAY),
        make.device("due", age=OLD),
        make.device("rotating", age=OLD, executions=(make.execution(),)),
        make.device("straggler", age=OLD, executions=(make.execution(queued=30 * HOUR),)),
        make.device("blocked", certificates=()),
    ]
    (summary,) = make.plan(devices, make.desired()).policies
    counts = (summary.governed, summary.in_sync, summary.rotating, summary.to_rotate, summary.waiting, summary.blocked)
    assert counts == (6, 2, 1, 1, 1, 1)


# ---- determinism


@st.composite
def fleets(draw):
    ages = draw(st.lists(st.integers(0, 400), min_size=1, max_size=25))
    kinds = draw(st.lists(st.sampled_from(["ECDSA-P256", "RSA-2048"]), min_size=25, max_size=25))
    counts = draw(st.lists(st.integers(0, 2), min_size=25, max_size=25))
    return list(zip(ages, kinds, counts, strict=False))


def _drawn(make, rows):
    return [
        make.device(f"g{n:02d}", age=age * DAY, key_type=kind) if count else make.device(f"g{n:02d}", certificates=())
        for n, (age, kind, count) in enumerate(rows)
    ]


@given(rows=fleets(), seed=st.integers(0, 100), waves=st.sampled_from([("100%",), ("1", "20%", "100%")]))
@settings(max_examples=60)
def test_the_same_situation_gives_the_same_plan_byte_for_byte_in_any_order(make, rows, seed, waves):
    devices = _drawn(make, rows)
    shuffled = random.Random(seed).sample(devices, len(devices))
    desired = make.desired(make.policy(rollout=make.rollout(waves), jitter=10))
    assert plan_to_json(make.plan(devices, desired)) == plan_to_json(make.plan(shuffled, desired))


@given(rows=fleets(), limit=st.integers(1, 5), waves=st.sampled_from([("100%",), ("1", "30%", "100%"), ("2", "100%")]))
@settings(max_examples=40)
def test_waves_partition_the_drift_and_runs_rotate_each_device_once(make, rows, limit, waves):
    devices = {device.name: device for device in _drawn(make, rows)}
    desired = make.desired(make.policy(rollout=make.rollout(waves, soak=timedelta(0), max_in_flight=limit)))
    drift = {
        a.device for a in assess_fleet(devices.values(), desired, make.state(), make.now) if a.outcome is Outcome.ROTATE
    }
    rotated, jobs = [], []
    for run in range(len(drift) + len(waves) + 1):
        now = make.now + run * HOUR
        plan = make.plan(list(devices.values()), desired, make.state(*jobs, now=now), now)
        for job in plan.jobs:
            rotated += [device.name for device in job.devices]
            done = make.execution(job.job_id, "SUCCEEDED", queued=-run * HOUR, updated=-run * HOUR)
            jobs.append(make.job(job.job_id, {d.name: done for d in job.devices}, status="COMPLETED", age=-run * HOUR))
            for device in job.devices:
                fresh = make.certificate(-run * HOUR, name=f"{device.name}-new")
                devices[device.name] = make.device(device.name, certificates=(fresh,))
    assert sorted(rotated) == sorted(drift)
    assert len({job.job_id for job in jobs}) == len(jobs)


def test_settle_says_of_each_held_device_what_its_wave_waits_for(make):
    devices = [*_fleet(make, 3), make.device("young")]
    desired = make.desired(make.policy(rollout=make.rollout(("1", "100%"))))
    assessments = list(assess_fleet(devices, desired, make.state(), make.now))
    plan = make_plan(iter(assessments), desired, make.state(), make.now)
    settled = {a.device: make.reasons(a) for a in settle(assessments, plan)}
    assert settled == {
        "g0000": ["AgeExceeded"],
        "g0001": ["AgeExceeded", "WaveSoaking"],
        "g0002": ["AgeExceeded", "WaveSoaking"],
        "young": [],
    }


def test_a_plan_says_until_when_it_holds_of_which_commit_it_is_and_what_may_be_rotated(make):
    state = make.state()
    plan = make.plan(_fleet(make, 1), make.replace(make.desired(), committed_at=make.now + DAY), state)
    assert (plan.created_at, plan.valid_until, plan.committed_at) == (make.now, make.now + 3 * DAY, make.now)
    assert plan.attachments == tuple(sorted(state.rotatable))
    assert plan.outlooks
    before = make.plan(_fleet(make, 1), make.replace(make.desired(), committed_at=make.now - DAY), state)
    assert before.committed_at == make.now - DAY
    assert make.plan([], make.replace(make.desired(), committed_at=None), state).committed_at is None


# ---- JSON


def test_a_plan_survives_its_file(make):
    devices = _fleet(make, 5)
    rollout = make.rollout(("1", "100%"), abort=(make.abort(),), timeout=timedelta(minutes=7))
    incident = make.incident(authority="aws-iot")
    plan = make.plan(devices, make.desired(make.policy(rollout=rollout), incidents=(incident,)))
    text = plan_to_json(plan)
    assert plan_from_json(text) == plan
    assert json.loads(text)["format_version"] == 2


def _edited(text, **fields):
    return json.dumps(json.loads(text) | fields)


@pytest.mark.parametrize(
    ("sentence", "damage", "message"),
    [
        ("cut off", lambda text: text[: len(text) // 2], "the plan is not JSON"),
        ("nested beyond measure", lambda _text: "[" * 100_000, "the plan is not JSON"),
        ("of a newer version", lambda text: _edited(text, format_version=3), "format_version 3, this certfleet"),
        ("of the version before", lambda text: _edited(text, format_version=1), "this certfleet reads 2"),
        ("no object", lambda _text: "[]", "format_version None"),
        ("without a field", lambda text: _edited(text, jobs=None), "damaged at jobs"),
        ("for another account", lambda text: _edited(text, account="999999999999"), "it was changed after it was made"),
        ("with its refusals removed", lambda text: _edited(text, refusals=[]), "it was changed after it was made"),
        ("with a job document that is none",
         lambda text: text.replace('"key_type": "ECDSA-P256"', '"key_type": "DSA"'), "damaged at jobs.0.document"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_damaged_plan_file_is_refused(make, sentence, damage, message):
    desired = make.desired(guardrails=Guardrails(30, 1))
    text = plan_to_json(make.plan(_fleet(make, 2), desired))
    with pytest.raises(PlanError, match=message) as caught:
        plan_from_json(damage(text))
    assert caught.value.remedy, sentence


def test_a_plan_file_beyond_measure_is_not_parsed():
    class Endless(str):
        __slots__ = ()

        def __len__(self):
            return MAX_PLAN_BYTES + 1

    with pytest.raises(PlanError, match="at most 1,073,741,824 are read"):
        plan_from_json(Endless("{}"))


# ---- guardrails


def _refusals(make, devices, desired, state=None, **options):
    plan = make.plan(devices, desired, state, **options)
    return [(r.guardrail, r.policy, r.message, r.override) for r in plan.refusals]


def test_too_many_at_once_is_refused_with_numbers_and_the_exact_override(make):
    devices = _fleet(make, 8) + [make.device(f"young{n}") for n in range(12)]
    desired = make.desired(guardrails=Guardrails(30, 10))
    refusals = _refusals(make, devices, desired)
    assert refusals[0] == (
        "maxChangePercent",
        "line-a",
        "the plan rotates 8 devices of policy line-a with 0 in flight, 40 % of 20 at once; 30 % are allowed",
        "--override maxChangePercent=40",
    )
    assert [policy for _guardrail, policy, _message, _override in refusals] == ["line-a", None]
    assert _refusals(make, devices, desired, overrides=parse_overrides(["maxChangePercent=40"])) == []


@pytest.mark.parametrize(
    ("sentence", "old", "young", "rotating", "refused"),
    [
        ("exactly the limit", 3, 7, 0, False),
        ("one more", 4, 6, 0, True),
        ("those in flight count as well", 2, 6, 2, True),
        ("a small fleet is left alone", 9, 0, 0, False),
        ("nothing starts, however many are in flight", 0, 4, 6, False),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_max_change_percent(make, sentence, old, young, rotating, refused):
    devices = _fleet(make, old) + [make.device(f"y{n}") for n in range(young)]
    devices += [make.device(f"r{n}", age=OLD, executions=(make.execution(),)) for n in range(rotating)]
    assert bool(_refusals(make, devices, make.desired(guardrails=Guardrails(30, 10)))) is refused, sentence


def test_devices_that_policies_tie_over_count_for_the_fleet_but_for_no_policy(make):
    desired = make.desired(make.policy("line-a"), make.policy("line-b"), guardrails=Guardrails(30, 10))
    devices = [*_fleet(make, 4), *(make.device(f"t{n}", groups=("line-a", "line-b")) for n in range(6))]
    plan = make.plan(devices, desired)
    assert [(r.policy, "4 devices of the fleet with 0 in flight, 40 % of 10" in r.message) for r in plan.refusals] == [
        (None, True)
    ]


def test_every_refusal_prints_the_override_that_lets_the_same_plan_pass(make):
    incident = make.incident(authority="aws-iot", deadline=make.now + HOUR)
    slow = make.policy(rollout=make.rollout(maximum_per_minute=1))
    desired = make.desired(slow, guardrails=Guardrails(30, 10), incidents=(incident,))
    devices = [make.device(f"g{n:03d}", authority="aws-iot") for n in range(120)]
    state = make.state(group_sizes={"line-a": 120}, baseline=Baseline({"line-a": 200, "line-z": 7}, {"line-z": 7}))
    refusals = make.plan(devices, desired, state).refusals
    assert [refusal.guardrail for refusal in refusals] == ["orphans", *["maxChangePercent"] * 2, "deadline"]
    printed = [refusal.override.removeprefix("--override ") for refusal in refusals]
    together = options_for(refusals)
    assert parse_overrides(together.split()[1::2]) == parse_overrides(printed)
    assert make.plan(devices, desired, state, overrides=parse_overrides(printed)).refusals == ()
    for left_out in set(printed):
        others = parse_overrides(override for override in printed if override != left_out)
        left = make.plan(devices, desired, state, overrides=others).refusals
        assert {refusal.override for refusal in left} == {f"--override {left_out}"}
        assert options_for(left, others) == together, "what the run was given is needed as well"


def test_the_options_that_lift_refusals_are_read_back_and_a_number_that_holds_for_the_run_stands_once():
    given = ["maxChangePercent=12.5", "groupChangePercent=9", "lateDevices=3", "resume=line-b", "resume=line-a"]
    given += ["again=gw-1", "deployment=plant-ca", "result=line-a", "older=" + "d" * 12, "orphans=2"]
    overrides = parse_overrides(given)
    assert parse_overrides(overrides.texts) == overrides
    assert NO_OVERRIDES.texts == ()
    asked = [Refusal("maxChangePercent", None, "", f"--override maxChangePercent={n}") for n in (41, 95)]
    assert options_for(asked, parse_overrides(["lateDevices=3"])) == (
        "--override maxChangePercent=95 --override lateDevices=3"
    )
    assert options_for([*asked, Refusal("groupChangePercent", None, "", "none: plan again")]) == "none: plan again"


def test_deadlines_that_the_rates_cannot_meet_are_refused(make):
    rollout = make.rollout(("100%",), maximum_per_minute=1, max_in_flight=500)
    incident = make.incident(authority="aws-iot", deadline=make.now + HOUR)
    devices = [make.device(f"g{n:03d}", authority="aws-iot") for n in range(120)]
    desired = make.desired(make.policy(rollout=rollout), incidents=(incident,))
    plan = make.plan(devices, desired)
    (refusal,) = plan.refusals
    assert refusal.guardrail == "deadline"
    assert "1 devices a minute (maximumPerMinute 1, maxInFlight 500) in 1 waves" in refusal.message
    assert "must be rotated by 2026-11-23T13:00:00Z, but" in refusal.message
    assert refusal.override == "--override lateDevices=66"
    assert "will be missed: the given rates and windows need until" in plan.incidents[0].message
    assert make.plan(devices, desired, overrides=Overrides(late_devices=66)).refusals == ()


def test_a_certificate_that_ends_before_its_turn_is_refused_but_one_in_time_is_not(make):
    rollout = make.rollout(("100%",), maximum_per_minute=1)
    hurried = [make.device(f"g{n:03d}", age=300 * DAY, left=HOUR) for n in range(100)]
    assert "must be rotated by" in make.plan(hurried, make.desired(make.policy(rollout=rollout))).refusals[0].message
    calm = [make.device(f"g{n:03d}", age=300 * DAY, left=2 * DAY) for n in range(100)]
    assert make.plan(calm, make.desired(make.policy(rollout=rollout))).refusals == ()


def test_who_is_late_in_windows_and_who_is_without_them_are_counted_together(make):
    incident = make.incident(authority="aws-iot", deadline=make.now + HOUR / 2, ignore_windows=False)
    policy = make.policy(rollout=make.rollout(maximum_per_minute=1))
    leaked = [make.device(f"g{n:03d}", authority="aws-iot") for n in range(60)]
    ending = [make.device(f"h{n:03d}", age=300 * DAY, left=HOUR / 2) for n in range(60)]
    plans = [make.plan(some, make.desired(policy, incidents=(incident,))) for some in (leaked, ending, leaked + ending)]
    first, second, both = (int(plan.refusals[-1].override.partition("lateDevices=")[2]) for plan in plans)
    assert 0 < first < both == first + second


def test_an_incident_that_keeps_to_windows_it_cannot_have_is_refused(make):
    incident = make.incident(authority="aws-iot", deadline=make.now + 2 * HOUR, ignore_windows=False)
    window = make.window("0 12 23 11 *", 5 * timedelta(minutes=1))
    policy = make.policy(windows=[window], rollout=make.rollout(("100%",), maximum_per_minute=1))
    devices = [make.device(f"g{n:03d}", authority="aws-iot") for n in range(10)]
    plan = make.plan(devices, make.desired(policy, incidents=(incident,)))
    assert plan.refusals[0].guardrail == "deadline"
    ending = [make.device(f"g{n:03d}", age=300 * DAY, left=30 * DAY) for n in range(10)]
    calm = make.plan(ending, make.desired(policy))
    assert calm.refusals == (), "who ends leaves the windows when it must"
    assert calm.outlooks[0].finish is None or calm.outlooks[0].finish > make.now + 30 * DAY
    [stage] = (
        make.plan([make.device(age=300 * DAY, left=DAY)], make.desired(policy), now=make.now + HOUR).outlooks[0].stages
    )
    assert stage.start == make.now + HOUR, "it must now"
    shut = make.policy(windows=[make.window("0 0 1 1 *", HOUR)])
    waiting = make.plan(devices, make.desired(shut, incidents=(incident,)))
    assert waiting.jobs == ()
    assert "will be missed" in waiting.incidents[0].message


@pytest.mark.parametrize(
    ("sentence", "planned", "found", "message"),
    [
        ("the same", 100, 100, None),
        ("a little more", 100, 120, None),
        ("half as many again", 100, 150, "had 100 things when the plan was made and has 150 now: 50 % changed"),
        ("gone", 100, 0, "100 % changed"),
        ("small", 3, 9, None),
        ("many times as many", 20, 200, "900 % changed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_group_that_changed_since_the_plan(make, sentence, planned, found, message):
    desired = make.desired(guardrails=Guardrails(30, 10))
    plan = make.plan([], desired, make.state(group_sizes={"line-a": planned}))
    refusals = changed_groups(plan, desired, make.state(group_sizes={"line-a": found}), Overrides())
    assert bool(refusals) is (message is not None), sentence
    if message is not None:
        assert message in refusals[0].message
        expected = "none: plan again" if found > planned * 2 else "--override groupChangePercent="
        assert refusals[0].override.startswith(expected)
        if expected.startswith("--"):
            name = refusals[0].override.removeprefix("--override ")
            state = make.state(group_sizes={"line-a": found})
            assert changed_groups(plan, desired, state, parse_overrides([name])) == ()


@pytest.mark.parametrize(
    ("planned", "found", "told", "override"),
    [
        (10, 5, "50 % changed", "--override groupChangePercent=50"),
        (0, 20, "2000 % changed", "none: plan again"),
        (1, 20, "1900 % changed", "none: plan again"),
        (30, 41, "36.7 % changed", "--override groupChangePercent=37"),
        (1000, 2000, "100 % changed", "--override groupChangePercent=100"),
        (1000, 2005, "100.5 % changed", "none: plan again"),
        (12, None, "has 0 now: 100 % changed", "--override groupChangePercent=100"),
    ],
)
def test_how_much_a_group_has_changed_is_told_with_the_least_override(make, planned, found, told, override):
    desired = make.desired(guardrails=Guardrails(30, 10))
    plan = make.plan([], desired, make.state(group_sizes={"line-a": planned}))
    sizes = {} if found is None else {"line-a": found}
    (refusal,) = changed_groups(plan, desired, make.state(group_sizes=sizes), Overrides())
    assert told in refusal.message
    assert refusal.override == override


def test_what_one_apply_starts_in_all_its_rounds_counts_at_once():
    assert ChangeCount("line-a", governed=10, starting=1, rotating=2).at_once == 3
    assert ChangeCount("line-a", governed=10, starting=1, rotating=2, begun=3).at_once == 6


@pytest.mark.parametrize("finish", [datetime(2026, 12, 1, tzinfo=UTC), None], ids=["too late", "never"])
def test_devices_that_cannot_be_in_time_are_told_with_when_they_will_be(make, finish):
    late = Late("line-a", 3, make.now + DAY, finish, "4 a minute")
    told = "the last would be done at 2026-12-01T00:00:00Z" if finish else "no open time is left for it"
    refusal = too_late(late, Overrides())
    assert told in refusal.message
    assert too_late(late, parse_overrides([refusal.override.removeprefix("--override ")])) is None


def test_overrides_are_read():
    found = parse_overrides(
        ["maxChangePercent=80", "groupChangePercent=50.5", "lateDevices=3", "orphans=4", "resume=a", "resume=b"]
    )
    assert found == Overrides(80.0, 50.5, 3, 4, frozenset({"a", "b"}))


@pytest.mark.parametrize(
    "text",
    ["", "nonsense=1", "resume=", "maxChangePercent=many", "maxChangePercent=101", "orphans=-1", "lateDevices=x"],
)
def test_an_override_that_is_wrong_is_named_with_what_is_allowed(text):
    with pytest.raises(CertfleetError, match=repr(text)) as caught:
        parse_overrides([text])
    assert caught.value.remedy


# ---- incidents


def test_an_incident_is_not_finished_while_devices_remain_that_are_not_given_up(make):
    incident = make.incident(authority="aws-iot", accepted_losses=frozenset({"lost"}))
    desired = make.desired(make.policy(rollout=make.rollout(("1", "100%"))), incidents=(incident,))
    devices = [
        make.device("lost", authority="aws-iot", status=CertificateStatus.INACTIVE),
        make.device("stuck", authority="aws-iot", type_=AttachmentType.NON_EXCLUSIVE),
        make.device("two", certificates=(make.certificate(authority="aws-iot"), make.certificate(name="b"))),
        make.device("fine"),
        make.device("tied", groups=()),
        make.device("goes", authority="aws-iot"),
    ]
    (report,) = make.plan(devices, desired).incidents
    assert (report.remaining, report.blocked, report.accepted, report.is_finished) == (3, 2, 1, False)
    assert "3 devices to go by 2026-11-25T12:00:00Z; the others will be done, at 2026-11-2" in report.message
    assert "2 devices blocked: a person must act" in report.message
    assert "only report" not in report.message
    (over,) = make.plan([devices[0], devices[3]], desired).incidents
    assert over.is_finished
    assert over.message == "incident leak is finished: no device matches any more; 1 device accepted as lost"


OTHER_WAYS = {
    "several policies claim it": ({"groups": ("line-a", "line-b")}, {}, "1 device blocked"),
    "its policy only reports": ({}, {"mode": Mode.REPORT}, "1 of them under policies that only report: take mode: re"),
    "its policy is suspended": ({}, {"suspend": Suspension("rebuild", datetime(2027, 1, 1, tzinfo=UTC))}, "1 device b"),
}


@pytest.mark.parametrize(("device", "policy", "text"), OTHER_WAYS.values(), ids=OTHER_WAYS)
def test_an_incident_goes_on_while_a_device_is_left_that_nothing_rotates_because(make, device, policy, text):
    incident = make.incident(authority="aws-iot")
    desired = make.desired(make.policy(**policy), make.policy("line-b"), incidents=(incident,))
    devices = [make.device("left", authority="aws-iot", **device)]
    (report,) = make.plan(devices, desired).incidents
    assert (report.remaining, report.blocked, report.is_finished) == (1, 1, False)
    assert "the deadline will be missed unless a person acts" in report.message
    assert text in report.message
    assert report.needs_person
    lost = make.replace(incident, accepted_losses=frozenset({"left"}))
    (over,) = make.plan(devices, make.replace(desired, incidents=(lost,))).incidents
    assert (over.remaining, over.accepted, over.is_finished) == (0, 1, True)


def test_an_incident_says_how_many_things_it_cannot_speak_of(make):
    desired = make.desired(incidents=(make.incident(authority="aws-iot"),))
    (report,) = make.plan([], desired, make.state(unmanaged_count=43)).incidents
    assert report.message.endswith("no device matches any more; not looked at: 43 things that no policy governs")


def test_a_deadline_that_has_passed_is_told_and_refuses_nothing(make):
    incident = make.incident(authority="aws-iot", deadline=make.now - HOUR)
    plan = make.plan([make.device(authority="aws-iot")], make.desired(incidents=(incident,)))
    assert "the deadline has passed" in plan.incidents[0].message
    assert plan.incidents[0].needs_person
    assert plan.refusals == ()
    assert len(plan.jobs) == 1


LINES = ("line-a", "line-b")


def under_incident(make, *policies, **fields):
    """The plan, with an incident under which nine devices of each line have to rotate."""
    desired = make.desired(*policies, incidents=(make.incident(authority="aws-iot", **fields),))
    devices = [make.device(f"{line} {n}", authority="aws-iot", groups=(line,)) for line in LINES for n in range(9)]
    return make.plan(devices, desired)


def test_an_incident_is_over_in_time_up_to_the_second_of_its_deadline(make):
    finish = under_incident(make, make.policy()).incidents[0].finish
    for deadline, told, late in (
        (finish, "the deadline will be met", []),
        (finish - timedelta(seconds=1), "the deadline will be missed", ["--override lateDevices=1"]),
        (make.now, "the deadline has passed", []),
    ):
        plan = under_incident(make, make.policy(), deadline=deadline)
        assert told in plan.incidents[0].message
        assert [refusal.override for refusal in plan.refusals] == late


def test_an_incident_is_over_when_the_slowest_policy_has_done_its_part(make):
    for slow, fast in (LINES, LINES[::-1]):
        policies = [make.policy(slow, rollout=make.rollout(maximum_per_minute=1)), make.policy(fast)]
        plans = [under_incident(make, *some) for some in (policies, policies[:1], policies[1:])]
        both, alone, other = (plan.incidents[0].finish for plan in plans)
        assert both == alone > other


@pytest.mark.parametrize(("ignore_windows", "told"), [(True, "met"), (False, "missed")])
def test_an_incidents_deadline_shortens_soaks_unless_it_keeps_to_windows(make, ignore_windows, told):
    policy = make.policy(rollout=make.rollout(("1", "100%"), soak=DAY))
    plan = under_incident(make, policy, deadline=make.now + 12 * HOUR, ignore_windows=ignore_windows)
    assert f"the deadline will be {told}" in plan.incidents[0].message
    assert (plan.outlooks[0].finish <= make.now + 12 * HOUR) is ignore_windows


def test_a_device_under_two_incidents_counts_for_both(make):
    incidents = (make.incident("one", authority="aws-iot"), make.incident("two", make.now + DAY, authority="aws-iot"))
    plan = make.plan([make.device(authority="aws-iot")], make.desired(incidents=incidents))
    assert [(report.incident, report.remaining) for report in plan.incidents] == [("two", 1), ("one", 1)]
    assert not any(report.needs_person for report in plan.incidents), "both will be over in time"


def test_an_incident_without_any_window_says_so(make):
    incident = make.incident(authority="aws-iot", ignore_windows=False)
    policy = make.policy(windows=[make.window("0 0 * * *", 25 * HOUR, kind=make.window().kind.DENY)])
    plan = make.plan([make.device(authority="aws-iot")], make.desired(policy, incidents=(incident,)))
    assert plan.incidents[0].finish is None
    assert "no window is open long enough" in plan.incidents[0].message


# ---- admission

EXCLUSIVE = AttachmentType.EXCLUSIVE


@pytest.mark.parametrize(
    ("sentence", "held", "rotates_in", "expected"),
    [
        ("as planned", [("own", EXCLUSIVE)], None, None),
        ("gone, or without a certificate", [], None, "no certificate is attached any more"),
        ("with two", [("own", EXCLUSIVE), ("new", EXCLUSIVE)], None, "2 certificates are attached"),
        ("with another", [("new", EXCLUSIVE)], None, "planned with"),
        (
            "shared out",
            [("own", AttachmentType.NON_EXCLUSIVE)],
            None,
            "attached as NON_EXCLUSIVE_THING",
        ),
        ("rotating, in whatever job", [("own", EXCLUSIVE)], "other", "it rotates in job other already"),
        ("inactive", [("own", EXCLUSIVE, CertificateStatus.INACTIVE)], None, "its certificate is INACTIVE"),
        ("of a state to come", [("own", EXCLUSIVE, CertificateStatus("NEW"))], None, "its certificate is NEW"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_planned_device_is_admitted_only_as_it_was_planned(make, sentence, held, rotates_in, expected):
    (planned,) = make.plan([make.device("g0000", age=OLD)], make.desired()).jobs[0].devices
    certificates = tuple(
        HeldCertificate(planned.certificate_id if which == "own" else "f" * 64, kind, *status)
        for which, kind, *status in held
    )
    found = why_left_out(planned, Present(certificates, rotates_in), {"EXCLUSIVE_THING"})
    assert (found is None) is (expected is None), sentence
    assert expected is None or expected in found
