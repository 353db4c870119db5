"""The whole server on loopback: it starts, takes a stream, serves it, stops, and leaves nothing in the reactor."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from io import StringIO
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent, HTTPConnectionPool, readBody

from rapidrtmp import server
from rapidrtmp.chosen import AppPlugins, ChosenPlugins, choose_plugins
from rapidrtmp.config import AppSettings, RtmpSettings, ServerSettings, Settings, StorageSettings
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import AuthenticatorContext
from rapidrtmp.live.stream import StreamState
from rapidrtmp.names import StreamName
from rapidrtmp.server import RapidRtmpService, make_service
from rapidrtmp.storage.memory import MemoryStorage
from rapidrtmp.testing.sinks import FrameCollectorFactory
from tests.hls.checker import read_playlist
from tests.net.edge import ScriptedAuthenticator, media
from tests.rtmp.client import HANDSHAKE, command, connect, message, publish

LOOPBACK = ("tcp:0:interface=127.0.0.1",)


def loopback_settings(**apps: AppSettings) -> Settings:
    """A server that keeps nothing, on ports that are free."""
    return Settings(
        server=ServerSettings(rtmp=LOOPBACK, http=LOOPBACK, shutdown_timeout_ms=3_000),
        storage=StorageSettings("memory:"),
        apps=apps or {"live": AppSettings(auth=("open",))},
    )


class Encoder(Protocol):
    """Sends octets; ``gone`` fires when the server has closed the connection."""

    def __init__(self) -> None:
        self.heard = b""
        self.gone: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone.callback(None)


class ServerTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.patch(server, "_settle_garbage_collector", lambda: None)  # it is for good, and for a whole process
        self.pool = HTTPConnectionPool(reactor, persistent=False)
        self.agent = Agent(reactor, pool=self.pool)

    def start(self, settings: Settings, plugins: ChosenPlugins | None = None) -> RapidRtmpService:
        service = make_service(reactor, settings, plugins or choose_plugins(settings))
        service.privilegedStartService()
        service.startService()
        return service

    async def encoder(self, service: RapidRtmpService) -> Any:
        port = service.rtmp.number
        return await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), Encoder())

    async def get(self, service: RapidRtmpService, path: str) -> tuple[int, bytes]:
        port = service.http.number
        response = await self.agent.request(b"GET", f"http://127.0.0.1:{port}{path}".encode())
        return response.code, await readBody(response)

    async def test_life(self) -> None:
        """A stream that is published can be watched; when the server stops, its publisher is told and its end final."""
        service = self.start(loopback_settings())
        encoder = await self.encoder(service)
        octets = b"".join(media(5))
        encoder.transport.write(HANDSHAKE + connect() + command("createStream", 4) + publish("k") + octets)
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

    async def test_limits(self) -> None:
        """What the settings allow a connection is what it gets: here one message without meaning, not two."""
        settings = replace(loopback_settings(), rtmp=RtmpSettings(max_unreadable_messages=1, max_amf_depth=4))
        service = self.start(settings)
        encoder = await self.encoder(service)
        nested = b"\x03\0\1a" * 5 + b"\x05" + b"\0\0\x09" * 5  # objects five deep
        unreadable = message(20, b"\x02\0\x04what" + b"\0" * 9 + nested, msid=0)
        encoder.transport.write(HANDSHAKE + connect() + 2 * unreadable)
        await encoder.gone
        self.assertTrue(b"NetConnection.Connect.Closed" in encoder.heard)
        await service.stopService()

    async def test_long_segments(self) -> None:
        """Whoever plays segments of 8 s is a viewer from one of them to the next, and so for two of them."""
        service = self.start(loopback_settings(live=AppSettings(sinks=("hls:segment=8s",), auth=("open",))))
        encoder = await self.encoder(service)
        octets = b"".join(media(10))
        encoder.transport.write(HANDSHAKE + connect() + command("createStream", 4) + publish("k") + octets)
        while (await self.get(service, "/live/k/index.m3u8"))[0] != 200:
            pass
        stream = service.registry.find(StreamName("live", "k"))
        assert stream is not None
        self.assertEqual((8_000, 16_000), (stream.shelf.target_ms, stream.viewers.window_ms))
        await service.stopService()
        await encoder.gone

    async def test_nothing_happens(self) -> None:
        """A server that nobody came to starts and stops, as often as one likes."""
        for _ in range(2):
            service = self.start(loopback_settings())
            self.assertEqual(404, (await self.get(service, "/live/k/index.m3u8"))[0])
            await service.stopService()
        self.assertFalse(service.readiness.is_ready)

    async def test_applications(self) -> None:
        """Each application has its own sinks, and one that can not be made is left out, counted and logged."""

        class Broken:
            def create(self, context: object) -> object:
                raise ZeroDivisionError("on purpose")

        collectors = FrameCollectorFactory()
        settings = loopback_settings(live=AppSettings(auth=("open",)), radio=AppSettings(auth=("open",)))
        plugins = choose_plugins(settings)
        sinks: Mapping[str, Any] = {"broken": Broken(), "collector": collectors}
        apps = {**plugins.apps, "radio": AppPlugins(sinks, plugins.apps["live"].authenticator)}
        service = self.start(settings, replace(plugins, apps=apps))
        encoder = await self.encoder(service)
        octets = b"".join(media(3))
        encoder.transport.write(
            HANDSHAKE + connect("radio", "rtmp://x/radio") + command("createStream", 4) + publish("k")
        )
        encoder.transport.write(octets)
        while not collectors.collectors or len(collectors.collectors[StreamName("radio", "k")].frames) < 216:
            await self.get(service, "/api/ping")
        stream = service.registry.find(StreamName("radio", "k"))
        assert stream is not None
        self.assertEqual(("collector",), stream.sinks)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        await service.stopService()
        await encoder.gone
        self.assertEqual("finish", collectors.collectors[StreamName("radio", "k")].told[-1])

    async def test_slow_recorder(self) -> None:
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

        settings = loopback_settings(live=AppSettings(sinks=("record", "hls"), auth=("open",)))
        settings = replace(settings, server=replace(settings.server, shutdown_timeout_ms=100))
        service = self.start(settings, replace(choose_plugins(settings), storage=NoRecordingsFactory()))
        encoder = await self.encoder(service)
        octets = b"".join(media(9))
        encoder.transport.write(HANDSHAKE + connect() + command("createStream", 4) + publish("k") + octets)
        while not await NoRecordingsFactory.storage.list("live/k/index.m3u8"):
            await self.get(service, "/api/ping")
        await service.stopService()
        await encoder.gone

    async def test_recordings_apart(self) -> None:
        """Recordings go to the storage chosen for them, are played from there, and both storages are looked after."""
        folders = self.mktemp(), self.mktemp()
        settings = loopback_settings(live=AppSettings(sinks=("record", "hls"), auth=("open",)))
        specs = [f"local:{folder}" for folder in folders]
        service = self.start(replace(settings, storage=StorageSettings(*specs)))
        encoder = await self.encoder(service)
        octets = b"".join(media(9))
        encoder.transport.write(HANDSHAKE + connect() + command("createStream", 4) + publish("k") + octets)
        listed: list[dict[str, Any]] = []
        while not listed or not listed[0]["size"]:
            listed = json.loads((await self.get(service, "/api/v1/recordings"))[1])["recordings"]
        recording = listed[0]
        self.assertEqual("k", recording["streamKey"])
        _, body = await self.get(service, "/ready")
        self.assertEqual((1, 1), (body.count(b'"storage"'), body.count(b'"recordings"')))
        await service.stopService()
        await encoder.gone
        self.assertEqual(["live"], os.listdir(folders[0]))
        self.assertEqual(["recordings"], os.listdir(folders[1]))

    async def test_stubborn_publisher(self) -> None:
        """A connection that says nothing does not keep the server from stopping."""
        service = self.start(loopback_settings())
        encoder = await self.encoder(service)
        await service.stopService()
        await encoder.gone
        self.assertEqual(set(), service.rtmp_factory.connections)


class StartTests(SynchronousTestCase):
    def test_demo_without_tokens(self) -> None:
        """A demo that nobody can issue a token for stops the start with one line that says what would be right."""

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
        """A port that can not be opened ends the start with one line that names it."""
        errors = StringIO()
        self.patch(sys, "stderr", errors)
        settings = replace(
            loopback_settings(), server=ServerSettings(rtmp=("tcp:0:interface=203.0.113.1",), http=LOOPBACK)
        )
        service = make_service(reactor, settings, choose_plugins(settings))
        self.assertEqual(1, self.assertRaises(SystemExit, service.privilegedStartService).code)
        self.assertRegex(errors.getvalue(), r"\Arapidrtmp: can not listen on tcp:0:interface=203.0.113.1: [^\n]+\n\Z")
