"""Every application's storages: chosen by purpose, shared where they are the same, and looked after once each."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from rapidrtmp.app.plugins import ChosenPlugins, ChosenStorage, choose_plugins
from rapidrtmp.app.storages import Stores
from rapidrtmp.interfaces import (
    IRecoveringSinkFactory,
    ISinkFactory,
    IStoringSinkFactory,
    RecoveryContext,
    SinkContext,
    StorageContext,
)
from rapidrtmp.names import StreamName
from rapidrtmp.recording.catalogue import WRITER
from rapidrtmp.server.service import RapidRtmpService
from rapidrtmp.settings.model import StorageSettings
from rapidrtmp.storage.locked_names import FOLDER
from rapidrtmp.storage.memory import MemoryStorage
from rapidrtmp.testing.sinks import FrameCollector
from tests.net.edge import media
from tests.recording.recordings import record
from tests.serving import ServerCase, loopback_settings, open_app
from tests.slow import slow


class CountingFactory:
    """Makes storages in memory, and counts them."""

    def __init__(self, *, persistent: bool = False) -> None:
        self.persistent = persistent
        self.contexts: list[StorageContext] = []

    def create(self, context: StorageContext) -> MemoryStorage:
        self.contexts.append(context)
        return MemoryStorage()


@implementer(ISinkFactory, IStoringSinkFactory, IRecoveringSinkFactory)
class ArchiverFactory:
    """A third party's recorder: writes one object a stream, and remembers what it was shown when it recovered."""

    purpose = "recordings"

    def __init__(self) -> None:
        self.shown: list[list[str]] = []

    def create(self, context: SinkContext) -> FrameCollector:
        context.storage.put(f"archive/{context.stream}", [b"begun"], "text/plain").addErrback(lambda _: None)
        return FrameCollector()

    def recover(self, context: RecoveryContext) -> Deferred[None]:
        listing = context.storage.list("archive/")
        return listing.addCallback(lambda found: self.shown.append([info.key for info in found]))


class StoresTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.one, self.other = CountingFactory(), CountingFactory(persistent=True)
        self.chosen = ChosenStorage("storage", self.one), ChosenStorage("apps.radio.recordings", self.other)
        one, other = self.chosen
        self.stores = Stores(Clock(), [one, one, one, other], 1 << 20)

    def test_shared_storage_is_opened_once(self) -> None:
        """What is chosen again is opened once, and has one queue."""
        self.assertEqual((1, 1), (len(self.one.contexts), len(self.other.contexts)))
        self.assertEqual(["storage", "apps.radio.recordings"], [store.name for store in self.stores.all])
        self.assertEqual(list(self.stores.all), [self.stores.of(each) for each in self.chosen])

    def test_persistent_if_one_is(self) -> None:
        """There is something to resume if one of them keeps what it holds."""
        self.assertTrue(self.stores.persistent)
        self.assertFalse(Stores(Clock(), [ChosenStorage("storage", CountingFactory())], 1 << 20).persistent)

    def test_threads_of_each_storage(self) -> None:
        """Each has threads of its own: one that hangs holds up no other."""
        pools = [context.in_thread.args[1] for factory in (self.one, self.other) for context in factory.contexts]
        self.assertEqual(2, len(set(map(id, pools))))

    def test_drain_waits_for_all_queues(self) -> None:
        """Draining waits for all queues, and tells whether all were emptied."""
        stuck = self.stores.of(self.chosen[1])
        self.patch(stuck.storage, "put", lambda *_: Deferred())
        stuck.writer.put("a", [], "").addErrback(lambda _: None)
        drained = self.stores.drain(3)
        clock: Any = self.one.contexts[0].clock
        clock.advance(2)
        self.assertNoResult(drained)
        clock.advance(2)
        self.assertFalse(self.successResultOf(drained))


def leave_unfinished(folder: Path, app: str) -> None:
    """Put a recording there that another process has begun."""
    for key, data in record(4, finish=False, stream=StreamName(app, "k")).objects.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.replace(WRITER.encode(), b"0" * 16))


class ThreadsTests(TestCase):
    def test_reads_and_writes(self) -> Deferred[None]:
        """However many reads a storage hangs in, its writes continue, and leases whatever hangs."""
        from twisted.internet import reactor

        factory = CountingFactory()
        stores = Stores(reactor, [ChosenStorage("storage", factory)], 1 << 20)
        stores.start()
        self.addCleanup(stores.stop)
        (context,) = factory.contexts
        gate = Event()
        self.addCleanup(gate.set)
        for _ in range(100):
            context.in_read_thread(gate.wait).addErrback(lambda _: None)
        written = context.in_thread(lambda: "written")
        for _ in range(100):
            context.in_thread(gate.wait).addErrback(lambda _: None)
        leased = context.in_lease_thread(lambda: "leased")
        return gatherResults([written, leased]).addCallback(self.assertEqual, ["written", "leased"])


class ServerTests(ServerCase):
    """Two applications with storages of their own, in a whole server."""

    def setUp(self) -> None:
        super().setUp()
        self.folders = {name: self.mktemp() for name in ("live", "recordings", "radio")}
        specs = {name: f"local:{folder}" for name, folder in self.folders.items()}
        self.settings = replace(
            loopback_settings(
                live=open_app("hls:segment=1s", "record", storage=specs["live"], recordings=specs["recordings"]),
                radio=open_app("hls:segment=1s:dvr=1m", "record", storage=specs["radio"]),
                tv=open_app(storage=specs["live"], recordings=specs["recordings"]),
            ),
            storage=StorageSettings(specs["live"], specs["recordings"]),
        )

    async def publish_to_both(self, service: RapidRtmpService) -> list[Any]:
        """An encoder in each application, once a segment of both is recorded."""
        encoders = [await self.publish(service, b"".join(media(9)), app) for app in ("live", "radio")]
        while len([each for each in await self.recordings(service) if each["segments"]]) < 2:
            pass
        return encoders

    async def recordings(self, service: RapidRtmpService, query: str = "") -> list[dict[str, Any]]:
        _, body = await self.get(service, f"/api/v1/recordings{query}")
        listed: list[dict[str, Any]] = json.loads(body)["recordings"]
        return listed

    async def end(self, service: RapidRtmpService, encoders: list[Any]) -> None:
        await service.stopService()
        for encoder in encoders:
            await encoder.gone

    @slow
    async def test_applications_are_stored_apart(self) -> None:
        """Each application's files and recordings lie where it says, and are listed, played and deleted from there."""
        service = self.start(self.settings)
        encoders = await self.publish_to_both(service)
        both = await self.recordings(service)
        self.assertEqual({"live", "radio"}, {each["app"] for each in both})
        for recording in both:
            app = recording["app"]
            self.assertEqual([app], [each["app"] for each in await self.recordings(service, f"?app={app}")])
            path = f"{app}/k/{recording['start']}"
            status, body = await self.get(service, f"/recordings/{path}/recording.mp4")
            self.assertEqual((200, b"ftyp"), (status, body[4:8]))
        while (await self.get(service, "/radio/k/clip.mp4"))[0] != 200:  # until the storage has a page of its journal
            pass
        await self.end(service, encoders)
        found = {name: set(os.listdir(folder)) - {FOLDER} for name, folder in self.folders.items()}
        self.assertEqual({"live": {"live"}, "recordings": {"recordings"}, "radio": {"radio", "recordings"}}, found)
        self.assertEqual([".catalogue", "live"], sorted(os.listdir(f"{self.folders['recordings']}/recordings")))
        self.assertEqual([".catalogue", "radio"], sorted(os.listdir(f"{self.folders['radio']}/recordings")))

    async def test_each_storage_is_looked_after(self) -> None:
        """Each storage is tried and measured once, under the setting that chose it, whatever uses it."""
        service = self.start(self.settings)
        names = ["storage", "recordings", "apps.radio.storage"]
        checks = json.loads((await self.get(service, "/ready"))[1])["checks"]
        self.assertEqual(names, [each["name"] for each in checks if each["name"] in names])
        _, body = await self.get(service, "/metrics")
        lines = [line for line in body.decode().splitlines() if line.startswith("rapidrtmp_storage_written_total")]
        self.assertEqual([f'rapidrtmp_storage_written_total{{storage="{name}"}} 0.0' for name in names], lines)
        await service.stopService()

    @slow
    async def test_recovery_in_each_storage(self) -> None:
        """What an earlier server left unfinished is closed in each storage of recordings."""
        for folder, app in (("recordings", "live"), ("radio", "radio")):
            leave_unfinished(Path(self.folders[folder]), app)
        service = self.start(self.settings)
        while any(each["state"] == "recording" for each in await self.recordings(service)):
            pass
        found = [(each["app"], each["state"], each["segments"]) for each in await self.recordings(service)]
        self.assertEqual([("radio", "recovered", 2), ("live", "recovered", 2)], found)
        for app, left in (("live", ["radio"]), ("radio", [])):
            path = f"/api/v1/recordings/{app}/k/20260101T000000Z"
            self.assertEqual(200, (await self.get(service, path, b"DELETE"))[0])
            self.assertEqual(left, [each["app"] for each in await self.recordings(service)])
        await service.stopService()

    async def test_third_party_recorder_has_its_storage(self) -> None:
        """A sink that says that it stores recordings is given the storage for those, to write and to recover from."""
        archiver = ArchiverFactory()
        apps = {app: each for app, each in self.settings.apps.items() if app != "tv"}
        settings = replace(self.settings, apps=apps)
        plugins = choose_plugins(settings).apps
        archiving = ChosenPlugins({app: replace(each, sinks={"archiver": archiver}) for app, each in plugins.items()})
        for _ in range(2):
            service = self.start(settings, archiving)
            encoders = [await self.publish(service, b"".join(media(3)), app) for app in apps]
            while len(list(service.registry)) < 2:
                await self.get(service, "/api/ping")
            await self.end(service, encoders)
        found = {name for name, folder in self.folders.items() if "archive" in os.listdir(folder)}
        self.assertEqual({"recordings", "radio"}, found)
        self.assertEqual([[], [], ["archive/live/k"], ["archive/radio/k"]], sorted(archiver.shown))
