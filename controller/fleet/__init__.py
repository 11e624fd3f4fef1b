"""The side of AWS: the registry of one account and region, as Device values, with few calls.

``AwsSession`` talks to AWS, ``Inventory`` remembers what never changes, ``refresh`` brings the one up
to date with the other. Usage::

    session = AwsSession(desired.fleet, ActAs.READER)
    with Inventory(path) as inventory:
        state = refresh(session, inventory, desired, now)
        for device in inventory.devices(desired, state): ...
"""

from controller.fleet.aws import ActAs, AwsSession
from controller.fleet.aws_errors import AwsCallError
from controller.fleet.inventory import Inventory, rebuilt_where_damaged
from controller.fleet.last_look import NoLookError, last_look
from controller.fleet.one_thing import look_at_thing
from controller.fleet.refresh import RefreshOptions, current_certificates, refresh, stock_settings

__all__ = [
    "ActAs",
    "AwsCallError",
    "AwsSession",
    "Inventory",
    "NoLookError",
    "RefreshOptions",
    "current_certificates",
    "last_look",
    "look_at_thing",
    "rebuilt_where_damaged",
    "refresh",
    "stock_settings",
]
