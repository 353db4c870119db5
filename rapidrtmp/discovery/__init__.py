"""Plugins: what one is, where they are looked for, and how a spec leads to the factory of one."""

from rapidrtmp.discovery.entries import (
    AuthenticatorPlugin,
    ContributionPlugin,
    IAuthenticatorPlugin,
    IContributionPlugin,
    IListenerPlugin,
    ISinkPlugin,
    IStoragePlugin,
    ListenerPlugin,
    SinkPlugin,
    StoragePlugin,
)
from rapidrtmp.discovery.factories import (
    bound_arguments,
    contributed_commands,
    list_plugins,
    make_authenticator_factory,
    make_contributors,
    make_listeners,
    make_sink_factory,
    make_storage_factory,
    plugin_sections,
)
from rapidrtmp.discovery.search import search_working_folder

__all__ = [
    "AuthenticatorPlugin",
    "ContributionPlugin",
    "IAuthenticatorPlugin",
    "IContributionPlugin",
    "IListenerPlugin",
    "ISinkPlugin",
    "IStoragePlugin",
    "ListenerPlugin",
    "SinkPlugin",
    "StoragePlugin",
    "bound_arguments",
    "contributed_commands",
    "list_plugins",
    "make_authenticator_factory",
    "make_contributors",
    "make_listeners",
    "make_sink_factory",
    "make_storage_factory",
    "plugin_sections",
    "search_working_folder",
]
