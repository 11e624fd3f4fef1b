"""Which bundles the function takes, and what it says of those that it does not."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from controller.errors import FleetError
from controller.fleet.kms_signature import KmsKey
from controller.lambda_reconcile.bucket import Bucket, LostRaceError
from controller.lambda_reconcile.bundles import take_bundle
from controller.lambda_reconcile.settings import read_settings

BUCKET = "certfleet-reconcile"


def tampered(data: bytes) -> bytes:
    return data.replace(b"90d", b"10d")


DEFECTS = {
    "changed after it was written": (tampered, "the bundle was changed after it was written"),
    "cut off": (lambda data: data[:-100], "the bundle is truncated"),
    "no beginning": (
        lambda data: data[data.index(b"\n") + 1 :],
        "found no header line",
    ),
    "longer than it says": (lambda data: data + b"x", "1 bytes after the end of the bundle"),
    "something else": (lambda _data: b"hello\n", "not JSON"),
    "empty": (lambda _data: b"", "no header line"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_bundle_is_refused_that_is(site, invoke, defect):
    spoil, message = DEFECTS[defect]
    site.device("old", age=200)
    site.publish(spoil(site.bundle()))
    answer = invoke()
    assert message in str(answer.error)
    assert answer.metrics["bundle"]["Failed"] == 1
    assert site.jobs() == []
    assert site.kept("last-applied.json") is None


def test_no_bundle_at_all_is_an_error_that_says_how_to_publish_one(site, invoke):
    answer = invoke()
    assert "found no bundle at s3://certfleet-reconcile/desired-state.bundle" in str(answer.error)
    [told] = site.heard()
    assert "certfleet bundle" in told


@pytest.mark.parametrize(
    "later",
    [timedelta(minutes=1), timedelta(0), timedelta(minutes=-1)],
    ids=["", "of the same second", "of a slow clock"],
)
def test_a_commit_behind_the_one_applied_is_refused_and_the_good_one_is_taken_again(site, invoke, later):
    documents = (site.repository / "desired_state" / "factory.yaml").read_text()
    first = datetime.now(UTC) - timedelta(minutes=2)
    site.commit("# draft\n" + documents, date=first)
    replayed = site.bundle()
    site.commit("# reviewed\n" + documents, date=first + later)
    newest = site.publish()
    assert invoke().error is None
    site.heard()
    site.device("old", age=200)
    site.publish(replayed)
    answer = invoke()
    assert "does not follow the one applied last" in str(answer.error)
    assert site.jobs() == []
    assert len(site.heard()) == 1
    site.publish(newest)
    assert invoke().value["fleets"]["factory"]["JobsCreated"] == 1
    assert any("needs nobody any more" in told for told in site.heard())


def test_a_bundle_of_another_repository_is_refused_even_as_the_first_one(site, invoke):
    site.publish(site.bundle(repository="github.com/mallory/fleet"))
    answer = invoke()
    assert "github.com/mallory/fleet; this function takes github.com/acme/fleet only" in str(answer.error)
    assert site.kept("last-applied.json") is None


def test_a_bundle_from_the_future_is_refused_for_it_would_block_all_later_ones(site, invoke):
    site.publish(site.bundle(created_at=datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)))
    assert "created in the future" in str(invoke().error)


def test_the_record_of_the_last_bundle_that_is_damaged_stops_the_run(site, invoke):
    site.publish()
    site.s3.put_object(Bucket=BUCKET, Key="reconcile/last-applied.json", Body=b"{}")
    assert "damaged record of the last bundle" in str(invoke().error)


def test_the_record_names_the_commit_that_was_applied_and_a_second_run_leaves_it(site, invoke):
    site.publish()
    invoke()
    first = site.s3.head_object(Bucket=BUCKET, Key="reconcile/last-applied.json")
    invoke()
    assert (
        site.s3.head_object(Bucket=BUCKET, Key="reconcile/last-applied.json")["LastModified"] == first["LastModified"]
    )
    record = json.loads(site.kept("last-applied.json"))
    assert (record["repository"], len(record["commit"])) == ("github.com/acme/fleet", 40)


class Overtaken(Bucket):
    """A bucket in which another run writes the record just before this one does."""

    def write(self, before, data):
        super().write(before, b"{}")
        return super().write(before, data)


@pytest.mark.parametrize("has_record", [False, True], ids=["the first record", "a later record"])
def test_a_run_that_loses_the_race_for_the_record_changes_nothing_and_says_so(site, has_record):
    settings = read_settings({"CERTFLEET_BUCKET": BUCKET, "CERTFLEET_REPOSITORY": "github.com/acme/fleet"})
    now = datetime.now(UTC)
    if has_record:
        site.publish()
        take_bundle(Bucket(site.s3, BUCKET), settings, now, None)
        site.commit("# later\n", date=now + timedelta(seconds=5))
    site.publish()
    with pytest.raises(LostRaceError, match="another run wrote s3://certfleet-reconcile/reconcile/last-applied"):
        take_bundle(Overtaken(site.s3, BUCKET), settings, now, None)


@pytest.fixture
def kms_key(site, monkeypatch):
    kms = site.client("kms")
    made = kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]
    monkeypatch.setenv("CERTFLEET_KMS_KEY_ARN", made["Arn"])
    return KmsKey(kms, made["Arn"])


def test_a_bundle_signed_by_the_trusted_key_is_taken(site, invoke, kms_key):
    site.device("young")
    site.publish(site.bundle(signer=kms_key))
    assert invoke().error is None


def test_where_a_key_is_trusted_a_bundle_without_a_signature_is_refused(site, invoke, kms_key):
    site.publish(site.bundle())
    assert "found no signature" in str(invoke().error)


def test_a_signature_of_another_key_is_refused(site, invoke, kms_key):
    kms = site.client("kms")
    other = kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["Arn"]
    site.publish(site.bundle(signer=KmsKey(kms, other)))
    assert "does not belong to this bundle and the trusted key" in str(invoke().error)


def test_a_missing_bucket_is_an_error_with_a_remedy(site):
    settings = read_settings({"CERTFLEET_BUCKET": "no-such-bucket", "CERTFLEET_REPOSITORY": "r"})
    with pytest.raises(FleetError, match=r"s3://no-such-bucket/desired-state\.bundle: cannot read") as raised:
        take_bundle(Bucket(site.s3, "no-such-bucket"), settings, datetime.now(UTC), None)
    assert "bucket exists" in raised.value.remedy
