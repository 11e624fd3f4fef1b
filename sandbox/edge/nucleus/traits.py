"""How the nuclei differ from each other and from what one would hope: one table, by which the stand-in behaves.

Each trait is a rule with its value on every profile, and shows how it is known. *Seen* is what the real nucleus did,
*read* what its public source shows; what is neither is *assumed*, and then the value is the one that is harder to live
with. ``docs/nuclei.md`` is made from this table, see ``traits_page.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Generic, TypeVar

from .recipe import Variant

T = TypeVar("T")

WINDOW = timedelta(hours=1)
"""Of the world's clock: what is counted against a component is forgotten after this."""


class Profile(StrEnum):
    """A nucleus to stand in for."""

    CLASSIC = "classic"
    LITE_2_6 = "lite-2.6"
    LITE_MAIN = "lite-main"

    @property
    def variant(self) -> Variant:
        """The kind of the nucleus."""
        return Variant.CLASSIC if self is Profile.CLASSIC else Variant.LITE


class Counts(StrEnum):
    """The faults counted against a component."""

    ERRORS = "errors of its install or run step"
    STARTS = "starts of its run step, whoever asks for them"


class Install(StrEnum):
    """When the install step runs."""

    FIRST = "at every launch of the nucleus, before the run step"
    BESIDE = (
        "at every start of the nucleus' services, at the same moment as the run step; at the first deployment, before "
        "the run step; at an upgrade, while the version before still runs"
    )


class Offline(StrEnum):
    """The fate of a request to subscribe while the device is offline."""

    HANGS_SINCE_LAUNCH = (
        "if it was never online since the launch: no answer until it is online, then the subscription opens, even if "
        "the component has given it up; else ServiceError at once"
    )
    REFUSED = "ServiceError at once"


class FillsIn(StrEnum):
    """Where ``{iot:thingName}`` in a recipe counts."""

    NEVER = "never"
    IF_SET = "if interpolateComponentConfiguration is set"
    ALWAYS = "always"


class Upgrade(StrEnum):
    """The configuration that wins when a component is upgraded."""

    DEVICE = "the device's"
    RECIPE = "the recipe's"


class Paths(StrEnum):
    """Where the paths of a fleet-provisioned device's credential stand."""

    TLOG = "config.tlog; blank in effectiveConfig.yaml"
    SERVICE = "config.db, by IPC aws.greengrass.private#GetSystemConfig; blank in config.yaml"


@dataclass(frozen=True)
class Trait(Generic[T]):
    """One rule, and its value on each profile; None means that there is no such limit."""

    rule: str
    classic: T
    lite_2_6: T
    lite_main: T
    known: str

    def on(self, profile: Profile) -> T:
        """Return the value on a profile."""
        return {
            Profile.CLASSIC: self.classic,
            Profile.LITE_2_6: self.lite_2_6,
            Profile.LITE_MAIN: self.lite_main,
        }[profile]


def _both(rule: str, classic: T, lite: T, known: str) -> Trait[T]:
    """Return a trait in which the versions of nucleus lite agree."""
    return Trait(rule, classic, lite, lite, known)


def _all(rule: str, value: T, known: str) -> Trait[T]:
    """Return a trait in which all nuclei agree."""
    return Trait(rule, value, value, value, known)


_LITE_SEEN = "Seen: lite 2.6.0 and main 326e992b."
_LITE_READ = "Read: lite 2.6.0 and main 326e992b"
_CLASSIC_READ = "Read: classic 2.18"
_CLASSIC_SEEN = "Seen: classic 2.18.2."

MAX_COUNTED = _all(
    "Faults within an hour after which the component is not started again (BROKEN)",
    3,
    f"{_LITE_SEEN[:-1]} (StartLimitBurst of its units). {_CLASSIC_SEEN} Read: that the span is an hour (classic).",
)
COUNTED = _both(
    "The faults that are counted",
    Counts.ERRORS,
    Counts.STARTS,
    f"{_LITE_SEEN} A restart of all of lite's services resets the count of the run step's starts, but not that of the "
    f"install step, which is a unit of its own. {_CLASSIC_SEEN} Read: a launch of classic resets the count.",
)
INSTALL = _both(
    "When the install step runs",
    Install.FIRST,
    Install.BESIDE,
    f"{_LITE_SEEN} {_CLASSIC_SEEN}",
)
INSTALL_LIMIT = _all(
    "Seconds that the install step may take, unless the recipe sets another",
    120,
    f"{_LITE_READ} (TimeoutStartSec). {_CLASSIC_READ}.",
)
COMPONENT_USER = _both(
    "The user that runs a step without RequiresPrivilege",
    "ggc_user",
    "gg_component",
    f"{_LITE_SEEN} {_CLASSIC_SEEN} Here: the user that the nucleus is given, if this process may become it.",
)
ARTIFACT_OWNER = _all(
    "The owner of a component's artifacts on the device",
    "the user that components run as",
    f"{_LITE_READ} (changed recursively after unpacking). Assumed: classic.",
)
RESTART_SECONDS = _all(
    "Seconds that a restart takes on a gateway, by the world's clock",
    "5 to 60",
    "Assumed; on a fast machine a whole rotation took 1 to 7 with lite and 25 to 31 with classic, seen. "
    "Here: as long as the nucleus is set to.",
)
RESTART_KEEPS_COMPONENT = _both(
    "Whether the component lives through the restart that a rotation needs",
    False,
    True,
    f"{_LITE_SEEN} {_CLASSIC_SEEN}",
)
ENDS_FIRST = _both(
    "The first to end at a restart of the nucleus",
    "the processes that the component has started, its restart command too, by SIGTERM; then, 0.15 to 1 s later, the "
    "component itself",
    "no process of the component's",
    f"{_CLASSIC_SEEN} {_LITE_SEEN}",
)
FORGETS_SUBSCRIPTIONS = _both(
    "Whether a restart of its IoT core service drops every subscription silently, with the streams left open",
    False,
    True,
    f"{_LITE_SEEN} The network's going and coming is harmless.",
)
SUBSCRIBING_OFFLINE = _both(
    "A request to subscribe while the device is offline",
    Offline.HANGS_SINCE_LAUNCH,
    Offline.REFUSED,
    f"{_LITE_SEEN} {_CLASSIC_SEEN}",
)
PUBLISHING_OFFLINE = _all(
    "A QoS 0 publish while the device is offline",
    "ServiceError",
    f"{_LITE_SEEN} {_CLASSIC_SEEN} With QoS 1 classic keeps it for later.",
)
ANSWERS_BEFORE_SUBACK = _both(
    "Whether a subscription is answered before the broker has acknowledged it, and a refusal is never reported",
    False,
    True,
    f"{_LITE_SEEN}",
)
FORGETS_ANEW = _both(
    "Whether a subscription is answered but never made, with its stream left open, if the broker has not yet "
    "acknowledged the UNSUBSCRIBE of an earlier one to the same filter",
    True,
    False,
    f"{_CLASSIC_SEEN} Here the broker takes 0.2 s to acknowledge. Read: lite 2.6.0 and main 326e992b.",
)
ERROR_ENDS_STREAM = _all(
    "Whether a refused subscription ends its stream, so that the SDK calls on_stream_closed",
    True,
    f"{_LITE_SEEN} {_CLASSIC_SEEN}",
)
ERROR_MEMBERS = _both(
    "Members of an error's payload (the SDK reads its `.message` from the first)",
    ("message", "_message", "_errorCode"),
    ("_message", "_errorCode"),
    f"{_LITE_SEEN} {_CLASSIC_READ}.",
)
TERMINATES_RESPONSES = _both(
    "Whether the response to a plain request carries the flag that ends its stream",
    True,
    False,
    f"{_LITE_READ}. {_CLASSIC_READ}.",
)
SCALARS_ARE_TEXT = _both(
    "Whether every scalar of a YAML recipe's configuration arrives as text (`'10'`)",
    False,
    True,
    f"{_LITE_SEEN} A recipe from the cloud is JSON and typed. {_CLASSIC_SEEN}",
)
FILLS_IN_ACCESS_CONTROL = Trait(
    "Where recipe variables count in accessControl",
    FillsIn.IF_SET,
    FillsIn.NEVER,
    FillsIn.ALWAYS,
    f"Seen: lite 2.6.0 (never), main since commit 3572e069. {_CLASSIC_SEEN}",
)
FILLS_IN_CONFIGURATION = _all(
    "Where recipe variables count in the rest of a component's configuration",
    FillsIn.NEVER,
    f"{_LITE_SEEN} Assumed: classic.",
)
WILDCARDS = _all(
    "Whether `+` and `#` in a resource of accessControl stand for levels, as in MQTT",
    True,
    f"{_LITE_SEEN} {_CLASSIC_READ} (WildcardTrie).",
)
MAX_RECIPE_BYTES = _both(
    "Largest recipe in bytes; the deployment of a larger one fails",
    None,
    8_195,
    f"{_LITE_SEEN} {_CLASSIC_SEEN}",
)
UPGRADE = _both(
    "The configuration that wins when a component is upgraded: what the device has, or the new recipe's defaults",
    Upgrade.DEVICE,
    Upgrade.RECIPE,
    f"{_CLASSIC_SEEN} Changed defaults under the same keys never arrive there. Seen: lite 2.6.0.",
)
KEEPS_SESSION = _all(
    "Whether AWS IoT keeps messages for a device that is cut off (a job announced meanwhile is heard of later)",
    False,
    f"{_LITE_SEEN} {_CLASSIC_SEEN} AWS IoT keeps them for a week over a cut, but not over a launch. Here: not at all.",
)
RECONNECT_SECONDS = _both(
    "Seconds that it may take to connect again once the network is back",
    120,
    20,
    f"{_LITE_SEEN} {_CLASSIC_SEEN} Here: always as long, by the world's clock; a connection that is merely ended comes "
    "back at once.",
)
MAX_PACKET_BYTES = _both(
    "Largest MQTT packet that the nucleus asks for, in bytes (a payload of 4,800 arrives, one of 5,000 never does)",
    None,
    5_000,
    f"{_LITE_SEEN}",
)
MAX_FRAME_BYTES = _both(
    "Largest IPC message after its first 12 bytes, in bytes (a publish of 7,400 raw bytes closes the whole connection)",
    None,
    10_000,
    f"{_LITE_SEEN}",
)
REFUSES_EMPTY_PAYLOAD = _both(
    "Whether a publish without payload is refused (InvalidArgumentsError)",
    True,
    False,
    f"{_CLASSIC_SEEN} {_LITE_SEEN}",
)
VALIDATES = _both(
    "Whether it asks a component about a new configuration. It asks only an installed one whose version does not "
    "change, and that listens at that moment. One that is starting is not asked, and a wrong configuration comes into "
    "force",
    True,
    False,
    f"{_CLASSIC_SEEN} {_CLASSIC_READ} (DynamicComponentConfigurationValidator). "
    "Seen: SubscribeToValidateConfigurationUpdates is a ServiceError on lite 2.6.0 and main.",
)
OPERATIONS_REFUSED = _both(
    "Further operations that are a ServiceError",
    (),
    ("DeferComponentUpdate", "SubscribeToComponentUpdates"),
    f"{_LITE_SEEN} UpdateState and SubscribeToConfigurationUpdate work.",
)
ASKS_BEFORE_UPDATE = _both(
    "Whether a deployment asks the components that listen before it changes anything, asks again after each deferral, "
    "and goes on without those that do not answer in time",
    True,
    False,
    f"{_CLASSIC_SEEN[:-1]}, before a new configuration is judged; it reads the answers once a second, so that a "
    "deferral of 5 s takes 7. It never asks for a local deployment, nor if the policy is SKIP_NOTIFY_COMPONENTS. Here: "
    f"after a restart it asks once the component has had its time to listen. {_LITE_SEEN}",
)
CREDENTIAL_PATHS = _both(
    "Where a fleet-provisioned device's credential paths stand",
    Paths.TLOG,
    Paths.SERVICE,
    f"{_CLASSIC_SEEN} effectiveConfig.yaml is written at a launch, blank at the first one, and falls behind; here it "
    f"stays blank. {_LITE_SEEN} Read: the handler checks no caller.",
)
TOKENS = _both(
    "How a credential in a token is named",
    "`pkcs11:` URIs and the PKCS#11 provider's slot and PIN; blank `certificateFilePath`: the certificate that is "
    "labelled as the key",
    "`pkcs11:` URIs, for OpenSSL's provider: labels may differ, the PIN may stand in the query; `handle:` for a TPM",
    f"{_CLASSIC_SEEN} Read: the blank path. {_LITE_READ}. Here: lite has no tokens.",
)
READS_CREDENTIAL = _both(
    "When the nucleus reads the credential",
    "at its start",
    "for each new connection; the token exchange service for each request",
    f"{_LITE_SEEN} {_CLASSIC_READ}.",
)
RESTARTS_DEPENDENTS = _both(
    "Whether a restart of the token exchange service restarts every component that depends on it",
    False,
    True,
    f"{_LITE_SEEN} The third time such a component stays dead.",
)
ASKS_BY_ITSELF = _all(
    "Whether it publishes its health and asks for jobs in its own namespace by itself, and expects answers",
    True,
    "Seen: lite 2.6.0 and main, and classic 2.18.2, which stay connected only to an endpoint that lets them.",
)
LOGS = _both(
    "Where a component's output goes",
    "logs/<component>.log in its root folder",
    "journald (`journalctl -u ggl.<component>.service`); here logs/ too",
    f"{_LITE_SEEN} {_CLASSIC_READ}.",
)

TABLE: dict[str, Trait[Any]] = {name: value for name, value in list(globals().items()) if isinstance(value, Trait)}
"""Every trait by its name, in the order above."""
