"""The commits of a pull request, or of a merge queue, as data."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import git

from controller.errors import CertfleetError

_DOCUMENTS = "desired_state"


def fetch_change(environment: Mapping[str, str]) -> dict[str, str]:
    """Fetch what a pull request or a merge queue would make of its base, into the object database alone.

    Args:
        environment: As GitHub Actions sets it, and ``GITHUB_TOKEN``; for a pull request its ``HEAD_SHA``, for a merge
            queue the base's ``BASE_SHA``.

    Returns:
        The commit of the base, and ``changed``, true or false: whether the desired state is touched.

    Raises:
        CertfleetError: git could not fetch the commit, or does not know its base.
    """
    commit = environment["GITHUB_SHA"]
    credentials = base64.b64encode(f"x-access-token:{environment['GITHUB_TOKEN']}".encode()).decode()
    once = {  # the checkout keeps no credentials: they reach git by the environment of this one command
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{environment['GITHUB_SERVER_URL']}/.extraheader",
        "GIT_CONFIG_VALUE_0": f"AUTHORIZATION: basic {credentials}",
    }
    repository = git.Git()
    parent = environment.get("BASE_SHA") or f"{commit}^1"  # of a merge that GitHub made: its first parent
    is_merged = environment.get("HEAD_SHA") != commit  # Gitea makes no merge: it runs at the head
    try:
        with repository.custom_environment(**once):
            repository.fetch("origin", commit, quiet=True, no_tags=True)
        base = (
            repository.rev_parse(f"{parent}^{{commit}}", verify=True) if is_merged else _fork_point(repository, commit)
        )
        names = repository.diff(base, commit, "--", _DOCUMENTS, no_ext_diff=True, name_only=True)
    except git.GitCommandError as error:
        raise CertfleetError(
            f"the change cannot be fetched: {error.stderr.strip()}",
            "Check its base out with fetch-depth: 0 in an earlier step, and give this one GITHUB_TOKEN.",
        ) from None  # whose arguments are nobody's business
    return {"base": base, "changed": str(bool(names)).lower()}


def _fork_point(repository: git.Git, commit: str) -> str:
    """Return where the branch of a commit left the base, which is checked out."""
    return str(repository.merge_base("HEAD", commit))
