"""A device at every state: explain, plan, drift, comment, forecast, and what apply then does, say the same."""

from __future__ import annotations

import contextlib
import io
import json
from argparse import Namespace
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from shared_golden import assert_golden
from shared_iot import ARN, FakeIot, Group, Job

import controller.commands.apply as apply_command
from controller.commands.context import Context
from controller.commands.pipeline import Observed
from controller.commands.plan import RENDERERS as PLAN_RENDERERS
from controller.reconcile.outlook import compare, explain, forecast
from controller.reconcile.planning import plan_to_json, settle
from controller.reconcile.values import (
    AttachmentType,
    CertificateStatus,
    Mode,
    Outcome,
    Reason,
    SharedCertificate,
    StockBackend,
    Sync,
    WaveStatus,
    family_of,
    parse_overrides,
)
from controller.report.as_json import render_report
from controller.report.formats import Format, TextStyle
from controller.report.markdown import render_drift as as_markdown
from controller.report.model import Report
from controller.report.planned import drifted
from controller.report.tally import Tally
from controller.report.text import render_drift as as_text
from protocol.algorithms import KeyType
from protocol.deployment import EXCLUSIVE, NON_EXCLUSIVE, DeployedAuthority, DeployedBackend
from protocol.job_document import DOCUMENT_FIELDS

ROOT = Path(__file__).parents[2]
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
OLD = 200 * DAY
NAME = "gateway-1"

PLANT = DeployedAuthority("arn:aws:acm-pca:plant", "SHA256WITHECDSA", 365 * DAY)
OURS = DeployedBackend("1.0.0", {"plant-ca": PLANT}, DOCUMENT_FIELDS, frozenset({EXCLUSIVE, NON_EXCLUSIVE}))

ROTATES, WAITS, PERSON = "is to be rotated", "waits", "needs a person"
LEFT_OUT, REPORTED = "is left out, as somebody has decided", "is only reported: its policy rotates nothing"


@dataclass
class Scene:
    """A device of that name, under these documents, with these jobs.

    ``is_due``: it rotates by itself, sooner or later; ``others``: of the other device, which is overdue, what the
    outlook counts and what the comment counts as newly due.
    """

    device: Any
    verdict: str
    desired: Any = None
    jobs: tuple[Any, ...] = ()
    state: dict[str, Any] = field(default_factory=dict)
    is_due: bool = False
    others: tuple[int, int] = (1, 1)


def _job_id(m, desired=None, wave="w1"):
    return f"cf-line-a-{wave}-{family_of(m.policy(), (desired or m.desired()).authorities)}0000abcdef"


def _asked(m, status, since, wave="w1", **fields):
    execution = m.execution(_job_id(m, wave=wave), status, since)
    job = m.job(execution.job_id, {NAME: execution}, age=since, is_continuous=wave == "standing")
    return Scene(m.device(age=OLD, executions=(execution,), **fields), WAITS, jobs=(job,))


def _failed(m, times, reason="disk is full", version="1.0", ago=HOUR):
    failures = tuple(
        m.execution(_job_id(m), "FAILED", n * ago, reason=reason, version=version) for n in range(times, 0, -1)
    )
    return m.device(age=OLD, failures=failures)


def _rotated(m, ago, **certificate):
    """Rotated so long ago by a job of the present rule, to a certificate with these members."""
    done = m.execution(_job_id(m), "SUCCEEDED", ago + HOUR, ago)
    job = m.job(done.job_id, {NAME: done}, status="COMPLETED", age=ago + HOUR)
    return m.device(certificates=(m.certificate(ago + HOUR / 2, name=NAME, **certificate),)), (job,)


SCENES = {
    Reason.AUTHORITY_TAINTED: lambda m: Scene(
        m.device(), ROTATES, m.desired(incidents=(m.incident(issued_before=m.now - DAY),)), is_due=True),
    Reason.DRILLED: lambda m: Scene(m.device(), ROTATES, m.desired(drills=(m.drill(NAME),)), is_due=True),
    Reason.ISSUED_BEFORE_CUTOFF: lambda m: Scene(
        m.device(), ROTATES, m.desired(m.policy(rule=m.rule(rotate_issued_before=m.now - DAY))), is_due=True),
    Reason.EXPIRING: lambda m: Scene(
        m.device(age=100 * DAY, left=20 * DAY), ROTATES,
        m.desired(m.policy(rule=m.rule(renew_before=30 * DAY))), is_due=True),
    Reason.AGE_EXCEEDED: lambda m: Scene(m.device(age=OLD), ROTATES, is_due=True),
    Reason.KEY_TYPE_MISMATCH: lambda m: Scene(m.device(key_type="RSA-2048"), ROTATES, is_due=True),
    Reason.AUTHORITY_MISMATCH: lambda m: Scene(m.device(authority="aws-iot"), ROTATES, is_due=True),
    Reason.POLICY_CONFLICT: lambda m: Scene(
        m.device(age=OLD, groups=("line-a", "line-b")), PERSON, m.desired(m.policy(), m.policy("line-b"))),
    Reason.NO_CERTIFICATE: lambda m: Scene(m.device(certificates=()), PERSON),
    Reason.EXTRA_CERTIFICATE: lambda m: Scene(
        m.device(certificates=(m.certificate(OLD), m.certificate(OLD, name="b"))), PERSON),
    Reason.SHARED_CERTIFICATE: lambda m: Scene(m.device(age=OLD, shared=("other",)), PERSON),
    Reason.NOT_EXCLUSIVE: lambda m: Scene(m.device(age=OLD, type_=AttachmentType.NON_EXCLUSIVE), PERSON),
    Reason.CERTIFICATE_INACTIVE: lambda m: Scene(m.device(age=OLD, status=CertificateStatus.INACTIVE), PERSON),
    Reason.UNPARSEABLE: lambda m: Scene(m.device(age=OLD, parse_error="is not a PEM"), PERSON),
    Reason.EXPIRED: lambda m: Scene(m.device(age=OLD, left=-35 * DAY), PERSON),
    Reason.UNSUPPORTED_BY_BACKEND: lambda m: Scene(
        m.set_to("RSA-2048", m.device(age=OLD)), PERSON,
        state={"backend_is_stock": True, "stock": StockBackend()}, others=(0, 0)),
    Reason.UNSUPPORTED_BY_COMPONENT: lambda m: Scene(_failed(m, 3, "Create was rejected.", None), PERSON),
    Reason.RESULT_UNKNOWN: lambda m: Scene(
        m.device(age=OLD, key_type="RSA-4096"), PERSON, m.desired(m.policy(rule=m.rule(key_type=None)))),
    Reason.ROTATION_INEFFECTIVE: lambda m: Scene(
        _rotated(m, 3 * DAY, key_type="RSA-2048")[0], PERSON, jobs=_rotated(m, 3 * DAY)[1]),
    Reason.EXECUTION_UNKNOWN: lambda m: replace(_asked(m, "PONDERING", HOUR), verdict=PERSON),
    Reason.PREFLIGHT_FAILED: lambda m: Scene(m.answered(m.device(age=OLD), "no room on the disk"), PERSON),
    Reason.REPEATEDLY_FAILED: lambda m: Scene(_failed(m, 5), PERSON),
    Reason.QUARANTINED: lambda m: Scene(
        m.device(age=OLD, status=CertificateStatus.INACTIVE), LEFT_OUT, m.desired(quarantines=(m.quarantine(NAME),))),
    Reason.WAIVED: lambda m: Scene(
        m.device(age=OLD), LEFT_OUT, m.desired(waivers=(m.waiver(NAME, expires=m.now + 90 * DAY),))),
    Reason.SUSPENDED: lambda m: Scene(
        m.device(age=OLD), LEFT_OUT,
        m.desired(m.policy(suspend=m.suspension())), is_due=True, others=(1, 0)),
    Reason.ROTATING: lambda m: _asked(m, "IN_PROGRESS", HOUR),
    Reason.STRAGGLER: lambda m: _asked(m, "QUEUED", 30 * HOUR, "standing"),
    Reason.ROTATED_RECENTLY: lambda m: Scene(
        _rotated(m, HOUR)[0], WAITS, m.desired(m.policy(rule=m.rule(key_type=KeyType.RSA_2048))), _rotated(m, HOUR)[1]),
    Reason.BACKING_OFF: lambda m: Scene(_failed(m, 1, ago=HOUR / 6), WAITS),
    Reason.OUTSIDE_WINDOW: lambda m: Scene(
        m.device(age=OLD), WAITS, m.desired(m.policy(windows=[m.window()])), is_due=True),
    Reason.NOT_YET_DUE: lambda m: Scene(m.device(age=178 * DAY), "is in sync"),
    Reason.WAVE_SOAKING: lambda m: Scene(
        m.device(age=OLD), WAITS, m.desired(m.policy(rollout=m.rollout(("1", "100%")))), is_due=True),
}  # fmt: skip
"""For each reason a device that has it, what becomes of the device, and whether it rotates by itself in the end."""


GROUPS = {
    Outcome.ROTATE: "Rotate: the certificate breaks a rule of its policy",
    Outcome.BLOCKED: "Blocked: no rotation starts, and a person must act",
    Outcome.WAITING: "Waiting: certfleet deals with it, or it comes later",
}
PAGE = """\
# Every reason, with an example

A reason is why a device departs from its policy. `certfleet drift`, `plan`, `explain`, the comment on a pull request
and every report use the same reasons, messages and remedies. Each message below is what certfleet prints for a device
`gateway-1`.

This page is generated by `tests/reconcile/test_reconcile_explain.py`, which also holds that every report and `apply`
agree on each of these devices.
"""


class Account:
    """The command ``apply`` over devices as they were seen, and an account in memory that has them and their jobs."""

    def __init__(self, wire, devices, desired, state):
        self.cloud, self._desired, self._before = FakeIot(), desired, {job.job_id for job in state.jobs}
        for device in devices:
            self.cloud.attached[device.name] = []
            for attachment in device.attachments:
                certificate = attachment.certificate
                self.cloud.thing(device.name, certificate.certificate_id, attachment.type.value)
                self.cloud.certificates[certificate.certificate_id] = certificate.status.value
        for job in state.jobs:
            executions = {name: execution.status.value for name, execution in job.executions.items()}
            kind = "CONTINUOUS" if job.is_continuous else "SNAPSHOT"
            request = {"jobId": job.job_id, "targetSelection": kind, "targets": [f"{ARN}thinggroup/{job.job_id}"]}
            self.cloud.groups[job.job_id] = Group(members=set(executions))
            self.cloud.jobs[job.job_id] = Job({**request, "document": job.document or "{}"}, job.status, executions)
        inventory = SimpleNamespace(foreign_jobs=dict, settings=dict, devices=lambda _desired, _state: iter(devices))
        self._observed = Observed(desired, state, wire.connect(self.cloud), inventory, state.observed_at)

    def apply(self, plan=None, folder=None):
        """As the command says it of the one fleet, for machines."""
        path = None
        if plan is not None:
            path = folder / "plan.json"
            path.write_text(plan_to_json(plan))
        out, now = io.StringIO(), self._observed.now
        given = Namespace(plan=path, override=[], wait=False, timeout=HOUR, allow_dirty=False, format="json", now=now)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(apply_command, "load_desired", lambda _context: (self._desired,))
            patch.setattr(apply_command, "observe", lambda *_: contextlib.nullcontext(self._observed))
            assert apply_command.run(Context(given, out, io.StringIO())) == 0
        [fleet] = json.loads(out.getvalue())["fleets"]
        return fleet

    def asked(self):
        """Devices that were asked since, by jobs that were made or joined."""
        return self._devices(lambda job_id: job_id not in self._before)

    def asked_before(self):
        """Devices that jobs of before ask still."""
        return self._devices(lambda job_id: job_id in self._before)

    def _devices(self, is_meant):
        return {name for job_id, job in self.cloud.jobs.items() if is_meant(job_id) for name in job.executions}


def test_every_reason_has_a_scene():
    assert SCENES.keys() == set(Reason)


def test_the_page_of_reasons_shows_every_scene(make):
    lines = [PAGE]
    for outcome, title in GROUPS.items():
        lines += [f"## {title}", ""]
        for reason, scene_of in SCENES.items():
            scene = scene_of(make)
            desired, state = scene.desired or make.desired(), make.state(*scene.jobs, **scene.state)
            devices = [make.device("a-first", age=OLD + DAY), scene.device]
            plan = make.plan(devices, desired, state)
            told = explain(scene.device, desired, state, make.now, plan).assessment.findings
            [finding] = [finding for finding in told if finding.reason is reason]
            if finding.outcome is outcome:
                lines += [f"### {reason}", "", reason.meaning, "", f"> {finding.message}", ""]
                if finding.policy_field != "spec":
                    lines += [f"Field: `{finding.policy_field}`.", ""]
                if finding.remedy:
                    lines += ["What to do:", "", f"> {finding.remedy}", ""]
    assert_golden(ROOT / "docs" / "reasons.md", "\n".join(lines))


@pytest.mark.parametrize("reason", SCENES, ids=lambda reason: reason.value)
def test_what_is_said_of_a_device_is_the_same_everywhere_and_what_apply_does(make, wire, tmp_path, reason):
    scene = SCENES[reason](make)
    desired, devices = scene.desired or make.desired(), [make.device("a-first", age=OLD + DAY), scene.device]
    state = make.state(*scene.jobs, **scene.state)
    plan = make.plan(devices, desired, state)
    starts = {device.name for job in plan.jobs if not job.is_standing for device in job.devices}

    # drift
    tally = Tally(desired, make.now)
    given = list(make.assess_all(devices, desired, state))
    report = drifted(tally, tally.assessments(iter(given)), desired, state, make.now)
    settled = {assessment.device: assessment for assessment in settle(given, plan)}
    told = next(finding for finding in settled[NAME].findings if finding.reason is reason)
    assert settled[NAME] in report.assessments
    shown = plan.waves[0].message if reason is Reason.WAVE_SOAKING else reason.value  # beside why it must rotate
    for render in (as_text, render_report, *([as_markdown] if settled[NAME].sync is not Sync.IN_SYNC else [])):
        assert shown in render(Report(make.now, (report,)), TextStyle(300))

    # plan
    assert (NAME in starts) is (scene.verdict == ROTATES)
    assert settled[NAME].outcome is None or (settled[NAME].outcome.value == "rotate") is (NAME in starts)

    # apply: by itself, and with a plan of before in which both devices rotate
    whole = make.plan([devices[0], make.device(age=OLD)], make.desired())
    for given_plan in (None, whole):
        account = Account(wire, devices, desired, state)
        done = account.apply(given_plan, tmp_path)
        if given_plan is None:  # the time that is left is the plan's
            outlooks = {outlook.policy: outlook for outlook in plan.outlooks}
            for policy in done["policies"]:
                left, finish = outlooks[policy["policy"]], policy["left"]["finish"]
                assert policy["left"] | {"finish": finish and datetime.fromisoformat(finish)} == {
                    "devices": left.devices, "finish": left.finish and left.finish.replace(microsecond=0),
                    "obstacle": left.obstacle,
                }  # fmt: skip
        assert account.asked() == starts
        assert account.asked_before() == {name for job in state.jobs for name in job.executions}
    if NAME not in starts and settled[NAME].policy is not None:
        why = dict(line.split(": ", 1) for line in done["warnings"])
        if whole.jobs[0].devices[1].certificate_id == settled[NAME].certificate_id and told.outcome.value != "rotate":
            assert why[NAME] == f"{reason.value}: {told.message}" or "is demanded" in why[NAME]

    # explain
    explained = explain(scene.device, desired, state, make.now, plan)
    assert explained.verdict == scene.verdict
    assert told in explained.assessment.findings
    lines = {line.name: line for line in explained.arithmetic}
    assert "now: nothing holds it back" not in getattr(lines.get("start"), "formula", "") or NAME in starts

    # forecast and outlook
    coming = forecast(devices, desired, state, make.now, horizon=DAY * 5, plan=plan)
    ahead, newly = scene.others
    assert sum(outlook.devices for outlook in plan.outlooks) == ahead + scene.is_due
    stopped = sum(outlook.devices for outlook in plan.outlooks if outlook.obstacle)
    others = 1 - ahead  # what blocks the one blocks the other
    assert coming.blocked == (scene.verdict in {PERSON, LEFT_OUT} and not scene.is_due) + stopped + others

    # the comment: base has no policy at all
    found = compare(lambda: devices, replace(desired, policies=()), desired, state, make.now)
    assert (NAME in [one.device for one in found.blocked]) is (scene.verdict == PERSON)
    assert found.newly_due == newly + (scene.is_due and scene.verdict is not LEFT_OUT)


def test_what_a_rotation_makes_of_a_device_is_told_before_it_is_made(make):
    """By the plan in every format for readers, and by explain; the comment's sentence is the preview's."""
    desired, devices = make.desired(), [make.device(key_type="RSA-2048", authority="aws-iot")]
    plan, state = make.plan(devices, desired), make.state()
    after = "ECDSA-P256 / plant-ca / 365 d"
    tally = Tally(desired, make.now)
    list(tally.assessments(make.assess_all(devices, desired, state)))
    report = Report(make.now, (replace(tally.finish(state), plan=plan),))
    for render in (PLAN_RENDERERS[kind] for kind in (Format.TEXT, Format.MARKDOWN, Format.HTML)):
        assert f"1 × RSA-2048 / aws-iot → {after}" in " ".join(render(report, TextStyle(300)).split())
    [told] = json.loads(PLAN_RENDERERS[Format.JSON](report, TextStyle(300)))["jobs"]
    [one] = told["transitions"]
    assert (one["before"]["key_type"], one["after"]["authority"], one["after"]["days"]) == ("RSA-2048", "plant-ca", 365)
    explained = explain(devices[0], desired, state, make.now, plan)
    assert f"A rotation makes {after} of RSA-2048 / aws-iot." in explained.words
    [line] = [line for line in explained.arithmetic if line.name == "result"]
    assert (line.formula, line.value) == ("of a rotation, from RSA-2048 / aws-iot", after)


@dataclass
class Cured:
    """What has become of a scene once somebody has done one thing that the remedy of its reason says."""

    device: Any = None  # None: as it was
    desired: Any = None  # None: likewise
    state: dict[str, Any] | None = None
    jobs: tuple[Any, ...] = ()  # besides those of before
    override: str = ""  # which the remedy prints
    is_in_sync: bool = False  # with a new certificate nothing is left to be rotated


def _replaced(m):
    return Cured(m.device(), is_in_sync=True)


def _in_a_later_wave(m):
    """The rollout has not halted: it has gone on to a wave of which nothing bad is known."""
    desired = m.desired(m.policy(rollout=m.rollout(("1", "100%"))))
    job = m.job(_job_id(m, wave="w2"), {}, status="COMPLETED", age=2 * HOUR)
    return Cured(desired=desired, jobs=(job,), override=f"again={NAME}")


def _with_another_rule(m):
    return Cured(desired=m.desired(m.policy(rule=m.rule(key_type=KeyType.ECDSA_P384))))


def _again(_m):
    return Cured(override=f"again={NAME}")


CURES = {
    Reason.POLICY_CONFLICT: {
        "a higher priority": lambda m: Cured(desired=m.desired(m.policy(priority=7), m.policy("line-b")))},
    Reason.NO_CERTIFICATE: {"provisioned": _replaced},
    Reason.EXTRA_CERTIFICATE: {"the other is gone": lambda m: Cured(m.device(age=OLD))},
    Reason.SHARED_CERTIFICATE: {
        "split": lambda m: Cured(
            desired=m.desired(m.policy(rule=m.rule(shared_certificate=SharedCertificate.SPLIT))),
            state={"deployment": OURS})},
    Reason.NOT_EXCLUSIVE: {
        "this project's backend": lambda m: Cured(state={"deployment": OURS}),
        "attached exclusively": lambda m: Cured(m.device(age=OLD))},
    Reason.CERTIFICATE_INACTIVE: {"activated": lambda m: Cured(m.device(age=OLD)), "provisioned": _replaced},
    Reason.UNPARSEABLE: {"replaced by hand": _replaced},
    Reason.EXPIRED: {"provisioned": _replaced},
    Reason.UNSUPPORTED_BY_BACKEND: {
        "component and stack are set so": lambda m: Cured(
            m.set_to("ECDSA-P256", m.device(age=OLD)),
            state={"backend_is_stock": True, "stock": StockBackend("arn:aws:acm-pca:plant")}),
        "this project's backend": lambda m: Cured(state={"deployment": OURS})},
    Reason.UNSUPPORTED_BY_COMPONENT: {"again": _again},
    Reason.RESULT_UNKNOWN: {"keyType is named": lambda m: Cured(desired=m.desired())},
    Reason.ROTATION_INEFFECTIVE: {
        "the rollout goes on": lambda m: Cured(override="resume=line-a"),
        "this device alone, in a rollout that has not halted": _in_a_later_wave,
        "another rule": _with_another_rule,
        "replaced by hand": _replaced},
    Reason.EXECUTION_UNKNOWN: {"it was ended": lambda m: Cured(m.device(age=OLD))},
    Reason.PREFLIGHT_FAILED: {"asked again": lambda m: Cured(m.answered(m.device(age=OLD))), "it may try": _again},
    Reason.REPEATEDLY_FAILED: {
        "again": _again,
        "another component": lambda m: Cured(m.replace(_failed(m, 5), component_version="2.0")),
        "another rule": _with_another_rule},
    Reason.QUARANTINED: {"lifted": lambda m: Cured(m.device(age=OLD), m.desired())},
    Reason.WAIVED: {"it has ended": lambda m: Cured(desired=m.desired(waivers=(m.waiver(NAME, expires=m.now),)))},
    Reason.SUSPENDED: {
        "removed": lambda m: Cured(desired=m.desired()),
        "it has ended": lambda m: Cured(desired=m.desired(m.policy(suspend=m.suspension(m.now))))},
}  # fmt: skip
"""Of each reason that needs a person: all that its remedy says, done."""


def test_every_reason_that_needs_a_person_has_a_cure(make):
    assert CURES.keys() == {reason for reason, scene in SCENES.items() if scene(make).verdict in {PERSON, LEFT_OUT}}


@pytest.mark.parametrize(
    ("reason", "cure"),
    [pytest.param(reason, cure, id=f"{reason}: {what}") for reason, of in CURES.items() for what, cure in of.items()],
)
def test_whatever_a_remedy_says_lets_the_device_rotate(make, reason, cure):
    scene, cured = SCENES[reason](make), cure(make)
    desired, state = scene.desired or make.desired(), make.state(*scene.jobs, **scene.state)
    told = explain(scene.device, desired, state, make.now, make.plan([scene.device], desired, state))
    [finding] = [finding for finding in told.assessment.findings if finding.reason is reason]
    assert f"--override {cured.override}" in f"{finding.remedy} --override "

    device, desired = cured.device or scene.device, cured.desired or desired
    state = make.state(*scene.jobs, *cured.jobs, **(scene.state if cured.state is None else cured.state))
    overrides = parse_overrides([cured.override] if cured.override else [])
    plan = make.plan([device], desired, state, overrides=overrides)
    if cured.is_in_sync:
        assert make.assess(device, desired, state).findings == ()
    else:
        assert {device.name for job in plan.jobs for device in job.devices} == {NAME}


def test_a_device_of_a_rollout_that_has_halted_is_tried_again_once_that_is_resumed_too(make):
    """As each remedy with ``again`` says: whoever is named is tried, and nobody else before the rollout goes on."""
    job_id, other = _job_id(make), make.device("a-first", age=OLD + DAY)
    tried = {name: make.execution(job_id, "FAILED", 2 * HOUR, HOUR) for name in (NAME, "b", "c")}
    job = make.job(job_id, tried, status="COMPLETED", age=2 * HOUR)
    devices = [make.replace(_failed(make, 5), name=name) for name in tried]
    for given, starts in (([f"again={NAME}"], set()), ([f"again={NAME}", "resume=line-a"], {NAME})):
        plan = make.plan([other, *devices], make.desired(), make.state(job), overrides=parse_overrides(given))
        assert {device.name for job in plan.jobs for device in job.devices} == starts
        assert ("halted" in {wave.status for wave in plan.waves}) is (not starts)
    [finding] = make.assess(devices[0], make.desired(), make.state(job)).findings[-1:]
    assert "if the rollout has halted, resume it too" in finding.remedy


def test_of_a_policy_that_only_reports_nothing_is_said_to_rotate(make):
    desired, devices = make.desired(make.policy(mode=Mode.REPORT)), [make.device(age=OLD)]
    plan = make.plan(devices, desired)
    (outlook,) = plan.outlooks
    assert (plan.jobs, outlook.devices, outlook.reported) == ((), 0, 1)
    told = explain(devices[0], desired, make.state(), make.now, plan)
    assert told.verdict == REPORTED
    coming = forecast(devices, desired, make.state(), make.now, horizon=DAY, plan=plan)
    assert (coming.total, coming.reported) == (0, 1)
    found = compare(lambda: devices, replace(desired, policies=()), desired, make.state(), make.now)
    assert (found.newly_due, found.policies[0].reported) == (0, 1)


def test_what_a_wave_waits_for_is_explained_in_the_words_of_the_plan(make):
    desired = make.desired(make.policy(rollout=make.rollout(("1", "100%"))))
    asked = make.device(age=OLD)
    plan = make.plan([make.device("a-first", age=OLD + DAY), asked], desired)
    assert plan.waves[0].status is WaveStatus.OPEN
    told = explain(asked, desired, make.state(), make.now, plan)
    [outlook] = plan.outlooks
    finish = outlook.finish.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert told.assessment.findings[-1].message == f"{plan.waves[0].message}; the last is done by {finish}"
