"""The plugins that the settings choose, found and made: what `tap.py` hands to the server beside the settings."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain, count, product
from pathlib import Path
from typing import Any

from rapidrtmp.auth.any_of import AnyOfAuthenticatorFactory
from rapidrtmp.auth.open import OpenAuthenticatorFactory
from rapidrtmp.discovery import (
    make_authenticator_factory,
    make_contributors,
    make_directory_factory,
    make_listeners,
    make_sink_factory,
    make_storage_factory,
    make_transcoder_factory,
)
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import IStoringSinkFactory, Purpose
from rapidrtmp.interfaces.settings import DeclaredSetting
from rapidrtmp.settings.model import AppSettings, Settings
from rapidrtmp.settings.spec import Spec, parse_spec

__all__ = [
    "AppPlugins",
    "ChosenPlugins",
    "ChosenStorage",
    "authenticator_keys",
    "choose_app",
    "choose_plugins",
    "choose_storages",
    "keep_secrets_apart",
    "purpose_of",
    "sink_keys",
]


#: What a sink factory is made of; see :func:`sink_keys`.
SinkKey = tuple[str, int, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, eq=False)
class ChosenStorage:
    """
    A storage that the settings choose, the same object wherever it is chosen again.

    :ivar name: the setting that chose it first: ``storage``, ``recordings``, ``apps.radio.storage``.
    :ivar factory: an ``IStorageFactory``.
    :ivar spec: what it was made of.
    """

    name: str
    factory: Any
    spec: str = field(default="", repr=False)


@dataclass(frozen=True)
class AppPlugins:
    """
    The plugins of one application.

    :ivar sinks: each an ``ISinkFactory``, by name: the plugin's, with ``-2``, ``-3`` where one serves again.
    :ivar authenticator: an ``IAuthenticatorFactory``.
    :ivar play_authenticator: likewise, of who may watch; ``None`` for all.
    :ivar storages: one for each purpose.
    :ivar transcoder: an ``ITranscoderFactory``; ``None`` for no ladders.
    """

    sinks: Mapping[str, Any]
    authenticator: Any
    play_authenticator: Any
    storages: Mapping[Purpose, ChosenStorage]
    transcoder: Any = None


@dataclass(frozen=True)
class ChosenPlugins:
    """
    Every plugin the server runs with.

    :ivar apps: by application, as in ``Settings.apps``.
    :ivar directory: an ``IOwnerDirectoryFactory``; ``None`` for a process that owns all.
    :ivar contributors: each an ``IContributes``; likewise ``listeners``, each an ``IEventListener``.
    """

    apps: Mapping[str, AppPlugins]
    directory: Any = None
    contributors: Sequence[Any] = ()
    listeners: Sequence[Any] = ()


def choose_plugins(settings: Settings) -> ChosenPlugins:
    """
    Find and make the factories that the settings name.

    :raises ConfigurationError: one that is unknown, cannot be loaded or refuses its arguments; a token secret that
        would lie among the objects that are served.
    """
    keep_secrets_apart(settings)
    storages = choose_storages(settings, settings.apps)
    return ChosenPlugins(
        {name: replace(choose_app(settings, name), storages=storages[name]) for name in settings.apps},
        make_directory_factory(settings.server.directory),
        make_contributors(),
        make_listeners(),
    )


def choose_app(settings: Settings, name: str, kept: Mapping[SinkKey, Any] | None = None) -> AppPlugins:
    """
    Find and make the sink and authenticator factories of one application; it has no storages yet.

    :param kept: sink factories that there are, by what they were made of (see :func:`sink_keys`): they are not made
        again.
    :raises ConfigurationError: as :func:`choose_plugins`.
    """
    app = settings.apps[name]
    return AppPlugins(
        _sinks(sink_keys(settings, name), kept or {}),
        _authenticator(settings, app),
        _play_authenticator(settings, app),
        {},
        make_transcoder_factory(app.transcoder, _defaults(settings, app.transcoder)) if app.transcoder else None,
    )


def sink_keys(settings: Settings, name: str) -> Sequence[SinkKey]:
    """What each sink factory of an application is made of: its spec, which of those it is, and its defaults."""
    specs = settings.apps[name].sinks
    return [
        (spec, specs[:number].count(spec), tuple(_defaults(settings, spec).items()))
        for number, spec in enumerate(specs)
    ]


def choose_storages(
    settings: Settings, apps: Iterable[str], known: Iterable[ChosenStorage] = ()
) -> Mapping[str, Mapping[Purpose, ChosenStorage]]:
    """
    Choose the storages of applications, one for each purpose.

    :param apps: their names.
    :param known: those that there are: what has the same spec is not chosen again.
    :raises ConfigurationError: as :func:`choose_plugins`.
    """
    storages = {each.spec: each for each in known}
    names = {each.name for each in known}
    chosen: dict[str, dict[Purpose, ChosenStorage]] = {name: {} for name in apps}
    for name, of_app in chosen.items():
        app = settings.apps[name]
        for purpose, key, spec in (
            (Purpose.LIVE, "storage", app.storage),
            (Purpose.RECORDINGS, "recordings", app.recordings),
        ):
            if spec not in storages:
                said = next(_setting_names(settings, spec, f"apps.{name}.{key}", names))
                try:
                    storages[spec] = ChosenStorage(said, make_storage_factory(spec, _defaults(settings, spec)), spec)
                except ConfigurationError as error:
                    raise ConfigurationError(f"{said}: {error}") from error
                names.add(said)
            of_app[purpose] = storages[spec]
    return chosen


def _setting_names(settings: Settings, spec: str, own: str, taken: Container[str]) -> Iterator[str]:
    """What a storage may be called: by the setting that chooses it; numbered, where former settings chose another."""
    general = {"storage": settings.storage.spec, "recordings": settings.storage.recordings}
    names = chain((name for name in general if general[name] == spec), [own], (f"{own}-{n}" for n in count(2)))
    return (name for name in names if name not in taken)


def _defaults(settings: Settings, spec: str) -> Mapping[str, str]:
    """The arguments that hold where a spec does not say: the keys of the section that is called as the plugin is."""
    plugin = parse_spec(spec).name
    if plugin == "token":
        return {"secret_file": settings.tokens.secret_file}
    if plugin != "hls" and plugin not in settings.sections:
        return {}
    rows = (row for row in settings.rows() if row.section == plugin)
    return {row.key: row.kind.write(settings.value(row)) for row in rows}


def _sinks(keys: Sequence[SinkKey], kept: Mapping[SinkKey, Any]) -> Mapping[str, Any]:
    sinks: dict[str, Any] = {}
    for key in keys:
        spec, _, defaults = key
        plugin = parse_spec(spec).name
        names = (plugin if number == 1 else f"{plugin}-{number}" for number in range(1, len(keys) + 1))
        name = next(name for name in names if name not in sinks)
        sinks[name] = kept[key] if key in kept else make_sink_factory(spec, dict(defaults))
        try:
            purpose_of(sinks[name])
        except ConfigurationError as error:
            raise ConfigurationError(f"sink {plugin}: {error}") from error
    return sinks


def purpose_of(sink_factory: Any) -> Purpose:
    """
    What the sinks of a factory store things for.

    :raises ConfigurationError: it says what no storage is for.
    """
    storing = IStoringSinkFactory(sink_factory, None)
    if storing is None:
        return Purpose.LIVE
    try:
        return Purpose(storing.purpose)
    except ValueError as error:
        raise ConfigurationError(f"its purpose {storing.purpose!r} is not {' or '.join(Purpose)}") from error


def authenticator_keys(settings: Settings, specs: Sequence[str]) -> Sequence[tuple[str, Mapping[str, str]]]:
    """What authenticator factories are made of: each one's spec, and its defaults."""
    return [(spec, _defaults(settings, spec)) for spec in specs]


def _authenticators(settings: Settings, specs: Sequence[str]) -> Sequence[Any]:
    return [make_authenticator_factory(*key) for key in authenticator_keys(settings, specs)]


def _authenticator(settings: Settings, app: AppSettings) -> Any:
    made = _authenticators(settings, app.auth)
    return made[0] if len(made) == 1 else AnyOfAuthenticatorFactory(made)


def _play_authenticator(settings: Settings, app: AppSettings) -> Any:
    """Of those who are asked one that consents is enough: where ``open`` is among them, no one needs to be asked."""
    made = _authenticators(settings, app.play)
    if any(isinstance(each, OpenAuthenticatorFactory) for each in made):
        return None
    return AnyOfAuthenticatorFactory(made, decides_play=True)


def keep_secrets_apart(settings: Settings) -> None:
    """
    See that no file with secrets lies where objects are served: files of a ``local`` storage can be fetched over HTTP.

    :raises ConfigurationError: one does.
    """
    specs = dict.fromkeys(spec for app in settings.apps.values() for spec in (app.storage, app.recordings))
    for storage, (path, setting) in product(map(parse_spec, specs), dict(_secret_files(settings)).items()):
        directory = storage.options.get("directory") or "".join(storage.arguments[:1])
        if storage.name != "local" or not directory:
            continue
        if Path(path).resolve().is_relative_to(Path(directory).resolve()):
            raise ConfigurationError(
                f"the secrets in {path} would lie in the storage directory {directory}, which is served: "
                f"name another file as {setting}"
            )


def _secret_files(settings: Settings) -> Iterator[tuple[str, str]]:
    """The files that hold secrets, each with the setting that names it."""
    tokens = settings.tokens
    if any(app.public_names for app in settings.apps.values()):
        yield tokens.names_file, "tokens.names_file"
    for app in settings.apps.values():
        for spec in map(parse_spec, (*app.auth, *app.play)):
            if spec.name == "token":
                yield spec.options.get("secret_file", tokens.secret_file), "tokens.secret_file"
            for key in ("key", "secret"):
                if _is_file(spec, key):
                    yield spec.options[key], f"{spec.name}:{key}"
        yield from ((target.key_file, "key_file") for target in app.push if target.key_file)
    for name, section in settings.sections.items():
        for row in fields(section):
            declared = row.metadata.get("limit")
            if isinstance(declared, DeclaredSetting) and declared.holds_secrets:
                yield getattr(section, row.name), f"{name}.{row.name}"


def _is_file(spec: Spec, key: str) -> bool:
    """Whether an option of ours holds the name of a file."""
    return (spec.name, key) in (("jwt", "key"), ("webhook", "secret")) and key in spec.options
