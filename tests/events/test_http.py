"""Events of a whole server, followed over HTTP."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rapidrtmp.app.plugins import choose_plugins
from rapidrtmp.events import http as events_http
from rapidrtmp.events.http import KEEP_ALIVE_S, EventStreams
from rapidrtmp.events.log import EventLog
from rapidrtmp.interfaces import (
    BadRequestError,
    Event,
    EventType,
    IEventListener,
    Request,
    StreamedResponse,
    UnavailableError,
)
from rapidrtmp.metrics import Metrics
from rapidrtmp.names import StreamName
from rapidrtmp.server.service import RapidRtmpService
from rapidrtmp.settings.model import AppSettings, EventSettings
from rapidrtmp.web.abuse import Abuse
from tests.events.sse import EventSource, read_events
from tests.net.edge import media
from tests.serving import ServerCase, loopback_settings, open_app


@implementer(IEventListener)
class Listener:
    """Keeps what it hears, and fails as it likes."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.error: Exception | None = None

    def event_recorded(self, event: Event) -> None:
        self.events.append(event)
        if self.error is not None:
            raise self.error


class ServerTests(ServerCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(Abuse, "_look_later", lambda _self: None)  # its timer outlives a server by a minute

    async def follow(self, service: RapidRtmpService, query: str = "", headers: str = "") -> EventSource:
        source = await EventSource.open(service.http.number, f"/api/v1/events{query}", headers)
        self.addCleanup(source.leave)
        return source

    async def test_life_of_a_stream(self) -> None:
        """A stream that comes, is watched, recorded and goes is followed event by event, in order."""
        service = self.start(loopback_settings(live=open_app("hls", "record")))
        source = await self.follow(service)
        encoder = await self.publish(service, b"".join(media(5)))
        sent = await source.wait("first_segment")
        types = [each.event for each in sent]
        self.assertEqual("publish", types[0])
        self.assertEqual({"tracks", "recording_started", "first_segment"}, set(types[1:]))
        tracks = next(each.data for each in sent if each.event == "tracks")
        self.assertEqual(["video", "audio"], [track["kind"] for track in tracks["data"]["tracks"]])
        self.assertEqual(("live", "k", "127.0.0.1"), tuple(tracks[name] for name in ("app", "stream", "peer")))
        _, playlist = await self.get(service, "/live/k/index.m3u8")
        segment = next(line for line in playlist.decode().splitlines() if line.startswith("segment_"))
        await self.get(service, f"/live/k/{segment}")
        await source.wait("play")
        encoder.transport.loseConnection()
        (*_, left) = await source.wait("unpublish")
        self.assertEqual("", left.data["data"]["reason"])
        self.assertGreater(left.data["data"]["bytes"], 1000)
        await self.get(service, "/api/v1/streams/k/stop", b"POST")
        (*_, done) = await source.wait("recording_done")
        self.assertEqual(0, done.data["data"]["lostParts"])
        self.assertGreater(done.data["data"]["size"], 1000)
        self.assertEqual(200, (await self.get(service, done.data["data"]["movieUrl"]))[0])
        ids = [int(each.id) for each in source.events]
        self.assertEqual(sorted(set(ids)), ids)
        self.assertEqual(ids, [each.data["id"] for each in source.events])
        self.assertIn("text/event-stream", source.head)
        await service.stopService()
        await source.gone

    async def test_replay_of_what_was_missed(self) -> None:
        """A client that comes back gets what it missed, once and in order, and can choose what it wants."""
        service = self.start(loopback_settings())
        first = await self.follow(service)
        encoder = await self.publish(service, b"".join(media(5)))
        seen = await first.wait("publish")
        await first.leave()
        encoder.transport.loseConnection()
        await encoder.gone
        again = await self.follow(service, headers=f"Last-Event-ID: {seen[0].id}\r\n")
        sent = await again.wait("unpublish")
        self.assertNotIn("publish", [each.event for each in sent])
        for path in ("?type=unpublish&lastEventId=0", "?type=unpublish&type=publish&stream=other&lastEventId=0"):
            chosen = await self.follow(service, path)
            if "other" not in path:
                self.assertEqual(["unpublish"], [each.event for each in await chosen.wait("unpublish")])
            self.assertLessEqual(len(chosen.events), 1)
        await service.stopService()

    async def test_needs_the_secret(self) -> None:
        """Events are for those who manage the server, and there is no way to ask otherwise."""
        settings = loopback_settings()
        service = self.start(replace(settings, server=replace(settings.server, trust_own_user=False)))
        self.assertEqual(401, (await self.get(service, "/api/v1/events"))[0])
        self.assertEqual(405, (await self.get(service, "/api/v1/events", b"POST"))[0])
        await service.stopService()

    async def test_last_words_before_the_end(self) -> None:
        """What happens because the server stops is sent before its clients are let go."""
        service = self.start(loopback_settings())
        source = await self.follow(service)
        await self.publish(service, b"".join(media(5)))
        await source.wait("first_segment")
        await service.stopService()
        await source.gone
        self.assertEqual("unpublish", source.events[-1].event)
        self.assertIn("shutting down", source.events[-1].data["data"]["reason"])

    async def test_refused_publisher_is_reported(self) -> None:
        """A publisher that is not admitted is reported, without what it offered as a secret."""
        service = self.start(loopback_settings(live=AppSettings(auth=("token:secret=abcdefghijklmnop",))))
        source = await self.follow(service)
        await self.publish(service, b"")
        (refused,) = await source.wait("auth_refused")
        self.assertEqual(("live", "k"), (refused.data["app"], refused.data["stream"]))
        self.assertTrue(refused.data["data"]["reason"])
        await service.stopService()

    async def test_listeners_hear_in_order(self) -> None:
        """A plugin hears the same, in order; one that fails is logged, and hears of the next all the same."""
        settings = loopback_settings()
        good, bad = Listener(), Listener()
        bad.error = RuntimeError("listener")
        service = self.start(settings, replace(choose_plugins(settings), listeners=(bad, good)))
        source = await self.follow(service)
        encoder = await self.publish(service, b"".join(media(5)))
        await source.wait("first_segment")
        encoder.transport.loseConnection()
        sent = await source.wait("unpublish")
        await service.stopService()
        for listener in (good, bad):
            self.assertEqual([each.data["id"] for each in sent], [event.id for event in listener.events])
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    async def test_openapi_describes_the_events(self) -> None:
        """The description of the API has it."""
        service = self.start(loopback_settings())
        described = json.loads((await self.get(service, "/api/v1/openapi.json"))[1])
        self.assertIn("/api/v1/events", described["paths"])
        self.assertIn("Event", described["components"]["schemas"])
        await service.stopService()

    async def test_bound_is_a_setting(self) -> None:
        """How much is kept is a setting."""
        service = self.start(replace(loopback_settings(), events=EventSettings(kept=2)))
        for _ in range(5):
            service.events.record(EventType.TRACKS)
        self.assertEqual(1, len(service.events.after(0)))
        await service.stopService()


class StreamTests(SynchronousTestCase):
    """One answer, piece by piece."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.log = EventLog(self.clock, lambda: 1_000, 1_000, Metrics().events_total)
        self.streams = EventStreams(self.log, self.clock)
        self.pieces: list[str] = []

    def ask(self, query: str = "", **headers: str) -> Any:
        return self.streams.respond(Request("GET", query, headers, "127.0.0.1", "127.0.0.1"))

    def read(self, response: Any) -> Any:
        """Read as fast as it comes; returns the Deferred of its end."""
        assert isinstance(response, StreamedResponse)

        async def run() -> None:
            async for piece in response.open():
                self.pieces.append(piece.decode())

        return Deferred.fromCoroutine(run())

    def record(self, count: int = 1) -> None:
        for _ in range(count):
            self.log.record(EventType.TRACKS, StreamName("live", "k"))
        self.clock.advance(0)

    def test_sign_of_life(self) -> None:
        """Where nothing happens there is an empty comment now and then."""
        self.read(self.ask())
        self.assertEqual(["retry: 2000\n\n"], self.pieces)
        self.clock.advance(KEEP_ALIVE_S)
        self.assertEqual(": \n\n", self.pieces.pop())
        self.record()
        self.assertEqual(["tracks"], [each.event for each in read_events(self.pieces.pop())])

    def test_many_events_in_portions(self) -> None:
        """Many events come in portions, a turn of the reactor for each."""
        self.record(480)
        self.read(self.ask(**{"last-event-id": "0"}))
        self.assertEqual(2, len(self.pieces))
        for _ in range(20):
            self.clock.advance(0)
        sent = read_events("".join(self.pieces))
        self.assertEqual([event.id for event in self.log.after(0)], [int(each.id) for each in sent])

    def test_missed_events_are_announced(self) -> None:
        """A client that was away for too long, or over a restart, learns that it missed something."""
        self.read(self.ask(**{"last-event-id": "77"}))
        self.assertEqual("missed", read_events(self.pieces[1])[0].event)

    def test_from_the_future(self) -> None:
        """An id that there is not yet is that of the newest."""
        self.read(self.ask(**{"last-event-id": "9" * 18}))
        self.record()
        self.assertEqual(["tracks"], [each.event for each in read_events("".join(self.pieces))])

    def test_nonsense_ids_are_refused(self) -> None:
        """What is no id, and no type, is refused."""
        for query, headers in (("type=x", {}), ("", {"last-event-id": "-1"}), ("", {"last-event-id": "1" * 30})):
            self.assertRaises(BadRequestError, self.ask, query, **headers)

    def test_leaving_client_is_forgotten(self) -> None:
        """A client that leaves is forgotten, with its timer."""
        reading = self.read(self.ask())
        self.assertEqual(1, self.streams.count)
        reading.addErrback(lambda _: None)
        reading.cancel()
        self.assertEqual((0, []), (self.streams.count, self.clock.getDelayedCalls()))

    def test_too_many_followers_are_refused(self) -> None:
        """There is a bound to how many may follow."""
        self.patch(events_http, "MOST_CLIENTS", 2)
        for _ in range(2):
            self.read(self.ask())
        self.assertRaises(UnavailableError, self.ask)

    def test_stop_ends_every_answer(self) -> None:
        """When the server stops they get all that happened, and it ends."""
        reading = self.read(self.ask())
        self.log.record(EventType.TRACKS)
        self.streams.stop()
        self.successResultOf(reading)
        self.assertEqual(["tracks"], [each.event for each in read_events("".join(self.pieces))])
