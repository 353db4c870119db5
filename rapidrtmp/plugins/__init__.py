"""
Where plugins are found that no entry point names: any folder of the path may hold modules in ``rapidrtmp/plugins/`` (no
``__init__.py`` beside them) with :class:`~rapidrtmp.discovery.SinkPlugin`, ``StoragePlugin`` or
``AuthenticatorPlugin`` objects.
"""

from twisted.plugin import pluginPackagePaths

__path__.extend(pluginPackagePaths(__name__))
__all__: list[str] = []
