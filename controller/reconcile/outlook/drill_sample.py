"""The devices that a drill takes: a matter of names, so that the same drill and devices give the same sample."""

from __future__ import annotations

from collections import defaultdict
from hashlib import sha256
from typing import TYPE_CHECKING

from controller.reconcile.values import Stratum

if TYPE_CHECKING:
    from collections.abc import Iterable

    from controller.reconcile.values import Device, DrillSample


def draw(name: str, sample: DrillSample, devices: Iterable[Device]) -> tuple[str, ...]:
    """Choose the devices of a drill, by name.

    Args:
        name: The drill's name: another drill draws other devices.
        sample: How many devices, and by which property.
        devices: The devices of the policy, and of the sample's group if it names one.
    """
    strata: defaultdict[object, list[str]] = defaultdict(list)
    for device in devices:
        strata[_stratum_of(device, sample.stratify_by)].append(device.name)
    total = sum(map(len, strata.values()))
    number = total if sample.count is None else min(sample.count, total)
    drawn: list[str] = []
    for stratum, share in _shares({key: len(names) for key, names in strata.items()}, number).items():
        drawn += sorted(strata[stratum], key=lambda device: sha256(f"{name}|{device}".encode()).digest())[:share]
    return tuple(sorted(drawn))


def _stratum_of(device: Device, by: Stratum | None) -> object:
    if by is Stratum.GROUP:
        return str(sorted(device.groups))
    held = device.attachments[0].certificate if len(device.attachments) == 1 else None
    if by is None or held is None:
        return ""
    return str(held.key_type if by is Stratum.KEY_TYPE else held.authority)


def _shares(sizes: dict[object, int], number: int) -> dict[object, int]:
    """Return how many to take of each, in proportion: the largest remainders get what rounding down has left."""
    total = sum(sizes.values())
    exact = {key: number * size / total for key, size in sizes.items()}
    shares = {key: int(share) for key, share in exact.items()}
    by_remainder = sorted(exact, key=lambda key: (shares[key] - exact[key], str(key)))
    for key in by_remainder[: number - sum(shares.values())]:
        shares[key] += 1
    return dict(sorted(shares.items(), key=lambda share: str(share[0])))
