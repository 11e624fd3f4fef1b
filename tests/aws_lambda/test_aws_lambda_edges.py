"""What goes wrong at the edges: AWS that refuses, records that are damaged, notices that do not fit."""

from __future__ import annotations

import importlib
import json

import pytest

from controller.errors import FleetError
from controller.lambda_reconcile.bucket import Bucket, LostRaceError, Version
from controller.lambda_reconcile.notices import Notices
from controller.report.attention import MAX_LINES, Attention

BUCKET = "certfleet-reconcile"


@pytest.fixture
def bucket(site):
    return Bucket(site.s3, BUCKET)


@pytest.fixture
def said():
    return []


@pytest.fixture
def notices(site, bucket, said):
    return Notices(bucket, "reconcile/", site.client("sns"), site.topic, said.append)


def test_an_object_is_written_over_the_version_that_was_read_and_over_no_other(bucket, tmp_path):
    first = bucket.write(Version("reconcile/x"), b"1")
    with pytest.raises(LostRaceError, match="another run wrote"):
        bucket.write(Version("reconcile/x"), b"other")
    (tmp_path / "file").write_bytes(b"2")
    second = bucket.write(first, tmp_path / "file")
    with pytest.raises(LostRaceError):
        bucket.write(first, b"3")
    assert bucket.read("reconcile/x", 10).data == b"2"
    assert bucket.read("reconcile/x", 10).version == second


def test_an_object_that_was_removed_in_between_counts_as_a_lost_race(bucket):
    with pytest.raises(LostRaceError):
        bucket.write(Version("reconcile/gone", '"00000000000000000000000000000000"'), b"1")


def test_a_bucket_that_is_missing_is_an_error_for_every_call(site, tmp_path):
    bucket = Bucket(site.s3, "no-such-bucket")
    for call in (
        lambda: bucket.read("x", 1),
        lambda: bucket.fetch("x", tmp_path / "x"),
        lambda: bucket.write(Version("x"), b""),
    ):
        with pytest.raises(FleetError, match="s3://no-such-bucket/x: cannot"):
            call()


def test_a_cloud_that_cannot_be_reached_is_an_error_and_no_half_a_file_is_left(site, tmp_path):
    client = site.client("s3")
    client.meta.events.register("before-send.s3", unreachable)
    bucket = Bucket(client, BUCKET)
    for call in (
        lambda: bucket.read("x", 1),
        lambda: bucket.fetch("x", tmp_path / "x"),
        lambda: bucket.write(Version("x"), b""),
    ):
        with pytest.raises(FleetError, match="cannot"):
            call()
    assert not (tmp_path / "x").exists()


def unreachable(**_):
    message = "no route to host"
    raise OSError(message)


def test_a_fleet_with_nothing_to_say_is_not_spoken_of_at_first(site, notices):
    assert not notices.tell(Attention("factory"))
    assert site.heard() == []


def test_a_long_list_is_cut_and_says_how_many_more_there_are(site, notices):
    names = [f"device-{number:03}" for number in range(MAX_LINES + 7)]
    notices.tell(Attention("factory", tuple(names), tuple(names)))
    [told] = site.heard()
    assert "device-049" in told
    assert "device-050" not in told
    assert "and 7 more: certfleet drift lists all" in told


def test_the_order_of_facts_does_not_make_news(notices):
    assert notices.tell(Attention("factory", ("a", "b"), ("a", "b")))
    assert not notices.tell(Attention("factory", ("b", "a"), ("b", "a")))


@pytest.mark.parametrize("record", [b"", b"[]", b"{}", b"\xff"], ids=["empty", "a list", "no digest", "no text"])
def test_where_the_record_of_what_was_said_is_damaged_people_hear_once_more(site, notices, record):
    site.s3.put_object(Bucket=BUCKET, Key="reconcile/notified/factory.json", Body=record)
    assert notices.tell(Attention("factory", ("a",), ("a",)))
    assert json.loads(site.kept("notified/factory.json"))["format_version"] == 1
    assert not notices.tell(Attention("factory", ("a",), ("a",)))


class Overtaken(Bucket):
    def write(self, before, data):
        super().write(before, b"{}")
        return super().write(before, data)


def test_a_record_that_another_run_wrote_first_is_left_to_it(site, said):
    notices = Notices(Overtaken(site.s3, BUCKET), "reconcile/", site.client("sns"), site.topic, said.append)
    assert notices.tell(Attention("factory", ("a",), ("a",)))
    [line] = said
    assert "another run wrote" in line


def test_a_topic_that_is_gone_fails_the_run_with_a_remedy_but_not_its_jobs(site, invoke):
    site.client("sns").delete_topic(TopicArn=site.topic)
    site.publish()
    site.device("old", age=200)
    site.cloud.seed.thing("empty", ["line-a"])
    answer = invoke()
    assert "nobody was notified of fleet factory: sns Publish in region eu-west-1 failed" in str(answer.error)
    assert "may publish to the topic" in answer.log
    assert len(site.jobs()) == 1


def test_without_a_topic_nobody_is_told_and_nothing_is_recorded(site, invoke, monkeypatch):
    monkeypatch.delenv("CERTFLEET_TOPIC_ARN")
    site.publish()
    site.cloud.seed.thing("empty", ["line-a"])
    assert invoke().error is None
    assert site.kept("notified/factory.json") is None


def test_a_device_that_is_waived_is_not_news_for_a_person_has_decided_that(site, invoke):
    documents = (site.repository / "desired_state" / "factory.yaml").read_text()
    waiver = """---
apiVersion: certfleet/v1
kind: Waiver
metadata: {name: museum}
spec: {devices: [old], owner: ops@example.com, reason: on show, expires: 2099-01-01}
"""
    site.commit(documents + waiver)
    site.publish()
    site.device("old", age=200)
    answer = invoke()
    assert answer.error is None
    assert answer.value["fleets"]["factory"]["Blocked"] == 1
    assert site.heard() == []


@pytest.mark.parametrize("turn", [1, -1], ids=["the failing one first", "the failing one last"])
@pytest.mark.parametrize(
    "where", ["lambda_reconcile.reconcile.refresh", "lambda_reconcile.reconcile.planned", "aws_lambda.attention_of"]
)
def test_what_nobody_foresaw_in_one_fleet_is_that_fleets_failure_and_the_runs_end_is_loud(
    site, invoke, monkeypatch, where, turn
):
    module, _, name = f"controller.{where}".rpartition(".")
    whole = getattr(importlib.import_module(module), name)

    def broken(*given, **more):
        if "elsewhere" in repr([given, *(getattr(one, "desired", None) for one in given)]):
            raise ZeroDivisionError("by zero")
        return whole(*given, **more)

    monkeypatch.setattr(f"{module}.{name}", broken)
    monkeypatch.setattr("controller.aws_lambda.in_turn", lambda fleets, _now: fleets[::turn])
    documents = (site.repository / "desired_state" / "factory.yaml").read_text()
    site.documents.write(documents, "factory/fleet.yaml")
    second = documents.replace("factory", "elsewhere").replace("line-a", "line-b").replace("eu-west-1", "eu-central-1")
    site.documents.write(second, "elsewhere/fleet.yaml")
    (site.documents.desired / "factory.yaml").unlink()
    site.add_all()
    site.publish()
    # Without things: one registry stands for both regions, and no fleet may leave those of the other to themselves.
    site.cloud.seed.group("line-b")
    site.device("old", age=200)
    answer = invoke()

    assert "elsewhere: certfleet has a defect: ZeroDivisionError: by zero" in str(answer.error)
    assert "Traceback" in answer.log
    assert "report it with all that was printed" in answer.log
    assert answer.metrics["elsewhere"]["Failed"] == 1
    assert answer.metrics["factory"]["JobsCreated"] == 1
    [told] = site.heard()
    assert told.startswith("certfleet: elsewhere needs a person")
    assert "report it" in told


def test_two_fleets_are_reconciled_each_by_itself_and_one_that_fails_does_not_stop_the_other(site, invoke):
    documents = (site.repository / "desired_state" / "factory.yaml").read_text()
    folder = site.repository / "desired_state"
    for name, text in {
        "good": documents,
        "bad": documents.replace("factory", "elsewhere").replace('"123456789012"', '"210987654321"'),
    }.items():
        (folder / name).mkdir()
        (folder / name / "fleet.yaml").write_text(text)
    (folder / "factory.yaml").unlink()
    site.add_all()
    site.publish()
    site.device("old", age=200)
    answer = invoke()
    assert "belong to account 123456789012" in str(answer.error)
    assert answer.metrics["elsewhere"]["Failed"] == 1
    assert answer.metrics["factory"]["JobsCreated"] == 1
    assert len(site.jobs()) == 1
