"""``docs/nuclei.md``, made from the traits: ``python -m sandbox.edge.nucleus.traits_page > docs/nuclei.md``."""

from __future__ import annotations

import sys
from typing import Any

from .traits import TABLE, Profile, Trait

_TOP = """\
# The nuclei

This page lists how AWS IoT Greengrass nuclei behave towards a component, as far as certificate rotation is concerned.
The sandbox's stand-in for a nucleus behaves in the same way. The last column gives the evidence:

- *Seen*: on the real nucleus (classic 2.18.2; lite 2.6.0, released 2026-06-19, and its main branch at 326e992b of
  2026-07-23; under systemd, see [real nuclei](real-nuclei.md)).
- *Read*: in the public source.
- *Assumed*: neither seen nor read. The stand-in then does what is harder to live with.
- *Here*: in the stand-in, if it differs. An hour is an hour of the sandbox's clock.

This page is generated from `sandbox/edge/nucleus/traits.py`, the table that the stand-in follows.

| behaviour | classic | lite 2.6 | lite main | how it is known |
|---|---|---|---|---|
"""


def page() -> str:
    """Return the text of ``docs/nuclei.md``."""
    return _TOP + "".join(_row(trait) for trait in TABLE.values())


def _row(trait: Trait[Any]) -> str:
    values = " | ".join(_words(trait.on(profile)) for profile in Profile)
    return f"| {trait.rule} | {values} | {trait.known} |\n"


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, tuple):
        return ", ".join(f"`{part}`" for part in value) or "none"
    return "no limit" if value is None else str(value)


if __name__ == "__main__":
    sys.stdout.write(page())
