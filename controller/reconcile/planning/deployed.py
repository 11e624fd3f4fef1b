"""Git against what is deployed: whether the backend would issue what the policies demand.

The backend publishes what it was deployed with (``protocol.deployment``). Where git names another CA, or
another validity, the backend has to be deployed again before anything rotates: each device would come
away with something else than it was asked to fetch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.reconcile.values import Mode, Refusal, names_text, span_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from controller.reconcile.values import CertificateAuthority, DesiredState, FleetState, Overrides, PlannedJob
    from protocol.deployment import DeployedAuthority

GUARDRAIL = "deployment"


def departures(desired: DesiredState, state: FleetState, overrides: Overrides) -> tuple[Refusal, ...]:
    """One refusal for each authority that policies demand and that is deployed otherwise, or not at all."""
    if state.deployment is None:
        return ()
    demanded: dict[str, list[str]] = {}
    for policy in desired.policies:
        authority = policy.certificate.authority
        if authority is not None and policy.mode is Mode.ENFORCE and not desired.authorities[authority].is_aws_iot:
            demanded.setdefault(authority, []).append(policy.name)
    found = []
    for name, policies in sorted(demanded.items()):
        told = list(_differences(desired.authorities[name], state.deployment.authorities.get(name)))
        if told and name not in overrides.deployment:
            found.append(_refusal(name, policies, told, desired))
    return tuple(found)


def unforeseen(policy: str, jobs: Iterable[PlannedJob], overrides: Overrides) -> Refusal | None:
    """Refuse jobs of which nobody can say what they make of their devices: a stock backend is told nothing."""
    transitions = [one for job in jobs for one in job.transitions if one.after is None]
    if not transitions or policy in overrides.result:
        return None
    return Refusal(
        guardrail="result",
        policy=policy,
        message=(
            "the deployed backend is the stock one: key type, authority and validity become what component and stack "
            f"are set to, whatever is there now: {names_text([str(one) for one in transitions])}. "
            "Look at the component's keyAlgorithm and at the stack's CA, or deploy this project's backend"
        ),
        override=f"--override result={policy}",
    )


def _refusal(name: str, policies: list[str], told: list[str], desired: DesiredState) -> Refusal:
    source = desired.authorities[name].source
    place = f" ({source.at('spec')})" if source else ""
    return Refusal(
        guardrail=GUARDRAIL,
        policy=policies[0] if len(policies) == 1 else None,
        message=(
            f"authority {name}{place}, which {names_text(policies)} demands, is deployed otherwise: {'; '.join(told)}. "
            f"Deploy the backend {desired.fleet.stack_name} again with these documents, or correct the document"
        ),
        override=f"--override deployment={name}",
    )


def _differences(git: CertificateAuthority, deployed: DeployedAuthority | None) -> Iterator[str]:
    if deployed is None:
        yield "the backend has no authority of this name"
        return
    if git.arn != deployed.arn:
        yield f"git says {git.arn}, the backend issues from {deployed.arn}"
    if git.signing_algorithm is not None and git.signing_algorithm.value != deployed.signing_algorithm:
        yield f"git says {git.signing_algorithm.value}, the backend signs with {deployed.signing_algorithm}"
    if git.validity is not None and git.validity != deployed.validity:
        yield f"git says valid for {span_text(git.validity)}, the backend issues for {span_text(deployed.validity)}"
