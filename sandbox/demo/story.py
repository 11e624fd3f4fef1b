"""The demo's story: the same commands that a person would type, in a world of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from git import Actor, Repo
from rich.console import Console
from rich.rule import Rule

from controller.errors import CertfleetError, ExitCode
from sandbox.fleet_file import load_fleet_file
from sandbox.world import World

from .proof import prove

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "desired_state" / "demo"
AUTHOR = Actor("certfleet demo", "demo@example.com")

# Instants in the example that must lie near the present: the field, and how far from now.
_RELATIVE_INSTANTS = {
    "rotateIssuedBefore": timedelta(days=-30),
    "issuedBefore": timedelta(days=-45),
    "issuedAfter": timedelta(days=-62),
    "deadline": timedelta(days=7),
    "until": timedelta(days=60),
    "expires": timedelta(days=60),
}


class DemoError(CertfleetError):
    """The demo did not end as it must."""


def tell(folder: Path) -> int:
    """Run the whole demo in ``folder``; returns the exit code."""
    # Shared by this process and the commands it runs, so that lines stay in order.
    console = Console(file=sys.stdout, soft_wrap=True)
    began = time.monotonic()
    repository = _commit_desired_state(folder / "repository")
    world = World(load_fleet_file(HERE / "fleet.yaml"), folder / "world")
    try:
        with console.status("Building a fleet, and a laptop-sized AWS IoT for it"):
            world.start()
            late = world.wait_until_online()
        if late:
            raise DemoError(f"these devices did not connect: {', '.join(late)}", f"Read the logs under {folder}.")
        console.print(f"[bold]A fleet on this machine[/]: {world.summary()}\n")
        _Commands(console, world, repository, folder).run_all()
        _show_proof(console, world)
    finally:
        world.stop()
    console.print(f"\nThat took {time.monotonic() - began:.0f} seconds. Next: README.md, “Your fleet in 15 minutes”.")
    return int(ExitCode.IN_SYNC)


class _Commands:
    """The commands of the story, each with the exit code that it must have."""

    def __init__(self, console: Console, world: World, repository: Path, folder: Path) -> None:
        self._console = console
        self._world = world
        self._repository = repository
        self._inventory = ("--inventory", str(folder / "inventory.sqlite"))

    def run_all(self) -> None:
        """From the documents to a fleet in sync."""
        self._run("The documents in git are checked before anything else", ["validate"], ExitCode.IN_SYNC)
        self._run("Where the fleet departs from it, and why", ["drift", *self._inventory], ExitCode.CHANGES)
        self._run("The plan shows what certfleet would do about it", ["plan", *self._inventory], ExitCode.CHANGES)
        self._run("Do it: jobs, wave by wave", ["apply", "--wait", *self._inventory], ExitCode.IN_SYNC)
        self._run("The devices that are left need a person", ["drift", *self._inventory], ExitCode.CHANGES)
        self._run("And nothing is left to do", ["plan", *self._inventory], ExitCode.IN_SYNC)

    def _run(self, title: str, arguments: Sequence[str], expected: ExitCode) -> None:
        self._console.print(Rule(f"[bold]{title}", align="left"))
        self._console.print(f"[cyan]$ certfleet {' '.join(arguments[: _shown(arguments)])}[/]")
        self._console.file.flush()
        command = [sys.executable, "-m", "controller.cli", *arguments]
        environment = os.environ | self._world.environment()
        found = subprocess.run(command, cwd=self._repository, env=environment, check=False).returncode  # noqa: S603 (our own program)
        self._console.print(f"[dim]exit code {found}[/]\n")
        if found != expected:
            raise DemoError(f"'certfleet {arguments[0]}' ended with {found}, expected {int(expected)}")


def _shown(arguments: Sequence[str]) -> int:
    """Return how many arguments a reader needs to see: not where this demo keeps its inventory."""
    return arguments.index("--inventory") if "--inventory" in arguments else len(arguments)


def _show_proof(console: Console, world: World) -> None:
    console.print(Rule("[bold]Proof, asked of the devices, the registry and the endpoint", align="left"))
    claims = list(prove(world))
    for claim in claims:
        mark = "[green]✓[/]" if claim.holds else "[red]✗[/]"
        console.print(f"{mark} {claim.count} rotated devices {claim.sentence}")
        for name in claim.broken:
            console.print(f"    [red]not[/] {name}")
    if not all(claim.holds for claim in claims):
        raise DemoError("the fleet is not as it was promised to be: see above")


def _commit_desired_state(repository: Path) -> Path:
    """Return a git repository with the example's documents, their dates moved to where they lie from today."""
    target = repository / "desired_state" / "demo"
    if not EXAMPLE.is_dir():
        raise DemoError(
            f"the example's documents are not at {EXAMPLE}", "Run the demo from a checkout of certfleet: make demo."
        )
    shutil.copytree(EXAMPLE, target)
    now = datetime.now().astimezone()
    for path in sorted(target.glob("*.yaml")):
        path.write_text(_with_dates_from(path.read_text(encoding="utf-8"), now), encoding="utf-8")
    with Repo.init(repository, initial_branch="main") as repo:
        repo.index.add([str(path.relative_to(repository)) for path in sorted(target.rglob("*")) if path.is_file()])
        repo.index.commit("Decide how old a certificate may get", author=AUTHOR, committer=AUTHOR)
    return repository


def _with_dates_from(text: str, now: datetime) -> str:
    for field, offset in _RELATIVE_INSTANTS.items():
        day = (now + offset).date().isoformat()
        text = re.sub(rf"(\b{field}: *\"?)\d{{4}}-\d{{2}}-\d{{2}}", rf"\g<1>{day}", text)
    return text
