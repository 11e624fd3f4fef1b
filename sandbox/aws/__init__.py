"""The AWS side of the sandbox: see ``cloud.py``."""

from .cloud import Cloud
from .seed import SeededCertificate

__all__ = ["Cloud", "SeededCertificate"]
