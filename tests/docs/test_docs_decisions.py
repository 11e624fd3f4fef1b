"""Every decision record says what was weighed, when, and whether it still holds."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "decisions"
RECORDS = sorted(FOLDER.glob("0*.md"))
STATUS = re.compile(r"Status: (?:accepted|superseded by (\d+)), 20\d\d-\d\d-\d\d(?:\. .+)?")


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_decision_has_a_number_a_status_with_a_date_and_the_options_that_were_weighed(path):
    text = path.read_text(encoding="utf-8")
    number, lines = int(path.name[:4]), text.splitlines()
    assert lines[0].startswith(f"# {number}. ")
    [status] = [STATUS.fullmatch(line) for line in lines[1:4] if line.startswith("Status:")]
    assert status, "Status: accepted, YYYY-MM-DD"
    if status[1]:
        assert list(FOLDER.glob(f"{int(status[1]):04}-*.md"))
    parts = {part.partition("\n")[0]: part for part in text.split("\n## ")[1:]}
    assert {"Context", "Options", "Decision"} <= parts.keys()
    options = [line for line in parts["Options"].splitlines() if re.match(r"(?:- |\d\. |\*\*|\| )", line)]
    assert len(options) >= 2
