"""The component's own answers to the controller's question, over jobs, endpoint and backend of one world."""

import json

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from e2e_documents import commit_documents

from protocol.names import COMPONENT_NAME
from sandbox.aws.greengrass.deployments import InstalledComponent
from sandbox.world import COMPONENT_VERSION

FLEET = """
    groups: [{name: line-a}]
    devices:
      - {prefix: a-, count: 2, groups: [line-a], age: 400d, keyType: ECDSA-P256}
"""
POLICY = """\
apiVersion: certfleet/v1
kind: RotationPolicy
metadata: {name: line-a}
spec:
  thingGroup: line-a
  certificate: {maxAge: 180d, keyType: ECDSA-P256, authority: aws-iot}
  rollout: {waves: ["100%"], soak: 0s}
"""


def test_who_can_rotate_says_so_and_does_and_who_cannot_says_why_and_is_left_alone(
    build_world, run_certfleet, tmp_path
):
    world = build_world(FLEET)
    for name in world.devices:  # its version is one that the sandbox has published
        world.cloud.deployments.report_device(name, [InstalledComponent(COMPONENT_NAME, COMPONENT_VERSION)])
    fit, unfit = sorted(world.devices)
    key = ec.generate_private_key(ec.SECP256R1())  # of nobody, as after a copy by hand that was cut off
    world.devices[unfit].key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    before = world.credential_of(fit)
    repository = commit_documents(tmp_path / "repository", {"policy.yaml": POLICY})

    asked = run_certfleet(world, repository, "preflight", "--wait", "--format", "json")
    assert asked.returncode == 1, asked.stdout + asked.stderr
    [fleet] = json.loads(asked.stdout)["fleets"]
    assert fleet["would_begin"] == [fit]
    assert "restore the pair" in fleet["would_fail"][unfit]
    assert world.credential_of(fit) == before

    applied = run_certfleet(world, repository, "apply", "--wait")
    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert world.credential_of(fit) != before
    assert "PreflightFailed" in run_certfleet(world, repository, "drift").stdout
