"""
The applications of a server by name, and what new settings change of them while it runs.

A key of the settings is *applied* where all that happens from now on follows it, holds *for new streams* where streams
that there are stay as they began, and *needs a restart* where something is built on it that only a start builds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from twisted.logger import Logger

from rapidrtmp.app.application import Application, Shared, limits_of, relays_of
from rapidrtmp.app.plugins import (
    AppPlugins,
    ChosenPlugins,
    ChosenStorage,
    authenticator_keys,
    choose_app,
    choose_storages,
    keep_secrets_apart,
    sink_keys,
)
from rapidrtmp.app.public_names import PublicNames
from rapidrtmp.app.storages import Stores
from rapidrtmp.interfaces import AuthenticatorContext, IReplacingSinkFactory, Outcome, Purpose
from rapidrtmp.settings.model import Settings, app_settings
from rapidrtmp.settings.spec import parse_spec
from rapidrtmp.storage.store import Store
from rapidrtmp.support.clock import utc_ms
from rapidrtmp.support.factories import create

__all__ = ["Applications", "Replacement"]

#: By name of the setting, those of applications without the application's; what is not here needs a restart.
_OUTCOMES: Mapping[str, Outcome] = {
    "server.max_streams": Outcome.APPLIED,
    "apps.auth": Outcome.APPLIED,
    "apps.play": Outcome.APPLIED,
    "apps.public_names": Outcome.APPLIED,
    "tokens.names_file": Outcome.APPLIED,
    "apps.max_streams": Outcome.APPLIED,
    "apps.max_viewers_per_stream": Outcome.APPLIED,
    "apps.max_players_per_token": Outcome.APPLIED,
    "apps.max_egress": Outcome.APPLIED,
    "apps.max_connections_per_ip": Outcome.APPLIED,
    "apps.max_bitrate": Outcome.FOR_NEW_STREAMS,
    "apps.push": Outcome.APPLIED,
    "apps.pull": Outcome.APPLIED,
    "apps.origin": Outcome.APPLIED,
    "tokens.secret_file": Outcome.APPLIED,
    "apps.sinks": Outcome.FOR_NEW_STREAMS,
    "apps.transcoder": Outcome.FOR_NEW_STREAMS,
    "apps.grace": Outcome.FOR_NEW_STREAMS,
    "hls.segment": Outcome.FOR_NEW_STREAMS,
    "hls.window": Outcome.FOR_NEW_STREAMS,
    "hls.part": Outcome.FOR_NEW_STREAMS,
    "live.linger": Outcome.FOR_NEW_STREAMS,
    "live.gop_cache": Outcome.FOR_NEW_STREAMS,
    "live.max_stream_bytes": Outcome.FOR_NEW_STREAMS,
    "live.slow_sink": Outcome.FOR_NEW_STREAMS,
    "rtmp.takeover_silence": Outcome.FOR_NEW_STREAMS,
    "http.max_waiters_per_stream": Outcome.FOR_NEW_STREAMS,
}
#: What only stands in for applications without a key of their own: their keys tell what becomes of it. The limit of all
#: streams is one besides.
_MODELS = frozenset(name for row in app_settings().values() for name in row.general) - {"server.max_streams"}


@dataclass(frozen=True)
class Replacement:
    """
    New settings that were seen to be possible, and what they change. Nothing of it is in force yet.

    :ivar settings: those that will be in force.
    :ivar outcomes: see :meth:`Applications.replace`.
    :ivar apps: every application that there will be, by name.
    :ivar coming: the names of those that were not there.
    :ivar opened: storages that were opened for them.
    """

    settings: Settings
    outcomes: Mapping[str, Outcome]
    apps: Mapping[str, Application]
    coming: Sequence[str]
    opened: Sequence[ChosenStorage]


class Applications(dict[str, Application]):
    """
    Every application there is, by name: a dictionary, since each request looks one up. Only ``replace`` changes it.

    An application that comes with new settings is one like any other. One that goes takes no new streams; those that
    are live stay until they end, their publishers may return in their grace time, and then it is gone.

    :param plugins: what the settings choose for each.
    :param stores: every storage that they choose, opened; those of applications that come are opened besides.
    :param has_streams: whether there are streams of an application.
    :ivar changed: called when the applications are others than before; raises ``ConfigurationError`` if that cannot be,
        and then is called again with the former ones.
    :raises ConfigurationError: an authenticator can never work.
    """

    _log = Logger()

    def __init__(
        self,
        settings: Settings,
        plugins: ChosenPlugins,
        stores: Stores,
        shared: Shared,
        has_streams: Callable[[str], bool] = lambda _app: False,
    ) -> None:
        self._settings = settings
        self._stores = stores
        self._shared = shared
        self._has_streams = has_streams
        self.changed: Callable[[], None] = lambda: None
        self._coming: Mapping[str, Application] = {}
        super().__init__({name: self._make(name, settings, each) for name, each in plugins.apps.items()})

    @property
    def settings(self) -> Settings:
        """Those in force: keys that need a restart are as they were when the server started."""
        return self._settings

    def stores_of(self, name: str) -> list[Store]:
        """All stores that an application writes to, each once; of one that is prepared as well."""
        return list(dict.fromkeys((self.get(name) or self._coming[name]).stores.values()))

    def general_store(self, purpose: Purpose) -> Store:
        """The one that applications without one of their own use for a purpose; if none does, one of the others."""
        of_apps = [app.stores[purpose] for app in self.values()]
        named = {store.name: store for store in reversed(of_apps)}
        names = ["recordings", "storage"] if purpose is Purpose.RECORDINGS else ["storage"]
        return next((named[name] for name in names if name in named), of_apps[0])

    def _make(self, name: str, settings: Settings, plugins: AppPlugins) -> Application:
        return Application(
            name=name,
            settings=settings,
            sinks=plugins.sinks,
            authenticator=self._make_authenticator(name, "auth", settings, plugins.authenticator),
            play_authenticator=self._make_authenticator(name, "play", settings, plugins.play_authenticator),
            names=_public_names(name, settings),
            stores={purpose: self._stores.of(chosen) for purpose, chosen in plugins.storages.items()},
            limits=limits_of(name, settings),
            relays=relays_of(name, settings),
            shared=self._shared,
            transcoder=plugins.transcoder,
        )

    def _make_authenticator(self, name: str, key: str, settings: Settings, factory: Any) -> Any:
        """What decides who may publish (``auth``), or who may watch (``play``), in an application."""
        if factory is None:
            return None
        shared = self._shared
        context = AuthenticatorContext(shared.reactor, utc_ms, Logger("rapidrtmp.auth"), shared.in_thread)
        names = " or ".join(parse_spec(spec).name for spec in getattr(settings.apps[name], key))
        return create(f"authenticator {names} of apps.{name}.{key}", factory, context)

    # ── new settings ─────────────────────────────────────────────────────────────────────────────────────────────────

    def replace(self, settings: Settings) -> Mapping[str, Outcome]:
        """
        Follow new settings as far as that is possible while the server runs.

        :returns: what becomes of each key that changes, by its name: ``hls.segment``, ``apps.live.sinks``. One that
            changes nothing, because no application goes by it, is left out. A whole application that comes or goes is
            named ``apps.NAME``.
        :raises ConfigurationError: a plugin is not there or refuses its arguments; then nothing has changed.
        """
        return self.apply(self.prepare(settings))

    def outcomes(self, settings: Settings) -> Mapping[str, Outcome]:
        """What would become of each key that other settings change: see :meth:`replace`."""
        outcomes = _outcomes(self._settings, settings)
        for name in settings.apps:
            if f"apps.{name}" in outcomes and name in self and _are_elsewhere(self[name].settings, settings, name):
                outcomes[f"apps.{name}"] = Outcome.NEEDS_RESTART  # it is leaving, and what is live lies elsewhere
        return outcomes

    def prepare(self, settings: Settings) -> Replacement:
        """
        Make all that new settings need, and change nothing.

        :returns: what :meth:`apply` takes, or :meth:`discard`, before anything else is prepared.
        :raises ConfigurationError: as :meth:`replace`.
        """
        outcomes = self.outcomes(settings)
        effective = _in_force(self._settings, settings, outcomes)
        if all(outcome is Outcome.NEEDS_RESTART for outcome in outcomes.values()):
            return Replacement(effective, outcomes, dict(self), (), ())
        keep_secrets_apart(effective)
        coming = [name for name in effective.apps if name not in self._settings.apps]
        chosen = choose_storages(effective, coming, self._stores.chosen)
        opened = self._stores.open(storage for of_app in chosen.values() for storage in of_app.values())
        try:
            apps = {name: self._changed(app, effective) for name, app in self.items() if name not in coming}
            for name in coming:
                plugins = choose_app(effective, name)
                apps[name] = self._make(name, effective, replace(plugins, storages=chosen[name]))
        except Exception:
            self._stores.discard(opened)
            raise
        self._coming = {name: apps[name] for name in coming}
        return Replacement(effective, outcomes, apps, coming, opened)

    def discard(self, replacement: Replacement) -> None:
        """Give up new settings that were prepared."""
        self._coming = {}
        self._stores.discard(replacement.opened)

    def apply(self, replacement: Replacement) -> Mapping[str, Outcome]:
        """
        Put new settings in force.

        :returns: see :meth:`replace`.
        :raises ConfigurationError: a plugin that comes cannot work beside the others; then nothing has changed.
        """
        former, settings = dict(self), self._settings
        self._coming = {}
        self._become(replacement.apps, replacement.settings)
        try:
            self.changed()
        except Exception:
            self._become(former, settings)
            self.changed()
            self.discard(replacement)
            raise
        for name, app in self.items():
            self._hand_over(former.get(name), app)
        return replacement.outcomes

    def _become(self, apps: Mapping[str, Application], settings: Settings) -> None:
        self._settings = settings
        self.clear()
        self.update({name: app for name, app in apps.items() if not app.is_leaving or self._has_streams(name)})

    def let_go(self, name: str) -> None:
        """Part with an application that is leaving, if there are no streams of it any more."""
        app = self.get(name)
        if app is not None and app.is_leaving and not self._has_streams(name):
            del self[name]
            self._log.info("the application {app} is gone: its last stream has ended", app=name)
            self.changed()

    def _changed(self, app: Application, settings: Settings) -> Application:
        """An application as new settings have it, with what they leave as it is."""
        former, name = app.settings, app.name
        if name not in settings.apps:
            return replace(app, is_leaving=True)
        keeps_auth, keeps_play = (
            authenticator_keys(former, getattr(former.apps[name], key))
            == authenticator_keys(settings, getattr(settings.apps[name], key))
            for key in ("auth", "play")
        )
        kept = dict(zip(sink_keys(former, name), app.sinks.values(), strict=False))
        chosen = choose_app(settings, name, kept)
        return replace(
            app,
            settings=settings,
            sinks=chosen.sinks,
            authenticator=app.authenticator
            if keeps_auth
            else self._make_authenticator(name, "auth", settings, chosen.authenticator),
            play_authenticator=app.play_authenticator
            if keeps_play
            else self._make_authenticator(name, "play", settings, chosen.play_authenticator),
            names=_public_names(name, settings),
            limits=limits_of(name, settings),
            relays=relays_of(name, settings),
            transcoder=app.transcoder
            if former.apps[name].transcoder == settings.apps[name].transcoder
            else chosen.transcoder,
        )

    def _hand_over(self, former: Application | None, app: Application) -> None:
        """Let sink factories take over from those in whose places they are."""
        for sink, factory in app.sinks.items():
            replacing = IReplacingSinkFactory(factory, None)
            if former is None or replacing is None or former.sinks.get(sink, factory) is factory:
                continue
            try:
                replacing.take_over(former.sinks[sink])
            except Exception:
                self._log.failure("{app}: sink {sink} cannot take over", app=app.name, sink=sink)


def _public_names(name: str, settings: Settings) -> PublicNames:
    text, key_file = settings.apps[name].public_names, settings.tokens.names_file
    return PublicNames(name, text, key_file, Logger("rapidrtmp.auth"))


def _are_elsewhere(old: Settings, new: Settings, name: str) -> bool:
    """Whether an application has other storages in other settings."""
    before, after = old.apps[name], new.apps[name]
    return (before.storage, before.recordings) != (after.storage, after.recordings)


def _outcomes(old: Settings, new: Settings) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    storages = {parse_spec(spec).name for app in old.apps.values() for spec in (app.storage, app.recordings)}
    for row in old.rows():
        if old.value(row) != new.value(row) and row.name not in _MODELS:
            is_fixed = row.section in storages and row.section in old.sections
            outcomes[row.name] = Outcome.NEEDS_RESTART if is_fixed else _OUTCOMES.get(row.name, row.when_changed)
    if old.hooks != new.hooks:
        outcomes["hooks"] = Outcome.APPLIED
    for section in old.sections:
        _keep_together(section, old, new, outcomes)
    for app in dict.fromkeys([*old.apps, *new.apps]):
        if app not in old.apps or app not in new.apps:
            outcomes[f"apps.{app}"] = Outcome.APPLIED
            continue
        for key, each in app_settings().items():
            if getattr(old.apps[app], each.field_name) != getattr(new.apps[app], each.field_name):
                outcomes[f"apps.{app}.{key}"] = _OUTCOMES.get(f"apps.{key}", Outcome.NEEDS_RESTART)
    return outcomes


def _keep_together(section: str, old: Settings, new: Settings, outcomes: dict[str, Outcome]) -> None:
    """A plugin's section that refuses the new values beside those that need a restart needs one as a whole."""
    changed = [row for row in old.rows() if row.section == section and row.name in outcomes]
    try:
        new.keeping(old, [row for row in changed if outcomes[row.name] is Outcome.NEEDS_RESTART])
    except Exception:
        outcomes.update({row.name: Outcome.NEEDS_RESTART for row in changed})


def _in_force(old: Settings, new: Settings, outcomes: Mapping[str, Outcome]) -> Settings:
    """The new settings, but for what needs a restart."""
    in_force = new.keeping(old, [row for row in old.rows() if outcomes.get(row.name) is Outcome.NEEDS_RESTART])
    apps = {}
    for app, settings in new.apps.items():
        kept = {
            row.field_name: getattr(old.apps[app], row.field_name)
            for key, row in app_settings().items()
            if outcomes.get(f"apps.{app}.{key}") is Outcome.NEEDS_RESTART
        }
        if outcomes.get(f"apps.{app}") is not Outcome.NEEDS_RESTART:
            apps[app] = replace(settings, **kept)
    return replace(in_force, apps=apps)
