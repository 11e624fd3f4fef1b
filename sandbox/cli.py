"""``certfleet sandbox`` and ``certfleet demo``: arguments, and what keeps a sandbox running."""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
from argparse import ArgumentParser, Namespace
from datetime import timedelta
from pathlib import Path
from types import FrameType

from rich.console import Console

from controller.durations import parse_duration
from controller.errors import ExitCode

from .clock import SandboxClock
from .fleet_file import load_fleet_file
from .world import World


def add_sandbox_arguments(parser: ArgumentParser) -> None:
    """Add ``sandbox up`` and its arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    up = actions.add_parser("up", help="build a fleet, keep it running until Ctrl-C, write sandbox.env")
    up.add_argument("--fleet", type=Path, required=True, metavar="FILE", help="which devices to build")
    up.add_argument("--env", type=Path, default=Path("sandbox.env"), metavar="FILE", help="default: ./sandbox.env")
    up.add_argument("--folder", type=Path, help="where the world lives (default: a temporary folder)")
    up.add_argument(
        "--ahead",
        type=parse_duration,
        default=timedelta(),
        metavar="DURATION",
        help="set the sandbox's clock ahead, such as 30d",
    )


def run_sandbox(arguments: Namespace) -> int:
    """Bring the world up, print where it is, and wait for SIGINT or SIGTERM."""
    fleet = load_fleet_file(arguments.fleet)
    console = Console(stderr=True, soft_wrap=True)
    stop = threading.Event()

    def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask_to_stop)
    with tempfile.TemporaryDirectory(prefix="certfleet-") as temporary:
        folder = arguments.folder or Path(temporary)
        world = World(fleet, folder, clock=SandboxClock(offset=arguments.ahead))
        try:
            with console.status("building the world"):
                world.start()
                late = world.wait_until_online()
            world.write_environment(arguments.env)
            console.print(f"[green]ready[/]: {world.summary()}")
            for name in late:
                console.print(f"[yellow]not connected[/]: {name}; its log is under {world.folder_of(name)}")
            console.print(f"environment for any AWS client: [bold]set -a; . {arguments.env}; set +a[/]")
            console.print("Ctrl-C ends it.")
            sys.stderr.flush()
            stop.wait()
        finally:
            world.stop()
            arguments.env.unlink(missing_ok=True)
    return int(ExitCode.IN_SYNC)


def add_demo_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of ``demo``."""
    parser.add_argument("--folder", type=Path, help="keep the demo's world there (default: a temporary folder)")


def run_demo(arguments: Namespace) -> int:
    """Show the whole way from drift to in sync."""
    from .demo.story import tell  # noqa: PLC0415 (only the demo needs it)

    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        return tell(arguments.folder)
    with tempfile.TemporaryDirectory(prefix="certfleet-demo-") as folder:
        return tell(Path(folder))
