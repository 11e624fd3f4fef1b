"""Steps of the component's recipe as forks of one Python that has imported what the component does not bring itself.

Each start of the component is a third of a second of processor time, and most of that goes to the interpreter and to
the libraries: the same each time. Here a server has imported these, forks, and the fork does what the recipe's script
says: loader, bootstrap, launch and component come out of the deployed archive, in a process that leads its session,
on a leash, with the environment, folder and log of its device. That scripts start by themselves, the tests show that
do not ask for it. Standard library only, for the oldest Python that the component may run on.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import datetime as dt
import fcntl
import functools
import gc
import importlib
import io
import json
import os
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import types
from importlib.machinery import SourceFileLoader
from pathlib import Path

if __name__ != "__main__":  # the server does without
    import pytest

    from sandbox.edge.nucleus import component_process

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ["-I", "-B", "-u"]
REAL = {(os, "execv"): os.execv, (time, "time"): time.time, (dt, "datetime"): dt.datetime}
"""What the sandbox's time replaces in a process: one that becomes another program has none of it."""
LEASH = 'read -r _; kill -KILL "-$0"'
OWN = {ROOT / "component", ROOT / "component" / "certificate_rotator", ROOT / "protocol"}
REHEARSED = ("bootstrap", *(f"certificate_rotator.{name}" for name in ("launch", "__main__", "greengrass")))
FOR_TOKENS = ("certificate_rotator.pkcs11_token", "certificate_rotator.store_pkcs11")


# In the tests ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def warm_starts(python=sys.executable):
    """What nuclei start meanwhile are forks of that Python."""
    warm = warm_python(python)

    def spawn(process, job, launch):
        return warm.spawn(process, job, launch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(component_process.ComponentProcess, "_spawn", spawn)
        yield


@functools.cache
def warm_python(python):
    """One a process, and until its end."""
    made = WarmPython(python)
    atexit.register(made.close)
    return made


class WarmPython:
    """The server of one Python; ``spawn`` stands in for that of ``ComponentProcess``."""

    def __init__(self, python):
        self.python, self._folder = python, tempfile.TemporaryDirectory()
        self._path = str(Path(self._folder.name, "socket"))
        command = [python, *OPTIONS, __file__, self._path]
        self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._server.stdout.readline() == b"ready\n"

    def close(self):
        self._server.communicate()  # it ends with its standard input
        self._folder.cleanup()

    async def spawn(self, process, job, launch):
        """As ``ComponentProcess._spawn``, of which this process is one."""
        assert job.user is None
        environment = dict(launch.environment())
        asked = {"command": self._command(job.script, environment), "environment": environment}
        body = json.dumps({**asked, "folder": str(launch.folder)}).encode()
        watched, held = os.pipe()
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._path)
        with process._log_file.open("ab") as log:
            socket.send_fds(connection, [len(body).to_bytes(4, "big")], [watched, log.fileno()])
        os.close(watched)
        connection.sendall(body)
        connection.setblocking(False)
        try:
            told = await asyncio.get_running_loop().sock_recv(connection, 4)
        except BaseException:  # nobody waits for it any more: its leash ends it
            connection.close()
            os.close(held)
            raise
        return component_process._Running(Forked(int.from_bytes(told, "big"), connection), held)

    def _command(self, script, environment):
        """What the script comes to, ``python3`` being what the device's own script of that name makes of it."""
        words = [word for word in shlex.split(script) if word not in {"exec", *OPTIONS}]
        assert words[:2] == ["python3", "-c"], script
        own = Path(environment["PATH"].split(os.pathsep)[0], "python3").read_text().splitlines()[-1]
        _exec, python, *between, _rest = shlex.split(own)
        assert python == self.python, own
        return [python, *OPTIONS, *(word for word in between if word != "$options"), *words[1:]]


class Forked:
    """What asyncio tells of a process that it has started, of one that the server has."""

    def __init__(self, pid, connection):
        self.pid, self.returncode = pid, None
        self._ended = asyncio.get_running_loop().create_task(self._watch(connection))

    async def _watch(self, connection):
        with connection:
            told = await asyncio.get_running_loop().sock_recv(connection, 4)
        assert told, "the server has ended"
        self.returncode = os.waitstatus_to_exitcode(int.from_bytes(told, "big"))

    async def wait(self):
        await asyncio.shield(self._ended)
        return self.returncode


# In the server --------------------------------------------------------------------------------------------------------


class Becomes(BaseException):
    """The process becomes another program of the same Python."""

    def __init__(self, path, command):
        super().__init__(path)
        self.command = list(command)


def serve(path):
    """Fork for whoever asks, tell how each fork ends, and end with standard input."""
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    waiting = {}
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
        listener.bind(path)
        listener.listen(16)
        rehearse()
        assert len(list(Path("/proc/self/task").iterdir())) == 1, "a thread would be lost in the forks"
        for source in (0, woken, listener):
            selector.register(source, selectors.EVENT_READ)
        sys.stdout.write("ready\n")
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if 0 in ready:
                return
            if listener in ready:
                connection, _ = listener.accept()
                pid = os.fork()
                if pid == 0:
                    selector.close()
                    listener.close()
                    for other in waiting.values():
                        other.close()
                    os.close(woken)
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    os.close(wake)
                    os._exit(step(connection))
                waiting[pid] = connection
            if woken in ready:
                os.read(woken, 4096)
                bury(waiting)


def bury(waiting):
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            with waiting.pop(pid) as connection, contextlib.suppress(OSError):  # nobody may ask any more
                connection.sendall(status.to_bytes(4, "big"))


def rehearse():
    """Import what the component imports, and forget what is its own; but the same source is compiled only once."""
    sys.path[:0] = [str(ROOT / "component"), str(ROOT)]
    for name in (*REHEARSED, *FOR_TOKENS):
        with contextlib.suppress(ImportError):  # a Python without the requirements: the component makes itself one
            importlib.import_module(name)
    del sys.path[:2]
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        if name != "__main__" and Path(file).parent in OWN:
            del sys.modules[name]
    compiled = {path.read_bytes(): path for folder in OWN for path in folder.glob("*.py")}
    compiled = {source: compile(source, str(path), "exec", dont_inherit=True) for source, path in compiled.items()}
    plain = SourceFileLoader.source_to_code
    SourceFileLoader.source_to_code = lambda self, data, path: compiled.get(data) or plain(self, data, path)
    gc.collect()
    gc.freeze()  # or each fork would copy what a collection only looks at


def step(connection):
    """Be the process that was asked for, as a session of its own; its exit code."""
    length, (leash, log), _, _ = socket.recv_fds(connection, 4, 2)
    with connection.makefile("rb") as given:
        asked = json.loads(given.read(int.from_bytes(length, "big")))
    os.setsid()
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    nothing = os.open(os.devnull, os.O_RDWR)
    streams = [(os.POSIX_SPAWN_DUP2, leash, 0), *((os.POSIX_SPAWN_DUP2, nothing, number) for number in (1, 2))]
    os.posix_spawn("/bin/sh", ["sh", "-c", LEASH, str(os.getpid())], os.environ, file_actions=streams)
    for source, number in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, number)
    for descriptor in (nothing, leash, log):
        os.close(descriptor)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        raw = io.open(number, "wb" if number else "rb", 0, closefd=False)  # noqa: SIM115, UP020  # for as long as it lives
        errors = "backslashreplace" if name == "stderr" else "strict"
        setattr(sys, name, io.TextIOWrapper(raw, errors=errors, write_through=True))
    connection.sendall(os.getpid().to_bytes(4, "big"))
    connection.close()
    warm, path, command = set(sys.modules), list(sys.path), asked["command"]
    while True:
        try:
            code = run(command)
        except Becomes as becomes:
            command = becomes.command
        else:
            break
        forget(warm, path)
    threading._shutdown()  # as the interpreter does at its end
    atexit._run_exitfuncs()
    return code


def run(command):
    """Run one program of this Python: ``-c CODE`` or a file."""
    os.execv = become
    program = next(number for number, word in enumerate(command[1:], 1) if word not in OPTIONS)
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    if command[program] == "-c":
        text, name = command[program + 1], "<string>"
        sys.argv = ["-c", *command[program + 2 :]]
    else:
        text, name = Path(command[program]).read_text(), command[program]
        sys.argv = command[program:]
        main.__file__ = name
    try:
        exec(compile(text, name, "exec"), main.__dict__)
    except SystemExit as ended:
        if isinstance(ended.code, str):
            sys.stderr.write(f"{ended.code}\n")
            return 1
        return int(ended.code or 0)
    except Exception:  # noqa: BLE001  # as the interpreter does
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def become(path, command):
    if path != sys.executable:  # an environment that the component has made
        REAL[os, "execv"](path, command)
    raise Becomes(path, command)


def forget(warm, path):
    """Leave nothing of the program before: its modules, its time, and whatever was open and does not outlive it."""
    for (module, name), real in REAL.items():
        setattr(module, name, real)
    sys.modules["__main__"].__dict__.clear()
    for name in set(sys.modules) - warm:
        del sys.modules[name]
    sys.path[:] = path
    gc.collect()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the folder itself, which is read no more
            ends = fcntl.fcntl(int(entry.name), fcntl.F_GETFD) & fcntl.FD_CLOEXEC
            assert not ends or int(entry.name) <= 2, entry.readlink()


if __name__ == "__main__":
    serve(sys.argv[1])
