"""`certfleet init`: first documents for a fleet as the field has it; they are valid, report only, and say why."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec

from controller import cli
from controller.commands import init
from controller.commands.context import Context
from controller.fleet.discovery import private_authorities
from protocol.deployment import EXCLUSIVE, NON_EXCLUSIVE, DeployedAuthority, DeployedBackend
from protocol.names import DEFAULT_STACK_NAME, BackendNames


@pytest.fixture
def field(factory, rsa_key, monkeypatch):
    """Two groups, one inside the other; most attachments are not exclusive; a clone and a leftover."""
    factory.cloud.seed.group("line-a-old", parent="line-a")
    for number in range(6):
        factory.device(f"gw-{number}", age=400 + number, kind="NON_EXCLUSIVE_THING")
    factory.device("gw-ready", age=30)
    factory.device("gw-legacy", age=900, key=rsa_key, groups=("line-a-old",))
    factory.cloud.seed.thing("gw-new", ("line-a",))
    monkeypatch.chdir(factory.repository)
    return factory


def run(*arguments, answer="", is_terminal=False):
    """Exit code, stdout and stderr of ``certfleet init`` with something typed in."""
    typed = io.StringIO(answer)
    typed.isatty = lambda: is_terminal
    parsed = cli.build_parser("init").parse_args(["init", "--region", "eu-west-1", *arguments])
    context = Context(parsed, io.StringIO(), io.StringIO(), stdin=typed)
    return init.run(context), context.stdout.getvalue(), context.stderr.getvalue()


def documents(folder="first"):
    return {path.name: path.read_text() for path in sorted(Path(folder).iterdir())}


def test_a_first_look_writes_documents_that_only_report_and_are_valid(field, capsys):
    code, out, _ = run("--thing-group", "all", "--desired-state", "first")
    assert code == 0
    written = documents()
    assert set(written) == {"fleet.yaml", "line-a.yaml", "line-a-old.yaml"}
    specs = {name: yaml.safe_load(text)["spec"] for name, text in written.items()}
    assert specs["fleet.yaml"] == {"account": "123456789012", "region": "eu-west-1"}
    assert {spec.get("mode") for name, spec in specs.items() if name != "fleet.yaml"} == {"report"}
    assert specs["line-a-old.yaml"]["priority"] == 1
    assert specs["line-a-old.yaml"]["certificate"] == {"maxAge": "365d", "keyType": "RSA-2048", "authority": "aws-iot"}
    assert cli.main(["validate", "--desired-state", "first"]) == 0
    assert out.startswith("2 of 9 devices could rotate today\n")
    assert re.search(r"line-a +8 +1 +6 NotExclusive, 1 NoCertificate", out)


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_the_files_for_ci_call_the_workflows_of_the_commit_that_is_named(field):
    given = ("--thing-group", "line-a", "--desired-state", "first", "--ci", "github")
    _, _, err = run(*given, "--workflows", f"acme/certfleet@{COMMIT}")
    folder = Path(".github/workflows")
    assert {path.name for path in folder.iterdir()} == {
        "pull-request.yml",
        "reconcile.yml",
        "drift-report.yml",
        "heal.yml",
    }
    for path in folder.iterdir():
        [job] = yaml.safe_load(path.read_text())["jobs"].values()
        assert job["uses"] == f"acme/certfleet/.github/workflows/{path.name}@{COMMIT}"
        assert f"wrote {path}\n" in err


def test_for_gitlab_one_file_includes_the_pipeline_of_the_commit_that_is_named(field):
    given = ("--thing-group", "line-a", "--desired-state", "first", "--ci", "gitlab")
    _, _, err = run(*given, "--workflows", f"acme/tools/certfleet@{COMMIT}")
    [included] = yaml.safe_load(Path(".gitlab-ci.yml").read_text())["include"]
    assert (included["project"], included["ref"]) == ("acme/tools/certfleet", COMMIT)
    assert "wrote .gitlab-ci.yml\n" in err


def test_every_number_says_what_it_was_derived_from(field):
    run("--thing-group", "line-a", "--desired-state", "first")
    text = documents()["line-a.yaml"]
    for line in text.splitlines():
        if re.search(r": .*\d", line) and not line.startswith(("apiVersion", "metadata")):
            assert " # " in line, line
    assert "7 of 8 are older, the oldest 900 d" in text
    assert "# keyType left out, each device keeps what it has; found: 7 × ECDSA-P256, 1 × RSA-2048" in text


def test_the_report_says_what_would_mend_what_is_in_the_way(field):
    _, out, _ = run("--thing-group", "line-a", "--desired-state", "first")
    assert "NotExclusive  6 devices, such as gw-0" in out
    assert "detach certificate" in out
    assert out.rstrip().endswith("certfleet drift")


def test_the_dialogue_asks_until_it_understands(field):
    code, _, err = run("--desired-state", "first", answer="7\nline-a\n2\n", is_terminal=True)
    assert code == 0
    assert "   1  line-a\n   2  line-a-old\n" in err
    assert err.count("Which of these get a policy?") == 3
    assert set(documents()) == {"fleet.yaml", "line-a-old.yaml"}


def test_groups_that_certfleet_has_made_for_itself_get_no_policy(field):
    record = {"attributePayload": {"attributes": {"groups-1": "line-a/2"}}}
    field.iot.create_thing_group(thingGroupName="cf-governed", thingGroupProperties=record)
    field.cloud.seed.group("cf-line-a-w1-78ab7d796916894b")
    run("--thing-group", "all", "--desired-state", "first")
    assert set(documents()) == {"fleet.yaml", "line-a.yaml", "line-a-old.yaml"}


def test_who_could_rotate_is_judged_by_the_backend_that_is_deployed(field):
    published = DeployedBackend("1.0.0", attachments=frozenset({EXCLUSIVE, NON_EXCLUSIVE}))
    name = BackendNames(DEFAULT_STACK_NAME).deployment_parameter
    field.client("ssm").put_parameter(Name=name, Value=published.to_json(), Type="String")
    _, out, _ = run("--thing-group", "all", "--desired-state", "first")
    assert out.startswith("8 of 9 devices could rotate today\n")
    assert "NotExclusive" not in out


REFUSED = {
    "no group is named and nobody can be asked": ([], "There are: line-a, line-a-old", "--thing-group line-a"),
    "the workflows are of no commit": (
        ["--thing-group", "all", "--ci", "github", "--workflows", "acme/certfleet@main"],
        "--workflows is 'acme/certfleet@main'",
        "OWNER/REPOSITORY@COMMIT",
    ),
    "a file for CI is there": (
        ["--thing-group", "all", "--ci", "github", "--workflows", f"acme/certfleet@{COMMIT}"],
        ".github/workflows/reconcile.yml is there already",
        "leave --ci out",
    ),
    "the group does not exist": (["--thing-group", "line-x"], "'line-x' does not exist", "list-thing-groups"),
}


@pytest.mark.parametrize(("arguments", "message", "remedy"), REFUSED.values(), ids=REFUSED)
def test_nothing_is_written_when(arguments, message, remedy, field, capsys):
    ours = Path(".github/workflows/reconcile.yml")
    ours.parent.mkdir(parents=True)
    ours.write_text("name: mine\n")
    assert cli.main(["init", "--region", "eu-west-1", "--desired-state", "first", *arguments]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert remedy in err
    assert not Path("first").exists()
    assert [path.read_text() for path in ours.parent.iterdir()] == ["name: mine\n"]


def test_documents_that_are_there_are_never_overwritten(field, capsys):
    before = documents("desired_state")
    assert cli.main(["init", "--region", "eu-west-1", "--thing-group", "all"]) == 1
    assert "init never overwrites" in capsys.readouterr().err
    assert documents("desired_state") == before


def test_the_private_ca_behind_certificates_becomes_a_document_and_one_behind_none_does_not(field):
    arns = [
        f"arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/0a7d5f3e-6c1b-4e0d-8a9f-2b4c6d8e0f1{n}"
        for n in "12"
    ]
    for arn, name in zip(arns, ("Plant CA #7", "Unused CA"), strict=True):
        field.cloud.seed.private_ca(arn, common_name=name)
    begin = datetime.now(UTC) - timedelta(days=300)
    field.cloud.seed.group("line-b")
    field.cloud.seed.thing("gw-b", ("line-b",))
    made = field.cloud.seed.certificate(
        ec.generate_private_key(ec.SECP384R1()).public_key(),
        authority=arns[0], not_before=begin, not_after=begin + timedelta(days=720),
    )  # fmt: skip
    field.iot.attach_thing_principal(thingName="gw-b", principal=made.arn, thingPrincipalType="EXCLUSIVE_THING")
    run("--thing-group", "line-b", "--desired-state", "first")
    [authority] = yaml.safe_load_all(documents()["authorities.yaml"])
    assert authority["metadata"] == {"name": "plant-ca-7"}
    assert authority["spec"] == {
        "type": "PrivateCA", "arn": arns[0], "signingAlgorithm": "SHA256WITHECDSA", "validity": "720d"
    }  # fmt: skip
    certificate = yaml.safe_load(documents()["line-b.yaml"])["spec"]["certificate"]
    assert certificate == {
        "maxAge": "480d", "renewBefore": "120d", "keyType": "ECDSA-P384", "authority": "plant-ca-7"
    }  # fmt: skip
    assert cli.main(["validate", "--desired-state", "first"]) == 0


def test_a_private_ca_is_named_and_described_as_the_backend_is_deployed_with_it(field):
    arn = "arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/0a7d5f3e-6c1b-4e0d-8a9f-2b4c6d8e0f11"
    template = "arn:aws:acm-pca:::template/EndEntityClientAuthCertificate/V1"
    field.cloud.seed.private_ca(arn, common_name="Plant CA #7")
    deployed = {"presses": DeployedAuthority(arn, "SHA384WITHECDSA", timedelta(days=90), template)}
    name = BackendNames(DEFAULT_STACK_NAME).deployment_parameter
    field.client("ssm").put_parameter(Name=name, Value=DeployedBackend("1.0.0", deployed).to_json(), Type="String")
    made = field.cloud.seed.certificate(ec.generate_private_key(ec.SECP256R1()).public_key(), authority=arn)
    field.cloud.seed.thing("gw-b", ("line-a",))
    field.iot.attach_thing_principal(thingName="gw-b", principal=made.arn, thingPrincipalType="EXCLUSIVE_THING")
    run("--thing-group", "all", "--desired-state", "first")
    [authority] = yaml.safe_load_all(documents()["authorities.yaml"])
    assert (authority["metadata"], authority["spec"]) == ({"name": "presses"}, {
        "type": "PrivateCA", "arn": arn, "signingAlgorithm": "SHA384WITHECDSA", "validity": "90d",
        "templateArn": template,
    })  # fmt: skip


class _Listing:
    """A session that knows these CAs, and reads the certificate of one whose ARN ends in ``readable``."""

    def __init__(self, *entries):
        self.entries = entries

    def pages(self, operation, service):
        yield {"CertificateAuthorities": [
            {"Arn": arn, "Status": status, "CertificateAuthorityConfiguration": {"KeyAlgorithm": key}}
            for arn, status, key in self.entries
        ]}  # fmt: skip

    def ask(self, service, operation, **parameters):
        return {} if parameters["CertificateAuthorityArn"].endswith("readable") else None


LEFT_OUT = {
    "has no certificate yet": (("a-readable", "PENDING_CERTIFICATE", "RSA_2048"), []),
    "cannot be read": (("a", "DELETED", "RSA_2048"), ["a is left out: its certificate cannot be read (it is DELETED)"]),
    "has a key that nobody has heard of": (
        ("a-readable", "ACTIVE", "ML_DSA_44"),
        ["a-readable is left out: this version does not know its key algorithm ML_DSA_44"],
    ),
}


@pytest.mark.parametrize(("entry", "told"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_a_private_ca_is_left_out_and_named_if_it(entry, told):
    found, said = private_authorities(_Listing(entry, ("b-readable", "ACTIVE", "EC_prime256v1")))
    assert [authority.arn for authority in found] == ["b-readable"]
    assert list(said) == told


def test_what_was_written_is_reported_before_any_backend_is_deployed(field, capsys):
    field.iot.delete_job_template(jobTemplateId="AWSLabsCertificateRotator")
    run("--thing-group", "all", "--desired-state", "first")
    assert cli.main(["drift", "--desired-state", "first"]) == 2
    assert "Able" not in capsys.readouterr().out
    text = Path("first/line-a.yaml").read_text()
    Path("first/line-a.yaml").write_text(re.sub("\n  mode: .*", "", text))
    assert cli.main(["drift", "--desired-state", "first"]) == 1
    assert "deploy the backend there" in capsys.readouterr().err
