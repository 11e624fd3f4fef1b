"""Every mistake inside one document: its line, what was found, what is allowed."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.desired.time_fields import Cron, Instant
from controller.desired.validation import read_document
from controller.desired.yaml_documents import Place, YamlDocument
from controller.reconcile.values import WaveSize

HEAD = "apiVersion: certfleet/v1\nkind: RotationPolicy\nmetadata: {name: p}\n"
SPEC = "spec:\n  thingGroup: g\n  certificate: {maxAge: 90d}\n"
DURATION = "a duration such as 90d, 12h, 30m, 2w"
INSTANT = "an instant with a zone such as 2026-11-01T00:00:00Z, or a date such as 2026-11-01 (midnight UTC)"
CRON = "five cron fields (one minute, hour, day-of-month, month, day-of-week), such as '0 2 * * 1-5'"
THING = "1 to 128 of letters, digits, colon, underscore and hyphen"
SPEC_KEYS = "thingGroup, priority, certificate, schedule, rollout, mode, suspend"


def policy(extra: str) -> str:
    return f"{HEAD}{SPEC}{extra}\n"


def certificate(fields: str) -> str:
    return f"{HEAD}spec:\n  thingGroup: g\n  certificate:\n    {fields}\n"


def window(fields: str) -> str:
    return policy(f"  schedule:\n    windows:\n      - {{{fields}}}")


def rollout(fields: str) -> str:
    return policy(f"  rollout:\n    {fields}")


CASES = {
    "no mapping": ("- a\n", ["1: found a list; allowed: a mapping with apiVersion, kind, metadata and spec"]),
    "neither version nor kind": (
        "a: 1\n",
        [
            "1: apiVersion: missing; allowed: certfleet/v1",
            (
                "1: kind: missing; allowed: Fleet, CertificateAuthority, RotationPolicy, Waiver, Quarantine, Incident, "
                "Drill"
            ),
        ],
    ),
    "another version and kind": (
        "apiVersion: certfleet/v2\nkind: RotationPolice\n",
        [
            "1: apiVersion: found 'certfleet/v2'; allowed: certfleet/v1",
            (
                "2: kind: found 'RotationPolice'; allowed: Fleet, CertificateAuthority, RotationPolicy, "
                "Waiver, Quarantine, Incident, Drill; "
                "did you mean 'RotationPolicy'?"
            ),
        ],
    ),
    "no name and no spec": (
        "apiVersion: certfleet/v1\nkind: Fleet\nmetadata: {}\n",
        ["3: metadata.name: missing", "1: spec: missing"],
    ),
    "a policy's name is too long for job ids": (
        f"{HEAD.replace('name: p', 'name: ' + 'p' * 33)}{SPEC}",
        [f"3: metadata.name: found '{'p' * 33}'; allowed: 1 to 32 of a-z, 0-9 and hyphen, not starting with a hyphen"],
    ),
    "a name in capitals": (
        f"{HEAD.replace('name: p', 'name: P')}{SPEC}",
        ["3: metadata.name: found 'P'; allowed: 1 to 32 of a-z, 0-9 and hyphen, not starting with a hyphen"],
    ),
    "an unknown key close to a known one": (
        policy("  prioritty: 3"),
        [f"7: spec.prioritty: unknown key; did you mean 'priority'?; allowed: {SPEC_KEYS}"],
    ),
    "an unknown key inside a list": (
        window("cron: '0 2 * * *', timezone: UTC, duration: 4h, colour: red"),
        ["9: spec.schedule.windows[0].colour: unknown key; allowed: cron, timezone, duration, kind"],
    ),
    "a key without a value": (
        certificate("maxAge:"),
        ["7: spec.certificate.maxAge: found nothing; allowed: a value, or no such key"],
    ),
    "a section without a value": (
        policy("  rollout:"),
        ["7: spec.rollout: found nothing; allowed: a value, or no such key"],
    ),
    "a scalar where a mapping belongs": (
        policy("  rollout: fast"),
        ["7: spec.rollout: found 'fast'; allowed: a mapping"],
    ),
    "a scalar where a list belongs": (rollout("waves: 3"), ["8: spec.rollout.waves: found 3; allowed: a list"]),
    "an empty list of waves": (
        rollout("waves: []"),
        ["8: spec.rollout.waves: found an empty list; allowed: at least one item"],
    ),
    "too many waves": (
        rollout(f"waves: [{', '.join(['1'] * 51)}]"),
        ["8: spec.rollout.waves: found 51 items; allowed: at most 50"],
    ),
    "a wrong duration": (
        certificate("maxAge: 90x"),
        [f"7: spec.certificate.maxAge: found '90x'; allowed: {DURATION}, from 1h to 36525d"],
    ),
    "a duration that is too short": (
        certificate("maxAge: 59m"),
        [f"7: spec.certificate.maxAge: found '59m'; allowed: {DURATION}, from 1h to 36525d"],
    ),
    "an unknown key type": (
        certificate("keyType: ECDSA-P255"),
        [
            (
                "7: spec.certificate.keyType: found 'ECDSA-P255'; allowed: RSA-2048, RSA-3072, ECDSA-P256, ECDSA-P384, "
                "ECDSA-P521; did you mean 'ECDSA-P256'?"
            )
        ],
    ),
    "an instant without a zone": (
        certificate("rotateIssuedBefore: 2026-11-01T00:00:00"),
        [f"7: spec.certificate.rotateIssuedBefore: found '2026-11-01T00:00:00', which has no zone; allowed: {INSTANT}"],
    ),
    "a day that does not exist": (
        certificate("rotateIssuedBefore: 2026-02-30"),
        [f"7: spec.certificate.rotateIssuedBefore: found '2026-02-30'; allowed: {INSTANT}"],
    ),
    "yes where a word is wanted": (policy("  mode: yes"), ["7: spec.mode: found 'yes'; allowed: enforce, report"]),
    "a priority in quotes": (
        policy("  priority: '3'"),
        ["7: spec.priority: found '3'; allowed: a whole number from -1000 to 1000"],
    ),
    "true is not a number": (
        policy("  priority: true"),
        ["7: spec.priority: found true; allowed: a whole number from -1000 to 1000"],
    ),
    "jitter beyond half a life": (
        policy("  schedule: {jitterPercent: 51}"),
        ["7: spec.schedule.jitterPercent: found 51; allowed: a whole number from 0 to 50"],
    ),
    "a cron expression of four fields": (
        window("cron: '0 2 * *', timezone: UTC, duration: 4h"),
        [f"9: spec.schedule.windows[0].cron: found '0 2 * *'; allowed: {CRON}"],
    ),
    "a cron expression out of range": (
        window("cron: '0 25 * * *', timezone: UTC, duration: 4h"),
        [f"9: spec.schedule.windows[0].cron: found '0 25 * * *'; allowed: {CRON} (bad hour)"],
    ),
    "a window that opens every minute": (
        window("cron: '* * * * *', timezone: UTC, duration: 4h"),
        [f"9: spec.schedule.windows[0].cron: found '* * * * *'; allowed: {CRON}"],
    ),
    "an unknown time zone": (
        window("cron: '0 2 * * *', timezone: Europe/Londn, duration: 4h"),
        [
            (
                "9: spec.schedule.windows[0].timezone: found 'Europe/Londn'; allowed: a name of the IANA time zone "
                "database, such as Europe/London or UTC; did you mean 'Europe/London'?"
            )
        ],
    ),
    "a window's duration in seconds": (
        window("cron: '0 2 * * *', timezone: UTC, duration: 90s"),
        [f"9: spec.schedule.windows[0].duration: found '90s'; allowed: {DURATION}, from 1m to 31d in whole minutes"],
    ),
    "a wave of more than everything": (
        rollout("waves: ['101%']"),
        [
            (
                "8: spec.rollout.waves[0]: found '101%'; allowed: a count of devices from 1 to 1000000, or a whole "
                "percentage from 1% to 100%"
            )
        ],
    ),
    "more per minute than AWS IoT Jobs takes": (
        rollout("maximumPerMinute: 1001"),
        ["8: spec.rollout.maximumPerMinute: found 1001; allowed: a whole number from 1 to 1000"],
    ),
    "a timeout longer than AWS IoT Jobs takes": (
        rollout("timeout: 10081m"),
        [f"8: spec.rollout.timeout: found '10081m'; allowed: {DURATION}, from 1m to 7d in whole minutes"],
    ),
    "more retries than AWS IoT Jobs takes": (
        rollout("retries: 11"),
        ["8: spec.rollout.retries: found 11; allowed: a whole number from 0 to 10"],
    ),
    "an abort rule with three mistakes": (
        rollout("abort: [{failureType: failed, thresholdPercentage: 0, minNumberOfExecutedThings: 0}]"),
        [
            "8: spec.rollout.abort[0].failureType: found 'failed'; allowed: FAILED, REJECTED, TIMED_OUT, ALL",
            "8: spec.rollout.abort[0].minNumberOfExecutedThings: found 0; allowed: a whole number from 1 to 1000000",
            (
                "8: spec.rollout.abort[0].thresholdPercentage: found 0; allowed: a number above 0 up to 100, "
                "with up to "
                "two decimals"
            ),
        ],
    ),
    "a percentage that AWS IoT Jobs would round": (
        rollout("abort: [{failureType: ALL, thresholdPercentage: 10.999, minNumberOfExecutedThings: 1}]"),
        [
            (
                "8: spec.rollout.abort[0].thresholdPercentage: found 10.999; allowed: a number above 0 up to 100, "
                "with up to two decimals"
            )
        ],
    ),
    "a suspension without an end": (policy("  suspend: {reason: rebuild}"), ["7: spec.suspend.until: missing"]),
    "a reason of two lines": (
        policy('  suspend: {reason: "a\\nb", until: 2026-12-24}'),
        ["7: spec.suspend.reason: found 'a\\nb'; allowed: one line of text, 1 to 500 characters"],
    ),
    "an account as a number": (
        (
            "apiVersion: certfleet/v1\nkind: Fleet\nmetadata: {name: f}\nspec: {account: 123456789012, region: "
            "eu-west-1}\n"
        ),
        ["4: spec.account: found 123456789012; allowed: twelve digits, in quotes (put it in quotes)"],
    ),
    "an authority of another type with a wrong ARN": (
        (
            "apiVersion: certfleet/v1\nkind: CertificateAuthority\nmetadata: {name: ca}\nspec:\n  type: Vault\n"
            "  arn: arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/x\n"
            "  signingAlgorithm: SHA256WITHRSA\n  validity: 36h\n"
        ),
        [
            (
                "6: spec.arn: found 'arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/x'; allowed: an ARN "
                "such as arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/ and a UUID"
            ),
            "5: spec.type: found 'Vault'; allowed: PrivateCA",
            f"8: spec.validity: found '36h'; allowed: {DURATION}, from 1d to 3650d in days",
        ],
    ),
    "a waiver for nobody": (
        (
            "apiVersion: certfleet/v1\nkind: Waiver\nmetadata: {name: w}\n"
            "spec: {devices: [], owner: me, reason: ' ', expires: 2027-01-01}\n"
        ),
        [
            "4: spec.devices: found an empty list; allowed: at least one item",
            "4: spec.reason: found ' '; allowed: one line of text, 1 to 500 characters",
        ],
    ),
    "a waiver for a name that no thing can have": (
        (
            "apiVersion: certfleet/v1\nkind: Waiver\nmetadata: {name: w}\n"
            "spec:\n  owner: me\n  reason: r\n  expires: 2027-01-01\n  devices:\n    - good\n    - not good\n"
        ),
        [f"10: spec.devices[1]: found 'not good'; allowed: {THING}"],
    ),
    "an incident that wants yes": (
        (
            "apiVersion: certfleet/v1\nkind: Incident\nmetadata: {name: i}\n"
            "spec: {reason: r, deadline: 2026-12-01, issuedBefore: 2026-01-01, ignoreWindows: no}\n"
        ),
        ["4: spec.ignoreWindows: found 'no'; allowed: true, false"],
    ),
}


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES)
def test_a_mistake_names_line_finding_and_what_is_allowed(problems, documents, text, expected):
    files = {"fleet.yaml": documents["fleet"], "wrong.yaml": text}
    if "kind: Fleet" in text:
        del files["fleet.yaml"]
    found = [each for each in problems(files) if "no Fleet document" not in each]
    assert sorted(found) == sorted(f"wrong.yaml:{each}" for each in expected)


def test_a_wrong_value_is_quoted_at_a_bearable_length(problems, documents):
    text = policy(f"  mode: {'x' * 5000}")
    (problem,) = problems({"fleet.yaml": documents["fleet"], "wrong.yaml": text})
    assert problem == f"wrong.yaml:7: spec.mode: found '{'x' * 79}… (5002 characters); allowed: enforce, report"


@pytest.mark.parametrize(
    ("found", "instant"),
    [
        ("2026-12-24", datetime(2026, 12, 24, tzinfo=UTC)),
        ("2026-12-24T12:30:00Z", datetime(2026, 12, 24, 12, 30, tzinfo=UTC)),
        ("2026-12-24 12:30:00+02:00", datetime(2026, 12, 24, 10, 30, tzinfo=UTC)),
        ("2026-12-24T12:30:00.5-01:00", datetime(2026, 12, 24, 13, 30, 0, 500_000, tzinfo=UTC)),
    ],
)
def test_instants_are_read_into_utc(found, instant):
    assert Instant().read(found) == instant
    assert Instant().read(instant.isoformat()) == instant


@pytest.mark.parametrize(
    "found", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", 20261224, "2026-W01-1", "now"]
)
def test_what_is_no_instant_is_told_so(found):
    with pytest.raises(ValueError, match="allowed: an instant with a zone"):
        Instant().read(found)


@settings(deadline=None)
@given(st.text(alphabet="0123456789*,/-#LW ", max_size=30))
def test_any_cron_expression_is_read_or_told_what_is_wrong(text):
    try:
        outcome = Cron().read(text)
    except ValueError as error:
        outcome = str(error)
    assert outcome == text or "allowed: five cron fields" in outcome


@pytest.mark.parametrize(
    "found", ["0 0 31 2 *", "0 0 * * 1#2/2", "0 0 * * 1,2#1/2", "0 0 * * 8", "0 0 * 13 *", "0 0 */30 2 1#5"]
)
def test_a_cron_expression_that_can_never_fire_is_wrong(found):
    with pytest.raises(ValueError, match="allowed: five cron fields"):
        Cron().read(found)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_KEYS = [
    "thingGroup",
    "priority",
    "certificate",
    "schedule",
    "rollout",
    "mode",
    "suspend",
    "devices",
    "account",
    "type",
]
_INNER = ["maxAge", "keyType", "waves", "abort", "windows", "cron", "reason", "until", "jitterPercent", "timezone"]


@settings(deadline=None)
@given(
    st.sampled_from(["Fleet", "CertificateAuthority", "RotationPolicy", "Waiver", "Quarantine", "Incident", "Drill"]),
    st.dictionaries(st.sampled_from(_KEYS), _VALUES | st.dictionaries(st.sampled_from(_INNER), _VALUES, max_size=4)),
    _VALUES,
)
def test_no_document_makes_the_reader_raise(kind, spec, metadata):
    value = {"apiVersion": "certfleet/v1", "kind": kind, "metadata": metadata, "spec": spec}
    document = YamlDocument("f.yaml", value, {(): Place(1, 1)})
    read, problems = read_document(document)
    assert read is not None
    assert bool(problems) == (read.model is None)


def test_sizes_of_waves_may_be_bare_counts(states, documents):
    (state,) = states({"f.yaml": documents["fleet"], "p.yaml": rollout("waves: [1, '5', 20%, 100%]")})
    assert state.policies[0].rollout.waves == (
        WaveSize(1, is_percent=False),
        WaveSize(5, is_percent=False),
        WaveSize(20, is_percent=True),
        WaveSize(100, is_percent=True),
    )
    assert state.policies[0].rollout.soak == timedelta(days=1)
