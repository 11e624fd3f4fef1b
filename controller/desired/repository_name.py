"""One name for a repository, however it was cloned, and without any credentials."""

from __future__ import annotations

import re


def repository_name(url: str) -> str:
    """Return the one name, such as ``github.com/acme/fleet``, of the repository at a URL.

    So ``https://token@github.com/acme/fleet.git`` and ``git@github.com:acme/fleet`` have the same name. A path on this
    machine becomes ``file:`` and the path. Host names are lower case.
    """
    trimmed = url.strip().rstrip("/").removesuffix(".git")
    remote = re.fullmatch(r"(?:[a-z+]+)://(?:[^@/]*@)?(?P<host>[^/:]+)(?::[0-9]+)?/(?P<path>.+)", trimmed)
    short = re.fullmatch(r"(?:[^@/:]+@)?(?P<host>[^/:]{2,}):(?P<path>[^/].*)", trimmed)
    match = remote or short
    if match is None:
        return "file:" + trimmed.removeprefix("file://")
    return f"{match['host'].lower()}/{match['path'].strip('/')}"
