"""What a deployment chooses, and the zip it deploys."""

from __future__ import annotations

import ast
import json
import re
import sys
import zipfile
from importlib.metadata import packages_distributions

import pytest
from packaging.utils import canonicalize_name
from pydantic import ValidationError

from backend import build
from backend.infrastructure.documents import SettingsError
from backend.infrastructure.published import deployment_of
from backend.infrastructure.settings import from_context

ARN = "arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/5f0c9a52-3d0f-4f6f-9a53-b1d1e6a9c001"


def authority(name="plant-ca", validity="90d", extra=""):
    return f"""
apiVersion: certfleet/v1
kind: CertificateAuthority
metadata: {{name: {name}}}
spec: {{type: PrivateCA, arn: "{ARN}", signingAlgorithm: SHA256WITHECDSA, validity: {validity}{extra}}}
"""


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return {"DesiredState": str(folder)}.get


def test_the_authorities_of_a_folder_are_deployed_and_other_documents_are_not_looked_at(tmp_path):
    other = "apiVersion: certfleet/v1\nkind: Fleet\nmetadata: {name: x}\n---\n"
    settings = from_context(write(tmp_path, a=other + authority("one", "12h"), b=authority("two", "2w")))
    table = json.loads(settings.authorities_json())
    assert {name: entry["validitySeconds"] for name, entry in table.items()} == {"one": 43_200, "two": 1_209_600}


def test_a_template_of_acm_pca_travels_along(tmp_path):
    template = "arn:aws:acm-pca:::template/BlankEndEntityCertificate_CSRPassthrough/V1"
    settings = from_context(write(tmp_path, a=authority(extra=f', templateArn: "{template}"')))
    assert json.loads(settings.authorities_json())["plant-ca"]["templateArn"] == template
    assert deployment_of(settings).authorities["plant-ca"].template_arn == template


def test_authorities_may_come_from_the_context_as_text():
    given = {"plant-ca": {"arn": ARN, "signingAlgorithm": "SHA256WITHRSA", "validitySeconds": 86_400}}
    assert json.loads(from_context({"Authorities": json.dumps(given)}.get).authorities_json()) == given


def fleet(name, **roles):
    spec = "".join(f", {field}: '{arn}'" for field, arn in roles.items())
    return f"apiVersion: certfleet/v1\nkind: Fleet\nmetadata: {{name: {name}}}\nspec: {{account: '1'{spec}}}\n"


def test_the_roles_that_fleet_documents_name_are_those_that_may_be_assumed(tmp_path):
    arn = "arn:aws:iam::210987654321:role/certfleet"
    (tmp_path / "hospital").mkdir()
    (tmp_path / "overseas").mkdir()
    write(tmp_path, home=fleet("home"))
    write(
        tmp_path / "hospital",
        fleet=fleet("hospital", roleArn=f"{arn}-b", readRoleArn=f"{arn}-read") + "---\n" + authority(),
    )
    write(tmp_path / "overseas", fleet=fleet("overseas", roleArn=f"{arn}-a"))
    settings = from_context({"Fleets": str(tmp_path), "GitHubRepository": "example/fleet"}.get)
    assert settings.assumed_to_read == (f"{arn}-read",)
    assert settings.assumed_to_write == (f"{arn}-a", f"{arn}-b")
    assert settings.authorities == {}


def test_a_role_that_is_none_and_a_folder_without_fleets_are_refused(tmp_path):
    context = {"Fleets": str(tmp_path), "GitHubRepository": "example/fleet"}.get
    write(tmp_path, fleet=fleet("f", roleArn="arn:aws:iam::210987654321:role/*"))
    with pytest.raises(ValidationError):
        from_context(context)
    write(tmp_path, fleet=authority())
    with pytest.raises(SettingsError, match="holds no Fleet document"):
        from_context(context)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no YAML document"),
        ({"a": authority(validity="1y")}, "expected a duration"),
        ({"a": authority(), "b": authority(validity="1d")}, "declared twice, differently"),
    ],
    ids=["an empty folder", "a duration that is none", "two that differ"],
)
def test_a_folder_is_refused_for(tmp_path, files, message):
    with pytest.raises(SettingsError, match=message):
        from_context(write(tmp_path, **files))


@pytest.mark.parametrize(
    "context",
    [
        {"PcaCaId": "not-an-id"},
        {"PcaSigningAlgorithm": "MD5"},
        {"PcaValidityInDays": 0},
        {"StackName": "has spaces"},
        {"GitHubRepository": "no-owner"},
        {"Authorities": {"aws-iot": {"arn": ARN, "signingAlgorithm": "SHA256WITHRSA", "validitySeconds": 86_400}}},
    ],
    ids=lambda c: next(iter(c)),
)
def test_a_context_variable_is_refused(context):
    with pytest.raises(ValidationError):
        from_context(context.get)


def test_the_zip_is_the_same_bytes_whatever_the_order_and_the_time(tmp_path):
    files = [("b/two.py", b"2"), ("a/one.py", b"1")]
    build.write_zip(tmp_path / "one" / "x.zip", files)
    build.write_zip(tmp_path / "two" / "x.zip", files[::-1])
    assert (tmp_path / "one/x.zip").read_bytes() == (tmp_path / "two/x.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one/x.zip") as archive:
        assert archive.namelist() == ["a/one.py", "b/two.py"]


def test_the_zip_holds_the_handlers_and_the_protocol_and_nothing_of_the_cdk():
    names = [name for name, _ in build.sources()]
    assert {"backend/__init__.py", "backend/functions/create_certificate.py", "protocol/topics.py"} <= set(names)
    assert not [n for n in names if "infrastructure" in n or "stack" in n]


def test_a_build_that_is_current_is_not_repeated(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "ZIP", tmp_path / "functions.zip")
    installed = []
    monkeypatch.setattr(
        build,
        "install_wheels",
        lambda folder, _requirements: (folder / "wheel.py").write_text(str(installed.append(1))),
    )
    first = build.build().read_bytes()
    assert build.build().read_bytes() == first
    assert len(installed) == 1
    (tmp_path / "functions.sha256").write_text("older")
    assert build.build().read_bytes() == first
    assert len(installed) == 2


def test_wheels_that_cannot_be_had_end_with_what_pip_said(tmp_path, monkeypatch):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("certfleet-no-such-package==1 --hash=sha256:" + "0" * 64)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(build.BuildError, match="could not get the wheels"):
        build.install_wheels(tmp_path / "target", requirements)


def imported(files):
    """Top-level names of every module that the files import from outside."""
    found = set()
    for name, content in files:
        for node in ast.walk(ast.parse(content, name)):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    ("files", "requirements", "own"),
    [
        (build.sources, build.REQUIREMENTS, {"backend", "protocol"}),
        (build.reconcile_sources, build.RECONCILE_REQUIREMENTS, {"controller", "protocol"}),
    ],
    ids=["functions", "reconcile"],
)
def test_a_zip_has_every_package_that_its_sources_import(files, requirements, own):
    """What the runtime brings (boto3, and with it botocore) need not be locked."""
    locked = set(re.findall(r"^([a-z0-9-]+)(?:\[[\w,]+\])?==", requirements.read_text(), re.MULTILINE))
    providers = packages_distributions()
    missing = {
        name
        for name in imported(files()) - own - {"boto3", "botocore"}
        if not {canonicalize_name(provider) for provider in providers[name]} & locked
    }
    assert missing == set()
