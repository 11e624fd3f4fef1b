"""A small factory that really rotates: its world, its repository, its runner."""

from __future__ import annotations

import yaml
from workflows_origin import Origin
from workflows_runner import Runner

from controller.adoption import ci_files
from sandbox.fleet_file import SandboxFleet

CA_ARN = "arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/5f0c9a52-3d0f-4f6f-9a53-b1d1e6a9c001"
READ, WRITE, HEAL, RELEASE = (f"arn:aws:iam::123456789012:role/{name}" for name in ("read", "write", "heal", "release"))
FLEET = SandboxFleet.model_validate(
    yaml.safe_load(f"""
authorities: [{{name: plant-ca, arn: "{CA_ARN}"}}]
groups: [{{name: line-a}}, {{name: presses}}, {{name: bench}}]
devices:
  - {{prefix: line-a-, count: 3, groups: [line-a], age: 120d, keyType: ECDSA-P256}}
  - {{prefix: press-, count: 10, groups: [presses], age: {{from: 1d, to: 91d}}, keyType: ECDSA-P256}}
  - {{prefix: bench-, count: 1, groups: [bench], age: 20d, keyType: ECDSA-P256}}
""")
)
FLEET_FILE = "desired_state/factory/all.yaml"
DOCUMENTS = f"""\
apiVersion: certfleet/v1
kind: Fleet
metadata: {{name: factory}}
spec: {{account: "123456789012", region: eu-west-1, guardrails: {{maxChangePercent: 30, minExisting: 10}}}}
---
apiVersion: certfleet/v1
kind: CertificateAuthority
metadata: {{name: plant-ca}}
spec: {{type: PrivateCA, arn: "{CA_ARN}", signingAlgorithm: SHA256WITHECDSA, validity: 365d}}
"""
POLICY = """\
---
apiVersion: certfleet/v1
kind: RotationPolicy
metadata: {{name: {name}}}
spec:
  thingGroup: {name}
  certificate: {{maxAge: {max_age}, authority: {authority}, keyType: {key_type}}}
  schedule: {{jitterPercent: 0, leastInterval: 0h}}
  rollout: {{waves: ["100%"], soak: 0s, retries: 0}}
"""
AWS = """\
#!/bin/bash
# CloudWatch is not part of the sandbox: what it is told lies beside this file
case "$1" in
  cloudwatch) echo "$@" >> "$0.told"; test ! -e "$0.deaf" ;;
  *) exec "$(type -ap aws | sed -n 2p)" "$@" ;;
esac
"""
CALLERS = ci_files("github", "acme/certfleet@v1.2.3")
LITTLE = {"max_age": "3650d", "authority": "aws-iot", "key_type": "ECDSA-P256"}


def documents(extra="", **changes):
    """The desired state: three policies that ask for little, but for the changes (by policy)."""
    text = DOCUMENTS
    for name in ("line-a", "presses", "bench"):
        wanted = {
            "max_age": "3650d",
            "authority": "aws-iot",
            "key_type": "ECDSA-P256",
            **changes.get(name.replace("-", "_"), {}),
        }
        text += POLICY.format(name=name, **wanted)
    return {FLEET_FILE: text + extra}


def repository(folder, world, github):
    """A repository on GitHub whose workflows reconcile that world."""
    runner = Runner(folder, Origin(folder / "origin", documents()), github, world.environment())
    runner.variables = {
        "CERTFLEET_READ_ROLE_ARN": READ,
        "CERTFLEET_RECONCILE_ROLE_ARN": WRITE,
        "CERTFLEET_HEAL_ROLE_ARN": HEAL,
        "CERTFLEET_RELEASE_ROLE_ARN": RELEASE,
        "AWS_REGION": "eu-west-1",
    }
    shim = folder / "bin" / "aws"
    shim.parent.mkdir()
    shim.write_text(AWS)
    shim.chmod(0o755)
    runner.extra_path = [shim.parent]
    return runner


def certificates(world, group):
    """Thing → id of its certificate, for the things of a group."""
    iot = world.client("iot")
    things = iot.list_things_in_thing_group(thingGroupName=group)["things"]
    return {thing: iot.list_thing_principals(thingName=thing)["principals"][0][-64:] for thing in sorted(things)}
