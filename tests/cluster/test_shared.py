"""Two servers that share a directory are one to those outside: viewers, limits, tokens."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from rapidrtmp.auth.revocation import fingerprint_of
from rapidrtmp.interfaces import EventType
from rapidrtmp.server.service import RapidRtmpService
from rapidrtmp.settings.model import Settings
from tests.cluster.nodes import NAME, PLAYLIST, NodesCase
from tests.net.edge import media
from tests.slow import slow


def with_limits(settings: Settings, **limits: int) -> Settings:
    """The settings, with limits of the application."""
    return replace(settings, apps={"live": replace(settings.apps["live"], **limits)})


class Heard(Protocol):
    """What a client was sent so far."""

    def __init__(self) -> None:
        self.text = b""
        self.gone: Deferred[None] = Deferred()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        del reason
        self.gone.callback(None)

    def dataReceived(self, data: bytes) -> None:
        self.text += data

    def leave(self) -> None:
        transport: Any = self.transport
        transport.loseConnection()

    async def until(self, wanted: bytes) -> bytes:
        """All of it, once this has come."""
        while wanted not in self.text:
            await deferLater(reactor, 0.02)
        return self.text


@slow
class OneServerTests(NodesCase):
    async def until(self, service: RapidRtmpService, path: str, wanted: dict[str, Any]) -> None:
        """Ask a server for something in JSON until it says this."""
        found: Any = None
        for _ in range(300):
            status, body = await self.get(service, path)
            found = json.loads(body) if status == 200 else {}
            if {name: found.get(name) for name in wanted} == wanted:
                return
            await deferLater(reactor, 0.02)
        self.fail(f"{path} says {found}")

    async def test_viewers_are_merged(self) -> None:
        """A stream has the same viewers at every server, one that asks both is one, and the owner says who came."""
        one, other = self.start(self.shared()), self.start(self.shared())
        await self.publish(one, b"".join(media(5)))
        await self.look(other)
        for service in (one, other):
            await self.until(service, "/live/k/viewers.json", {"viewers": 1})
            await self.until(service, "/api/v1/streams/k", {"viewers": 1})
        for service, count in ((one, 1), (other, 0)):
            came = [event for event in service.events.after(0) if event.type is EventType.PLAY]
            self.assertEqual(count, len(came))
            self.assertEqual(["127.0.0.1"] * count, [event.peer for event in came])

    async def test_viewers_stay_when_stream_moves(self) -> None:
        """When a stream moves its viewers are those that it had: none comes a second time."""
        one, other = self.start(self.shared()), self.start(self.shared())
        await self.publish(one, b"".join(media(5)))
        await self.look(other)
        await self.until(one, "/live/k/viewers.json", {"viewers": 1})
        await self.publish(other, b"".join(media(5)))
        await self.until(other, "/api/v1/streams/k", {"viewers": 1, "state": "live"})
        await self.look(one)
        await self.until(one, "/live/k/viewers.json", {"viewers": 1})
        self.assertNotIn(EventType.PLAY, [event.type for event in other.events.after(0)])

    async def test_streams_of_all_count(self) -> None:
        """All servers together carry so many streams and no more, of an application and in all."""
        limited = with_limits(self.shared(), max_streams=1)
        one, other = self.start(limited), self.start(limited)
        await self.publish(one, b"".join(media(2)))
        await self.look(one)
        refused = await self.publish(other, b"".join(media(2)), key="z")
        await refused.gone
        self.assertIn(b"carries 1 streams and takes no more", refused.heard)
        await self.publish(other, b"".join(media(2)))  # the one that there is moves
        await self.until(other, "/api/v1/streams?node=self", {"total": 1})

    async def test_address_counts_everywhere(self) -> None:
        """One address may publish so many streams, to whichever server."""
        limited = with_limits(self.shared(), max_connections_per_ip=1)
        one, other = self.start(limited), self.start(limited)
        await self.publish(one, b"".join(media(2)))
        await self.look(one)
        refused = await self.publish(other, b"".join(media(2)), key="z")
        await refused.gone
        self.assertIn(b"one address may publish 1 streams", refused.heard)

    async def test_viewer_limit_of_all(self) -> None:
        """A stream that has all the viewers it may have takes no more at any server, and keeps those it has."""
        limited = with_limits(self.shared(), max_viewers_per_stream=1)
        one, other = self.start(limited), self.start(limited)
        await self.publish(one, b"".join(media(5)))
        await self.look(one)
        await self.look(other)
        await self.until(other, "/live/k/viewers.json", {"viewers": 1})
        node: Any = other.node
        node.viewers.look()
        self.assertEqual(200, (await self.get(other, PLAYLIST))[0])
        for service in (one, other):
            status, _ = await self.get(service, PLAYLIST, agent="another")
            self.assertEqual(503, status)

    async def test_egress_of_all(self) -> None:
        """What all servers send of an application is limited together."""
        limited = with_limits(self.shared(), max_egress_bps=1)
        one, other = self.start(limited), self.start(limited)
        await self.publish(one, b"".join(media(5)))
        await self.look(one)
        status = 200
        for number in range(300):
            await self.get(one, PLAYLIST)
            status, _ = await self.get(other, PLAYLIST, agent=f"another {number}")
            if status == 503:
                break
            await deferLater(reactor, 0.02)
        self.assertEqual(503, status)

    async def test_revoked_token_at_all(self) -> None:
        """A token that one server revokes is refused by the other one at once."""
        one, other = self.start(self.shared()), self.start(self.shared())
        await self.until(other, "/api/v1/streams", {"total": 0})
        status, _ = await self.get(one, "/api/v1/tokens/revoke", b"POST", b'{"token": "a-token-of-some-kind"}')
        self.assertEqual(200, status)
        while not other.revocations.version:
            await deferLater(reactor, 0.02)
        fingerprint = fingerprint_of("a-token-of-some-kind")
        self.assertIn("revoked", other.revocations.refusal(NAME, fingerprint, None))

    async def test_one_of_all_is_elected(self) -> None:
        """What only one does of all is done by one, until it stops."""
        services = self.start(self.shared()), self.start(self.shared())
        nodes: list[Any] = [service.node for service in services]
        for service in services:
            await self.until(service, "/api/v1/streams", {"total": 0})
        self.assertEqual([True, False, True], [await each.elect("pull:x") for each in (*nodes, nodes[0])])
        await services[0].stopService()
        self.assertTrue(await nodes[1].elect("pull:x"))

    async def test_pages_show_streams_of_all(self) -> None:
        """The list of what is live, and the picture of a stream, are the same at every server."""
        one, other = self.start(self.shared()), self.start(self.shared())
        await self.publish(one, b"".join(media(3)))
        await self.look(one)
        for service in (one, other):
            status, page = await self.get(service, "/")
            self.assertEqual((200, 1), (status, page.count(b'href="live/k"')))
            for path in ("/live/k/poster.mp4", "/api/v1/streams/k/poster.mp4"):
                status, picture = await self.get(service, path)
                self.assertEqual((200, b"ftyp"), (status, picture[4:8]))
            self.assertEqual(404, (await self.get(service, "/live/nothing/poster.mp4"))[0])

    async def test_events_of_all(self) -> None:
        """A client of one server hears of what happens at each, and with the id of any event misses nothing later."""
        one, other = self.start(self.shared()), self.start(self.shared())
        await self.until(other, "/api/v1/streams", {"total": 0})
        heard = await self.listen(other)
        await heard.until(b"retry:")
        await self.publish(one, b"".join(media(3)))
        await heard.until(b"event: publish")
        await self.publish(other, b"".join(media(3)), key="z")
        text = await heard.until(b'"stream":"z"')
        ids = re.findall(rb"^id: (\S+)$", text, re.MULTILINE)
        self.assertEqual(2, len(ids[-1].split(b",")))
        again = await self.listen(one, ids[0].decode())
        text = await again.until(b'"stream":"z"')
        self.assertEqual(set(ids[1:]) - set(re.findall(rb"^id: (\S+)$", text, re.MULTILINE)), set())

    async def listen(self, service: RapidRtmpService, last_id: str = "") -> Heard:
        """A client that reads events of publishers."""
        fields = Headers({"Last-Event-ID": [last_id]} if last_id else {})
        url = f"http://127.0.0.1:{service.http.number}/api/v1/events?type=publish".encode()
        response = await self.agent.request(b"GET", url, fields)
        heard = Heard()
        response.deliverBody(heard)
        self.addCleanup(heard.leave)
        return heard

    async def play(self, service: RapidRtmpService) -> Heard:
        """A player of FLV."""
        url = f"http://127.0.0.1:{service.http.number}/live/k.flv".encode()
        response = await self.agent.request(b"GET", url, Headers({"User-Agent": ["a player"]}))
        self.assertEqual(200, response.code)
        heard = Heard()
        response.deliverBody(heard)
        self.addCleanup(heard.leave)
        return heard

    async def test_player_of_foreign_stream(self) -> None:
        """FLV of a stream is played at the server that has it not: the same frames, one viewer, up to its end."""
        one, other = self.start(self.shared()), self.start(self.shared())
        await self.publish(one, b"".join(media(5)))
        await self.look(one)
        heard = await self.play(other)
        await heard.until(b"FLV")
        own = await self.play(one)
        while len(own.text) < 500 or own.text != heard.text:
            await deferLater(reactor, 0.02)
        await self.until(one, "/live/k/viewers.json", {"viewers": 3})
        status, _ = await self.get(other, "/api/v1/streams/k/stop", b"POST")
        self.assertEqual(200, status)
        await heard.gone
        await own.gone

    async def test_player_stays_when_stream_moves(self) -> None:
        """A player at a third server plays on when the stream moves from the first to the second."""
        services = [self.start(self.shared()) for _ in range(3)]
        await self.publish(services[0], b"".join(media(5)))
        await self.look(services[0])
        heard = await self.play(services[2])
        await heard.until(b"FLV")
        size = len(heard.text)
        await self.publish(services[1], b"".join(media(5)))
        while len(heard.text) < size + 100:
            await deferLater(reactor, 0.02)
        self.assertFalse(heard.gone.called)
