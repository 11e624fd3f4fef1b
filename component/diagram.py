"""Draws the table as a Mermaid diagram: ``python -m component.diagram docs/component.md``.

Replaces what stands between the two marks on the page.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from .certificate_rotator.machine import ROWS, State

BEGIN = "<!-- machine: begin (generated) -->"
END = "<!-- machine: end -->"


def render() -> str:
    """Return the diagram, one arrow for all events that lead from one state to another by one action."""
    arrows: Dict[Tuple[State, State, str], List[str]] = {}
    for row in ROWS:
        arrows.setdefault((row.state, row.next, row.action.value), []).append(row.event.value)
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> ASKING"]
    for (state, following, action), events in arrows.items():
        lines.append(f"    {state.value} --> {following.value}: {', '.join(events)} / {action}")
    lines += ["    RESTARTING --> CONNECTING: new process", "    RETURNING --> RECONNECTING: new process"]
    lines += ["    RETURNING --> RETRYING: new process", "    RETURNING --> KEEPING: new process", "```"]
    return "\n".join(lines) + "\n"


def main(arguments: Optional[List[str]] = None) -> int:
    """Draw into the page named."""
    (name,) = sys.argv[1:] if arguments is None else arguments
    page = Path(name)
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(f"{BEGIN}\n")
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{render()}{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
