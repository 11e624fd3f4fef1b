"""Things, groups, certificates, attachments, policies, rules and search, through boto3."""

import hashlib
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from shared_credentials import ODD_NAMES, credentials

from sandbox.aws.iot.policy_language import allows

KEY = ec.generate_private_key(ec.SECP256R1())
ARN = "arn:aws:iot:eu-west-1:123456789012:"


def csr(key=KEY, common_name="gateway-1", digest=None):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, digest or hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def refused(call, code, **request):
    with pytest.raises(ClientError) as error:
        call(**request)
    assert error.value.response["Error"]["Code"] == code
    return error.value.response


def der(pem):
    return x509.load_pem_x509_certificate(pem.encode()).public_bytes(serialization.Encoding.DER)


class TestCertificatesFromCsr:
    @pytest.mark.parametrize(
        "key",
        [
            KEY,
            ec.generate_private_key(ec.SECP384R1()),
            ec.generate_private_key(ec.SECP521R1()),
            rsa.generate_private_key(public_exponent=65537, key_size=2048),
        ],
        ids=["P-256", "P-384", "P-521", "RSA-2048"],
    )
    def test_they_hold_the_csrs_key_and_subject_and_are_issued_as_aws_iot_does(self, iot, clock, key):
        made = iot.create_certificate_from_csr(certificateSigningRequest=csr(key), setAsActive=True)
        certificate = x509.load_pem_x509_certificate(made["certificatePem"].encode())
        assert certificate.public_key() == key.public_key()
        assert certificate.subject.rfc4514_string() == "CN=gateway-1"
        assert made["certificateId"] == hashlib.sha256(der(made["certificatePem"])).hexdigest()
        assert made["certificateArn"] == f"{ARN}cert/{made['certificateId']}"
        assert certificate.signature_algorithm_oid._name == "sha256WithRSAEncryption"
        (issuer,) = list(certificate.issuer)
        assert (issuer.oid, issuer.value) == (
            NameOID.ORGANIZATIONAL_UNIT_NAME,
            "Amazon Web Services O=Amazon.com Inc. L=Seattle ST=Washington C=US",
        )
        assert certificate.not_valid_after_utc == datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)
        assert clock.now() - timedelta(minutes=5) < certificate.not_valid_before_utc <= clock.now()

    def test_the_same_csr_twice_gives_two_certificates(self, iot):
        text = csr()
        ids = {iot.create_certificate_from_csr(certificateSigningRequest=text)["certificateId"] for _ in range(2)}
        assert len(ids) == 2

    def test_the_ca_is_the_same_for_every_cloud_of_a_folder(self, cloud, cloud_folder, clock, bus):
        from sandbox.aws import Cloud

        other = Cloud("123456789012", "eu-west-1", clock, bus, cloud_folder)
        pem = other.seed.certificate(KEY.public_key()).pem
        other.stop()
        issuer = cloud.seed.certificate(KEY.public_key())
        keys = {
            x509.load_pem_x509_certificate(p.encode())
            .extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
            .value.key_identifier
            for p in (pem, issuer.pem)
        }
        assert len(keys) == 1

    @pytest.mark.parametrize(
        "text",
        [
            "no PEM",
            csr().replace("M", "N", 1),
            "x" * 4097,
            csr(rsa.generate_private_key(public_exponent=65537, key_size=1024)),
            csr(ec.generate_private_key(ec.SECP256K1())),
        ],
        ids=["not a PEM", "damaged", "longer than 4096 characters", "RSA-1024", "secp256k1"],
    )
    def test_a_bad_csr_is_refused(self, iot, text):
        refused(iot.create_certificate_from_csr, "InvalidRequestException", certificateSigningRequest=text)
        assert iot.list_certificates()["certificates"] == []


class TestCertificateLife:
    def test_describe_tells_validity_mode_and_owner(self, iot, cloud):
        begin, until = datetime(2024, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
        made = cloud.seed.certificate(KEY.public_key(), not_before=begin, not_after=until)
        found = iot.describe_certificate(certificateId=made.certificate_id)["certificateDescription"]
        assert found["validity"] == {"notBefore": begin, "notAfter": until}
        assert (found["creationDate"], found["certificateMode"], found["ownedBy"]) == (begin, "DEFAULT", "123456789012")
        assert found["generationId"]
        assert "caCertificateId" not in found

    def test_what_does_not_parse_is_described_without_validity(self, iot, cloud):
        made = cloud.seed.unparseable_certificate()
        found = iot.describe_certificate(certificateId=made.certificate_id)["certificateDescription"]
        assert "validity" not in found
        with pytest.raises(ValueError, match="error parsing asn1 value"):
            x509.load_pem_x509_certificate(found["certificatePem"].encode())

    def test_registration_takes_a_foreign_certificate_once(self, iot, cloud):
        arn = cloud.seed.private_ca(f"{ARN.replace('iot', 'acm-pca')}certificate-authority/x")
        pem = cloud.private_cas.issuer(arn).issue(
            KEY.public_key(), x509.Name([]), datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
        )
        text = pem.public_bytes(serialization.Encoding.PEM).decode()
        made = iot.register_certificate_without_ca(certificatePem=text, status="ACTIVE")
        found = iot.describe_certificate(certificateId=made["certificateId"])["certificateDescription"]
        assert (found["status"], found["certificateMode"]) == ("ACTIVE", "SNI_ONLY")
        error = refused(iot.register_certificate_without_ca, "ResourceAlreadyExistsException", certificatePem=text)
        assert error["resourceId"] == made["certificateId"]

    @pytest.mark.parametrize("kind", ["sound", "explicit curve parameters", "an RSA key for PSS alone", *ODD_NAMES])
    def test_what_openssl_reads_is_registered_and_described_with_its_validity(self, iot, kind):
        pem = credentials()[kind].certificate.decode()
        made = iot.register_certificate_without_ca(certificatePem=pem, status="ACTIVE")
        found = iot.describe_certificate(certificateId=made["certificateId"])["certificateDescription"]
        assert found["certificatePem"] == pem
        assert found["validity"]["notAfter"] > found["validity"]["notBefore"]

    @pytest.mark.parametrize("pem", ["rubbish", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
    def test_registration_refuses_what_does_not_parse(self, iot, pem):
        refused(iot.register_certificate_without_ca, "CertificateValidationException", certificatePem=pem)

    def test_deletion_needs_inactive_detached_and_without_policies(self, iot, cloud):
        made = cloud.seed.certificate(KEY.public_key())
        cloud.seed.thing("t")
        cloud.seed.policy("p", json.dumps({"Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}))
        cloud.seed.attach("t", made.certificate_id, policies=["p"])
        name = made.certificate_id
        refused(iot.delete_certificate, "CertificateStateException", certificateId=name)
        iot.update_certificate(certificateId=name, newStatus="INACTIVE")
        refused(iot.delete_certificate, "DeleteConflictException", certificateId=name, forceDelete=True)
        iot.detach_thing_principal(thingName="t", principal=made.arn)
        refused(iot.delete_certificate, "DeleteConflictException", certificateId=name)
        iot.detach_policy(policyName="p", target=made.arn)
        iot.delete_certificate(certificateId=name)
        refused(iot.describe_certificate, "ResourceNotFoundException", certificateId=name)
        assert iot.list_certificates()["certificates"] == []

    def test_force_deletes_with_policies(self, iot, cloud):
        made = cloud.seed.certificate(KEY.public_key(), status="INACTIVE")
        cloud.seed.policy("p", json.dumps({"Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}))
        iot.attach_policy(policyName="p", target=made.arn)
        iot.delete_certificate(certificateId=made.certificate_id, forceDelete=True)
        assert iot.list_targets_for_policy(policyName="p")["targets"] == []

    @pytest.mark.parametrize("status", ["PENDING_TRANSFER", "REGISTER_INACTIVE", "PENDING_ACTIVATION"])
    def test_only_three_statuses_can_be_set(self, iot, cloud, status):
        made = cloud.seed.certificate(KEY.public_key())
        refused(iot.update_certificate, "InvalidRequestException", certificateId=made.certificate_id, newStatus=status)

    def test_lists_are_by_creation_and_page(self, iot, cloud):
        made = [
            cloud.seed.certificate(KEY.public_key(), created_at=datetime(2026, 1, day, tzinfo=UTC)).certificate_id
            for day in (3, 1, 2)
        ]
        newest = [c["certificateId"] for c in iot.list_certificates()["certificates"]]
        assert newest == [made[0], made[2], made[1]]
        oldest = iot.list_certificates(ascendingOrder=True, pageSize=2)
        assert [c["certificateId"] for c in oldest["certificates"]] == [made[1], made[2]]
        rest = iot.list_certificates(ascendingOrder=True, marker=oldest["nextMarker"])
        assert [c["certificateId"] for c in rest["certificates"]] == [made[0]]
        assert "nextMarker" not in rest

    def test_keys_can_be_made_for_the_device(self, iot):
        made = iot.create_keys_and_certificate(setAsActive=True)
        key = serialization.load_pem_private_key(made["keyPair"]["PrivateKey"].encode(), None)
        assert x509.load_pem_x509_certificate(made["certificatePem"].encode()).public_key() == key.public_key()


class TestAttachment:
    @pytest.fixture
    def certificate(self, cloud):
        for name in ("a", "b"):
            cloud.seed.thing(name)
        return cloud.seed.certificate(KEY.public_key())

    def attach(self, iot, thing, certificate, kind):
        return iot.attach_thing_principal(thingName=thing, principal=certificate.arn, thingPrincipalType=kind)

    def test_v2_calls_tell_the_type_and_filter_by_it(self, iot, cloud, certificate):
        second = cloud.seed.certificate(KEY.public_key())
        self.attach(iot, "a", certificate, "EXCLUSIVE_THING")
        iot.attach_thing_principal(thingName="a", principal=second.arn)
        found = iot.list_thing_principals_v2(thingName="a")["thingPrincipalObjects"]
        assert {(o["principal"], o["thingPrincipalType"]) for o in found} == {
            (certificate.arn, "EXCLUSIVE_THING"),
            (second.arn, "NON_EXCLUSIVE_THING"),
        }
        only = iot.list_thing_principals_v2(thingName="a", thingPrincipalType="EXCLUSIVE_THING")
        assert [o["principal"] for o in only["thingPrincipalObjects"]] == [certificate.arn]
        assert iot.list_principal_things_v2(principal=certificate.arn)["principalThingObjects"] == [
            {"thingName": "a", "thingPrincipalType": "EXCLUSIVE_THING"}
        ]
        assert set(iot.list_thing_principals(thingName="a")["principals"]) == {certificate.arn, second.arn}
        assert iot.list_principal_things(principal=certificate.arn)["things"] == ["a"]

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ("EXCLUSIVE_THING", "EXCLUSIVE_THING"),
            ("EXCLUSIVE_THING", "NON_EXCLUSIVE_THING"),
            ("NON_EXCLUSIVE_THING", "EXCLUSIVE_THING"),
        ],
    )
    def test_an_exclusive_certificate_is_attached_to_one_thing(self, iot, certificate, first, second):
        self.attach(iot, "a", certificate, first)
        with pytest.raises(ClientError, match="InvalidRequestException"):
            self.attach(iot, "b", certificate, second)
        assert iot.list_principal_things(principal=certificate.arn)["things"] == ["a"]

    def test_a_thing_may_hold_two_exclusive_certificates(self, iot, cloud, certificate):
        second = cloud.seed.certificate(KEY.public_key())
        for each in (certificate, second):
            self.attach(iot, "a", each, "EXCLUSIVE_THING")
        assert len(iot.list_thing_principals(thingName="a")["principals"]) == 2

    def test_shared_certificates_are_possible_and_repeats_harmless(self, iot, certificate):
        for thing in ("a", "b", "b"):
            self.attach(iot, thing, certificate, "NON_EXCLUSIVE_THING")
        assert iot.list_principal_things(principal=certificate.arn, maxResults=1)["nextToken"]

    def test_a_thing_with_principals_is_not_deleted(self, iot, certificate):
        self.attach(iot, "a", certificate, "EXCLUSIVE_THING")
        refused(iot.delete_thing, "InvalidRequestException", thingName="a")
        iot.detach_thing_principal(thingName="a", principal=certificate.arn)
        iot.delete_thing(thingName="a")
        refused(iot.describe_thing, "ResourceNotFoundException", thingName="a")

    def test_unknown_ends_are_not_found(self, iot, certificate):
        refused(
            iot.attach_thing_principal, "ResourceNotFoundException", thingName="a", principal=f"{ARN}cert/{'0' * 64}"
        )
        refused(iot.list_thing_principals_v2, "ResourceNotFoundException", thingName="nobody")


class TestThingsAndGroups:
    def test_every_list_pages_and_its_tokens_survive_changes(self, iot, cloud):
        cloud.seed.group("g")
        for i in range(7):
            cloud.seed.thing(f"t{i}", ["g"])
        first = iot.list_things_in_thing_group(thingGroupName="g", maxResults=3)
        assert first["things"] == ["t0", "t1", "t2"]
        iot.remove_thing_from_thing_group(thingGroupName="g", thingName="t1")
        rest = iot.list_things_in_thing_group(thingGroupName="g", nextToken=first["nextToken"])
        assert rest["things"] == ["t3", "t4", "t5", "t6"]
        assert "nextToken" not in rest
        pages = iot.get_paginator("list_things").paginate(PaginationConfig={"PageSize": 2})
        assert [t["thingName"] for p in pages for t in p["things"]] == [f"t{i}" for i in range(7)]
        refused(iot.list_things, "InvalidRequestException", nextToken="forged!")
        refused(iot.list_things, "InvalidRequestException", maxResults=251)

    def test_recursion_reaches_child_groups_when_asked(self, iot, cloud):
        cloud.seed.group("top")
        cloud.seed.group("mid", "top")
        cloud.seed.group("low", "mid")
        cloud.seed.thing("a", ["top"])
        cloud.seed.thing("b", ["low"])
        assert iot.list_things_in_thing_group(thingGroupName="top")["things"] == ["a"]
        assert iot.list_things_in_thing_group(thingGroupName="top", recursive=True)["things"] == ["a", "b"]
        names = [g["groupName"] for g in iot.list_thing_groups(parentGroup="top", recursive=True)["thingGroups"]]
        assert names == ["low", "mid"]
        names = [g["groupName"] for g in iot.list_thing_groups(recursive=False)["thingGroups"]]
        assert names == ["top"]
        metadata = iot.describe_thing_group(thingGroupName="low")["thingGroupMetadata"]
        assert metadata["parentGroupName"] == "mid"
        assert [g["groupName"] for g in metadata["rootToParentThingGroups"]] == ["top", "mid"]

    def test_groups_are_created_once_changed_and_deleted_from_the_leaves(self, iot, cloud):
        for _ in range(2):
            iot.create_thing_group(thingGroupName="g", thingGroupProperties={"thingGroupDescription": "x"})
        refused(iot.create_thing_group, "ResourceAlreadyExistsException", thingGroupName="g")
        iot.create_thing_group(thingGroupName="child", parentGroupName="g")
        refused(iot.delete_thing_group, "InvalidRequestException", thingGroupName="g")
        iot.update_thing_group(
            thingGroupName="g", thingGroupProperties={"thingGroupDescription": "y"}, expectedVersion=1
        )
        refused(
            iot.update_thing_group,
            "VersionConflictException",
            thingGroupName="g",
            thingGroupProperties={},
            expectedVersion=1,
        )
        for name in ("child", "g"):
            iot.delete_thing_group(thingGroupName=name)
        refused(iot.describe_thing_group, "ResourceNotFoundException", thingGroupName="g")

    def test_a_thing_moves_between_groups(self, iot, cloud):
        for name in ("old", "new"):
            cloud.seed.group(name)
        cloud.seed.thing("t", ["old"])
        iot.update_thing_groups_for_thing(thingName="t", thingGroupsToAdd=["new"], thingGroupsToRemove=["old"])
        assert [g["groupName"] for g in iot.list_thing_groups_for_thing(thingName="t")["thingGroups"]] == ["new"]

    def test_things_have_attributes_types_and_versions(self, iot):
        iot.create_thing_type(thingTypeName="gateway")
        iot.create_thing(thingName="t", thingTypeName="gateway", attributePayload={"attributes": {"site": "a"}})
        iot.update_thing(thingName="t", attributePayload={"attributes": {"line": "1"}, "merge": True})
        found = iot.describe_thing(thingName="t")
        assert (found["attributes"], found["version"]) == ({"site": "a", "line": "1"}, 2)
        assert [t["thingName"] for t in iot.list_things(attributeName="site", attributeValue="a")["things"]] == ["t"]
        assert iot.list_things(thingTypeName="other")["things"] == []
        refused(iot.create_thing, "ResourceAlreadyExistsException", thingName="t")
        refused(iot.create_thing, "InvalidRequestException", thingName="no spaces")
        refused(iot.delete_thing_type, "InvalidRequestException", thingTypeName="gateway")

    def test_search_finds_by_name_group_and_attribute(self, iot, cloud):
        cloud.seed.group("g")
        cloud.seed.thing("gw-1", ["g"], {"site": "a"})
        cloud.seed.thing("gw-2", ["g"], {"site": "b"})
        cloud.seed.thing("other")
        for query, expected in {
            "thingName:gw-*": ["gw-1", "gw-2"],
            "thingGroupNames:g AND attributes.site:b": ["gw-2"],
            "*": ["gw-1", "gw-2", "other"],
        }.items():
            assert [t["thingName"] for t in iot.search_index(queryString=query)["things"]] == expected, query
        refused(iot.search_index, "InvalidQueryException", queryString="a OR b")


class TestPolicies:
    DOCUMENT = json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Action": "iot:Connect",
                    "Resource": f"{ARN}client/${{iot:Connection.Thing.ThingName}}*",
                },
                {
                    "Effect": "Allow",
                    "Action": ["iot:Publish", "iot:Receive"],
                    "Resource": f"{ARN}topic/*/things/${{iot:Connection.Thing.ThingName}}/*",
                },
                {"Effect": "Allow", "Action": "iot:Subscribe", "Resource": f"{ARN}topicfilter/a/+/b"},
                {"Effect": "Deny", "Action": "iot:*", "Resource": f"{ARN}topic/awslabs/things/*/secret"},
            ],
        }
    )

    @pytest.mark.parametrize(
        ("client_id", "action", "resource", "expected"),
        [
            ("gw", "iot:Connect", "client/gw", True),
            ("gw#1", "iot:Connect", "client/gw#1", True),
            ("other", "iot:Connect", "client/other", False),
            ("gw", "iot:Publish", "topic/awslabs/things/gw/certificate/create", True),
            ("gw", "iot:Publish", "topic/awslabs/things/other/certificate/create", False),
            ("gw", "iot:Publish", "topic/awslabs/things/gw/secret", False),
            ("gw", "iot:Subscribe", "topicfilter/a/+/b", True),
            ("gw", "iot:Subscribe", "topicfilter/a/x/b", False),
        ],
        ids=[
            "its own name connects",
            "a suffix of its name connects",
            "another name does not",
            "its own topics",
            "not another's topics",
            "what is denied stays denied",
            "a filter as it stands",
            "plus is not a wildcard",
        ],
    )
    def test_decide_what_a_connection_may(self, cloud, client_id, action, resource, expected):
        cloud.seed.thing("gw")
        cloud.seed.policy("p", self.DOCUMENT)
        made = cloud.seed.certificate(KEY.public_key())
        cloud.seed.attach("gw", made.certificate_id, policies=["p"])
        assert cloud.registry.may(made.certificate_id, client_id, action, resource) is expected

    def test_a_wildcard_in_a_name_is_no_wildcard_in_the_policy(self, cloud):
        document = {
            "Statement": [{"Effect": "Allow", "Action": "iot:Connect", "Resource": f"{ARN}client/${{iot:ClientId}}"}]
        }
        cloud.seed.thing("gw")
        cloud.seed.policy("p", json.dumps(document))
        made = cloud.seed.certificate(KEY.public_key())
        cloud.seed.attach("gw", made.certificate_id, policies=["p"])
        assert cloud.registry.may(made.certificate_id, "*", "iot:Connect", "client/*")
        assert not cloud.registry.may(made.certificate_id, "*", "iot:Connect", "client/other")

    def test_an_inactive_certificate_may_nothing(self, iot, cloud):
        cloud.seed.thing("gw")
        cloud.seed.policy("p", self.DOCUMENT)
        made = cloud.seed.certificate(KEY.public_key())
        cloud.seed.attach("gw", made.certificate_id, policies=["p"])
        iot.update_certificate(certificateId=made.certificate_id, newStatus="INACTIVE")
        assert not cloud.registry.may(made.certificate_id, "gw", "iot:Connect", "client/gw")

    def test_policies_of_a_parent_group_count_too(self, iot, cloud):
        cloud.seed.group("top")
        cloud.seed.group("low", "top")
        cloud.seed.thing("gw", ["low"])
        cloud.seed.policy("p", self.DOCUMENT)
        made = cloud.seed.certificate(KEY.public_key())
        cloud.seed.attach("gw", made.certificate_id)
        assert not cloud.registry.may(made.certificate_id, "gw", "iot:Connect", "client/gw")
        iot.attach_policy(policyName="p", target=f"{ARN}thinggroup/top")
        assert cloud.registry.may(made.certificate_id, "gw", "iot:Connect", "client/gw")
        attached = iot.list_attached_policies(target=f"{ARN}thinggroup/low", recursive=True)["policies"]
        assert [p["policyName"] for p in attached] == ["p"]

    @pytest.mark.parametrize(
        ("condition", "expected"),
        [
            ({"Bool": {"iot:Connection.Thing.IsAttached": ["true"]}}, True),
            ({"Bool": {"iot:Connection.Thing.IsAttached": ["false"]}}, False),
            ({"StringLike": {"iot:ClientId": "g*"}}, True),
            ({"StringEquals": {"iot:ClientId": "x"}}, False),
            ({"DateLessThan": {"aws:CurrentTime": "2099-01-01T00:00:00Z"}}, False),
        ],
        ids=["attached", "not attached", "alike", "not equal", "a condition it does not know never allows"],
    )
    def test_conditions(self, cloud, condition, expected):
        statement = {"Effect": "Allow", "Action": "iot:Connect", "Resource": "*", "Condition": condition}
        cloud.seed.thing("gw")
        cloud.seed.policy("p", json.dumps({"Statement": [statement]}))
        made = cloud.seed.certificate(KEY.public_key())
        cloud.seed.attach("gw", made.certificate_id, policies=["p"])
        assert cloud.registry.may(made.certificate_id, "gw", "iot:Connect", "client/gw") is expected

    def test_have_versions_and_targets(self, iot, cloud):
        iot.create_policy(policyName="p", policyDocument=self.DOCUMENT)
        refused(iot.create_policy, "ResourceAlreadyExistsException", policyName="p", policyDocument=self.DOCUMENT)
        refused(iot.create_policy, "MalformedPolicyException", policyName="q", policyDocument="{}")
        made = iot.create_policy_version(policyName="p", policyDocument=self.DOCUMENT, setAsDefault=True)
        assert (made["policyVersionId"], iot.get_policy(policyName="p")["defaultVersionId"]) == ("2", "2")
        refused(iot.delete_policy, "DeleteConflictException", policyName="p")
        iot.delete_policy_version(policyName="p", policyVersionId="1")
        certificate = cloud.seed.certificate(KEY.public_key())
        iot.attach_policy(policyName="p", target=certificate.arn)
        assert iot.list_targets_for_policy(policyName="p")["targets"] == [certificate.arn]
        assert iot.list_principal_policies(principal=certificate.arn)["policies"][0]["policyName"] == "p"
        refused(iot.delete_policy, "DeleteConflictException", policyName="p")
        iot.detach_policy(policyName="p", target=certificate.arn)
        iot.delete_policy(policyName="p")
        assert iot.list_policies()["policies"] == []


class TestTheRegistryForTheMqttEndpoint:
    def test_only_a_registered_active_certificate_authenticates(self, iot, cloud):
        made = cloud.seed.certificate(KEY.public_key())
        assert cloud.registry.authenticate(der(made.pem)) == made.certificate_id
        iot.update_certificate(certificateId=made.certificate_id, newStatus="INACTIVE")
        assert cloud.registry.authenticate(der(made.pem)) is None
        assert cloud.registry.authenticate(b"anything") is None

    def test_listeners_hear_of_registration_and_minutes_later_of_deactivation(self, iot, cloud):
        early = cloud.seed.certificate(KEY.public_key())
        registered, disabled = [], []
        cloud.registry.on_certificate_registered(registered.append)
        cloud.registry.on_certificate_disabled(disabled.append)
        late = iot.create_certificate_from_csr(certificateSigningRequest=csr(), setAsActive=True)
        iot.update_certificate(certificateId=late["certificateId"], newStatus="REVOKED")
        iot.delete_certificate(certificateId=late["certificateId"])
        assert registered == [der(early.pem), der(late["certificatePem"])]
        for _ in range(2):  # which comes to nothing in the end
            iot.update_certificate(certificateId=early.certificate_id, newStatus="INACTIVE")
            iot.update_certificate(certificateId=early.certificate_id, newStatus="ACTIVE")
        assert disabled == []
        cloud.site.clock.advance(timedelta(minutes=3))
        assert disabled == [late["certificateId"]]

    def test_an_operator_ends_a_connection_if_there_is_one(self, cloud, client, heard):
        ended, data = [], client("iot-data")
        cloud.registry.on_client_ended(ended.append)
        refused(data.delete_connection, "ResourceNotFoundException", clientId="gw#2")
        cloud.registry.connected("a-certificate", "gw#2")
        data.delete_connection(clientId="gw#2", cleanSession=True, preventWillMessage=True)
        assert ended == ["gw#2"]
        cloud.registry.disconnected("a-certificate", "gw#2")
        assert json.loads(heard[-1][1])["disconnectReason"] == "API_INITIATED_DISCONNECT"
        refused(data.delete_connection, "ResourceNotFoundException", clientId="gw#2")

    def test_presence_is_published_and_kept(self, iot, cloud, heard):
        cloud.seed.thing("gw")
        cloud.registry.connected("new-certificate", "gw")
        cloud.registry.disconnected("old-certificate", "gw")  # noticed late: the device is connected already
        events = [(topic, json.loads(raw)) for topic, raw in heard]
        assert [topic for topic, _ in events] == [
            "$aws/events/presence/connected/gw",
            "$aws/events/presence/disconnected/gw",
        ]
        assert events[0][1]["principalIdentifier"] == "new-certificate"
        assert iot.get_thing_connectivity_data(thingName="gw")["connected"] is True
        cloud.registry.disconnected("new-certificate", "gw")
        assert iot.get_thing_connectivity_data(thingName="gw")["connected"] is False
        assert iot.search_index(queryString="connectivity.connected:false")["things"][0]["thingName"] == "gw"


def test_topic_rules_hold_the_state_that_operators_set(iot, cloud):
    payload = {
        "sql": "SELECT * FROM 'awslabs/things/+/certificate/create'",
        "actions": [{"lambda": {"functionArn": "arn:aws:lambda:eu-west-1:123456789012:function:f"}}],
    }
    iot.create_topic_rule(ruleName="R", topicRulePayload=payload)
    assert cloud.rules.enabled("R")
    iot.disable_topic_rule(ruleName="R")
    assert not cloud.rules.enabled("R")
    found = iot.get_topic_rule(ruleName="R")["rule"]
    assert (found["ruleDisabled"], found["actions"]) == (True, payload["actions"])
    iot.enable_topic_rule(ruleName="R")
    listed = iot.list_topic_rules()["rules"]
    assert [(r["ruleName"], r["topicPattern"]) for r in listed] == [("R", "awslabs/things/+/certificate/create")]
    refused(iot.create_topic_rule, "SqlParseException", ruleName="Bad", topicRulePayload={"sql": "x", "actions": []})
    iot.delete_topic_rule(ruleName="R")
    refused(iot.get_topic_rule, "UnauthorizedException", ruleName="R")


def test_event_configurations_name_every_kind(iot):
    iot.update_event_configurations(eventConfigurations={"JOB_EXECUTION": {"Enabled": True}})
    found = iot.describe_event_configurations()["eventConfigurations"]
    assert {kind for kind, setting in found.items() if setting["Enabled"]} == {"JOB_EXECUTION"}


def test_signatures_verify_with_the_ca_that_issued(cloud):
    made = x509.load_pem_x509_certificate(cloud.seed.certificate(KEY.public_key()).pem.encode())
    cloud._certificates.issuer.key.public_key().verify(
        made.signature, made.tbs_certificate_bytes, padding.PKCS1v15(), hashes.SHA256()
    )


@given(st.text("ab*?", max_size=8), st.text("ab*?", max_size=4), st.text("ab*?", max_size=8))
def test_resources_match_as_a_regular_expression_of_their_wildcards_would(pattern, name, resource):
    """The device's name, which a variable fills in, has no wildcards."""
    wildcards = {"*": ".*", "?": "."}
    head = "".join(wildcards.get(character, character) for character in pattern)
    expected = re.fullmatch(head + re.escape(name) + ".*", resource) is not None
    statement = {"Effect": "Allow", "Action": "*", "Resource": pattern + "${iot:ClientId}*"}
    assert allows([{"Statement": [statement]}], "iot:Publish", resource, {"iot:ClientId": name}) is expected
