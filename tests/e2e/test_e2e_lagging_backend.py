"""On AWS the backend removes an old certificate a moment after the job says SUCCEEDED: ``--wait`` knows that."""

import threading

from e2e_documents import commit_documents

FLEET = """
    groups: [{name: line-a-gateways}]
    devices:
      - {prefix: a-, count: 4, groups: [line-a-gateways], age: 400d, keyType: ECDSA-P256}
"""
POLICY = """\
apiVersion: certfleet/v1
kind: RotationPolicy
metadata: {name: line-a-gateways}
spec:
  thingGroup: line-a-gateways
  certificate: {maxAge: 180d, keyType: ECDSA-P256, authority: aws-iot}
  rollout: {waves: ["1", "100%"], soak: 0s}
"""
LAG_SECONDS = 1.5


def test_apply_goes_on_with_the_next_wave_when_the_old_certificate_goes_late(
    build_world, run_certfleet, tmp_path, monkeypatch
):
    world = build_world(FLEET)
    repository = commit_documents(tmp_path / "repository", {"policy.yaml": POLICY})
    run = world.cloud.functions.run

    def late(name, event):
        if name.endswith("JobExecutionTerminal"):
            threading.Event().wait(LAG_SECONDS)
        return run(name, event)

    monkeypatch.setattr(world.cloud.functions, "run", late)
    applied = run_certfleet(world, repository, "apply", "--wait")
    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert "4 of 4 devices in sync" in applied.stdout
    assert run_certfleet(world, repository, "drift").returncode == 0
