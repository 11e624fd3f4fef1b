"""Every reason by a table: what the device is like, what is found, and what a reader is told."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.reconcile.checks import Governance, assess, assess_fleet, quiet
from controller.reconcile.values import (
    AttachmentType,
    CertificateStatus,
    Health,
    Mode,
    Outcome,
    SharedCertificate,
    StockBackend,
    Sync,
    WindowKind,
)
from protocol.algorithms import KeyType
from protocol.deployment import EXCLUSIVE, NON_EXCLUSIVE, DeployedAuthority, DeployedBackend
from protocol.job_document import DOCUMENT_FIELDS

ROTATABLE = frozenset({EXCLUSIVE, NON_EXCLUSIVE})
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
OLD = 200 * DAY
SPLITS = DeployedBackend(
    "0.3.0",
    {"plant-ca": DeployedAuthority("arn:aws:acm-pca:plant", "SHA256WITHECDSA", 365 * DAY)},
    DOCUMENT_FIELDS,
    ROTATABLE,
)


def split(make):
    return make.rule(shared_certificate=SharedCertificate.SPLIT)


def _stock(make):
    return make.state(backend_is_stock=True, stock=StockBackend())


# sentence → (device, desired state, fleet state or None, reasons, part of a message)
SCENES = {
    "a young certificate of the right kind has nothing to say": (
        lambda m: m.device(), lambda m: m.desired(), None, [], ""),
    "a certificate older than maxAge must go": (
        lambda m: m.device(age=214 * DAY), lambda m: m.desired(), None,
        ["AgeExceeded"], "certificate is 214 days old, the policy allows 180 days"),
    "jitter brings a rotation forward and says by how much": (
        lambda m: m.device(age=179 * DAY), lambda m: m.desired(m.policy(jitter=30)), None,
        ["AgeExceeded"], "of jitter bring it forward from the 180 days"),
    "a certificate near its end must be renewed": (
        lambda m: m.device(age=340 * DAY, left=12 * DAY),
        lambda m: m.desired(m.policy(rule=m.rule(max_age=None, renew_before=30 * DAY))), None,
        ["Expiring"], "certificate expires in 12 days, on 2026-12-05T12:00:00Z; the policy renews 30 days before"),
    "jitter brings a renewal forward too": (
        lambda m: m.device(age=300 * DAY, left=31 * DAY),
        lambda m: m.desired(m.policy(jitter=50, rule=m.rule(max_age=None, renew_before=30 * DAY))), None,
        ["Expiring"], "bring it forward from the 30 days"),
    "a certificate that ends soon is not called old": (
        lambda m: m.device(left=12 * DAY), lambda m: m.desired(m.policy(rule=m.rule(renew_before=15 * DAY))), None,
        ["Expiring"], "certificate expires in 12 days"),
    "an incident on an issue period leaves alone what has no dates": (
        lambda m: m.device(not_before=None, not_after=None),
        lambda m: m.desired(incidents=(m.incident(issued_before=m.now - DAY),)), None, ["Unparseable"], "missing"),
    "a key of another type must be replaced": (
        lambda m: m.device(key_type="RSA-2048"), lambda m: m.desired(), None,
        ["KeyTypeMismatch"], "the key is RSA-2048, the policy demands ECDSA-P256"),
    "a certificate of another authority must be replaced": (
        lambda m: m.device(authority="aws-iot"), lambda m: m.desired(), None,
        ["AuthorityMismatch"], "issued by aws-iot, the policy demands plant-ca"),
    "a certificate of an unknown authority names its issuer": (
        lambda m: m.device(authority=None), lambda m: m.desired(), None,
        ["AuthorityMismatch"], "an unknown authority (CN=plant)"),
    "a certificate issued before the cutoff must go": (
        lambda m: m.device(), lambda m: m.desired(m.policy(rule=m.rule(rotate_issued_before=m.now - DAY))), None,
        ["IssuedBeforeCutoff"], "everything issued before 2026-11-22T12:00:00Z must go"),
    "a certificate backdated by its CA but issued after the cutoff stays": (
        lambda m: m.device(certificates=(m.certificate(1.5 * HOUR, created_at=m.now - HOUR / 2),)),
        lambda m: m.desired(m.policy(rule=m.rule(rotate_issued_before=m.now - HOUR))), None, [], ""),
    "a certificate registered long after its issue counts from its issue": (
        lambda m: m.device(certificates=(m.certificate(10 * DAY, created_at=m.now - HOUR),)),
        lambda m: m.desired(m.policy(rule=m.rule(rotate_issued_before=m.now - DAY))), None, ["IssuedBeforeCutoff"], ""),
    "a cutoff that is still to come moves nothing yet": (
        lambda m: m.device(), lambda m: m.desired(m.policy(rule=m.rule(rotate_issued_before=m.now + DAY))), None,
        [], ""),
    "an incident on an authority taints its certificates": (
        lambda m: m.device(authority="aws-iot"),
        lambda m: m.desired(incidents=(m.incident(authority="aws-iot"),)), None,
        ["AuthorityTainted", "AuthorityMismatch"], "must go by 2026-11-25T12:00:00Z"),
    "an incident on a key type and an issue period spares what was issued later": (
        lambda m: m.device(), lambda m: m.desired(incidents=(
            m.incident(key_type="ECDSA-P256", issued_after=m.now - 90 * DAY, issued_before=m.now - 50 * DAY),)),
        None, [], ""),
    "an incident on an issue period taints what was issued in it": (
        lambda m: m.device(age=60 * DAY), lambda m: m.desired(incidents=(
            m.incident(issued_after=m.now - 90 * DAY, issued_before=m.now - 50 * DAY),)),
        None, ["AuthorityTainted"], "key material leaked"),
    "an incident on what the policy itself demands is a conflict, not an endless rotation": (
        lambda m: m.device(), lambda m: m.desired(incidents=(m.incident(authority="plant-ca"),)), None,
        ["AuthorityTainted", "PolicyConflict"], "policy line-a still allows what incident"),
    "an incident on the demanded key type is a conflict too": (
        lambda m: m.device(), lambda m: m.desired(incidents=(m.incident(key_type="ECDSA-P256"),)), None,
        ["AuthorityTainted", "PolicyConflict"], "incident leak"),
    "no certificate": (
        lambda m: m.device(certificates=()), lambda m: m.desired(), None,
        ["NoCertificate"], "no certificate is attached"),
    "two certificates without a rotation are one too many": (
        lambda m: m.device(certificates=(m.certificate(), m.certificate(name="b"))), lambda m: m.desired(), None,
        ["ExtraCertificate"], "2 certificates are attached, one is allowed"),
    "two certificates while a rotation runs are normal": (
        lambda m: m.device(certificates=(m.certificate(), m.certificate(name="b")),
                           executions=(m.execution(status="IN_PROGRESS"),)),
        lambda m: m.desired(), None, ["Rotating"], "IN_PROGRESS"),
    "an execution in a status that nobody has heard of may be a rotation under way": (
        lambda m: m.device(executions=(m.execution(status="PAUSED"),)), lambda m: m.desired(), None,
        ["ExecutionUnknown"], "is PAUSED here since"),
    "a certificate held by others is not rotated away from them": (
        lambda m: m.device(shared=("x1", "x2", "x3", "x4")), lambda m: m.desired(), None,
        ["SharedCertificate"], "4 other things: x1, x2, x3 and 1 more"),
    "a certificate held by others is split, if the policy says so and the backend can": (
        lambda m: m.device(shared=("x1", "x2")), lambda m: m.desired(m.policy(rule=split(m))),
        lambda m: m.state(deployment=SPLITS), ["SharedCertificate"], "2 other things: x1, x2"),
    "a certificate held by others is not split under a backend that cannot": (
        lambda m: m.device(shared=("x1",)), lambda m: m.desired(m.policy(rule=split(m))),
        lambda m: m.state(deployment=DeployedBackend("0.2.0", attachments=ROTATABLE)),
        ["SharedCertificate"], "1 other"),
    "nor under one that can, if the policy does not say so": (
        lambda m: m.device(shared=("x1",)), lambda m: m.desired(),
        lambda m: m.state(deployment=SPLITS), ["SharedCertificate"], "1 other"),
    "the last that holds a certificate that was shared gets its own as well": (
        lambda m: m.device(), lambda m: m.desired(m.policy(rule=split(m))),
        lambda m: m.state(deployment=SPLITS, shared={m.certificate(name="gateway-1").certificate_id: ()}),
        ["SharedCertificate"], "the things that left it still know its key"),
    "a certificate of its own is in order where others are split": (
        lambda m: m.device(), lambda m: m.desired(m.policy(rule=split(m))),
        lambda m: m.state(deployment=SPLITS, shared={"another": ()}), [], ""),
    "a certificate not attached exclusively, under a backend that rotates no such": (
        lambda m: m.device(type_=AttachmentType.NON_EXCLUSIVE), lambda m: m.desired(),
        lambda m: m.state(deployment=DeployedBackend("0.1.0")),
        ["NotExclusive"], "NON_EXCLUSIVE_THING"),
    "a certificate not attached exclusively, under a backend that does": (
        lambda m: m.device(type_=AttachmentType.NON_EXCLUSIVE), lambda m: m.desired(),
        lambda m: m.state(deployment=DeployedBackend("0.2.0", attachments=ROTATABLE)), [], ""),
    "a certificate that is attached in a way that nobody has heard of": (
        lambda m: m.device(type_=AttachmentType("BY_TWO_THINGS")), lambda m: m.desired(),
        lambda m: m.state(deployment=DeployedBackend("0.2.0", attachments=ROTATABLE)),
        ["NotExclusive"], "BY_TWO_THINGS"),
    "an inactive certificate": (
        lambda m: m.device(status=CertificateStatus.INACTIVE), lambda m: m.desired(), None,
        ["CertificateInactive"], "the certificate is INACTIVE"),
    "a certificate that cannot be parsed": (
        lambda m: m.device(not_before=None, not_after=None, key_type=None, parse_error="no PEM"),
        lambda m: m.desired(), None, ["Unparseable"], "cannot be read: no PEM"),
    "a certificate without a key type is as unreadable": (
        lambda m: m.device(key_type=None), lambda m: m.desired(), None, ["Unparseable"], "key type is missing"),
    "an expired certificate cannot rotate by itself": (
        lambda m: m.device(age=100 * DAY, left=-5 * DAY), lambda m: m.desired(), None,
        ["Expired"], "expired 5 days ago, on 2026-11-18T12:00:00Z"),
    "renewal longer than the authority's validity would never end": (
        lambda m: m.device(age=DAY, left=6 * DAY),
        lambda m: m.desired(m.policy(rule=m.rule(max_age=None, renew_before=30 * DAY))), None,
        ["Expiring", "PolicyConflict"], "live 7 days, the policy renews 30 days before expiry"),
    "a certificate of another authority is not judged by the demanded one's validity": (
        lambda m: m.device(age=DAY, left=6 * DAY, authority="aws-iot"),
        lambda m: m.desired(m.policy(rule=m.rule(max_age=None, renew_before=30 * DAY))), None,
        ["Expiring", "AuthorityMismatch"], ""),
    "two policies of equal priority": (
        lambda m: m.device(groups=("line-a", "line-b")), lambda m: m.desired(m.policy("line-a"), m.policy("line-b")),
        None, ["PolicyConflict"], "policies line-a and line-b claim the device with equal priority"),
    "a waived device with drift waits for its waiver": (
        lambda m: m.device(age=OLD), lambda m: m.desired(waivers=(m.waiver("gateway-1"),)), None,
        ["AgeExceeded", "Waived"], "waiver spare-part of ops@example.com"),
    "a waived device in sync has nothing to say": (
        lambda m: m.device(), lambda m: m.desired(waivers=(m.waiver("gateway-1"),)), None, [], ""),
    "an expired waiver waives nothing": (
        lambda m: m.device(age=OLD), lambda m: m.desired(waivers=(m.waiver("gateway-1", expires=m.now),)), None,
        ["AgeExceeded"], ""),
    "a suspended policy": (
        lambda m: m.device(age=OLD), lambda m: m.desired(m.policy(suspend=m.suspension())), None,
        ["AgeExceeded", "Suspended"], "suspended until 2026-11-24T12:00:00Z: line rebuild"),
    "a suspension ends by itself": (
        lambda m: m.device(age=OLD), lambda m: m.desired(m.policy(suspend=m.suspension(until=m.now))), None,
        ["AgeExceeded"], ""),
    "a stock backend cannot change the key type": (
        lambda m: m.set_to("RSA-2048", m.device(key_type="RSA-2048")), lambda m: m.desired(), _stock,
        ["KeyTypeMismatch", "UnsupportedByBackend"], "the stock one: a rotation would make RSA-2048 / aws-iot"),
    "a stock backend rotates nothing of which more is demanded than age: what it would become is not known": (
        lambda m: m.device(age=OLD), lambda m: m.desired(), _stock,
        ["AgeExceeded", "ResultUnknown"], "which key the component would make is not known"),
    "a stock backend serves age where nothing else is demanded": (
        lambda m: m.set_to("ECDSA-P256", m.device(age=OLD)),
        lambda m: m.desired(m.policy(rule=m.rule(key_type=None, authority=None))), _stock,
        ["AgeExceeded"], ""),
    "a key that no rotation can make does not stay, so nothing rotates until the policy names one": (
        lambda m: m.device(age=OLD, key_type="RSA-4096"), lambda m: m.desired(m.policy(rule=m.rule(key_type=None))),
        None, ["AgeExceeded", "ResultUnknown"], "names no key type, and none that a rotation can make is in place"),
    "a certificate of an unknown authority cannot stay with it": (
        lambda m: m.device(age=OLD, authority=None), lambda m: m.desired(m.policy(rule=m.rule(authority=None))),
        None, ["AgeExceeded", "ResultUnknown"], "the certificate is of none that git knows (CN=plant)"),
    "an authority that stays must be deployed": (
        lambda m: m.device(age=OLD), lambda m: m.desired(m.policy(rule=m.rule(authority=None))),
        lambda m: m.state(deployment=DeployedBackend("0.1.0")), ["AgeExceeded", "ResultUnknown"],
        "plant-ca (arn:aws:acm-pca:plant) stays, but the backend has no authority of that name"),
    "a device that rotates is left to it": (
        lambda m: m.device(age=OLD, executions=(m.execution(),)), lambda m: m.desired(), None,
        ["AgeExceeded", "Rotating"], "job cf-line-a-w1-0123456789abcdef is QUEUED here since 2026-11-23T11:00:00Z"),
    "a device in sync that someone rotates is in sync": (
        lambda m: m.device(executions=(m.execution("by-hand"),)), lambda m: m.desired(), None, ["Rotating"], "by-hand"),
    "a device silent for longer than stragglersAfter is a straggler": (
        lambda m: m.device(age=OLD, executions=(m.execution(queued=30 * HOUR),), last_seen=m.now - 50 * HOUR),
        lambda m: m.desired(), None, ["AgeExceeded", "Straggler"], "for 30 hours; last seen 50 hours ago"),
    "a device in the standing job is a straggler from the start": (
        lambda m: m.device(age=OLD, executions=(m.execution("cf-line-a-standing-0123456789abcdef"),)),
        lambda m: m.desired(), None, ["AgeExceeded", "Straggler"], "last connection not known"),
    "no window is open": (
        lambda m: m.device(age=OLD), lambda m: m.desired(m.policy(windows=[m.window()])), None,
        ["AgeExceeded", "OutsideWindow"], "the next opens at 2026-11-24T02:00:00Z"),
    "no window ever opens": (
        lambda m: m.device(age=OLD),
        lambda m: m.desired(m.policy(windows=[m.window("0 0 * * *", 25 * HOUR, kind=WindowKind.DENY)])), None,
        ["AgeExceeded", "OutsideWindow"], "none opens within five years"),
    "little life left ignores windows": (
        lambda m: m.device(age=199 * DAY, left=DAY),
        lambda m: m.desired(m.policy(windows=[m.window()], rule=m.rule(renew_before=10 * DAY))), None,
        ["Expiring", "AgeExceeded"], ""),
    "an incident told to keep to windows keeps to them": (
        lambda m: m.device(authority="aws-iot"),
        lambda m: m.desired(m.policy(windows=[m.window()]),
                            incidents=(m.incident(authority="aws-iot", ignore_windows=False),)),
        None, ["AuthorityTainted", "AuthorityMismatch", "OutsideWindow"], ""),
    "drift that comes within a week is told": (
        lambda m: m.device(age=175 * DAY), lambda m: m.desired(), None,
        ["NotYetDue"], "rotates from 2026-11-28T12:00:00Z on; due 2026-11-28T12:00:00Z"),
    "drift that comes after its date for want of a window is told as such": (
        lambda m: m.device(age=175 * DAY), lambda m: m.desired(m.policy(windows=[m.window("0 2 * * SUN")])), None,
        ["NotYetDue"], "after maxAge, because no window opens before"),
}  # fmt: skip


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_a_device_gets_exactly_the_findings_it_deserves(make, scene):
    device, desired, state, reasons, text = scene
    assessment = make.assess(device(make), desired(make), state(make) if state else None)
    assert make.reasons(assessment) == reasons
    assert text in " | ".join(finding.message for finding in assessment.findings)


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_every_blocked_finding_has_a_remedy_and_no_other_has(make, scene):
    device, desired, state, _reasons, _text = scene
    for finding in make.assess(device(make), desired(make), state(make) if state else None).findings:
        assert (finding.remedy is not None) is (finding.outcome is Outcome.BLOCKED)
        assert "  " not in finding.message


@pytest.mark.parametrize(
    ("scene", "sync", "health"),
    [
        ("a young certificate of the right kind has nothing to say", Sync.IN_SYNC, Health.HEALTHY),
        ("a certificate older than maxAge must go", Sync.OUT_OF_SYNC, Health.HEALTHY),
        ("drift that comes within a week is told", Sync.IN_SYNC, Health.HEALTHY),
        ("two certificates without a rotation are one too many", Sync.OUT_OF_SYNC, Health.DEGRADED),
        ("two certificates while a rotation runs are normal", Sync.UNKNOWN, Health.PROGRESSING),
        ("no certificate", Sync.OUT_OF_SYNC, Health.MISSING),
        ("a certificate that cannot be parsed", Sync.UNKNOWN, Health.DEGRADED),
        ("a suspended policy", Sync.OUT_OF_SYNC, Health.SUSPENDED),
        ("a waived device with drift waits for its waiver", Sync.OUT_OF_SYNC, Health.SUSPENDED),
        ("a device that rotates is left to it", Sync.OUT_OF_SYNC, Health.PROGRESSING),
        ("a device in sync that someone rotates is in sync", Sync.IN_SYNC, Health.PROGRESSING),
        ("two policies of equal priority", Sync.OUT_OF_SYNC, Health.DEGRADED),
    ],
)
def test_sync_and_health(make, scene, sync, health):
    device, desired, state, _reasons, _text = SCENES[scene]
    assessment = make.assess(device(make), desired(make), state(make) if state else None)
    assert (assessment.sync, assessment.health) == (sync, health)


def test_every_governed_device_gets_one_assessment_in_order_and_no_other(make):
    fleet = [
        make.device(f"g{n}", groups=groups)
        for n, groups in enumerate([("line-a",), ("elsewhere",), ("line-a", "x"), ()])
    ]
    found = list(assess_fleet(fleet, make.desired(), make.state(), make.now))
    assert [a.device for a in found] == ["g0", "g2"]


def test_the_higher_priority_governs(make):
    desired = make.desired(make.policy("line-a"), make.policy("line-b", priority=1))
    assert make.assess(make.device(groups=("line-a", "line-b")), desired).policy == "line-b"


def test_a_policy_in_report_mode_tells_the_same_findings(make):
    quiet = make.assess(make.device(age=OLD), make.desired(make.policy(mode=Mode.REPORT)))
    assert make.reasons(quiet) == ["AgeExceeded"]


TENTHS = st.integers(-30, 4_000).map(lambda tenths: tenths * DAY / 10)
OTHERWISE = st.sampled_from([
    {}, {}, {"key_type": "RSA-2048"}, {"key_type": None}, {"authority": "aws-iot"}, {"authority": None},
    {"status": CertificateStatus.INACTIVE}, {"type_": AttachmentType.NON_EXCLUSIVE}, {"shared": ("other",)},
    {"parse_error": "is not a PEM"},
])  # fmt: skip
SEEN = st.builds(lambda age, left, more: {"age": age, "left": left, **more}, TENTHS, TENTHS, OTHERWISE)


@given(
    jitter=st.integers(0, 50), renew=st.none() | st.integers(1, 60), max_age=st.none() | st.integers(10, 300),
    key=st.sampled_from([None, KeyType.ECDSA_P256]), authority=st.sampled_from([None, "plant-ca"]),
    cutoff=st.sampled_from([None, -100, 5]), leak=st.booleans(), windows=st.booleans(), splits=st.booleans(),
    fleet=st.lists(SEEN, min_size=6, max_size=12),
)  # fmt: skip
def test_what_is_learnt_of_quiet_devices_never_hides_what_the_checks_find(
    make, jitter, renew, max_age, key, authority, cutoff, leak, windows, splits, fleet
):
    rule = make.rule(
        max_age=max_age and max_age * DAY, renew_before=renew and renew * DAY, key_type=key, authority=authority,
        rotate_issued_before=cutoff and make.now + cutoff * DAY,
        shared_certificate=SharedCertificate.SPLIT if splits else None,
    )  # fmt: skip
    policy = make.policy(rule=rule, jitter=jitter, windows=[make.window()] if windows else [])
    incidents = (make.incident(issued_after=make.now - 50 * DAY),) if leak else ()
    known = {make.certificate(name="g3").certificate_id: ()}
    state = make.state(deployment=SPLITS, shared=known) if splits else make.state()
    desired = make.desired(policy, incidents=incidents)
    governance = Governance(desired, state, make.now)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quiet, "WORTH_LEARNING", 1)
        for number, seen in enumerate([*fleet, *fleet]):
            device = make.device(f"g{number}", **seen)
            found, of_checks = assess(device, governance), assess(device, Governance(desired, state, make.now))
            assert found == of_checks, "a governance that has learnt nothing asks every check"
            assert len(found) == len(of_checks)


def test_of_many_that_are_alike_the_checks_are_asked_no_more_of_those_that_are_younger(make):
    """Due at 180 days, less 18 of jitter and the week in which that is told; all of them end in 2049."""
    desired = make.desired(make.policy(jitter=10))
    governance = Governance(desired, make.state(), make.now)
    for number in range(quiet.WORTH_LEARNING):
        assert assess(make.device(f"g{number}", age=DAY), governance).findings == ()
    covers = governance.policies["line-a"].quiet.covers
    assert [covers(make.device(age=days * DAY)) for days in (0, 1, 154, 156, 200)] == [True, True, True, False, False]
    for other in (
        {"key_type": "ECDSA-P384"}, {"authority": "aws-iot"}, {"status": CertificateStatus.INACTIVE},
        {"parse_error": "is not a PEM"}, {"type_": AttachmentType.NON_EXCLUSIVE}, {"shared": ("other",)},
    ):  # fmt: skip
        assert not covers(make.device(age=DAY, **other)), other
    assert not covers(make.device(age=DAY, left=300 * DAY)), "it ends sooner than all that were seen"
    assert not covers(make.device(age=DAY, executions=(make.execution(),)))
    assert not covers(make.device(age=DAY, failures=(make.execution(status="FAILED"),)))
    assert not covers(make.device(age=-DAY / 2)), "its validity has not begun"
    assert not covers(make.device(certificates=()))


@pytest.mark.parametrize("cutoff", [-DAY, DAY])
def test_once_a_cutoff_has_come_every_check_is_asked(make, cutoff):
    """It looks at when a certificate was registered, too."""
    desired = make.desired(make.policy(rule=make.rule(rotate_issued_before=make.now + cutoff)))
    assert (Governance(desired, make.state(), make.now).policies["line-a"].quiet is None) is (cutoff < DAY)


def test_how_much_sooner_one_may_end_is_found_out_too(make):
    """Of a private CA every certificate is valid equally long."""
    governance = Governance(make.desired(make.policy(rule=make.rule(max_age=None))), make.state(), make.now)
    for number in range(quiet.WORTH_LEARNING):
        assess(make.device(f"g{number}", age=DAY, left=99 * DAY), governance)
    covers = governance.policies["line-a"].quiet.covers
    assert [covers(make.device(age=(100 - left) * DAY, left=left * DAY)) for left in (99, 9, 1)] == [True, True, True]
    assert not covers(make.device(age=101 * DAY, left=-DAY))


def test_certificates_as_old_as_the_calendar_are_learnt_of(make):
    ancient = datetime(1, 1, 2, tzinfo=UTC)
    governance = Governance(make.desired(make.policy(rule=make.rule(max_age=None))), make.state(), make.now)
    for number in range(quiet.WORTH_LEARNING):
        assert assess(make.device(f"g{number}", not_before=ancient), governance).findings == ()
    assert governance.policies["line-a"].quiet.covers(make.device(not_before=ancient))


def test_a_certificate_from_the_future_is_no_certificate_in_use(make):
    assert make.reasons(make.assess(make.device(age=-5 * DAY), make.desired())) == ["Unparseable"]
    hours = make.device(age=-5 * HOUR)  # clocks differ
    assert make.assess(hours, make.desired()).findings == ()


def test_findings_carry_the_policy_field_for_its_yaml_line(make):
    finding = make.assess(make.device(age=OLD), make.desired()).findings[0]
    assert make.source.at(finding.policy_field) == "demo/policies.yaml:11"
    assert finding.values == {"ageDays": 200, "allowedDays": 180}


def test_mismatch_starts_now_or_when_a_window_opens(make):
    shut = make.assess(make.device(key_type="RSA-2048"), make.desired(make.policy(windows=[make.window()])))
    assert shut.timing.start == datetime(2026, 11, 24, 2, tzinfo=UTC)
    assert make.assess(make.device(key_type="RSA-2048"), make.desired()).timing.start == make.now


@pytest.mark.parametrize("windows", [(), ("0 2 * * 1",)], ids=["", "with windows"])
def test_no_sentence_counts_below_nought_whatever_is_past_due_or_expired(make, windows):
    open_time = tuple(make.window(cron) for cron in windows)
    policy = make.policy(rule=make.rule(renew_before=30 * DAY), jitter=50, windows=open_time)
    told = []
    for age in range(0, 400, 13):
        for left in (left for left in (-399, -35, -1, 0, 1, 29, 31, 400) if left > -age):
            device = make.device("g", age=age * DAY, left=left * DAY)
            told += [finding.message for finding in make.assess(device, make.desired(policy)).findings]
    assert len(told) > 100
    assert [text for text in told if re.search(r"(?<![0-9A-Za-z])-[0-9]", text)] == []
