"""What holds for every test: its outcome does not depend on how fast the machine is."""

from importlib.util import find_spec

from hypothesis import HealthCheck, settings

settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any speed")

if find_spec("botocore"):  # the component's tests run without it, too
    from shared_models import read_models_once

    read_models_once()
