"""The one error of this package."""

from __future__ import annotations


class ProtocolError(ValueError):
    """A message, document or name departs from the protocol; the text shows where and what is allowed."""
