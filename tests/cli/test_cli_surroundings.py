"""Files, locales, streams, signals and accounts of whatever machine certfleet runs on."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import stat
import subprocess
import sys
import threading
import time
from argparse import Namespace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from shared_documents import fleet, policy
from shared_fault_proxy import FaultProxy, stall

from controller import cli
from controller.commands.context import Context
from controller.commands.pipeline import default_inventory, each_fleet, observe
from controller.commands.progress import TimeLimit, TimeLimitError
from controller.commands.streams import PATIENCE_AFTER_INTERRUPT, write_file
from controller.errors import CertfleetError, ExitCode
from controller.fleet import ActAs
from controller.reconcile.values import DesiredState, Fleet, FleetState, Source

ROOT = Path(__file__).parents[2]
DOCUMENTS = fleet() + policy("line-a", demands={})
BROKEN = DOCUMENTS.replace("90d", "ninety")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "desired_state").mkdir()
    (tmp_path / "desired_state" / "factory.yaml").write_text(DOCUMENTS)
    return tmp_path


@pytest.fixture
def start(folder):
    """Start a command as a process of its own; ``before`` is Python that runs in it first."""

    def start(command, before=None, **environment):
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTHON", "LC_", "LANG"))
        }
        clean |= {"PYTHONPATH": str(ROOT), "AWS_EC2_METADATA_DISABLED": "true", **environment}
        clean = {name: value for name, value in clean.items() if value is not None}
        certfleet = f"{sys.executable} -m controller.cli {command}"
        shell = ["bash", "-c", certfleet if set(command) & set("|;") else f"exec {certfleet}"]
        program = f"{before}\nimport sys\nfrom controller import cli\nsys.exit(cli.main())"
        return subprocess.Popen(
            shell if before is None else [sys.executable, "-c", program, *command.split()],
            cwd=folder,
            env=clean,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return start


@pytest.fixture
def run(start):
    """Run a command to its end: exit code, output and messages, as bytes."""

    def run(command, **environment):
        process = start(command, **environment)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    return run


# where output goes


def test_output_through_a_link_reaches_what_it_points_to(tmp_path):
    target, link = tmp_path / "store" / "report", tmp_path / "link"
    target.parent.mkdir()
    for before in (None, "old"):
        link.symlink_to(target)
        if before:
            target.write_text(before)
        write_file(link, "new")
        assert link.is_symlink()
        assert target.read_text() == "new"
        link.unlink()


def test_output_into_a_pipe_is_read_at_its_other_end(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_file(pipe, "new")
    reader.join()
    assert read == ["new"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_output_on_a_terminal_is_shown_there():
    ours, theirs = pty.openpty()
    write_file(Path(os.ttyname(theirs)), "new")
    assert os.read(ours, 10) == b"new"
    os.close(ours)
    os.close(theirs)


def test_output_keeps_the_mode_of_the_file_and_gives_a_new_one_what_the_shell_would(tmp_path):
    private, new = tmp_path / "private", tmp_path / "new"
    private.touch(0o600)
    before = os.umask(0o027)
    try:
        write_file(private, "x")
        write_file(new, "x")
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (private, new)] == [0o600, 0o640]


@pytest.mark.parametrize("where", ["/dev/fd/1", "/dev/stdout", "/proc/self/fd/1"])
@pytest.mark.parametrize("how", ["| cat", "> out; cat out"])
def test_output_to_the_standard_output_by_name(run, folder, where, how):
    code, out, _ = run(f"validate --format json --output {where} {how}")
    assert code == 0
    assert b'"valid": true' in out
    assert sorted(path.name for path in folder.iterdir()) in (["desired_state"], ["desired_state", "out"])


def test_output_to_the_null_device_is_gone_and_the_device_is_not(run):
    assert run("validate --format json --output /dev/null")[0] == 0
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_full_device_is_an_error_with_a_remedy(run):
    for command in (
        "validate --format json > /dev/full",
        "validate --format json --output /dev/full",
        "--help > /dev/full",
    ):
        code, _, err = run(command)
        assert (code, b"Traceback" in err) == (1, False), err
        assert b"No space left on device" in err
        assert b"\n\xe2\x86\x92 " in err


def test_a_closed_output_is_an_error_and_a_file_needs_none(run):
    code, _, err = run("validate >&-")
    assert code == 1
    assert b"the standard output cannot be written" in err
    assert run("validate --format json --output report.json >&-")[0] == 0


def test_a_folder_in_place_of_the_file_is_an_error(tmp_path):
    with pytest.raises(CertfleetError, match="cannot be written: Is a directory"):
        write_file(tmp_path, "new")


# which characters


@pytest.mark.parametrize(
    "locale",
    [
        {"PYTHONIOENCODING": "cp1252"},
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "POSIX"},
    ],
    ids=str,
)
def test_text_is_readable_in_any_locale(run, folder, locale):
    (folder / "desired_state" / "factory.yaml").write_text(BROKEN)
    code, _, err = run("validate", **locale)
    assert code == 1
    assert b"Traceback" not in err
    assert b"\n-> " in err or "\n→ ".encode() in err


def test_what_machines_read_is_utf_8_everywhere(run, folder):
    (folder / "desired_state" / "factory.yaml").write_text(BROKEN)
    code, out, err = run("validate --format markdown", PYTHONIOENCODING="cp1252")
    assert (code, err) == (1, b"")
    assert "❌" in out.decode("utf-8")


def test_a_folder_whose_name_is_no_text_is_named_all_the_same(run, folder):
    code, _, err = run("validate --desired-state $'no\\xfftext'")
    assert code == 1
    assert b"Traceback" not in err
    assert b"no\\udcfftext" in err or b"no\xfftext" in err


def test_no_message_gives_a_terminal_or_a_runner_a_command(capsys):
    error = CertfleetError("first\n::error::second\n  ##[group]third\x1b[2J", "do\n::add-mask::this")
    cli._print_error(error, sys.stderr, no_color=True)
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert not [line for line in err.splitlines() if line.lstrip().startswith(("::", "##["))]


# who runs it, and where


def test_a_user_without_a_home_is_told_what_to_name(monkeypatch):
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(CertfleetError, match="no home") as raised:
        default_inventory(SimpleNamespace(account="1", region="r"))
    assert "--inventory" in raised.value.remedy


CREDENTIALS = {
    "a token file that is missing": {
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/r",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere/token",
    },
    "a helper that is missing": {"AWS_CONFIG_FILE": "config"},
    "a profile file that is none": {"AWS_CONFIG_FILE": "rubbish", "AWS_PROFILE": "x"},
    "an endpoint that is not an address": {
        "AWS_ENDPOINT_URL": "not an address",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
    },
    "a bundle of CAs that is missing": {
        "AWS_CA_BUNDLE": "/nowhere/ca.pem",
        "AWS_ENDPOINT_URL": "https://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
    },
    "a proxy that is not an address": {
        "HTTPS_PROXY": "::::",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
    },
}


@pytest.mark.parametrize("environment", CREDENTIALS.values(), ids=CREDENTIALS)
def test_what_is_wrong_with_the_surroundings_of_aws_is_told_with_a_remedy(run, folder, environment):
    (folder / "config").write_text("[default]\ncredential_process = /nowhere/helper\n")
    (folder / "rubbish").write_bytes(b"[[[\xff\x00")
    code, out, err = run("drift --inventory i.sqlite", HOME=str(folder), **environment)
    assert (code, out) == (1, b"")
    assert b"Traceback" not in err, err.decode()
    assert b"certfleet: error: " in err
    assert "\n→ ".encode() in err


def git(folder, *arguments):
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(("git", *identity, *arguments), cwd=folder, check=True, capture_output=True)


def test_a_repository_of_another_object_format_is_named(run, folder):
    git(folder, "init", "-q", "--object-format=sha256")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "x")
    for command in ("validate", "validate --ref HEAD"):
        code, _, err = run(command)
        assert code == 1
        assert b"sha256" in err
        assert b"Traceback" not in err


def test_a_partial_clone_whose_remote_is_gone_says_what_is_missing(run, folder):
    origin = folder / "origin"
    origin.mkdir()
    (origin / "desired_state").mkdir()
    (origin / "desired_state" / "factory.yaml").write_text(DOCUMENTS)
    git(origin, "init", "-q")
    git(origin, "config", "uploadpack.allowFilter", "true")
    git(origin, "add", "-A")
    git(origin, "commit", "-qm", "x")
    git(folder, "clone", "-q", "--no-checkout", "--filter=blob:none", f"file://{origin}", "clone")
    origin.rename(folder / "gone")
    code, _, err = run("validate --desired-state clone/desired_state --ref HEAD")
    assert code == 1
    assert b"Traceback" not in err, err.decode()
    assert b"git fetch" in err


# what nobody thought of


def test_a_defect_says_what_to_report_and_hides_nothing(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)

    def broken(*_arguments, **_more):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("controller.commands.validate.load_desired", broken)
    assert cli.main(["validate"]) == 1
    err = capsys.readouterr().err
    assert "ZeroDivisionError: by zero" in err
    assert 'controller/commands/validate.py", line' in err, "the trace is shown"
    assert "report" in err
    assert "certfleet --version" in err


def test_a_defect_that_one_fleet_meets_does_not_stop_the_others(capsys):
    fleets = tuple(SimpleNamespace(fleet=SimpleNamespace(name=name, source=None)) for name in ("a", "b"))
    results, failures = each_fleet(fleets, lambda desired: 1 / (desired.fleet.name != "a"))
    assert results == (1.0,)
    assert [(failure.fleet, failure.exit_code) for failure in failures] == [("a", ExitCode.ERROR)]
    assert "ZeroDivisionError" in failures[0].message
    assert "Traceback" in capsys.readouterr().err


# many fleets


def named(*names):
    return tuple(SimpleNamespace(fleet=SimpleNamespace(name=name, source=None)) for name in names)


def test_fleets_are_read_side_by_side_and_reported_in_their_order():
    together = threading.Barrier(50, timeout=60)
    results, failures = each_fleet(
        named(*map(str, range(50))), lambda desired: (together.wait(), desired.fleet.name)[1]
    )
    assert (results, failures) == (tuple(map(str, range(50))), ())


def test_one_that_is_slow_or_broken_holds_up_none():
    others = threading.Event()

    def look(desired):
        if desired.fleet.name == "slow":
            assert others.wait(60), "the others have not been looked at"
        if desired.fleet.name == "broken":
            raise CertfleetError("no")
        if desired.fleet.name == "last":
            others.set()
        return desired.fleet.name

    results, failures = each_fleet(named("slow", "broken", "good", "last"), look)
    assert (results, [failure.fleet for failure in failures]) == (("slow", "good", "last"), ["broken"])


def test_a_time_limit_is_of_the_whole_run_however_late_a_fleet_has_its_turn(tmp_path, monkeypatch):
    """More fleets than are read at once: the last begin when the first have ended."""
    passed = [0.0]
    monkeypatch.setattr(TimeLimit.__init__, "__defaults__", (lambda: passed[0],))
    given = {"inventory": tmp_path / "i.sqlite", "lock_timeout": timedelta(), "time_limit": timedelta(minutes=75)}
    context = Context(Namespace(**given), io.StringIO(), io.StringIO())

    def look(_session, _inventory, _desired, now, progress, *, only):
        progress("things", 1, 10)
        passed[0] += 40 * 60
        progress("things", 5, 10)
        return FleetState(now)

    def ends(act_as):
        fleet = Fleet("factory", "123456789012", "eu-west-1", Source("factory.yaml", 1))
        with observe(context, DesiredState(fleet, {}, ()), act_as, look=look):
            pass

    ends(ActAs.READER)
    with pytest.raises(TimeLimitError, match="5 of 10 things, the rest of which takes about 50 minutes"):
        ends(ActAs.READER)
    ends(ActAs.WRITER)  # apply looks anew for each wave, hours later


def test_an_interrupt_keeps_what_has_been_read_and_names_the_rest():
    def look(desired):
        if desired.fleet.name == "second":
            raise KeyboardInterrupt
        return desired.fleet.name

    for at_once in (1, 3):
        results, failures = each_fleet(named("first", "second", "third"), look, at_once=at_once)
        assert (results, [failure.fleet for failure in failures]) == (("first",), ["second", "third"])


# interrupts


ENDLESS = "from controller.commands import streams; streams.PATIENCE_AFTER_INTERRUPT = 1e6"  # nobody's clock decides
DEAF = """
import time
from controller.commands import validate
def deaf(_context):
    while True:
        try:
            print('begun', flush=True)
            time.sleep(1e6)
        except KeyboardInterrupt:
            pass
validate.run = deaf
"""


@pytest.mark.parametrize(
    "operation", ["GetCallerIdentity", "ListThingsInThingGroup"], ids=["on the main thread", "on a thread"]
)
def test_an_interrupt_ends_a_run_whose_calls_stall(start, factory, operation):
    with FaultProxy(factory.cloud.endpoint_url, {operation: stall}) as proxy:
        environment = factory.cloud.environment() | {"AWS_ENDPOINT_URL": proxy.url, "CERTFLEET_QUOTA_FACTOR": "1000"}
        process = start(f"drift --inventory i.sqlite --desired-state {factory.desired}", ENDLESS, **environment)
        assert proxy.wait_for(operation, 200)
        interrupted = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=200)  # the call itself would be held until the proxy is closed
    sys.stdout.write(f"{operation} held back: ended {time.monotonic() - interrupted:.2f} s after the interrupt\n")
    assert process.returncode == 1
    assert b"nothing is lost" in err


def test_a_run_that_an_interrupt_cannot_end_is_ended_within_two_seconds_and_by_a_second_one_at_once(start):
    assert PATIENCE_AFTER_INTERRUPT < 2
    for first, interrupts in (("", 1), (ENDLESS, 2)):
        process = start("validate", f"{first}\n{DEAF}")
        for _ in range(interrupts):
            assert process.stdout.readline() == b"begun\n"
            interrupted = time.monotonic()
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=200)
        sys.stdout.write(f"deaf to {interrupts}: ended {time.monotonic() - interrupted:.2f} s after the last\n")
        assert process.returncode == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_apply_that_is_asked_to_end_while_a_call_stalls_writes_its_report(start, factory, folder, number):
    factory.device("old", age=200)
    with FaultProxy(factory.cloud.endpoint_url, {"ListThingGroups": stall}) as proxy:  # the job is made by then
        environment = factory.cloud.environment() | {"AWS_ENDPOINT_URL": proxy.url, "CERTFLEET_QUOTA_FACTOR": "1000"}
        files = "--format json --output told.json --needs-person person.json --inventory i.sqlite"
        process = start(f"apply --wait {files} --desired-state {factory.desired}", **environment)
        assert proxy.wait_for("ListThingGroups", 100)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"nothing is lost" in err
    told = json.loads((folder / "told.json").read_text())
    assert told["fleets"][0]["stopped"]["message"].startswith("interrupted")
    assert [job["job_id"] for job in told["fleets"][0]["jobs"]] == factory.jobs()
    assert (folder / "person.json").exists()


def test_a_second_interrupt_ends_it_at_once(monkeypatch):
    ended, timers = [], []
    guard = cli.Interrupts(end=ended.append, later=lambda seconds, work: timers.append((seconds, work)))
    with pytest.raises(KeyboardInterrupt):
        guard(signal.SIGINT, None)
    assert ended == []
    guard(signal.SIGINT, None)
    assert ended == [1]
    ((seconds, work),) = timers
    assert seconds < 2
    work()
    assert ended == [1, 1]
