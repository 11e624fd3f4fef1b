"""Every sentence that the program can print, log or answer, collected from the syntax tree of its code.

``python tools/messages.py FOLDER`` writes them as pages of the documentation site, which ``make docs`` does. They are
not checked in, so that no changed sentence leaves them behind. ``tests/docs/test_docs_messages.py`` holds them.

A sentence is a text of three words or more, a value among them. Text that is not a message (docstrings, SQL, the
command line's help, which has its page) is left out by its place in the tree, not by a list of texts, so that a new
message cannot be forgotten.
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
HOLE = "…"  # stands for a value
PARTS = ("controller", "component", "protocol", "backend", "sandbox")

GROUPS = {
    "messages": {
        "Documents": ("controller/desired",),
        "AWS and the inventory": ("controller/fleet",),
        "Findings, plans and rollouts": ("controller/reconcile",),
        "Jobs": ("controller/jobs",),
        "Commands": (
            "controller/commands",
            "controller/cli.py",
            "controller/errors.py",
            "controller/durations.py",
            "controller/present.py",
        ),
        "Healing and quarantine": ("controller/heal",),
        "Evidence": ("controller/evidence",),
        "First documents": ("controller/adoption",),
        "Reports": ("controller/report", "controller/plain_text.py"),
        "GitHub and GitLab": ("controller/forge", "controller/github", "controller/gitlab"),
        "The reconcile function": (
            "controller/lambda_reconcile",
            "controller/aws_lambda.py",
            "controller/aws_states.py",
        ),
        "Sandbox and demo": ("sandbox",),
    },
    "messages-device": {
        "The component": ("component/certificate_rotator",),
        "Its install step": ("component/bootstrap.py", "component/loader.py"),
        "Messages and job documents": ("protocol",),
    },
    "messages-backend": {
        "The functions": ("backend/functions",),
        "The deployment": ("backend/infrastructure", "backend/stack.py", "backend/app.py"),
    },
}
_FIND = """\
Search this page for a few words of the message. `…` stands for a value. The line after `→` is the way out that
certfleet prints. `make docs` collects the page from the code, so it has every message of this version.
"""
PAGES = {
    "messages": (
        "Messages of the command line",
        _FIND
        + """
An error ends with exit code 1, a refusal by a guardrail with 3 ([exit codes](command-line.md)). Messages that the
device and the cloud report have pages of their own: [messages of the component](messages-device.md) and [messages of
the backend](messages-backend.md).
""",
    ),
    "messages-device": (
        "Messages of the component",
        _FIND
        + """
The text of an error becomes the reason of the job that failed: `certfleet drift` and `certfleet explain` print it. The
rest stands in [the component's log](component.md).
""",
    ),
    "messages-backend": (
        "Messages of the backend",
        _FIND
        + """
A `RejectionError` reaches the device and its job. Notices go to the notification topic, and the rest to the log of the
function. [Troubleshooting](backend.md#troubleshooting-by-symptom) goes by symptom and by code.
""",
    ),
}
OF_DEVELOPERS = (
    "component/build.py",
    "component/diagram.py",
    "backend/build.py",
    "backend/picture.py",
    "backend/synth.py",
)
ELSEWHERE = {  # the call that takes the text: the page that has it
    "add_argument": "command-line.md",
    "add_parser": "command-line.md",
    "add_argument_group": "command-line.md",
    "add_subparsers": "command-line.md",
    "ArgumentParser": "command-line.md",
    "Command": "command-line.md",
    "Field": "desired-state.md, environment.md, settings.md",
    "field": "settings.md",
    "Pattern": "desired-state.md",
    "execute": "SQL",
    "executemany": "SQL",
    "executescript": "SQL",
    "add_mutually_exclusive_group": "command-line.md",
}
_AS_AWS = """AwsError ConnectionEndError FramingError FunctionTimeoutError IpcError JobsDataError MalformedPacketError
OfflineError FunctionDownError invalid not_found"""
ELSEWHERE |= dict.fromkeys(_AS_AWS.split(), "the sandbox speaks as AWS and the nucleus do")
OF_ERRORS_ALONE = "Sandbox and demo"  # the rest of its sentences are AWS's
FINDINGS = {"blocked", "to_rotate", "waiting"}
ANYWAY = "report it: this is a defect"
TO_DO = {  # for messages that bring no remedy of their own
    "AnswerError": "correct the request; the page of questions has the right one",
    "AssertionError": ANYWAY,
    "AwsCallError": "read what AWS answers; `certfleet doctor` names a missing permission",
    "BundleError": "publish the bundle again, with `certfleet bundle`",
    "CertfleetError": "do as the message asks",
    "CertificateError": "look at the backend: it answered with a certificate that nobody asked for",
    "ConfigurationError": "correct the component's configuration and deploy it again",
    "ConflictError": "nothing: another run was faster, and this one repeats",
    "ContradictionError": "attach the two certificates of the rotation, or fail the job",
    "DefectError": ANYWAY,
    "DemoError": "start the demo again",
    "DesiredStateError": "correct the line that the message names",
    "DeviceError": "set up the device as the message asks, then let the job run again",
    "EvidenceError": "check the file and the key",
    "FleetError": "check credentials, region and network, then run again",
    "FleetFileError": "correct the sandbox's fleet file",
    "GitCommandError": "see what git fsck shows; in a partial clone, fetch all of it",
    "GitError": "correct the clone or the ref",
    "GitHubError": "check the job's token and its permissions",
    "GitLabError": "check the token and its scope",
    "InventoryError": "delete the inventory file, or name another one",
    "IssuesDisabledError": "switch the repository's issues on, or read the notice in their place",
    "JournalError": "free the disk or repair it; the rotation goes on from its last step",
    "LaunchError": "do as the message asks, and deploy the component again",
    "LostRaceError": "nothing: another run was faster",
    "MessagesError": "restart the nucleus; the component connects again",
    "NoLookError": "wait for a run that reads the fleet",
    "OSError": "nothing: the call is made again",
    "OutOfTimeError": "nothing: the next run goes on",
    "PlanError": "plan again",
    "ProtocolError": "update the side that is older",
    "RefusedError": "read the numbers, then override or split the change",
    "RejectionError": "look up the code under [troubleshooting](backend.md#troubleshooting-by-symptom)",
    "ReplacedBundleError": "nothing: the next run takes the new bundle",
    "ReconcileFailedError": "read the fleet's own error above it",
    "RestartError": "check `restartCommand` and its rights",
    "RotationError": "read the reason, remove the cause, and let the job run again",
    "RuntimeError": ANYWAY,
    "SettingsError": "correct the deployment's context",
    "SqlError": "write the rule in the part of SQL that the sandbox reads",
    "StoreError": "repair the file or the token that the message names",
    "TemplateError": "synthesize the template again",
    "TimeLimitError": "run again: it goes on where it stopped",
    "TokenBusyError": "nothing: the component waits for the token",
    "TokenError": "correct the token's label or PIN",
    "TrendRecordError": "nothing: the record is left out of the trend",
    "UnreachableError": "check the device's network",
    "UnsupportedError": "use a call that docs/sandbox.md lists",
    "UnusableInventoryError": "nothing: the inventory is built anew",
    "UsageError": "correct the command line; `--help` describes it",
    "ValueError": "correct the value that the message names",
}
LOGS = {
    "say": "progress and notes on standard error",
    "debug": "log, level DEBUG",
    "info": "log, level INFO: nothing to do",
    "warning": "log, level WARNING: look if it repeats",
    "error": "log, level ERROR: look at the cause",
    "exception": "log, level ERROR, with the stack: look at the cause",
}
_WORD = re.compile(r"[A-Za-z][a-z'’]+")
_SQL = re.compile(r"\s*(?:SELECT|INSERT|UPDATE|DELETE|CREATE|DROP|PRAGMA|WITH|BEGIN|ATTACH|ALTER|FROM|WHERE|ORDER)\b")
_LEAST_WORDS = 3


@dataclass(frozen=True, order=True)
class Message:
    """One sentence, with the call that takes it and what it does beside it."""

    taker: str  # an error class, a kind of log line, or nothing
    text: str
    remedy: str = ""


def messages_of(prefixes: tuple[str, ...]) -> list[Message]:
    """Return all messages of these modules, each once."""
    found = set()
    for path in sorted({path for prefix in prefixes for path in _paths(ROOT / prefix)}):
        found |= set(_Collector(_tree(path)).messages)
    return sorted(found if prefixes != GROUPS["messages"][OF_ERRORS_ALONE] else {one for one in found if one.taker})


def uncollected() -> set[str]:
    """Return the shipped modules that no group names."""
    named = [one for groups in GROUPS.values() for prefixes in groups.values() for one in prefixes]
    known = {path for one in named for path in _paths(ROOT / one)}
    every = {path for part in PARTS for path in _paths(ROOT / part)}
    return {
        str(path.relative_to(ROOT))
        for path in every - known
        if str(path.relative_to(ROOT)) not in OF_DEVELOPERS and path.name != "__init__.py"
    }


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _paths(place: Path) -> set[Path]:
    return {place} if place.suffix else set(place.rglob("*.py"))


class _Collector:
    def __init__(self, tree: ast.Module) -> None:
        self._left_out = {id(one) for one in _docstrings(tree)}
        self.messages: list[Message] = []
        self._visit(tree, "")

    def _visit(self, node: ast.AST, taker: str) -> None:
        if id(node) in self._left_out:
            return
        if isinstance(node, ast.Call):
            taker = self._call(node, taker)
            if taker in ELSEWHERE:
                return
        text = template(node)
        if text is not None and _is_sentence(text):
            self.messages.append(Message(taker if _is_shown(taker) else "", text))
        elif text is not None and not isinstance(node, ast.JoinedStr):
            return
        for child in ast.iter_child_nodes(node):
            if text is None or not isinstance(child, ast.Constant):
                self._visit(child, taker)

    def _call(self, node: ast.Call, taker: str) -> str:
        name = str(getattr(node.func, "attr", getattr(node.func, "id", "")))
        if name.endswith("Error") and not name.startswith("_"):
            given = [template(one) for one in node.args[:2]] + [None, None]
            remedies = [template(word.value) for word in node.keywords if word.arg == "remedy"]
            message, remedy = given[0], (remedies or given[1:2])[0]
            if message is not None and _is_sentence(message) and remedy is not None:
                self._take(name, message, remedy, node.args[:2])
            return name
        if name in FINDINGS and len(node.args) > 1:
            message, remedy = template(node.args[1]), template(node.args[2]) if name == "blocked" else ""
            if message is not None and remedy is not None:
                self._take("finding", message, remedy, node.args[1:3])
            return "finding"
        if name in LOGS or name in ELSEWHERE:
            return name
        return taker if taker.endswith("Error") else ""

    def _take(self, taker: str, message: str, remedy: str, nodes: list[ast.expr]) -> None:
        """Keep a message with its remedy; the sentences inside its holes are messages of their own."""
        self._left_out |= {id(one) for one in nodes}
        self.messages.append(Message(taker, message, remedy))
        for part in (inner for one in nodes for inner in ast.walk(one) if isinstance(inner, ast.FormattedValue)):
            self._visit(part.value, "")


def template(node: ast.AST) -> str | None:
    """Return the text of a node with holes for its values; None for what is not text."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(part.value if isinstance(part, ast.Constant) else HOLE for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            before, after = template(left), template(right)
            return None if before is None and after is None else f"{before or HOLE}{after or HOLE}"
    return None


def _is_sentence(text: str) -> bool:
    least = _LEAST_WORDS - (HOLE in text)  # the value is one of them
    return len(_WORD.findall(text)) >= least and " " in text.strip() and not _SQL.match(text)


def _is_shown(taker: str) -> bool:
    return taker.endswith("Error") or taker in LOGS or taker == "finding"


def _docstrings(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        for one in getattr(node, "body", None) or () if not isinstance(node, ast.IfExp | ast.Lambda) else ():
            if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant):
                yield one.value


def classes() -> dict[str, str]:
    """Return each error class with the summary of its docstring."""
    found = {
        "AssertionError": "The program is not as it expects itself.",
        "OSError": "A connection broke off.",
        "RuntimeError": "The program is not as it expects itself.",
        "ValueError": "A value is not allowed.",
    }
    for part in PARTS:
        for path in sorted((ROOT / part).rglob("*.py")):
            for node in _tree(path).body:
                if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
                    found.setdefault(node.name, (ast.get_docstring(node) or "").partition("\n")[0])
    return found


def page(name: str, title: str, introduction: str) -> str:
    """Return one page: group by group, errors by class, log lines, then everything else."""
    told, parts = classes(), [f"# {title}\n", introduction]
    for group, prefixes in GROUPS[name].items():
        parts.append(f"## {group}\n")
        by_taker = defaultdict(list)
        for message in messages_of(prefixes):
            by_taker[message.taker].append(message)
        for taker in sorted(by_taker, key=lambda one: (one in LOGS, one == "", one)):
            parts += _section(taker, by_taker[taker], told)
    return "\n".join(parts)


def _section(taker: str, messages: list[Message], told: dict[str, str]) -> Iterator[str]:
    if taker in LOGS:
        yield f"### `{taker}`: {LOGS[taker]}\n"
    elif taker == "finding":
        yield "### Findings\n"
        yield "Each reason with an example: [reasons](reasons.md).\n"
    elif taker:
        yield f"### {taker}\n"
        meaning = told[taker].replace("``", "`")
        yield f"{meaning} If the message brings no advice: {TO_DO[taker]}.\n"
    else:
        yield "### Other sentences\n"
        yield "Parts of messages, findings, remedies, notices and reports.\n"
    for message in messages:
        advice = f"\\\n  → {_code(message.remedy)}" if message.remedy else ""
        yield f"- {_code(message.text)}{advice}"
    yield ""


def _code(text: str) -> str:
    line = re.sub(f"{HOLE}{HOLE}+", HOLE, " ".join(text.split()))
    fence = "``" if "`" in line else "`"
    pad = " " if "`" in line else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def main(folder: Path) -> None:
    """Write every page."""
    for name, (title, introduction) in PAGES.items():
        (folder / f"{name}.md").write_text(page(name, title, introduction), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
