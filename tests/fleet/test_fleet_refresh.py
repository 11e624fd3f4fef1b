"""A refresh costs what the design says, and the inventory afterwards says what the registry says."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fleet_registry import EPOCH, Fault, Registry, full

from controller.errors import FleetError
from controller.fleet import RefreshOptions, refresh
from controller.reconcile.values import AttachmentType, CertificateStatus

NO_SLICE = RefreshOptions(max_slice=0)


@pytest.fixture
def run(registry, make_session, make_desired, inventory, now):
    """Refresh once with a fresh session; returns devices by name, state and calls."""

    def run(*groups: str, options: RefreshOptions = NO_SLICE, at=now, **settings):
        desired = make_desired(*(groups or ("line-a",)))
        session = make_session(registry, **settings)
        state = refresh(session, inventory, desired, at, options=options)
        return {device.name: device for device in inventory.devices(desired, state)}, state, session.calls

    return run


def ids(device) -> list[str]:
    return [attachment.certificate.certificate_id.rstrip("0") for attachment in device.attachments]


def test_cold_refresh_lists_and_then_makes_two_calls_for_each_certificate(run):
    devices, state, calls = run()

    assert {name: ids(device) for name, device in devices.items()} == {"a-1": ["c1"], "a-2": ["c2"], "a-3": ["c3"]}
    assert state.group_sizes == {"line-a": 3}
    assert state.group_arns["line-a"].endswith(":thinggroup/line-a")
    assert calls == {
        "GetCallerIdentity": 1,
        "DescribeThingGroup": 2,  # line-a, and the record of what was governed
        "DescribeJobTemplate": 1,
        "GetParameter": 1,
        "ListCertificates": 1,
        "ListThingsInThingGroup": 1,
        "ListJobs": 3,
        "ListPrincipalThingsV2": 3,
        "DescribeCertificate": 3,
    }


def test_warm_refresh_describes_nothing_again(run):
    run()
    devices, _, calls = run()

    assert len(devices) == 3
    assert not {"DescribeCertificate", "ListPrincipalThingsV2", "ListThingPrincipalsV2"} & set(calls)


def test_device_carries_what_registry_and_certificate_say(run):
    devices, _, _ = run()

    (attachment,) = devices["a-1"].attachments
    certificate = attachment.certificate
    assert attachment.type is AttachmentType.EXCLUSIVE
    assert certificate.status is CertificateStatus.ACTIVE
    assert certificate.created_at == EPOCH
    assert (certificate.key_type, certificate.authority) == ("ECDSA-P256", "aws-iot")
    assert certificate.not_before == EPOCH
    assert certificate.not_after == EPOCH + timedelta(days=365)
    assert certificate.parse_error is None


def test_rotated_device_shows_its_new_certificate_for_two_calls(run, registry):
    run()
    registry.remove_certificate("c2")
    registry.add_certificate("c9", "a-2", created_at=EPOCH + timedelta(days=9))

    devices, _, calls = run()

    assert ids(devices["a-2"]) == ["c9"]
    assert (calls["DescribeCertificate"], calls["ListPrincipalThingsV2"]) == (1, 1)
    assert calls["ListThingPrincipalsV2"] == 0


def test_changed_status_costs_one_call_and_no_second_description(run, registry):
    run()
    registry.certificates[full("c2")]["status"] = "INACTIVE"

    devices, _, calls = run()

    assert devices["a-2"].attachments[0].certificate.status is CertificateStatus.INACTIVE
    assert (calls["DescribeCertificate"], calls["ListPrincipalThingsV2"]) == (0, 1)


def test_thing_without_certificate_is_asked_before_it_is_called_so_and_only_once(run, registry):
    registry.groups["line-a"].append("a-4")
    devices, _, calls = run()
    assert devices["a-4"].attachments == ()
    assert calls["ListThingPrincipalsV2"] == 1

    _, _, calls = run()
    assert calls["ListThingPrincipalsV2"] == 0


def test_thing_whose_certificate_vanished_while_pages_were_read_is_asked_again(run, registry):
    run()
    registry.remove_certificate("c2")
    # c9 came after its page was listed, so this listing does not show it.
    registry.add_certificate("c9", "a-2")
    listed = dict(registry.certificates)

    def hide(operation, _):
        registry.certificates = (
            {key: value for key, value in listed.items() if key != full("c9")}
            if operation == "ListCertificates"
            else listed
        )

    registry.before = hide
    devices, _, calls = run()

    assert ids(devices["a-2"]) == ["c9"]
    assert calls["ListThingPrincipalsV2"] == 1


def test_certificate_attached_after_its_first_listing_shows_at_the_next_run(run, registry, now):
    registry.groups["line-a"].append("a-4")
    registry.add_certificate("c4", created_at=now - timedelta(minutes=1))
    devices, _, _ = run()
    assert devices["a-4"].attachments == ()

    registry.attach("c4", "a-4")
    devices, _, _ = run()
    assert ids(devices["a-4"]) == ["c4"]


def test_silent_reattachment_surfaces_through_the_slice_on_both_things(run, registry):
    run()
    registry.detach("c1", "a-1")
    registry.attach("c1", "a-3", "NON_EXCLUSIVE_THING")

    devices, _, _ = run()
    assert ids(devices["a-1"]) == ["c1"], "without a slice it cannot be known"

    devices, _, calls = run(options=RefreshOptions(slice_fraction=0.01, max_slice=1))
    assert calls["ListThingPrincipalsV2"] == 1
    assert ids(devices["a-1"]) == []
    assert ids(devices["a-3"]) == ["c1", "c3"]
    assert devices["a-3"].attachments[0].type is AttachmentType.NON_EXCLUSIVE


def test_slice_comes_round_to_every_thing(run, registry):
    run()
    options = RefreshOptions(slice_fraction=0.01, max_slice=1)
    for _ in range(3):
        run(options=options)
    asked = [parameters["thingName"] for operation, parameters in registry.seen if operation == "ListThingPrincipalsV2"]
    assert sorted(asked) == ["a-1", "a-2", "a-3"]


def test_certificates_of_ungoverned_things_are_never_described_but_counted(run, registry):
    registry.add_certificate("c8", "stray")
    _, state, calls = run()

    assert (state.unmanaged, state.unmanaged_count) == (("stray",), 1)
    assert calls["DescribeCertificate"] == 3

    registry.groups["line-a"].append("stray")
    devices, state, calls = run()
    assert ids(devices["stray"]) == ["c8"]
    assert state.unmanaged_count == 0
    assert calls["DescribeCertificate"] == 1


def test_device_in_two_governed_groups_names_both(run, registry):
    registry.groups["line-b"] = ["a-2"]
    devices, state, _ = run("line-a", "line-b")

    assert devices["a-2"].groups == ("line-a", "line-b")
    assert state.group_sizes == {"line-a": 3, "line-b": 1}

    devices, state, _ = run("line-b")
    assert list(devices) == ["a-2"]
    assert state.group_sizes == {"line-b": 1}


def test_group_of_two_policies_is_listed_once(run):
    devices, _, calls = run("line-a", "line-a")
    assert len(devices) == 3
    assert (calls["DescribeThingGroup"], calls["ListThingsInThingGroup"]) == (1 + 1, 1)


def test_shared_certificate_names_the_others_up_to_ten(run, registry):
    for number in range(20):
        registry.attach("c1", f"z-{number:02}", "NON_EXCLUSIVE_THING")
    devices, _, _ = run()

    assert devices["a-1"].attachments[0].shared_with == tuple(f"z-{number:02}" for number in range(10))
    assert devices["a-2"].attachments[0].shared_with == ()


def test_thing_that_left_the_group_is_no_longer_a_device(run, registry):
    run()
    registry.groups["line-a"].remove("a-2")
    devices, state, _ = run()

    assert list(devices) == ["a-1", "a-3"]
    assert state.unmanaged == ("a-2",)


def test_deleted_thing_that_a_dynamic_group_still_lists_is_dropped(run, registry):
    registry.groups["line-a"].append("gone")
    real = registry._iot_ListThingPrincipalsV2

    def not_found(url, parameters):
        registry.groups["line-a"].remove("gone")
        return real(url, parameters)

    registry._iot_ListThingPrincipalsV2 = not_found
    devices, _, _ = run()

    assert list(devices) == ["a-1", "a-2", "a-3"]


def test_certificate_deleted_between_listing_and_reading_is_dropped(run, registry):
    registry.add_certificate("c7", "a-1")
    registry.add_certificate("c6", "a-3")

    def vanish(operation, parameters):
        if (
            operation == "DescribeCertificate"
            and parameters["certificateId"] == full("c7")
            and full("c7") in registry.certificates
        ):
            registry.remove_certificate("c7")
        if operation == "ListPrincipalThingsV2" and full("c6") in registry.certificates:
            registry.remove_certificate("c6")

    registry.before = vanish
    devices, _, _ = run()

    assert ids(devices["a-1"]) == ["c1"]
    assert ids(devices["a-3"]) == ["c3"]


def test_missing_groups_are_all_named_with_their_lines_and_nothing_is_listed(run, registry):
    with pytest.raises(FleetError) as raised:
        run("line-a", "line-x", "line-y")

    message = str(raised.value)
    assert message.count("fleet/policies.yaml:7: policy") == 2
    assert "'line-x', which does not exist in account 123456789012" in message
    assert "thingGroup" in raised.value.remedy
    assert "ListCertificates" not in {operation for operation, _ in registry.seen}


def test_large_listing_is_paged(registry, run):
    registry.page_limit = 2
    devices, _, calls = run()

    assert len(devices) == 3
    assert (calls["ListCertificates"], calls["ListThingsInThingGroup"]) == (2, 2)


@pytest.mark.parametrize("operation", ["ListCertificates", "ListThingsInThingGroup"])
def test_throttled_listing_goes_on_at_the_page_where_it_stopped(registry, run, operation, now):
    registry.page_limit = 1
    registry.faults[operation] = Fault("ThrottlingException", 429, times=1, after=2)
    with pytest.raises(FleetError) as raised:
        run(attempts=1)
    assert "goes on where it stopped" in raised.value.remedy

    devices, _, calls = run(at=now + timedelta(minutes=5))

    assert len(devices) == 3
    assert calls[operation] == 1


def test_listing_interrupted_long_ago_begins_anew(registry, run, now):
    registry.page_limit = 1
    registry.faults["ListCertificates"] = Fault("ThrottlingException", 429, times=1, after=2)
    with pytest.raises(FleetError):
        run(attempts=1)

    _, _, calls = run(at=now + timedelta(hours=1))
    assert calls["ListCertificates"] == 3


def test_listing_whose_token_has_become_invalid_begins_anew(registry, run, inventory):
    registry.page_limit = 1
    registry.faults["ListCertificates"] = Fault("ThrottlingException", 429, times=1, after=2)
    with pytest.raises(FleetError):
        run(attempts=1)
    inventory.database.connection.execute("UPDATE listings SET token = 'stale' WHERE name = 'certificates'")

    devices, _, calls = run()
    assert len(devices) == 3
    assert calls["ListCertificates"] == 4


def test_invalid_request_that_is_no_stale_token_is_an_error(registry, run):
    registry.faults["ListCertificates"] = Fault("InvalidRequestException", 400, times=9)
    with pytest.raises(FleetError, match="InvalidRequestException"):
        run(attempts=1)


def test_interrupted_reading_reads_each_certificate_once_over_both_runs(registry, run):
    registry.faults["DescribeCertificate"] = Fault("ThrottlingException", 429, times=1, after=1)
    with pytest.raises(FleetError):
        run(attempts=1)

    devices, _, _ = run()

    assert [device.attachments[0].certificate.key_type for device in devices.values()] == ["ECDSA-P256"] * 3
    described = [p["certificateId"] for operation, p in registry.seen if operation == "DescribeCertificate"]
    assert len(described) == 4, "only the throttled one is asked for twice"


def test_progress_tells_every_phase(registry, make_session, make_desired, inventory, now):
    registry.groups["line-a"].append("a-4")
    registry.add_job("by-hand", {"a-1": "QUEUED"})
    told = []
    desired = make_desired("line-a")
    refresh(make_session(registry), inventory, desired, now, lambda *what: told.append(what), options=NO_SLICE)

    assert [what for what in told if what[0] == "certificates"][-1] == ("certificates", 3, 3)
    assert ("things", 1, 1) in told
    assert {phase for phase, _, _ in told} == {"list", "jobs", "certificates", "things"}


def test_refresh_of_a_governed_group_of_none_is_empty(run, registry):
    registry.groups["empty"] = []
    devices, state, _ = run("empty")
    assert (devices, state.group_sizes) == ({}, {"empty": 0})


def test_registry_is_seen_by_real_clients(registry: Registry, make_session):
    """The fake answers what botocore can parse: else every test above would prove little."""
    description = make_session(registry).call("iot", "DescribeCertificate", certificateId=full("c1"))
    assert description["certificateDescription"]["creationDate"] == EPOCH


def test_attachment_without_a_type_is_not_exclusive(run, registry):
    registry.attach("c1", "a-1", None)
    devices, _, _ = run()
    assert [attachment.type for attachment in devices["a-1"].attachments] == [AttachmentType.NON_EXCLUSIVE]
    assert devices["a-2"].attachments[0].type is AttachmentType.EXCLUSIVE


def test_values_that_nobody_has_heard_of_are_values_of_their_own(run, registry):
    registry.certificates[full("c1")]["status"] = "QUARANTINED"
    registry.attach("c2", "a-2", "HALF_EXCLUSIVE")
    registry.add_job("by-hand", {"a-3": "LEVITATING"})
    for devices in (run()[0], run()[0]):  # read, and remembered
        status, kind = devices["a-1"].attachments[0].certificate.status, devices["a-2"].attachments[0].type
        assert (status, kind) == ("QUARANTINED", "HALF_EXCLUSIVE")
        assert status not in list(CertificateStatus)
        assert kind is not AttachmentType.EXCLUSIVE
        assert [execution.status.is_terminal for execution in devices["a-3"].executions] == [False]


@pytest.mark.parametrize("cycle", [1, 2, 3])
@pytest.mark.parametrize(
    "operation", ["ListThingsInThingGroup", "ListCertificates", "ListJobs", "ListPrincipalThingsV2"]
)
def test_pages_that_never_end_are_an_error_that_names_the_call(run, registry, operation, cycle):
    registry.cycles[operation] = cycle
    for _ in range(2):  # a listing is gone on with, and its token is as bad as before
        with pytest.raises(FleetError, match=f"the pages of {operation} in account .* never end"):
            run()
        assert sum(name == operation for name, _ in registry.seen) < 40
    del registry.cycles[operation]
    assert len(run()[0]) == 3
