"""The credential store: where a device keeps its private key and certificate.

Two generations exist while a rotation is going on, OLD and NEW; each is complete and durable before
either is made to lie *in place*, which is the place at which the nucleus looks. ``switch`` chooses
the one in place and may be repeated at will, after a crash in the middle too. ``settle`` keeps what is
in place and forgets the rest. A rotation that begins while both generations of the one before are still kept holds
its key apart from them, until ``release``. Every method raises StoreError with a sentence for a person.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Callable, Dict, Mapping, Optional, Protocol, cast

from protocol.algorithms import CsrSigningAlgorithm, KeyType

NEXT = "next"
"""The note of a rotation whose key lies apart, because both generations of the one before are kept."""


class Generation(str, Enum):
    """A name for each of the two credentials."""

    OLD = "OLD"
    NEW = "NEW"


class Extent(Enum):
    """How far a rotation has come, by what lies in the store."""

    NO_KEY = 0  # the new key is not there: nobody was asked for a certificate yet
    KEY = 1  # the new key is there, and nothing in place was touched
    TORN = 2  # what lies in place is being replaced
    WHOLE = 3  # the new credential lies in place


class CredentialStore(Protocol):
    """Both kinds of store, files and tokens, do exactly this."""

    def preflight(self, key_type: KeyType) -> None:
        """Find out what would make a rotation to such a key fail, before anybody is asked for anything.

        Changes nothing.
        """

    def begin(self, kept: Optional[Mapping[str, str]] = None) -> Dict[str, str]:
        """Clear leftovers, and return notes that must be in the journal before ``prepare`` is called.

        ``kept`` are the notes of a rotation whose two generations stay for now; None: there is none.
        """

    def resume(self, notes: Mapping[str, str]) -> None:
        """Take up a rotation that an earlier process began with these notes."""

    def prepare(self, key_type: KeyType) -> None:
        """Make a new key, durably, out of the nucleus' sight.

        If it does not lie apart, what is in place is kept as OLD from here on.
        """

    def caveat(self, key_type: KeyType) -> str:
        """Return what may keep the nucleus from connecting with such a key from this store.

        Empty if nothing is known.
        """

    def request(self, algorithm: CsrSigningAlgorithm) -> str:
        """Return a signing request (PEM) over the new key, for the subject of the certificate in place."""

    def new_public_key(self) -> bytes:
        """Return the SubjectPublicKeyInfo (DER) of the new key."""

    def current_certificate(self) -> bytes:
        """Return the certificate in place, PEM."""

    def release(self) -> Dict[str, str]:
        """Give up what was kept from the rotation before: what is in place is OLD now, the new key NEW's.

        Returns the notes that hold from here on. It may be repeated, and changes nothing if OLD is what is in place.
        """

    def abandon(self) -> None:
        """Forget a new key that lies apart; both generations of the rotation before stay."""

    def install(self, certificate_pem: str) -> None:
        """Complete both generations (the old one as backup), then put the new one in place."""

    def extent(self, *, is_durable: bool) -> Extent:
        """Return how far ``prepare`` and ``install`` of a key that does not lie apart have come.

        Unless it ``is_durable``, the process that has put the new one in place may not have waited for the disk: then
        this call does.
        """

    def switch(self, generation: Generation) -> Generation:
        """Put a generation in place; OLD is in place anyway if no backup was completed, or before ``release``.

        Returns the generation that is in place then: the other one if this one turns out to be damaged, as may happen
        in a store that does not replace its objects atomically.
        """

    def settle(self) -> None:
        """Keep what is in place, remove everything else; afterwards there is nothing to switch to."""

    def is_back(self) -> bool:
        """Return whether NEW is whole, and does not lie in place.

        That is so after a return to OLD, or half of one, that could not be noted in the journal.
        """

    def is_overtaken(self) -> bool:
        """Return whether what is in place is a credential that is neither of the two kept.

        Somebody else has rotated since.
        """

    def adopt(self, certificate: bytes, key: bytes) -> Optional[Generation]:
        """Keep as OLD a certificate and key that somebody else backed up, and as NEW those in place if they differ.

        Returns the generation that can be in place: OLD if no whole pair is there; None if there is nothing to keep.
        """


def opened_when_needed(open_store: Callable[[], CredentialStore]) -> CredentialStore:
    """Return a store that is opened at its first use.

    A fault of the store then fails a job, or is waited out; it does not end the process, which a nucleus starts three
    times at most.
    """
    return cast("CredentialStore", _OpenedWhenNeeded(open_store))


class _OpenedWhenNeeded:
    def __init__(self, open_store: Callable[[], CredentialStore]) -> None:
        self._open = open_store
        self._store: Optional[CredentialStore] = None

    def __getattr__(self, name: str) -> Any:
        if self._store is None:
            self._store = self._open()
        return getattr(self._store, name)
