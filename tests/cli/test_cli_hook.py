"""The hook for pre-commit: what it runs finds a mistake in the documents that lie there."""

from pathlib import Path

import pytest
import yaml

from controller import cli

[HOOK] = yaml.safe_load((Path(__file__).parents[2] / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("age", "code"), [("180d", 0), ("180 days", 1)])
def test_the_hook_refuses_documents_with_a_mistake(age, code, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "desired_state"
    folder.mkdir()
    (folder / "all.yaml").write_text(f"""\
apiVersion: certfleet/v1
kind: Fleet
metadata: {{name: plant}}
spec: {{account: "123456789012", region: eu-west-1}}
---
apiVersion: certfleet/v1
kind: RotationPolicy
metadata: {{name: line-a}}
spec: {{thingGroup: line-a, certificate: {{maxAge: {age}}}}}
""")
    monkeypatch.chdir(tmp_path)
    program, *arguments = HOOK["entry"].split()
    assert (program, HOOK["pass_filenames"]) == ("certfleet", False)
    assert cli.main(arguments) == code
    assert ("180 days" in capsys.readouterr().err) == bool(code)
