"""Every fatal error, one class per exit code; each message shows what to do next.

``controller.cli`` maps these to exit codes and prints them; nothing else exits.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The meaning of a command's exit code."""

    IN_SYNC = 0
    ERROR = 1  # usage errors too
    CHANGES = 2  # there is drift, or there are changes
    REFUSED = 3  # by a guardrail


class CertfleetError(Exception):
    """An error that names what was expected, what was found, and what to do; ``remedy`` is printed on its own line."""

    exit_code = ExitCode.ERROR

    def __init__(self, message: str, remedy: str | None = None) -> None:
        super().__init__(message)
        self.remedy = remedy


class DesiredStateError(CertfleetError):
    """Documents are wrong; ``problems`` holds every one of them, each with file and line."""

    def __init__(self, problems: list[Problem], remedy: str | None = None) -> None:
        super().__init__("\n".join(str(problem) for problem in problems), remedy)
        self.problems = problems


class GitError(CertfleetError):
    """A repository or ref cannot be read."""


class BundleError(CertfleetError):
    """A bundle of desired state is damaged, not what it claims to be, or must not follow the last one applied."""


class FleetError(CertfleetError):
    """AWS cannot be reached, refuses, or shows something that must not be acted on."""


class InventoryError(CertfleetError):
    """The inventory file is damaged, locked, or of a newer version."""


class PlanError(CertfleetError):
    """A plan file cannot be used."""


class RefusedError(CertfleetError):
    """A guardrail forbids what was asked; the message has the numbers, the remedy the override."""

    exit_code = ExitCode.REFUSED


class InterruptedRunError(CertfleetError):
    """Somebody, or whatever runs certfleet, has ended the run."""

    def __init__(self) -> None:
        super().__init__("interrupted: what has been started goes on", "the next run carries on")


class DefectError(CertfleetError):
    """An error that certfleet did not expect: a mistake of its own, and nobody else's."""


def as_error(error: Exception | KeyboardInterrupt) -> CertfleetError:
    """Return the error itself, or a DefectError that shows what to report; an interrupt is neither."""
    if isinstance(error, CertfleetError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return InterruptedRunError()
    return DefectError(
        f"certfleet has a defect: {type(error).__name__}: {error}",
        "report it with all that was printed, the command, and what `certfleet --version` shows; "
        "nothing is lost: the next run carries on",
    )


class Problem:
    """One mistake in the documents: where, what was found, what is allowed."""

    __slots__ = ("column", "line", "message", "path")

    def __init__(self, path: str, line: int, message: str, column: int = 1) -> None:
        self.path, self.line, self.message, self.column = path, line, message, column

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"
