"""Restart a Windows service from outside of it: ``python -I windows_service.py NAME``.

Stopping the Greengrass service ends the component, so what restarts it must outlive the component: this file runs as
a process of its own (see restart.py) and needs the standard library only. It speaks to the service control manager
itself: every Windows has that, and its answers are numbers, the same in every language.

A service that was stopped is started again whatever happens: a device whose nucleus stays stopped is lost. An
attempt that fails is repeated every ``INTERVAL`` seconds for ``PATIENCE`` seconds.
"""

from __future__ import annotations

import ctypes
import sys
import time
from typing import Any, Callable, NamedTuple

STOPPED = 1
RUNNING = 4
INTERVAL = 1.0
PATIENCE = 600.0

_MANAGER_CONNECT = 0x0001
_QUERY_START_STOP = 0x0004 | 0x0010 | 0x0020
_PROCESS_INFO = 0
_CONTROL_STOP = 1


class Status(NamedTuple):
    """A service's state as winsvc.h numbers it (1 stopped, 2 starting, 3 stopping, 4 running), and its process."""

    state: int
    process: int


class _StatusProcess(ctypes.Structure):
    """SERVICE_STATUS_PROCESS of winsvc.h."""

    _fields_ = [
        (name, ctypes.c_uint32)
        for name in ("type", "state", "accepts", "exit", "own_exit", "check", "hint", "process", "flags")
    ]


class Service:
    """One service, through advapi32. Every method raises OSError as Windows reports it."""

    def __init__(self, name: str) -> None:
        self._api: Any = ctypes.WinDLL("advapi32", use_last_error=True)  # type: ignore[attr-defined,unused-ignore]
        for function in (self._api.OpenSCManagerW, self._api.OpenServiceW):
            function.restype = ctypes.c_void_p
        manager = ctypes.c_void_p(self._checked(self._api.OpenSCManagerW(None, None, _MANAGER_CONNECT)))
        self._service = ctypes.c_void_p(
            self._checked(self._api.OpenServiceW(manager, ctypes.c_wchar_p(name), _QUERY_START_STOP))
        )

    def status(self) -> Status:
        """Return what the service is doing now."""
        answer, needed = _StatusProcess(), ctypes.c_uint32()
        size = ctypes.sizeof(answer)
        self._checked(
            self._api.QueryServiceStatusEx(
                self._service, _PROCESS_INFO, ctypes.byref(answer), size, ctypes.byref(needed)
            )
        )
        return Status(answer.state, answer.process)

    def stop(self) -> None:
        """Ask the service to stop; returns before it has."""
        self._checked(self._api.ControlService(self._service, _CONTROL_STOP, ctypes.byref(_StatusProcess())))

    def start(self) -> None:
        """Ask the service to start; returns before it has."""
        self._checked(self._api.StartServiceW(self._service, 0, None))

    @staticmethod
    def _checked(result: Any) -> Any:
        if not result:
            raise ctypes.WinError(ctypes.get_last_error())  # type: ignore[attr-defined,unused-ignore]
        return result


def restart(
    service: Service, now: Callable[[], float] = time.monotonic, wait: Callable[[float], None] = time.sleep
) -> bool:
    """Stop the service and start it, with a ``wait`` between, until another process than at first runs it.

    Returns:
        Whether one does. If not, either the service was never stopped: the nucleus still holds the credential it
        had, and the component, which is still there, reports that when its own time limit is over. Or Windows has
        refused to start it for ten minutes: the service's own recovery options are then what is left.
    """
    end = now() + PATIENCE
    first = service.status()
    while now() < end:
        try:
            status = service.status()
            if status.state == RUNNING and status.process != first.process:
                return True
            if status.state == STOPPED:
                service.start()
            elif status.state == RUNNING:
                service.stop()
        except OSError as error:
            sys.stderr.write(f"the service control manager refused, trying again: {error}\n")
        wait(INTERVAL)
    return False


if __name__ == "__main__":
    sys.exit(0 if restart(Service(sys.argv[1])) else 1)
