"""Documents become values, whatever the files are called and in whatever order they lie."""

from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.desired import DocumentFile, Limits, Snapshot, load_snapshot
from controller.errors import DesiredStateError
from controller.reconcile.values import (
    AbortRule,
    CertificateRule,
    FailureType,
    Guardrails,
    Mode,
    Rollout,
    Schedule,
    Source,
    Suspension,
    WaveSize,
    Window,
    WindowKind,
)
from protocol.algorithms import CaSigningAlgorithm, CsrSigningAlgorithm, KeyType

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)

WHOLE = """\
apiVersion: certfleet/v1
kind: Fleet
metadata: {name: production}
spec:
  account: "123456789012"
  region: eu-west-1
  roleArn: arn:aws:iam::123456789012:role/certfleet-reconcile
  readRoleArn: arn:aws:iam::123456789012:role/certfleet-read
  backend: {stackName: Rotator}
  guardrails: {maxChangePercent: 20, minExisting: 5}
---
apiVersion: certfleet/v1
kind: CertificateAuthority
metadata: {name: plant-ca}
spec:
  type: PrivateCA
  arn: arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/5f0c9a52-3d0f-4f6f-9a53-b1d1e6a9c001
  signingAlgorithm: SHA256WITHECDSA
  validity: 365d
  templateArn: arn:aws:acm-pca:::template/EndEntityClientAuthCertificate/V1
---
apiVersion: certfleet/v1
kind: RotationPolicy
metadata: {name: line-a-gateways}
spec:
  thingGroup: line-a:gateways
  priority: 7
  certificate:
    maxAge: 180d
    renewBefore: 30d
    keyType: ECDSA-P256
    csrSigningAlgorithm: ECDSA-WITH-SHA256
    authority: plant-ca
    rotateIssuedBefore: 2026-11-01T01:00:00+01:00
  schedule: {jitterPercent: 5, windows: [{cron: "0 2 * * 1-5", timezone: Europe/London, duration: 4h, kind: allow}]}
  rollout: {waves: ["1", "5%", "100%"], soak: 12h, maxInFlight: 50, maximumPerMinute: 10, timeout: 15m, retries: 1,
            stragglersAfter: 2w,
            abort: [{failureType: FAILED, thresholdPercentage: 2.5, minNumberOfExecutedThings: 20}]}
  mode: report
  suspend: {reason: "line rebuild", until: 2026-12-24}
---
apiVersion: certfleet/v1
kind: Waiver
metadata: {name: press}
spec: {devices: [press-1, press-2], owner: Ada, reason: rebuild, expires: 2027-03-31}
---
apiVersion: certfleet/v1
kind: Incident
metadata: {name: leak}
spec:
  reason: a backup was lost
  deadline: 2026-12-01T12:00:00Z
  authority: plant-ca
  keyType: RSA-2048
  issuedAfter: 2026-01-01
  issuedBefore: 2026-06-01
  ignoreWindows: false
  acceptedLosses: [press-2]
"""


def instant(month: int, day: int, hour: int = 0, year: int = 2026) -> datetime:
    return datetime(year, month, day, hour, tzinfo=UTC)


def test_every_field_of_every_kind_arrives(states):
    (state,) = states({"all.yaml": WHOLE})
    fleet, policy = state.fleet, state.policies[0]
    assert (fleet.name, fleet.account, fleet.region) == ("production", "123456789012", "eu-west-1")
    assert fleet.role_arn == "arn:aws:iam::123456789012:role/certfleet-reconcile"
    assert fleet.read_role_arn == "arn:aws:iam::123456789012:role/certfleet-read"
    assert (fleet.backend.job_template, fleet.guardrails) == ("Rotator", Guardrails(20, 5))

    assert list(state.authorities) == ["aws-iot", "plant-ca"]
    authority = state.authorities["plant-ca"]
    assert (
        authority.arn
        == "arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/5f0c9a52-3d0f-4f6f-9a53-b1d1e6a9c001"
    )
    assert (authority.signing_algorithm, authority.validity) == (CaSigningAlgorithm.SHA256_ECDSA, timedelta(days=365))
    assert authority.template_arn == "arn:aws:acm-pca:::template/EndEntityClientAuthCertificate/V1"
    assert state.authorities["aws-iot"].is_aws_iot

    assert (policy.name, policy.thing_group, policy.priority) == ("line-a-gateways", "line-a:gateways", 7)
    assert policy.certificate == CertificateRule(
        max_age=timedelta(days=180),
        renew_before=timedelta(days=30),
        key_type=KeyType.ECDSA_P256,
        csr_signing_algorithm=CsrSigningAlgorithm.SHA256_ECDSA,
        authority="plant-ca",
        rotate_issued_before=instant(11, 1),
    )
    window = Window("0 2 * * 1-5", "Europe/London", timedelta(hours=4), WindowKind.ALLOW)
    assert policy.schedule == Schedule(5, (window,))
    assert policy.rollout == Rollout(
        waves=(WaveSize(1, is_percent=False), WaveSize(5, is_percent=True), WaveSize(100, is_percent=True)),
        soak=timedelta(hours=12),
        max_in_flight=50,
        maximum_per_minute=10,
        timeout=timedelta(minutes=15),
        retries=1,
        abort=(AbortRule(FailureType.FAILED, 2.5, 20),),
        stragglers_after=timedelta(days=14),
    )
    assert (policy.mode, policy.suspend) == (Mode.REPORT, Suspension("line rebuild", instant(12, 24)))

    (waiver,), (incident,) = state.waivers, state.incidents
    assert (waiver.name, waiver.devices, waiver.owner) == ("press", {"press-1", "press-2"}, "Ada")
    assert (waiver.reason, waiver.expires) == ("rebuild", instant(3, 31, year=2027))
    assert (incident.name, incident.reason, incident.deadline) == ("leak", "a backup was lost", instant(12, 1, 12))
    assert (incident.authority, incident.key_type) == ("plant-ca", KeyType.RSA_2048)
    assert (incident.issued_after, incident.issued_before) == (instant(1, 1), instant(6, 1))
    assert (incident.ignore_windows, incident.accepted_losses) == (False, {"press-2"})


def test_what_is_left_out_is_what_the_values_say_by_default(states, documents):
    (state,) = states({"f.yaml": documents["fleet"], "p.yaml": documents["policy"]})
    policy = state.policies[0]
    assert state.fleet.guardrails == Guardrails()
    assert (policy.schedule, policy.rollout, policy.mode, policy.suspend) == (Schedule(), Rollout(), Mode.ENFORCE, None)
    assert state.fleet.stack_name == "AWSLabsCertificateRotator"


def test_each_value_knows_the_line_of_each_of_its_fields(states):
    (state,) = states({"all.yaml": WHOLE})
    source = state.policies[0].source
    assert source.at("spec.certificate.maxAge") == "all.yaml:29"
    assert source.at("spec.schedule.windows.0.cron") == "all.yaml:35"
    assert source.at("spec.rollout.abort.0.failureType") == "all.yaml:38"
    assert source.at("spec.certificate.unwritten") == "all.yaml:28"
    assert source.at("nowhere") == "all.yaml:22"


@settings(max_examples=25, deadline=None)
@given(st.permutations(WHOLE.split("---\n")), st.permutations(["a/1.yaml", "a/2.yml", "b.yaml", "c.yml", "z/z/z.yaml"]))
def test_neither_order_nor_names_of_files_change_what_is_desired(texts, names):
    files = [DocumentFile(name, name, text.encode()) for name, text in zip(names, texts, strict=True)]
    (state,) = load_snapshot(Snapshot("desired", tuple(files)), now=NOW)
    (plain,) = load_snapshot(Snapshot("desired", (DocumentFile("all.yaml", "all.yaml", WHOLE.encode()),)), now=NOW)
    assert _without_sources(state) == _without_sources(plain)


def test_policies_come_by_name_whatever_the_order_of_files(states, documents):
    files = {"fleet.yaml": documents["fleet"]}
    for name in ("m", "a", "z"):
        files[f"{ord(name)}.yaml"] = documents["policy"].replace("gateways", name)
    (state,) = states(files)
    assert [policy.name for policy in state.policies] == ["a", "m", "z"]


def _without_sources(state):
    def strip(value):
        if isinstance(value, Source):
            return None
        if is_dataclass(value):
            return {each.name: strip(getattr(value, each.name)) for each in fields(value)}
        if isinstance(value, dict):
            return {key: strip(inner) for key, inner in value.items()}
        return [strip(each) for each in value] if isinstance(value, tuple) else value

    return strip(state)


def two_fleets(documents):
    return {
        "north/fleet.yaml": documents["fleet"].replace("plant", "north"),
        "north/policies/p.yaml": documents["policy"],
        "south/fleet.yaml": documents["fleet"].replace("plant", "south").replace("eu-west-1", "eu-west-2"),
        "south/p.yaml": documents["policy"],
    }


def test_each_folder_is_a_fleet_of_its_own(states, documents):
    north, south = states(two_fleets(documents))
    assert (north.fleet.name, south.fleet.name) == ("north", "south")
    assert [len(state.policies) for state in (north, south)] == [1, 1]


def test_one_fleet_can_be_picked_and_then_only_its_mistakes_count(states, problems, documents):
    files = two_fleets(documents)
    files["south/p.yaml"] = "kind: nonsense\n"
    (north,) = states(files, fleet="north")
    assert north.fleet.name == "north"
    assert len(problems(files)) == 2
    assert len(problems(files, fleet="south")) == 2


def test_an_unknown_fleet_is_told_with_the_known_ones(problems, documents):
    assert problems(two_fleets(documents), fleet="west") == [
        "north/fleet.yaml:1: found no fleet 'west'; allowed: north, south"
    ]


def test_the_mistakes_of_a_folder_that_may_be_the_wanted_fleet_are_told_too(problems, documents):
    files = two_fleets(documents)
    files["south/fleet.yaml"] = "[\n"
    assert problems(files, fleet="south") == [
        "north/fleet.yaml:1: found no fleet 'south'; allowed: north",
        "south/fleet.yaml:2: no valid YAML: expected the node content, but found '<stream end>'",
    ]


def test_two_folders_must_not_be_one_fleet(problems, documents):
    files = two_fleets(documents)
    files["south/fleet.yaml"] = files["north/fleet.yaml"]
    assert problems(files) == [
        "south/fleet.yaml:3: metadata.name: the fleet 'north' is already defined at north/fleet.yaml:1",
        (
            "south/fleet.yaml:4: spec.account: account 123456789012 in eu-west-1 is already the fleet 'north' at "
            "north/fleet.yaml:1; allowed: one fleet for each account and region"
        ),
    ]


def test_an_empty_desired_state_is_never_meant(problems):
    assert problems({}) == ["desired:1: found no documents (*.yaml, *.yml); an empty desired state is never meant"]
    assert problems({"f.yaml": "# nothing yet\n"}) == ["f.yaml:1: found no document; allowed: at least one a file"]


def test_more_mistakes_than_anybody_reads_are_counted(problems, documents):
    text = "---\n".join(["kind: x\napiVersion: y\n"] * 10)
    listed = problems({"f.yaml": documents["fleet"], "x.yaml": text}, limits=Limits(max_problems=5))
    assert len(listed) == 6
    assert listed[-1] == "x.yaml:8: and 15 problems more"


def test_the_error_says_what_to_do(states):
    with pytest.raises(DesiredStateError) as raised:
        states({"f.yaml": "[]"})
    assert "docs/desired-state.md" in (raised.value.remedy or "")


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a.yaml", "b/c.yml", "b/d.yaml"]), st.binary(max_size=80)), max_size=3))
def test_no_files_raise_anything_but_the_one_error(entries):
    files = tuple(DocumentFile(path, path, data) for path, data in dict(entries).items())
    with pytest.raises(DesiredStateError):
        load_snapshot(Snapshot("desired", files), now=NOW)
