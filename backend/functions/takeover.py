"""Taking over a rotation that the stock backend has begun, if our backend replaced it in the middle.

The stock backend keeps a rotation's state in the named shadow, which a device may be able to write. So the shadow only
shows where to look: the rotation is taken over if the registry shows exactly the two certificates that it names, both
this thing's alone, the new one younger than the old one, and if the job asks for a rotation. A commit that the shadow
shows is not believed: the device has to commit again, over a connection with the new certificate. Nobody listened for
connections before, so the new certificate is taken to have been in use since it was issued.
"""

from __future__ import annotations

from collections.abc import Callable

from protocol.deployment import EXCLUSIVE
from protocol.job_document import is_rotation

from . import csr
from .operator import decided
from .registry import CertificateDescription, View
from .rotation import Phase, Rotation
from .services import Services

AUTHORITY = "of the backend before"
BEGUN = frozenset({"created", "committed"})
"""The ``progress`` of a stock shadow while two certificates are attached."""


def take_over(
    services: Services, thing_name: str, job_id: str, who: str, document: Callable[[], object]
) -> Rotation | None:
    """Take over a rotation of the stock backend for ``who``: write and return it as one of ours; None if none is seen.

    ``document`` gives the document of the job, and is asked only if the shadow shows a rotation.
    """
    view = services.registry.view(thing_name)
    if view is None or view.progress not in BEGUN or not is_rotation(document()):
        return None
    new = _agreed(services, thing_name, view)
    if new is None:
        return None
    current = services.table.current(thing_name)
    begun = Rotation(
        thing_name=thing_name,
        job_id=job_id,
        public_key_digest=csr.public_key_digest(csr.load_certificate(new.pem).public_key()),
        old_certificate_id=view.old,
        new_certificate_id=view.new,
        certificate_arn_prefix=new.arn.removesuffix(view.new),
        authority=AUTHORITY,
        started_at=new.created.isoformat(),
        lease_until=new.created.isoformat(),
        phase=Phase.CREATED,
        new_seen_at=new.created.isoformat(),
        certificate_pem=new.pem,
        version=0 if current is None else current.version,
    )
    decided("taken over", thing=thing_name, job=job_id, certificate=view.new)
    return services.table.save(begun.step(services.clock(), who, "taken over from the backend before"))


def _agreed(services: Services, thing_name: str, view: View) -> CertificateDescription | None:
    """Return the new certificate if the registry confirms the stock backend's view, else None.

    The thing must hold exactly the two of the view, no other thing may hold them, and the new one must be the younger.
    """
    principals = services.registry.principals(thing_name)
    is_exclusive = all(principal.association == EXCLUSIVE for principal in principals)
    if not is_exclusive or {p.certificate_id for p in principals} != {view.old, view.new}:
        return None
    old, new = services.registry.certificate(view.old), services.registry.certificate(view.new)
    return new if new.created > old.created else None
