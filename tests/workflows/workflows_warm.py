"""Commands of workflow steps as forks of one Python that has imported the controller already.

A step starts a Python for a moment's work, most of which is to import what the step before imported, too. Here the
commands on PATH hand their arguments, environment, folder and standard streams to a server, which forks: what runs
is the same ``main``, as a process of its own. That the installed commands start by themselves, tests/cli and
tests/e2e show.
"""

from __future__ import annotations

import gc
import marshal
import os
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

from shared_models import read_models_once
from shared_virtual_time import VARIABLE, live_in_virtual_time

WARM = {  # -m: home of its main
    "controller.cli": "controller.cli",
    "controller.github": "controller.github.__main__",
    "controller.gitlab": "controller.gitlab.__main__",
}
CLIENT = """\
#!{python} -IS
import _socket, marshal, os, sys  # no more: json and socket import twice as much as the interpreter itself
given = marshal.dumps([{module!r}, sys.argv[1:], dict(os.environ), os.getcwd()])
server = _socket.socket(_socket.AF_UNIX)
server.connect({path!r})
streams = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2))
server.sendmsg([len(given).to_bytes(4, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
server.sendall(given)
code = server.recv(1)
server.close()
sys.exit(code[0] if code else "the command ended without a code")
"""
PYTHON = """\
#!/bin/sh
case "$1 $2" in {cases}
esac
exec {python} "$@"
"""


@contextmanager
def warm_commands():
    """A folder for PATH with ``certfleet`` and ``python``; what they start ends with the context."""
    with tempfile.TemporaryDirectory() as folder:
        path, ready = Path(folder, "socket"), Path(folder, "ready")
        os.mkfifo(ready)
        with subprocess.Popen([sys.executable, __file__, path, ready], env=_environment()) as server:
            ready.read_bytes()
            try:
                yield _written(Path(folder, "bin"), path)
            finally:
                server.terminate()


def _environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _written(folder, path):
    folder.mkdir()
    commands = {f"{module}.run": CLIENT.format(python=sys.executable, module=module, path=str(path)) for module in WARM}
    cases = "".join(f'\n"-m {module}") shift 2; exec {folder}/{module}.run "$@";;' for module in WARM)
    commands["python"] = PYTHON.format(cases=cases, python=sys.executable)
    for name, text in commands.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "certfleet").symlink_to("controller.cli.run")
    return folder


def serve(path, ready):
    """Fork for whoever asks, until the process is ended."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(16)
        _warm_up()
        ready.write_bytes(b"")
        while True:
            connection, _ = listener.accept()
            with connection:
                if os.fork() == 0:
                    os._exit(_answer(connection))
            with suppress(ChildProcessError):  # of those that are over the processor time is counted
                while os.waitpid(-1, os.WNOHANG) != (0, 0):
                    pass


def _warm_up():
    read_models_once()
    for module in WARM.values():
        import_module(module)
    for path in Path(sys.modules["controller"].__path__[0]).glob("commands/*.py"):
        import_module(f"controller.commands.{path.stem}")
    session = import_module("botocore.session").Session()
    for service in ("sts", "iot", "ssm"):
        session.create_client(service, region_name="eu-west-1")
    gc.collect()
    gc.freeze()  # or each fork would copy what a collection only looks at


def _answer(connection):
    """Be the process that was asked for; its exit code."""
    length, streams, _, _ = socket.recv_fds(connection, 4, 3)
    with connection.makefile("rb") as given:
        module, arguments, environment, folder = marshal.loads(given.read(int.from_bytes(length, "big")))
    for number, (stream, name) in enumerate(zip(streams, ("stdin", "stdout", "stderr"), strict=True)):
        os.dup2(stream, number)
        os.close(stream)
        setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if setting := environment.get(VARIABLE):
        live_in_virtual_time(setting)
    sys.argv = [module, *arguments]
    code = _run(module)
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(bytes([code]))
    return code


def _run(module):
    try:
        return int(import_module(WARM[module]).main() or 0)
    except SystemExit as ended:
        return int(ended.code or 0)
    except Exception:  # noqa: BLE001 (as the interpreter does)
        sys.excepthook(*sys.exc_info())
        return 1


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]))
