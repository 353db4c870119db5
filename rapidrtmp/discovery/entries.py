"""
What a plugin is: an entry in a table of contents, with a name, one line, and the dotted path of a factory class.

It is found where an entry point of the group ``rapidrtmp`` names it, or in a module anywhere under
``rapidrtmp.plugins``; neither imports anything heavy.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted.plugin import IPlugin
from zope.interface import Attribute, Interface, implementer

__all__ = [
    "AuthenticatorPlugin",
    "ContributionPlugin",
    "DirectoryPlugin",
    "Entry",
    "IAuthenticatorPlugin",
    "IContributionPlugin",
    "IDirectoryPlugin",
    "IEntry",
    "IListenerPlugin",
    "ISinkPlugin",
    "IStoragePlugin",
    "ITranscoderPlugin",
    "ListenerPlugin",
    "SinkPlugin",
    "StoragePlugin",
    "TranscoderPlugin",
]


class IEntry(Interface):
    """A line of a table of contents."""

    name: str = Attribute("What specs call it: letters, digits, ``-`` and ``_``.")
    summary: str = Attribute("One line for ``--list-plugins``.")
    factory_path: str = Attribute("Dotted path of the factory class.")
    settings_path: str = Attribute(
        """
        Dotted path of the dataclass that declares the section ``[NAME]`` of the settings
        (:mod:`rapidrtmp.interfaces.settings`); empty, or not there, if the plugin brings none. It is imported whenever
        settings are read, by tools as well: best it has a module of its own.
        """
    )


class ISinkPlugin(IEntry):
    """Leads to a class whose instances provide ``ISinkFactory``."""


class IStoragePlugin(IEntry):
    """Leads to a class whose instances provide ``IStorageFactory``."""


class IAuthenticatorPlugin(IEntry):
    """Leads to a class whose instances provide ``IAuthenticatorFactory``."""


class IDirectoryPlugin(IEntry):
    """Leads to a class whose instances provide ``IOwnerDirectoryFactory``."""


class ITranscoderPlugin(IEntry):
    """Leads to a class whose instances provide ``ITranscoderFactory``."""


class IListenerPlugin(IEntry):
    """Leads to a class that is called without arguments and whose instances provide ``IEventListener``."""


class IContributionPlugin(IEntry):
    """Leads to a class that is called without arguments and whose instances provide ``IContributes``."""


@dataclass(frozen=True, slots=True)
class Entry:
    """See :class:`IEntry`."""

    name: str
    summary: str
    factory_path: str
    settings_path: str = ""


@implementer(IPlugin, ISinkPlugin)
class SinkPlugin(Entry):
    """``SinkPlugin("hls", "HTTP Live Streaming", "rapidrtmp.hls.sink.HlsSinkFactory")``."""


@implementer(IPlugin, IStoragePlugin)
class StoragePlugin(Entry):
    """``StoragePlugin("memory", "Objects in memory", "rapidrtmp.storage.memory.MemoryStorageFactory")``."""


@implementer(IPlugin, IAuthenticatorPlugin)
class AuthenticatorPlugin(Entry):
    """``AuthenticatorPlugin("open", "Any peer may publish", "rapidrtmp.auth.open.OpenAuthenticatorFactory")``."""


@implementer(IPlugin, IDirectoryPlugin)
class DirectoryPlugin(Entry):
    """``DirectoryPlugin("local", "Processes of one machine", "rapidrtmp.directory.local.LocalDirectoryFactory")``."""


@implementer(IPlugin, ITranscoderPlugin)
class TranscoderPlugin(Entry):
    """``TranscoderPlugin("ffmpeg", "A child process", "rapidrtmp.transcode.ffmpeg.FfmpegTranscoderFactory")``."""


@implementer(IPlugin, IListenerPlugin)
class ListenerPlugin(Entry):
    """``ListenerPlugin("tally", "Counts what happens", "example.tally.Tally")``."""


@implementer(IPlugin, IContributionPlugin)
class ContributionPlugin(Entry):
    """``ContributionPlugin("rewinding", "Rewind windows", "rapidrtmp.hls.rewind.http.Rewinding")``."""
