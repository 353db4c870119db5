"""
The HLS packager: a sink that turns frames into parts, segments and playlists on its stream's shelf.

``Segmenter`` decides where to cut, ``Rendition`` gives what was cut its names and puts it where it belongs; this class
publishes versions of the playlist, and promises in each which part comes next.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from fractions import Fraction

from twisted.internet.defer import Deferred
from zope.interface import implementer

from rapidrtmp.cmaf.segmenter import main_tracks
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.hls.captions import CaptionRenditions
from rapidrtmp.hls.discontinuities import DiscontinuityNumbers
from rapidrtmp.hls.last_keyframes import LastKeyframes
from rapidrtmp.hls.multivariant import Multivariant, Variant
from rapidrtmp.hls.names import (
    MEDIA_PLAYLIST,
    MULTIVARIANT_PLAYLIST,
    REWIND_I_FRAMES,
    REWIND_MULTIVARIANT,
    REWIND_PLAYLIST,
)
from rapidrtmp.hls.picture_rate import PictureRate
from rapidrtmp.hls.playlist import PlaylistWindow
from rapidrtmp.hls.publication import Publication
from rapidrtmp.hls.rendition import Rendition, RenditionOptions
from rapidrtmp.hls.resume.orphaned_media import OrphanedMedia
from rapidrtmp.hls.resume.recovery import HlsRecovery
from rapidrtmp.hls.resume.resume_state import ResumeState
from rapidrtmp.hls.resume.salvage import salvage
from rapidrtmp.hls.rungs import RungSink
from rapidrtmp.hls.track_renditions import TrackRenditions
from rapidrtmp.interfaces import (
    PLAYLIST_TYPE,
    Constants,
    Cutting,
    IAllTracksSink,
    IMovingSink,
    IMovingSinkFactory,
    IRecoveringSinkFactory,
    IRenditionsSink,
    IReplacingSinkFactory,
    IResumableSink,
    ISinkFactory,
    Part,
    Playlist,
    RecoveryContext,
    Rung,
    SinkContext,
)
from rapidrtmp.media import MediaKind, Track
from rapidrtmp.names import I_FRAMES_PLAYLIST, StreamName
from rapidrtmp.support.units import parse_duration_ms

__all__ = ["HlsSink", "HlsSinkFactory"]

#: What a starting server reads back into memory, at most.
MAX_RECOVERED_BYTES = 256 << 20
#: The multivariant playlist waits no longer for tracks that may be worth choosing.
LONGEST_HOLD_MS, LONGEST_HOLD_SEGMENTS = 6_000, 2
#: From the arrival of a part's last frame until the part can be fetched.
LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5)


@implementer(ISinkFactory, IRecoveringSinkFactory, IReplacingSinkFactory, IMovingSinkFactory)
class HlsSinkFactory:
    """
    ``hls:segment=2s:window=10:part=333ms:dvr=2h:keyframes=2s``

    :param segment: segments end at the first keyframe from here on; 1 s to 60 s.
    :param window: how many segments the playlist lists; never less than three target durations of them.
    :param part: about how long the parts of low-latency HLS are; ``0`` for ordinary HLS.
    :param dvr: how far back ``dvr.m3u8`` reaches, over what is stored, from 1 min to 48 h; ``0`` for not at all.
    :param keyframes: how far apart the keyframes of encoders are at most, so that the first low-latency playlist need
        not wait for the first GOP; ``auto`` to go by the stream's last publish, ``0`` to wait for it each time: Shaka
        takes no playlist of parts alone.
    """

    def __init__(
        self,
        segment: str = "2s",
        window: str = "10",
        part: str = "333ms",
        dvr: str = "0",
        keyframes: str = "0",
    ) -> None:
        self.cutting = Cutting(segment_ms=parse_duration_ms(segment), part_ms=parse_duration_ms(part))
        self.window = int(window)
        self.dvr_ms = parse_duration_ms(dvr)
        self._orphans = OrphanedMedia()
        self._resume_state = ResumeState()
        self._discontinuities = DiscontinuityNumbers()
        if not 1_000 <= self.cutting.segment_ms <= 60_000:
            raise ConfigurationError(f"segment={segment}: from 1s to 60s")
        if self.cutting.part_ms and not 100 <= self.cutting.part_ms <= self.cutting.segment_ms:
            raise ConfigurationError(f"part={part}: 0, or from 100ms to the segment duration")
        if not 3 <= self.window <= 100_000:
            raise ConfigurationError(f"window={window}: from 3 to 100000 segments")
        self._last_keyframes = LastKeyframes(remembers=keyframes == "auto" and not self.dvr_ms)
        if keyframes != "auto":
            keyframe_ms = parse_duration_ms(keyframes)
            if keyframe_ms and not 100 <= keyframe_ms <= self.cutting.longest_gop_ms:
                raise ConfigurationError(f"keyframes={keyframes}: auto, 0, or from 100ms to 10s")
            if keyframe_ms and self.dvr_ms:
                raise ConfigurationError("keyframes: with dvr the first playlist waits for a whole segment")
            self.cutting = replace(self.cutting, keyframe_ms=keyframe_ms)
        if self.dvr_ms and not 60_000 <= self.dvr_ms <= 48 * 3_600_000:
            raise ConfigurationError(f"dvr={dvr}: 0, or from 1m to 48h")

    def create(self, context: SinkContext) -> HlsSink:
        """See :meth:`ISinkFactory.create <rapidrtmp.interfaces.ISinkFactory.create>`."""
        self._resume_state.begin(context.stream)
        options = RenditionOptions(self.window, self.dvr_ms, self._orphans, self._resume_state, self._discontinuities)
        keyframe_ms = self.cutting.keyframe_ms or self._last_keyframes.of(context.stream)
        return HlsSink(context, replace(self.cutting, keyframe_ms=keyframe_ms), options, self._last_keyframes)

    def take_over(self, former: object) -> None:
        """See :meth:`IReplacingSinkFactory.take_over <rapidrtmp.interfaces.IReplacingSinkFactory.take_over>`."""
        if isinstance(former, HlsSinkFactory):
            self._orphans = former._orphans
            self._resume_state = former._resume_state
            self._discontinuities = former._discontinuities
            self._last_keyframes.take_over(former._last_keyframes)

    def recover(self, context: RecoveryContext) -> Deferred[None]:
        """See :meth:`IRecoveringSinkFactory.recover <rapidrtmp.interfaces.IRecoveringSinkFactory.recover>`."""
        return Deferred.fromCoroutine(self._make_recovery(context).run())

    def arrive(self, context: RecoveryContext, stream: StreamName, left: Mapping[str, bytes]) -> Deferred[None]:
        """See :meth:`IMovingSinkFactory.arrive <rapidrtmp.interfaces.IMovingSinkFactory.arrive>`."""
        return Deferred.fromCoroutine(self._make_recovery(context).arrive(stream, left))

    def salvage(
        self, playlists: Mapping[str, Playlist], find: Callable[[str], bytes | None], utc_ms: int
    ) -> Mapping[str, bytes]:
        """See :meth:`IMovingSinkFactory.salvage <rapidrtmp.interfaces.IMovingSinkFactory.salvage>`."""
        playlist = playlists.get(MEDIA_PLAYLIST)
        return {} if playlist is None else salvage(playlist, self.window, find, utc_ms)

    def _make_recovery(self, context: RecoveryContext) -> HlsRecovery:
        return HlsRecovery(
            context,
            self.window,
            self._orphans,
            self._resume_state,
            self._discontinuities,
            MAX_RECOVERED_BYTES,
            rewinds=self.dvr_ms > 0,
        )


@implementer(IAllTracksSink, IMovingSink, IRenditionsSink, IResumableSink)
class HlsSink:
    """
    Publishes one stream.

    :ivar constants: what the playlist promises; ``None`` until that is chosen.
    """

    leads = True
    has_renditions = True

    def __init__(
        self, context: SinkContext, cutting: Cutting, options: RenditionOptions, last_keyframes: LastKeyframes
    ) -> None:
        self._context = context
        self._options = options
        self._last_keyframes = last_keyframes
        self._shelf = context.shelf
        self.cutting = cutting
        self.constants: Constants | None = None
        self._publication = Publication(context, MEDIA_PLAYLIST)
        self._tracks: tuple[Track, ...] = ()
        self._rendition: Rendition | None = None
        self._of_tracks = TrackRenditions(context, options.window)
        self._multivariant = Multivariant(MEDIA_PLAYLIST, options.dvr_ms if context.storage.persistent else 0)
        self._pictures = PictureRate()
        self._captions = CaptionRenditions(context, options.window)
        self._hinted = ""  # the part that was promised and is not up yet
        self._expects_end = False  # whether the open segment should end with its newest part
        self._end = 0  # of the newest part, in ticks
        self._newest: Part | None = None  # the newest part that no version lists
        self._has_news = False  # whether there is anything that the last version does not say
        self._frame_rate: Fraction | None = None
        self._has_multivariant = False  # whether it was clear at some time what there is to choose from
        self._multivariant_text = b""
        self._is_multivariant_up = False
        self._rungs: list[RungSink] = []
        self._announced_rungs: dict[str, str] = {}  # by the name of its playlist, what may come and is not known yet
        self._expected_rungs: frozenset[str] | None = frozenset()  # ``None`` while it is open which there will be
        self._is_paused = False  # whether there are none until viewers ask for what there is to choose from
        self._listed_ms = 0  # how long the segments are that this sink has completed
        self._held_from_ms = 0  # how long they were when the multivariant playlist was first held
        self._latency = context.metrics.histogram(
            "part_publish_delay_seconds", "From the arrival of a part's last frame to its publication", LATENCY_BUCKETS
        )
        self._hints_withdrawn = context.metrics.counter(
            "hints_withdrawn_total", "Parts that were hinted at and did not come, at the end of a stream among others"
        )
        self._shelf.announce(MEDIA_PLAYLIST)
        self._shelf.announce(MULTIVARIANT_PLAYLIST)
        if options.dvr_ms:
            self._announce_rewind()
        if context.recovered:
            self._resume(context.recovered)

    # ── IPartSink ────────────────────────────────────────────────────────────────────────────────────────────────────

    def tracks_changed(self, tracks: tuple[Track, ...]) -> None:
        """See :meth:`IPartSink.tracks_changed <rapidrtmp.interfaces.IPartSink.tracks_changed>`."""
        self._tracks = main_tracks(tracks)
        self._of_tracks.tracks_changed(tracks)
        if self._rendition is not None:
            self._rendition.tracks_changed(self._tracks)

    def constants_chosen(self, constants: Constants) -> None:
        """See :meth:`IPartSink.constants_chosen <rapidrtmp.interfaces.IPartSink.constants_chosen>`."""
        if self._rendition is None:
            part_target_ms = constants.part_target_ms if self.cutting.part_ms else 0
            self._rendition = self._open_rendition(Constants(constants.target_s, part_target_ms))
            self._rendition.leads_in = constants.is_early and part_target_ms > 0

    def frame_rate_measured(self, frame_rate: Fraction | None) -> None:
        """See :meth:`IPartSink.frame_rate_measured <rapidrtmp.interfaces.IPartSink.frame_rate_measured>`."""
        self._frame_rate = frame_rate

    def part_cut(self, part: Part) -> None:
        """See :meth:`IPartSink.part_cut <rapidrtmp.interfaces.IPartSink.part_cut>`."""
        rendition, whole = self._published, part
        if self._of_tracks:
            part = part.of([track.id for track in self._tracks])
        self._newest = part
        if part.starts_segment:
            self._pictures.begin(part, 1000 * rendition.window.constants.target_s)
            self._captions.begin(part, self._tracks[0].timescale)
            self._last_keyframes.saw(self._context.stream, part)
        if self._hinted not in ("", rendition.next_part):
            self._expects_end = False
            self._put_version(rendition, rendition.next_part)  # players learn that another one comes before it does
        if part.runs:
            self._hinted = ""
        else:
            self._take_back_hint()
        if self._of_tracks and rendition.window.open is None:
            self._of_tracks.begin(rendition.window)
        rendition.put_part(part)
        self._of_tracks.put_part(whole, rendition.window)
        self._end = part.end
        self._expects_end = part.expected_last
        self._has_news |= rendition.window.has_parts

    def segment_ended(self) -> None:
        """See :meth:`IPartSink.segment_ended <rapidrtmp.interfaces.IPartSink.segment_ended>`."""
        rendition = self._published
        size = rendition.open_bytes
        segment = rendition.complete_segment(self._end)
        self._of_tracks.complete_segment(self._end)
        self._expects_end = False
        self._has_news = True
        self._listed_ms += segment.duration_ms
        if not segment.gap:
            self._multivariant.measure(size, segment.duration_ms, 1000 * rendition.window.constants.target_s)
        self._pictures.complete(segment.duration_ms, 1000 * rendition.window.constants.target_s)
        self._captions.complete(segment, rendition.window)

    def segment_continued(self) -> None:
        """See :meth:`IPartSink.segment_continued <rapidrtmp.interfaces.IPartSink.segment_continued>`."""
        self._expects_end = False
        self._has_news = True

    def flushed(self) -> None:
        """See :meth:`IPartSink.flushed <rapidrtmp.interfaces.IPartSink.flushed>`: publish all at once."""
        if not self._has_news:
            return
        rendition, newest = self._published, self._newest
        self._has_news, self._newest = False, None
        if newest is not None:
            self._measure_opening(rendition, newest.end)
        self._put_version(rendition)
        self._publish_multivariant(rendition)
        if newest is not None:
            self._observe_delay(newest)

    def discontinuity(self) -> None:
        """See :meth:`IPartSink.discontinuity <rapidrtmp.interfaces.IPartSink.discontinuity>`."""
        if self._rendition is not None:
            self._rendition.broken = True

    def interrupted(self) -> None:
        """See :meth:`IPartSink.interrupted <rapidrtmp.interfaces.IPartSink.interrupted>`."""

    def finish(self) -> None:
        """See :meth:`IPartSink.finish <rapidrtmp.interfaces.IPartSink.finish>`."""
        rendition = self._rendition
        if rendition is None:
            self._withdraw_all()
            return
        rendition.end()
        self._take_back_rungs(())
        self._of_tracks.end()
        self._captions.end(rendition.window)
        self._put_version(rendition)
        if self._is_paused:
            self.expect_renditions(())

    def suspend(self) -> None:
        """
        See :meth:`IResumableSink.suspend <rapidrtmp.interfaces.IResumableSink.suspend>`.

        The open segment was completed when the publisher was gone. All that the next server needs is stored, or waits
        for the storage.
        """
        if self._rendition is None:
            self._withdraw_all()
        else:
            self._rendition.suspend()

    def leave(self) -> Mapping[str, bytes | None]:
        """See :meth:`IMovingSink.leave <rapidrtmp.interfaces.IMovingSink.leave>`."""
        rendition = self._rendition
        if rendition is None or not rendition.window.segments:
            return {}
        return {MULTIVARIANT_PLAYLIST: None, **rendition.leave()}

    def _withdraw_all(self) -> None:
        """Take back the playlists, of which there was none yet."""
        for name in (MEDIA_PLAYLIST, MULTIVARIANT_PLAYLIST, REWIND_PLAYLIST):
            self._shelf.withdraw(name)
        self._take_back_rungs(())

    # ── IRenditionsSink ──────────────────────────────────────────────────────────────────────────────────────────────

    def announce_renditions(self, names: Collection[str]) -> None:
        """See :class:`IRenditionsSink <rapidrtmp.interfaces.IRenditionsSink>`."""
        self._announced_rungs = {f"{name}/{MEDIA_PLAYLIST}": name for name in names}
        for playlist in self._announced_rungs:
            self._shelf.announce(playlist)

    def _take_back_rungs(self, expected: Collection[str]) -> None:
        """Take back those that were announced and do not come."""
        for playlist, name in self._announced_rungs.items():
            if name not in expected and name not in self._of_tracks.rungs:
                self._shelf.withdraw(playlist)
        self._announced_rungs = {}

    def expect_renditions(self, names: Collection[str] | None) -> None:
        """See :meth:`IRenditionsSink.expect_renditions <rapidrtmp.interfaces.IRenditionsSink.expect_renditions>`."""
        self._expected_rungs = None if names is None else frozenset(names)
        if names is not None:
            self._take_back_rungs(names)
        if self._is_paused:
            self._is_paused = self._has_multivariant = False
            self._held_from_ms = self._reached_ms
        if names is not None and self._rendition is not None:
            self._publish_multivariant(self._rendition)

    def pause_renditions(self) -> None:
        """See :meth:`IRenditionsSink.pause_renditions <rapidrtmp.interfaces.IRenditionsSink.pause_renditions>`."""
        self._expected_rungs = frozenset()
        self._is_paused, self._is_multivariant_up = True, False
        for rung in self._rungs:
            rung.pause()
        self._shelf.withdraw(MULTIVARIANT_PLAYLIST)
        self._shelf.announce(MULTIVARIANT_PLAYLIST)

    def open_rendition(self, rung: Rung) -> RungSink:
        """See :meth:`IRenditionsSink.open_rendition <rapidrtmp.interfaces.IRenditionsSink.open_rendition>`."""
        window, others = self._options.window, self._of_tracks
        self._rungs.append(RungSink(self._context, rung, window, others, self._window, self._rung_published))
        return self._rungs[-1]

    def _window(self) -> PlaylistWindow:
        return self._published.window

    def _rung_published(self) -> None:
        self._publish_multivariant(self._published)

    # ── the rendition ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _published(self) -> Rendition:
        assert self._rendition is not None, "constants are chosen before the first part"
        return self._rendition

    def _open_rendition(self, constants: Constants) -> Rendition:
        self.constants = constants
        rendition = Rendition.begin(self._context, self._options, constants)
        rendition.tracks_changed(self._tracks)
        self._context.log.info(
            "{stream}: HLS started, target duration {target_s} s, part target {part_ms} ms",
            stream=self._context.stream,
            target_s=constants.target_s,
            part_ms=constants.part_target_ms,
        )
        return rendition

    def _resume(self, stored: Mapping[str, bytes]) -> None:
        """Continue what an earlier process left, and wait for a publisher."""
        rendition = self._rendition = Rendition.resume(self._context, self._options, stored)
        self.constants = rendition.window.constants
        for segment in rendition.window.segments:
            if not segment.gap:
                target_ms = 1000 * rendition.window.constants.target_s
                self._multivariant.measure(len(stored[segment.uri]), segment.duration_ms, target_ms)
        if MULTIVARIANT_PLAYLIST in stored:
            self._put_multivariant(rendition, stored[MULTIVARIANT_PLAYLIST])
        self._put_version(rendition)

    # ── versions and promises ────────────────────────────────────────────────────────────────────────────────────────

    def _put_version(self, rendition: Rendition, coming: str = "") -> None:
        """
        Publish the playlist as it is now; promise the next part, and take back a promise that was not kept.

        :param coming: the name of that part, where it is at hand.
        """
        hint = self._hint(rendition, coming)
        if self._hinted != hint:
            self._take_back_hint()
        if hint:
            self._shelf.announce(hint)
        self._hinted = hint
        self._publication.put(rendition.window.version(hint, self._of_tracks.reports))
        self._of_tracks.publish(hint, rendition.window)

    def _take_back_hint(self) -> None:
        if self._hinted:
            self._shelf.withdraw(self._hinted)
            self._hints_withdrawn.inc()
            self._hinted = ""

    def _hint(self, rendition: Rendition, coming: str) -> str:
        """The name of the part that should come next; empty if there are none."""
        window = rendition.window
        if window.ended or not window.has_parts:
            return ""
        if coming:
            return coming
        return rendition.first_of_next if self._expects_end or rendition.broken else rendition.next_part

    def _announce_rewind(self) -> None:
        if self._context.storage.persistent:
            self._shelf.announce(REWIND_PLAYLIST)
        else:
            self._context.log.warn(
                "{stream} has no {name}: hls:dvr needs a storage that keeps what is written",
                stream=self._context.stream,
                name=REWIND_PLAYLIST,
            )

    # ── the multivariant playlist ────────────────────────────────────────────────────────────────────────────────────

    def _measure_opening(self, rendition: Rendition, end: int) -> None:
        """As long as the first segment is open, its rate is not known: go by what there is of it."""
        opened = rendition.window.open
        if opened is not None and all(segment.gap for segment in rendition.window.segments):
            self._multivariant.measure_opening(rendition.open_bytes, (end - opened.start) * 1000 // opened.timescale)

    def _publish_multivariant(self, rendition: Rendition) -> None:
        """Put it up when there is something measured, and again when it would say something else."""
        others = self._of_tracks
        if not self._is_paused and not self._is_settled(rendition):
            return
        for rung in others.rungs.values():
            rung.frame_rate = self._frame_rate  # they have a picture for each of the source's
        pictures = [*self._i_frames(I_FRAMES_PLAYLIST), *others.pictures]
        data = self._multivariant.render_if_changed(
            self._tracks, self._frame_rate, others.video, others.audio, pictures, self._captions.tracks
        )
        if data is not None:
            self._multivariant_text, self._is_multivariant_up = data, False
            muxed = self._multivariant.render_muxed(self._tracks, self._frame_rate)  # for nothing else is stored
            rendition.put_multivariant(MULTIVARIANT_PLAYLIST, muxed)
            if self._options.dvr_ms and self._context.storage.persistent:
                pictures = self._i_frames(REWIND_I_FRAMES)
                data = self._multivariant.render_rewind(REWIND_PLAYLIST, self._tracks, self._frame_rate, pictures)
                self._put_multivariant(rendition, data, REWIND_MULTIVARIANT)
        if not self._is_paused and not self._is_multivariant_up:
            self._is_multivariant_up = True
            self._put_multivariant(rendition, self._multivariant_text)

    def _i_frames(self, uri: str) -> list[Variant]:
        """What lists the pictures of the leading track, if it has any."""
        track = self._tracks[0]
        return [Variant(uri, (track,), self._pictures)] if track.kind is MediaKind.VIDEO and self._pictures.peak else []

    def _is_settled(self, rendition: Rendition) -> bool:
        """
        Whether it is clear what there is to choose from. Players read the multivariant playlist once, so it is held as
        long as it is not, but no longer than for some seconds; for tracks that may come, no longer than two segments.
        """
        if self._has_multivariant:
            return True
        segments = rendition.window.segments
        is_awaited = len(segments) < LONGEST_HOLD_SEGMENTS and bool(self._context.expected_tracks())
        is_awaited |= self._awaits_rungs or self._of_tracks.is_undecided
        self._has_multivariant = not is_awaited or self._reached_ms - self._held_from_ms >= LONGEST_HOLD_MS
        return self._has_multivariant

    @property
    def _awaits_rungs(self) -> bool:
        """Whether rungs should come that cannot be chosen yet."""
        rungs = self._of_tracks.rungs
        expected = self._expected_rungs
        return expected is None or any(name not in rungs or not rungs[name].is_offered for name in expected)

    @property
    def _reached_ms(self) -> int:
        """How long the segments are that have come, the open one among them."""
        opened = None if self._rendition is None else self._rendition.window.open
        return self._listed_ms + (0 if opened is None else (self._end - opened.start) * 1000 // opened.timescale)

    def _put_multivariant(self, rendition: Rendition, data: bytes, name: str = MULTIVARIANT_PLAYLIST) -> None:
        max_age_s = rendition.window.constants.target_s
        self._shelf.put(name, [data], PLAYLIST_TYPE, f"max-age={max_age_s}")

    def _observe_delay(self, part: Part) -> None:
        if part.runs:
            arrived_ms = max(run.samples[-1].frame.arrived_ms for run in part.runs)
            self._latency.observe(max(0.0, self._context.clock.seconds() - arrived_ms / 1000))
