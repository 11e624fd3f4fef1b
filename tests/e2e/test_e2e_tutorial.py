"""The tutorial's commands, extracted from its page, run in a clean root: an empty home, and nothing but the wheel."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(?:<!-- ([^>]*) -->\n)?```(sh|text)\n(.*?)```", re.DOTALL)
MARK = "--- block"
PIP = "pip --python venv/bin/python --no-cache-dir"  # an environment with a pip of its own takes seconds to make


@pytest.fixture
def root(wheel, tmp_path):
    """The folder that holds a clone in which the program was built, and an empty home."""
    (tmp_path / "certfleet" / "dist").mkdir(parents=True)
    shutil.copy(wheel, tmp_path / "certfleet" / "dist")
    (tmp_path / "home").mkdir()
    return tmp_path


def script(blocks):
    """The page at one shell. The dependencies come out of this environment, as no test may reach an index."""
    site = next(path for path in sys.path if path.endswith("site-packages"))
    place = "$(echo venv/lib/python3.*/site-packages)/of-the-test.pth"
    yield "set -e; trap 'test -z \"$up\" || kill -TERM $up; wait' EXIT"
    for number, (mark, commands) in enumerate(blocks):
        yield f"echo '{MARK} {number}'"
        match mark.split():
            case ["second", "terminal"]:
                yield f"{commands.strip()} 2> up.log & up=$!"
                yield "until grep -q Ctrl-C up.log; do kill -0 $up || { cat up.log; exit 9; }; sleep 0.1; done"
                yield "cat up.log"
            case ["exit", code]:
                yield f"set +e; (set -e\n{commands}); code=$?; set -e; test $code = {code}"
            case _:
                yield commands.replace(". venv/bin/activate", f"echo {site} > {place}; . venv/bin/activate")


def test_whoever_follows_the_tutorial_rotates_a_device_and_sees_what_it_shows(root):
    found = [(mark, kind, text) for mark, kind, text in BLOCK.findall(PAGE)]
    blocks = [(mark, text) for mark, kind, text in found if kind == "sh"]
    text = "\n".join(script(blocks)).replace("-m venv venv", "-m venv --without-pip venv")
    text = text.replace("venv/bin/pip install", f"{sys.executable} -m {PIP} install --no-deps --no-index --no-compile")
    environment = {"HOME": str(root / "home"), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}"}
    done = subprocess.run(
        ["bash", "-c", text], cwd=root, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    printed, shown = re.split(rf"{MARK} \d+\n", done.stdout)[1:], -1
    for _, kind, text in found:
        if kind == "sh":
            shown += 1
            continue
        said = " ".join(printed[shown].split())
        for line in text.splitlines():
            assert " ".join(line.split()) in said
    assert {path.name for path in root.iterdir()} == {"certfleet", "fleet.yaml", "home", "plant", "up.log", "venv"}
