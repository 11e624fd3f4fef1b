"""Paging over anything sorted, with tokens that stay valid while the list changes.

A token is the key of the last item sent: a page starts behind it, wherever that now is. Tokens are
opaque to clients; a damaged one is refused, as AWS does.
"""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from .errors import invalid

T = TypeVar("T")
MAX_PAGE = 250  # AWS IoT's page size, default and maximum


class SortedNames:
    """A sorted set of strings that is cheap to fill in bulk: sorting waits until somebody reads."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._sorted: list[str] | None = []

    def add(self, name: str) -> None:
        """Add a name; adding it twice changes nothing."""
        if name not in self._names:
            self._names.add(name)
            self._sorted = None

    def discard(self, name: str) -> None:
        """Take a name out if it is there."""
        if name in self._names:
            self._names.discard(name)
            self._sorted = None

    def in_order(self) -> Sequence[str]:
        """Return all names, ascending."""
        if self._sorted is None:
            self._sorted = sorted(self._names)
        return self._sorted

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __len__(self) -> int:
        return len(self._names)


def page_of(
    names: Sequence[str], request: Mapping[str, Any], *, size: str = "maxResults", marker: str = "nextToken"
) -> tuple[Sequence[str], str | None]:
    """Return the page of ascending ``names`` that the request asks for, and the token of the next one.

    ``size`` and ``marker`` are what this API calls the two parameters.
    """
    start = bisect_right(names, _decode(request[marker])) if request.get(marker) else 0
    end = start + int(request.get(size) or MAX_PAGE)
    page = names[start:end]
    return page, _encode(page[-1]) if page and end < len(names) else None


def page(
    items: Iterable[T],
    key: Callable[[T], str],
    request: Mapping[str, Any],
    *,
    size: str = "maxResults",
    marker: str = "nextToken",
) -> tuple[list[T], str | None]:
    """Like ``page_of`` for items that are few or already filtered."""
    by_key = {key(item): item for item in items}
    keys, following = page_of(sorted(by_key), request, size=size, marker=marker)
    return [by_key[k] for k in keys], following


def answer(member: str, items: Sequence[Any], following: str | None, marker: str = "nextToken") -> dict[str, Any]:
    """Return the answer of a list call."""
    return {member: list(items), **({marker: following} if following else {})}


def _encode(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _decode(token: str) -> str:
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise invalid(f"the token {token!r} was not issued by this API") from None
