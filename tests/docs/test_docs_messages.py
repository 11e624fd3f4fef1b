"""The pages of messages have every sentence that the program prints, logs or answers."""

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
messages = importlib.import_module("messages")

KINDS_OF_PLACE = '''
"""What a module is for is not a message."""
class SomeError(Exception):
    """Nor what a class is for."""
def made(name):
    parser.add_argument("--x", help="what the command line's own page has")
    database.execute("SELECT name FROM things WHERE name = ?")
    raise SomeError(f"the file {name} is not there", f"write it with: certfleet plan --plan {name}")
def helped(name):
    text = "a sentence that some other function raises"
    log.warning("the thing %s answers too late", name)
    lines.append(f"{name} of {'all the things' if name else 'none of the things'} are left")
    return blocked(Reason.EXPIRED, f"the certificate of {name} has ended", "provision the device anew", "spec")
'''
FOUND = {
    messages.Message("SomeError", "the file … is not there", "write it with: certfleet plan --plan …"),
    messages.Message("", "a sentence that some other function raises"),
    messages.Message("warning", "the thing %s answers too late"),
    messages.Message("", "… of … are left"),
    messages.Message("", "all the things"),
    messages.Message("", "none of the things"),
    messages.Message("finding", "the certificate of … has ended", "provision the device anew"),
}


def test_a_sentence_is_found_wherever_it_stands_and_what_is_no_message_is_not():
    found = set(messages._Collector(ast.parse(KINDS_OF_PLACE)).messages)
    assert found == {one for one in FOUND if messages._is_sentence(one.text)}


def test_every_module_that_ships_belongs_to_a_page():
    assert messages.uncollected() == set()


def test_every_kind_of_error_has_a_meaning_and_an_advice(tmp_path):
    messages.main(tmp_path)  # a KeyError names the class that has none
    pages = "\n".join(path.read_text(encoding="utf-8") for path in tmp_path.iterdir())
    assert all(f"### {name}\n" in pages for name in messages.TO_DO)
    told = messages.classes()
    assert [name for name in messages.TO_DO if not told[name].endswith(".")] == []
    for sentence in (  # one of each part
        "no certificate is attached to the thing",
        "the nucleus was asked to restart but did not",
        "found no header line: this is not a bundle",
    ):
        assert sentence in pages


_PARTS = ("load", "bundle", "checks")
HEARD = [f"desired/test_desired_{part}.py" for part in _PARTS] + [
    "cli/test_cli_plan_files.py",
    "cli/test_cli_refusals.py",
    "backend/test_backend_rejections.py",
    "component/test_component_files_and_journal.py",
]
"""Where the most kinds of errors are raised, in the least time."""


@pytest.mark.soak
def test_every_error_that_other_tests_raise_is_on_a_page():
    paths = os.pathsep.join(str(Path(__file__).parents[1] / one) for one in ("docs", "shared", "component", "backend"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "docs_heard", *(f"tests/{one}" for one in HEARD)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    heard = int(done.stdout.partition("heard ")[2].partition(" ")[0])
    assert heard > 200
