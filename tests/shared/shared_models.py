"""What botocore works out anew for every session and client, and is the same in each: once a process here.

A model is a megabyte of JSON that nobody changes, and most tests here make sessions of their own.
"""

from functools import cache

import botocore.client
from botocore.hooks import EventAliaser
from botocore.loaders import Loader
from botocore.model import ServiceModel

_KNOWN: dict = {}
_ALIASES: dict = {}
_MODELS: dict = {}


@cache
def read_models_once():
    """Let all loaders, clients and emitters of this process share what one of them has read or worked out."""
    load, alias = Loader.__init__, EventAliaser.__init__

    def loader(self, *arguments, **options):
        load(self, *arguments, **options)
        self._cache = _KNOWN

    def aliaser(self, event_emitter, event_aliases=None):
        alias(self, event_emitter, event_aliases)
        if event_aliases is None:
            self._alias_name_cache = _ALIASES

    def model(description, service_name=None):
        key = service_name, id(description)  # of loaders that share what they read
        if key not in _MODELS:
            _MODELS[key] = ServiceModel(description, service_name=service_name), description
        return _MODELS[key][0]

    Loader.__init__, EventAliaser.__init__ = loader, aliaser
    botocore.client.ServiceModel = model
