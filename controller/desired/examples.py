"""One example a kind, for the schema and the reference page; the tests load them together as one fleet."""

from __future__ import annotations

EXAMPLES: dict[str, str] = {
    "Fleet": """\
apiVersion: certfleet/v1
kind: Fleet
metadata: {name: production}
spec:
  account: "123456789012"
  region: eu-west-1
  roleArn: arn:aws:iam::123456789012:role/certfleet-reconcile
  readRoleArn: arn:aws:iam::123456789012:role/certfleet-read
  siteAttribute: site
  backend: {stackName: AWSLabsCertificateRotator}
  guardrails: {maxChangePercent: 30, minExisting: 10}
""",
    "CertificateAuthority": """\
apiVersion: certfleet/v1
kind: CertificateAuthority
metadata: {name: plant-ca}
spec:
  type: PrivateCA
  arn: arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/0a7d5f3e-6c1b-4e0d-8a9f-2b4c6d8e0f12
  signingAlgorithm: SHA256WITHECDSA
  validity: 365d
""",
    "RotationPolicy": """\
apiVersion: certfleet/v1
kind: RotationPolicy
metadata: {name: line-a-gateways}
spec:
  thingGroup: line-a-gateways
  certificate:
    maxAge: 180d
    renewBefore: 30d
    keyType: ECDSA-P256
    csrSigningAlgorithm: ECDSA-WITH-SHA256
    authority: plant-ca
  schedule:
    jitterPercent: 10
    windows:
      - {cron: "0 2 * * 1-5", timezone: Europe/London, duration: 4h, kind: allow}
  rollout:
    waves: ["1", "5%", "100%"]
    soak: 24h
    abort:
      - {failureType: FAILED, thresholdPercentage: 5, minNumberOfExecutedThings: 20}
""",
    "Waiver": """\
apiVersion: certfleet/v1
kind: Waiver
metadata: {name: press-7-rebuild}
spec:
  devices: [press-7-left, press-7-right]
  owner: maintenance of line A
  reason: no power until the rebuilt press is accepted
  expires: 2027-03-31T00:00:00Z
""",
    "Quarantine": """\
apiVersion: certfleet/v1
kind: Quarantine
metadata: {name: stolen-service-laptop}
spec:
  devices: [press-3-left]
  certificates: [3b1f0c5d7a9e2468b0d1f3a5c7e9124680acebdf13579bdf02468ace13579bdf]
  owner: security of plant 2
  reason: a laptop with copies of the keys was stolen
  since: 2026-11-20T07:30:00Z
""",
    "Incident": """\
apiVersion: certfleet/v1
kind: Incident
metadata: {name: weak-keys-of-spring}
spec:
  reason: keys made in the factory in spring had too little randomness
  deadline: 2026-12-15T00:00:00Z
  keyType: RSA-2048
  issuedBefore: 2026-06-01T00:00:00Z
""",
    "Drill": """\
apiVersion: certfleet/v1
kind: Drill
metadata: {name: leaked-ca-of-autumn}
spec:
  policy: line-a-gateways
  reason: practise that the plant CA is compromised
  since: 2026-11-20T08:00:00Z
  deadline: 2026-11-20T16:00:00Z
  sample: {of: 2000, count: 3}
  devices: [press-1-left, press-4-right, press-9-left]
""",
}
