"""An authority is declared compromised while no window is open."""

from __future__ import annotations

from datetime import timedelta

FLEET = """\
apiVersion: certfleet/v1
kind: Fleet
metadata: {name: factory}
spec: {account: "123456789012", region: eu-west-1, guardrails: {maxChangePercent: 100}}
---
apiVersion: certfleet/v1
kind: CertificateAuthority
metadata: {name: plant-ca}
spec:
  type: PrivateCA
  arn: arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/5f0c9a52-3d0f-4f6f-9a53-b1d1e6a9c001
  signingAlgorithm: SHA256WITHECDSA
  validity: 365d
---
apiVersion: certfleet/v1
kind: RotationPolicy
metadata: {name: line-a}
spec:
  thingGroup: line-a
  certificate: {maxAge: 90d, keyType: ECDSA-P256, csrSigningAlgorithm: ECDSA-WITH-SHA256, authority: aws-iot}
  schedule: {windows: [{cron: "0 2 * * *", timezone: UTC, duration: 4h, kind: allow}]}
  rollout: {waves: ["1", "30%", "100%"], soak: 24h, maximumPerMinute: 1000}
"""

INCIDENT = """\
apiVersion: certfleet/v1
kind: Incident
metadata: {{name: leaked-ca}}
spec:
  reason: the private CA's signing key was copied
  authority: plant-ca
  deadline: {deadline}
  acceptedLosses: {lost}
"""

PLANT_CA = {
    "name": "plant-ca",
    "arn": "arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/5f0c9a52-3d0f-4f6f-9a53-b1d1e6a9c001",
}


def move_to_noon(factory) -> None:
    """Noon UTC: the only window opens at 2 and closes at 6."""
    now = factory.clock.now()
    noon = now.replace(hour=12, minute=0, second=0, microsecond=0)
    factory.clock.advance((noon if noon > now else noon + timedelta(days=1)) - now)


def test_incident_on_an_authority_rotates_everything_by_its_deadline_though_windows_are_closed(build):
    like = {"groups": ["line-a"], "age": "20d", "lifetime": "365d", "keyType": "ECDSA-P256", "authority": "plant-ca"}
    factory = build(
        ["line-a"],
        [{"prefix": "gateway-", "count": 10, **like}, {"prefix": "buried-", **like, "online": False}],
        authorities=[PLANT_CA],
    )
    factory.declare("fleet", FLEET)
    move_to_noon(factory)
    factory.apply()
    assert factory.jobs() == [], "drift alone waits for its window"

    declared = factory.clock.now()
    deadline = declared + timedelta(hours=8)
    factory.declare("incident", INCIDENT.format(deadline=deadline.isoformat(), lost="[]"))
    [report] = factory.plan()["incidents"]
    assert (report["remaining"], report["blocked"]) == (11, 0)
    assert "deadline will be met" in report["message"], report["message"]

    while factory.clock.now() < deadline - timedelta(minutes=30):
        factory.apply()
        factory.advance(minutes=20)
    gateways = [name for name in factory.world.built_with if name.startswith("gateway")]
    for name in gateways:
        certificate = factory.iot.describe_certificate(certificateId=factory.certificate_of(name))
        created = certificate["certificateDescription"]["creationDate"]
        assert declared <= created + timedelta(seconds=1) <= deadline, name
        assert factory.executions(name)["SUCCEEDED"] == 1, name
    assert factory.certificate_of("buried-001"), "it keeps what it has until it comes back"

    [report] = factory.plan()["incidents"]
    assert report["remaining"] == 1, "it does not call itself finished while a device is left"
    factory.declare("incident", INCIDENT.format(deadline=deadline.isoformat(), lost="[buried-001]"))
    [report] = factory.plan()["incidents"]
    assert (report["remaining"], report["accepted"]) == (0, 1)
    assert "is finished" in report["message"]
