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


def test_cold_refresh_makes_two_calls_for_each_governed_thing_and_none_for_others(run, registry):
    for number in range(9):
        registry.add_certificate(f"f{number:02}f", f"stray-{number}")
    devices, state, calls = run()

    assert {name: ids(device) for name, device in devices.items()} == {"a-1": ["c1"], "a-2": ["c2"], "a-3": ["c3"]}
    assert state.group_sizes == {"line-a": 3}
    assert state.group_arns["line-a"].endswith(":thinggroup/line-a")
    assert calls == {
        "GetCallerIdentity": 1,
        "DescribeThingGroup": 2,  # line-a, and the record of what was governed
        "DescribeJobTemplate": 1,
        "GetParameter": 1,
        "ListThings": 1,
        "ListThingsInThingGroup": 1,
        "ListJobs": 3,
        "ListThingPrincipalsV2": 3,
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
    assert (calls["DescribeCertificate"], calls["ListThingPrincipalsV2"]) == (1, 1)
    assert calls["ListPrincipalThingsV2"] == 0


def test_changed_status_costs_one_call_and_no_second_description(run, registry):
    run()
    registry.certificates[full("c2")]["status"] = "INACTIVE"

    devices, _, calls = run()

    assert devices["a-2"].attachments[0].certificate.status is CertificateStatus.INACTIVE
    assert (calls["DescribeCertificate"], calls["ListThingPrincipalsV2"]) == (0, 1)


def test_thing_without_certificate_is_asked_before_it_is_called_so_and_only_once(run, registry):
    registry.groups["line-a"].append("a-4")
    devices, _, calls = run()
    assert devices["a-4"].attachments == ()
    assert calls["ListThingPrincipalsV2"] == 4

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
    registry.seen.clear()
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


def test_shared_certificate_names_the_others_up_to_ten_and_counts_them_all(run, registry):
    for number in range(20):
        registry.attach("c1", "a-1", "NON_EXCLUSIVE_THING")
        registry.attach("c1", f"z-{number:02}", "NON_EXCLUSIVE_THING")
    devices, _, _ = run()

    shared, own = (devices[name].attachments[0] for name in ("a-1", "a-2"))
    assert (shared.shared_with, shared.others) == (tuple(f"z-{number:02}" for number in range(10)), 20)
    assert shared.others_text == "20 other things: z-00, z-01, z-02 and 17 more"
    assert (own.shared_with, own.others) == ((), 0)


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
        if parameters["thingName"] == "gone":
            registry.groups["line-a"].remove("gone")
        return real(url, parameters)

    registry._iot_ListThingPrincipalsV2 = not_found
    devices, _, _ = run()

    assert list(devices) == ["a-1", "a-2", "a-3"]


def test_certificate_deleted_between_listing_and_reading_is_dropped(run, registry):
    registry.add_certificate("c7", "a-1")
    registry.add_certificate("c6", "a-3", kind="NON_EXCLUSIVE_THING")

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
    for _ in range(2):
        devices, _, calls = run()

    assert len(devices) == 3
    assert [calls[f"List{what}"] for what in ("Certificates", "Things", "ThingsInThingGroup")] == [2, 2, 2]


@pytest.mark.parametrize("operation", ["ListCertificates", "ListThings", "ListThingsInThingGroup"])
def test_throttled_listing_goes_on_at_the_page_where_it_stopped(registry, run, operation, now):
    run()
    registry.page_limit = 1
    registry.faults[operation] = Fault("ThrottlingException", 429, times=1, after=2)
    with pytest.raises(FleetError) as raised:
        run(attempts=1)
    assert "goes on where it stopped" in raised.value.remedy

    devices, _, calls = run(at=now + timedelta(minutes=5))

    assert len(devices) == 3
    assert calls[operation] == 1


def test_listing_interrupted_long_ago_begins_anew(registry, run, now):
    run()
    registry.page_limit = 1
    registry.faults["ListCertificates"] = Fault("ThrottlingException", 429, times=1, after=2)
    with pytest.raises(FleetError):
        run(attempts=1)

    _, _, calls = run(at=now + timedelta(hours=1))
    assert calls["ListCertificates"] == 3


def test_listing_whose_token_has_become_invalid_begins_anew(registry, run, inventory):
    run()
    registry.page_limit = 1
    registry.faults["ListCertificates"] = Fault("ThrottlingException", 429, times=1, after=2)
    with pytest.raises(FleetError):
        run(attempts=1)
    inventory.database.connection.execute("UPDATE listings SET token = 'stale' WHERE name = 'certificates'")

    devices, _, calls = run()
    assert len(devices) == 3
    assert calls["ListCertificates"] == 4


def test_invalid_request_that_is_no_stale_token_is_an_error(registry, run):
    run()
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
    registry.attach("c1", "a-1", "NON_EXCLUSIVE_THING")
    registry.add_job("by-hand", {"a-1": "QUEUED"})
    told = []
    desired = make_desired("line-a")
    refresh(make_session(registry), inventory, desired, now, lambda *what: told.append(what), options=NO_SLICE)

    assert [what for what in told if what[0] == "certificates"][-1] == ("certificates", 1, 1)
    assert ("things", 3, 3) in told
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
    registry.attach("c1", "a-1", "NON_EXCLUSIVE_THING")
    if operation == "ListCertificates":
        run()
    registry.cycles[operation] = cycle
    for _ in range(2):  # a listing is gone on with, and its token is as bad as before
        with pytest.raises(FleetError, match=f"the pages of {operation} in account .* never end"):
            run()
        assert sum(name == operation for name, _ in registry.seen) < 40
    del registry.cycles[operation]
    assert len(run()[0]) == 3


# what a look costs in an account that is not ours alone


def warm(registry, run, foreign: int, **more):
    """Two looks over three governed things among foreign ones, and the calls of the second."""
    for number in range(foreign):
        registry.add_certificate(f"f{number:02}f", f"stray-{number:02}", created_at=EPOCH + timedelta(seconds=number))
    registry.page_limit = 2
    run(**more)
    return run(**more)


def test_the_whole_account_is_listed_once_a_day_and_no_certificates_status_is_older(registry, run, now):
    _, state, calls = warm(registry, run, foreign=20)
    assert (calls["ListCertificates"], calls["ListThings"], state.unmanaged_count) == (12, 12, 20)
    registry.certificates[full("c2")]["status"] = "INACTIVE"  # which is older than what the first pages show

    for hours, pages, status in ((1, 4, "ACTIVE"), (23, 4, "ACTIVE"), (24, 12, "INACTIVE"), (25, 4, "INACTIVE")):
        devices, state, calls = run(at=now + timedelta(hours=hours))
        assert (calls["ListCertificates"], calls["ListThings"]) == (pages, pages), hours
        assert devices["a-2"].attachments[0].certificate.status == status, hours
        assert state.unmanaged_count == 20


def test_a_first_look_lists_no_certificate_and_does_not_count_what_it_has_not_seen(registry, run):
    for number in range(20):
        registry.add_certificate(f"f{number:02}f", f"stray-{number}")
    registry.page_limit = 2
    _, state, calls = run()
    assert (calls["ListCertificates"], calls["ListThings"], state.unmanaged_count) == (0, 4, None)


def test_a_listing_that_is_not_newest_first_is_read_to_its_end(registry, run, now):
    warm(registry, run, foreign=20)
    registry._iot_ListCertificates = oldest_first(registry)
    _, _, calls = run(at=now + timedelta(hours=1))
    assert calls["ListCertificates"] == 12


def oldest_first(registry):
    def answer(url, parameters):
        keys = ("certificateArn", "certificateId", "status", "creationDate")
        entries = sorted(registry.certificates.values(), key=lambda one: one["creationDate"])
        page = {"maxResults": parameters.get("pageSize"), "nextToken": parameters.get("marker")}
        shown = [{key: one[key] for key in keys} for one in entries]
        return registry._page(url, page, "certificates", shown, token_field="nextMarker")

    return answer


def test_a_role_of_before_that_may_not_list_things_looks_without_counting_them(registry, run):
    registry.faults["ListThings"] = Fault("AccessDeniedException", 403, times=1e9)
    for _ in range(2):
        devices, state, _ = run()
        assert len(devices) == 3
        assert state.unmanaged_count is None


def test_what_was_made_since_the_last_look_is_found_wherever_it_hangs(registry, run, now):
    run()
    registry.add_certificate("c9", "a-2", created_at=now + timedelta(minutes=5))
    registry.add_certificate("f1", "stray", created_at=now + timedelta(minutes=5))
    devices, _, calls = run(at=now + timedelta(hours=1))
    assert ids(devices["a-2"]) == ["c2", "c9"]
    asked = ("ListPrincipalThingsV2", "ListThingPrincipalsV2", "DescribeCertificate")
    assert [calls[name] for name in asked] == [2, 1, 1], "whose is each of the two, what else has a-2, what is c9"
    _, _, calls = run(at=now + timedelta(hours=2))
    assert [calls[name] for name in asked] == [0, 0, 0]


def test_who_holds_a_certificate_alone_has_taken_it_from_whoever_held_it(registry, run):
    run()
    registry.detach("c1", "a-1")
    registry.attach("c1", "a-3")
    devices, _, calls = run(options=RefreshOptions(slice_fraction=1.0))
    assert (ids(devices["a-1"]), ids(devices["a-3"])) == ([], ["c1", "c3"])
    assert calls["ListThingPrincipalsV2"] == 3


def test_an_inventory_of_the_version_before_is_gone_on_with(registry, run, inventory, now):
    """It knew every certificate of the account, and what each hung on."""
    run()
    with inventory.database.transaction() as connection:
        rows = [(full(f"f{number}"), "ACTIVE", EPOCH.timestamp()) for number in range(5)]
        connection.executemany(
            "INSERT INTO certificates (id, status, created_at, is_registered, are_things_read) VALUES (?, ?, ?, 0, 1)",
            rows,
        )
        connection.executemany(
            "INSERT INTO attachments VALUES (?, ?, 'EXCLUSIVE_THING')", [("s", row[0]) for row in rows]
        )
        connection.execute("UPDATE binding SET listed_at = NULL")
    devices, _, calls = run(at=now + timedelta(hours=1))
    assert {name: ids(device) for name, device in devices.items()} == {"a-1": ["c1"], "a-2": ["c2"], "a-3": ["c3"]}
    assert calls["DescribeCertificate"] == calls["ListThingPrincipalsV2"] == 0
    (known,) = inventory.database.connection.execute("SELECT count(*) FROM certificates").fetchone()
    assert known == 3
