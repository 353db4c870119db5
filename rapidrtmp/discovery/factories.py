"""
Plugins by name: from a spec such as ``hls:segment=2`` to the factory it means.

Of the entries that are found (:mod:`rapidrtmp.discovery.search`) only the class that is chosen gets imported; its
signature says which arguments its spec may have. Whatever is wrong is a
:class:`~rapidrtmp.errors.ConfigurationError` of one line.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from zope.interface.interface import InterfaceClass

import rapidrtmp.plugins
from rapidrtmp.discovery.entries import (
    Entry,
    IAuthenticatorPlugin,
    IContributionPlugin,
    IDirectoryPlugin,
    IEntry,
    IListenerPlugin,
    ISinkPlugin,
    IStoragePlugin,
    ITranscoderPlugin,
)
from rapidrtmp.discovery.search import broken_plugins, getPlugins, plugins_of_entry_points, searched_places
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import (
    Command,
    IAuthenticatorFactory,
    IContributes,
    IContributesCommands,
    IEventListener,
    IOwnerDirectoryFactory,
    ISinkFactory,
    IStorageFactory,
    ITranscoderFactory,
)
from rapidrtmp.settings.sources import PluginSections
from rapidrtmp.settings.spec import Spec, parse_spec
from rapidrtmp.support.text import reason_of

__all__ = [
    "bound_arguments",
    "contributed_commands",
    "list_plugins",
    "make_authenticator_factory",
    "make_contributors",
    "make_directory_factory",
    "make_listeners",
    "make_sink_factory",
    "make_storage_factory",
    "make_transcoder_factory",
    "plugin_sections",
]


@dataclass(frozen=True)
class _Kind:
    """What sets sinks, storages and authenticators apart."""

    word: str
    option: str
    entry_interface: Any
    factory_interface: InterfaceClass


_SINK = _Kind("sink", "--sink", ISinkPlugin, ISinkFactory)
_STORAGE = _Kind("storage", "--storage", IStoragePlugin, IStorageFactory)
_AUTHENTICATOR = _Kind("authenticator", "--auth", IAuthenticatorPlugin, IAuthenticatorFactory)
_DIRECTORY = _Kind("directory", "--directory", IDirectoryPlugin, IOwnerDirectoryFactory)
_TRANSCODER = _Kind("transcoder", "--transcoder", ITranscoderPlugin, ITranscoderFactory)
_LISTENER = _Kind("listener", "in every server", IListenerPlugin, IEventListener)
_CONTRIBUTION = _Kind("contribution", "in every server", IContributionPlugin, IContributes)


def make_sink_factory(spec: str, defaults: Mapping[str, str] | None = None) -> Any:
    """
    The ``ISinkFactory`` that ``spec`` means.

    :param defaults: arguments for what the spec leaves out, as far as the plugin has them.
    :raises ConfigurationError: an unknown name or argument, a missing one, an import that fails, or what the factory
        itself objects to.
    """
    return _make(_SINK, spec, defaults or {})


def make_storage_factory(spec: str, defaults: Mapping[str, str] | None = None) -> Any:
    """The ``IStorageFactory`` that ``spec`` means; as :func:`make_sink_factory`."""
    return _make(_STORAGE, spec, defaults or {})


def make_authenticator_factory(spec: str, defaults: Mapping[str, str] | None = None) -> Any:
    """The ``IAuthenticatorFactory`` that ``spec`` means; as :func:`make_sink_factory`."""
    return _make(_AUTHENTICATOR, spec, defaults or {})


def make_transcoder_factory(spec: str, defaults: Mapping[str, str] | None = None) -> Any:
    """The ``ITranscoderFactory`` that ``spec`` means; as :func:`make_sink_factory`."""
    return _make(_TRANSCODER, spec, defaults or {})


def make_directory_factory(spec: str) -> Any:
    """The ``IOwnerDirectoryFactory`` that ``spec`` means; as :func:`make_sink_factory`."""
    return _make(_DIRECTORY, spec, {})


def make_contributors() -> Sequence[Any]:
    """
    The ``IContributes`` of every contribution that is installed.

    :raises ConfigurationError: one cannot be loaded or made.
    """
    return [_make(_CONTRIBUTION, name, {}) for name in _entries(_CONTRIBUTION)]


def make_listeners() -> Sequence[Any]:
    """
    The ``IEventListener`` of every listener that is installed.

    :raises ConfigurationError: one cannot be loaded or made.
    """
    return [_make(_LISTENER, name, {}) for name in _entries(_LISTENER)]


def plugin_sections() -> PluginSections:
    """
    The sections of settings that the plugins bring.

    :raises ConfigurationError: one cannot be loaded, or cannot be a section; or two plugins bring one.
    """
    found: dict[str, Entry] = {}
    for entry in chain(getPlugins(IEntry, rapidrtmp.plugins), plugins_of_entry_points(IEntry)):
        path = _settings_path(entry)
        other = found.setdefault(entry.name, entry) if path else entry
        if _settings_path(other) != path:
            raise ConfigurationError(
                f"two plugins bring the section [{entry.name}]: {_settings_path(other)} and {path}"
            )
    classes = {name: _load(f"the section [{name}]", _settings_path(entry)) for name, entry in sorted(found.items())}
    return PluginSections(classes, searched_for_plugins())


def _settings_path(entry: Entry) -> str:
    return getattr(entry, "settings_path", "")  # others write entries of their own


def contributed_commands() -> Sequence[Command]:
    """The commands that plugins bring to the program ``rapidrtmp``; of a plugin that cannot be loaded, none."""
    commands: list[Command] = []
    for name in _entries(_CONTRIBUTION):
        try:
            contributor = IContributesCommands(_make(_CONTRIBUTION, name, {}), None)
        except ConfigurationError as error:
            print(f"rapidrtmp: {error}", file=sys.stderr)
            continue
        if contributor is not None:
            commands += contributor.commands()
    return commands


def list_plugins() -> str:
    """Every plugin installed, as text: its name, line, and arguments with their defaults, or why it cannot load."""
    optional = [kind for kind in (_TRANSCODER, _LISTENER) if _entries(kind)]
    kinds = (_SINK, _STORAGE, _AUTHENTICATOR, _DIRECTORY, _CONTRIBUTION, *optional)
    lines = [line for kind in kinds for line in _listing(kind)]
    lines += [f"Not usable: {where}: {why}" for where, why in broken_plugins()]
    return "\n".join([*lines, f"Looked in {searched_places()}"])


# ── finding ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _entries(kind: _Kind) -> dict[str, Entry]:
    """Every entry of a kind by name, sorted; two of one name stop the start, for either might be meant."""
    found: dict[str, Entry] = {}
    installed = plugins_of_entry_points(kind.entry_interface)
    for entry in chain(getPlugins(kind.entry_interface, rapidrtmp.plugins), installed):
        other = found.setdefault(entry.name, entry)
        if other.factory_path != entry.factory_path:
            raise ConfigurationError(
                f"two {kind.word} plugins are called {entry.name!r}: {other.factory_path} and {entry.factory_path}"
            )
    return dict(sorted(found.items()))


def _find(kind: _Kind, name: str) -> Entry:
    entries = _entries(kind)
    if name not in entries:
        near = _nearest(name, list(entries))
        raise ConfigurationError(f"there is no {kind.word} called {name!r}; {near}; looked in {searched_for_plugins()}")
    return entries[name]


def searched_for_plugins() -> str:
    """Where plugins were looked for, and which are broken, in words."""
    return "; ".join([searched_places(), *(f"{where} is broken: {why}" for where, why in broken_plugins())])


def _load(title: str, path: str) -> Any:
    """What a dotted path leads to. :raises ConfigurationError: nothing can be had there."""
    module_name, _, attribute = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except Exception as error:
        raise ConfigurationError(f"{title} cannot be loaded: {reason_of(error)}") from error


# ── making ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _make(kind: _Kind, text: str, defaults: Mapping[str, str]) -> Any:
    try:
        spec = parse_spec(text)
    except ConfigurationError as error:
        raise ConfigurationError(f"{kind.word} spec: {error}") from error
    factory_class = _load(spec.name, _find(kind, spec.name).factory_path)
    label = f"{kind.word} {spec.name}"
    arguments = bound_arguments(label, factory_class, spec, defaults)
    try:
        factory = factory_class(**arguments)
    except Exception as error:
        given = f" (given {', '.join(arguments)})" if arguments else ""
        raise ConfigurationError(f"{label}: {reason_of(error)}{given}") from error
    if not kind.factory_interface.providedBy(factory):
        raise ConfigurationError(f"{label}: its factory does not provide {kind.factory_interface.__name__}")
    return factory


def bound_arguments(
    label: str, factory_class: Callable[..., Any], spec: Spec, defaults: Mapping[str, str]
) -> dict[str, str]:
    """
    Match a spec's arguments with the parameters of what it is to be given to.

    :param label: begins every message.
    :raises ConfigurationError: one too many, one unknown, one twice, or one missing. Values are not quoted: any may
        be a secret.
    """
    parameters = _parameters(factory_class)
    takes_others = any(
        each.kind is inspect.Parameter.VAR_KEYWORD for each in inspect.signature(factory_class).parameters.values()
    )
    places = [name for name, each in parameters.items() if each.kind is not inspect.Parameter.KEYWORD_ONLY]
    arguments = list(spec.arguments)
    while arguments and not arguments[-1]:
        arguments.pop()  # "memory:" says no more than "memory"
    if len(arguments) > len(places):
        hint = r"; a colon within an argument, as in a URL, is written \:" if any("//" in a for a in arguments) else ""
        raise ConfigurationError(
            f"{label} takes {len(places)} arguments without a key, {len(arguments)} are given{hint} "
            f"({_listed(parameters)})"
        )
    bound = {name: value for name, value in zip(places, arguments, strict=False) if value}
    for key, value in spec.options.items():
        if key not in parameters and not takes_others:
            raise ConfigurationError(f"{label} has no argument {key}; {_nearest(key, list(parameters))}")
        if key in bound:
            raise ConfigurationError(f"{label}: {key} is given twice")
        bound[key] = value
    bound |= {key: value for key, value in defaults.items() if key in parameters and key not in bound}
    missing = [key for key, each in parameters.items() if each.default is _REQUIRED and not bound.get(key)]
    if missing:
        raise ConfigurationError(f"{label} needs {' and '.join(missing)} ({_listed(parameters)})")
    return bound


_REQUIRED = inspect.Parameter.empty


def _parameters(factory_class: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    wanted = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(factory_class).parameters.values()
    return {parameter.name: parameter for parameter in parameters if parameter.kind in wanted}


def _listed(known: Iterable[str]) -> str:
    return f"known are {', '.join(known)}" if known else "there are none"


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}? ({_listed(known)})" if close else _listed(known)


# ── listing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _listing(kind: _Kind) -> Iterator[str]:
    plural = "directories" if kind is _DIRECTORY else f"{kind.word}s"
    yield f"{plural.capitalize()} ({kind.option})"
    for entry in _entries(kind).values():
        yield f"  {entry.name:<10} {entry.summary}"
        try:
            parameters = _parameters(_load(entry.name, entry.factory_path))
            section = list(_section_keys(entry))
        except ConfigurationError as error:
            yield f"  {'':<10} not usable: {error}"
        else:
            if parameters:
                yield f"  {'':<10} {'  '.join(_shown(each) for each in parameters.values())}"
            if section:
                yield f"  {'':<10} [{entry.name}] {'  '.join(section)}"


def _section_keys(entry: Entry) -> Iterator[str]:
    """The keys of the section that an entry brings, with their defaults."""
    path = _settings_path(entry)
    if path:
        rows = PluginSections({entry.name: _load(f"the section [{entry.name}]", path)}).rows()
        own = (row for row in rows if row.section == entry.name)
        yield from (f"{row.key}={row.kind.render_toml(row.default)}" for row in own)


def _shown(parameter: inspect.Parameter) -> str:
    if parameter.default is _REQUIRED:
        return parameter.name.upper()
    return f"{parameter.name}={'' if parameter.default is None else parameter.default}"
