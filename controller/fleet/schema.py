"""The inventory's tables. Instants are seconds since 1970 UTC, as AWS gives them.

Nothing here is secret, and nothing here is the only copy: a deleted file is rebuilt from AWS.
``*_listing`` and ``listings`` hold a listing under way, so that a killed refresh goes on there.
"""

from __future__ import annotations

import sqlite3
from functools import cache
from typing import Final

APPLICATION_ID: Final = 0x43464C54  # "CFLT"
_FIRST: Final = """
CREATE TABLE binding (             -- one row: whose registry this is
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    run INTEGER NOT NULL DEFAULT 0,  -- counts refreshes
    refreshed_at REAL              -- of the last refresh that was completed
);
CREATE TABLE certificates (        -- every certificate that the registry lists
    id TEXT PRIMARY KEY,
    status TEXT,
    created_at REAL,
    is_registered INTEGER,         -- came from outside, not issued by AWS IoT
    are_things_read INTEGER NOT NULL DEFAULT 0,
    is_described INTEGER NOT NULL DEFAULT 0,
    key_type TEXT,
    signature_algorithm TEXT,
    issuer TEXT,
    issuer_key TEXT,               -- proven; see authorities.py
    not_before REAL,
    not_after REAL,
    parse_error TEXT
) WITHOUT ROWID;
CREATE INDEX certificates_to_read ON certificates (id) WHERE are_things_read = 0;
CREATE TABLE unproven (            -- certificates of no known authority, kept until one is found
    certificate_id TEXT PRIMARY KEY REFERENCES certificates ON DELETE CASCADE,
    der BLOB NOT NULL
);
CREATE TABLE issuers (             -- the CA certificate behind each ACM-PCA ARN
    arn TEXT PRIMARY KEY,
    key TEXT NOT NULL,
    pem TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE attachments (
    thing TEXT NOT NULL,
    certificate_id TEXT NOT NULL REFERENCES certificates ON DELETE CASCADE,
    type TEXT NOT NULL,
    PRIMARY KEY (thing, certificate_id)
) WITHOUT ROWID;
CREATE INDEX attachments_by_certificate ON attachments (certificate_id);
CREATE TABLE things (              -- those of the governed groups
    name TEXT PRIMARY KEY,
    read_in_run INTEGER NOT NULL DEFAULT 0,  -- 0: nothing is known of its principals yet
    must_read INTEGER NOT NULL DEFAULT 0,
    presence_asked_in_run INTEGER NOT NULL DEFAULT 0,
    last_seen REAL,
    version_asked_in_run INTEGER NOT NULL DEFAULT 0,
    component_version TEXT
) WITHOUT ROWID;
CREATE INDEX things_by_reading ON things (read_in_run, name);
CREATE INDEX things_to_read ON things (name) WHERE must_read = 1;
CREATE TABLE members (
    thing TEXT NOT NULL,
    group_name TEXT NOT NULL,
    PRIMARY KEY (thing, group_name)
) WITHOUT ROWID;
CREATE INDEX members_by_group ON members (group_name);
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    created_at REAL NOT NULL,
    status TEXT NOT NULL,
    completed_at REAL,
    is_rotation INTEGER NOT NULL,
    is_continuous INTEGER NOT NULL,
    policy TEXT,
    commit_hash TEXT,
    targets TEXT NOT NULL,         -- JSON list of ARNs
    is_final INTEGER NOT NULL DEFAULT 0   -- ended, and its executions were read after that
) WITHOUT ROWID;
CREATE TABLE executions (
    job_id TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE,
    thing TEXT NOT NULL,
    status TEXT NOT NULL,
    queued_at REAL NOT NULL,
    started_at REAL,
    last_updated_at REAL NOT NULL,
    number INTEGER NOT NULL,
    is_explained INTEGER NOT NULL DEFAULT 0,   -- the failure reason was asked for
    failure_reason TEXT,
    component_version TEXT,
    PRIMARY KEY (job_id, thing)
) WITHOUT ROWID;
CREATE INDEX executions_by_thing ON executions (thing) WHERE status IN ('FAILED', 'TIMED_OUT', 'REJECTED');
CREATE TABLE listings (            -- one row for each listing under way
    name TEXT PRIMARY KEY,         -- "certificates", or "group:" and the group's name
    started_at REAL NOT NULL,
    token TEXT,                    -- of the next page
    is_complete INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE certificate_listing (
    id TEXT PRIMARY KEY,
    status TEXT NOT NULL,
    created_at REAL NOT NULL,
    is_registered INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE member_listing (
    thing TEXT NOT NULL,
    group_name TEXT NOT NULL,
    PRIMARY KEY (thing, group_name)
) WITHOUT ROWID;
"""
_SECOND: Final = """
-- of the service iot: a sandbox is another world
ALTER TABLE binding ADD COLUMN endpoint TEXT;
-- when the ended jobs were last listed to the end
ALTER TABLE binding ADD COLUMN jobs_listed_at REAL;
-- 0: ended, and nobody has looked what it was yet
ALTER TABLE jobs ADD COLUMN is_read INTEGER NOT NULL DEFAULT 1;
"""

_THIRD: Final = """
-- of a rotation, as AWS IoT has it; NULL if it was read by an older version
ALTER TABLE jobs ADD COLUMN document TEXT;
"""

_FOURTH: Final = """
-- what the component is set to make, and why that is not known; asked under a stock backend only
ALTER TABLE things ADD COLUMN setting_asked_in_run INTEGER NOT NULL DEFAULT 0;
ALTER TABLE things ADD COLUMN key_algorithm TEXT;
ALTER TABLE things ADD COLUMN setting_unknown TEXT;
"""

_FIFTH: Final = """
-- when all certificates and things of the account were last listed
ALTER TABLE binding ADD COLUMN listed_at REAL;
-- how many things nobody governs; NULL if they have not been counted yet
ALTER TABLE binding ADD COLUMN unmanaged INTEGER;
-- the first of them
CREATE TABLE unmanaged (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE thing_listing (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE INDEX certificates_to_describe ON certificates (id) WHERE is_described = 0;
"""

_SIXTH: Final = """
-- of the last look at all governed groups: its number, and what it found that stands in no table, as JSON
ALTER TABLE binding ADD COLUMN look_run INTEGER;
ALTER TABLE binding ADD COLUMN look TEXT;
"""

_SEVENTH: Final = """
-- asks what a rotation would fail on; such a job is not a rotation
ALTER TABLE jobs ADD COLUMN is_check INTEGER NOT NULL DEFAULT 0;
-- executions that rotate a thing
CREATE VIEW rotations AS
    SELECT executions.* FROM executions JOIN jobs ON jobs.id = executions.job_id WHERE jobs.is_rotation;
"""

_EIGHTH: Final = """
-- the thing attribute that sites were read by; NULL if the Fleet document names none
ALTER TABLE binding ADD COLUMN site_attribute TEXT;
-- whether all things were listed since it was named
ALTER TABLE binding ADD COLUMN are_sites_listed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE things ADD COLUMN site TEXT;
ALTER TABLE thing_listing ADD COLUMN site TEXT;
"""

_NINTH: Final = """
-- when the thing went away and came back, by turns, as JSON: an odd number of instants is one that is away
ALTER TABLE things ADD COLUMN absences TEXT;
-- when that was last looked at
ALTER TABLE things ADD COLUMN absences_at REAL;
CREATE INDEX things_that_come_and_go ON things (absences_at, name) WHERE absences IS NOT NULL;
"""

_TENTH: Final = """
-- when the job asked the thing in its first attempt, if AWS IoT has repeated that
ALTER TABLE executions ADD COLUMN first_queued_at REAL;
UPDATE executions SET is_explained = 0 WHERE number > 1;
CREATE INDEX repeated_executions ON executions (status) WHERE number > 1;
"""

STEPS: Final = (_FIRST, _SECOND, _THIRD, _FOURTH, _FIFTH, _SIXTH, _SEVENTH, _EIGHTH, _NINTH, _TENTH)
"""The steps that make each version out of the one before, from nothing on: old files and new ones end up alike."""

VERSION: Final = len(STEPS)


def build(connection: sqlite3.Connection, since: int = 0, until: int = VERSION) -> None:
    """Take a database from the version ``since`` to the version ``until``."""
    for step in STEPS[since:until]:
        for statement in step.split(";\n"):
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {until}")


def objects(connection: sqlite3.Connection) -> frozenset[tuple[str, str, str]]:
    """Return tables, indices, and whatever else stands in a database: type, name and text of each."""
    rows = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return frozenset(tuple(row) for row in rows)


@cache
def expected_objects(version: int) -> frozenset[tuple[str, str, str]]:
    """Return the objects of a version, and no others."""
    connection = sqlite3.connect(":memory:")
    try:
        build(connection, until=version)
        return objects(connection)
    finally:
        connection.close()
