"""AWS's service models, read from disk once a process instead of once a botocore session.

A model is a megabyte of JSON that nobody changes, and most tests here make sessions of their own.
"""

from botocore.loaders import Loader

_KNOWN: dict = {}


def read_models_once():
    """Let every loader of this process keep what it has read where all others find it."""
    make = Loader.__init__

    def made(self, *arguments, **options):
        make(self, *arguments, **options)
        self._cache = _KNOWN

    Loader.__init__ = made
