"""In the place of a stock component, or back after one: no rotation and no credential is lost by the change."""

from __future__ import annotations

import os

import pytest
from component_cloud import subject_of
from component_faults import CountingSystem, Injector, run_until_calm
from component_world import CLASSIC, LITE, Device
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from component.certificate_rotator.stock import StockBackup

pytestmark = pytest.mark.posix
JOB = "job-stock"


class StockDevice(Device):
    """One on which a stock component has run: its working folder is the device's folder here."""

    def __init__(self, folder, *arguments, **options):
        super().__init__(folder, *arguments, **options)
        self.stock = StockBackup(folder, self.system)

    @property
    def backup(self):
        return self.folder / "certificate.bak", self.folder / "private_key.bak"

    def back_up(self):
        for path, copy in zip((self.certificate, self.key), self.backup):
            copy.write_bytes(path.read_bytes())


def new_key():
    key = ec.generate_private_key(ec.SECP256R1())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key, key.private_bytes(*form)


def stock_asks(world):
    """A stock component claims its job and gets a certificate; returns that and its key."""
    key, pem = new_key()
    world.cloud.create_job(JOB, notify=False)
    world.cloud.jobs[JOB][0] = "IN_PROGRESS"
    request = x509.CertificateSigningRequestBuilder().subject_name(subject_of()).sign(key, hashes.SHA256())
    csr = request.public_bytes(serialization.Encoding.PEM).decode()
    return world.cloud.create({"jobId": JOB, "csr": csr}, world.first_certificate)["certificatePem"], pem


def replace(world, certificate, key):
    """Somebody who is not this component puts a credential in place."""
    world.device.certificate.write_text(certificate)
    world.device.key.write_bytes(key)


@pytest.fixture(params=[CLASSIC, LITE], ids=["classic", "lite"])
def world(request, make_world, memory_folder):
    return make_world(memory_folder, kind=StockDevice, nucleus=request.param)


@pytest.fixture(params=[True, False], ids=["our backend", "stock backend"])
def cloud(request, world):
    world.cloud.correlates = request.param
    return world.cloud


def start(world, hours=1.0):
    world.device.switch_on()
    world.run(hours * 3600)


def assert_settled(world, certificate):
    """The device works with this certificate, which is its only one, and rotates on."""
    assert world.device.certificate_in_place() == certificate
    assert world.device.pair_matches()
    assert world.cloud.registry == {certificate}
    assert not any(path.exists() for path in world.device.backup)
    world.cloud.create_job("job-next")
    world.run(600)
    assert world.cloud.status("job-next") == "SUCCEEDED"


def test_it_is_replaced_once_its_new_credential_is_in_place(world, cloud):
    new = stock_asks(world)
    world.device.back_up()
    replace(world, *new)
    start(world)
    assert cloud.status(JOB) == "SUCCEEDED"
    assert_settled(world, new[0])


def test_it_is_replaced_before_anything_of_the_new_one_is_in_place(world, cloud):
    stock_asks(world)
    world.device.back_up()
    start(world)
    assert cloud.status(JOB) == "FAILED"
    assert_settled(world, world.first_certificate)


def test_it_is_replaced_between_its_two_files(world, cloud):
    new = stock_asks(world)
    world.device.back_up()
    world.device.certificate.write_text(new[0])
    start(world)
    assert cloud.status(JOB) == "FAILED"
    assert "before it had put a whole credential in place" in cloud.details(JOB)["DeviceFailureReason"]
    assert_settled(world, world.first_certificate)


def test_it_is_replaced_and_meanwhile_the_backend_has_given_its_rotation_up(world, cloud):
    new = stock_asks(world)
    world.device.back_up()
    replace(world, *new)
    cloud.end_job(JOB, "TIMED_OUT")
    assert cloud.registry == {world.first_certificate}
    start(world)
    assert_settled(world, world.first_certificate)


def test_what_it_put_in_place_is_removed_while_nobody_restarts_the_nucleus(world, cloud):
    """Its job is over when ours takes its place, and the backend takes away what it does not know to be in use."""
    new = stock_asks(world)
    world.device.back_up()
    replace(world, *new)
    cloud.jobs[JOB][0] = "TIMED_OUT"
    start(world)
    assert world.cloud.device.certificate_in_place() == new[0]
    cloud.retire(new[0])
    world.run(12 * 3600)
    assert world.cloud.device is not None
    assert_settled(world, world.first_certificate)


def test_what_it_left_long_ago_is_removed_and_never_put_in_place(world, cloud):
    world.device.back_up()
    new = stock_asks(world)
    replace(world, *new)
    cloud.end_job(JOB, "SUCCEEDED")
    cloud.registry = {new[0]}  # the old one is gone, whatever the copies say
    start(world)
    assert not any(path.exists() for path in world.device.backup)
    start(world, hours=3)
    assert_settled(world, new[0])


@pytest.mark.parametrize("forge", ["of another user", "with another name", "half", "no credential"])
def test_what_others_can_put_into_the_working_folder_is_not_taken_for_a_copy(world, cloud, monkeypatch, forge):
    replace(world, *stock_asks(world))
    world.cloud.end_job(JOB, "SUCCEEDED")
    cloud.registry = {world.device.certificate_in_place()}
    in_place = world.device.certificate_in_place()
    certificate, key = world.device.backup
    certificate.write_text(world.first_certificate)
    key.write_bytes(new_key()[1])
    if forge == "of another user":
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    elif forge == "with another name":
        os.link(key, world.device.folder / "elsewhere")
    elif forge == "half":
        key.unlink()
    start(world)
    assert not list(world.device.folder.glob("*.old"))
    assert_settled(world, in_place)


@pytest.mark.parametrize("hours", [0.0, 12.0], ids=["on line", "off line for hours"])
def test_another_component_has_rotated_since_and_what_was_kept_is_no_way_back(world, cloud, hours):
    """Ours keeps both credentials until a later start; by then a stock component has put a third in place."""
    start(world)
    cloud.create_job()
    world.run(300)
    assert cloud.status() == "SUCCEEDED"
    world.device.switch_off()
    world.first_certificate = world.device.certificate_in_place()
    third = stock_asks(world)
    replace(world, *third)
    cloud.registry, cloud.jobs[JOB][0] = {third[0]}, "SUCCEEDED"
    if hours:
        cloud.refuse_connection = lambda _certificate: True
        start(world, hours)
        cloud.refuse_connection = lambda _certificate: False
    start(world)
    assert_settled(world, third[0])


@pytest.mark.parametrize("torn", [False, True], ids=["whole", "torn"])
def test_power_may_fail_at_any_point_of_carrying_it_on(make_world, memory_folder, torn):
    index, points = 0, 1
    while index < points:
        injector = Injector()
        folder = memory_folder / str(index)
        world = make_world(folder, kind=StockDevice, system=CountingSystem(injector))
        new = stock_asks(world)
        world.device.back_up()
        replace(world, *new)
        if torn:
            world.device.key.write_bytes(world.device.backup[1].read_bytes())
        injector.kill_at(index)
        world.device.switch_on()
        run_until_calm(world, power_cut=True)
        points = len(injector.points)
        assert world.device.pair_matches()
        assert world.cloud.registry == {world.device.certificate_in_place()}
        assert world.cloud.status(JOB) == ("FAILED" if torn else "SUCCEEDED")
        assert not any(path.exists() for path in world.device.backup)
        index += 1
    assert points > 20
