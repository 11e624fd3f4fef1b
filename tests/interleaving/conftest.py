"""What every history here stands on."""

import pytest
from interleaving_preview import AtCommit

import controller.commands.compare


@pytest.fixture(autouse=True, scope="module")
def commits_are_bundles():
    """``plan --base`` reads a commit's bundle; other tests in the same process read git."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(controller.commands.compare, "GitRef", AtCommit)
        yield
