"""
One live stream: its tracks, its GOP cache, and the fan-out of its frames to its sinks.

The stream outlives its publishers: between two of them it is *interrupted*, and to a sink the second one is a
discontinuity. All calls come from the reactor thread, and each is done when it returns.
"""

from __future__ import annotations

import enum
import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from rapidrtmp.errors import MisuseError
from rapidrtmp.interfaces import (
    EventType,
    ILiveStream,
    IMediaObject,
    IPartSink,
    IPlayable,
    IPlaylistVersion,
    ISink,
    PlayableFacts,
    Playlist,
    RecordEvent,
    RungReport,
    no_event,
)
from rapidrtmp.live.captions import Captions
from rapidrtmp.live.fan_out import FanOut
from rapidrtmp.live.health import Finding
from rapidrtmp.live.shelf import PlaylistVersion, Shelf, ShelfObject
from rapidrtmp.live.statistics import Statistics
from rapidrtmp.live.viewers import Viewers
from rapidrtmp.live.wall_clock import WallClockMap
from rapidrtmp.media import AudioConfig, Frame, MediaKind, Rhythm, TimedMetadata, Track, VideoConfig
from rapidrtmp.names import MULTIVARIANT_PLAYLIST, StreamName
from rapidrtmp.timeline.health import PublishHealth

#: Without a frame for so long nothing that was measured of a track still holds.
SILENT_MS = 5_000
#: How long between two frames whose arrival tells the wall clock something.
OBSERVE_MS = 200
_AT_ONCE = -(1 << 62)

#: The name of what viewers should know of a stream, beside its playlists: ``{"notice": "one sentence"}``.
NOTICE = "notice.json"

#: So much of the past is kept for players that start only when they have seen so much, in milliseconds; FFmpeg wants
#: 1.4 s of audio and video, and what is missing of that comes in real time.
PAST_MS = 1_200
__all__ = ["NOTICE", "PAST_MS", "GopCache", "LiveStream", "Publisher", "StreamState"]


class StreamState(enum.Enum):
    """Where a stream is in its life."""

    STARTING = "starting"  # a publisher is there, its tracks are not known yet
    LIVE = "live"
    INTERRUPTED = "interrupted"  # the publisher is gone and may return
    ENDED = "ended"  # nothing follows; what was made is still served


class Publisher(Protocol):
    """The source of a stream's frames, as far as the stream and the registry care."""

    peer: str
    credential: str

    def silent_ms(self) -> int:
        """How long nothing has been received from it."""

    def disconnect(self, reason: str) -> None:
        """Tell it why, and close it."""

    def disconnect_at_keyframe(self, reason: str, within_ms: int) -> None:
        """Tell it why, and close it, in front of its next keyframe; within ``within_ms`` in any case."""


#: Makes the sink of that name with a factory, out of what is recovered for it.
SinkMaker = Callable[["LiveStream", str, Any, Mapping[str, bytes]], ISink | IPartSink]


class _PastGop(NamedTuple):
    """
    A GOP before the newest one.

    :ivar frames: those that the next GOP does not need as well.
    :ivar next_dts: when the next one begins, in ticks of the leading track.
    """

    frames: list[Frame]
    size: int
    next_dts: int


class GopCache:
    """
    The frames since the leading track's last keyframe, for sinks that come late; bounded in bytes.

    A GOP that outgrows the bound is let go until the next keyframe. Without video, only the newest frame is kept:
    audio can start anywhere. Of other video, the frames since its own last keyframe are kept as well.

    :param past_ms: GOPs before are kept as long as all since are shorter than this.
    :ivar frames: those since the last keyframe.
    """

    def __init__(self, max_bytes: int, past_ms: int = 0) -> None:
        self.max_bytes = max_bytes
        self.frames: list[Frame] = []
        self._past_ms = past_ms
        self._past: deque[_PastGop] = deque()
        self._past_until = self._past_span = 0  # ticks of the leading track
        self._past_bytes = self._bytes = 0
        self._shared = 0  # so many of the frames, at the front, are in the past as well
        self._leading_id = 0
        self._other_video: frozenset[int] = frozenset()

    @property
    def size(self) -> int:
        """Of its frames, in bytes."""
        return self._bytes + self._past_bytes

    @property
    def frames_with_past(self) -> list[Frame]:
        """Those of the GOPs before as well, which make up for one that has only begun."""
        past = [frame for gop in self._past for frame in gop.frames]
        return past + self.frames[self._shared if past else 0 :]

    def start(self, tracks: tuple[Track, ...]) -> None:
        """Learn the tracks of the frames that follow, the leading one first; forget those before."""
        leading, *others = tracks
        self._leading_id = leading.id
        self._past_span = self._past_ms * leading.timescale // 1000 if leading.kind is MediaKind.VIDEO else 0
        self._other_video = frozenset(track.id for track in others if track.kind is MediaKind.VIDEO)
        self.clear()

    def add(self, frame: Frame) -> None:
        """Keep a frame; a keyframe of the leading track lets go of those before it."""
        if frame.keyframe and frame.track.id == self._leading_id:
            self._begin(frame)
        elif not self.frames:
            return
        self.frames.append(frame)
        self._bytes = size = self._bytes + len(frame.data)
        if size > self.max_bytes:
            self.clear()
        elif self._past and (frame.dts >= self._past_until or size + self._past_bytes > self.max_bytes):
            self._forget_past(frame)

    def _begin(self, keyframe: Frame) -> None:
        """Let go of what is not needed from now on."""
        needed = self._other_gops() if self._other_video else []
        if self._past_span and self.frames:
            own = self.frames[self._shared :] if self._shared else self.frames
            gop = _PastGop(own, self._bytes, keyframe.dts)
            self._past.append(gop)
            self._past_bytes += gop.size
            self._past_until = self._past[0].next_dts + self._past_span
        self.frames, self._shared = needed, len(needed)
        self._bytes = sum(len(frame.data) for frame in needed)

    def _forget_past(self, frame: Frame) -> None:
        """Let go of GOPs before, if what follows is long enough without them, or all too large with them."""
        is_leading = frame.track.id == self._leading_id
        while self._past:
            is_too_large = self._bytes + self._past_bytes > self.max_bytes
            if not is_too_large and not (is_leading and frame.dts >= self._past_until):
                return
            self._past_bytes -= self._past.popleft().size
            if self._past:
                self._past_until = self._past[0].next_dts + self._past_span

    def _other_gops(self) -> list[Frame]:
        """Of each other video track, the frames since its last keyframe."""
        gops: dict[int, list[Frame]] = {}
        for frame in self.frames:
            track_id = frame.track.id
            if track_id in self._other_video:
                if frame.keyframe:
                    gops[track_id] = []
                if track_id in gops:
                    gops[track_id].append(frame)
        kept = {id(frame) for gop in gops.values() for frame in gop}
        return [frame for frame in self.frames if id(frame) in kept]

    def clear(self) -> None:
        """Forget everything, up to the next keyframe."""
        self.frames.clear()
        self._past.clear()
        self._bytes = self._past_bytes = self._shared = 0


@implementer(ILiveStream, IPlayable)
class LiveStream:
    """
    A stream under its public name.

    :param utc_of: from a frame's ``arrived_ms`` to milliseconds since 1970; they are the same if left out.
    :param max_bytes: what may be kept of it for viewers, in memory; 0 for no limit.
    :param fan_out: the sinks; see :class:`~rapidrtmp.live.fan_out.FanOut`.
    :param make_sink: makes a sink of a factory, with what that is given to work with; see :meth:`start_sink`.
    :param record: records what happens to it.
    :ivar state: see :class:`StreamState`.
    :ivar publisher: who feeds it now, or ``None``. ``fingerprint``: what the token of the latest one is known by.
    :ivar via: the ids of the servers that it came through.
    :ivar tracks: what it consists of now; empty before the first frame.
    :ivar announced_tracks: the ids of the tracks that the publisher has announced, those that are here among them.
    :ivar advice: what its sinks have to say to the encoder, by topic.
    :ivar metadata: what the encoder said of itself (``onMetaData``); shown, never relied on.
    :ivar started_at_ms: when its first publisher came, in milliseconds since 1970. ``begun_ms``: the same on the clock
        that frames are stamped with.
    :ivar health: how its publisher does, in numbers; ``None`` until that is known. ``findings``: what is wrong.
    :ivar notice: what viewers should know of it; see :meth:`notify_viewers`.
    :ivar rungs: tells how the rungs of its ladder do; ``tracks_of_rung``, by its name, what one consists of.
    :ivar renditions_asked_for: called when a viewer waits for what there is to choose from, or has come for a rung.
    :ivar wall_clock: the dates of its timeline since the last discontinuity.
    """

    _log = Logger()

    def __init__(
        self,
        name: StreamName,
        shelf: Shelf,
        viewers: Viewers,
        *,
        started_at_ms: int,
        begun_ms: int = 0,
        gop_cache_bytes: int = 32 << 20,
        max_bytes: int = 0,
        fan_out: FanOut | None = None,
        utc_of: Callable[[int], int] | None = None,
        make_sink: SinkMaker | None = None,
        record: RecordEvent = no_event,
    ) -> None:
        self.name = name
        self.shelf = shelf
        self.captions = Captions()
        self.viewers = viewers
        self._record = record
        shelf.target_found = viewers.allow_for
        shelf.segment_listed = self._segment_listed
        viewers.came = lambda address, client: record(EventType.PLAY, name, address, {"viewer": client})
        viewers.began_with = self._viewer_began_with
        viewers.left = lambda client: record(EventType.STOP, name, "", {"viewer": client})
        self.started_at_ms = started_at_ms
        self.begun_ms = begun_ms
        self.state = StreamState.STARTING
        self.publisher: Publisher | None = None
        self.fingerprint = ""
        self.via: tuple[str, ...] = ()
        self.tracks: tuple[Track, ...] = ()
        self.metadata: Mapping[str, object] = {}
        self.announced_tracks: frozenset[int] = frozenset()
        self.advice: dict[str, str] = {}
        self.statistics = Statistics()
        self.discontinuities = 0
        self._utc_of = utc_of or (lambda arrived_ms: arrived_ms)
        self._make_sink = make_sink
        self._factories: dict[str, Any] = {}
        self.fan_out = fan_out or FanOut(name)
        self.rungs: Callable[[], Sequence[RungReport]] = tuple
        self.tracks_of_rung: Callable[[str], tuple[Track, ...]] = lambda _name: ()
        self.renditions_asked_for: Callable[[], object] = lambda: None
        self._gop = GopCache(gop_cache_bytes, PAST_MS)
        self._max_bytes = max_bytes
        self.health: PublishHealth | None = None
        self._findings: tuple[Finding, ...] = ()
        self.notice = ""
        self.wall_clock = WallClockMap()
        self._look_ms = _AT_ONCE
        self._newest: dict[int, Frame] = {}
        self._put_notice()

    # ── how its publisher does ───────────────────────────────────────────────────────────────────────────────────────

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong."""
        return self._findings

    @findings.setter
    def findings(self, findings: tuple[Finding, ...]) -> None:
        before, self._findings = {each.kind for each in self._findings}, findings
        if {each.kind for each in findings} != before:
            said = [{"kind": each.kind.value, "advice": each.advice} for each in findings]
            verdict = "attention" if findings else "good"
            self._record(EventType.HEALTH, self.name, self._peer, {"verdict": verdict, "findings": said})

    def publisher_left(self) -> None:
        """Forget what was wrong: there is no publisher of which it could be said."""
        self._findings = ()

    @property
    def _peer(self) -> str:
        return self.publisher.peer if self.publisher is not None else ""

    def _segment_listed(self, playlist: str) -> None:
        self._record(EventType.FIRST_SEGMENT, self.name, self._peer, {"playlist": playlist})

    # ── what viewers are served (IPlayable) ──────────────────────────────────────────────────────────────────────────

    lag_s = 0.0

    @property
    def facts(self) -> PlayableFacts:
        """See :class:`PlayableFacts <rapidrtmp.interfaces.PlayableFacts>`."""
        return PlayableFacts(
            is_interrupted=self.state is StreamState.INTERRUPTED,
            is_over=self.state is StreamState.ENDED,
            target_ms=self.shelf.target_ms,
        )

    def find(self, name: str) -> ShelfObject | None:
        """See :meth:`IPlayable.find <rapidrtmp.interfaces.IPlayable.find>`."""
        return self.shelf.find(name)

    def version(self, name: str) -> PlaylistVersion | None:
        """See :meth:`IPlayable.version <rapidrtmp.interfaces.IPlayable.version>`."""
        return self.shelf.find_playlist(name)

    def is_announced(self, name: str) -> bool:
        """See :meth:`IPlayable.is_announced <rapidrtmp.interfaces.IPlayable.is_announced>`."""
        return self.shelf.is_announced(name)

    def wait(self, name: str) -> Deferred[IMediaObject | None]:
        """See :meth:`IPlayable.wait <rapidrtmp.interfaces.IPlayable.wait>`."""
        self.shelf.announce(name)
        if name == MULTIVARIANT_PLAYLIST:
            self.renditions_asked_for()
        return self.shelf.wait_for(name)

    def wait_for_version(self, name: str, sequence: int, part: int | None) -> Deferred[IPlaylistVersion | None]:
        """See :meth:`IPlayable.wait_for_version <rapidrtmp.interfaces.IPlayable.wait_for_version>`."""
        if "/" in name and self.shelf.is_announced(name):
            self.renditions_asked_for()
        return self.shelf.wait_for_playlist(name, sequence, part)

    def _viewer_began_with(self, thing: str) -> None:
        if "/" in thing and not thing.startswith(("audio-", "video-", "captions-")):
            self.renditions_asked_for()

    # ── sinks ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def start_sink(self, name: str, factory: Any, recovered: Mapping[str, bytes] = MappingProxyType({})) -> None:
        """
        Make a sink of a factory, and attach it. What making it raises is the caller's.

        :param recovered: what it resumes; see ``SinkContext.recovered``.
        """
        if self._make_sink is None:
            raise MisuseError(f"{self.name} has no application to make sinks for it")
        sink = self._make_sink(self, name, factory, recovered)
        self._factories[name] = factory
        self.attach(name, sink)

    @property
    def sinks(self) -> Mapping[str, Any]:
        """What made each sink that takes its frames now, by the sink's name; ``None`` for one only attached."""
        return {name: self._factories.get(name) for name in self.fan_out.names}

    def attach(self, name: str, sink: object, *, with_past: bool = False) -> None:
        """
        Let a sink have the frames from here on, after those since the last keyframe; see :class:`FanOut`.

        :param with_past: whether it gets those of GOPs before as well, if that keyframe is younger than ``PAST_MS``.
        """
        is_live = self.state is not StreamState.INTERRUPTED
        missed = self._gop.frames_with_past if with_past else self._gop.frames
        self.fan_out.attach(name, sink, self.tracks, missed, live=is_live)

    def detach(self, name: str) -> Deferred[None] | None:
        """Finish and let go of the sink of that name, if there is one."""
        return self.fan_out.detach(name)

    # ── what is seen of it ────────────────────────────────────────────────────────────────────────────────────────────

    def has_sink(self, name: str) -> bool:
        """Whether the sink of that name works: one that raised, or was too slow, is detached."""
        return name in self.fan_out.names

    @property
    def has_ended(self) -> bool:
        """See :class:`~rapidrtmp.interfaces.ILiveStream`."""
        return self.state is StreamState.ENDED

    def playlist(self, name: str) -> Playlist | None:
        """See :meth:`ILiveStream.playlist <rapidrtmp.interfaces.ILiveStream.playlist>`."""
        version = self.shelf.find_playlist(name)
        return None if version is None else version.facts

    def is_promised(self, name: str) -> bool:
        """See :meth:`ILiveStream.is_promised <rapidrtmp.interfaces.ILiveStream.is_promised>`."""
        return self.shelf.is_announced(name)

    # ── what the publisher does ──────────────────────────────────────────────────────────────────────────────────────

    @property
    def newest_keyframe(self) -> Frame | None:
        """The newest keyframe of the leading video, as far as it is kept."""
        leading = next((track.id for track in self.tracks if track.kind is MediaKind.VIDEO), 0)
        return next((each for each in self._gop.frames if each.keyframe and each.track.id == leading), None)

    def tracks_changed(self, tracks: tuple[Track, ...]) -> None:
        """The frames that follow are of these tracks."""
        self.tracks = tracks
        self.state = StreamState.LIVE
        self._record(EventType.TRACKS, self.name, self._peer, {"tracks": [_said_of(track) for track in tracks]})
        self._gop.start(tracks)
        self.fan_out.tracks_changed(tracks)

    def frame_received(self, frame: Frame) -> None:
        """Count one frame and hand it to every sink."""
        if frame.arrived_ms >= self._look_ms:
            self._observe(frame)
        self.statistics.count(frame)
        self._newest[frame.track.id] = frame
        self._gop.add(frame)
        self.fan_out.frame_received(frame)

    def metadata_received(self, metadata: TimedMetadata) -> None:
        """Hand what is said about a moment of it to every sink that takes it; nothing while it has no publisher."""
        if self.state is StreamState.LIVE:
            self.fan_out.metadata_received(metadata)

    def discontinuity(self, reason: str) -> None:
        """What follows does not join on to what came before."""
        self.discontinuities += 1
        self._gop.clear()
        self._log.info("{stream}: discontinuity: {reason}", stream=self.name, reason=reason)
        self.fan_out.discontinuity()
        self.wall_clock = WallClockMap()  # not before: sinks still date what they held
        self._look_ms = _AT_ONCE

    def interrupted(self) -> None:
        """The publisher is gone and may return."""
        self.publisher = None
        if self.state is StreamState.LIVE:
            self.fan_out.interrupted()
        self.state = StreamState.INTERRUPTED

    def finish(self) -> Deferred[None]:
        """End the stream; fires when every sink has finished. Nothing may follow."""
        self.state = StreamState.ENDED
        self._gop.clear()
        return self.fan_out.finish()

    def suspend(self) -> Deferred[None]:
        """Leave the interrupted stream to the next server; fires when every sink has written what it held."""
        self._gop.clear()
        return self.fan_out.suspend()

    def leave(self) -> tuple[Mapping[str, Mapping[str, bytes]], Deferred[None]]:
        """
        Leave the interrupted stream to another process; nothing may follow. Its shelf stays as it is.

        :returns: what its sinks leave, by the name of each; and what fires when the others have finished.
        """
        self.state = StreamState.ENDED
        self._gop.clear()
        left, done = self.fan_out.leave()
        return {sink: self._filled(objects) for sink, objects in left.items()}, done

    def _filled(self, objects: Mapping[str, bytes | None]) -> Mapping[str, bytes]:
        """Objects, with those that the shelf has taken from there; what is on it no more is left out."""
        filled: dict[str, bytes] = {}
        for name, body in objects.items():
            found = self.shelf.find(name) if body is None else None
            if body is not None or found is not None:
                filled[name] = found.body if body is None and found is not None else body or b""
        return filled

    @property
    def now_ms(self) -> int:
        """When the newest frame of the leading track is presented, on its own timeline."""
        newest = self._newest.get(self.tracks[0].id) if self.tracks else None
        return newest.pts * 1000 // newest.track.timescale if newest is not None else 0

    @property
    def end_ms(self) -> int:
        """The end of its newest frames on its own timeline, where another publisher may begin."""
        ends = [
            -(-(frame.dts + max(frame.composition_offset, 0) + frame.duration) * 1000 // frame.track.timescale)
            for frame in self._newest.values()
        ]
        return max(ends, default=0)

    def rhythm(self, track: Track, now_ms: int) -> Rhythm:
        """
        What has been measured of one of its tracks; nothing once no frame has come for a while.

        :param now_ms: the time on the clock that frames are stamped with.
        """
        newest = self._newest.get(track.id)
        return Rhythm() if newest is None or now_ms - newest.arrived_ms > SILENT_MS else newest.rhythm

    def advise(self, topic: str, advice: str) -> None:
        """Keep what a sink has to say to the encoder, or with no advice nothing more on that topic."""
        self.advice.pop(topic, None)
        if advice:
            self.advice[topic] = advice

    def notify_viewers(self, notice: str) -> None:
        """Have pages show a sentence, as the object ``NOTICE`` on the shelf; nothing any more if it is empty."""
        if notice != self.notice:
            self.notice = notice
            self._put_notice()

    def _put_notice(self) -> None:
        """Put it on the shelf, empty as well: browsers hold a missing object against the page that asked."""
        self.shelf.put(NOTICE, [json.dumps({"notice": self.notice}).encode()], "application/json", "no-store")

    def is_too_large(self) -> bool:
        """
        Whether what is kept of it for viewers takes more than ``max_bytes``, if there is such a limit. From half of
        that on its playlists are to list less.
        """
        if not self._max_bytes:
            return False
        size = self.shelf.size + self._gop.size
        self.shelf.is_crowded = size > self._max_bytes // 2
        return size > self._max_bytes

    # ── wall clock ───────────────────────────────────────────────────────────────────────────────────────────────────

    def utc_ms(self, ticks: int, timescale: int) -> int:
        """The wall-clock time of a moment of the timeline, in milliseconds since 1970."""
        media_ms = (ticks * 1000 + timescale // 2) // timescale
        utc_ms = self.wall_clock.utc_ms(media_ms)
        return self.started_at_ms + media_ms if utc_ms is None else utc_ms

    def _observe(self, frame: Frame) -> None:
        """Tell the clocks when a frame arrived: the first of a range, the first of a second, and a few between."""
        self._look_ms = min(frame.arrived_ms + OBSERVE_MS, self.statistics.advance(frame.arrived_ms))
        utc_ms = self._utc_of(frame.arrived_ms)
        self.wall_clock.observe(frame.pts * 1000 // frame.track.timescale, utc_ms, frame.arrived_ms)


def _said_of(track: Track) -> Mapping[str, object]:
    """What an event says of a track."""
    config = track.config
    common = {"id": track.id, "kind": track.kind.value, "codec": config.codec_string}
    if isinstance(config, VideoConfig):
        return {**common, "width": config.width, "height": config.height}
    if isinstance(config, AudioConfig):
        return {**common, "sampleRate": config.sample_rate, "channels": config.channels}
    return common
