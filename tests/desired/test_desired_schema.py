"""The schema, the reference page and the examples say what the models say."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from shared_golden import assert_golden

from controller.desired import WorkingTree, load
from controller.desired.examples import EXAMPLES
from controller.desired.models import KINDS, CertificateSpec
from controller.desired.reference import reference_markdown
from controller.desired.schema import json_schema, schema_text
from controller.desired.yaml_documents import parse_documents

ROOT = Path(__file__).parents[2]
DESIRED_STATE = ROOT / "desired_state"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
FILES = sorted(DESIRED_STATE.rglob("*.yaml"))


def documents_of(text: bytes) -> list[object]:
    documents, problems = parse_documents("f.yaml", text)
    assert problems == []
    return [each.value for each in documents]


def test_the_schema_that_is_checked_in_is_the_one_of_the_models():
    assert_golden(DESIRED_STATE / "schema.json", schema_text())


def test_the_reference_page_is_the_one_of_the_models():
    assert_golden(ROOT / "docs" / "desired-state.md", reference_markdown())


def test_a_field_without_default_must_describe_what_it_means_if_it_is_left_out(monkeypatch):
    monkeypatch.setattr(CertificateSpec.model_fields["max_age"], "description", "The greatest age of a certificate.")
    with pytest.raises(ValueError, match="maxAge: its description must end with 'Left out: …'"):
        reference_markdown()


def test_the_schema_is_a_schema_and_every_field_of_it_is_described():
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    fields = [
        (name, field, entry)
        for name, definition in schema["$defs"].items()
        for field, entry in definition["properties"].items()
    ]
    assert len(fields) > 60
    for name, field, entry in fields:
        target = schema["$defs"].get(entry.get("$ref", "").rpartition("/")[2], {})
        assert entry.get("description") or target.get("description"), f"{name}.{field}"
    assert all(definition["additionalProperties"] is False for definition in schema["$defs"].values())


def test_the_examples_of_the_kinds_are_one_correct_fleet(states):
    assert list(EXAMPLES) == list(KINDS)
    (state,) = states({f"{kind}.yaml": text for kind, text in EXAMPLES.items()})
    assert (len(state.policies), len(state.waivers), len(state.incidents)) == (1, 1, 1)


def test_the_examples_of_the_repository_are_correct_fleets():
    demo, example = load(WorkingTree(DESIRED_STATE), now=NOW)
    groups = ["line-a-gateways", "line-b-gateways", "line-c-gateways", "test-benches"]
    assert [policy.thing_group for policy in demo.policies] == groups
    assert demo.authorities["plant-ca"].arn is not None
    assert (example.fleet.name, len(example.waivers), len(example.incidents)) == ("production", 1, 1)


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_editors_find_the_schema_and_take_every_document_of_the_examples(file):
    text = file.read_bytes()
    assert text.startswith(b"# yaml-language-server: $schema=../schema.json\n")
    for document in documents_of(text):
        Draft202012Validator(json_schema()).validate(document)


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        pytest.param("Fleet", '"123456789012"', "123456789012", id="an account as a number"),
        pytest.param("Fleet", "kind: Fleet", "kind: Flet", id="an unknown kind"),
        pytest.param("Fleet", "v1", "v2", id="another version"),
        pytest.param("Fleet", "region:", "regoin:", id="an unknown key"),
        pytest.param("CertificateAuthority", "PrivateCA", "Vault", id="another type of authority"),
        pytest.param("RotationPolicy", "180d", "180 days", id="a wrong duration"),
        pytest.param("RotationPolicy", "ECDSA-P256", "P256", id="an unknown key type"),
        pytest.param("RotationPolicy", '"5%"', '"500%"', id="a wave of more than everything"),
        pytest.param("RotationPolicy", "maxAge: 180d", "maxAge:", id="a key without a value"),
        pytest.param("RotationPolicy", "jitterPercent: 10", "jitterPercent: 51", id="jitter beyond half a life"),
        pytest.param("Waiver", "2027-03-31T00:00:00Z", "2027-03-31T00:00:00", id="an instant without a zone"),
        pytest.param("Waiver", "  owner: maintenance of line A\n", "", id="a missing field"),
        pytest.param("Incident", "RSA-2048", "RSA-1024", id="a key type that no device may hold"),
    ],
)
def test_editors_are_told_of_what_validate_refuses(problems, kind, old, new):
    text = EXAMPLES[kind].replace(old, new, 1)
    assert text != EXAMPLES[kind]
    (document,) = documents_of(text.encode())
    assert not Draft202012Validator(json_schema()).is_valid(document)
    assert problems({**{f"{each}.yaml": example for each, example in EXAMPLES.items()}, f"{kind}.yaml": text})


def test_defaults_stand_in_the_schema_as_yaml_writes_them():
    rollout = json_schema()["$defs"]["RolloutSpec"]["properties"]
    assert {name: entry.get("default") for name, entry in rollout.items()} == {
        "waves": ["100%"],
        "soak": "1d",
        "maxInFlight": 500,
        "maximumPerMinute": 100,
        "timeout": "5m",
        "retries": 2,
        "abort": [],
        "stragglersAfter": "1d",
        "offlineFirst": False,
    }
