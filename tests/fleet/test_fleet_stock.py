"""What stack and component of a stock backend are set to: known only where AWS shows it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fleet_registry import Fault, Registry

from controller.fleet.refresh import refresh
from controller.fleet.stock import _read, read_stock_backend
from controller.reconcile.values import StockBackend

CA = "arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/00000000-0000-0000-0000-000000000001"
DONE = {"deploymentId": "d-1", "deploymentName": "line-a", "coreDeviceExecutionStatus": "SUCCEEDED"}
SETTINGS = {
    "the key is merged": (DONE, {"merge": '{"keyAlgorithm": "ECDSA-P384"}'}, "ECDSA-P384", None),
    "merged after all is reset": (DONE, {"reset": [""], "merge": '{"keyAlgorithm": "RSA-3072"}'}, "RSA-3072", None),
    "the key is reset": (DONE, {"reset": ["/keyAlgorithm"]}, "RSA-2048", None),
    "something else is merged": (DONE, {"merge": '{"other": 1}'}, None, "the deployment line-a leaves keyAlgorithm as"),
    "nothing is said": (DONE, {}, None, "let the device's deployment merge keyAlgorithm into the configuration of"),
    "the merge is not JSON": (DONE, {"merge": "{"}, None, "leaves keyAlgorithm as it was"),
    "the merge is not an object": (DONE, {"merge": '["keyAlgorithm"]'}, None, "leaves keyAlgorithm as it was"),
    "it failed": (DONE | {"coreDeviceExecutionStatus": "FAILED"}, {"reset": [""]}, None, "line-a is FAILED on it"),
    "it has no name": (
        DONE | {"deploymentName": None, "coreDeviceExecutionStatus": "QUEUED"}, {}, None, "d-1 is QUEUED on it"),
}  # fmt: skip


@pytest.mark.parametrize("scene", SETTINGS)
def test_what_a_component_is_set_to_is_known_only_if_its_newest_deployment_says_so(scene):
    effective, update, key, why = SETTINGS[scene]
    found, unknown = _read(update, effective)
    assert found == key
    assert (unknown is None) is (why is None)
    assert why is None or why in unknown


STACKS = {
    "of AWS IoT": ({"PCA_CA_ARN": "", "PCA_VALIDITY_IN_DAYS": "7"}, StockBackend()),
    "of a private CA": ({"PCA_CA_ARN": CA, "PCA_VALIDITY_IN_DAYS": "7"}, StockBackend(CA, timedelta(days=7))),
}


@pytest.mark.parametrize("scene", STACKS)
def test_the_stacks_ca_is_read_from_its_function(make_session, registry: Registry, scene):
    registry.variables, expected = STACKS[scene]
    assert read_stock_backend(make_session(registry)) == expected


@pytest.mark.parametrize("variables", [{}, {"PCA_CA_ARN": CA}, {"PCA_CA_ARN": CA, "PCA_VALIDITY_IN_DAYS": "x"}])
def test_a_function_that_does_not_say_it_leaves_it_unknown(make_session, registry: Registry, variables):
    registry.variables = variables
    assert "does not show which CA it uses" in read_stock_backend(make_session(registry)).unknown


def test_the_permission_that_is_missing_is_named_and_the_refresh_goes_on(
    registry: Registry, make_session, make_desired, inventory, now
):
    registry.templates["AWSLabsCertificateRotator"] |= {"description": "rotates"}
    for operation in ("GetFunctionConfiguration", "ListEffectiveDeployments"):
        registry.faults[operation] = Fault("AccessDeniedException", 403, times=99)

    desired, session = make_desired("line-a"), make_session(registry)
    state = refresh(session, inventory, desired, now)

    assert "allow lambda:GetFunctionConfiguration" in state.stock.unknown
    unknown = [device.setting_unknown for device in inventory.devices(desired, state)]
    assert len(unknown) == 3
    assert all("allow greengrass:ListEffectiveDeployments" in why for why in unknown), unknown
