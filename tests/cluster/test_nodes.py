"""Two whole servers on loopback that share a directory: one has a stream, the other one shows it and takes it over."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from rapidrtmp.live.stream import StreamState
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.settings.model import RtmpSettings
from tests.cluster.nodes import PLAYLIST, NodesCase
from tests.net.edge import media
from tests.slow import slow


@slow
class TwoNodesTests(NodesCase):
    async def test_foreign_stream_is_shown(self) -> None:
        """A server shows a stream that another one has, byte for byte; what there is not is 404 at both."""
        one, other = self.start(self.shared()), self.start(self.shared())
        await self.publish(one, b"".join(media(5)))
        ours, theirs = await self.look(one), await self.look(other)
        while ours != theirs or len(ours.segments) < 4:  # until all has come
            ours, theirs = await self.look(one), await self.look(other)
        await self.check_listed(other, theirs)
        self.assertIsNone(self.stream_of(other))
        for service in (one, other):
            self.assertEqual(404, (await self.get(service, "/live/nothing/index.m3u8"))[0])
            self.assertEqual(404, (await self.get(service, "/live/k/nothing.m4s"))[0])

    async def test_one_management_api(self) -> None:
        """Any server lists the streams of all, describes and stops each of them, and shows the metrics of all."""
        one, other = self.start(self.shared()), self.start(self.shared())
        encoder = await self.publish(one, b"".join(media(3)))
        await self.publish(other, b"".join(media(3)), key="z")
        for service in (one, other):
            await self.look(service)
            while (await self.get(service, "/live/z/index.m3u8"))[0] != 200:
                await deferLater(reactor, 0.02)
            for query, keys in (("", ["k", "z"]), ("?itemsPerPage=1&page=1", ["z"]), ("?state=ended", [])):
                status, body = await self.get(service, f"/api/v1/streams{query}")
                listed = json.loads(body)
                self.assertEqual((200, keys), (status, [stream["streamKey"] for stream in listed["streams"]]))
                self.assertNotIn("incomplete", listed)
            status, body = await self.get(service, "/api/v1/streams?node=self")
            self.assertEqual(1, json.loads(body)["total"])
            status, body = await self.get(service, "/api/v1/streams/k")
            self.assertEqual((200, "k"), (status, json.loads(body)["streamKey"]))
            self.assertEqual(404, (await self.get(service, "/api/v1/streams/nothing"))[0])
            _, body = await self.get(service, "/metrics")
            self.assertEqual(2, body.count(b'rapidrtmp_active_streams{state="live",worker='))
            self.assertEqual(1, body.count(b"# TYPE rapidrtmp_active_streams gauge"))
        status, _ = await self.get(other, "/api/v1/streams/k/stop", b"POST")
        self.assertEqual(200, status)
        await encoder.gone
        node: Any = one.node
        await self.cut(node)
        status, body = await self.get(other, "/api/v1/streams")
        self.assertEqual((200, [node.place.node]), (status, json.loads(body)["incomplete"]))

    async def test_publisher_takes_stream_along(self) -> None:
        """A publisher that returns to another server takes its stream along: one discontinuity, and no number falls."""
        one, other = self.start(self.shared()), self.start(self.shared())
        encoder = await self.publish(one, b"".join(media(5)))
        before = await self.look(other)
        await self.publish(other, b"".join(media(5)))
        await encoder.gone
        after = await self.look(other, before.next_sequence + 2)
        self.assertIsNone(self.stream_of(one))
        self.assertIsNotNone(self.stream_of(other))
        self.assertGreaterEqual(after.sequence, before.sequence)
        self.assertEqual(1, sum(segment.discontinuity for segment in after.segments))
        self.assertEqual(0, sum(segment.gap for segment in after.segments))
        await self.check_listed(other, after)
        followed = await self.look(one, after.next_sequence)
        await self.check_listed(one, followed)
        self.assertEqual(1, other.node.moves if other.node else 0)

    async def test_waiting_viewers_stay(self) -> None:
        """A request that waits at either server while the stream moves is answered with what comes then."""
        one, other = self.start(self.shared()), self.start(self.shared())
        await self.publish(one, b"".join(media(5)))
        before = await self.look(other)
        query = f"{PLAYLIST}?_HLS_msn={before.next_sequence}"
        waiting: list[Deferred[Any]] = [Deferred.fromCoroutine(self.get(service, query)) for service in (one, other)]
        await deferLater(reactor, 0.1)
        await self.publish(other, b"".join(media(5)))
        for each in waiting:
            status, body = await each
            self.assertEqual(200, status)
            self.assertGreater(parse_media_playlist(body).next_sequence, before.next_sequence)

    async def test_live_publisher_keeps_its_stream(self) -> None:
        """Another server refuses a publisher whose stream is being published, as the one that has it would."""
        patient = replace(self.shared(), rtmp=RtmpSettings(takeover_silence_ms=60_000))
        one, other = self.start(patient), self.start(patient)
        encoder = await self.publish(one, b"".join(media(2)))
        second = await self.publish(other, b"".join(media(2)))
        await second.gone
        self.assertIn(b"NetStream.Publish.BadName", second.heard)
        self.assertIn(b"being published by another connection", second.heard)
        self.assertFalse(encoder.gone.called)
        self.assertIsNotNone(self.stream_of(one))

    async def test_stored_stream_of_stopped_server(self) -> None:
        """What a server that stops leaves open in a storage another one continues."""
        storage = f"local:{self.folder}/streams"
        one, other = self.start(self.shared(storage)), self.start(self.shared(storage))
        await self.publish(one, b"".join(media(5)))
        before = await self.look(one)
        await one.stopService()
        await self.publish(other, b"".join(media(5)))
        after = before
        while not any(segment.discontinuity for segment in after.segments):  # what was stored is shown first
            after = await self.look(other, before.next_sequence)
        self.assertGreaterEqual(after.sequence, before.sequence)
        self.assertEqual(1, sum(segment.discontinuity for segment in after.segments))
        stream = self.stream_of(other)
        assert stream is not None
        self.assertIs(StreamState.LIVE, stream.state)

    async def test_dead_owner_leaves_what_was_seen(self) -> None:
        """When the server of a stream in memory dies, another one continues what its viewers saw, behind some gaps."""
        one, other = self.start(self.shared()), self.start(self.shared())
        await self.publish(one, b"".join(media(5)))
        before = await self.look(other)
        await self.check_listed(other, before)
        await self.let_die(one)
        third = self.start(self.shared())  # which has seen nothing of it
        await self.publish(third, b"".join(media(5)))
        after = await self.look(other, before.next_sequence + 5)
        self.assertIsNotNone(self.stream_of(third))
        self.assertGreaterEqual(after.sequence, before.sequence)
        self.assertIn(sum(segment.gap for segment in after.segments), (3, 4))
        await self.check_listed(other, after)
