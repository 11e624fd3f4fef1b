"""Rotations through the synthesised template: rules, functions, table and job events, nothing faked."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from cryptography import x509

CREATE = "AWSLabsCertificateRotatorCreateCertificate"
COMMIT = "AWSLabsCertificateRotatorCommitCertificate"
TERMINAL = "AWSLabsCertificateRotatorJobExecutionTerminal"


def rotate(device):
    device.create()
    outcome, answer = device.answer()
    assert outcome == "create/accepted", answer
    certificate = x509.load_pem_x509_certificate(answer["certificatePem"].encode())
    [device.principal] = set(device.certificates()) - {device.old}
    device.commit()
    assert device.answer() == ("commit/accepted", {"jobId": device.job})
    device.report("SUCCEEDED")
    assert device.world.stack.drain(20)
    return certificate


@pytest.mark.parametrize("authority", ["aws-iot", "plant-ca"])
def test_a_rotation_runs_from_rule_to_registry(world, device, authority):
    device.start_job(f"job-{authority}", {"operation": "ROTATE_CERTIFICATE", "certificateAuthority": authority})
    certificate = rotate(device)
    assert certificate.public_key() == device.new_key.public_key()
    assert device.certificates() == {device.principal: "EXCLUSIVE_THING"}
    iot = world.client("iot")
    with pytest.raises(iot.exceptions.ResourceNotFoundException):
        iot.describe_certificate(certificateId=device.old)
    policies = iot.list_attached_policies(target=f"arn:aws:iot:eu-west-1:123456789012:cert/{device.principal}")
    assert [p["policyName"] for p in policies["policies"]] == ["device"]


def test_the_public_view_is_the_named_shadow(world, device):
    device.start_job("job-shadow")
    rotate(device)
    answer = world.client("iot-data").get_thing_shadow(thingName=device.name, shadowName="AWSLabsCertificateRotator")
    reported = json.loads(answer["payload"].read())["state"]["reported"]
    assert reported == {
        "progress": "rotated", "oldCertificateId": device.old, "newCertificateId": device.principal
    }  # fmt: skip


def test_a_failed_job_leaves_the_old_certificate_alone(world, device):
    device.start_job("job-fails")
    device.create()
    assert device.answer()[0] == "create/accepted"
    device.report("FAILED", "no connection after the restart")
    assert world.stack.drain(20)
    assert device.certificates() == {device.old: "EXCLUSIVE_THING"}


def test_a_disabled_rule_passes_messages_over_until_it_is_enabled(world, device):
    iot = world.client("iot")
    device.start_job("job-rule")
    iot.disable_topic_rule(ruleName=CREATE)
    try:
        device.create()
        assert world.stack.drain(20)
        assert device.answers.empty()
    finally:
        iot.enable_topic_rule(ruleName=CREATE)
    rotate(device)


def test_a_changed_environment_acts_on_the_next_event(world, device):
    functions = world.client("lambda")
    environment = functions.get_function_configuration(FunctionName=CREATE)["Environment"]
    ca = json.loads(environment["Variables"]["AUTHORITIES"])["plant-ca"]["arn"]
    changed = {**environment["Variables"], "PCA_CA_ARN": ca, "PCA_SIGNING_ALGORITHM": "SHA384WITHECDSA"}
    functions.update_function_configuration(FunctionName=CREATE, Environment={"Variables": changed})
    try:
        device.start_job("job-env")
        certificate = rotate(device)
    finally:
        functions.update_function_configuration(FunctionName=CREATE, Environment=environment)
    assert certificate.signature_hash_algorithm.name == "sha384"
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days in (7, 8)


def test_a_throttled_function_runs_once_it_may_again(world, device):
    functions = world.client("lambda")
    device.start_job("job-throttled")
    functions.put_function_concurrency(FunctionName=CREATE, ReservedConcurrentExecutions=0)
    try:
        device.create()
        assert not world.stack.drain(0.3)
    finally:
        functions.delete_function_concurrency(FunctionName=CREATE)
    assert device.answer()[0] == "create/accepted"


def test_a_connection_settles_what_was_canceled_after_the_commit(world, device):
    device.start_job("job-unresolved")
    device.create()
    device.answer()
    [device.principal] = set(device.certificates()) - {device.old}
    device.commit()
    device.answer()
    world.client("iot").cancel_job_execution(jobId="job-unresolved", thingName=device.name, force=True)
    assert world.stack.drain(20)
    assert len(device.certificates()) == 2
    world.clock.advance(timedelta(seconds=2))
    world.cloud.registry.connected(device.principal, device.name)
    assert world.stack.drain(20)
    assert list(device.certificates()) == [device.principal]


def test_messages_that_are_no_json_objects_are_passed_over(world, device):
    from sandbox.bus import Message

    world.bus.publish(Message(f"awslabs/things/{device.name}/certificate/create", b"\xff", 0, device.old, device.name))
    world.bus.publish(Message(f"awslabs/things/{device.name}/certificate/create", b"[]", 0, device.old, device.name))
    assert world.stack.drain(20)
    assert device.answers.empty()


def test_a_function_that_fails_for_good_hands_its_event_to_the_dead_letter_queue(world, device):
    functions = world.client("lambda")
    environment = functions.get_function_configuration(FunctionName=COMMIT)["Environment"]
    functions.update_function_configuration(FunctionName=COMMIT, Environment={"Variables": {}})
    try:
        device.job = "job-dead"
        device.commit()
        assert world.stack.drain(20)
    finally:
        functions.update_function_configuration(FunctionName=COMMIT, Environment=environment)
    queue_url = world.stack.outputs["DeadLetterQueueUrl"]
    [message] = world.client("sqs").receive_message(QueueUrl=queue_url)["Messages"]
    record = json.loads(message["Body"])
    assert record["requestPayload"]["jobId"] == "job-dead"
    assert record["requestContext"]["condition"] == "RetriesExhausted"


def test_the_job_template_is_ours_and_carries_the_stock_document(world):
    template = world.client("iot").describe_job_template(jobTemplateId="AWSLabsCertificateRotator")
    assert template["document"] == '{"operation":"ROTATE_CERTIFICATE"}'
    assert template["description"].startswith("certfleet")
    assert template["jobExecutionsRolloutConfig"]["exponentialRate"]["incrementFactor"] == 1.2
    assert template["timeoutConfig"] == {"inProgressTimeoutInMinutes": 5}


def test_the_outputs_name_what_was_made(world):
    outputs = world.stack.outputs
    assert outputs["ShadowName"] == "AWSLabsCertificateRotator"
    assert outputs["NotificationTopicArn"].endswith(":AWSLabsCertificateRotatorNotification")
    assert outputs["ReconcileRoleArn"].startswith("arn:aws:iam::123456789012:role/")
    tables = world.client("dynamodb").list_tables()["TableNames"]
    assert outputs["RotationTable"] in tables
