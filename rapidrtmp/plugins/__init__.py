"""
Where plugins are found: any installed package may put a module into ``rapidrtmp/plugins/`` (no ``__init__.py`` beside
it) that holds :class:`~rapidrtmp.discovery.SinkPlugin`, ``StoragePlugin`` or ``AuthenticatorPlugin`` objects.
"""

from twisted.plugin import pluginPackagePaths

__path__.extend(pluginPackagePaths(__name__))
__all__: list[str] = []
