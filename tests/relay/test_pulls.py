"""Pull relays: which source is asked, when, and what becomes of a stream that no one wants."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.interfaces import AppRelays, ContributionContext, PullSource
from rapidrtmp.live.stream import LiveStream, StreamState
from rapidrtmp.names import StreamName
from rapidrtmp.net.ingest import publish
from rapidrtmp.relay.pulls import PullRelays
from rapidrtmp.relay.push import KeyClaims, PushParts
from rapidrtmp.relay.report import RelayMetrics
from rapidrtmp.rtmp.events import ConnectRequested, PlayEnded, PlayRequested
from rapidrtmp.rtmp.session import State
from rapidrtmp.rtmp.via import VIA
from tests.codec.builders import audio_config, picture, sound, video_config
from tests.net.edge import NAME, Edge
from tests.relay.servers import Network, RemoteServer, Script

URLS = ("rtmp://one/app/k", "rtmp://two/app/k")
NOT_FOUND = Script(play=("NetStream.Play.StreamNotFound", "no such stream"))


class PullTestCase(SynchronousTestCase):
    """A server in memory, with pulls into it."""

    def setUp(self) -> None:
        self.edge = Edge()
        self.addCleanup(self.edge.close)
        self.clock = self.edge.clock
        self.network = Network(self.clock)
        self.app = self.edge.apps["live"]
        self.registry = CollectorRegistry()
        context = ContributionContext(
            apps=self.edge.apps,
            streams=self.edge.registry,
            storage=lambda _purpose: None,  # type: ignore[arg-type,return-value]
            clock=self.clock,
            utc_ms=self.edge.utc_ms,
            metrics=self.registry,
            publish=lambda publication: publish(self.edge.factory.services, publication),
            elect=lambda what: succeed(self.is_elected and not self.elected.append(what)),
            resign=lambda what: self.elected.remove(what),
        )
        self.is_elected = True
        self.elected: list[str] = []
        parts = PushParts(self.network.outgoing, KeyClaims(), "me", random=lambda: 0.5)
        self.pulls = PullRelays(context, parts, RelayMetrics(self.registry))
        self.sent_ms = 0

    def start(self, *sources: PullSource, origins: tuple[str, ...] = ()) -> None:
        """The server starts with such settings."""
        self.app.relays = AppRelays(pull=sources, origins=origins)
        self.pulls.startService()
        self.addCleanup(self.pulls.stopService)
        self.network.carry()

    def serve(self, *hosts: str, script: Script | None = None) -> None:
        for host in hosts:
            self.network.servers[host] = script or Script()

    def stream_to(self, server: RemoteServer, seconds: float = 2.0) -> None:
        """A source sends so much, as fast as it is played."""
        if server not in self._configured:
            self._configured.append(server)
            server.session.send_video(self.sent_ms, video_config())
            server.session.send_audio(self.sent_ms, audio_config())
        for number in range(round(seconds * 25)):
            if server.session.state is not State.PLAYING:  # the player has left
                return
            server.session.send_video(self.sent_ms, picture(number % 25 == 0, mark=number))
            server.session.send_audio(self.sent_ms, sound(number))
            self.sent_ms += 40
            self.clock.advance(0.04)
            self.network.carry()

    _configured: list[RemoteServer]

    def run(self, result: Any = None) -> Any:
        self._configured = []
        return super().run(result)

    @property
    def server(self) -> RemoteServer:
        return self.network.connections[-1]

    @property
    def stream(self) -> LiveStream:
        found = self.edge.registry.find(NAME)
        assert found is not None
        return found

    @property
    def state(self) -> str:
        (relay,) = self.pulls.of(NAME)
        return f"{relay.status.state.value}: {relay.status.reason}".removesuffix(": ")

    def ask(self, via: tuple[str, ...] = ()) -> Deferred[None]:
        """A player wants the stream."""
        waiting = self.pulls.demand(NAME, via)
        assert waiting is not None
        self.network.carry()
        return waiting


class AlwaysTests(PullTestCase):
    def test_pulled_stream_is_one_like_any(self) -> None:
        """What another server sends is published here, by its address, with the tracks that it has."""
        self.serve("one")
        self.start(PullSource("k", URLS))
        self.assertEqual(("app", "k"), (self.server.of(PlayRequested)[0].app, self.server.of(PlayRequested)[0].key))
        self.assertEqual("connecting", self.state)
        self.stream_to(self.server)
        self.assertEqual("running", self.state)
        self.assertIs(StreamState.LIVE, self.stream.state)
        self.assertEqual(2, len(self.stream.tracks))
        self.assertGreater(len(self.edge.collectors[0].frames), 90)

    def test_second_source_takes_over_at_once(self) -> None:
        """Where the first source is down the second one is asked without a pause."""
        self.serve("two")
        self.start(PullSource("k", URLS))
        self.network.wait(0.25)
        self.assertEqual(["one", "two"], self.network.asked)
        self.stream_to(self.server)
        self.assertEqual("running", self.state)

    def test_hanging_source_costs_five_seconds(self) -> None:
        """A source that does not answer is left for the next one within six seconds."""
        self.network.servers["one"] = None
        self.serve("two")
        self.start(PullSource("k", URLS))
        self.network.wait(5.5)
        self.assertEqual("two", self.server.address.host)

    def test_sources_are_asked_in_rounds(self) -> None:
        """When all have failed there is a pause, which grows."""
        self.start(PullSource("k", URLS))
        self.network.wait(8)
        self.assertEqual(["one", "two"] * 4, self.network.asked)  # at 0, 1, 3 and 7 s

    def test_stream_survives_its_source(self) -> None:
        """While a source is gone the stream waits; the next one continues it."""
        self.serve("one", "two")
        self.start(PullSource("k", URLS))
        self.stream_to(self.server)
        stream = self.stream
        self.server.drop()
        self.assertIs(StreamState.INTERRUPTED, stream.state)
        self.network.wait(0.25)
        self.assertEqual("two", self.server.address.host)
        self.stream_to(self.server)
        self.assertIs(StreamState.LIVE, stream.state)
        self.assertIs(stream, self.stream)

    def test_silent_source_is_left(self) -> None:
        """A source that lets us play, and sends nothing for ten seconds, is left."""
        self.serve("one", "two")
        self.start(PullSource("k", URLS))
        self.network.wait(9.5)
        self.assertEqual(1, len(self.network.connections))
        self.network.wait(1)
        self.assertEqual("two", self.server.address.host)
        self.assertIsNone(self.edge.registry.find(NAME))

    def test_missing_stream_is_asked_for_rarely(self) -> None:
        """A stream that is not there is asked for after 5, 10, 20 s."""
        self.serve("one", script=NOT_FOUND)
        self.start(PullSource("k", URLS[:1]))
        self.network.wait(40)
        self.assertEqual(4, len(self.network.connections))
        self.assertIn("StreamNotFound", self.state)

    def test_name_has_one_publisher(self) -> None:
        """A publisher of the name keeps it, and a healthy pull keeps it from others."""
        publisher = self.edge.publisher()
        self.serve("one")
        self.start(PullSource("k", URLS))
        self.stream_to(self.server, 0.2)
        self.assertIn("refused: it cannot be published here", self.state)
        publisher.leave()
        self.network.wait(10.5)
        self.stream_to(self.server)
        self.assertEqual("running", self.state)
        other = self.edge.peer().connect().publish()
        self.assertIn("BadName", other.statuses()[-1][1])

    def test_stop_by_the_api_is_not_for_ever(self) -> None:
        """A pulled stream that is stopped here is pulled again after ten seconds, as an encoder would come again."""
        self.serve("one")
        self.start(PullSource("k", URLS))
        self.stream_to(self.server)
        self.edge.registry.end(self.stream, "stopped")
        self.network.carry()
        self.assertTrue(self.server.of(PlayEnded))
        self.assertEqual("refused: stopped", self.state)
        self.network.wait(10.5)
        self.assertEqual(2, len(self.network.connections))

    def test_settings_are_followed(self) -> None:
        """A pull that the settings no longer have ends its stream; one that comes begins."""
        self.serve("one")
        self.start(PullSource("k", URLS))
        self.stream_to(self.server)
        self.app.relays = AppRelays(pull=(PullSource("other", ("rtmp://one/app/o",)),))
        self.pulls.follow()
        self.network.carry()
        self.assertTrue(self.network.connections[0].of(PlayEnded))
        self.assertIs(StreamState.ENDED, self.stream.state)
        self.assertEqual("o", self.server.of(PlayRequested)[0].key)

    def test_stop_of_the_server_leaves_the_stream(self) -> None:
        """A server that stops leaves a pulled stream as any other: interrupted, for the next one."""
        self.serve("one")
        self.app.relays = AppRelays(pull=(PullSource("k", URLS),))
        self.pulls.startService()
        self.network.carry()
        self.stream_to(self.server)
        self.pulls.stopService()
        self.assertIs(StreamState.INTERRUPTED, self.stream.state)


class ProcessesTests(PullTestCase):
    """One of several processes that serve the same."""

    def test_one_process_pulls(self) -> None:
        """A stream is pulled by one of all processes; another one does when that is gone, and resigns when it stops."""
        self.serve("one")
        self.is_elected = False
        self.start(PullSource("k", URLS))
        self.clock.pump([1.0] * 10)
        self.network.carry()
        self.assertEqual([], self.network.connections)
        self.assertIsNone(self.pulls.demand(NAME, ()))
        self.is_elected = True
        self.clock.pump([1.0] * 4)
        self.network.carry()
        self.stream_to(self.server)
        self.assertIs(StreamState.LIVE, self.stream.state)
        self.assertEqual(["pull:live/k"], self.elected)
        self.app.relays = AppRelays()
        self.pulls.follow()
        self.assertEqual([], self.elected)


class OnDemandTests(PullTestCase):
    source = PullSource("k", URLS, on_demand=True)

    def test_nothing_is_pulled_unasked(self) -> None:
        """A stream that is pulled on demand is not, before it is asked for; names that are not pulled are not known."""
        self.serve("one")
        self.start(self.source)
        self.network.wait(5)
        self.assertEqual([], self.network.connections)
        self.assertIsNone(self.pulls.demand(StreamName("live", "other"), ()))
        self.assertIsNone(self.pulls.demand(StreamName("no-app", "k"), ()))

    def test_fifty_players_make_one_connection(self) -> None:
        """However many ask in the same instant, one connection is made, and all are answered by its stream."""
        self.serve("one")
        self.start(self.source)
        waiting = [self.ask() for _ in range(50)]
        self.assertEqual(1, len(self.network.connections))
        self.assertNoResult(waiting[0])
        self.stream_to(self.server, 0.2)
        for each in waiting:
            self.assertIsNone(self.successResultOf(each))
        self.assertIsNone(self.pulls.demand(NAME, ()))  # it is here

    def test_wait_is_bounded(self) -> None:
        """A player waits as long as the settings say, and is answered with what there is then."""
        self.serve("one")
        self.start(self.source)
        waiting = self.ask()
        self.network.wait(9)
        self.assertNoResult(waiting)
        self.network.wait(2)
        self.successResultOf(waiting)

    def test_missing_stream_is_answered_at_once(self) -> None:
        """Where no source has the stream its players need not wait, and the pull is over."""
        self.serve("one", "two", script=NOT_FOUND)
        self.start(self.source)
        waiting = self.ask()
        self.network.wait(0.5)
        self.successResultOf(waiting)
        self.assertEqual([], list(self.pulls.of(NAME)))

    def test_unwatched_stream_is_closed(self) -> None:
        """When no one has watched for a while the pull ends, and its stream; asked for, it is there again."""
        self.serve("one")
        self.start(self.source)
        self.ask()
        self.stream_to(self.server)
        self.stream.viewers.saw("192.0.2.9", "player", "", int(self.clock.seconds() * 1000))
        self.stream_to(self.server, 29)
        self.assertFalse(self.server.of(PlayEnded))
        self.stream_to(self.server, 32)
        self.network.carry()
        self.assertTrue(self.server.of(PlayEnded))
        self.assertIs(StreamState.ENDED, self.stream.state)
        waiting = self.ask()
        self.stream_to(self.server, 0.2)
        self.successResultOf(waiting)
        self.assertEqual(2, len(self.network.connections))

    def test_player_that_leaves_does_not_count(self) -> None:
        """A player that has not waited for the stream is no one who wants it."""
        self.serve("one")
        self.start(self.source)
        self.ask().addErrback(lambda _: None).cancel()
        self.network.wait(32, step=0.5)
        self.assertEqual([], list(self.pulls.of(NAME)))

    def test_way_of_the_player_is_handed_on(self) -> None:
        """The servers that the player has come through are named to the source, so that it can find a loop."""
        self.serve("one")
        self.start(self.source)
        self.ask(("edge",))
        self.assertEqual("edge,me", self.server.of(ConnectRequested)[0].properties[VIA])


class OriginTests(PullTestCase):
    def test_whatever_is_asked_for_is_sought_there(self) -> None:
        """An application with origins has every stream that they have, by its own name."""
        self.serve("o2")
        self.start(origins=("rtmp://o1/live", "rtmp://o2/live?token=t"))
        waiting = self.ask()
        self.network.wait(0.25)
        play = self.server.of(PlayRequested)[0]
        self.assertEqual(("o2", "k", "t"), (self.server.address.host, play.key, play.parameters["token"]))
        self.stream_to(self.server, 0.2)
        self.successResultOf(waiting)
        self.assertTrue(self.pulls.is_pulled(NAME))

    def test_loop_ends_at_its_first_hop(self) -> None:
        """An origin that refuses for a loop is not asked again while the player waits."""
        self.serve("o1", script=Script(connect=("NetConnection.Connect.Rejected", "relay loop: …")))
        self.start(origins=("rtmp://o1/live",))
        waiting = self.ask()
        self.network.wait(0.5)
        self.successResultOf(waiting)
        self.assertEqual(1, len(self.network.connections))
