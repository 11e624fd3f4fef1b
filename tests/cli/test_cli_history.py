"""The numbers of past reports: kept in a folder or in S3, shown as a trend, and never trusted."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import boto3
import pytest

from controller.commands.history import RECORDS_READ, BucketHistory, FolderHistory, history_at, remember
from controller.errors import CertfleetError
from controller.fleet import AwsSession
from controller.report.trend import MAX_RECORD_BYTES, TrendRecord, merged

START = datetime(2026, 11, 23, 6, tzinfo=UTC)


def record(days: int = 0, fleet: str = "factory", **changes) -> TrendRecord:
    values = {"governed": 10, "in_sync": 8, "rotate": 1, "waiting": 0, "blocked": 1, "unmanaged": 0}
    values |= {"succeeded": 3, "failed": 0, "commit": None, **changes}
    return TrendRecord(created_at=START + timedelta(days=days), fleet=fleet, **values)


@pytest.mark.parametrize("place", ["reports", "s3://fleet-reports/drift/"], ids=["a folder", "an S3 prefix"])
def test_each_report_is_kept_and_the_next_page_shows_the_trend(factory, place):
    s3 = boto3.client("s3", endpoint_url=factory.cloud.endpoint_url, region_name="eu-west-1")
    s3.create_bucket(Bucket="fleet-reports", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    factory.device("gateway-1", age=10)
    day = datetime.now(UTC).replace(hour=6, minute=0, second=0, microsecond=0) + timedelta(days=1)
    assert factory.run("drift", "--history", place, "--now", day.isoformat()).code == 0
    factory.device("empty")
    factory.iot.detach_thing_principal(
        thingName="empty", principal=factory.iot.list_thing_principals(thingName="empty")["principals"][0]
    )

    page = factory.run("drift", "--history", place, "--now", (day + timedelta(days=1)).isoformat(), "--format", "html")

    assert page.code == 2
    assert f"Devices out of sync in 2 reports: 0 on {day:%Y-%m-%d}, 1 now; 50.0 % are in sync." in page.out
    names = [f"{at:%Y%m%dT%H%M%SZ}.json" for at in (day, day + timedelta(days=1))]
    if place == "reports":
        folder = factory.repository / "reports" / "factory"
        assert sorted(path.name for path in folder.iterdir()) == names
        text = (folder / names[1]).read_text()
    else:
        keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket="fleet-reports")["Contents"]]
        assert keys == [f"drift/factory/{name}" for name in names]
        text = s3.get_object(Bucket="fleet-reports", Key=keys[1])["Body"].read()
    kept = json.loads(text)
    assert (kept["kind"], kept["governed"], kept["in_sync"], kept["blocked"]) == ("TrendRecord", 2, 1, 1)


DAMAGED = {
    "no JSON": ("{", "is not a trend record"),
    "another kind": ('{"kind": "Plan"}', "is not a trend record: kind: "),
    "a number that is none": (record().to_json().replace('"governed": 10', '"governed": "10"'), "governed: "),
    "a negative count": (record().to_json().replace('"rotate": 1', '"rotate": -1'), "rotate: "),
    "longer than a record may be": (" " * (MAX_RECORD_BYTES + 1), "a record has at most 16,384"),
}


@pytest.mark.parametrize(("text", "message"), DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_record_is_named_and_left_out(tmp_path, text, message):
    history = FolderHistory(tmp_path)
    history.write("factory", "20261101T060000Z.json", record(-1).to_json())
    history.write("factory", "20261102T060000Z.json", text)
    said = []
    assert [kept.created_at for kept in remember(history, record(), said.append)] == [START - timedelta(days=1), START]
    [line] = said
    assert line.startswith("history: factory/20261102T060000Z.json is")
    assert message in line
    assert line.endswith("; it is left out")


def test_other_files_are_no_records_and_stay_as_they_are(tmp_path):
    (tmp_path / "factory").mkdir()
    (tmp_path / "factory" / "README.md").write_text("mine")
    said = []
    assert remember(FolderHistory(tmp_path), record(), said.append) == (record(),)
    assert said == []
    assert (tmp_path / "factory" / "README.md").read_text() == "mine"


def test_a_report_kept_twice_counts_once_and_later_ones_are_not_shown_as_past():
    past = [record(-2), record(-1, in_sync=1), record(-1), record(3), record(-4, "hospital")]
    assert merged(past, record()) == (record(-2), record(-1), record())


def test_only_the_newest_records_are_read(tmp_path):
    history = FolderHistory(tmp_path)
    for days in range(RECORDS_READ + 5):
        one = record(days)
        history.write("factory", f"{one.created_at:%Y%m%dT%H%M%SZ}.json", one.to_json())
    shown = remember(history, record(RECORDS_READ + 5), print)
    assert len(shown) == RECORDS_READ + 1
    assert shown[0].created_at == START + timedelta(days=5)


class ManyKeys:
    """An S3 that lists one key a page."""

    KEYS = ("reports/factory/20261121T060000Z.json", "reports/factory/20261122T060000Z.json")

    page, pages, where = AwsSession.page, AwsSession.pages, "here"

    def call(self, _service, operation, **parameters):
        assert (operation, parameters["Prefix"]) == ("ListObjectsV2", "reports/factory/")
        number = int(parameters.get("ContinuationToken", 0))
        more = {"IsTruncated": True, "NextContinuationToken": "1"} if number == 0 else {"IsTruncated": False}
        return {"Contents": [{"Key": self.KEYS[number]}], **more}


def test_every_page_of_the_bucket_is_listed():
    history = history_at("s3://fleet-reports/reports", ManyKeys())
    assert isinstance(history, BucketHistory)
    assert history.names("factory") == ["20261121T060000Z.json", "20261122T060000Z.json"]


def test_a_place_that_is_none_is_refused_before_anything_is_kept():
    for place in ("ftp://example.org/x", "s3://", "s3://A/b"):
        with pytest.raises(CertfleetError, match="expected a folder or") as caught:
            history_at(place, ManyKeys())
        assert caught.value.remedy == "correct it, such as: --history reports/"


def test_a_folder_that_is_a_file_is_an_error_with_a_remedy(tmp_path):
    (tmp_path / "reports").write_text("")
    history = FolderHistory(tmp_path / "reports")
    for work in (
        lambda: history.names("factory"),
        lambda: history.read("factory", "x.json"),
        lambda: history.write("factory", "x.json", ""),
    ):
        with pytest.raises(CertfleetError, match=r"the history in .* cannot be (read|written): ") as caught:
            work()
        assert caught.value.remedy == "give --history a writable folder"
