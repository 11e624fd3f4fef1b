"""A year-old factory with everything that a report can show, assessed, planned and forecast by the real core."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from controller.errors import ExitCode
from controller.reconcile.checks import assess_fleet
from controller.reconcile.outlook import compare, forecast
from controller.reconcile.planning import make_plan
from controller.reconcile.values import (
    Attachment,
    AttachmentType,
    Certificate,
    CertificateAuthority,
    CertificateRule,
    CertificateStatus,
    DesiredState,
    Device,
    DeviceExecution,
    Fleet,
    FleetState,
    Guardrails,
    Mode,
    Policy,
    Rollout,
    RotationJob,
    Schedule,
    Source,
    Suspension,
    Waiver,
    WaveSize,
    Window,
)
from controller.report.change import Comparisons, FleetChange
from controller.report.model import FleetFailure, FleetReport, Report
from controller.report.tally import Tally
from controller.report.trend import TrendRecord, record_of
from protocol.algorithms import KeyType
from protocol.messages import ExecutionStatus

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = timedelta(days=1)
COMMIT = "0123456789abcdef0123456789abcdef01234567"
HOSTILE = """<script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>"'&{{7*7}}</script><!--"""
FAILURE = FleetFailure(
    "overseas",
    "the role certfleet-reconcile of account 210987654321 cannot be assumed: AccessDenied",
    "let the role trust the identity that runs certfleet, or correct roleArn",
    ExitCode.ERROR,
    Source("desired_state/overseas/fleet.yaml", 3),
)


def _policy(name: str, line: int, rule: CertificateRule, **changes) -> Policy:
    waves = (WaveSize(1, is_percent=False), WaveSize(20, is_percent=True), WaveSize(100, is_percent=True))
    source = Source("desired_state/factory/policies.yaml", line, {"spec.certificate.maxAge": line + 4})
    return replace(Policy(name, name, source, certificate=rule, rollout=Rollout(waves=waves)), **changes)


def _desired(name: str) -> DesiredState:
    yearly = CertificateRule(180 * DAY, 30 * DAY, KeyType.ECDSA_P256, authority="plant-ca")
    policies = (
        _policy("line-a-gateways", 10, yearly),
        _policy("line-b-gateways", 40, replace(yearly, authority="aws-iot")),
        _policy("loading-docks", 70, CertificateRule(365 * DAY)),
        _policy("test-benches", 90, CertificateRule(), mode=Mode.REPORT),
        _policy("paint-shop", 110, yearly, suspend=Suspension("line rebuild", NOW + 30 * DAY)),
    )
    fleet = Fleet(name, "123456789012", "eu-west-1", Source("f.yaml", 1), guardrails=Guardrails(100, 10))
    authorities = {
        "aws-iot": CertificateAuthority("aws-iot"),
        "plant-ca": CertificateAuthority("plant-ca", validity=365 * DAY),
    }
    waiver = Waiver(
        "spare-parts", frozenset({"gateway-a-007"}), "ops", "in repair", NOW + 20 * DAY, Source("w.yaml", 3)
    )
    return DesiredState(fleet, authorities, policies, waivers=(waiver,), commit=COMMIT)


def _certificate(name: str, age: int, **changes) -> Certificate:
    values = {
        "status": CertificateStatus.ACTIVE,
        "created_at": NOW - age * DAY,
        "key_type": "ECDSA-P256",
        "authority": "plant-ca",
        "not_before": NOW - age * DAY,
        "not_after": NOW + (365 - age) * DAY,
    }
    return Certificate(name.encode().hex()[:64].ljust(64, "0"), **{**values, **changes})


def _device(name: str, group: str, age: int = 10, **changes) -> Device:
    return Device(name, (group,), (Attachment(_certificate(name, age, **changes), AttachmentType.EXCLUSIVE),))


def _devices(hostile: str) -> list[Device]:
    iot = {"authority": "aws-iot", "not_after": NOW + 8000 * DAY}
    found = [_device(f"gateway-a-{n:03}", "line-a-gateways", 1 + n * 13 % 192) for n in range(160)]
    found += [_device(f"gateway-b-{n:03}", "line-b-gateways", 5 + n * 7 % 170, **iot) for n in range(90)]
    found += [_device(f"gateway-b-{n:03}", "line-b-gateways", 60, key_type="RSA-2048", **iot) for n in range(90, 97)]
    found += [_device(f"dock-{n:02}", "loading-docks", 40 + n * 9, key_type="RSA-2048", **iot) for n in range(30)]
    found += [_device(f"bench-{n}", "test-benches", 700, key_type="RSA-4096", **iot) for n in range(6)]
    found += [_device(f"paint-{n}", "paint-shop", 200) for n in range(4)]
    found.append(Device("gateway-b-100", ("line-b-gateways",)))
    found.append(_device("gateway-b-101", "line-b-gateways", status=CertificateStatus.INACTIVE, **iot))
    twice = tuple(Attachment(_certificate(f"twice-{n}", n, **iot), AttachmentType.EXCLUSIVE) for n in (3, 300))
    found.append(Device("gateway-b-102", ("line-b-gateways",), twice))
    found.append(_device("gateway-b-103", "line-b-gateways", key_type=None, parse_error=hostile, **iot))
    found.append(Device(hostile, ("line-a-gateways",)))
    for name, hours, seen in (("gateway-a-200", 30, 26), ("gateway-a-201", 200, 190), ("gateway-a-202", 75, None)):
        asked = DeviceExecution(
            "cf-line-a-gateways-w1-0123456789abcdef", ExecutionStatus.QUEUED, *[NOW - hours * DAY / 24] * 2
        )
        last = None if seen is None else NOW - seen * DAY / 24
        found.append(replace(_device(name, "line-a-gateways", 200), executions=(asked,), last_seen=last))
    return found


def _jobs() -> tuple[RotationJob, ...]:
    """Two weeks of rotations that ended, one day of them badly."""
    jobs = []
    for back in range(13):
        ended = NOW - back * DAY
        failures = 5 if back == 4 else back % 6 == 2
        statuses = [ExecutionStatus.SUCCEEDED] * (7 + back * 5 % 9) + [ExecutionStatus.FAILED] * failures
        executions = {
            f"gateway-a-{back * 20 + n:03}": DeviceExecution(f"by-hand-{back}", status, ended, ended)
            for n, status in enumerate(statuses)
        }
        jobs.append(RotationJob(f"by-hand-{back}", "COMPLETED", ended, completed_at=ended, executions=executions))
    return tuple(jobs)


def _trend(fleet: FleetReport) -> tuple[TrendRecord, ...]:
    now = record_of(fleet, NOW)
    past = []
    for back in range(29, 0, -1):
        blocked, rotate = now.blocked + back % 4, now.rotate + back * 3 % 20
        past.append(
            now.model_copy(
                update={
                    "created_at": NOW - back * DAY,
                    "blocked": blocked,
                    "rotate": rotate,
                    "in_sync": now.governed - blocked - rotate - now.waiting,
                }
            )
        )
    return (*past, now)


def scene_fleet(name: str = "factory", *, hostile: str = HOSTILE) -> FleetReport:
    """One fleet; ``hostile`` is a device's name and another's parse error."""
    desired, devices = _desired(name), _devices(hostile)
    sizes = {policy.thing_group: sum(policy.thing_group in d.groups for d in devices) for policy in desired.policies}
    state = FleetState(NOW, sizes, jobs=_jobs(), unmanaged=("printer-1", "printer-2", hostile), unmanaged_count=3)
    tally = Tally(desired, NOW)
    assessments = list(tally.assessments(assess_fleet(tally.devices(devices), desired, state, NOW)))
    report = tally.finish(state, make_plan(assessments, desired, state, NOW))
    report = replace(report, forecast=forecast(devices, desired, state, NOW, horizon=91 * DAY, plan=report.plan))
    return replace(report, trend=_trend(report))


def scene(*fleets: FleetReport, failures: tuple[FleetFailure, ...] = ()) -> Report:
    """A report of one fleet, or of those given."""
    return Report(NOW, fleets or (scene_fleet(),), failures)


def crowd(number: int) -> Report:
    """As many devices out of sync, each with a name and a due date of its own."""
    fleet = scene_fleet()
    pattern = [found for found in fleet.assessments if found.timing is not None]
    assessments = tuple(
        pattern[n % len(pattern)]._replace(
            device=f"gateway-{n:06}",
            timing=pattern[n % len(pattern)].timing._replace(due=NOW + timedelta(minutes=n)),
        )
        for n in range(number)
    )
    return scene(replace(fleet, assessments=assessments))


def scene_comment() -> Comparisons:
    """A pull request that lowers a maximum age and brings a policy of its own, over the same fleet."""
    base = _desired("factory")
    devices = [each for each in _devices("spare-gateway-7") if not each.executions]
    berlin = Schedule(windows=(Window("0 2 * * *", "Europe/Berlin", timedelta(hours=4)),))
    tighter = [
        replace(each, certificate=replace(each.certificate, max_age=120 * DAY), schedule=berlin)
        if each.name == "line-a-gateways"
        else each
        for each in base.policies
        if each.name != "loading-docks"
    ]
    docks = next(each for each in base.policies if each.name == "loading-docks")
    before = replace(base, policies=tuple(each for each in base.policies if each is not docks))
    after = replace(
        base,
        policies=(*tighter, replace(docks, certificate=CertificateRule(180 * DAY))),
        fleet=replace(base.fleet, guardrails=Guardrails(100, 50)),
    )
    groups = {policy.thing_group for policy in base.policies}
    sizes = {group: sum(group in each.groups for each in devices) for group in groups}
    state = FleetState(NOW, sizes, unmanaged_count=0)
    found = compare(lambda: devices, before, after, state, NOW)
    return Comparisons("main", (FleetChange(after, found, NOW, found.refusals, found.known),))
