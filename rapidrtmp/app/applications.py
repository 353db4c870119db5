"""
The applications of a server by name, and what new settings change of them while it runs.

A key of the settings is *applied* where all that happens from now on follows it, holds *for new streams* where streams
that there are stay as they began, and *needs a restart* where something is built on it that only a start builds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from twisted.logger import Logger

from rapidrtmp.app.application import Application, Shared, limits_of
from rapidrtmp.app.plugins import AppPlugins, ChosenPlugins, choose_app, keep_secrets_apart, sink_keys
from rapidrtmp.app.storages import Stores
from rapidrtmp.interfaces import AuthenticatorContext, IAuthenticator, IReplacingSinkFactory, Outcome, Purpose
from rapidrtmp.settings.model import Settings, app_settings
from rapidrtmp.settings.spec import parse_spec
from rapidrtmp.storage.store import Store
from rapidrtmp.support.clock import utc_ms
from rapidrtmp.support.factories import create

__all__ = ["Applications"]


#: By name of the setting, those of applications without the application's; what is not here needs a restart.
_OUTCOMES: Mapping[str, Outcome] = {
    "apps.auth": Outcome.APPLIED,
    "apps.max_streams": Outcome.APPLIED,
    "apps.max_viewers_per_stream": Outcome.APPLIED,
    "tokens.secret_file": Outcome.APPLIED,
    "apps.sinks": Outcome.FOR_NEW_STREAMS,
    "apps.grace": Outcome.FOR_NEW_STREAMS,
    "hls.segment": Outcome.FOR_NEW_STREAMS,
    "hls.window": Outcome.FOR_NEW_STREAMS,
    "hls.part": Outcome.FOR_NEW_STREAMS,
    "live.linger": Outcome.FOR_NEW_STREAMS,
    "live.gop_cache": Outcome.FOR_NEW_STREAMS,
    "live.slow_sink": Outcome.FOR_NEW_STREAMS,
    "rtmp.takeover_silence": Outcome.FOR_NEW_STREAMS,
    "http.max_waiters_per_stream": Outcome.FOR_NEW_STREAMS,
}
#: What only stands in for applications without a key of their own: their keys tell what becomes of it.
_MODELS = frozenset(name for row in app_settings().values() for name in row.general)


class Applications(dict[str, Application]):
    """
    Every application there is, by name: a dictionary, since each request looks one up. Only ``replace`` changes it.

    :param plugins: what the settings choose for each.
    :param stores: every storage that they choose, opened.
    :raises ConfigurationError: an authenticator can never work.
    """

    def __init__(self, settings: Settings, plugins: ChosenPlugins, stores: Stores, shared: Shared) -> None:
        self._settings = settings
        self._stores = stores
        self._shared = shared
        super().__init__({name: self._make(name, settings, each) for name, each in plugins.apps.items()})

    @property
    def settings(self) -> Settings:
        """Those in force: keys that need a restart are as they were when the server started."""
        return self._settings

    def stores_of(self, name: str) -> list[Store]:
        """All stores that an application writes to, each once."""
        return list(dict.fromkeys(self[name].stores.values()))

    def general_store(self, purpose: Purpose) -> Store:
        """The one that applications without one of their own use for a purpose; if none does, one of the others."""
        of_apps = [app.stores[purpose] for app in self.values()]
        named = {store.name: store for store in reversed(of_apps)}
        names = ["recordings", "storage"] if purpose is Purpose.RECORDINGS else ["storage"]
        return next((named[name] for name in names if name in named), of_apps[0])

    def _make(
        self, name: str, settings: Settings, plugins: AppPlugins, authenticator: IAuthenticator | None = None
    ) -> Application:
        return Application(
            name=name,
            settings=settings,
            sinks=plugins.sinks,
            authenticator=authenticator or self._make_authenticator(name, settings, plugins),
            stores={purpose: self._stores.of(chosen) for purpose, chosen in plugins.storages.items()},
            limits=limits_of(name, settings),
            shared=self._shared,
        )

    def _make_authenticator(self, name: str, settings: Settings, plugins: AppPlugins) -> IAuthenticator:
        shared = self._shared
        context = AuthenticatorContext(shared.reactor, utc_ms, Logger("rapidrtmp.auth"), shared.in_thread)
        names = " or ".join(parse_spec(spec).name for spec in settings.apps[name].auth)
        made: IAuthenticator = create(f"authenticator {names} of apps.{name}", plugins.authenticator, context)
        return made

    # ── new settings ─────────────────────────────────────────────────────────────────────────────────────────────────

    def replace(self, settings: Settings) -> Mapping[str, Outcome]:
        """
        Follow new settings as far as that is possible while the server runs.

        :returns: what becomes of each key that changes, by its name: ``hls.segment``, ``apps.live.sinks``. One that
            changes nothing, because no application goes by it, is left out. A whole application that comes or goes is
            named ``apps.NAME``.
        :raises ConfigurationError: a plugin is not there or refuses its arguments; then nothing has changed.
        """
        outcomes = _outcomes(self._settings, settings)
        effective = _in_force(self._settings, settings, outcomes)
        if any(outcome is not Outcome.NEEDS_RESTART for outcome in outcomes.values()):
            keep_secrets_apart(effective)
            self.update({name: self._replaced(app, effective) for name, app in self.items()})
        self._settings = effective
        return outcomes

    def _replaced(self, app: Application, settings: Settings) -> Application:
        """An application as new settings have it, with what they leave as it is."""
        former, name = app.settings, app.name
        keeps_auth = _auth_keys(former, name) == _auth_keys(settings, name)
        kept = dict(zip(sink_keys(former, name), app.sinks.values(), strict=False))
        chosen = choose_app(settings, name, kept)
        for sink, factory in chosen.sinks.items():
            replacing = IReplacingSinkFactory(factory, None)
            if replacing is not None and sink in app.sinks and app.sinks[sink] is not factory:
                replacing.take_over(app.sinks[sink])
        return replace(
            app,
            settings=settings,
            sinks=chosen.sinks,
            authenticator=app.authenticator if keeps_auth else self._make_authenticator(name, settings, chosen),
            limits=limits_of(name, settings),
        )


def _auth_keys(settings: Settings, name: str) -> tuple[Any, ...]:
    return settings.apps[name].auth, settings.tokens.secret_file


def _outcomes(old: Settings, new: Settings) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    for row in old.rows():
        if old.value(row) != new.value(row) and row.name not in _MODELS:
            outcomes[row.name] = _OUTCOMES.get(row.name, row.when_changed)
    for section in old.sections:
        _keep_together(section, old, new, outcomes)
    for app in dict.fromkeys([*old.apps, *new.apps]):
        if app not in old.apps or app not in new.apps:
            outcomes[f"apps.{app}"] = Outcome.NEEDS_RESTART
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
    for app, former in old.apps.items():
        kept = {
            row.field_name: getattr(former, row.field_name)
            for key, row in app_settings().items()
            if outcomes.get(f"apps.{app}.{key}") is Outcome.NEEDS_RESTART
        }
        apps[app] = replace(new.apps[app], **kept) if app in new.apps else former
    return replace(in_force, apps=apps)
