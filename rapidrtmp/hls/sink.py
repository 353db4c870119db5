"""
The HLS packager: a sink that turns frames into parts, segments and playlists on its stream's shelf.

``Segmenter`` decides where to cut, ``write_fragment`` turns a part into bytes, ``PlaylistWindow`` says so; this class
gives things their names and puts them where they belong, in an order in which no playlist ever names what is not up
yet. A segment is the concatenation of its parts, octet for octet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from zope.interface import implementer

from rapidrtmp.dvr.journal import Header
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.hls.gate import PlaylistGate
from rapidrtmp.hls.grid import Constants, Cutting
from rapidrtmp.hls.leftovers import Leftovers
from rapidrtmp.hls.mirror import MEDIA_TYPE, PLAYLIST_TYPE, SEGMENT_TYPE, Mirror
from rapidrtmp.hls.multivariant import Multivariant
from rapidrtmp.hls.names import (
    MEDIA_PLAYLIST,
    MULTIVARIANT_PLAYLIST,
    REWIND_PLAYLIST,
    STATE,
    init_name,
    is_init,
    part_name,
    segment_name,
)
from rapidrtmp.hls.parser import parse_media_playlist
from rapidrtmp.hls.playlist import ListedPart, ListedSegment, PlaylistWindow, render_seconds
from rapidrtmp.hls.present import Expecting, Present
from rapidrtmp.hls.recovery import HlsRecovery
from rapidrtmp.hls.resume import named_media, reopen
from rapidrtmp.hls.rewind import Rewind
from rapidrtmp.hls.segmenter import Part, Segmenter
from rapidrtmp.hls.state import MirrorState
from rapidrtmp.interfaces import IRecoveringSinkFactory, ISink, ISinkFactory, RecoveryContext, SinkContext
from rapidrtmp.media import Frame, Track
from rapidrtmp.mp4.fragment import write_fragment
from rapidrtmp.mp4.init_segment import write_init_segment
from rapidrtmp.units import parse_duration_ms

__all__ = ["HlsSink", "HlsSinkFactory"]

#: What a starting server reads back into memory, at most.
MAX_RECOVERED_BYTES = 256 << 20
#: From the arrival of a part's last frame until the part can be fetched.
LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5)


@implementer(ISinkFactory, IRecoveringSinkFactory)
class HlsSinkFactory:
    """
    ``hls:segment=2s:window=10:part=333ms:dvr=2h``

    :param segment: segments end at the first keyframe from here on; 1 s to 60 s.
    :param window: how many segments the playlist lists; never less than three target durations of them.
    :param part: about how long the parts of low-latency HLS are; ``0`` for ordinary HLS.
    :param dvr: how far back ``dvr.m3u8`` reaches, over what is stored, from 1 min to 48 h; ``0`` for not at all.
    """

    def __init__(self, segment: str = "2s", window: str = "10", part: str = "333ms", dvr: str = "0") -> None:
        self.cutting = Cutting(segment_ms=parse_duration_ms(segment), part_ms=parse_duration_ms(part))
        self.window = int(window)
        self.dvr_ms = parse_duration_ms(dvr)
        self._leftovers = Leftovers()
        self._present = Present()
        if not 1_000 <= self.cutting.segment_ms <= 60_000:
            raise ConfigurationError(f"segment={segment}: from 1s to 60s")
        if self.cutting.part_ms and not 100 <= self.cutting.part_ms <= self.cutting.segment_ms:
            raise ConfigurationError(f"part={part}: 0, or from 100ms to the segment duration")
        if not 3 <= self.window <= 100_000:
            raise ConfigurationError(f"window={window}: from 3 to 100000 segments")
        if self.dvr_ms and not 60_000 <= self.dvr_ms <= 48 * 3_600_000:
            raise ConfigurationError(f"dvr={dvr}: 0, or from 1m to 48h")

    def create(self, context: SinkContext) -> HlsSink:
        """See :meth:`ISinkFactory.create <rapidrtmp.interfaces.ISinkFactory.create>`."""
        self._present.begin(context.stream)
        return HlsSink(context, self.cutting, self.window, self._leftovers, self._present, self.dvr_ms)

    def recover(self, context: RecoveryContext) -> Deferred[None]:
        """See :meth:`IRecoveringSinkFactory.recover <rapidrtmp.interfaces.IRecoveringSinkFactory.recover>`."""
        recovery = HlsRecovery(
            context, self.window, self._leftovers, self._present, MAX_RECOVERED_BYTES, rewinds=self.dvr_ms > 0
        )
        return Deferred.fromCoroutine(recovery.run())


@dataclass(slots=True, eq=False)
class _Retired:
    """Names that are no longer listed and go down later."""

    names: list[str]
    until_ms: int


@implementer(ISink)
class HlsSink:
    """Packages one stream."""

    def __init__(
        self,
        context: SinkContext,
        cutting: Cutting,
        window_size: int,
        leftovers: Leftovers,
        present: Present,
        dvr_ms: int,
    ) -> None:
        self._context = context
        self._leftovers = leftovers
        self._present = present
        self._shelf = context.shelf
        self._window_size = window_size
        self._segmenter = Segmenter(cutting)
        self._gate = PlaylistGate(context, MEDIA_PLAYLIST)
        self._tracks: tuple[Track, ...] = ()
        self._window: PlaylistWindow | None = None
        self._mirror: Mirror | None = None
        self._dvr_ms = dvr_ms
        self._rewind: Rewind | None = None
        self._multivariant = Multivariant(MEDIA_PLAYLIST, dvr_ms if context.storage.persistent else 0)
        self._init_name = ""
        self._init = b""
        self._fragments = 0
        self._hinted = ""  # the part that was promised and is not up yet
        self._broken = False  # whether the next segment does not join on to the last
        self._pieces: list[bytes] = []  # of the open segment
        self._media_ms = 0  # how much has been listed in all, for retirement
        self._retired: deque[_Retired] = deque()
        self._segments_created = context.metrics.counter("segments_created_total", "Segments published")
        self._parts_created = context.metrics.counter("parts_created_total", "Parts published")
        self._latency = context.metrics.histogram(
            "part_publish_delay_seconds", "From the arrival of a part's last frame to its publication", LATENCY_BUCKETS
        )
        self._shelf.announce(MEDIA_PLAYLIST)
        self._shelf.announce(MULTIVARIANT_PLAYLIST)
        if dvr_ms:
            self._announce_rewind()
        if context.recovered:
            self._resume(context.recovered)

    # ── ISink ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def tracks_changed(self, tracks: tuple[Track, ...]) -> None:
        """See :meth:`ISink.tracks_changed <rapidrtmp.interfaces.ISink.tracks_changed>`."""
        self._tracks = tracks
        self._segmenter.start(tracks)

    def frame_received(self, frame: Frame) -> None:
        """See :meth:`ISink.frame_received <rapidrtmp.interfaces.ISink.frame_received>`."""
        parts = self._segmenter.add(frame)
        if parts:
            self._publish(parts)

    def discontinuity(self) -> None:
        """See :meth:`ISink.discontinuity <rapidrtmp.interfaces.ISink.discontinuity>`."""
        self.interrupted()
        self._broken = self._window is not None

    def interrupted(self) -> None:
        """See :meth:`ISink.interrupted <rapidrtmp.interfaces.ISink.interrupted>`."""
        if self._tracks:
            parts = self._segmenter.flush()
            if parts:
                self._publish(parts)

    def finish(self) -> None:
        """See :meth:`ISink.finish <rapidrtmp.interfaces.ISink.finish>`."""
        self.interrupted()
        window = self._window
        if window is None:
            self._shelf.withdraw(MEDIA_PLAYLIST)
            self._shelf.withdraw(MULTIVARIANT_PLAYLIST)
            self._shelf.withdraw(REWIND_PLAYLIST)
            return
        self._announce("")
        window.ended = True
        self._gate.put(window.render())
        if self._mirror is not None:
            self._mirror.end()
            self._leftovers.leave(self._context.stream, self._mirror.media)

    # ── parts ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _publish(self, parts: list[Part]) -> None:
        """Put parts up, then say so, once for all of them."""
        window = self._window or self._open_window(self._segmenter.constants)
        for part in parts:
            self._put_part(window, part)
        if not window.segments and window.open is not None:  # the first segment's rate: go by what there is of it
            end = parts[-1].start + parts[-1].duration
            opened_ms = (end - window.open.start) * 1000 // self._tracks[0].timescale
            self._multivariant.measure_opening(sum(map(len, self._pieces)), opened_ms)
        hint = self._hint(window)
        self._announce(hint)
        self._gate.put(window.render(hint))
        self._publish_multivariant(window)
        self._observe_delay(parts[-1])

    def _measure_opening(self, first: ListedSegment, latest: Part) -> None:
        """The rate of the first segment is not known yet: go by what there is of it."""
        opened_ms = (latest.start + latest.duration - first.start) * 1000 // first.timescale
        self._multivariant.measure_opening(sum(map(len, self._pieces)), opened_ms)

    def _open_window(self, constants: Constants | None) -> PlaylistWindow:
        assert constants is not None
        context = self._context
        window = PlaylistWindow(constants, self._window_size, context.first_sequence)
        if context.storage.persistent:
            self._open_mirror(PlaylistWindow(constants, self._window_size, context.first_sequence))
        context.log.info(
            "{stream} is on HLS: target duration {target_s} s, part target {part_ms} ms",
            stream=context.stream,
            target_s=constants.target_s,
            part_ms=constants.part_target_ms,
        )
        self._window = window
        return window

    def _announce_rewind(self) -> None:
        if self._context.storage.persistent:
            self._shelf.announce(REWIND_PLAYLIST)
        else:
            self._context.log.warn(
                "{stream} has no {name}: hls:dvr needs a storage that keeps what is written",
                stream=self._context.stream,
                name=REWIND_PLAYLIST,
            )

    def _open_mirror(self, window: PlaylistWindow) -> None:
        context = self._context
        if self._dvr_ms:
            self._rewind = Rewind(
                context.shelf,
                context.storage,
                str(context.stream),
                window.constants,
                self._dvr_ms,
                window.next_sequence,
            )
        self._mirror = Mirror(
            context.storage,
            str(context.stream),
            window,
            keep_for=self._window_size,
            leftovers=self._leftovers.take(context.stream),
            rewind=self._rewind,
        )

    # ── a stream that an earlier process left ────────────────────────────────────────────────────────────────────────

    def _resume(self, stored: Mapping[str, bytes]) -> None:
        """Put up again what is stored, and wait for a publisher; what it sends comes behind a discontinuity."""
        constants = MirrorState.parse(stored[STATE]).constants
        playlist = parse_media_playlist(stored[MEDIA_PLAYLIST])
        window = self._window = reopen(playlist, constants, self._window_size)
        self._segmenter.constants = constants
        self._broken = True
        for name in named_media(window) & stored.keys():
            self._shelf.put(name, [stored[name]], MEDIA_TYPE if is_init(name) else SEGMENT_TYPE)
        for segment in window.segments:
            self._media_ms += segment.duration_ms
            if not segment.gap:
                self._multivariant.measure(len(stored[segment.uri]), segment.duration_ms)
        if MULTIVARIANT_PLAYLIST in stored:
            self._put_multivariant(window, stored[MULTIVARIANT_PLAYLIST])
        if self._context.storage.persistent:
            self._open_mirror(reopen(playlist, constants, self._window_size))
        if self._rewind is not None:
            discontinuities = window.discontinuity_sequence + sum(each.discontinuity for each in window.segments)
            self._rewind.expect(window.segments, {name: len(data) for name, data in stored.items()}, discontinuities)
            self._present.rewinds[self._context.stream] = Expecting(self._rewind, self._rewind_returned)
        hint = self._hint(window)
        self._announce(hint)
        self._gate.put(window.render(hint))

    def _rewind_returned(self) -> None:
        """The rewind window is whole again; if the stream has ended meanwhile, more is left of it than was known."""
        if self._mirror is not None and self._window is not None and self._window.ended:
            self._leftovers.leave(self._context.stream, self._mirror.media)

    def _hint(self, window: PlaylistWindow) -> str:
        """The name of the part that comes next; empty if there are none."""
        if not window.has_parts:
            return ""
        if window.open is not None:
            return part_name(window.open.sequence, len(window.open.parts))
        return part_name(window.next_sequence, 0)

    def _announce(self, hint: str) -> None:
        """Promise the next part, and take back a promise that was not kept."""
        if self._hinted not in ("", hint):
            self._shelf.withdraw(self._hinted)
        self._hinted = hint
        if hint:
            self._shelf.announce(hint)

    def _put_part(self, window: PlaylistWindow, part: Part) -> None:
        segment = self._begin_segment(window, part) if window.open is None else window.open
        name = part_name(segment.sequence, len(segment.parts))
        if part.runs:
            self._hinted = "" if name == self._hinted else self._hinted
            self._fragments += 1
            data = b"".join(write_fragment(self._fragments, part.runs))
            self._pieces.append(data)
            if window.has_parts:
                self._shelf.put(name, [data], SEGMENT_TYPE)
        seconds = render_seconds(part.start, part.start + part.duration, segment.timescale)
        segment.add(ListedPart(name, seconds, part.independent, gap=not part.runs))
        self._parts_created.inc()
        if part.ends_segment:
            self._complete_segment(window, segment, part.start + part.duration)

    def _begin_segment(self, window: PlaylistWindow, part: Part) -> ListedSegment:
        timescale = self._tracks[0].timescale
        utc_ms = self._context.utc_ms(part.start_pts, timescale)
        self._put_init(window, utc_ms)
        segment = window.begin_segment(
            map_uri=self._init_name,
            utc_ms=utc_ms,
            discontinuity=self._broken,
            start=part.start,
            timescale=timescale,
            keyframe=part.on_keyframe,
        )
        self._broken = False
        return segment

    def _put_init(self, window: PlaylistWindow, utc_ms: int) -> None:
        """Put up an init segment if the tracks need another than the last; its name is never used again."""
        init = write_init_segment(self._tracks)
        if init == self._init:
            return
        self._init, self._init_name = init, init_name(window.next_sequence)
        self._shelf.put(self._init_name, [init], MEDIA_TYPE)
        if self._mirror is not None:
            self._mirror.put_init(self._init_name, init)
        if self._rewind is not None:
            app, key = self._context.stream
            target_s = window.constants.target_s
            header = Header.of_tracks(app, key, utc_ms, target_s, self._tracks, init)
            self._rewind.begin_run(self._init_name, header)

    def _complete_segment(self, window: PlaylistWindow, segment: ListedSegment, end: int) -> None:
        uri = segment_name(segment.sequence)
        pieces, self._pieces = self._pieces, []
        segment.gap = not pieces
        if pieces:
            self._shelf.put(uri, pieces, SEGMENT_TYPE)
        removed = window.complete_segment(uri, end)
        self._media_ms += segment.duration_ms
        self._multivariant.measure(sum(map(len, pieces)), segment.duration_ms)
        self._segments_created.inc()
        if self._mirror is not None:
            self._mirror.put_segment(segment, pieces)
        self._retire(window, removed)

    # ── what is no longer listed ─────────────────────────────────────────────────────────────────────────────────────

    def _retire(self, window: PlaylistWindow, removed: list[ListedSegment]) -> None:
        """
        Let what left the playlist be fetched for as long as the segment and the longest playlist that held it last
        (RFC 8216, 6.2.2), then take it down. Time is that of the media: a publisher that sends faster than that can
        not make the server keep more.
        """
        listed_ms = sum(segment.duration_ms for segment in (*removed, *window.segments))
        for segment in removed:
            names = [segment.uri, *(part.uri for part in segment.parts)]
            if all(other.map_uri != segment.map_uri for other in window.segments):
                names.append(segment.map_uri)
            self._retired.append(_Retired(names, self._media_ms + listed_ms + segment.duration_ms))
        while self._retired and self._retired[0].until_ms <= self._media_ms:
            for name in self._retired.popleft().names:
                self._shelf.withdraw(name)

    # ── the multivariant playlist ────────────────────────────────────────────────────────────────────────────────────

    def _publish_multivariant(self, window: PlaylistWindow) -> None:
        """Put it up when there is something measured, and again when it would say something else."""
        data = self._multivariant.render_if_changed(self._tracks, self._segmenter.frame_rate)
        if data is None:
            return
        self._put_multivariant(window, data)
        if self._mirror is not None:
            self._mirror.put_multivariant(MULTIVARIANT_PLAYLIST, data)

    def _put_multivariant(self, window: PlaylistWindow, data: bytes) -> None:
        self._shelf.put(MULTIVARIANT_PLAYLIST, [data], PLAYLIST_TYPE, f"max-age={window.constants.target_s}")

    def _observe_delay(self, part: Part) -> None:
        if part.runs:
            arrived_ms = max(run.samples[-1].frame.arrived_ms for run in part.runs)
            self._latency.observe(max(0.0, self._context.clock.seconds() - arrived_ms / 1000))
