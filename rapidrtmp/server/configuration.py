"""Where a server's settings come from, read at its start and again while it runs; and whether they can work."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import serverFromString

from rapidrtmp.app.plugins import ChosenPlugins, choose_plugins
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.server.cluster_door import check_cluster
from rapidrtmp.server.tls_endpoint import TlsEndpoint, is_tls
from rapidrtmp.settings.model import Settings
from rapidrtmp.settings.sources import Loaded, PluginSections, load_settings
from rapidrtmp.support.text import reason_of

__all__ = ["Configuration", "check_settings"]


@dataclass(frozen=True)
class Configuration:
    """
    What a server was started with.

    :ivar options: of the command line, as :func:`~rapidrtmp.settings.sources.load_settings` takes them.
    :ivar environment: as it was.
    :ivar toml_file: the configuration file, if there is one; where it is, whatever the working folder becomes.
    :ivar sections: the sections that plugins bring.
    """

    options: Mapping[str, str | Sequence[str]]
    environment: Mapping[str, str]
    toml_file: Path | None
    sections: PluginSections

    def load(self) -> Loaded:
        """Read the file, anew. :raises ConfigurationError: see :func:`~rapidrtmp.settings.sources.load_settings`."""
        return load_settings(self.options, self.environment, self.toml_file, self.sections)

    def load_text(self, text: str, name: str) -> Loaded:
        """The same for a file that is not in force: its text, and what messages call it."""
        return load_settings(self.options, self.environment, name, self.sections, text)


def check_settings(reactor: Any, settings: Settings, open_doors: Collection[str] = ()) -> ChosenPlugins:
    """
    See that a server can work with settings, as far as that can be known before it does.

    :param open_doors: the endpoints of encrypted doors that are open, and have what they need.
    :returns: the plugins that they choose.
    :raises ConfigurationError: an endpoint is not usable, or what
        :func:`~rapidrtmp.app.plugins.choose_plugins` finds.
    """
    server = settings.server
    doors = (("server.rtmp", server.rtmp), ("server.http", server.http), ("server.manage", server.manage))
    for name, descriptions in doors:
        for description in descriptions:
            if description in open_doors:
                continue
            try:
                if is_tls(description):
                    TlsEndpoint.parse(description).load()
                else:
                    serverFromString(reactor, description)
            except Exception as error:
                raise ConfigurationError(f"{name}: {description} is not usable: {reason_of(error)}") from error
    plugins = choose_plugins(settings)
    check_cluster(settings.cluster, plugins.directory)
    return plugins
