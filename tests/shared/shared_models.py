"""What botocore works out anew for every session and client, and is the same in each: once a process here.

A model is a megabyte of JSON that nobody changes, and most tests here make sessions of their own.
"""

import inspect
from functools import cache

import botocore.client
import botocore.hooks
import botocore.regions
from botocore import useragent
from botocore.args import ClientArgsCreator
from botocore.client import ClientCreator
from botocore.endpoint_provider import EndpointProvider
from botocore.hooks import EVENT_ALIASES, EventAliaser, NodeList, _PrefixTrie
from botocore.loaders import Loader
from botocore.model import ServiceModel

_KNOWN: dict = {}
_ALIASES: dict = {}
_MODELS: dict = {}
_METHODS: dict = {}
_ENDPOINTS: dict = {}


@cache
def read_models_once():
    """Let all loaders, clients and emitters of this process share what one of them has read or worked out."""
    load, alias, write = Loader.__init__, EventAliaser.__init__, ClientCreator._create_methods

    def loader(self, *arguments, **options):
        load(self, *arguments, **options)
        self._cache = _KNOWN

    def aliaser(self, event_emitter, event_aliases=None):
        alias(self, event_emitter, event_aliases)
        if event_aliases in (None, EVENT_ALIASES):  # the second of each copy, of which a client is one
            self._alias_name_cache = _ALIASES

    def model(description, service_name=None):
        key = service_name, id(description)  # of loaders that share what they read
        if key not in _MODELS:
            _MODELS[key] = ServiceModel(description, service_name=service_name), description
        return _MODELS[key][0]

    def methods(self, service_model):
        if service_model not in _METHODS:  # the same one for all of a service, see above
            _METHODS[service_model] = write(self, service_model)
        return dict(_METHODS[service_model])

    def accepts_kwargs(handler):
        """Of a hook, of which each session has a hundred: botocore asks for all of its signature."""
        plain = getattr(handler, "__func__", handler)
        if inspect.isfunction(plain):
            return plain.__code__.co_flags & inspect.CO_VARKEYWORDS
        return whole(handler)

    whole, _PrefixTrie.__copy__ = botocore.hooks.accepts_kwargs, _twin_of
    Loader.__init__, EventAliaser.__init__, ClientCreator._create_methods = loader, aliaser, methods
    botocore.client.ServiceModel, botocore.hooks.accepts_kwargs = model, accepts_kwargs
    _know_endpoints_once()
    # Of each word of the user agent, which is put together twice a call.
    useragent.sanitize_user_agent_string_component = cache(useragent.sanitize_user_agent_string_component)


def _know_endpoints_once():
    look_up = ClientArgsCreator.compute_s3_config

    def endpoints(ruleset_data, partition_data, excluded_params=None):
        key = id(ruleset_data), id(partition_data)  # of loaders that share what they read
        if key not in _ENDPOINTS:
            made = EndpointProvider(ruleset_data, partition_data, excluded_params)
            _ENDPOINTS[key] = made, ruleset_data, partition_data
        return _ENDPOINTS[key][0]

    def of_s3(self, client_config):
        """Each client asks three times, of whatever service it is."""
        if "of_s3" not in vars(self):
            self.of_s3 = look_up(self, client_config)
        return self.of_s3

    botocore.regions.EndpointProvider, ClientArgsCreator.compute_s3_config = endpoints, of_s3


def _twin_of(heard):
    """Copy what a session hears of for a client, handlers shared: botocore looks at the type of each part of it."""
    made = type(heard)()
    made._root = _node_like(heard._root)
    return made


def _node_like(node):
    children = {name: _node_like(child) for name, child in node["children"].items()}
    return {
        "chunk": node["chunk"],
        "children": children,
        "values": node["values"] and NodeList(*map(list, node["values"])),
    }
