"""One fleet on a virtual clock, the git that says how it must be, and the real commands against it."""

from __future__ import annotations

import functools
import io
import itertools
import json
import shutil
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha1
from importlib import import_module
from pathlib import Path
from typing import Any

from interleaving_aws import Aws, Endless, Inline
from interleaving_plant import Backend, Plant

import controller.desired.loading
import controller.fleet.work
import sandbox.aws.cloud
from controller import cli
from controller.commands.context import Context
from controller.desired.bundle import Bundle, BundledFile, write_bundle
from controller.errors import CertfleetError
from controller.fleet.aws import AwsSession
from protocol.algorithms import KeyType
from protocol.names import AWS_IOT_AUTHORITY
from sandbox.aws import Cloud
from sandbox.bus import Bus
from sandbox.clock import SandboxClock

ACCOUNT, REGION = "123456789012", "eu-west-1"
START = datetime(2026, 11, 23, 12, tzinfo=UTC)
ARNS = [
    f"arn:aws:acm-pca:{REGION}:{ACCOUNT}:certificate-authority/5f0c9a52-3d0f-4f6f-9a53-b1d1e6a9c00{n}" for n in (1, 2)
]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
YEAR = 365 * DAY


def rule(**demands: Any) -> dict[str, Any]:
    return {"maxAge": "90d", "keyType": "ECDSA-P256", "authority": AWS_IOT_AUTHORITY, **demands}


def policy(group: str = "line-a", certificate: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """A policy's spec without jitter and with short soaks: what a test says is what counts."""
    rollout = {"waves": ["1", "100%"], "soak": "0s", "maximumPerMinute": 1000, "retries": 0, **spec.pop("rollout", {})}
    schedule = {"jitterPercent": 0, **spec.pop("schedule", {})}
    return {"thingGroup": group, "certificate": certificate or rule(), "rollout": rollout, "schedule": schedule, **spec}


REAL_SESSION = AwsSession.__init__.__kwdefaults__["new_session"]


@dataclass
class Documents:
    """What a commit holds. Values are the specs, by name."""

    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    waivers: dict[str, dict[str, Any]] = field(default_factory=dict)
    incidents: dict[str, dict[str, Any]] = field(default_factory=dict)
    quarantines: dict[str, dict[str, Any]] = field(default_factory=dict)
    arn: str = ARNS[0]  # of plant-ca
    guardrails: dict[str, int] = field(default_factory=lambda: {"maxChangePercent": 100, "minExisting": 4})

    def text(self) -> str:
        ca = {"type": "PrivateCA", "arn": self.arn, "signingAlgorithm": "SHA256WITHECDSA", "validity": "365d"}
        fleet = {"account": ACCOUNT, "region": REGION, "guardrails": self.guardrails}
        found = [("Fleet", "factory", fleet), ("CertificateAuthority", "plant-ca", ca)]
        for kind, specs in (
            ("RotationPolicy", self.policies),
            ("Waiver", self.waivers),
            ("Incident", self.incidents),
            ("Quarantine", self.quarantines),
        ):
            found += [(kind, name, spec) for name, spec in specs.items()]
        return "\n---\n".join(
            json.dumps({"apiVersion": "certfleet/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
            for kind, name, spec in found
        )

    def copy(self) -> Documents:
        return Documents(**json.loads(json.dumps(self.__dict__)))


@dataclass(frozen=True)
class Commit:
    """One state of git; ``number`` is its place in the history."""

    number: int
    hash: str
    at: datetime
    documents: Documents
    bundle: Path


@dataclass(frozen=True)
class Outcome:
    """What one run of a command did."""

    command: str
    commit: Commit
    code: int
    out: str
    err: str
    crash: str | None = None  # a traceback, where it raised what it must not

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Run:
    """One run of a command that is about to be made; ``Judge`` knows by it on whose behalf AWS is called."""

    def __init__(self, command: str, commit: Commit, arguments: list[str]) -> None:
        self.command, self.commit, self.arguments = command, commit, arguments
        self.calls = 0  # of AWS's APIs
        self.started: Counter[str] = Counter()  # devices, by policy
        self.overrides = frozenset(b for a, b in itertools.pairwise(arguments) if a == "--override")
        self.plan_file = next((Path(b) for a, b in itertools.pairwise(arguments) if a == "--plan"), None)


class World:
    """Make it, change it, run commands; ``close`` removes its files."""

    def __init__(self, documents: Documents) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="certfleet-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.clock = SandboxClock(frozen_at=START)
        self.cloud = Cloud(ACCOUNT, REGION, self.clock, Bus(), _keys_folder())
        self.aws = Aws(self.cloud)
        for arn in ARNS:
            self.cloud.seed.private_ca(arn, common_name=f"Plant {arn[-1]}")
        for group in ("line-a", "line-b", "foreign"):
            self.cloud.seed.group(group)
        self.cloud.services["iot"].call(
            "CreateJobTemplate",
            {
                "jobTemplateId": "AWSLabsCertificateRotator",
                "document": '{"operation":"ROTATE_CERTIFICATE"}',
                "description": "certfleet: rotate by hand",
            },
        )
        self.plant = Plant(
            self.cloud, Backend({AWS_IOT_AUTHORITY: AWS_IOT_AUTHORITY, "plant-ca": ARNS[0]}, dict.fromkeys(ARNS, YEAR))
        )
        self.aws.parameter = self._parameter
        self.history: list[Commit] = []
        self.plans: list[tuple[Path, Commit]] = []  # that somebody has kept
        self.judge: Any = None  # who watches, once there is one
        self.runs = 0
        self.running = 0  # of them, those that have not ended
        self.by_hand = 0
        self._runs: list[None] = []  # under way
        self.on_run: list[Callable[[Run], None]] = []
        self.after_run: list[Callable[[Run, Outcome], None]] = []
        self.commit(documents)

    def close(self) -> None:
        self.cloud.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def add_stray(self) -> None:
        """A device that no policy governs."""
        self.plant.add("stray", "foreign", age=100 * DAY, key=KeyType.ECDSA_P256)

    # git

    @property
    def head(self) -> Commit:
        return self.history[-1]

    @property
    def documents(self) -> Documents:
        """A copy of what is in git, to be changed and committed."""
        return self.head.documents.copy()

    def commit(self, documents: Documents) -> Commit:
        number = len(self.history)
        name = sha1(f"commit {number}".encode(), usedforsecurity=False).hexdigest()
        file = BundledFile("desired_state/factory.yaml", "factory.yaml", documents.text())
        path = self.folder / f"{number}.bundle"
        self.clock.advance(timedelta(seconds=1))  # no two commits are of one second
        at = self.now()
        path.write_bytes(write_bundle(Bundle("git.example/fleet", name, at, at, (file,))))
        self.history.append(Commit(number, name, at, documents.copy(), path))
        return self.head

    def change(self, policy_name: str, **spec: Any) -> Commit:
        """Commit a change of fields of one policy; a field that becomes None is taken out."""
        documents = self.documents
        merged = documents.policies[policy_name] | spec
        documents.policies[policy_name] = {name: value for name, value in merged.items() if value is not None}
        return self.commit(documents)

    def revert(self) -> Commit:
        """``git revert HEAD``: a new commit with what was there before the last."""
        return self.commit(self.history[-2].documents)

    # time

    def now(self) -> datetime:
        return self.clock.now()

    def pass_time(self, **span: float) -> None:
        """Time passes, and nobody does anything; in minutes the backend gets round to what it has to remove."""
        if timedelta(**span) >= timedelta(minutes=1):
            self.plant.remove_replaced()
        self.clock.advance(timedelta(**span))

    def answer(self, *names: str) -> None:
        """These devices do what they are asked; all of them, where none is named."""
        for name in names or sorted(self.plant.holds):
            self.plant.answer(name)

    # commands

    def run(self, command: str, *arguments: str, commit: Commit | None = None, cache: str = "ci") -> Outcome:
        """Run a command in this process as of the world's clock, at a commit (HEAD), with a cache of that name."""
        commit = commit or self.head
        given = [command, "--bundle", str(commit.bundle), "--inventory", str(self.cache(cache)), *arguments]
        run = Run(command, commit, given)
        self.runs += 1
        for listener in self.on_run:
            listener(run)
        _RUNNING.run = run
        self.running += 1
        try:
            outcome = self._run(run)
        finally:
            self.running -= 1
            _RUNNING.run = None
        for listener in self.after_run:
            listener(run, outcome)
        return outcome

    def current_run(self) -> Run | None:
        """On whose behalf AWS is called on this thread; None where no command does."""
        return getattr(_RUNNING, "run", None)

    def _run(self, run: Run) -> Outcome:
        out, err = io.StringIO(), io.StringIO()
        code, crash = 1, None
        try:
            with self.as_aws():
                arguments = _parser(run.command).parse_args(run.arguments)
                module = import_module(f"controller.commands.{run.command}")
                context = _Context(
                    arguments, out, err, environment={}, sleep=self._sleep, monotonic=lambda: self.now().timestamp()
                )
                context.clock_of_world(self.clock)
                code = int(module.run(context))
        except CertfleetError as error:
            code = int(error.exit_code)
            err.write(f"error: {error}\n→ {error.remedy}\n")
        except Endless:
            err.write("stopped from outside: it did not end\n")
        except Exception:  # noqa: BLE001 - whatever it is, it is told as a fault of the command
            crash = "".join(traceback.format_exc(limit=-2))
        return Outcome(run.command, run.commit, code, out.getvalue(), err.getvalue(), crash)

    def apply(self, *arguments: str, **settings: Any) -> Outcome:
        return self.run("apply", "--format", "json", *arguments, **settings)

    def plan(self, *arguments: str, **settings: Any) -> Outcome:
        return self.run("plan", "--format", "json", *arguments, **settings)

    def cache(self, name: str) -> Path:
        """The inventory of that name; one that nobody has used yet is cold."""
        return self.folder / f"{name}.sqlite"

    def forget(self, name: str = "ci") -> None:
        """Delete a cache."""
        for path in self.folder.glob(f"{name}.sqlite*"):
            path.unlink()

    def with_cache(self, kind: str) -> str:
        """The name of a cache of that kind, as a run would find it: old is as CI's was when it was asked for first."""
        if kind not in {"ci", "function"}:
            self.forget(kind)
        if kind == "old" and not self.cache("aside").exists():
            self._copy_cache("ci", "aside")
        if kind in {"old", "damaged"}:
            self._copy_cache("aside" if kind == "old" else "ci", kind)
        if kind == "damaged" and self.cache(kind).exists():
            self.cache(kind).write_bytes(self.cache(kind).read_bytes()[:-5000])
        if kind == "foreign":
            shutil.copy(_foreign_cache(), self.cache(kind))
        return kind

    def _copy_cache(self, source: str, target: str) -> None:
        if self.cache(source).exists():
            shutil.copy(self.cache(source), self.cache(target))

    @contextmanager
    def as_aws(self) -> Iterator[None]:
        """Sessions that are made meanwhile reach this world; the last of two runs at once puts the real one back."""
        defaults = AwsSession.__init__.__kwdefaults__
        self._runs.append(None)
        defaults["new_session"] = self.aws.session
        try:
            yield
        finally:
            self._runs.pop()
            if not self._runs:
                defaults["new_session"] = REAL_SESSION

    def _parameter(self, name: str) -> str | None:
        backend = self.plant.backend
        is_ours = name.startswith("/certfleet/") and backend.is_published
        return backend.describes_itself() if is_ours else None

    def _sleep(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))
        self.answer()

    # people

    def start_by_hand(self, *names: str) -> str:
        """A job as a person starts it from the template."""
        self.by_hand += 1
        job_id = f"by-hand-{self.by_hand}"
        site = self.cloud.site
        request = {
            "jobId": job_id,
            "targets": [site.arn(f"thing/{name}") for name in names],
            "jobTemplateArn": site.arn("jobtemplate/AWSLabsCertificateRotator"),
        }
        self.cloud.services["iot"].call("CreateJob", request)
        return job_id

    def jobs(self) -> dict[str, Any]:
        """Every job by id, as the engine has it."""
        return self.cloud.jobs._engine.jobs

    def describe(self) -> str:
        """The world in lines, for whoever reads a failure."""
        lines = [f"now {self.now():%Y-%m-%d %H:%M:%S}, commit {self.head.number}"]
        for job in self.jobs().values():
            told = ", ".join(f"{e.thing} {e.status}" for e in job.executions.values())
            lines.append(f"  {job.job_id} {job.status} ({told})")
        for name, held in self.plant.holds.items():
            told = " + ".join(f"{h.key_type} of {h.authority[-4:]} from {h.not_before:%m-%d %H:%M}" for h in held)
            state = " offline" if name in self.plant.offline else ""
            lines.append(f"  {name}{state}: {told}")
        return "\n".join(lines)


_RUNNING = threading.local()


class _Context(Context):
    """A context whose present is the world's."""

    def clock_of_world(self, clock: SandboxClock) -> None:
        object.__setattr__(self, "_world", clock)

    def present(self) -> datetime:
        return self._world.now()


@functools.cache
def _parser(command: str) -> Any:
    return cli.build_parser(command)


@functools.cache
def _foreign_cache() -> Path:
    """A cache that was made of another account's devices, which have the same names."""
    world = World(Documents({"line-a": policy()}))
    devices(world, 4, age=90 * DAY)
    world.apply()
    kept = _keys_folder() / "foreign.sqlite"
    shutil.copy(world.cache("ci"), kept)
    world.close()
    return kept


@functools.cache
def _keys_folder() -> Path:
    """Keys are made once for all worlds."""
    return Path(tempfile.mkdtemp(prefix="certfleet-keys-"))


INSTEAD = (
    (controller.desired.loading, "parse_documents", functools.cache(controller.desired.loading.parse_documents)),
    (sandbox.aws.cloud, "aws_iot_issuer", functools.cache(sandbox.aws.cloud.aws_iot_issuer)),
    (controller.fleet.work, "ThreadPoolExecutor", Inline),
)
"""What histories do without: documents and keys are read once, threads that only wait are left out."""


def devices(world: World, count: int, group: str = "line-a", *, age: timedelta = 100 * DAY, **more: Any) -> list[str]:
    """That many devices alike, named by their group."""
    key = more.pop("key", KeyType.ECDSA_P256)
    names = [f"{group}-{number}" for number in range(1, count + 1)]
    for name in names:
        world.plant.add(name, group, age=age, key=key, **more)
    return names
