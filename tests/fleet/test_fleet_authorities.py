"""Which authority issued a certificate is proven by signature, never by name."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from fleet_registry import AWS_IOT_NAME, EPOCH, Fault, Issuer, Registry, name

from controller.errors import FleetError
from controller.fleet import refresh
from controller.fleet.authorities import AWS_IOT_ISSUER_KEY, AuthorityNames, describe_cas
from controller.reconcile.values import CertificateAuthority, DesiredState, PrivateCa
from protocol.algorithms import CaSigningAlgorithm

ARN = "arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/11111111-1111-1111-1111-111111111111"
OTHER_ARN = ARN.replace("1111-1111-1111", "2222-2222-2222")


@pytest.fixture
def authority_of(registry, make_session, make_desired, inventory, now):
    """Refresh under these private authorities, and say who issued the certificate of a-1."""

    def authority_of(registry: Registry = registry, **private: str) -> str | None:
        session = make_session(registry)
        desired = make_desired("line-a", private=private)
        state = refresh(session, inventory, desired, now)
        authority_of.calls = session.calls
        devices = {device.name: device for device in inventory.devices(desired, state)}
        return devices["a-1"].attachments[-1].certificate.authority

    return authority_of


def give(registry: Registry, pem: str, **more) -> None:
    registry.remove_certificate("c1")
    registry.add_certificate("c5", "a-1", pem=pem, **more)


def device_pem(issuer: Issuer) -> str:
    return issuer.certify(name("a-1"), Issuer(name("a-1")).key.public_key())


def test_certificate_that_the_private_ca_signed_is_its_own(registry, authority_of):
    ca = Issuer(name("plant-ca"))
    registry.authorities[ARN] = ca.pem
    give(registry, device_pem(ca), certificateMode="SNI_ONLY")
    assert authority_of(plant=ARN) == "plant"


def test_ca_of_the_same_name_with_another_key_is_unknown(registry, authority_of):
    registry.authorities[ARN] = Issuer(name("plant-ca")).pem
    give(registry, device_pem(Issuer(name("plant-ca"))), certificateMode="SNI_ONLY")
    assert authority_of(plant=ARN) is None


def test_issuer_of_aws_iot_counts_only_where_the_registry_did_not_take_it_from_outside(registry, authority_of):
    assert authority_of() == "aws-iot"
    give(registry, device_pem(Issuer(AWS_IOT_NAME)), certificateMode="SNI_ONLY")
    assert authority_of() is None


def test_issuer_of_aws_iot_from_a_registered_ca_is_unknown(registry, authority_of):
    give(registry, device_pem(Issuer(AWS_IOT_NAME)), caCertificateId="f" * 64)
    assert authority_of() is None


def test_unreadable_certificate_has_no_authority_and_says_why(registry, authority_of):
    give(registry, "-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----")
    assert authority_of() is None


def test_authority_added_later_is_recognised_without_describing_again(registry, authority_of):
    ca = Issuer(name("plant-ca"))
    registry.authorities[ARN] = ca.pem
    give(registry, device_pem(ca), certificateMode="SNI_ONLY")
    assert authority_of() is None
    assert authority_of(plant=ARN) == "plant"
    assert authority_of.calls["DescribeCertificate"] == 0


def test_what_a_ca_has_issued_while_git_named_another_one_is_its_own_once_git_names_it_again(registry, authority_of):
    """A commit names another ARN and is reverted; in between a device rotates, and its new certificate is read."""
    first, second = Issuer(name("one")), Issuer(name("two"))
    registry.authorities |= {ARN: first.pem, OTHER_ARN: second.pem}
    assert authority_of(plant=ARN) == "aws-iot"
    give(registry, device_pem(first), certificateMode="SNI_ONLY")
    assert authority_of(plant=OTHER_ARN) is None
    assert authority_of(plant=ARN) == "plant"
    assert authority_of.calls["DescribeCertificate"] == 0
    assert authority_of(plant=OTHER_ARN) is None


def test_ca_certificate_is_asked_for_once_for_each_arn(registry, authority_of):
    registry.authorities |= {ARN: Issuer(name("one")).pem, OTHER_ARN: Issuer(name("two")).pem}
    authority_of(plant=ARN, same=ARN, other=OTHER_ARN)
    assert authority_of.calls["GetCertificateAuthorityCertificate"] == 2


def test_what_is_known_of_a_ca_that_has_another_key_is_of_another_world(registry, authority_of):
    first, second = Issuer(name("plant")), Issuer(name("plant"))
    for issuer in (first, second, first):
        registry.authorities[ARN] = issuer.pem
        registry.remove_certificate("c1")
        registry.add_certificate("c1", "a-1", pem=issuer.certify(name("device"), issuer.key.public_key()))
        assert authority_of(plant=ARN) == "plant", "the same id, under which another certificate was read before"


def test_a_ca_that_cannot_be_asked_any_more_is_believed_to_be_what_it_was(registry, authority_of):
    issuer = Issuer(name("plant"))
    registry.authorities[ARN] = issuer.pem
    give(registry, issuer.certify(name("device"), issuer.key.public_key()))
    assert authority_of(plant=ARN) == "plant"
    registry.faults["GetCertificateAuthorityCertificate"] = Fault("AccessDeniedException", 403, times=9)
    assert authority_of(plant=ARN) == "plant"


def test_a_ca_says_how_it_is_and_one_that_may_not_be_asked_is_told_and_not_believed(
    registry, make_session, make_desired
):
    desired, session = make_desired("line-a", private={"plant": ARN}), make_session(registry)
    assert describe_cas(session, desired) == ({ARN: PrivateCa("gone", "")}, ())
    registry.authorities[ARN] = Issuer(name("plant")).pem
    assert describe_cas(session, desired) == ({ARN: PrivateCa("ACTIVE", "EC_prime256v1")}, ())
    registry.faults["DescribeCertificateAuthority"] = Fault("AccessDeniedException", 403, times=9)
    found, (unknown,) = describe_cas(session, desired)
    assert found == {}
    assert "allow acm-pca:DescribeCertificateAuthority" in unknown


@pytest.mark.parametrize(
    ("case", "remedy"),
    [
        ("it does not exist", "correct its spec.arn; if no policy names the authority, remove the document"),
        ("it may not be read", "allow acm-pca:GetCertificateAuthorityCertificate"),
        ("it is rubbish", "see: aws acm-pca get-certificate-authority-certificate"),
    ],
)
def test_authority_that_cannot_be_read_names_document_and_line_and_what_to_do(registry, authority_of, case, remedy):
    if case == "it is rubbish":
        registry.authorities[ARN] = "rubbish"
    if case == "it may not be read":
        registry.faults["GetCertificateAuthorityCertificate"] = Fault("AccessDeniedException", 403, times=9)
    with pytest.raises(FleetError, match=r"authority 'plant' \(fleet/fleet\.yaml:14\)") as raised:
        authority_of(plant=ARN)
    assert remedy in raised.value.remedy


def test_of_two_authorities_on_one_ca_the_closest_to_the_certificate_is_named():
    short = CertificateAuthority(
        "short", None, ARN, signing_algorithm=CaSigningAlgorithm.SHA256_ECDSA, validity=timedelta(days=30)
    )
    long = CertificateAuthority(
        "long", None, ARN, signing_algorithm=CaSigningAlgorithm.SHA256_ECDSA, validity=timedelta(days=365)
    )
    strong = CertificateAuthority("strong", None, ARN, signing_algorithm=CaSigningAlgorithm.SHA512_RSA)
    desired = DesiredState(fleet=None, authorities={a.name: a for a in (short, long, strong)}, policies=())
    names = AuthorityNames(desired, {ARN: "key"})

    assert names.name("key", "ecdsa-with-SHA256", timedelta(days=31)) == "short"
    assert names.name("key", "ecdsa-with-SHA256", timedelta(days=400)) == "long"
    assert names.name("key", "sha512WithRSAEncryption", timedelta(days=31)) == "strong"
    assert names.name("another", "ecdsa-with-SHA256", timedelta(days=31)) is None
    assert names.name(None, None, None) is None
    assert names.name(AWS_IOT_ISSUER_KEY, None, None) == "aws-iot"


def test_fake_ca_certificates_are_real_ones():
    certificate = x509.load_pem_x509_certificate(Issuer(name("x")).pem.encode())
    assert certificate.not_valid_before_utc == EPOCH
