"""``certfleet apply`` killed with SIGKILL at one AWS call after the other, and run again each time."""

import signal
from collections import Counter

import pytest
from e2e_documents import commit_documents

DEVICES = 12
FLEET = f"""
    groups: [{{name: line-a-gateways}}, {{name: line-b-gateways}}]
    devices:
      - {{prefix: a-, count: {DEVICES}, groups: [line-a-gateways], age: 400d, keyType: ECDSA-P384}}
      - {{prefix: b-, count: 3, groups: [line-b-gateways], age: 400d, keyType: ECDSA-P384}}
      - {{prefix: fresh-, count: 2, groups: [line-b-gateways], age: 4d, keyType: ECDSA-P256}}
"""
POLICY = """\
apiVersion: certfleet/v1
kind: RotationPolicy
metadata: {{name: {group}}}
spec:
  thingGroup: {group}
  certificate: {{maxAge: 180d, keyType: ECDSA-P256, authority: aws-iot}}
  rollout: {{waves: {waves}, soak: 0s}}
"""

# Dies without a chance to clean up, before or after the n-th call of an API has had its effect.
KILLED_AT = """
import os, signal, sys
from botocore.client import BaseClient
api, number, moment = {api!r}, {number}, {moment!r}
plain, seen = BaseClient._make_api_call, 0

def call(client, name, parameters):
    global seen
    seen += name == api
    is_point = name == api and seen == number
    if is_point and moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    answer = plain(client, name, parameters)
    if is_point:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer

BaseClient._make_api_call = call
from controller.cli import main
sys.exit(main(sys.argv[1:]))
"""
POINTS = [
    ("GetCallerIdentity", 1, "after"),
    ("ListThingsInThingGroup", 1, "after"),
    ("ListThingPrincipalsV2", 1, "before"),
    ("CreateJob", 1, "before"),
    ("CreateJob", 1, "after"),
    ("CreateJob", 1, "after"),
    ("DescribeThingGroup", 1, "before"),
    ("ListJobExecutionsForJob", 1, "after"),
    ("ListThingPrincipalsV2", 1, "before"),
    ("DescribeCertificate", 1, "after"),
    ("CreateJob", 1, "after"),
]


@pytest.fixture
def repository(tmp_path):
    waves = {"line-a-gateways": '["1", "50%", "100%"]', "line-b-gateways": '["100%"]'}
    documents = {f"{group}.yaml": POLICY.format(group=group, waves=sizes) for group, sizes in waves.items()}
    return commit_documents(tmp_path / "repository", documents)


def rotations(world):
    """How often each device was rotated, from the evidence that the backend keeps."""
    table = world.client("dynamodb").list_tables()["TableNames"][0]
    items = world.client("dynamodb").scan(TableName=table)["Items"]
    return Counter(item["thingName"]["S"] for item in items if item["record"]["S"].startswith("rotation#"))


def test_apply_killed_at_spread_out_points_ends_as_one_that_ran_through(build_world, run_certfleet, repository):
    world = build_world(FLEET)
    survived = []
    for api, number, moment in POINTS:
        program = KILLED_AT.format(api=api, number=number, moment=moment)
        done = run_certfleet(world, repository, "apply", "--wait", program=program)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        if done.returncode == 0:
            survived.append((api, number, moment))
    assert survived == []  # each point was reached

    assert world.stack.drain(30)  # what the killed runs began
    last = run_certfleet(world, repository, "apply", "--wait")
    assert last.returncode == 0, last.stdout + last.stderr
    assert run_certfleet(world, repository, "plan").returncode == 0
    assert run_certfleet(world, repository, "drift").returncode == 0
    assert world.stack.drain(30)
    assert rotations(world) == Counter([f"a-{n:03d}" for n in range(1, DEVICES + 1)] + ["b-001", "b-002", "b-003"])
    jobs = world.client("iot").list_jobs(maxResults=250)["jobs"]
    assert len({job["jobId"] for job in jobs}) == len(jobs) <= 4  # three waves of line A, one of line B

    again = run_certfleet(world, repository, "apply", "--wait")
    assert again.returncode == 0
    assert world.client("iot").list_jobs(maxResults=250)["jobs"] == jobs
