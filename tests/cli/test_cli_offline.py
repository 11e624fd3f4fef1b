"""Devices that connect rarely, from the document to the rotation that takes place when they come back."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta

from cli_factory import DOCUMENTS

DAY = timedelta(days=1)


def comes_and_goes(tmp_path, thing):
    """As months of looks would have it: the thing is away for twenty days at a time, and ends in fifteen."""
    [path] = (tmp_path / "cache" / "certfleet").glob("*.sqlite")
    now = datetime.now(UTC)
    known = json.dumps([int((now - days * DAY).timestamp()) for days in range(220, 0, -20)])
    connection = sqlite3.connect(path)
    connection.execute(
        "UPDATE things SET absences = ?, absences_at = ? WHERE name = ?", (known, now.timestamp(), thing)
    )
    connection.execute(
        "UPDATE certificates SET not_after = ? WHERE id = (SELECT certificate_id FROM attachments WHERE thing = ?)",
        ((now + 15 * DAY).timestamp(), thing),
    )
    connection.commit()
    connection.close()


def test_who_may_expire_while_away_is_asked_ahead_of_its_wave_and_rotates_when_it_comes_back(factory, tmp_path):
    factory.write(DOCUMENTS.replace("soak: 0s", "soak: 24h, offlineFirst: true"))
    factory.commit()
    for name, age in (("canary", 101), ("boat", 100), ("next", 100)):
        factory.device(name, age=age)
    factory.offline.add("boat")
    assert factory.run("apply", "--wait").code == 0
    assert set(factory.rotations) == {"canary"}, "then its wave soaks for a day"
    comes_and_goes(tmp_path, "boat")

    [fleet] = factory.run("apply", "--format", "json").json["fleets"]
    [job] = [name for name in factory.jobs() if "-standing-" in name]
    asked = factory.iot.list_job_executions_for_job(jobId=job)["executionSummaries"]
    assert [one["thingArn"].rpartition("/")[2] for one in asked] == ["boat"], fleet

    before = factory.jobs()
    assert factory.run("apply").code in {0, 2}
    assert factory.jobs() == before, "asked twice, nobody is asked again"

    factory.comes_back("boat")
    assert factory.has_rotated("boat")
    assert set(factory.rotations) == {"canary", "boat"}
