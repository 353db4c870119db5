"""
Where plugins are looked for: the entry points of installed packages, and folders ``rapidrtmp/plugins`` on the path.

A module or an entry point that cannot be imported is reported once, with its traceback on standard error, and left out.
Nothing is written: Twisted's own search keeps a cache in each of the folders.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from twisted.logger import Logger
from twisted.plugin import IPlugin

import rapidrtmp.plugins

__all__ = [
    "GROUP",
    "broken_plugins",
    "getPlugins",
    "plugins_of_entry_points",
    "search_working_folder",
    "searched_places",
]

#: The group of entry points; the value of each names a plugin, ``MODULE:OBJECT``.
GROUP = "rapidrtmp"
#: What could not be imported, by what it is called, and why; it is not tried again.
_broken: dict[str, str] = {}
_unsafe: set[str] = set()
_log = Logger()


def getPlugins(interface: Any, package: ModuleType) -> Iterator[Any]:
    """
    Plugins that stand in the modules of a package, as ``twisted.plugin.getPlugins`` finds them.

    :param interface: what they provide.
    """
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        module = _load(f"the module {found.name}", lambda found=found: importlib.import_module(found.name))
        plugins = {} if module is None else vars(module)
        yield from (each for each in plugins.values() if interface.providedBy(each) and IPlugin.providedBy(each))


def plugins_of_entry_points(interface: Any) -> Iterator[Any]:
    """Plugins that entry points of the group ``rapidrtmp`` name; ``interface`` is what they provide."""
    for point in _entry_points():
        plugin = _load(_title(point), point.load)
        if interface.providedBy(plugin):
            yield plugin
        elif plugin is not None and not IPlugin.providedBy(plugin):
            _break(_title(point), "it names no plugin such as SinkPlugin(…)")


def _entry_points() -> Sequence[EntryPoint]:
    """Those of our group. All that is installed is read for them, so only when there may be something new."""
    folders = tuple((folder, _changed_ns(folder)) for folder in sys.path)
    return _read_entry_points(entry_points, folders)


@lru_cache(maxsize=1)
def _read_entry_points(read: Callable[..., Iterable[EntryPoint]], _folders: object) -> Sequence[EntryPoint]:
    return tuple(read(group=GROUP))


def _changed_ns(folder: str) -> int:
    """When something came into a folder of the path, or left it."""
    try:
        return os.stat(folder or ".").st_mtime_ns
    except OSError:
        return 0


def search_working_folder() -> None:
    """
    Look for modules in the working folder as well, behind all other folders; console scripts do not by themselves.

    Not where others can write to it, for what is imported runs with the rights of the server, nor where Python was set
    to keep to safe paths (``-P``).
    """
    here = os.getcwd()
    if sys.flags.safe_path or not _is_ours(here):
        _unsafe.add(here)
        return
    if not {"", here}.intersection(sys.path):
        sys.path.append(here)
    folder = Path(here, *rapidrtmp.plugins.__name__.split("."))
    if str(folder) not in rapidrtmp.plugins.__path__ and not (folder / "__init__.py").exists():
        rapidrtmp.plugins.__path__.append(str(folder))


def broken_plugins() -> Iterator[tuple[str, str]]:
    """What could not be imported so far, and why."""
    return iter(_broken.items())


def searched_places() -> str:
    """Where plugins were looked for, in words."""
    folders = dict.fromkeys(path for path in rapidrtmp.plugins.__path__ if Path(path).is_dir())
    words = f"the entry points of the group {GROUP} and in {', '.join(folders)}"
    unsafe = [f", not in {folder}, which others can write to" for folder in _unsafe]
    return "".join([words, *unsafe])


def _is_ours(folder: str) -> bool:
    if not hasattr(os, "geteuid"):
        return True
    status = os.stat(folder)
    is_shared = status.st_mode & 0o020 and status.st_gid != os.getegid()
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & 0o002 and not is_shared


def _title(point: EntryPoint) -> str:
    package = f" of {point.dist.name}" if point.dist is not None else ""
    return f"the entry point {point.name} = {point.value}{package}"


def _load(title: str, load: Any) -> Any:
    """What ``load`` returns; ``None`` if it fails, which is reported once."""
    if title in _broken:
        return None
    try:
        return load()
    except (Exception, SystemExit) as error:
        print(f"rapidrtmp: {title} cannot be imported", file=sys.stderr)
        traceback.print_exception(error, file=sys.stderr)
        _break(title, f"{type(error).__name__}: {' '.join(str(error).split())}")
        return None


def _break(title: str, reason: str) -> None:
    if title not in _broken:
        _broken[title] = reason
        _log.warn("{title} is left out: {reason}", title=title, reason=reason)
