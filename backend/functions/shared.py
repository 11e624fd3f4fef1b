"""The end of a certificate that several things held: it goes when no thing holds it and nobody uses it.

A rotation only detaches the certificate from its own thing; the sweep visits each one that is listed. A certificate
that no thing holds, and that nobody was heard to use for ``UNUSED``, is first deactivated, and deleted ``GRACE`` later
(both in protocol/watch.py). If somebody turns out to need it in between, it is made active again, unless a person has
deactivated it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from protocol.watch import GRACE, SAME_CHANGE, UNUSED, Watch

from . import notices
from .ending import TOLD_LATE
from .operator import decided
from .rotation import Rotation, RotationOutcome
from .services import Services

_HELD, _LATELY = "things hold it", "it was used lately, or it is not known for long that it was not"
_NO_NEWS = frozenset({_HELD, _LATELY})


def visit(services: Services, certificate_id: str, heard_since: datetime | None) -> None:
    """Take the next step with one certificate.

    ``heard_since``: connections are heard of since then; None: they are not heard of.
    """
    table, now = services.table, services.clock()
    watch = table.watch(certificate_id) or Watch(certificate_id, "", now)
    found = services.registry.find(certificate_id)
    if found is None:
        table.forget_shared(certificate_id)
        return
    is_active, noted = found.status == "ACTIVE", watch.deactivated
    if not is_active and (noted is None or found.changed > noted + SAME_CHANGE):  # a person's decision
        if not services.registry.things_of(found.arn):
            table.forget_shared(certificate_id)
        return
    if is_active and noted is not None:
        if now - noted < SAME_CHANGE:  # another sweep is at work on it
            return
        # It broke off after the note, or a person has made it active again.
        watch = table.save_watch(replace(watch, deactivated=None, since=now))
    if not is_active and _is_cut_off(services, certificate_id, found.arn):
        return
    why = _why_it_stays(services, watch, found.arn, heard_since)
    if why is not None:
        _keep(services, watch, why, is_active=is_active)
    elif watch.deactivated is None:
        _deactivate(services, table.save_watch(replace(watch, deactivated=now)), found.arn, heard_since)
    elif now - watch.deactivated >= GRACE:
        services.registry.delete(certificate_id, found.arn)
        table.forget_shared(certificate_id)
        decided("removed", certificate=certificate_id, detail="shared once, and used by nobody")


def _why_it_stays(services: Services, watch: Watch, arn: str, heard_since: datetime | None) -> str | None:
    """Return why the certificate must stay: who uses it, or may use it; None if nobody does."""
    if services.registry.things_of(arn):
        return _HELD
    if not watch.things:
        return notices.UNWATCHED
    if watch.stranger is not None:
        return f"{notices.quoted(watch.stranger)} has connected with it"
    without = next((name for name in watch.things if not _has_its_own(services.table.current(name), watch)), None)
    if without is not None:
        return f"{without} has held it, and may use it still"
    used, until = max(watch.since, watch.last_seen or watch.since), watch.deactivated
    if until is None:
        used, until = max(used, heard_since or services.clock()), services.clock()
    return _LATELY if until - used < UNUSED else None


def _is_cut_off(services: Services, certificate_id: str, arn: str) -> bool:
    """Return whether people have put the certificate, or a thing that holds it, into quarantine."""
    things = services.registry.things_of(arn) or ()
    return services.table.is_quarantined("", certificate_id) or any(map(services.table.is_quarantined, things))


def _has_its_own(latest: Rotation | None, watch: Watch) -> bool:
    """Return whether a thing's latest rotation shows that it uses another certificate than the one that it shared."""
    if latest is None:
        return False
    if latest.old_certificate_id == watch.certificate_id:
        return latest.outcome is RotationOutcome.ROTATED and latest.told != TOLD_LATE
    return datetime.fromisoformat(latest.started_at) >= watch.since


def _keep(services: Services, watch: Watch, why: str, *, is_active: bool) -> None:
    """Keep the certificate, make it active again if it is not, and notify a person, once, of the reason."""
    told = None if why in _NO_NEWS else why
    if told is not None and told != watch.told:
        services.operator.tell("no thing", "none", notices.of_rest(watch.certificate_id, why))
    if not is_active:
        services.registry.set_status(watch.certificate_id, "ACTIVE")
        decided("active again", certificate=watch.certificate_id, detail=why)
    known = replace(watch, deactivated=None, told=told)
    if known != watch:
        services.table.save_watch(known)


def _deactivate(services: Services, watch: Watch, arn: str, heard_since: datetime | None) -> None:
    """Deactivate the certificate, which its watch notes already; make it active again at once if it is in use."""
    services.registry.set_status(watch.certificate_id, "INACTIVE")
    decided("deactivated", certificate=watch.certificate_id, detail="shared once, and used by nobody")
    noted = services.table.watch(watch.certificate_id) or watch
    why = _why_it_stays(services, noted, arn, heard_since)
    if why is not None and not _is_cut_off(services, watch.certificate_id, arn):
        _keep(services, noted, why, is_active=False)
