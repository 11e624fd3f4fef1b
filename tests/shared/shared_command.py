"""Commands run in this process, as an operator would give them."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from controller import cli


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


def run_command(arguments: Sequence[str], folder: Path | None = None) -> Outcome:
    """Run certfleet, in that folder where one is given."""
    out, err = io.StringIO(), io.StringIO()
    place = contextlib.nullcontext() if folder is None else contextlib.chdir(folder)
    with place, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(arguments)
    return Outcome(code, out.getvalue(), err.getvalue())
