"""Every error a rotation can end with; each text shows a person what was found and what to do."""

from __future__ import annotations


class RotationError(Exception):
    """A step of a rotation failed; the text becomes the job's failure reason."""


class JournalError(RotationError):
    """The journal cannot be read or written."""


class StoreError(RotationError):
    """The credential store cannot do what was asked; nothing in place was changed unless the text reports it."""


class CertificateError(RotationError):
    """A certificate from the cloud is not the one that was asked for."""


class ConfigurationError(RotationError):
    """The component's configuration is wrong; every problem is named."""


class DeviceError(RotationError):
    """The nucleus around the component is not set up as needed."""
