"""Policies with their versions, and what they are attached to: certificates and thing groups."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sandbox.aws.errors import AwsError, invalid, not_found
from sandbox.aws.paging import answer, page
from sandbox.aws.site import Site, new_id

from .certificates import Certificates
from .groups import Groups
from .policy_language import parse_policy

MAX_VERSIONS = 5
_PAGING = {"size": "pageSize", "marker": "marker"}


@dataclass(slots=True)
class IotPolicy:
    """One policy; versions are numbered from 1."""

    name: str
    created_at: datetime
    generation_id: str
    default: str = "1"
    last: int = 1
    documents: dict[str, str] = field(default_factory=dict)
    created: dict[str, datetime] = field(default_factory=dict)
    parsed: dict[str, Any] = field(default_factory=dict)  # of the default version
    targets: set[str] = field(default_factory=set)  # ARNs


class Policies:
    """All policies, and the calls about them."""

    def __init__(self, site: Site, certificates: Certificates, groups: Groups) -> None:
        self._site = site
        self._certificates = certificates
        self._groups = groups
        self._by_name: dict[str, IotPolicy] = {}
        self._of_target: dict[str, set[str]] = {}
        certificates.attached_policies = lambda certificate_id: len(self._on(certificates.arn(certificate_id)))
        certificates.detach_policies = lambda certificate_id: self._detach_all(certificates.arn(certificate_id))

    def effective(self, certificate_id: str, groups: set[str]) -> list[dict[str, Any]]:
        """Return the parsed policies of a certificate whose things are in these groups."""
        names = set(self._on(self._certificates.arn(certificate_id)))
        for group in groups:
            for above in self._groups.with_ancestors(group):
                names |= self._on(self._groups.arn(above))
        return [self._by_name[name].parsed for name in sorted(names)]

    def add(self, name: str, document: str) -> IotPolicy:
        """Make a policy that does not exist yet."""
        now = self._site.now()
        policy = IotPolicy(name, now, new_id(), documents={"1": document}, created={"1": now})
        policy.parsed = parse_policy(document)
        self._by_name[name] = policy
        return policy

    def attach(self, name: str, target: str) -> None:
        """Attach a policy to an ARN."""
        self._require(name).targets.add(target)
        self._of_target.setdefault(target, set()).add(name)

    # -- the API

    def create_policy(self, request: dict[str, Any]) -> dict[str, Any]:
        """Create a policy with its first version."""
        name = request["policyName"]
        if name in self._by_name:
            raise AwsError("ResourceAlreadyExistsException", f"policy {name} already exists",
                           resourceId=name, resourceArn=self._arn(name))  # fmt: skip
        self.add(name, request["policyDocument"])
        return {"policyName": name, "policyArn": self._arn(name), "policyDocument": request["policyDocument"],
                "policyVersionId": "1"}  # fmt: skip

    def get_policy(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the default version."""
        policy = self._require(request["policyName"])
        return {
            **self._summary(policy.name),
            "policyDocument": policy.documents[policy.default],
            "defaultVersionId": policy.default,
            "creationDate": policy.created_at,
            "lastModifiedDate": policy.created[policy.default],
            "generationId": policy.generation_id,
        }

    def create_policy_version(self, request: dict[str, Any]) -> dict[str, Any]:
        """Create a further version; a policy has at most five."""
        policy, document = self._require(request["policyName"]), request["policyDocument"]
        parsed = parse_policy(document)
        if len(policy.documents) >= MAX_VERSIONS:
            raise AwsError("VersionsLimitExceededException", f"a policy has at most {MAX_VERSIONS} versions")
        policy.last += 1
        version = str(policy.last)
        policy.documents[version] = document
        policy.created[version] = self._site.now()
        if request.get("setAsDefault"):
            policy.default, policy.parsed = version, parsed
        return {"policyArn": self._arn(policy.name), "policyDocument": document, "policyVersionId": version,
                "isDefaultVersion": policy.default == version}  # fmt: skip

    def get_policy_version(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return one version."""
        policy, version = self._version(request)
        return {
            **self._summary(policy.name),
            "policyDocument": policy.documents[version],
            "policyVersionId": version,
            "isDefaultVersion": policy.default == version,
            "creationDate": policy.created_at,
            "lastModifiedDate": policy.created[version],
            "generationId": policy.generation_id,
        }

    def list_policy_versions(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return all versions, newest first."""
        policy = self._require(request["policyName"])
        versions = sorted(policy.documents, key=int, reverse=True)
        return {"policyVersions": [
            {"versionId": v, "isDefaultVersion": v == policy.default, "createDate": policy.created[v]}
            for v in versions
        ]}  # fmt: skip

    def set_default_policy_version(self, request: dict[str, Any]) -> None:
        """Let another version count."""
        policy, version = self._version(request)
        policy.default, policy.parsed = version, parse_policy(policy.documents[version])

    def delete_policy_version(self, request: dict[str, Any]) -> None:
        """Delete a version that is not the default."""
        policy, version = self._version(request)
        if version == policy.default:
            raise AwsError("DeleteConflictException", f"version {version} is the default of policy {policy.name}")
        del policy.documents[version], policy.created[version]

    def delete_policy(self, request: dict[str, Any]) -> None:
        """Delete a policy without targets and further versions."""
        policy = self._require(request["policyName"])
        if policy.targets or len(policy.documents) > 1:
            raise AwsError("DeleteConflictException", f"policy {policy.name} has targets or non-default versions")
        del self._by_name[policy.name]

    def list_policies(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return policies in name order."""
        found, marker = page(self._by_name, str, request, **_PAGING)
        return answer("policies", [self._summary(n) for n in found], marker, "nextMarker")

    def attach_policy(self, request: dict[str, Any]) -> None:
        """Attach to a certificate or a thing group."""
        self.attach(request["policyName"], self._target(request["target"]))

    def detach_policy(self, request: dict[str, Any]) -> None:
        """Detach; what is not attached stays so."""
        policy, target = self._require(request["policyName"]), self._target(request["target"])
        policy.targets.discard(target)
        self._of_target.get(target, set()).discard(policy.name)

    def attach_principal_policy(self, request: dict[str, Any]) -> None:
        """Serve AttachPolicy under its older name."""
        self.attach_policy({"policyName": request["policyName"], "target": request["principal"]})

    def detach_principal_policy(self, request: dict[str, Any]) -> None:
        """Serve DetachPolicy under its older name."""
        self.detach_policy({"policyName": request["policyName"], "target": request["principal"]})

    def list_attached_policies(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return policies of a target; with ``recursive`` those of parent groups too."""
        target = self._target(request["target"])
        names = set(self._on(target))
        if request.get("recursive") and ":thinggroup/" in target:
            for above in self._groups.with_ancestors(target.rpartition("/")[2]):
                names |= self._on(self._groups.arn(above))
        found, marker = page(names, str, request, **_PAGING)
        return answer("policies", [self._summary(n) for n in found], marker, "nextMarker")

    def list_principal_policies(self, request: dict[str, Any]) -> dict[str, Any]:
        """Serve ListAttachedPolicies under its older name."""
        return self.list_attached_policies({**request, "target": request["principal"]})

    def list_targets_for_policy(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return what a policy is attached to."""
        found, marker = page(self._require(request["policyName"]).targets, str, request, **_PAGING)
        return answer("targets", found, marker, "nextMarker")

    def list_policy_principals(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return certificates that a policy is attached to."""
        targets = [t for t in self._require(request["policyName"]).targets if ":cert/" in t]
        found, marker = page(targets, str, request, **_PAGING)
        return answer("principals", found, marker, "nextMarker")

    # -- inside

    def _arn(self, name: str) -> str:
        return self._site.arn(f"policy/{name}")

    def _summary(self, name: str) -> dict[str, str]:
        return {"policyName": name, "policyArn": self._arn(name)}

    def _require(self, name: str) -> IotPolicy:
        if name not in self._by_name:
            raise not_found("policy", name)
        return self._by_name[name]

    def _version(self, request: dict[str, Any]) -> tuple[IotPolicy, str]:
        policy, version = self._require(request["policyName"]), request["policyVersionId"]
        if version not in policy.documents:
            raise not_found(f"version {version} of policy", policy.name)
        return policy, version

    def _on(self, target: str) -> set[str]:
        return self._of_target.get(target, set())

    def _detach_all(self, target: str) -> None:
        for name in self._of_target.pop(target, set()):
            self._by_name[name].targets.discard(target)

    def _target(self, arn: str) -> str:
        if ":cert/" in arn:
            self._certificates.require_arn(arn)
        elif ":thinggroup/" in arn:
            self._groups.require(arn.partition(":thinggroup/")[2])
        else:
            raise invalid(f"a policy is attached to a certificate or a thing group, found {arn!r}")
        return arn
