"""The reference has a row with a meaning for each thing that the code has, and no row for what it has not."""

import docs_reference as reference
import pytest
from shared_golden import assert_golden

PAGES = {
    "guardrails": reference.guardrails_page,
    "environment": reference.surroundings_page,
    "permissions": reference.permissions_page,
    "settings": reference.settings_page,
    "workflows": reference.workflows_page,
}


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_the_one_of_the_code(name):
    assert_golden(reference.ROOT / "docs" / f"{name}.md", PAGES[name]())


def test_every_guardrail_of_the_code_is_described():
    assert set(reference.GUARDRAILS) == reference.guardrails_in_code()


def test_every_override_is_described_and_each_guardrail_names_one():
    names = {*reference._PERCENTS, *reference._COUNTS, *reference._NAMES, "quarantined"}
    assert set(reference.OVERRIDES) == names
    assert {override for _, override in reference.GUARDRAILS.values()} == names - {"resume", "again"}


@pytest.mark.parametrize("part", reference.PARTS)
def test_every_variable_that_is_read_is_described(part):
    assert set(reference.VARIABLES[part]) == reference.variables_in_code(part)


def test_every_module_that_writes_is_named_beside_what_it_writes():
    described = {module for _, _, modules in reference.FILES.values() for module in modules}
    assert described == reference.writers_in_code() - reference.AT_BUILD_TIME


def test_every_role_and_every_variable_and_input_of_the_workflows_is_described():
    assert set(reference.ROLES) == set(reference.roles())
    assert set(reference.CI_VARIABLES) == set(reference.ci_variables())
    found = {name for document in reference.workflows().values() for name in reference._inputs(document)}
    assert set(reference.INPUTS) == found


def test_every_context_variable_and_every_key_of_the_component_is_described():
    assert set(reference.READ_OF_DOCUMENTS) == reference.context_in_code()
    assert all(field.description for field in reference.StackSettings.model_fields.values() if field.alias)
    assert all(one.metadata["meaning"] for one in reference.dataclasses.fields(reference.Configuration))
