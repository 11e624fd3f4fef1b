"""The findings about a device, and whether anything keeps its rotation from starting."""

from .assessment import assess, assess_fleet
from .case import Case
from .governance import Governance, Governed, issued_at
from .rotated import last_rotation, left_alone_until
