"""What a checked-in file must say: ``GOLDEN=write`` in the environment renews it; read it then."""

import os


def assert_golden(path, text):
    if os.environ.get("GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{path} differs: GOLDEN=write renews it; read it then"
