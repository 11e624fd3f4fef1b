"""The place in git: the document and the line behind a finding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .policy import Reason

if TYPE_CHECKING:
    from .finding import Finding
    from .policy import DesiredState, Source


def source_of(desired: DesiredState, policy: str | None, finding: Finding) -> Source | None:
    """Return the document that the finding comes of; None if it comes of none.

    The waiver, quarantine, incident or drill that it names, else the device's policy.
    """
    named: str | None = None
    documents: dict[str, Source]
    if finding.reason is Reason.WAIVED:
        named, documents = str(finding.values.get("waiver")), {one.name: one.source for one in desired.waivers}
    elif finding.reason is Reason.QUARANTINED:
        named = str(finding.values.get("quarantine"))
        documents = {one.name: one.source for one in desired.quarantines}
    elif finding.reason is Reason.AUTHORITY_TAINTED:
        named = str(finding.values.get("incidents")).partition(",")[0]
        documents = {one.name: one.source for one in desired.incidents}
    elif finding.reason is Reason.DRILLED:
        named, documents = str(finding.values.get("drill")), {one.name: one.source for one in desired.drills}
    else:
        named, documents = policy, {one.name: one.source for one in desired.policies}
    return documents.get(named or "")


def place_of(desired: DesiredState, policy: str | None, finding: Finding) -> str | None:
    """Return ``path:line`` of the policy's field that the finding departs from; None if no document is behind it."""
    source = source_of(desired, policy, finding)
    return None if source is None else source.at(finding.policy_field)
