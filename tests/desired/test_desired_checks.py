"""What documents say with two fields, with the clock, and together."""

import pytest

from controller.desired import fields
from controller.desired.notes import notes_of
from controller.desired.time_fields import TimeZone
from controller.errors import DesiredStateError

POLICY_HEAD = "apiVersion: certfleet/v1\nkind: RotationPolicy\nmetadata: {name: %s}\n"
INCIDENT = "apiVersion: certfleet/v1\nkind: Incident\nmetadata: {name: i}\nspec:\n  reason: r\n  deadline: 2026-12-01\n"
WAIVER = "apiVersion: certfleet/v1\nkind: Waiver\nmetadata: {name: w}\nspec:\n  owner: Ada\n  reason: r\n"
DRILL = """\
apiVersion: certfleet/v1
kind: Drill
metadata: {name: d}
spec:
  policy: p
  reason: practise
  since: 2026-11-01
"""
QUARANTINE = WAIVER.replace("Waiver", "Quarantine")
NOW_TEXT = "2026-11-23T12:00:00Z"
AGAIN = "which is to come: certificates issued until then would be rotated again and again; allowed: up to now"


def policy(certificate: str, extra: str = "", name: str = "p", group: str = "g") -> str:
    return f"{POLICY_HEAD % name}spec:\n  thingGroup: {group}\n  certificate: {{{certificate}}}\n{extra}"


def waves(sizes: str) -> str:
    return policy("maxAge: 90d", f"  rollout: {{waves: {sizes}}}\n")


INSIDE_ONE = {
    "a policy that demands nothing": (
        policy(""),
        ["6: spec.certificate: demands nothing; allowed: at least one of maxAge, renewBefore, keyType, authority"],
    ),
    "a CSR algorithm without a key type": (
        policy("maxAge: 9d, csrSigningAlgorithm: SHA256WITHRSA"),
        [
            (
                "6: spec.certificate.csrSigningAlgorithm: found 'SHA256WITHRSA' without keyType; "
                "allowed: together with keyType"
            )
        ],
    ),
    "a CSR algorithm of another family": (
        policy("keyType: ECDSA-P256, csrSigningAlgorithm: SHA256WITHRSA"),
        [
            (
                "6: spec.certificate.csrSigningAlgorithm: found 'SHA256WITHRSA', with which a ECDSA-P256 key "
                "cannot sign; "
                "allowed: ECDSA-WITH-SHA256, ECDSA-WITH-SHA384, ECDSA-WITH-SHA512"
            )
        ],
    ),
    "a cutoff in the future": (
        policy("rotateIssuedBefore: 2026-11-24T00:00:00Z"),
        [f"6: spec.certificate.rotateIssuedBefore: found 2026-11-24T00:00:00Z, {AGAIN}, {NOW_TEXT}"],
    ),
    "waves that end before the whole": (
        waves("['1', '50%']"),
        ["7: spec.rollout.waves[1]: found 50% as the last wave; allowed: 100%"],
    ),
    "waves that shrink": (
        waves("['10%', '5%', '100%']"),
        ["7: spec.rollout.waves[1]: found 5% after 10%; allowed: sizes that increase, each counts all waves up to it"],
    ),
    "a count after a percentage": (
        waves("['10%', '5', '100%']"),
        ["7: spec.rollout.waves[1]: found the count 5 after 10%; allowed: counts before percentages"],
    ),
    "a waiver that has expired": (
        WAIVER + "  devices: [a]\n  expires: 2026-11-20T00:00:00Z\n",
        [
            (
                "8: spec.expires: the waiver expired at 2026-11-20T00:00:00Z, 3d ago; ask its owner, Ada, "
                "whether it is "
                "renewed, or remove it"
            )
        ],
    ),
    "a waiver that names a device twice": (
        WAIVER + "  expires: 2026-12-20\n  devices:\n    - a\n    - b\n    - a\n",
        ["11: spec.devices[2]: 'a' is already item 0"],
    ),
    "a quarantine that cuts nobody off": (
        QUARANTINE + "  since: 2026-11-01\n",
        ["4: spec: cuts nobody off; allowed: at least one of devices, certificates"],
    ),
    "a quarantine to come, with names given twice": (
        QUARANTINE + f"  since: 2027-01-01\n  devices: [a, a]\n  certificates: {['0' * 64] * 2}\n",
        [
            (
                "7: spec.since: found 2027-01-01T00:00:00Z, which is to come: a quarantine begins when it is merged "
                f"and approved; allowed: up to now, {NOW_TEXT}"
            ),
            "8: spec.devices[1]: 'a' is already item 0",
            f"9: spec.certificates[1]: {'0' * 64!r} is already item 0",
        ],
    ),
    "a drill with more devices than its sample has": (
        policy("maxAge: 90d")
        + "---\n"
        + DRILL
        + "  deadline: 2026-11-02\n  devices: [a, b, a]\n  sample: {of: 9, count: 2}\n",
        [
            "16: spec.devices: found 3 devices, the sample has 2; allowed: at most so many",
            "16: spec.devices[2]: 'a' is already item 0",
        ],
    ),
    "a drill of a whole policy, that ends as it begins": (
        policy("maxAge: 90d") + "---\n" + DRILL + "  deadline: 2026-11-01\n  devices: [a]\n  sample: {of: 9}\n",
        [
            "15: spec.deadline: found 2026-11-01T00:00:00Z; allowed: later than since, 2026-11-01T00:00:00Z",
            "17: spec.sample: found neither count nor group; give at least one of them",
        ],
    ),
    "a drill of a policy that nobody declares, nearly": (
        policy("maxAge: 90d")
        + "---\n"
        + DRILL.replace("policy: p", "policy: pp")
        + "  deadline: 2026-11-02\n  devices: [a]\n  sample: {of: 9, count: 1}\n",
        ["12: spec.policy: found 'pp'; allowed: p; did you mean 'p'?"],
    ),
    "an incident that declares nothing": (
        INCIDENT,
        ["4: spec: declares nothing; allowed: at least one of authority, keyType, issuedAfter, issuedBefore"],
    ),
    "an incident whose period ends before it begins": (
        INCIDENT + "  issuedAfter: 2026-06-01\n  issuedBefore: 2026-05-01\n",
        ["7: spec.issuedAfter: found 2026-06-01T00:00:00Z; allowed: earlier than issuedBefore, 2026-05-01T00:00:00Z"],
    ),
    "an incident whose period ends in the future": (
        INCIDENT + "  issuedBefore: 2027-01-01\n",
        [f"7: spec.issuedBefore: found 2027-01-01T00:00:00Z, {AGAIN}, {NOW_TEXT}"],
    ),
    "an authority that nobody declares, nearly": (
        policy("authority: plant-sa"),
        ["6: spec.certificate.authority: found 'plant-sa'; allowed: aws-iot, plant-ca; did you mean 'plant-ca'?"],
    ),
    "an incident on an unknown authority": (
        INCIDENT + "  authority: nobody\n  issuedBefore: 2026-01-01\n",
        ["7: spec.authority: found 'nobody'; allowed: aws-iot, plant-ca"],
    ),
    "a policy that goes on demanding the authority of an incident": (
        INCIDENT + "  authority: plant-ca\n---\n" + policy("authority: plant-ca, maxAge: 90d"),
        [
            (
                "4: spec: new certificates of the policies p would be as compromised as the old ones; "
                "allowed: policies "
                "that demand another authority or key type, or an incident with issuedBefore"
            )
        ],
    ),
    "certificates that are due when they are issued": (
        policy("authority: plant-ca, renewBefore: 330d"),
        [
            (
                "6: spec.certificate.renewBefore: found 330d, but certificates of 'plant-ca' are valid for "
                "365d and jitter "
                "brings rotations forward by up to 876h: a new one would be due at once; allowed: less than 7884h"
            )
        ],
    ),
    "windows that open once a year for certificates that live a quarter": (
        policy("maxAge: 90d", "  schedule:\n    windows:\n      - {cron: '0 2 1 1 *', timezone: UTC, duration: 4h}\n"),
        [
            (
                "8: spec.schedule.windows: the windows leave 365 days closed in a row, from 2028-01-01T06:00:00Z to "
                "2029-01-01T02:00:00Z, but a certificate must be replaced within 90 days (maxAge)"
            )
        ],
    ),
    "windows that are denied for ever": (
        policy(
            "keyType: RSA-2048",
            "  schedule:\n    windows:\n      - {cron: '0 0 * * *', timezone: UTC, duration: 1d, kind: deny}\n",
        ),
        ["8: spec.schedule.windows: no window opens within 1,830 days of 2026-11-23T12:00:00Z"],
    ),
    "two policies of one name": (
        policy("maxAge: 9d") + "---\n" + policy("maxAge: 9d", group="h"),
        ["10: metadata.name: the RotationPolicy 'p' is already defined at wrong.yaml:1"],
    ),
    "two policies that tie": (
        policy("maxAge: 9d") + "---\n" + policy("maxAge: 8d", name="q"),
        [
            (
                "12: spec.thingGroup: ties with the policy 'p' at wrong.yaml:1, which governs 'g' with the "
                "same priority 0; "
                "allowed: different priorities"
            )
        ],
    ),
    "two policies that tie by a priority that is written": (
        policy("maxAge: 9d", "  priority: 5\n") + "---\n" + policy("maxAge: 8d", "  priority: 5\n", name="q"),
        [
            (
                "15: spec.priority: ties with the policy 'p' at wrong.yaml:1, which governs 'g' with the same "
                "priority 5; "
                "allowed: different priorities"
            )
        ],
    ),
}


@pytest.mark.parametrize(("text", "expected"), INSIDE_ONE.values(), ids=INSIDE_ONE)
def test_a_contradiction_is_told_at_its_line(problems, documents, text, expected):
    files = {"fleet.yaml": documents["fleet"] + "---\n" + documents["authority"], "wrong.yaml": text}
    assert problems(files) == [f"wrong.yaml:{each}" for each in expected]


ALLOWED = {
    "an incident on an authority with an end": INCIDENT
    + "  authority: plant-ca\n  issuedBefore: 2026-06-01\n---\n"
    + policy("authority: plant-ca"),
    "an incident on a key type that no policy demands": INCIDENT
    + "  keyType: RSA-2048\n---\n"
    + policy("keyType: RSA-3072"),
    "an incident on one key type of an authority": INCIDENT
    + "  keyType: RSA-2048\n  authority: plant-ca\n---\n"
    + policy("authority: plant-ca, keyType: RSA-3072"),
    "one group under two priorities": policy("maxAge: 9d")
    + "---\n"
    + policy("maxAge: 8d", "  priority: 1\n", name="q"),
    "a policy and a waiver of one name": policy("maxAge: 9d", name="w")
    + "---\n"
    + WAIVER
    + "  devices: [a]\n  expires: 2027-01-01\n",
    "windows every night": policy(
        "maxAge: 90d", "  schedule:\n    windows:\n      - {cron: '0 2 * * *', timezone: UTC, duration: 4h}\n"
    ),
    "a suspension that is over": policy("maxAge: 90d", "  suspend: {reason: r, until: 2026-01-01}\n"),
}


@pytest.mark.parametrize("text", ALLOWED.values(), ids=ALLOWED)
def test_what_only_looks_like_a_contradiction_is_allowed(states, documents, text):
    (state,) = states({"fleet.yaml": documents["fleet"] + "---\n" + documents["authority"], "right.yaml": text})
    assert state.policies or state.incidents


def test_a_role_and_a_ca_must_belong_to_the_fleet(problems, documents):
    roles = "".join(f"{name}: 'arn:aws:iam::999999999999:role/r', " for name in ("roleArn", "readRoleArn"))
    fleet = documents["fleet"].replace("region:", f"{roles}region:")
    authority = documents["authority"].replace("eu-west-1", "us-east-1")
    assert problems({"fleet.yaml": fleet, "ca.yaml": authority}) == [
        "ca.yaml:6: spec.arn: found a CA in us-east-1; allowed: one in the fleet's region, eu-west-1",
        "fleet.yaml:4: spec.roleArn: found a role of account 999999999999; allowed: one of 123456789012",
        "fleet.yaml:4: spec.readRoleArn: found a role of account 999999999999; allowed: one of 123456789012",
    ]


def test_a_ca_that_another_account_shares_is_allowed(states, documents):
    shared = documents["authority"].replace("123456789012", "999999999999")
    (state,) = states({"fleet.yaml": documents["fleet"], "ca.yaml": shared})
    assert sorted(state.authorities) == ["aws-iot", "plant-ca"]


def test_nobody_else_is_aws_iot(problems, documents):
    authority = documents["authority"].replace("plant-ca", "aws-iot")
    assert problems({"fleet.yaml": documents["fleet"], "ca.yaml": authority}) == [
        "ca.yaml:3: metadata.name: found 'aws-iot', which always exists; allowed: any other name"
    ]


def test_a_folder_has_exactly_one_fleet(problems, documents):
    assert problems({"p.yaml": documents["policy"]}) == [
        "p.yaml:1: no Fleet document stands in this folder; allowed: exactly one a folder"
    ]
    twice = documents["fleet"] + "---\n" + documents["fleet"].replace("plant", "other")
    assert problems({"f.yaml": twice}) == [
        "f.yaml:7: kind: a second Fleet in one folder, the first stands at f.yaml:1; allowed: one folder a fleet"
    ]


def test_a_file_that_breaks_off_says_nothing_about_names_that_may_follow(problems, documents):
    files = {"fleet.yaml": documents["fleet"] + "---\n[", "p.yaml": policy("authority: plant-ca")}
    assert problems(files) == [
        "fleet.yaml:6: no valid YAML: expected the node content, but found '<stream end>'",
    ]


def test_every_mistake_of_every_file_is_told_at_once(problems, documents):
    files = {
        "a.yaml": documents["fleet"].replace("eu-west-1", "Ireland"),
        "b.yaml": documents["policy"].replace("90d", "ninety days") + "  mood: good\n",
        "c.yaml": "a: &x 1\n",
    }
    assert [each.partition(": ")[0] for each in problems(files)] == ["a.yaml:4", "b.yaml:6", "b.yaml:7", "c.yaml:1"]


@pytest.mark.parametrize(
    ("region", "role", "says"),
    [
        ("eusc-de-east-1", "arn:aws-eusc:iam::123456789012:role/r", None),
        ("us-gov-west-1", "arn:aws-us-gov:iam::123456789012:role/r", None),
        ("us-gov-west-1", "arn:aws:iam::123456789012:role/r", "of the partition aws; us-gov-west-1 is in aws-us-gov"),
        ("eu-west-1", "arn:aws-cn:iam::123456789012:role/r", "of the partition aws-cn; eu-west-1 is in aws"),
    ],
)
def test_a_role_is_of_the_partition_that_the_region_lies_in(states, documents, region, role, says):
    fleet = documents["fleet"].replace("eu-west-1}", f"{region}, roleArn: '{role}'}}")
    if says is None:
        (state,) = states({"fleet.yaml": fleet, "p.yaml": documents["policy"]})
        assert state.fleet.region == region
    else:
        with pytest.raises(DesiredStateError, match=says):
            states({"fleet.yaml": fleet, "p.yaml": documents["policy"]})


@pytest.mark.parametrize("zone", ["localtime", "posixrules", "Factory"])
def test_a_time_zone_that_is_another_one_on_every_machine_is_refused(zone):
    with pytest.raises(ValueError, match="allowed: a name of the IANA time zone database"):
        TimeZone().read(zone)


def test_a_cron_expression_that_joins_its_days_by_or_is_told_what_it_means(states, documents):
    windows = "  schedule: {windows: [{cron: '0 2 1-7 * 1', timezone: UTC, duration: 4h}, "
    windows += "{cron: '0 2 * * 1#1', timezone: UTC, duration: 4h}]}\n"
    (state,) = states({"fleet.yaml": documents["fleet"], "p.yaml": documents["policy"] + windows})
    (note,) = notes_of(state)
    assert (note.path, note.line) == ("p.yaml", 7)
    assert "on the days 1-7 of the month and on every weekday 1 besides" in note.message
    assert "'0 2 * * 1#1'" in note.message


def test_a_file_is_read_however_its_ending_is_written(states, documents):
    (state,) = states({"FLEET.YAML": documents["fleet"], "P.Yml": documents["policy"]})
    assert [policy.name for policy in state.policies] == ["gateways"]


def test_the_work_grows_with_the_documents_and_not_with_their_square(states, documents, monkeypatch):
    """As many misspelt authorities as declared ones: what is compared, and what is said, is counted."""
    compared = []
    whole = fields.difflib.get_close_matches
    monkeypatch.setattr(
        fields.difflib, "get_close_matches", lambda *a, **k: compared.append(len(a[1])) or whole(*a, **k)
    )
    number = 200
    declared = [documents["authority"].replace("plant-ca", f"plant-{n:04}") for n in range(number)]
    misspelt = [
        documents["policy"].replace("gateways", f"g-{n:04}").replace("90d", f"90d, authority: plnat-{n:04}")
        for n in range(number)
    ]
    with pytest.raises(DesiredStateError) as raised:
        states({"fleet.yaml": documents["fleet"], "a.yaml": "---\n".join(declared), "p.yaml": "---\n".join(misspelt)})
    assert len(raised.value.problems) == number
    assert len(compared) == number
    assert max(compared) <= 80
    assert max(len(problem.message) for problem in raised.value.problems) < 700
    assert "did you mean 'plant-0000'?" in str(raised.value)
