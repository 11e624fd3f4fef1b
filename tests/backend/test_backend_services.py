"""The functions' environment, and what they build from it."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from backend_aws import client_error
from pydantic import ValidationError

from backend.functions import csr, services
from backend.functions.environment import read
from backend.functions.errors import ConflictError
from backend.functions.registry import Principal
from backend.functions.table import RACES, RotationTable

CREDENTIALS = {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}


def test_on_lambda_the_process_environment_is_read_once_and_the_endpoints_are_not_looked_up(monkeypatch, variables):
    for name, value in {**variables, **CREDENTIALS}.items():
        monkeypatch.setenv(name, value)
    services._of_this_process.cache_clear()
    token = services._running.set(None)
    try:
        built = services.services()
        assert services.services() is built
    finally:
        services._running.reset(token)
        services._of_this_process.cache_clear()
    assert built.environment.data_endpoint == "data.example"
    assert built.registry._data.meta.endpoint_url == "https://data.example"
    assert built.registry._jobs.meta.endpoint_url == "https://jobs.example"
    assert built.clock().tzinfo is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TABLE_NAME", ""),
        ("SNS_TOPIC_ARN", "topic"),
        ("IOT_DATA_ENDPOINT", "https://data.example"),
        ("AUTHORITIES", "not json"),
        ("AUTHORITIES", '{"ca": {"arn": "arn:aws:s3:::bucket", "signingAlgorithm": "MD5", "validitySeconds": 1}}'),
        ("PCA_CA_ARN", "5f0c9a52"),
        ("PCA_SIGNING_ALGORITHM", "SHA1WITHRSA"),
        ("PCA_VALIDITY_IN_DAYS", "0"),
    ],
)
def test_a_wrong_variable_is_named_before_the_first_event(variables, name, value):
    with pytest.raises(ValidationError, match=name):
        read({**variables, name: value})


def test_a_certificate_that_does_not_parse_certifies_nothing():
    assert csr.certifies("hello", "00") is False


def test_a_principal_that_is_no_certificate_has_no_certificate_id():
    assert Principal("arn:aws:cognito-identity:eu-west-1:1:identity/x", "EXCLUSIVE_THING").certificate_id is None


@pytest.mark.parametrize(("lost", "is_won"), [(RACES, True), (RACES + 1, False)])
def test_who_loses_a_race_for_what_many_write_reads_again_a_few_times(aws, lost, is_won):
    table, put = RotationTable(aws.client("dynamodb", None), "rotations"), aws.dynamodb_put_item
    table.note_shared("c", ["a", "b"], aws.now)
    races = iter(range(lost))

    def put_item(request):
        if next(races, None) is not None:
            raise client_error("ConditionalCheckFailedException", "PutItem")
        return put(request)

    aws.dynamodb_put_item = put_item
    with nullcontext() if is_won else pytest.raises(ConflictError):
        table.forget_shared("c")
