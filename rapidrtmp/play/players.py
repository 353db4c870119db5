"""
The players of RTMP and FLV on this server: what they ask for is found, or waited for, and each gets its place in a
rendering.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from rapidrtmp.codec.flv_capabilities import FlvCapabilities
from rapidrtmp.codec.flv_writing import FlvWriter
from rapidrtmp.codec.table import display_name
from rapidrtmp.errors import NotFoundError
from rapidrtmp.interfaces import StreamDemand, no_demand
from rapidrtmp.media import MediaKind, Track
from rapidrtmp.names import StreamName
from rapidrtmp.play.feed import Feed
from rapidrtmp.play.policy import PlayPolicy
from rapidrtmp.play.rendering import Ending, Follower, Rendering, RenderingKey
from rapidrtmp.play.renditions import Rendition, Renditions
from rapidrtmp.play.selection import Selection
from rapidrtmp.support.clock import now_ms

__all__ = ["Place", "Players", "UnplayableError"]

#: The name of the sink that players are fed by.
SINK = "play"
#: How often it is looked whether a stream has come that is waited for, and whether players are still fed.
LOOK_S, FED_S = 0.1, 1.0


class UnplayableError(NotFoundError):
    """The stream is there, in a codec that the player does not take."""


class Place:
    """
    One player of a stream.

    :ivar protocol: what it plays over: ``rtmp``, ``http`` or ``websocket``.
    :ivar follower: what it has been sent.
    """

    def __init__(self, players: Players, stream: Any, feed: Feed, protocol: str, follower: Follower) -> None:
        self.protocol = protocol
        self.stream = stream
        self._players = players
        self._feed = feed
        self.follower = follower
        self._rendering: Rendering | None = None
        self._has_left = False

    def choose(self, key: RenderingKey) -> Rendering:
        """
        Have a place in the rendering of that key, and in no other.

        :raises UnavailableError: there are too many already.
        """
        rendering = self._feed.rendering(key)
        if self._rendering is not None and self._rendering is not rendering:
            self._feed.leave(self._rendering, self.follower)
        self._rendering = rendering
        return rendering

    def pause(self) -> None:
        """Have no place for now; the stream is fed on."""
        rendering, self._rendering = self._rendering, None
        if rendering is not None:
            self._feed.leave(rendering, self.follower)

    def leave(self) -> None:
        """Give it up; further calls change nothing."""
        if not self._has_left:
            self._has_left = True
            self.pause()
            self._players.left(self)


class Players:
    """
    See the module.

    :param streams: finds streams by name.
    :param clock: time and timers.
    :ivar policy: what they are granted. ``streams`` as above.
    :ivar demand: asked for streams that are not here.
    """

    def __init__(self, streams: Any, clock: IReactorTime, policy: PlayPolicy = PlayPolicy()) -> None:  # noqa: B008  it is frozen
        self.policy = policy
        self._renditions = Renditions()
        self.streams = streams
        self._clock = clock
        self._feeds: dict[int, tuple[Any, Feed, set[Place]]] = {}
        self._total = 0
        self._by_protocol: Counter[str] = Counter()
        self._ends: Counter[str] = Counter()
        self.skipped_total = 0
        self.sent_bytes_total = 0
        self.demand: StreamDemand = no_demand
        self._demanded: dict[Deferred[Any], Deferred[None]] = {}
        self._waiting: dict[Deferred[Any], tuple[StreamName, str, int]] = {}
        self._look = LoopingCall(self._look_for_all)
        self._look.clock = clock
        self._fed = LoopingCall(self._end_unfed)
        self._fed.clock = clock

    # ── what is asked for ────────────────────────────────────────────────────────────────────────────────────────────

    def find(self, name: StreamName, parameters: Mapping[str, str], via: tuple[str, ...] = ()) -> Deferred[Any]:
        """
        Find a stream, or a rendition of it, when its tracks are known.

        :param parameters: what the player's query says; ``rendition`` is the name of one.
        :param via: the ids of the servers that the player has come through.
        :returns: a Deferred of the caller's own. It fails with ``NotFoundError`` if there is none for a while.
        """
        rendition = parameters.get("rendition", "")
        try:
            found = self._find_now(name, rendition)
        except NotFoundError as error:
            return fail(error)
        if found is not None:
            return succeed(found)
        waiting: Deferred[Any] = Deferred(self._forget_waiting)
        self._waiting[waiting] = name, rendition, now_ms(self._clock) + self.policy.wait_ms
        if not self._look.running:
            self._look.start(LOOK_S, now=False)
        self._ask_for_stream(name, via, waiting)
        return waiting

    def _ask_for_stream(self, name: StreamName, via: tuple[str, ...], waiting: Deferred[Any]) -> None:
        """Have a stream that is not here fetched, if it is to be had elsewhere."""
        stream = self.streams.find(name)
        demanded = self.demand(name, via) if stream is None or stream.has_ended else None
        if demanded is not None:
            self._demanded[waiting] = demanded
            demanded.addCallbacks(lambda _: self._fetched(name, waiting), lambda _: None)

    def _fetched(self, name: StreamName, waiting: Deferred[Any]) -> None:
        """A stream was fetched; where it could not be had its players need not wait any longer."""
        self._demanded.pop(waiting, None)
        stream = self.streams.find(name)
        if waiting in self._waiting and (stream is None or stream.has_ended):
            self._forget_waiting(waiting)
            waiting.errback(NotFoundError(f"{name} is not to be had now"))

    def _forget_waiting(self, waiting: Deferred[Any]) -> None:
        self._waiting.pop(waiting, None)
        demanded = self._demanded.pop(waiting, None)
        if demanded is not None:
            demanded.cancel()
        self._look_no_longer()

    def _look_no_longer(self) -> None:
        if not self._waiting and self._look.running:
            self._look.stop()

    def _find_now(self, name: StreamName, rendition: str) -> Any:
        stream = self.streams.find(name)
        if stream is None or stream.has_ended or not stream.tracks:
            return None
        if not rendition:
            return stream
        found = self._renditions.find(stream, rendition)
        if found is None:
            raise NotFoundError(f"{name} has no rendition of that name")
        return found if found.tracks else None

    def _look_for_all(self) -> None:
        time_ms = now_ms(self._clock)
        for waiting, (name, rendition, until_ms) in tuple(self._waiting.items()):
            if waiting not in self._waiting:
                continue
            try:
                found = self._find_now(name, rendition)
                if found is None and time_ms >= until_ms:
                    raise NotFoundError(f"{name} is not there: no one publishes it now")
            except NotFoundError as error:
                self._forget_waiting(waiting)
                waiting.errback(error)
                continue
            if found is not None:
                self._forget_waiting(waiting)
                waiting.callback(found)
        self._look_no_longer()

    def check(self, stream: Any, capabilities: FlvCapabilities, selection: Selection) -> None:
        """
        Return if a player that takes so much can play what it asks for.

        :raises NotFoundError: the stream has no such track; :class:`UnplayableError` if it has it in a codec that the
            player does not take.
        """
        tracks: tuple[Track, ...] = selection.pick(stream.tracks)
        if not selection.is_there(stream.tracks):
            raise NotFoundError("the stream has no such track")
        writer = FlvWriter(capabilities)
        writer.tracks_changed(tracks)
        for kind in (MediaKind.VIDEO, MediaKind.AUDIO):
            missing = next((track for track in writer.left_out if track.kind is kind), None)
            has_any = any(track.kind is kind for track in writer.tracks)
            if missing is not None and not has_any and (kind is MediaKind.VIDEO or not writer.tracks):
                codec = display_name(kind, missing.codec)
                raise UnplayableError(f"the {kind.value} is {codec}, which your player does not take")

    # ── who plays ────────────────────────────────────────────────────────────────────────────────────────────────────

    def join(self, stream: Any, protocol: str, follower: Follower) -> Place:
        """Let a player have a place at a stream, or rendition, that was found."""
        entry = self._feeds.get(id(stream))
        if entry is None:
            feed = Feed(self._clock, self.policy, self.is_crowded, lambda: self._forget(stream))
            entry = self._feeds[id(stream)] = stream, feed, set()
            stream.attach(SINK, feed, with_past=True)
            if not self._fed.running:
                self._fed.start(FED_S, now=False)
        _, feed, places = entry
        place = Place(self, stream, feed, protocol, follower)
        places.add(place)
        self._total += 1
        self._by_protocol[protocol] += 1
        return place

    def left(self, place: Place) -> None:
        """A player is gone; with the last one of a stream nothing is rendered of it any more."""
        self._total -= 1
        self._by_protocol[place.protocol] -= 1
        entry = self._feeds.get(id(place.stream))
        if entry is None:
            return
        _, _, places = entry
        places.discard(place)
        if not places:
            self._forget(place.stream)
            place.stream.detach(SINK)

    def _end_unfed(self) -> None:
        """End the players of feeds that their streams have detached, as sinks that failed or took too long."""
        for stream, feed, _ in tuple(self._feeds.values()):
            if not stream.has_sink(SINK):
                feed.detached()

    def _forget(self, stream: Any) -> None:
        self._feeds.pop(id(stream), None)
        if not self._feeds and self._fed.running:
            self._fed.stop()
        if isinstance(stream, Rendition):
            self._renditions.forget(stream)

    def is_crowded(self) -> bool:
        """Whether there are so many that frames are gathered before they are sent."""
        return self._total >= self.policy.crowd

    def count(self, stream: Any) -> Mapping[str, int]:
        """How many play a stream or one of its renditions, by what they play over."""
        played = (places for found, _, places in self._feeds.values() if found is stream or _is_of(found, stream))
        counted = Counter(place.protocol for places in played for place in places)
        return {protocol: counted[protocol] for protocol in ("rtmp", "http", "websocket")}

    def ended(self, ending: Ending, *, skips: int, sent_bytes: int) -> None:
        """Count one that is done."""
        self._ends["stream" if ending.is_regular else "slow"] += 1
        self.skipped_total += skips
        self.sent_bytes_total += sent_bytes

    def metrics(self) -> Iterator[Metric]:
        """For a scrape."""
        players = GaugeMetricFamily("rapidrtmp_players", "Players of RTMP and FLV, by protocol", labels=["protocol"])
        for protocol in ("rtmp", "http", "websocket"):
            players.add_metric([protocol], self._by_protocol[protocol])
        yield players
        yield GaugeMetricFamily("rapidrtmp_players_waiting", "Players that wait for a stream", len(self._waiting))
        ends = CounterMetricFamily("rapidrtmp_players_ended_total", "Players that were ended", labels=["reason"])
        for reason in ("stream", "slow"):
            ends.add_metric([reason], self._ends[reason])
        yield ends
        playing = (place.follower.skips for _, _, places in self._feeds.values() for place in places)
        skipped = self.skipped_total + sum(playing)
        yield CounterMetricFamily(
            "rapidrtmp_players_skipped_total",
            "Times that a slow player skipped to a keyframe",
            skipped,
        )


def _is_of(found: Any, stream: Any) -> bool:
    """Whether it is a rendition of that stream."""
    return isinstance(found, Rendition) and found.source is stream
