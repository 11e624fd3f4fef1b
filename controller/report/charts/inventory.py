"""The content of the fleet: certificates by age against what the policies allow, by key type and by authority."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from controller.report import words
from controller.report.model import AGE_BUCKET_DAYS, FleetReport

from .chart import OTHERS, Chart, Series, absent, table_of
from .drawing import bars, columns

AGE_COLUMNS = 12  # older ages share the last column
BARS = 8  # kinds shown one by one; the rest are added up


def ages(fleet: FleetReport) -> Chart:
    """Return the ages of certificates, within and above what the policies allow."""
    title = "Age of certificates"
    within: Counter[int] = Counter()
    too_old: Counter[int] = Counter()
    unlimited: Counter[int] = Counter()
    limits = {entry.policy.name: entry.policy.certificate.max_age for entry in fleet.policies}
    for policy, counts in fleet.inventory.ages.items():
        (unlimited if limits[policy] is None else within).update(counts.devices - counts.too_old)
        too_old.update(counts.too_old)
    everything = within + too_old + unlimited
    if not everything:
        return absent("ages", title, "no device has a certificate whose age is known")
    labels, places = _age_columns(max(everything))
    kinds = (
        ("within maxAge", "good", within),
        ("no maxAge", "soft", unlimited),
        ("above maxAge", "bad", too_old),
    )
    series = [Series(name, meaning, _summed(counts, places, len(labels))) for name, meaning, counts in kinds if counts]
    old = too_old.total()
    description = (
        f"{words.count(everything.total(), 'certificate')} by age in days; "
        f"{f'{old:,} above' if old else 'none above'} the maximum age of the policy that governs the device."
    )
    notes = [
        f"{policy}: {words.count(counts.too_old.total(), 'device')} above {words.duration(limit)}"
        for policy, counts in sorted(fleet.inventory.ages.items())
        if (limit := limits[policy]) is not None and counts.too_old
    ]
    table = table_of(labels, series)
    legend = tuple((row.name, row.meaning) for row in series)
    heads = ("Age in days", *(row.name for row in series))
    return Chart("ages", title, description, columns(labels, series), legend, heads, table, tuple(notes))


def _age_columns(oldest: int) -> tuple[list[str], list[int]]:
    """Return the columns' labels, and each bucket's column: narrow ones if that is enough, the last one open."""
    step = 1 if oldest < 2 * AGE_COLUMNS else 3
    places = [min(bucket // step, AGE_COLUMNS - 1) for bucket in range(oldest + 1)]
    days = step * AGE_BUCKET_DAYS
    labels = [f"{place * days}–{(place + 1) * days}" for place in range(places[-1] + 1)]
    if oldest // step >= AGE_COLUMNS:
        labels[-1] = f"{(AGE_COLUMNS - 1) * days}+"
    return labels, places


def _summed(counts: Mapping[int, int], places: list[int], number: int) -> tuple[int, ...]:
    sums = [0] * number
    for bucket, devices in counts.items():
        sums[places[bucket]] += devices
    return tuple(sums)


def key_types(fleet: FleetReport) -> Chart:
    """Return active certificates by key type."""
    demanded = {e.policy.certificate.key_type.value for e in fleet.policies if e.policy.certificate.key_type}
    return _kinds("key-types", "Key types", "Key type", fleet.inventory.key_types, demanded)


def authorities(fleet: FleetReport) -> Chart:
    """Return active certificates by the authority that issued them."""
    demanded = {e.policy.certificate.authority for e in fleet.policies if e.policy.certificate.authority}
    return _kinds("authorities", "Authorities", "Authority", fleet.inventory.authorities, demanded)


def _kinds(key: str, title: str, head: str, counts: Mapping[str, int], demanded: set[str]) -> Chart:
    """Return kinds that a policy demands in one colour, all others in another; if none is demanded, one colour."""
    if not counts:
        return absent(key, title, "no device has an active certificate")
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = ordered[:BARS]
    rest = sum(number for _, number in ordered[BARS:])
    labels = [name for name, _ in shown] + ([OTHERS] if rest else [])
    numbers = [number for _, number in shown] + ([rest] if rest else [])
    wanted = tuple(n if label in demanded else 0 for label, n in zip(labels, numbers, strict=True))
    other = tuple(n if label not in demanded else 0 for label, n in zip(labels, numbers, strict=True))
    if demanded:
        series = [Series("demanded by a policy", "hue-0", wanted), Series("demanded by none", "soft", other)]
    else:
        series = [Series("certificates", "hue-0", tuple(numbers))]
    series = [row for row in series if any(row.values)]
    total = sum(numbers)
    told = "; ".join(f"{label} {words.percent(n, total)}" for label, n in zip(labels, numbers, strict=True))
    rows = tuple(
        (name, f"{number:,}", words.percent(number, total), "yes" if name in demanded else "no")
        for name, number in ordered
    )
    heads = (head, "Certificates", "Share", "Demanded by a policy")
    description = f"{words.count(total, 'active certificate')}: {told}."
    legend = tuple((row.name, row.meaning) for row in series)
    return Chart(key, title, description, bars(labels, series), legend, heads, rows)
