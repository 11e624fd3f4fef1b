"""What every history here stands on."""

import pytest
from interleaving_preview import AtCommit
from interleaving_world import INSTEAD

import controller.commands.compare


@pytest.fixture(autouse=True, scope="module")
def as_histories_run():
    """On one thread, and ``plan --base`` reads a commit's bundle; other tests in the same process have what is real."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(controller.commands.compare, "GitRef", AtCommit)
        for module, name, instead in INSTEAD:
            patch.setattr(module, name, instead)
        yield
