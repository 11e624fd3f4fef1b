"""The wheel: complete, reproducible, and the same from a source distribution."""

import os
import subprocess
import sys
import tarfile
import zipfile

from e2e_wheel import build, copy_sources

NOT_SHIPPED = ("tests", "tools", "benchmarks", "docs", "requirements")


def test_the_same_sources_give_the_same_bytes_at_another_place_and_time(wheel, tmp_path):
    again = build("wheel", copy_sources(tmp_path / "elsewhere"), TZ="Asia/Tokyo", LC_ALL="C", PYTHONHASHSEED="1")
    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()


def test_a_source_distribution_is_reproducible_and_holds_all_that_the_wheel_needs(wheel, tmp_path):
    archives = [build("sdist", copy_sources(tmp_path / place)) for place in ("one", "two")]
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with tarfile.open(archives[0]) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (sources,) = (tmp_path / "unpacked").iterdir()
    assert build("wheel", sources).read_bytes() == wheel.read_bytes()


def test_the_wheel_brings_its_packages_and_nothing_of_the_workshop(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    packages = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert packages == {"backend", "component", "controller", "desired_state", "protocol", "sandbox"}
    assert not packages & set(NOT_SHIPPED)


def test_every_module_that_the_demo_loads_comes_out_of_the_wheel(installed):
    program = (
        "import sys; import controller.cli, sandbox.cli, sandbox.demo.story; "
        "print(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] in "
        "('controller', 'protocol', 'component', 'backend', 'sandbox') and m.__file__), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env={**os.environ, "PYTHONPATH": str(installed)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert all(file.startswith(f"{installed}/") for file in done.stdout.split())
    assert len(done.stdout.split()) > 100


def test_the_command_is_not_led_astray_by_packages_of_the_same_plain_names_where_it_is_started(installed, tmp_path):
    """Decision 140: an application in an environment of its own; what pipx and uv put on PATH starts like this."""
    for name in ("controller", "protocol", "sandbox"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the package of somebody else')\n")
    command = tmp_path / "bin" / "certfleet"
    command.parent.mkdir()
    command.write_text("import sys\nfrom controller.cli import main\nsys.exit(main())\n")
    done = subprocess.run(
        [sys.executable, command, "--version"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(installed)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout[:10]) == (0, "certfleet "), done.stderr
