"""After a wave of our own: what the backend's records show is what the registry shows, or the registry is asked."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fleet_registry import EPOCH, Fault, Issuer, Registry, name

from controller.errors import FleetError
from controller.fleet import Inventory, RefreshOptions, current_certificates, own_rotations, refresh
from controller.reconcile.values.job_ids import make_job_id

JOB = make_job_id("p-line-a", 1, "0" * 16)
THINGS = [f"a-{number:02}" for number in range(12)]
FEWEST, SAMPLE = 6, 3
NO_SLICE = RefreshOptions(max_slice=0)
HOUR = timedelta(hours=1)
SAMPLED = own_rotations._sample(THINGS, 2)[:SAMPLE]  # in the second look
OTHERS = [thing for thing in THINGS if thing not in SAMPLED]
THING = OTHERS[0]
CA = "arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/one"


class Plant:
    """A group whose devices rotate between two looks, with the bounds of a wave made small."""

    def __init__(self, make_session, make_desired, now, folder):
        self.registry = Registry(variables={"TABLE_NAME": "rotations"})
        self.registry.groups["line-a"] = list(THINGS)
        self.registry.templates["AWSLabsCertificateRotator"] = {"document": "{}", "description": "certfleet"}
        self.ca = Issuer(name("Plant CA"))
        self.registry.authorities[CA] = self.ca.pem
        for number, thing in enumerate(THINGS):
            self.registry.add_certificate(f"c{number:02}", thing)
        self.desired = make_desired("line-a", private={"plant-ca": CA})
        self.now, self.told = now, []
        self._make_session, self._folder = make_session, folder
        self.inventory = Inventory(folder / "inventory.sqlite", tell=self.told.append)

    def look(self, options=NO_SLICE, inventory=None, **settings):
        """One look an hour after the last; the devices by name."""
        self.registry.seen.clear()
        self.session = self._make_session(self.registry, **settings)
        found = inventory or self.inventory
        state = refresh(self.session, found, self.desired, self.now, options=options)
        self.now += HOUR
        return {device.name: device for device in found.devices(self.desired, state)}

    def truth(self):
        """The devices as a look that knows nothing yet reads them from the registry."""
        calls = self.session.calls, list(self.registry.seen)
        with Inventory(self._folder / "fresh.sqlite") as fresh:
            devices = self.look(inventory=fresh)
        self.session.calls, self.registry.seen = calls
        return devices

    def begin(self):
        """The first look, and a job that all wait for."""
        created = self.now - timedelta(minutes=1)
        self.registry.add_job(JOB, dict.fromkeys(THINGS, "QUEUED"), created_at=created)
        self.look()

    def rotate(self, things=THINGS, **how):
        """These rotate under the job, half an hour after the last look."""
        at = self.now - HOUR / 2
        for thing in things:
            self.registry.rotate(thing, JOB, at, **how)
        self.registry.jobs[JOB]["executions"] |= dict.fromkeys(things, "SUCCEEDED")

    @property
    def asked(self):
        """The things that the last look has asked the registry for."""
        return {p["thingName"] for operation, p in self.registry.seen if operation == "ListThingPrincipalsV2"}


@pytest.fixture
def plant(make_session, make_desired, now, tmp_path, monkeypatch):
    monkeypatch.setattr(own_rotations, "FEWEST", FEWEST)
    monkeypatch.setattr(own_rotations, "SAMPLE", SAMPLE)
    made = Plant(make_session, make_desired, now, tmp_path)
    made.begin()
    yield made
    made.inventory.close()


@pytest.mark.parametrize("authority", ["aws-iot", "plant-ca"])
def test_a_wave_is_read_from_the_records_just_as_the_registry_shows_it(plant, authority):
    plant.rotate(issuer=plant.ca if authority == "plant-ca" else None, authority=authority)
    devices = plant.look()
    assert (len(plant.asked), plant.session.calls["BatchGetItem"]) == (SAMPLE, 1)
    assert plant.session.calls["DescribeCertificate"] == SAMPLE
    assert devices == plant.truth()
    assert {one.attachments[0].certificate.authority for one in devices.values()} == {authority}
    assert plant.told == []
    plant.look()
    assert plant.asked == set(), "nothing is left to be read"


def test_of_a_few_devices_the_registry_is_asked_as_ever(plant):
    plant.rotate(THINGS[1:FEWEST])
    plant.look()
    assert plant.asked == set(THINGS[1:FEWEST])
    assert not {"BatchGetItem", "GetFunctionConfiguration"} & set(plant.session.calls)


def test_what_is_replaced_by_hand_after_a_wave_is_not_looked_for_in_the_records(plant):
    plant.rotate()
    plant.look()
    plant.look()
    for number, thing in enumerate(THINGS):
        plant.registry.remove_certificate(next(iter(plant.registry._by_thing[thing])))
        plant.registry.add_certificate(f"e{number:02}", thing, created_at=plant.now - timedelta(minutes=5))
    plant.now += timedelta(days=1)  # all certificates are listed
    devices = plant.look()
    assert not {"BatchGetItem", "GetFunctionConfiguration"} & set(plant.session.calls)
    assert plant.asked == set(THINGS)
    assert devices == plant.truth()


def test_a_backend_without_a_table_and_a_stock_one_are_asked_for_no_record(plant):
    plant.rotate()
    plant.registry.variables = {}
    assert plant.look() == plant.truth()
    assert len(plant.asked) == len(THINGS)
    assert plant.session.calls["BatchGetItem"] == 0


def text(value):
    return {"S": value}


def changed(**members):
    """A record of which some members are others."""

    def change(plant, thing):
        plant.registry.records[thing] |= members

    return change


def without(member):
    def change(plant, thing):
        del plant.registry.records[thing][member]

    return change


def of_another(plant, thing):
    """The certificate of another thing, which is a fine one."""
    plant.registry.records[thing]["certificatePem"] = plant.registry.records[SAMPLED[0]]["certificatePem"]


def no_record(plant, thing):
    del plant.registry.records[thing]


def deactivated(plant, thing):
    new = plant.registry.records[thing]["newCertificateId"]["S"]
    plant.registry.certificates[new]["status"] = "INACTIVE"


def deleted(plant, thing):
    plant.registry.remove_certificate(plant.registry.records[thing]["newCertificateId"]["S"])


def replaced_by_hand(plant, thing):
    """What is made since the last look is asked whose it is."""
    plant.registry.detach(plant.registry.records[thing]["newCertificateId"]["S"], thing)
    plant.registry.add_certificate("e1", thing, created_at=plant.now - timedelta(minutes=5))


def once_more_meanwhile(plant, thing):
    def rotates(operation, _parameters):
        if operation == "BatchGetItem":
            plant.registry.before = lambda *_: None
            plant.registry.rotate(thing, JOB, plant.now)

    plant.registry.before = rotates


def timed_out(plant, thing):
    plant.registry.jobs[JOB]["executions"][thing] = "TIMED_OUT"


DOUBTS = {
    "a backend of before wrote it": without("certificatePem"),
    "its certificate is no text": changed(certificatePem={"N": "7"}),
    "its certificate is none": changed(certificatePem=text("-----BEGIN CERTIFICATE-----")),
    "its certificate is another's": of_another,
    "there is none": no_record,
    "it is damaged": without("startedAt"),
    "a rotation is under way": changed(phase=text("created")),
    "the rotation was undone": changed(outcome=text("rolled back")),
    "the device did not end its job well": timed_out,
    "it is of another job": changed(jobId=text("by-hand")),
    "it replaced another certificate": changed(oldCertificateId=text("f" * 64)),
    "a backend before ours began it": changed(authority=text("of the backend before")),
    "the certificate is INACTIVE since": deactivated,
    "the certificate is gone since": deleted,
    "another was put there by hand since": replaced_by_hand,
    "it rotates once more while it is looked at": once_more_meanwhile,
}


@pytest.mark.parametrize("number", range(0, len(DOUBTS), 5))
def test_whatever_a_record_does_not_show_beyond_doubt_is_asked_of_the_registry(plant, number):
    """Of five devices at once, for the time that it takes; the others are read from their records."""
    plant.rotate()
    doubted = dict(zip(OTHERS, list(DOUBTS)[number : number + 5], strict=False))
    for thing, doubt in doubted.items():
        DOUBTS[doubt](plant, thing)
    devices = plant.look()
    assert [doubt for thing, doubt in doubted.items() if thing not in plant.asked] == []
    assert len(plant.asked) == len(doubted) + SAMPLE
    assert devices == plant.truth()
    assert plant.told == []


@pytest.mark.parametrize("was", ["with another beside it", "shared"])
def test_what_was_not_the_only_exclusive_certificate_is_asked_of_the_registry(plant, was):
    if was == "shared":
        plant.registry.attach(f"c{THINGS.index(THING):02}", THING, "NON_EXCLUSIVE_THING")
    else:
        plant.registry.add_certificate("d1", THING)
    plant.look(RefreshOptions(slice_fraction=1.0))
    if was != "shared":
        plant.registry.remove_certificate("d1")
    plant.rotate()
    devices = plant.look()
    assert THING in plant.asked
    assert len(plant.asked) == SAMPLE + 1
    assert devices == plant.truth()


def test_a_record_of_a_later_backend_is_read_as_ever(plant):
    plant.rotate()
    for record in plant.registry.records.values():
        record["somethingNew"] = {"M": {"with": {"L": [{"N": "1"}]}}}
    assert plant.look() == plant.truth()
    assert len(plant.asked) == SAMPLE


@pytest.mark.parametrize("how", ["attached", "described"])
def test_one_sampled_thing_that_the_registry_shows_otherwise_has_all_asked(plant, how):
    plant.rotate()
    sampled = SAMPLED[0]
    if how == "attached":  # one that is as old as the world, so that no listing shows it
        plant.registry.add_certificate("d1", sampled, created_at=EPOCH)
    else:
        new = plant.registry.records[sampled]["newCertificateId"]["S"]
        plant.registry.certificates[new]["caCertificateId"] = "f" * 64
    devices = plant.look()
    assert plant.asked == set(THINGS)
    assert devices == plant.truth()
    [line] = plant.told
    assert line == (
        f"fleet test: the registry shows {sampled} otherwise than the rotation table (1 of 3 compared): "
        "it is asked for all 12 rotated devices"
    )


def test_what_is_attached_by_hand_after_the_rotation_is_found_before_a_job_and_by_the_slice(plant):
    plant.rotate()
    plant.registry.add_certificate("d1", THING, created_at=EPOCH)
    device = plant.look()[THING]
    assert len(device.attachments) == 1, "no record shows it"
    planned = tuple((one.certificate.certificate_id, one.type) for one in device.attachments)
    assert current_certificates(plant.session, THING) != planned

    seen = set()
    for _ in range(3):  # those that a record stands for come before those that were asked
        plant.look(RefreshOptions(slice_fraction=1 / 4))
        seen |= plant.asked
    devices = plant.look()
    assert seen == set(THINGS) - set(SAMPLED)
    assert len(devices[THING].attachments) == 2
    assert devices == plant.truth()


@pytest.mark.parametrize("operation", ["BatchGetItem", "GetFunctionConfiguration"])
@pytest.mark.parametrize("code", ["AccessDeniedException", "ProvisionedThroughputExceededException"])
def test_a_table_that_may_not_be_read_or_does_not_answer_costs_a_line_and_no_device(plant, operation, code):
    plant.rotate()
    plant.registry.faults[operation] = Fault(code, 400, times=9)
    devices = plant.look()
    assert plant.asked == set(THINGS)
    assert devices == plant.truth()
    assert plant.session.calls[operation] <= (1 if code == "AccessDeniedException" else 3)
    [line] = plant.told
    assert line.startswith("fleet test: the registry is asked for 12 rotated devices: ")
    assert operation in line


def test_what_a_throttled_table_leaves_out_is_asked_for_once_more_and_then_of_the_registry(plant):
    plant.rotate()
    plant.registry.unprocessed = 4
    devices = plant.look()
    assert plant.session.calls["BatchGetItem"] == 2
    assert len(plant.asked) == SAMPLE + 4
    assert devices == plant.truth()


@pytest.mark.parametrize("answered", range(SAMPLE + 1))
def test_a_look_that_ends_anywhere_goes_on_to_the_same_devices(plant, answered):
    plant.rotate()
    plant.registry.faults["ListThingPrincipalsV2"] = Fault("AccessDeniedException", 403, times=99, after=answered)
    ended = 0
    try:
        plant.look()
    except FleetError:
        ended = 1
    plant.registry.faults.clear()
    devices = plant.look()
    assert ended == (answered < SAMPLE)
    assert devices == plant.truth()


def test_a_look_at_one_policy_reads_the_records_of_its_devices_alone(plant, make_desired):
    plant.registry.groups["line-b"] = THINGS[:3]
    plant.desired = make_desired("line-a", "line-b", private={"plant-ca": CA})
    plant.look()
    plant.rotate()
    plant.registry.seen.clear()
    session = plant._make_session(plant.registry)
    refresh(session, plant.inventory, plant.desired, plant.now, options=NO_SLICE, only=plant.desired.policies[1])
    assert session.calls["BatchGetItem"] == 0, "three are a few"
    assert plant.asked == set(THINGS[:3])
