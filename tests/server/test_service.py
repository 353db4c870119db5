"""The whole server on loopback: it starts, takes a stream, serves it, stops, and leaves nothing in the reactor."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from rapidrtmp.app.plugins import ChosenPlugins, ChosenStorage, choose_plugins
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import AuthenticatorContext, Playlist, Publication, Purpose, SinkContext
from rapidrtmp.live.recovery import Recovery
from rapidrtmp.live.stream import LiveStream, StreamState
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.media import Frame
from rapidrtmp.names import StreamName
from rapidrtmp.rtmp.amf0 import write_values
from rapidrtmp.rtmp.limits import AmfLimits, SessionLimits
from rapidrtmp.server import service as server
from rapidrtmp.server.demo import DemoPublisher
from rapidrtmp.server.listeners import Address
from rapidrtmp.server.service import RapidRtmpService, make_service
from rapidrtmp.settings.model import LimitsSettings, RtmpSettings, ServerSettings, StorageSettings
from rapidrtmp.storage.locked_names import FOLDER
from rapidrtmp.storage.memory import MemoryStorage
from rapidrtmp.testing.sinks import FrameCollector, FrameCollectorFactory
from tests.cmaf.test_event_messages import event_fields
from tests.m3u8.checker import read_playlist
from tests.net.edge import ScriptedAuthenticator, media
from tests.rtmp.client import HANDSHAKE, connect, message
from tests.serving import LOOPBACK, ServerCase, loopback_settings, open_app
from tests.slow import slow


def shown(stream: LiveStream) -> Playlist:
    """The newest version of a stream's media playlist."""
    version = stream.shelf.find_playlist("index.m3u8")
    assert version is not None
    return version.facts


class ServerTests(ServerCase):
    async def test_life_of_a_stream(self) -> None:
        """A stream that is published can be watched; when the server stops, its publisher learns it and it ends."""
        service = self.start(loopback_settings())
        encoder = await self.publish(service, b"".join(media(5)))
        status, body = await self.get(service, "/live/k/index.m3u8")
        self.assertEqual(200, status)
        playlist = read_playlist(body)
        for name in playlist.uris():
            self.assertEqual(200, (await self.get(service, f"/live/k/{name}"))[0], name)
        status, body = await self.get(service, "/live/k/master.m3u8")
        self.assertEqual((200, True), (status, b"CODECS=" in body))
        self.assertEqual(200, (await self.get(service, "/ready"))[0])
        status, body = await self.get(service, "/metrics")
        self.assertIn(b'rapidrtmp_active_streams{state="live"} 1.0', body)
        await service.stopService()
        await encoder.gone
        self.assertIn(b"the server is shutting down", encoder.heard)
        stream = service.registry.find(StreamName("live", "k"))
        assert stream is not None
        self.assertIs(StreamState.ENDED, stream.state)
        version = stream.shelf.find_playlist("index.m3u8")
        assert version is not None
        self.assertTrue(version.facts.ended)

    async def test_text_of_encoders_is_in_the_media(self) -> None:
        """
        What the encoder says about a moment is in front of the media of that moment, as ID3, its marks are in the
        playlist besides, and nonsense is counted.
        """
        service = self.start(loopback_settings(live=open_app("hls:part=0")))
        text = message(18, write_values("onTextData", {"text": "goal"}), timestamp=2_040)
        nonsense = message(18, write_values("onTextData", "x" * 20_000), timestamp=2_040)
        cue = message(18, write_values("onCuePoint", {"name": "ad", "parameters": {"duration": 30.0}}), timestamp=2_040)
        sent = [*media(2), text, cue, nonsense, *islice(media(6, 2_000), 2, None)]
        await self.publish(service, b"".join(sent))
        _, body = await self.get(service, "/live/k/index.m3u8")
        segments = [(await self.get(service, f"/live/k/{name}"))[1] for name in read_playlist(body).uris()]
        (marked,) = [segment for segment in segments if b"onTextData" in segment]
        at = marked.index(b"emsg") - 4
        timescale, time, _, (scheme, _, tag) = event_fields(marked[at : at + int.from_bytes(marked[at : at + 4])])
        self.assertEqual((1000, b"https://aomedia.org/emsg/ID3"), (timescale, scheme))
        self.assertApproximates(2_000, time, 120)
        self.assertIn(b'{"text": "goal"}', tag)
        self.assertIn(b"onCuePoint", marked)
        (listed,) = (line for line in body.splitlines() if line.startswith(b"#EXT-X-DATERANGE:"))
        self.assertIn(b'CLASS="org.rapidrtmp.onCuePoint"', listed)
        self.assertTrue(listed.endswith(b',X-NAME="ad",X-PARAMETERS-DURATION=30'), listed)
        _, metrics = await self.get(service, "/metrics")
        self.assertIn(b'rapidrtmp_media_problems_total{kind="timed_metadata"} 1.0', metrics)

    async def test_limits_of_the_settings_hold(self) -> None:
        """What the settings allow a connection is what it gets: here one message without meaning, not two."""
        settings = replace(
            loopback_settings(), rtmp=RtmpSettings(session=SessionLimits(unreadable_messages=1, amf=AmfLimits(depth=4)))
        )
        service = self.start(settings)
        encoder = await self.encoder(service)
        nested = b"\x03\0\1a" * 5 + b"\x05" + b"\0\0\x09" * 5  # objects five deep
        unreadable = message(20, b"\x02\0\x04what" + b"\0" * 9 + nested, msid=0)
        encoder.transport.write(HANDSHAKE + connect() + 2 * unreadable)
        await encoder.gone
        self.assertTrue(b"NetConnection.Connect.Closed" in encoder.heard)
        await service.stopService()

    async def test_limits_section_holds_at_every_door(self) -> None:
        """What [limits] says of one address and of the API holds for RTMP and HTTP connections and for requests."""
        settings = replace(
            loopback_settings(), limits=LimitsSettings(max_connections_per_ip=3, api_requests_per_minute=2)
        )
        service = self.start(settings)
        encoders = [await self.encoder(service) for _ in range(4)]
        await encoders[0].gone  # the fourth came in its place
        policy = service._make_http_policy(rtmp_is_encrypted=False)
        self.assertEqual((3, 2), (policy.max_connections_per_client, policy.api_requests_per_minute))
        await service.stopService()

    async def test_long_segments_keep_their_viewers(self) -> None:
        """A client that plays segments of 8 s is a viewer from one of them to the next, and so for two of them."""
        service = self.start(loopback_settings(live=open_app("hls:segment=8s")))
        encoder = await self.publish(service, b"".join(media(10)))
        while (await self.get(service, "/live/k/index.m3u8"))[0] != 200:
            pass
        stream = service.registry.find(StreamName("live", "k"))
        assert stream is not None
        self.assertEqual((8_000, 16_000), (stream.shelf.target_ms, stream.viewers.window_ms))
        await service.stopService()
        await encoder.gone

    async def test_nothing_happens_without_clients(self) -> None:
        """A server that no one came to starts and stops, as often as one likes."""
        for _ in range(2):
            service = self.start(loopback_settings())
            self.assertEqual(404, (await self.get(service, "/live/k/index.m3u8"))[0])
            await service.stopService()
        self.assertFalse(service.readiness.is_ready)

    async def test_applications_have_their_sinks(self) -> None:
        """Each application has its own sinks, and one that cannot be made is left out, counted and logged."""

        class Broken:
            def create(self, context: object) -> object:
                raise ZeroDivisionError("on purpose")

        collectors = FrameCollectorFactory()
        settings = loopback_settings(live=open_app(), radio=open_app())
        plugins = choose_plugins(settings)
        sinks: Mapping[str, Any] = {"broken": Broken(), "collector": collectors}
        apps = {**plugins.apps, "radio": replace(plugins.apps["radio"], sinks=sinks)}
        service = self.start(settings, replace(plugins, apps=apps))
        encoder = await self.publish(service, b"".join(media(3)), "radio")
        while not collectors.collectors or len(collectors.collectors[StreamName("radio", "k")].frames) < 216:
            await self.get(service, "/api/ping")
        stream = service.registry.find(StreamName("radio", "k"))
        assert stream is not None
        self.assertEqual(("collector",), stream.fan_out.names)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        await service.stopService()
        await encoder.gone
        self.assertEqual("finish", collectors.collectors[StreamName("radio", "k")].call_names[-1])

    async def test_slow_work_in_threads_and_processes(self) -> None:
        """What a sink is given for work that takes long works: a thread, a process, and a queue of frames before it."""
        results: dict[str, Any] = {}

        class ByProcess(ProcessProtocol):
            def outReceived(self, data: bytes) -> None:
                results["process"] = data

        class WorkingSink(FrameCollector):
            def __init__(self, context: SinkContext) -> None:
                super().__init__()
                self.queue = context.frame_queue(max_frames=1)
                self.queue.get().addCallback(lambda frame: results.update(queue=frame))
                context.in_thread(threading.get_ident).addCallback(lambda thread: results.update(thread=thread))
                context.spawn_process(ByProcess(), sys.executable, [sys.executable, "-c", "print('out')"])

            def frame_received(self, frame: Frame) -> None:
                super().frame_received(frame)
                self.queue.put(frame)

        class WorkingFactory:
            def create(self, context: SinkContext) -> WorkingSink:
                return WorkingSink(context)

        settings = loopback_settings(live=open_app())
        plugins = choose_plugins(settings)
        apps = {"live": replace(plugins.apps["live"], sinks={"working": WorkingFactory()})}
        service = self.start(settings, replace(plugins, apps=apps))
        encoder = await self.publish(service, b"".join(media(3)))
        while len(results) < 3:
            await self.get(service, "/api/ping")
        self.assertNotEqual(threading.get_ident(), results["thread"])
        self.assertEqual((b"out\n", True), (results["process"], results["queue"].keyframe))
        await service.stopService()
        await encoder.gone

    async def test_slow_recorder_holds_nothing_up(self) -> None:
        """While the storage takes nothing of its recording, a stream's files for web servers are written."""

        class NoRecordings(MemoryStorage):
            def put(self, key: str, data: bytes, content_type: str, cache_control: str) -> Deferred[None]:
                if key.startswith("recordings/"):
                    return Deferred()
                return super().put(key, data, content_type, cache_control)

        class NoRecordingsFactory:
            persistent = True
            storage = NoRecordings()

            def create(self, context: object) -> NoRecordings:
                return self.storage

        settings = loopback_settings(live=open_app("record", "hls"))
        settings = replace(settings, server=replace(settings.server, shutdown_timeout_ms=100))
        live = choose_plugins(settings).apps["live"]
        storages = dict.fromkeys(Purpose, ChosenStorage("storage", NoRecordingsFactory()))
        service = self.start(settings, ChosenPlugins({"live": replace(live, storages=storages)}))
        encoder = await self.publish(service, b"".join(media(9)))
        while not await NoRecordingsFactory.storage.list("live/k/index.m3u8"):
            await self.get(service, "/api/ping")
        await service.stopService()
        await encoder.gone

    @slow
    async def test_recordings_apart_from_live_files(self) -> None:
        """Recordings go to the storage chosen for them, are played from there, and both storages are looked after."""
        folders = self.mktemp(), self.mktemp()
        specs = [f"local:{folder}" for folder in folders]
        settings = loopback_settings(live=open_app("record", "hls", storage=specs[0], recordings=specs[1]))
        service = self.start(replace(settings, storage=StorageSettings(*specs)))
        encoder = await self.publish(service, b"".join(media(9)))
        listed: list[dict[str, Any]] = []
        while not listed or not listed[0]["size"]:
            listed = json.loads((await self.get(service, "/api/v1/recordings"))[1])["recordings"]
        recording = listed[0]
        self.assertEqual("k", recording["streamKey"])
        _, body = await self.get(service, "/ready")
        self.assertEqual((1, 1), (body.count(b'"storage"'), body.count(b'"recordings"')))
        await service.stopService()
        await encoder.gone
        self.assertEqual({"live", FOLDER}, set(os.listdir(folders[0])))
        self.assertEqual({"recordings", FOLDER}, set(os.listdir(folders[1])))

    async def test_planned_stop_leaves_streams_open(self) -> None:
        """
        A stream in a persistent storage stays open when the server stops: its publisher is closed without being
        refused, requests that are held are answered, its recording is finished, and the next server resumes it.
        """
        settings = loopback_settings(live=open_app("hls", "record", storage=f"local:{self.mktemp()}"))
        service = self.start(settings)
        encoder = await self.publish(service, b"".join(media(9)))
        stream = await self.find_stored(service)
        held: list[Deferred[tuple[int, bytes]]] = []
        while not stream.shelf.waiting:  # as long as media comes one may be answered at once
            ahead = f"/live/k/index.m3u8?_HLS_msn={shown(stream).last_sequence + 2}"
            held.append(Deferred.fromCoroutine(self.get(service, ahead)))
            await self.get(service, "/api/ping")
        await service.stopService()
        await encoder.gone
        for answer in held:
            status, body = await answer
            self.assertEqual((200, False), (status, b"ENDLIST" in body))
        self.assertIn(b"NetConnection.Connect.Closed", encoder.heard)
        self.assertIs(StreamState.INTERRUPTED, stream.state)
        left = shown(stream)
        self.assertFalse(left.ended)

        again = self.start(settings)
        resumed = again.registry.find(StreamName("live", "k"))
        while resumed is None:
            await self.get(again, "/api/ping")
            resumed = again.registry.find(StreamName("live", "k"))
        self.assertIs(StreamState.INTERRUPTED, resumed.state)
        after = shown(resumed)
        self.assertFalse(after.ended)
        self.assertGreater(after.last_sequence, left.last_sequence)
        listed, there = (
            [segment.uri for segment in parse_media_playlist(facts.body.decode()).segments if not segment.gap]
            for facts in (left, after)
        )
        self.assertEqual(listed[-len(there) :], there, "up to the last one that viewers were shown")
        recordings = json.loads((await self.get(again, "/api/v1/recordings"))[1])["recordings"]
        self.assertEqual(["finished"], [recording["state"] for recording in recordings])
        await again.stopService()

    async def test_planned_end_ends_streams(self) -> None:
        """With on_stop = "end" a stop ends what is in a persistent storage, too: the next server has nothing of it."""
        settings = loopback_settings(live=open_app(storage=f"local:{self.mktemp()}"))
        settings = replace(settings, server=replace(settings.server, on_stop="end"))
        service = self.start(settings)
        encoder = await self.publish(service, b"".join(media(9)))
        stream = await self.find_stored(service)
        await service.stopService()
        await encoder.gone
        self.assertEqual((StreamState.ENDED, True), (stream.state, shown(stream).ended))
        again = self.start(settings)
        await self.get(again, "/api/ping")
        self.assertIsNone(again.registry.find(StreamName("live", "k")))
        await again.stopService()

    async def find_stored(self, service: RapidRtmpService) -> LiveStream:
        """The stream ``k``, when a segment of it is stored."""
        storage = service.applications["live"].stores[Purpose.LIVE].storage
        while not await storage.list("live/k/index.m3u8"):
            await self.get(service, "/api/ping")
        stream = service.registry.find(StreamName("live", "k"))
        assert stream is not None
        return stream

    @slow
    async def test_unreachable_bucket_holds_nothing_up(self) -> None:
        """A bucket that no one answers for keeps no client waiting at the door, and a stream is live without it."""
        if find_spec("google.cloud.storage") is None:
            raise SkipTest("needs google-cloud-storage")
        self.patch(server, "RECOVERY_S", 1_000.0)
        settings = loopback_settings(live=open_app(storage="gcs:bucket:endpoint=http\\://127.0.0.1\\:9"))
        service = self.start(settings)
        self.assertEqual(200, (await self.get(service, "/health"))[0])
        encoder = await self.publish(service, b"".join(media(9)))
        while (await self.get(service, "/live/k/index.m3u8"))[0] != 200:
            pass
        await service.stopService()
        await encoder.gone

    async def test_stubborn_publisher_does_not_hold(self) -> None:
        """A connection that says nothing does not keep the server from stopping."""
        service = self.start(loopback_settings())
        encoder = await self.encoder(service)
        await service.stopService()
        await encoder.gone
        self.assertEqual(set(), service.rtmp_factory.connections)


class AddressTests(ServerCase):
    def said(self, service: RapidRtmpService) -> list[str]:
        """What the log says at the start."""
        with capturedLogs() as events:
            service.privilegedStartService()
            service.startService()
        self.addCleanup(service.stopService)
        return [str(formatEvent(event)) for event in events]

    def service(self, rtmp: str, http: str) -> RapidRtmpService:
        settings = replace(loopback_settings(), server=ServerSettings(rtmp=(rtmp,), http=(http,)))
        return make_service(reactor, settings, choose_plugins(settings))

    async def test_sockets_are_logged_as_such(self) -> None:
        """UNIX sockets are logged as what they are, and publish URLs then name no port."""
        folder = Path(tempfile.mkdtemp())  # its path must be short
        self.addCleanup(shutil.rmtree, folder)
        service = self.service(f"unix:{folder}/rtmp", f"unix:{folder}/http")
        said = self.said(service)
        self.assertIn(f"RTMP on the UNIX socket {folder}/rtmp", said)
        self.assertIn(f"HTTP on the UNIX socket {folder}/http", said)
        self.assertFalse(any("localhost" in line or ":0" in line for line in said), said)
        self.assertEqual(0, service.rtmp.number)

    async def test_elsewhere_addresses_are_logged(self) -> None:
        """What listens everywhere is logged with the addresses by which other machines reach it."""
        self.patch(server, "find_own_addresses", lambda: iter(["192.0.2.7", "2001:db8::7"]))
        service = self.service("tcp:0", "tcp:0")
        rtmp, http = "rtmp://192.0.2.7:{}/live/KEY?token=TOKEN", "http://192.0.2.7:{}/live/KEY"
        said = self.said(service)
        urls = [line.removeprefix("from other machines: ") for line in said if line.startswith("from other machines")]
        self.assertEqual([rtmp.format(service.rtmp.number), http.format(service.http.number)], urls)
        self.assertFalse(any("other machines" in line for line in self.said(self.service(*LOOPBACK, *LOOPBACK))))

    async def test_demo_address_comes_last(self) -> None:
        """With the demo the last line is the address to open."""
        self.patch(DemoPublisher, "startService", lambda self: None)
        settings = loopback_settings()
        service = make_service(reactor, settings, choose_plugins(settings), demo=True)
        said = self.said(service)
        self.assertEqual(f"the demo: open http://localhost:{service.http.number}/live/demo in a browser", said[-1])

    @slow
    async def test_without_http2_is_said(self) -> None:
        """The log says what Safari lacks: HTTPS, or HTTP/2 where its library is not installed; or nothing."""
        encrypted = [Address("localhost:8443", True)]
        for addresses, has_http2, words in (
            ([Address("localhost:8080", False)], True, "needs HTTPS with HTTP/2"),
            (encrypted, False, "pip install 'rapidrtmp[http2]'"),
            (encrypted, True, ""),
        ):
            service = self.service(*LOOPBACK, *LOOPBACK)
            self.patch(service.http, "addresses", lambda addresses=addresses: iter(addresses))
            self.patch(server, "H2_ENABLED", has_http2)
            lines = [line for line in self.said(service) if "Safari" in line]
            self.assertEqual(bool(words), bool(lines))
            self.assertIn(words, "".join(lines))


class StartTests(SynchronousTestCase):
    def test_demo_without_tokens(self) -> None:
        """A demo that no one can issue a token for stops the start with one line that says what would be right."""

        class Asking:
            def create(self, context: AuthenticatorContext) -> ScriptedAuthenticator:
                return ScriptedAuthenticator()

        settings = loopback_settings()
        plugins = choose_plugins(settings)
        live = replace(plugins.apps["live"], authenticator=Asking())
        error = self.assertRaises(
            ConfigurationError, make_service, reactor, settings, replace(plugins, apps={"live": live}), demo=True
        )
        self.assertRegex(str(error), r"\A--demo publishes live/demo[^\n]+: add token or open to it\Z")

    def test_port_in_use(self) -> None:
        """A port that cannot be opened ends the start with one line that names it."""
        errors = StringIO()
        self.patch(sys, "stderr", errors)
        settings = replace(
            loopback_settings(), server=ServerSettings(rtmp=("tcp:0:interface=203.0.113.1",), http=LOOPBACK)
        )
        service = make_service(reactor, settings, choose_plugins(settings))
        self.assertEqual(1, self.assertRaises(SystemExit, service.privilegedStartService).code)
        self.assertRegex(errors.getvalue(), r"\Arapidrtmp: cannot listen on tcp:0:interface=203.0.113.1: [^\n]+\n\Z")


class BroughtInTests(ServerCase):
    """Streams that plugins bring in."""

    async def test_publish_waits_for_the_recovery(self) -> None:
        """What a plugin brings in waits, as clients do, until it is known what an earlier server has left."""
        recovered: Deferred[None] = Deferred()
        self.patch(Recovery, "run", lambda *_: recovered)
        service = self.start(loopback_settings(live=open_app(storage=f"local:{self.mktemp()}")))
        publication = Publication(StreamName("live", "k"), "192.0.2.1", "test", "credential")
        begun, given_up = service._publish(publication), service._publish(publication)
        self.assertIsNone(service.registry.find(publication.name))
        given_up.addErrback(lambda _: None).cancel()
        recovered.callback(None)
        publishing = await begun
        self.assertIsNotNone(service.registry.find(publication.name))
        publishing.end(is_final=True)
        await service.stopService()
