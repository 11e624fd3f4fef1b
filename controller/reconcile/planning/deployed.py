"""Git against what is deployed: whether the backend, and the CA behind it, would issue what the policies demand.

The backend publishes what it was deployed with (``protocol.deployment``). If git differs, or nobody
knows what is deployed, nothing rotates: each device would come away with something else than it was asked to fetch.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from controller.reconcile.values import Mode, Refusal, instant_text, names_text, span_text, unasked
from protocol.job_document import DOCUMENT_FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from controller.reconcile.values import (
        CertificateAuthority,
        DesiredState,
        FleetState,
        Overrides,
        PlannedJob,
        Policy,
        PrivateCa,
    )
    from protocol.deployment import DeployedAuthority

GUARDRAIL = "deployment"
SHORT_LIVED = timedelta(days=7)  # the longest validity of a CA whose mode is SHORT_LIVED_CERTIFICATE (AWS Private CA)
_OF_PRIVATE = frozenset({"certificateAuthorityArn"})
_TOLD_TO_NOBODY = frozenset({"operation", "policy", "commit"})  # for people, or in every backend
_OF_DEVICES = frozenset({"sharedCertificate"})  # a device that needs it is blocked by itself: checks/structure.py


@dataclass(frozen=True, slots=True)
class Departure:
    """An authority from which a rotation would not get what git demands of it."""

    authority: CertificateAuthority
    policies: tuple[str, ...]  # that demand it, or whose devices keep it
    why: tuple[str, ...]
    stack: str

    @property
    def message(self) -> str:
        """The difference, and what to do."""
        place = f" ({self.authority.source.at('spec')})" if self.authority.source else ""
        return (
            f"authority {self.authority.name}{place}, of which {names_text(self.policies)} would rotate, is not "
            f"deployed as git demands: {'; '.join(self.why)}. Deploy the backend {self.stack} again with these "
            "documents, correct the document, or put the CA right"
        )

    @property
    def refusal(self) -> Refusal:
        """The refusal that a plan gets for this departure."""
        policy = self.policies[0] if len(self.policies) == 1 else None
        return Refusal(GUARDRAIL, policy, self.message, f"--override deployment={self.authority.name}")


def departures(
    desired: DesiredState,
    state: FleetState,
    now: datetime,
    jobs: Iterable[PlannedJob] = (),
    *,
    are_all_asked: bool = False,
) -> tuple[Departure, ...]:
    """Return each authority that policies demand, or that jobs are to ask, and that is not deployed as git demands.

    Policies that only report ask for nothing yet; ``are_all_asked`` looks ahead to when they do.
    """
    if state.backend_is_stock:
        return ()
    asked = {(p.certificate.authority, p.name) for p in desired.policies if p.mode is Mode.ENFORCE or are_all_asked}
    asked |= {(job.document.certificate_authority, job.policy) for job in jobs}
    found = []
    for name in sorted({name for name, _ in asked if name}):
        authority = desired.authorities[name]
        why = (
            *_deployed_otherwise(authority, state),
            *_unable(authority, state.private_cas.get(authority.arn or ""), now),
        )
        if why:
            policies = tuple(sorted(policy for of, policy in asked if of == name))
            found.append(Departure(authority, policies, why, desired.fleet.stack_name))
    return tuple(found)


def refused(found: Iterable[Departure], overrides: Overrides) -> list[Refusal]:
    """Return the refusals for the departures found that no override lets pass."""
    return [departure.refusal for departure in found if departure.authority.name not in overrides.deployment]


def changes_unasked(policy: Policy, jobs: Iterable[PlannedJob], overrides: Overrides) -> Refusal | None:
    """Refuse jobs that would change what the policy leaves out, and so asks to keep; None if there are none."""
    if policy.name in overrides.result:
        return None
    pairs = [(one, unasked(one, policy.certificate)) for job in jobs for one in job.transitions]
    told = [f"{transition} ({changed})" for transition, changed in pairs if changed]
    if not told:
        return None
    return Refusal(
        guardrail="result",
        policy=policy.name,
        message=(
            f"policy {policy.name} leaves out, and so keeps, what its rotations would change: {names_text(told)}. "
            "Write in the policy what is wanted; under a stock backend, set component and stack so"
        ),
        override=f"--override result={policy.name}",
    )


def _deployed_otherwise(git: CertificateAuthority, state: FleetState) -> Iterator[str]:
    deployment = state.deployment
    if deployment is None:
        if state.deployment_unknown and not git.is_aws_iot:
            yield state.deployment_unknown
        return
    unheeded = (
        DOCUMENT_FIELDS
        - _TOLD_TO_NOBODY
        - _OF_DEVICES
        - deployment.job_document_fields
        - (_OF_PRIVATE if git.is_aws_iot else set())
    )
    if unheeded:
        yield f"the backend, version {deployment.version}, does not heed {names_text(sorted(unheeded))} of a job"
    if not git.is_aws_iot:
        yield from _differences(git, deployment.authorities.get(git.name))


def _differences(git: CertificateAuthority, deployed: DeployedAuthority | None) -> Iterator[str]:
    if deployed is None:
        yield "the backend has no authority of this name"
        return
    if git.arn != deployed.arn:
        yield f"git has {git.arn}, the backend issues from {deployed.arn}"
    if git.signing_algorithm is not None and git.signing_algorithm.value != deployed.signing_algorithm:
        yield f"git has {git.signing_algorithm.value}, the backend signs with {deployed.signing_algorithm}"
    if git.validity is not None and git.validity != deployed.validity:
        yield f"git has validity {span_text(git.validity)}, the backend issues for {span_text(deployed.validity)}"
    if deployed.template_arn is None and git.template_arn is not None:
        yield f"git has {git.template_arn}, the backend does not show by which template it issues"
    if deployed.template_arn is not None and (git.template_arn or "") != deployed.template_arn:
        yield f"git has {git.template_arn or 'no template'}, the backend issues by {deployed.template_arn or 'none'}"


def _unable(git: CertificateAuthority, ca: PrivateCa | None, now: datetime) -> Iterator[str]:
    """Yield why the CA itself refuses what git asks of it; nothing if the CA could not be looked at."""
    if ca is None:
        return
    if ca.status != "ACTIVE":
        yield f"the CA is {ca.status} and issues nothing"
        return
    if git.signing_algorithm is not None and git.signing_algorithm.family is not ca.family:
        yield f"git has {git.signing_algorithm.value}, the CA's key is {ca.key_algorithm}"
    if git.validity is None:
        return
    if ca.not_after is not None and now + git.validity > ca.not_after:
        yield (
            f"git has validity {span_text(git.validity)}, the CA itself ends in {span_text(ca.not_after - now)}, on "
            f"{instant_text(ca.not_after)}"
        )
    if ca.is_short_lived and git.validity > SHORT_LIVED:
        yield f"git has validity {span_text(git.validity)}, the CA is one for at most {span_text(SHORT_LIVED)}"
