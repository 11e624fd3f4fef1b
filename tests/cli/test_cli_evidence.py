"""``certfleet evidence`` on an account with our backend's table, and a repository with two years of history."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cli_factory import DOCUMENTS
from cli_heal_world import TABLE
from cli_schema import check
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from backend.functions.rotation import Phase, Rotation, RotationOutcome
from backend.functions.table import RotationTable
from backend.functions.verdicts import Ending
from controller.evidence import seal
from protocol.rotation_record import RefusalRecord

DAY = timedelta(days=1)
NOW = datetime.now(UTC).replace(microsecond=0)
JOB = "cf-line-a-w1-0123456789abcdef"
TRAILERS = "\n\nReviewed-by: Grace <grace@plant.example>\nOverride: maxChangePercent=80\n"


def ago(days):
    return NOW - days * DAY


@pytest.fixture
def plant(world):
    """The documents allow 90 days since two years ago; there is a key of KMS."""
    world.git("commit", "-q", "--amend", "-m", "the first policy" + TRAILERS, date=ago(700))
    return world


def head(plant):
    import git

    return git.Repo(plant.repository).head.commit.hexsha


def rotated(plant, thing, at, old, new, *, commit=None, policy="line-a", outcome=RotationOutcome.ROTATED):
    """A rotation of that day, as the backend itself writes it."""
    begun = Rotation(
        thing, JOB, "d" * 64, old, "arn:aws:iot:eu-west-1:123456789012:cert/", "aws-iot", at.isoformat(),
        at.isoformat(), key_type="ECDSA-P256", policy=policy, commit=commit,
    ).step(at, "create", f"issued {new}", new_certificate_id=new, phase=Phase.CREATED)  # fmt: skip
    if outcome is RotationOutcome.ROTATED:
        begun = begun.step(at, "commit", "committed", committed_at=(at + timedelta(minutes=1)).isoformat())
    ended = begun.ended(Ending.SUCCEEDED, at + timedelta(minutes=2)).step(
        at + timedelta(minutes=3), "terminal", f"removing {old if outcome is RotationOutcome.ROTATED else new}",
        phase=Phase.FINISHED, outcome=outcome,
    )  # fmt: skip
    table = RotationTable(plant.dynamodb, TABLE)
    last = table.current(thing)
    table.finish(replace(ended, version=last.version if last else 0))


@pytest.fixture
def year(plant):
    """Three devices: one by the book, one too old for a month and waived for it, one that somebody rotated by hand."""
    by_the_book = plant.device("a-1", age=30)
    late = plant.device("a-2", age=20)
    plant.device("a-3", age=60)
    commit = head(plant)
    rotated(plant, "a-1", ago(110), "1" * 64, "2" * 64, commit=commit)
    rotated(plant, "a-1", ago(30), "2" * 64, by_the_book, commit=commit)
    rotated(plant, "a-2", ago(140), "3" * 64, "4" * 64, commit=commit)
    rotated(plant, "a-2", ago(20), "4" * 64, late, commit="f" * 40)
    rotated(plant, "a-2", ago(10), late, "5" * 64, commit=commit, outcome=RotationOutcome.ROLLED_BACK)
    waiver = (
        "---\napiVersion: certfleet/v1\nkind: Waiver\nmetadata: {name: frozen}\nspec:\n  devices: [a-2]\n"
        f"  owner: Ada\n  reason: the oven must not stop\n  expires: {ago(15):%Y-%m-%dT%H:%M:%SZ}\n"
    )
    plant.write(DOCUMENTS + waiver)
    plant.commit("leave a-2 out", date=ago(60))
    plant.write("not: [a document")
    plant.commit("a slip", date=ago(40))
    plant.write(DOCUMENTS)
    plant.commit("back to the policy", date=ago(15))
    return plant


def evidence(plant, *arguments):
    told = plant.run("evidence", "--format", "json", *arguments)
    assert told.code == 0, told.err
    check("evidence", told.json)
    [fleet] = told.json["fleets"]
    return fleet


def test_one_table_answers_whether_a_credential_was_older_than_its_policy_allowed(year):
    told = year.run("evidence")
    assert told.code == 0, told.err
    [line] = [line for line in told.out.splitlines() if line.startswith("line-a")]
    assert "yes, of a-2; 3 devices with gaps" in line
    assert "Waiver frozen  a-2: the oven must not stop, Ada answers for it" in told.out
    assert "not signed: this proves nothing by itself" in told.out
    [ages] = evidence(year)["policies"]
    assert (ages["exceeding"], ages["exempt"], ages["allowed_seconds"]) == (["a-2"], ["a-2"], 90 * 86_400)


def test_each_certificate_has_its_chain_or_the_name_of_its_gap(year):
    rows = {(row["thing"], row["certificate_id"][:1], row["fate"]): row for row in evidence(year)["rows"]}
    shown = {key: row["gaps"] for key, row in rows.items()}
    assert shown[("a-1", "1", "replaced")] == ["no-record", "issue-date-unknown"]
    assert shown[("a-1", "2", "replaced")] == []
    assert shown[("a-2", "4", "replaced")] == []
    assert shown[("a-2", "5", "taken back")] == []
    [by_hand] = [row for row in rows.values() if row["thing"] == "a-3"]
    assert (by_hand["fate"], by_hand["gaps"]) == ("in use", ["no-record", "before-unknown"])
    [now] = [row for (thing, _, fate), row in rows.items() if (thing, fate) == ("a-2", "in use")]
    assert now["gaps"] == ["commit-unknown"]
    change = rows[("a-1", "2", "replaced")]["change"]
    assert change["approvals"] == [
        {"who": "Grace <grace@plant.example>", "how": "reviewed-by", "pull_request": None},
        {"who": "maxChangePercent=80", "how": "override", "pull_request": None},
    ]
    assert len(evidence(year)["unreadable_commits"]) == 1


FORGES = {
    "GitHub": ("GITHUB_TOKEN", {"GITHUB_REPOSITORY": "acme/fleet", "GITHUB_API_URL": "http://127.0.0.1:9"}),
    "GitLab": ("CERTFLEET_GITLAB_TOKEN", {"CI_PROJECT_ID": "4711", "CI_API_V4_URL": "http://127.0.0.1:9"}),
}


@pytest.mark.parametrize(("token", "where"), FORGES.values(), ids=FORGES)
def test_a_forge_that_cannot_be_asked_is_reported_once_and_costs_nothing_else(year, surroundings, token, where):
    for name, value in {token: "secret-token", **where}.items():
        surroundings.setenv(name, value)
    surroundings.setattr("controller.forge.transport.ATTEMPTS", 1)
    told = year.run("evidence", "--format", "json")
    assert (told.code, told.err.count("cannot ask who approved")) == (0, 1)
    assert "secret-token" not in told.err + told.out


def test_the_token_for_gitlab_is_not_shown_to_github(year, surroundings):
    year.git("remote", "add", "origin", "https://github.com/acme/fleet.git")
    surroundings.setenv("CERTFLEET_GITLAB_TOKEN", "secret-token")
    surroundings.setattr("controller.forge.transport.Transport.request", None)
    told = year.run("evidence", "--format", "json")
    assert (told.code, "cannot ask who approved" in told.err) == (0, False)


def test_one_device_is_told_line_by_line(year):
    told = year.run("evidence", "a-2")
    assert "444444444444 replaced" in told.out
    assert "removed" not in told.err
    assert "the first policy, by t <t@example.org>" in told.out
    assert "Grace <grace@plant.example> (reviewed-by)" in told.out
    assert "a-1" not in told.out
    unknown = year.run("evidence", "nobody")
    assert (unknown.code, "nothing is known of a thing named 'nobody'" in unknown.err) == (1, True)


def test_a_table_that_was_restored_shows_where_the_chain_is_broken(year):
    items = year.dynamodb.scan(TableName=TABLE)["Items"]
    [lost] = [i for i in items if i.get("newCertificateId", {}).get("S") == "2" * 64]
    year.dynamodb.delete_item(TableName=TABLE, Key={name: lost[name] for name in ("thingName", "record")})
    rows = [row for row in evidence(year, "a-1")["rows"] if row["certificate_id"] == "2" * 64]
    assert [row["gaps"] for row in rows] == [["no-record", "issue-date-unknown"]]


def test_a_record_that_this_version_cannot_read_is_named_and_the_rest_is_read(year):
    year.dynamodb.put_item(TableName=TABLE, Item={"thingName": {"S": "a-9"}, "record": {"S": "rotation#broken"}})
    found = evidence(year)
    assert ["'rotation#broken' of thing 'a-9'" in one for one in found["unreadable_records"]] == [True]
    assert len(found["rows"]) > 3


def test_what_a_device_was_told_last_under_a_job_that_failed_is_there_though_no_rotation_had_begun(year):
    table = RotationTable(year.dynamodb, TABLE)
    said = 'The certificate authority refused to issue (ValidationException): it reports "no <more> names".'
    for thing, days in (("a-1", 3), ("a-7", 2), ("a-1", 400)):
        table.note_refusal(RefusalRecord(thing, JOB, "IssueFailed", said, "FAILED", ago(days)))
    year.dynamodb.put_item(TableName=TABLE, Item={"thingName": {"S": "a-9"}, "record": {"S": "refused#broken"}})
    found = evidence(year)
    assert [(one["thing"], one["sentence"]) for one in found["refusals"]] == [("a-1", said), ("a-7", said)]
    assert ["'refused#broken' of thing 'a-9' is not a refusal" in one for one in found["unreadable_records"]] == [True]
    assert [one["thing"] for one in evidence(year, "--policy", "line-a")["refusals"]] == ["a-1"]
    assert "IssueFailed 2 times" in year.run("evidence").out
    assert said in " ".join(year.run("evidence", "a-7").out.split())
    assert "no &lt;more&gt; names" in year.run("evidence", "--format", "html").out


def test_a_spreadsheet_has_one_line_a_certificate_and_no_formula(year):
    rotated(year, "=cmd; =too", ago(5), "=1+1", "7" * 64)
    rows = list(csv.DictReader(io.StringIO(year.run("evidence", "--format", "csv").out)))
    assert len(rows) == len(evidence(year)["rows"])
    [odd] = [row for row in rows if row["certificate_id"] == "'=1+1"]
    assert odd["thing"] == "'=cmd; '=too"  # some spreadsheets part cells at a semicolon
    assert {row["approved_by"] for row in rows if row["certificate_id"] == "2" * 64} == {
        "Grace <grace@plant.example> (reviewed-by); maxChangePercent=80 (override)"
    }


def test_a_page_holds_all_of_it(year):
    page = year.run("evidence", "--format", "html").out
    assert "Credentials were older than their policy allowed" in page
    for text in ("a-1", "a-2", "frozen", "Ada answers for it", "issue-date-unknown", "Not signed"):
        assert text in page


def test_evidence_that_kms_has_signed_is_accepted_by_that_key_alone(year, tmp_path):
    kms = year.client("kms")
    key = kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["Arn"]
    other = kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["Arn"]
    file = tmp_path / "evidence.json"
    assert year.run("evidence", "--kms-key", key, "--format", "json", "--output", str(file)).code == 0

    accepted = year.run("evidence", "verify", str(file), "--kms-key", key)
    assert (accepted.code, accepted.err) == (0, "")
    assert "as it was signed at" in accepted.out
    assert "which key do you trust" in year.run("evidence", "verify", str(file)).err
    assert "not of the key" in year.run("evidence", "verify", str(file), "--kms-key", other).err


@pytest.mark.parametrize("encoding", [Encoding.DER, Encoding.PEM])
def test_it_is_verified_without_aws_by_the_public_key(year, tmp_path, encoding):
    """The key stands in for KMS', whose stand-in here hashes a digest once more; AWS signs it as it is."""
    key, public, file = ec.generate_private_key(ec.SECP256R1()), tmp_path / "key", tmp_path / "evidence.json"
    public.write_bytes(key.public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo))
    made = year.run("evidence", "--format", "json").json
    del made["seal"]
    for row in made["fleets"][0]["rows"]:
        del row["digest"]
    document = seal(made, lambda digest: key.sign(digest, ec.ECDSA(Prehashed(SHA256()))), "a key")
    file.write_text(json.dumps(document))
    assert year.run("evidence", "verify", str(file), "--public-key", str(public)).code == 0

    document["fleets"][0]["rows"][0]["oldest_seconds"] = 1
    file.write_text(json.dumps(document))
    changed = year.run("evidence", "verify", str(file), "--public-key", str(public))
    assert (changed.code, "was changed after" in changed.err) == (1, True)


def test_unsigned_evidence_is_refused_by_verify(year, tmp_path):
    file = tmp_path / "evidence.json"
    year.run("evidence", "--format", "json", "--output", str(file))
    refused = year.run("evidence", "verify", str(file))
    assert (refused.code, "is not signed" in refused.err) == (1, True)


def test_without_a_backend_of_ours_or_a_whole_clone_there_is_none(factory, tmp_path):
    factory.commit()
    factory.device("a-1")
    refused = factory.run("evidence")
    assert (refused.code, "evidence is read from its table" in refused.err) == (1, True)
