"""The server, Private CA, shadows, functions, Greengrass and what moto plays, through boto3 and the AWS CLI."""

import json
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sandbox.aws import Cloud
from sandbox.aws.functions import FunctionThrottledError
from sandbox.aws.greengrass.deployments import InstalledComponent
from sandbox.bus import Message

KEY = ec.generate_private_key(ec.SECP256R1())
ARN = "arn:aws:iot:eu-west-1:123456789012:"
CA = "arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/5f0c9a52-3d0f-4f6f-9a53-b1d1e6a9c001"
CSR = (
    x509.CertificateSigningRequestBuilder()
    .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gw")]))
    .sign(KEY, hashes.SHA256())
    .public_bytes(serialization.Encoding.PEM)
)


def refused(call, code, **request):
    with pytest.raises(ClientError) as error:
        call(**request)
    assert error.value.response["Error"]["Code"] == code
    return error.value.response


class TestTheServer:
    def test_the_described_endpoint_is_stable_and_speaks_tls_under_the_bundle(self, iot, cloud, client):
        addresses = {
            iot.describe_endpoint(endpointType=kind)["endpointAddress"]
            for kind in ("iot:Data-ATS", "iot:Jobs", "iot:CredentialProvider", "iot:Data-ATS")
        }
        assert addresses == {cloud.address}
        cloud.seed.thing("t")
        for service in ("iot-data", "iot-jobs-data"):
            secure = client(service, endpoint_url=f"https://{cloud.address}", verify=str(cloud.ca_bundle))
            if service == "iot-data":
                assert secure.list_named_shadows_for_thing(thingName="t")["results"] == []
            else:
                assert secure.get_pending_job_executions(thingName="t")["queuedJobs"] == []

    @pytest.mark.parametrize(
        ("service", "call", "request_"),
        [
            ("iot", "list_billing_groups", {}),
            ("iot", "create_dynamic_thing_group", {"thingGroupName": "g", "queryString": "*"}),
            ("iot-data", "list_retained_messages", {}),
            ("greengrassv2", "get_service_role_for_account", {}),
            ("lambda", "list_layers", {}),
            ("acm-pca", "get_policy", {"ResourceArn": CA}),
            ("ec2", "describe_instances", {}),
            ("kinesis", "list_streams", {}),
            ("sns", "get_data_protection_policy", {"ResourceArn": "arn:aws:sns:eu-west-1:123456789012:t"}),
            ("kms", "describe_custom_key_stores", {}),
            ("dynamodb", "list_global_tables", {}),
        ],
    )
    def test_what_it_does_not_have_is_501_and_named(self, client, service, call, request_):
        response = refused(getattr(client(service), call), "NotImplemented", **request_)
        assert response["ResponseMetadata"]["HTTPStatusCode"] == 501
        message = response["Error"]["Message"].lower()
        assert service.replace("v2", "") in message or call.replace("_", "") in message

    def test_an_unsupported_call_is_json_over_plain_http(self, cloud):
        scope = "AWS4-HMAC-SHA256 Credential=x/20261123/eu-west-1/iot/aws4_request, Signature=x"
        request = urllib.request.Request(f"{cloud.endpoint_url}/billing-groups", headers={"Authorization": scope})
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(request)
        assert error.value.code == 501
        assert "ListBillingGroups" in json.loads(error.value.read())["message"]
        error.value.close()

    def test_unsigned_requests_and_oversized_bodies_are_refused(self, cloud):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(f"{cloud.endpoint_url}/things")
        assert error.value.code == 403
        error.value.close()
        with socket.create_connection(("127.0.0.1", cloud._server.port)) as raw:
            raw.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
            assert raw.recv(1024).startswith(b"HTTP/1.1 413")

    def test_a_stalled_connection_holds_up_nobody(self, iot, cloud):
        with socket.create_connection(("127.0.0.1", cloud._server.port)) as stalled:
            stalled.sendall(b"\x16\x03\x01")  # the beginning of a TLS hello, and then nothing
            assert iot.list_things()["things"] == []

    def test_many_threads_at_once_lose_nothing(self, iot, cloud):
        cloud.seed.group("g")
        failures = []

        def work(n):
            try:
                for i in range(10):
                    iot.create_thing(thingName=f"t{n}-{i}")
                    iot.add_thing_to_thing_group(thingGroupName="g", thingName=f"t{n}-{i}")
            except ClientError as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert len(iot.list_things_in_thing_group(thingGroupName="g")["things"]) == 50

    def test_a_listener_may_call_the_cloud_again_and_wait_for_another_thread(self, iot, cloud, bus, client):
        cloud.seed.thing("t")
        seen = []

        def listener(message: Message):
            if message.topic == "hello":
                seen.append(iot.describe_thing(thingName="t")["thingName"])  # served by another thread

        bus.listen(listener)
        client("iot-data").publish(topic="hello", payload=b"x")
        assert seen == ["t"]

    def test_two_clouds_of_one_account_share_nothing(self, cloud, client, clock, bus, tmp_path):
        other = Cloud("123456789012", "eu-west-1", clock, bus, tmp_path)
        other.start()
        try:
            client("sqs").create_queue(QueueName="q")
            client("iot").create_thing(thingName="t")
            elsewhere = {"endpoint_url": other.endpoint_url}
            assert "QueueUrls" not in client("sqs", **elsewhere).list_queues()
            assert client("iot", **elsewhere).list_things()["things"] == []
            assert len(client("sqs").list_queues()["QueueUrls"]) == 1
        finally:
            other.stop()

    def test_the_aws_cli_works_with_the_environment_of_the_cloud(self, cloud):
        cloud.seed.thing("t")
        made = cloud.seed.certificate(KEY.public_key())
        cloud.seed.attach("t", made.certificate_id)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")} | cloud.environment()
        found = subprocess.run(
            [sys.executable, "-m", "awscli", "iot", "list-thing-principals-v2", "--thing-name", "t"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(found.stdout)["thingPrincipalObjects"] == [
            {"principal": made.arn, "thingPrincipalType": "EXCLUSIVE_THING"}
        ]


class TestServicesOfMoto:
    def test_the_account_is_the_clouds_own(self, client):
        assert client("sts").get_caller_identity()["Account"] == "123456789012"
        role = "arn:aws:iam::123456789012:role/certfleet-reconcile"
        assumed = client("sts").assume_role(RoleArn=role, RoleSessionName="ci")["Credentials"]
        session = {
            "aws_access_key_id": assumed["AccessKeyId"],
            "aws_secret_access_key": assumed["SecretAccessKey"],
            "aws_session_token": assumed["SessionToken"],
        }
        assert client("sts", **session).get_caller_identity()["Account"] == "123456789012"

    def test_tables_topics_queues_buckets_and_keys(self, client):
        table = client("dynamodb")
        table.create_table(
            TableName="t",
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
        )
        item = {"k": {"S": "a"}}
        table.put_item(TableName="t", Item=item, ConditionExpression="attribute_not_exists(k)")
        refused(
            table.put_item,
            "ConditionalCheckFailedException",
            TableName="t",
            Item=item,
            ConditionExpression="attribute_not_exists(k)",
        )
        queue = client("sqs").create_queue(QueueName="q")["QueueUrl"]
        queue_arn = client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
        topic = client("sns").create_topic(Name="n")["TopicArn"]
        client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn["QueueArn"])
        client("sns").publish(TopicArn=topic, Message="drift")
        (message,) = client("sqs").receive_message(QueueUrl=queue)["Messages"]
        assert json.loads(message["Body"])["Message"] == "drift"
        bucket = client("s3")
        bucket.create_bucket(Bucket="bundle", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        bucket.put_object(Bucket="bundle", Key="a/b c.json", Body=b"{}")
        assert bucket.get_object(Bucket="bundle", Key="a/b c.json")["Body"].read() == b"{}"
        refused(bucket.put_object, "PreconditionFailed", Bucket="bundle", Key="a/b c.json", Body=b"x", IfNoneMatch="*")
        keys = client("kms")
        key = keys.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
        signed = keys.sign(KeyId=key, Message=b"m", SigningAlgorithm="ECDSA_SHA_256")["Signature"]
        assert keys.verify(KeyId=key, Message=b"m", Signature=signed, SigningAlgorithm="ECDSA_SHA_256")[
            "SignatureValid"
        ]
        client("cloudwatch").put_metric_data(Namespace="certfleet", MetricData=[{"MetricName": "drift", "Value": 1.0}])


class TestPrivateCa:
    def issue(self, client, algorithm="SHA256WITHECDSA", days=365, **more):
        return client("acm-pca").issue_certificate(
            CertificateAuthorityArn=CA,
            Csr=CSR,
            SigningAlgorithm=algorithm,
            Validity={"Value": days, "Type": "DAYS"},
            **more,
        )["CertificateArn"]

    def fetch(self, client, arn):
        found = client("acm-pca").get_certificate(CertificateAuthorityArn=CA, CertificateArn=arn)
        return found["Certificate"], found["CertificateChain"]

    @pytest.mark.parametrize("digest", ["SHA256", "SHA384", "SHA512"])
    @pytest.mark.parametrize(
        ("key", "suffix"), [("RSA_2048", "RSA"), ("EC_prime256v1", "ECDSA"), ("EC_secp384r1", "ECDSA")]
    )
    def test_it_signs_as_asked_and_openssl_verifies_the_chain(self, cloud, client, tmp_path, digest, key, suffix):
        cloud.seed.private_ca(CA, key, f"SHA256WITH{suffix}", "Plant CA")
        leaf, chain = self.fetch(client, self.issue(client, f"{digest}WITH{suffix}"))
        certificate = x509.load_pem_x509_certificate(leaf.encode())
        assert certificate.signature_hash_algorithm.name == digest.lower()
        assert certificate.public_key() == KEY.public_key()
        assert certificate.issuer.rfc4514_string() == "CN=Plant CA"
        (tmp_path / "leaf.pem").write_text(leaf)
        (tmp_path / "chain.pem").write_text(chain)
        moment = str(int(cloud.now().timestamp()))
        verified = subprocess.run(
            ["openssl", "verify", "-x509_strict", "-attime", moment, "-CAfile", "chain.pem", "leaf.pem"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert verified.stdout.strip() == "leaf.pem: OK", verified.stderr

    @pytest.mark.parametrize(
        ("validity", "expected"),
        [
            ({"Type": "DAYS", "Value": 7}, datetime(2026, 11, 30, 12, tzinfo=UTC)),
            ({"Type": "MONTHS", "Value": 2}, datetime(2027, 1, 23, 12, tzinfo=UTC)),
            ({"Type": "YEARS", "Value": 1}, datetime(2027, 11, 23, 12, tzinfo=UTC)),
            ({"Type": "ABSOLUTE", "Value": 1800000000}, datetime.fromtimestamp(1800000000, UTC)),
            ({"Type": "END_DATE", "Value": 20270101000000}, datetime(2027, 1, 1, tzinfo=UTC)),
        ],
        ids=lambda value: value["Type"] if isinstance(value, dict) else "",
    )
    def test_the_validity_is_as_asked_and_begins_an_hour_back(self, cloud, client, clock, validity, expected):
        cloud.seed.private_ca(CA)
        arn = client("acm-pca").issue_certificate(
            CertificateAuthorityArn=CA, Csr=CSR, SigningAlgorithm="SHA256WITHECDSA", Validity=validity
        )["CertificateArn"]
        leaf = x509.load_pem_x509_certificate(self.fetch(client, arn)[0].encode())
        assert (leaf.not_valid_before_utc, leaf.not_valid_after_utc) == (clock.now() - timedelta(hours=1), expected)

    def test_the_template_decides_the_extensions(self, cloud, client):
        cloud.seed.private_ca(CA)
        template = "arn:aws:acm-pca:::template/EndEntityClientAuthCertificate/V1"
        leaf = x509.load_pem_x509_certificate(self.fetch(client, self.issue(client, TemplateArn=template))[0].encode())
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(usage) == [x509.ExtendedKeyUsageOID.CLIENT_AUTH]
        unknown = "arn:aws:acm-pca:::template/BlankEndEntityCertificate_APIPassthrough/V1"
        with pytest.raises(ClientError, match="NotImplemented"):
            self.issue(client, TemplateArn=unknown)

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"SigningAlgorithm": "SHA256WITHRSA"}, "ValidationException"),
            ({"Csr": b"rubbish"}, "MalformedCSRException"),
            ({"Validity": {"Type": "YEARS", "Value": 50}}, "ValidationException"),
            ({"CertificateAuthorityArn": CA[:-1] + "9"}, "ResourceNotFoundException"),
        ],
        ids=["an algorithm of another family", "no CSR", "beyond the CA's own end", "another CA"],
    )
    def test_it_refuses(self, cloud, client, change, code):
        cloud.seed.private_ca(CA)
        request = {
            "CertificateAuthorityArn": CA,
            "Csr": CSR,
            "SigningAlgorithm": "SHA256WITHECDSA",
            "Validity": {"Type": "DAYS", "Value": 1},
        }
        refused(client("acm-pca").issue_certificate, code, **{**request, **change})

    def test_answers_may_come_late_and_tokens_make_issuing_idempotent(self, cloud, client, clock):
        cloud.seed.private_ca(CA)
        cloud.private_cas.issuing_takes = timedelta(seconds=40)
        arn = self.issue(client, IdempotencyToken="once")
        assert self.issue(client, IdempotencyToken="once") == arn
        with pytest.raises(ClientError, match="RequestInProgressException"):
            self.fetch(client, arn)
        clock.advance(timedelta(seconds=40))
        assert self.fetch(client, arn)[0].startswith("-----BEGIN CERTIFICATE-----")

    def test_a_root_and_a_subordinate_are_set_up_as_on_aws(self, client):
        pca = client("acm-pca")

        def create(kind, name):
            return pca.create_certificate_authority(
                CertificateAuthorityType=kind,
                CertificateAuthorityConfiguration={
                    "KeyAlgorithm": "EC_prime256v1",
                    "SigningAlgorithm": "SHA256WITHECDSA",
                    "Subject": {"CommonName": name},
                },
            )["CertificateAuthorityArn"]

        root, sub = create("ROOT", "root"), create("SUBORDINATE", "sub")
        refused(pca.get_certificate_authority_certificate, "InvalidStateException", CertificateAuthorityArn=root)
        for authority, template, days in (
            (root, "RootCACertificate", 900),
            (sub, "SubordinateCACertificate_PathLen0", 800),
        ):
            csr = pca.get_certificate_authority_csr(CertificateAuthorityArn=authority)["Csr"]
            arn = pca.issue_certificate(
                CertificateAuthorityArn=root,
                Csr=csr.encode(),
                SigningAlgorithm="SHA256WITHECDSA",
                TemplateArn=f"arn:aws:acm-pca:::template/{template}/V1",
                Validity={"Type": "DAYS", "Value": days},
            )["CertificateArn"]
            made = pca.get_certificate(CertificateAuthorityArn=root, CertificateArn=arn)
            chain = {"CertificateChain": made["CertificateChain"]} if "CertificateChain" in made else {}
            pca.import_certificate_authority_certificate(
                CertificateAuthorityArn=authority, Certificate=made["Certificate"], **chain
            )
        found = {
            a["Arn"]: (a["Type"], a["Status"]) for a in pca.list_certificate_authorities()["CertificateAuthorities"]
        }
        assert found == {root: ("ROOT", "ACTIVE"), sub: ("SUBORDINATE", "ACTIVE")}
        pca.update_certificate_authority(CertificateAuthorityArn=sub, Status="DISABLED")
        refused(
            pca.issue_certificate,
            "InvalidStateException",
            CertificateAuthorityArn=sub,
            Csr=CSR,
            SigningAlgorithm="SHA256WITHECDSA",
            Validity={"Type": "DAYS", "Value": 1},
        )


class TestShadows:
    @pytest.fixture
    def data(self, cloud, client):
        cloud.seed.thing("t")
        return client("iot-data")

    def put(self, data, document, **more):
        answer = data.update_thing_shadow(thingName="t", shadowName="s", payload=json.dumps(document), **more)
        return json.loads(answer["payload"].read())

    def get(self, data):
        return json.loads(data.get_thing_shadow(thingName="t", shadowName="s")["payload"].read())

    def test_updates_merge_null_removes_and_delta_is_what_is_not_reported(self, data, heard):
        self.put(data, {"state": {"desired": {"a": 1, "b": {"c": 2, "d": 3}}, "reported": {"a": 1}}})
        self.put(data, {"state": {"desired": {"b": {"c": None}}}})
        found = self.get(data)
        assert found["state"] == {
            "desired": {"a": 1, "b": {"d": 3}},
            "reported": {"a": 1},
            "delta": {"b": {"d": 3}},
        }
        assert found["version"] == 2
        topics = [topic.partition("/shadow/name/s/")[2] for topic, _ in heard]
        assert topics == ["update/accepted", "update/documents", "update/delta"] * 2

    def test_versions_conflict_and_go_on_over_deletion(self, data):
        self.put(data, {"state": {"reported": {"a": 1}}})
        refused(
            data.update_thing_shadow,
            "ConflictException",
            thingName="t",
            shadowName="s",
            payload=json.dumps({"state": {}, "version": 7}),
        )
        assert data.list_named_shadows_for_thing(thingName="t")["results"] == ["s"]
        data.delete_thing_shadow(thingName="t", shadowName="s")
        refused(data.get_thing_shadow, "ResourceNotFoundException", thingName="t", shadowName="s")
        assert self.put(data, {"state": {"reported": {"a": 1}}})["version"] == 2

    @pytest.mark.parametrize("payload", ["x", "[]", '{"state": 1}', '{"state": {"desired": 1}}'])
    def test_malformed_updates_are_refused(self, data, payload):
        refused(data.update_thing_shadow, "InvalidRequestException", thingName="t", shadowName="s", payload=payload)

    def test_a_device_reads_and_writes_over_mqtt(self, data, bus, heard):
        topic = "$aws/things/t/shadow/name/s"
        bus.publish(Message(f"{topic}/get", b"", client_id="t"))
        bus.publish(Message(f"{topic}/update", b'{"state": {"reported": {"a": 1}}}', client_id="t"))
        bus.publish(Message(f"{topic}/get", b"", client_id="t"))
        outcomes = [t.removeprefix(f"{topic}/") for t, _ in heard if t.endswith(("accepted", "rejected"))]
        assert outcomes == ["get/rejected", "update/accepted", "get/accepted"]


class TestFunctions:
    @pytest.fixture
    def calls(self, cloud):
        seen = []
        cloud.functions.register("f", lambda event, env: seen.append((event, env["KEY"])) or {"ok": True}, {"KEY": "1"})
        return seen

    def test_the_environment_is_a_lever(self, client, cloud, calls):
        lambdas = client("lambda")
        assert lambdas.get_function_configuration(FunctionName="f")["Environment"]["Variables"] == {"KEY": "1"}
        lambdas.update_function_configuration(FunctionName="f", Environment={"Variables": {"KEY": "2"}})
        assert cloud.functions.run("f", {"a": 1}) == {"ok": True}
        assert calls == [({"a": 1}, "2")]

    def test_no_concurrency_stops_it(self, client, cloud, calls):
        client("lambda").put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=0)
        with pytest.raises(FunctionThrottledError):
            cloud.functions.run("f", {})
        refused(client("lambda").invoke, "TooManyRequestsException", FunctionName="f")
        client("lambda").delete_function_concurrency(FunctionName="f")
        assert json.loads(client("lambda").invoke(FunctionName="f", Payload=b"{}")["Payload"].read()) == {"ok": True}

    def test_its_code_may_call_the_cloud_and_its_failure_is_the_answer(self, client, cloud, iot):
        cloud.functions.register("g", lambda _event, _env: iot.describe_thing(thingName="nobody"), {})
        answer = client("lambda").invoke(FunctionName="g", Payload=b"{}")
        assert answer["FunctionError"] == "Unhandled"
        assert "ResourceNotFoundException" in json.loads(answer["Payload"].read())["errorMessage"]

    def test_unknown_functions_and_parameters(self, client, calls):
        refused(client("lambda").get_function, "ResourceNotFoundException", FunctionName="nobody")
        refused(
            client("lambda").update_function_configuration, "NotImplemented", FunctionName="f", Runtime="python3.13"
        )


class TestGreengrass:
    RECIPE = json.dumps(
        {
            "RecipeFormatVersion": "2020-01-25",
            "ComponentName": "rotator",
            "ComponentVersion": "1.2.0",
            "Manifests": [{"Platform": {"os": "linux"}}],
        }
    )

    def test_component_versions(self, client):
        gg = client("greengrassv2")
        made = gg.create_component_version(inlineRecipe=self.RECIPE)
        newer = gg.create_component_version(inlineRecipe=self.RECIPE.replace("1.2.0", "1.10.0"))
        refused(gg.create_component_version, "ConflictException", inlineRecipe=self.RECIPE)
        refused(gg.create_component_version, "ValidationException", inlineRecipe="ComponentName: x")
        assert json.loads(gg.get_component(arn=made["arn"])["recipe"])["ComponentName"] == "rotator"
        assert gg.describe_component(arn=made["arn"])["platforms"] == [{"attributes": {"os": "linux"}}]
        (component,) = gg.list_components()["components"]
        assert component["latestVersion"]["arn"] == newer["arn"]
        versions = gg.list_component_versions(arn=component["arn"])["componentVersions"]
        assert [v["componentVersion"] for v in versions] == ["1.10.0", "1.2.0"]
        gg.delete_component(arn=made["arn"])
        refused(gg.get_component, "ResourceNotFoundException", arn=made["arn"])

    @pytest.mark.parametrize(("status", "deployment"), [("SUCCEEDED", "COMPLETED"), ("FAILED", "FAILED")])
    def test_a_deployment_ends_as_the_nucleus_reports(self, cloud, client, iot, devices, status, deployment):
        cloud.seed.thing("t")
        orders = []
        cloud.deployments.on_order(orders.append)
        made = client("greengrassv2").create_deployment(
            targetArn=f"{ARN}thing/t",
            components={
                "rotator": {
                    "componentVersion": "1.2.0",
                    "configurationUpdate": {"merge": json.dumps({"keyAlgorithm": "ECDSA-P256"}), "reset": ["/x"]},
                }
            },
        )
        (order,) = orders
        assert order == cloud.deployments.pending("t")[0]
        component = order.components["rotator"]
        assert (component.merge, component.reset) == ({"keyAlgorithm": "ECDSA-P256"}, ("/x",))
        assert devices.get_pending_job_executions(thingName="t")["queuedJobs"] == []  # no business of components
        cloud.deployments.report("t", order.deployment_id, status, "families do not match")
        found = client("greengrassv2").get_deployment(deploymentId=made["deploymentId"])
        assert found["deploymentStatus"] == deployment
        execution = iot.describe_job_execution(jobId=made["iotJobId"], thingName="t")["execution"]
        assert execution["status"] == status
        cloud.deployments.report_device("t", [InstalledComponent("rotator", "1.2.0")])
        (effective,) = client("greengrassv2").list_effective_deployments(coreDeviceThingName="t")[
            "effectiveDeployments"
        ]
        assert (effective["coreDeviceExecutionStatus"], effective["reason"]) == (status, "families do not match")
        assert cloud.deployments.pending("t") == []

    def test_a_group_deployment_reaches_members_now_and_later_and_is_superseded(self, cloud, client):
        gg, target = client("greengrassv2"), f"{ARN}thinggroup/g"
        cloud.seed.group("g")
        cloud.seed.thing("a", ["g"])
        first = gg.create_deployment(targetArn=target)["deploymentId"]
        cloud.seed.thing("b", ["g"])
        assert [o.deployment_id for o in cloud.deployments.pending("b")] == [first]
        second = gg.create_deployment(targetArn=target)["deploymentId"]
        assert [o.deployment_id for o in cloud.deployments.pending("b")] == [second]
        assert [d["deploymentId"] for d in gg.list_deployments()["deployments"]] == [second]
        assert len(gg.list_deployments(historyFilter="ALL")["deployments"]) == 2
        gg.cancel_deployment(deploymentId=second)
        assert gg.get_deployment(deploymentId=second)["deploymentStatus"] == "CANCELED"
        refused(gg.cancel_deployment, "ConflictException", deploymentId=second)

    def test_core_devices_are_listed_as_they_report(self, cloud, client):
        gg = client("greengrassv2")
        cloud.seed.group("g")
        cloud.seed.thing("a", ["g"])
        cloud.deployments.report_device(
            "a",
            [
                InstalledComponent("rotator", "1.0.0", "RUNNING"),
                InstalledComponent("lib", "1.0.0", "FINISHED", is_root=False),
            ],
        )
        cloud.deployments.report_device("z", [], healthy=False)
        listed = gg.list_core_devices(thingGroupArn=f"{ARN}thinggroup/g")["coreDevices"]
        assert [(d["coreDeviceThingName"], d["status"]) for d in listed] == [("a", "HEALTHY")]
        assert gg.get_core_device(coreDeviceThingName="z")["status"] == "UNHEALTHY"
        assert len(gg.list_installed_components(coreDeviceThingName="a")["installedComponents"]) == 1
        everything = gg.list_installed_components(coreDeviceThingName="a", topologyFilter="ALL")
        assert len(everything["installedComponents"]) == 2
        refused(gg.get_core_device, "ResourceNotFoundException", coreDeviceThingName="nobody")

    def test_a_merge_that_is_no_json_is_refused(self, cloud, client):
        cloud.seed.thing("t")
        components = {"c": {"componentVersion": "1.0.0", "configurationUpdate": {"merge": "{"}}}
        refused(
            client("greengrassv2").create_deployment,
            "ValidationException",
            targetArn=f"{ARN}thing/t",
            components=components,
        )
