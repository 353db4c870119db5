"""What new settings change of the applications of a running server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.app.application import Application, Shared
from rapidrtmp.app.applications import Applications
from rapidrtmp.app.plugins import choose_plugins
from rapidrtmp.app.storages import Stores
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import Outcome, Purpose, setting
from rapidrtmp.live.numbering import Numbering
from rapidrtmp.metrics import Metrics
from rapidrtmp.names import StreamName
from rapidrtmp.settings.model import AppSettings, HlsSettings, Settings, all_settings, app_settings
from rapidrtmp.settings.sources import load_settings
from rapidrtmp.support.clock import utc_ms
from tests.settings.samples import another_value
from tests.slow import slow

NAME = StreamName("live", "k")
MEMORY = {"RAPIDRTMP_STORAGE_SPEC": "memory:", "RAPIDRTMP_SERVER_AUTH": "open"}
APPLIED, NEW_STREAMS, RESTART = Outcome.APPLIED, Outcome.FOR_NEW_STREAMS, Outcome.NEEDS_RESTART


@dataclass(frozen=True)
class Section:
    """A plugin's section of settings."""

    note: str = setting("a", "Whatever there is to note", when_changed=Outcome.APPLIED)


class ReactorClock(Clock):
    """Time, and what sinks would start processes with."""

    def spawnProcess(self, *arguments: Any) -> None:
        raise NotImplementedError


class ApplicationsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.settings = load_settings({}, MEMORY).settings
        self.use(self.settings)

    def use(self, settings: Settings) -> None:
        reactor = ReactorClock()
        plugins = choose_plugins(settings)
        chosen = [storage for app in plugins.apps.values() for storage in app.storages.values()]
        shared = Shared(reactor, Metrics(), Numbering(utc_ms), maybeDeferred)
        self.stores = Stores(reactor, chosen, 1 << 20)
        self.on_air: set[str] = set()
        self.apps = Applications(settings, plugins, self.stores, shared, self.on_air.__contains__)

    def replace(self, environment: Mapping[str, str]) -> Mapping[str, Outcome]:
        """What becomes of settings that differ by these variables."""
        return self.apps.replace(load_settings({}, {**MEMORY, **environment}).settings)

    @property
    def live(self) -> Application:
        return self.apps["live"]


class MappingTests(ApplicationsCase):
    def test_names_find_the_applications(self) -> None:
        """Applications are found by their names, and each has storages, limits and an authenticator."""
        self.assertEqual(["live"], list(self.apps))
        self.assertNotIn("radio", self.apps)
        self.assertIs(self.live.storage(Purpose.LIVE), self.live.storage(Purpose.RECORDINGS))
        self.assertEqual(60_000, self.live.limits.linger_ms)
        self.assertEqual(["storage"], [store.name for store in self.apps.stores_of("live")])

    def test_immutable_values_make_one(self) -> None:
        """What an application is made of cannot be changed."""
        self.assertRaises(AttributeError, setattr, self.live, "limits", None)

    def test_streams_have_their_sinks(self) -> None:
        """A stream has the sinks of its application, and tells what made them."""
        stream = self.live.make_stream(NAME)
        self.assertEqual(self.live.sinks, stream.sinks)


class ReplaceTests(ApplicationsCase):
    def test_nothing_different_changes_nothing(self) -> None:
        """Where nothing is different, nothing happens."""
        before = self.live
        self.assertEqual({}, self.replace({}))
        self.assertIs(before.sinks["hls"], self.live.sinks["hls"])

    def test_for_new_streams(self) -> None:
        """New sinks, and what they are given by default, are for new streams; those that there are keep theirs."""
        old = self.live
        stream = old.make_stream(NAME)
        self.assertEqual({"hls.segment": NEW_STREAMS}, self.replace({"RAPIDRTMP_HLS_SEGMENT": "4s"}))
        self.assertIs(old.sinks["hls"], stream.sinks["hls"])
        self.assertEqual((2000, 4000), tuple(app.sinks["hls"].cutting.segment_ms for app in (old, self.live)))
        self.assertIs(self.live.sinks["hls"], self.live.make_stream(NAME).sinks["hls"])

    def test_kept_factories_stay_the_same(self) -> None:
        """A sink factory whose arguments stay the same stays the same, whatever comes beside it."""
        kept = self.live.sinks["hls"]
        new = replace(self.settings, apps={"live": replace(self.settings.apps["live"], sinks=("record", "hls"))})
        self.assertEqual({"apps.live.sinks": NEW_STREAMS}, self.apps.replace(new))
        self.assertEqual(["record", "hls"], list(self.live.sinks))
        self.assertIs(kept, self.live.sinks["hls"])

    def test_packager_passes_on_memory(self) -> None:
        """A packager that takes the place of another one remembers what that knew of streams."""
        old = self.live.sinks["hls"]
        self.replace({"RAPIDRTMP_HLS_WINDOW": "20"})
        self.assertIs(old._discontinuities, self.live.sinks["hls"]._discontinuities)

    def test_applied_limits_hold_at_once(self) -> None:
        """Limits of publishers and viewers hold from now on."""
        outcomes = self.replace({"RAPIDRTMP_SERVER_MAX_STREAMS": "3", "RAPIDRTMP_SERVER_MAX_VIEWERS_PER_STREAM": "4"})
        self.assertEqual(
            (APPLIED, APPLIED), (outcomes["apps.live.max_streams"], outcomes["apps.live.max_viewers_per_stream"])
        )
        self.assertEqual((3, 4), (self.live.limits.max_streams, self.live.limits.max_viewers_per_stream))

    def test_authenticator_is_asked_at_once(self) -> None:
        """Another authenticator is asked from now on; one that stays the same is not made anew."""
        before = self.live.authenticator
        self.replace({"RAPIDRTMP_HLS_WINDOW": "20"})
        self.assertIs(before, self.live.authenticator)
        secret = {"RAPIDRTMP_SERVER_AUTH": "token", "RAPIDRTMP_TOKENS_SECRET_FILE": self.mktemp()}
        outcomes = self.replace(secret)
        self.assertEqual(APPLIED, outcomes["apps.live.auth"])
        self.assertIsNot(before, self.live.authenticator)

    def test_needs_a_restart(self) -> None:
        """What only a start builds stays as it is, and is reported each time until it is built."""
        for _ in range(2):
            outcomes = self.replace({"RAPIDRTMP_SERVER_RTMP": "tcp:1936", "RAPIDRTMP_STORAGE_QUEUE": "1M"})
            self.assertEqual({"server.rtmp": RESTART, "storage.queue": RESTART}, outcomes)
            self.assertEqual(self.settings.server.rtmp, self.apps.settings.server.rtmp)
        self.assertEqual({}, self.replace({}))

    def test_storage_needs_a_restart(self) -> None:
        """Another storage needs a restart: until then everything is where it was."""
        folder = self.mktemp()
        before = self.live.stores
        outcomes = self.replace({"RAPIDRTMP_STORAGE_SPEC": f"local:{folder}"})
        self.assertEqual({"apps.live.storage": RESTART, "apps.live.recordings": RESTART}, outcomes)
        self.assertEqual(before, self.live.stores)

    @slow
    def test_every_setting_is_answered_for(self) -> None:
        """Every setting that changes is answered for, and in force just where the answer does not say restart."""
        before = self.apps.settings
        models = {name for row in app_settings().values() for name in row.general}
        for row in all_settings():
            if row.environment_name in MEMORY:
                continue
            outcomes = self.replace({row.environment_name: another_value(row)})
            after = self.apps.settings.value(row)
            self.assertTrue(row.name in outcomes or (outcomes and row.name in models), row.name)
            self.assertEqual(outcomes.get(row.name) is RESTART, after == before.value(row), row.name)
            self.replace({})
            self.assertEqual(before.value(row), self.apps.settings.value(row), row.name)

    def test_sections_of_plugins(self) -> None:
        """What a plugin's section says of its authenticator is applied, of its storage it needs a restart."""
        settings = replace(self.settings, sections={"memory": Section(), "open": Section()})
        self.use(settings)
        before = self.live.authenticator
        outcomes = self.apps.replace(replace(settings, sections={"memory": Section("b"), "open": Section("b")}))
        self.assertEqual({"memory.note": RESTART, "open.note": APPLIED}, outcomes)
        self.assertIsNot(before, self.live.authenticator)
        in_force = self.apps.settings
        self.assertEqual(("a", "b"), (in_force.section("memory").note, in_force.section("open").note))

    def test_bad_settings_change_nothing(self) -> None:
        """Where one plugin refuses its arguments, all is as it was, for other applications too."""
        good, bad = AppSettings(sinks=("record",), auth=("open",)), AppSettings(sinks=("hls:window=1",), auth=("open",))
        memory = {"storage": "memory:", "recordings": "memory:"}
        self.use(replace(self.settings, apps={name: replace(good, **memory) for name in ("live", "radio")}))
        before = dict(self.apps)
        worse = {"live": replace(good, sinks=("hls",), **memory), "radio": replace(bad, **memory)}
        new = replace(self.settings, hls=HlsSettings(window=20), apps=worse)
        self.assertRaises(ConfigurationError, self.apps.replace, new)
        self.assertEqual(before, dict(self.apps))
        self.assertEqual(10, self.apps.settings.hls.window)
        self.assertEqual(1, len(self.stores.all))


class ComingAndGoingTests(ApplicationsCase):
    def setUp(self) -> None:
        super().setUp()
        self.app = self.settings.apps["live"]
        self.changes: list[list[str]] = []

    def use(self, settings: Settings) -> None:
        super().use(settings)
        self.apps.changed = lambda: self.changes.append(list(self.apps))

    def become(self, **others: AppSettings) -> Mapping[str, Outcome]:
        """What becomes of applications other than `live`."""
        return self.apps.replace(replace(self.settings, apps={"live": self.app, **others}))

    def test_application_comes_at_once(self) -> None:
        """An application that is new is there at once, with a storage that it shares, or one that is opened for it."""
        self.assertEqual({"apps.radio": APPLIED}, self.become(radio=replace(self.app, max_streams=3)))
        self.assertEqual(["live", "radio"], list(self.apps))
        self.assertEqual(3, self.apps["radio"].limits.max_streams)
        self.assertIs(self.live.storage(Purpose.LIVE), self.apps["radio"].storage(Purpose.LIVE))
        own = replace(self.app, storage=f"local:{self.mktemp()}")
        self.assertEqual({"apps.tv": APPLIED}, self.become(radio=replace(self.app, max_streams=3), tv=own))
        self.assertEqual(["storage", "apps.tv.storage"], [store.name for store in self.stores.all])
        self.assertEqual("apps.tv.storage", self.apps["tv"].stores[Purpose.LIVE].name)
        self.assertEqual({}, self.become(radio=replace(self.app, max_streams=3), tv=own))
        self.assertEqual([["live", "radio"], ["live", "radio", "tv"], ["live", "radio", "tv"]], self.changes)

    def test_application_goes_when_idle(self) -> None:
        """One that is gone from the settings is gone, if nothing of it is live."""
        self.become(radio=self.app)
        self.assertEqual({"apps.radio": APPLIED}, self.become())
        self.assertEqual(["live"], list(self.apps))
        self.assertEqual({}, self.become())

    def test_goes_with_streams(self) -> None:
        """One that is live takes no more streams, and is gone when its last stream is."""
        self.become(radio=self.app)
        self.on_air.add("radio")
        self.assertEqual({"apps.radio": APPLIED}, self.become())
        self.assertEqual((False, True), (self.live.is_leaving, self.apps["radio"].is_leaving))
        self.apps.let_go("radio")
        self.assertIn("radio", self.apps)
        self.become()
        self.assertIn("radio", self.apps)
        self.on_air.clear()
        self.apps.let_go("radio")
        self.apps.let_go("live")
        self.assertEqual(["live"], list(self.apps))
        self.assertEqual(["live"], self.changes[-1])

    def test_application_comes_back_as_before(self) -> None:
        """One that comes back while something of before is live is there again, but not in another storage."""
        self.become(radio=self.app)
        self.on_air.add("radio")
        former = self.apps["radio"]
        self.become()
        elsewhere = replace(self.app, storage=f"local:{self.mktemp()}")
        self.assertEqual({"apps.radio": RESTART}, self.become(radio=elsewhere))
        self.assertEqual((True, 1), (self.apps["radio"].is_leaving, len(self.stores.all)))
        self.assertEqual({"apps.radio": APPLIED}, self.become(radio=self.app))
        self.assertFalse(self.apps["radio"].is_leaving)
        self.assertIs(former.sinks["hls"]._discontinuities, self.apps["radio"].sinks["hls"]._discontinuities)

    def test_same_storage_again(self) -> None:
        """A storage that was opened for an application that went is the same one when it comes again."""
        own = replace(self.app, storage=f"local:{self.mktemp()}")
        self.become(radio=own)
        store = self.apps["radio"].stores[Purpose.LIVE]
        self.become()
        self.become(radio=own)
        self.assertIs(store, self.apps["radio"].stores[Purpose.LIVE])

    def test_storages_have_names_of_their_own(self) -> None:
        """Where the general storage changes, an application that comes with it has it, under a name not yet taken."""
        folder = self.mktemp()
        new = load_settings({}, {**MEMORY, "RAPIDRTMP_STORAGE_SPEC": f"local:{folder}"}).settings
        outcomes = self.apps.replace(replace(new, apps={**new.apps, "radio": new.apps["live"]}))
        self.assertEqual((APPLIED, RESTART), (outcomes["apps.radio"], outcomes["apps.live.storage"]))
        self.assertEqual(["storage", "apps.radio.storage"], [store.name for store in self.stores.all])

    def test_refused_plugin_brings_none(self) -> None:
        """Where one that comes has a plugin that refuses its arguments, none comes, and no storage stays open."""
        good = replace(self.app, storage=f"local:{self.mktemp()}")
        bad = replace(self.app, sinks=("hls:window=1",))
        self.assertRaises(ConfigurationError, self.become, tv=good, radio=bad)
        self.assertEqual((["live"], 1), (list(self.apps), len(self.stores.all)))

    def test_refused_by_others(self) -> None:
        """Where the rest of the server cannot follow, all is as it was, and the rest is asked to follow that."""
        before = dict(self.apps)

        def changed() -> None:
            self.changes.append(list(self.apps))
            if "radio" in self.apps:
                raise ConfigurationError("two answer one request")

        self.apps.changed = changed
        own = replace(self.app, storage=f"local:{self.mktemp()}")
        self.assertRaises(ConfigurationError, self.become, radio=own)
        self.assertEqual([["live", "radio"], ["live"]], self.changes)
        self.assertEqual((before, 1), (dict(self.apps), len(self.stores.all)))
        self.assertEqual(["live"], list(self.apps.settings.apps))
