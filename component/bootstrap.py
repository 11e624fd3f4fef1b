"""The program that the recipe's script runs, as root, out of a checked archive or of root's copy of it.

The script (``loader.py``) is as short as nucleus lite's limit for recipes demands; its names are used here: ``home``,
``code``, and ``data``, the verified archive, if there was no copy. No folder on the way to ``home`` may be one that
the user that components run as can change; then the archive is unpacked beside its place and renamed into it.
"""

import fcntl
import io
import os
import runpy
import shutil
import stat
import sys
import zipfile
from typing import Any, Dict


def refuse_what_others_can_change(home: str) -> None:
    """End with a sentence if what root runs from there could be another user's."""
    user = os.stat(".")
    parts = home.split("/")
    for depth in range(1, len(parts) + 1):
        folder = "/".join(parts[:depth]) or "/"
        found = os.lstat(folder)
        by_owner = user.st_uid != 0 and found.st_uid == user.st_uid
        by_group = user.st_gid != 0 and found.st_gid == user.st_gid and found.st_mode & stat.S_IWGRP
        by_all = found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX
        if by_owner or by_group or by_all:
            sys.exit(
                f"{folder} can be changed by the user that components run as, and root would run what lies in it: "
                "chown it to root and chmod it to 0755, then deploy the component again"
            )


def unpack(data: bytes, code: str) -> None:
    """Make root's copy of the archive ``data`` in ``code``, whole or not at all."""
    draft = os.path.join(os.path.dirname(code), "draft-code")
    shutil.rmtree(draft, ignore_errors=True)
    zipfile.ZipFile(io.BytesIO(data)).extractall(draft)
    os.sync()
    os.rename(draft, code)


def begin(home: str, code: str, given: Dict[str, Any]) -> None:
    """Hand over to ``code`` with what was ``given``; ``home`` stays locked until this process is the component."""
    os.umask(0o022)
    os.makedirs(home, exist_ok=True)
    refuse_what_others_can_change(home)
    given["lock"] = open(os.path.join(home, "lock"), "w")  # kept open by the loader's own names
    fcntl.flock(given["lock"], fcntl.LOCK_EX)
    if not os.path.isdir(code):
        unpack(given["data"], code)
    sys.path.insert(0, code)
    sys.argv[:3] = ["certificate_rotator", "--lock", str(given["lock"].fileno()), home]
    runpy.run_module("certificate_rotator.launch", run_name="__main__", alter_sys=True)


if "digest" in globals():  # of the loader
    begin(globals()["home"], globals()["code"], globals())
