"""Streams that no client publishes: what plugins bring in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import LeaseHeldError
from rapidrtmp.interfaces import Publication
from rapidrtmp.live.registry import LimitReachedError, NameTakenError
from rapidrtmp.live.stream import StreamState
from rapidrtmp.names import StreamName
from rapidrtmp.net.ingest import publish
from tests.codec.builders import audio_config, picture, sound, video_config
from tests.net.edge import NAME, Edge


class IngestTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.edge = Edge()
        self.addCleanup(self.edge.close)
        self.ended: list[str] = []
        self.publication = Publication(NAME, "192.0.2.7", "test", "credential", ("far",), self.ended.append)

    def begin(self, **changes: Any) -> Any:
        services = replace(self.edge.factory.services, **changes)
        return self.successResultOf(publish(services, self.publication))

    def feed(self, publishing: Any) -> None:
        publishing.video(0, video_config())
        publishing.audio(0, audio_config())
        for number in range(75):
            publishing.video(number * 40, picture(number % 25 == 0, mark=number))
            publishing.audio(number * 40, sound(number))

    def test_media_makes_a_stream(self) -> None:
        """Bodies become frames of a stream with the peer, and the way, that were said; its end is one like any."""
        publishing = self.begin()
        publishing.metadata({"encoder": "far away"})
        self.feed(publishing)
        stream = self.edge.registry.find(NAME)
        assert stream is not None and stream.publisher is not None
        self.assertIs(StreamState.LIVE, stream.state)
        self.assertEqual(("192.0.2.7", ("far",)), (stream.publisher.peer, stream.via))
        self.assertEqual("far away", stream.metadata["encoder"])
        publishing.end()
        self.assertIs(StreamState.INTERRUPTED, stream.state)
        self.assertEqual([], self.ended)
        self.feed(publishing)  # changes nothing

    def test_end_by_the_server_is_heard(self) -> None:
        """Where the server ends it the plugin hears why, once."""
        publishing = self.begin()
        self.feed(publishing)
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        self.edge.registry.end(stream, "stopped")
        publishing.end()
        self.assertEqual(["stopped"], self.ended)

    def test_name_belongs_to_one(self) -> None:
        """A name that a client publishes, or another server, is refused; so is an application that is not there."""
        self.edge.publisher()
        services = self.edge.factory.services
        self.failureResultOf(publish(services, self.publication), NameTakenError)
        elsewhere = replace(self.publication, name=StreamName("nowhere", "k"))
        self.failureResultOf(publish(services, elsewhere), LimitReachedError)
        self.edge.lease = lambda: fail(LeaseHeldError("held"))
        other = replace(self.publication, name=StreamName("live", "other"))
        self.failureResultOf(publish(services, other), NameTakenError)

    def test_owner_among_several_processes(self) -> None:
        """Where several processes serve the same streams the one that takes it owns it first."""
        asked: list[tuple[StreamName, str, str]] = []

        def own(name: StreamName, credential: str, peer: str) -> Deferred[None]:
            asked.append((name, credential, peer))
            return self.edge.factory.services.leases.claim(name)

        self.begin(own=own)
        self.assertEqual([(NAME, "credential", self.publication.peer)], asked)
