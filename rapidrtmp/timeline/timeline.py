"""
The live stream's own timeline: from coded frames on the publisher's clock to frames in ticks of their tracks.

The timeline consists of ranges. A new one begins where the publisher's clock is new or the tracks are: at the start,
where the clock has jumped, where a codec config has changed or a late track has come. No range begins before all of the
last one has ended, so decode times rise over the whole life of the stream.

``WireClock`` unwraps, ``JumpGuard`` says when the clock has jumped, ``StartWindow`` holds what a range begins with, and
``MediaRange`` puts frames in their place; this module is where they meet. Either a window is open or a range runs.

Tracks are distinguished by their ids. Of several video tracks one *leads*, the one with the lowest id: new tracks begin
where it has a keyframe, so that what continues loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction

from rapidrtmp.media import MediaKind, Track, VideoConfig
from rapidrtmp.timeline.events import Coded, Discontinuity, MediaEvent, MediaProblem, PublisherUnusable, TracksChanged
from rapidrtmp.timeline.frame_rate import FrameStep
from rapidrtmp.timeline.jumps import Judged, JumpGuard, Step
from rapidrtmp.timeline.media_range import Lane, MediaRange
from rapidrtmp.timeline.pace import Pace
from rapidrtmp.timeline.policy import TimelinePolicy
from rapidrtmp.timeline.rhythm import RhythmMeter
from rapidrtmp.timeline.start_window import StartWindow
from rapidrtmp.timeline.storm import StormWatch
from rapidrtmp.timeline.unwrap import WireClock
from rapidrtmp.timeline.video_clock import sane_composition

__all__ = ["Timeline"]

_NS_PER_MS = 1_000_000


class Timeline:
    """
    Carries one publisher's tracks onto the stream's timeline.

    All methods append what happened to the ``events`` they are given.

    :param policy: the thresholds.
    :param start_ms: where on the stream's timeline the first frame lands.
    """

    def __init__(self, policy: TimelinePolicy, start_ms: int) -> None:
        self._policy = policy
        self._start_ms = start_ms
        self._wire = WireClock(policy.wrap_24_ms)
        self._jumps = JumpGuard(policy)
        self._shifts = self._jumps.shifts
        self._meters: dict[int, RhythmMeter] = {}
        self._storm = StormWatch(policy.storm_breaks, policy.storm_ms)
        self._tracks: dict[int, Track] = {}  # as the publisher has configured them
        self._current: dict[int, Track] = {}
        #: Tracks that differ from the announced ones: late ones, and changed ones until the next range.
        self._changed: set[int] = set()
        self._waiting_since_ns: dict[int, int] = {}  # since when frames of those have been dropped
        self._announced: set[MediaKind] = set()
        self._left_out: set[MediaKind] = set()
        self._claim: Fraction | None = None
        self._range: MediaRange | None = None
        self._window: StartWindow | None = StartWindow(policy, kinds=MediaKind)
        self._lanes: Mapping[int, Lane] = {}  # those of the range while it runs and no track is another; else none

    @property
    def end_ms(self) -> int:
        """Where the latest frame ends, in milliseconds, rounded up; ``start_ms`` before the first."""
        return self._start_ms if self._range is None else self._range.end_ms

    @property
    def missing(self) -> frozenset[MediaKind]:
        """The kinds of track that were announced or configured, but of which no frame could be used."""
        held = self._window.ready if self._window is not None else ()
        here = {*self._current.values(), *(self._tracks[track_id] for track_id in held)}
        return self.promised - {track.kind for track in here}

    @property
    def promised(self) -> frozenset[MediaKind]:
        """The kinds of track that were announced or configured."""
        return frozenset(self._announced | {track.kind for track in self._tracks.values()})

    def pace(self, track_id: int) -> Pace:
        """How a track's frames keep pace with the server's clock; the same object for ever."""
        return self._jumps.pace(track_id)

    def meter(self, track_id: int) -> RhythmMeter:
        """What measures a video track; the same object for ever."""
        return self._meters.setdefault(track_id, RhythmMeter())

    def announced(self, kinds: Iterable[MediaKind], rate: Fraction | None) -> None:
        """Learn what metadata promises: tracks to wait for a little longer, and a frame rate to try."""
        self._announced.update(set(kinds) - self._left_out)
        self._claim = rate or self._claim

    def leave_out(self, kind: MediaKind, track_id: int) -> None:
        """
        Learn that a track of this kind has come that cannot be taken: wait for none, and miss none.

        :param track_id: its id; it may have been configured, if its frames are not what that says.
        """
        self._left_out.add(kind)
        self._announced.discard(kind)
        is_held = self._window is not None and track_id in self._window.ready
        if track_id not in self._current and not is_held and self._tracks.pop(track_id, None) is not None:
            self._note_changes()
        if self._window is not None:
            self._window.leave_out(kind, track_id)

    def configured(self, track: Track, now_ms: int, events: list[MediaEvent]) -> None:
        """Learn of a track, and how its frames that follow are to be decoded. A repeated config changes nothing."""
        before = self._tracks.get(track.id)
        if track == before:
            return
        self._take_judged(self._jumps.settle(track.id), events)
        self._tracks[track.id] = track
        self._note_changes()
        if self._window is not None:
            self._window.opened(now_ms)
            self._window.expect(track)
            for _ in range(self._window.forget(track.id) if before is not None else 0):
                events.append(MediaProblem("config_replaced", f"{track.kind.value} config replaced before it was used"))

    def frame_received(
        self,
        track: Track,
        timestamp: int,
        nanoseconds: int,
        composition_ms: int,
        keyframe: bool,
        samples: int,
        data: bytes,
        now_ms: int,
        events: list[MediaEvent],
    ) -> None:
        """
        Take the next coded frame of a track.

        :param track: as it was configured last.
        :param timestamp: of its message: 32 bits of milliseconds, which wrap.
        :param nanoseconds: to add to that.
        :param composition_ms: presentation minus decode time; this and the others as in :class:`Coded`.
        """
        if composition_ms and (sane := sane_composition(composition_ms, self._policy)) != composition_ms:
            detail = f"composition offset of {composition_ms} ms taken as {sane} ms"
            events.append(MediaProblem("clamped_composition", detail))
            composition_ms = sane
        time_ms = self._wire.unwrap(timestamp)
        if self._shifts:
            time_ms += self._shifts.get(track.id, 0)
        time_ns = time_ms * _NS_PER_MS + nanoseconds
        follows = self._jumps.follows(track.id, time_ms, now_ms)
        if follows and self._lanes:
            self._lanes[track.id].place(time_ns, composition_ms, keyframe, samples, data, now_ms, events)
            return
        coded = Coded(track, time_ns, composition_ms, keyframe, samples, data, now_ms)
        judged = None if follows else self._jumps.judge(coded, time_ms)
        if judged is None:
            self._take(coded, events)
        else:
            self._take_judged(judged, events)

    def poll(self, now_ms: int, events: list[MediaEvent]) -> None:
        """See whether the start has waited long enough by the server's clock."""
        if self._window is not None:
            self._window.opened(now_ms)
            if self._window.is_over(now_ms, self._announced):
                self._begin_range(self._window, events)

    def finish(self, events: list[MediaEvent]) -> None:
        """End: let go of what is still held."""
        for track_id in sorted(self._tracks):
            self._take_judged(self._jumps.settle(track_id), events)
        if self._window is not None and self._window.ready:
            self._begin_range(self._window, events)

    def _take_judged(self, judged: Iterable[Judged], events: list[MediaEvent]) -> None:
        for step, coded in judged:
            where = f"{coded.track.kind.value} at {coded.time_ns // _NS_PER_MS} ms"
            if step is Step.STRAGGLES:
                events.append(MediaProblem("timestamp_jump", f"{where} is on no clock that is still used"))
                continue
            if step is Step.JUMPED:
                self._jumped(coded.now_ms, events)
            elif step is Step.OUTLIER:
                events.append(MediaProblem("timestamp_repaired", f"{where}, estimated: its own was far off"))
            elif step is Step.SHIFTED:
                events.append(MediaProblem("timestamp_shifted", f"{where}, moved there: its clock alone has jumped"))
            elif step is Step.FROZEN:
                events.append(MediaProblem("timestamp_frozen", f"{where} by its arrival: timestamps stand still"))
            self._take(coded, events)

    def _take(self, coded: Coded, events: list[MediaEvent]) -> None:
        """Place a frame whose time is settled, or hold it."""
        if self._range is not None and self._window is None:
            if not self._changed:
                self._range.place(coded, events)
                return
            if not self._begins_new_tracks(coded):
                self._place_meanwhile(coded, self._range, events)
                return
            self._open_for_new_tracks(coded, events)
        self._hold(coded, events)

    # ── windows and ranges ───────────────────────────────────────────────────────────────────────────────────────────

    def _hold(self, coded: Coded, events: list[MediaEvent]) -> None:
        window = self._window
        assert window is not None
        window.opened(coded.now_ms)
        if not window.hold(coded, self._claim):
            events.append(MediaProblem("waiting_for_keyframe", "video frame before the first keyframe"))
        if window.is_over(coded.now_ms, self._announced):
            self._begin_range(window, events)

    def _begin_range(self, window: StartWindow, events: list[MediaEvent]) -> None:
        tracks = self._make_tracks(self._current.keys() | window.ready)
        start = window.take(self._claim)
        for coded in start.dropped:
            events.append(
                MediaProblem("trimmed", f"{coded.track.kind.value} frame from before the keyframe to start at")
            )
        if window.reason is not None:
            events.append(Discontinuity(window.reason))
        if tracks != tuple(self._current.values()):
            events.append(TracksChanged(tracks))
        before = self._range
        self._range = MediaRange(
            tracks,
            start,
            self.end_ms,
            self._policy,
            meters=self.meter,
            least_offset_ns=None if window.reanchors or before is None else before.offset_ns,
            rate=self._claim,
        )
        self._current = {track.id: track for track in tracks}
        self._window = None
        self._waiting_since_ns.clear()
        self._note_changes()
        for coded in start.frames:
            self._range.place(coded, events)

    def _make_tracks(self, track_ids: Iterable[int]) -> tuple[Track, ...]:
        """The tracks as they are configured now, video first; one that has not changed stays the same object."""
        tracks = [self._tracks[track_id] for track_id in track_ids]
        tracks.sort(key=lambda track: (track.kind is not MediaKind.VIDEO, track.id))
        return tuple(self._current[track.id] if self._current.get(track.id) == track else track for track in tracks)

    def _jumped(self, now_ms: int, events: list[MediaEvent]) -> None:
        """Start anew where the publisher's clock does. What a window holds is on the old clock and cannot be used."""
        self._break_off("timestamp jump", now_ms, events)
        if self._window is None:
            self._open_window(self._current.values(), "timestamp jump", reanchors=True)
        else:
            for _ in range(self._window.forget()):
                events.append(MediaProblem("timestamp_jump", "frame held back at the start when the clock jumped"))
            self._window.reanchors = True
            self._window.opened(now_ms)

    def _break_off(self, reason: str, now_ms: int, events: list[MediaEvent]) -> None:
        storm = self._storm.broken(reason, now_ms)
        if storm is not None:
            events.append(PublisherUnusable(storm))

    def _open_window(self, tracks: Iterable[Track], reason: str, *, reanchors: bool) -> None:
        self._window = StartWindow(
            self._policy, tracks=tracks, reason=reason, reanchors=reanchors, steps=self._lasting_steps()
        )
        self._lanes = {}

    # ── changes of tracks ────────────────────────────────────────────────────────────────────────────────────────────

    def _note_changes(self) -> None:
        self._changed = {track_id for track_id, track in self._tracks.items() if self._current.get(track_id) != track}
        is_running = self._range is not None and self._window is None and not self._changed
        self._lanes = self._range.lanes if self._range is not None and is_running else {}

    @property
    def _leading(self) -> int | None:
        """The id of the video track that leads; ``None`` without video."""
        return min((track.id for track in self._current.values() if track.kind is MediaKind.VIDEO), default=None)

    def _begins_new_tracks(self, coded: Coded) -> bool:
        """
        Whether the changed tracks can begin with this frame.

        With video that is at a keyframe of the leading track: until there, what has not changed continues, and no
        viewer misses it. Only when no such keyframe comes for long, other changed tracks cut it off.
        """
        track_id, leading = coded.track.id, self._leading
        if track_id == leading:
            is_here = any(each in self._current or each in self._waiting_since_ns for each in self._changed)
            return coded.keyframe and is_here
        if track_id not in self._changed:
            return False
        waited_ns = coded.time_ns - self._waiting_since_ns.setdefault(track_id, coded.time_ns)
        return coded.keyframe and (leading is None or waited_ns >= self._policy.late_track_ms * _NS_PER_MS)

    def _place_meanwhile(self, coded: Coded, running: MediaRange, events: list[MediaEvent]) -> None:
        if coded.track.id in self._changed:
            is_video = coded.track.kind is MediaKind.VIDEO
            detail = f"{coded.track.kind.value} frame of a new config, which takes effect with a keyframe"
            events.append(MediaProblem("waiting_for_keyframe" if is_video else "waiting_for_cut", detail))
        else:
            running.place(coded, events)

    def _open_for_new_tracks(self, coded: Coded, events: list[MediaEvent]) -> None:
        tracks = [self._tracks[each] for each in {*self._current, coded.track.id, *self._waiting_since_ns}]
        late = {track.kind.value for track in tracks if track.id not in self._current}
        is_change = bool(self._changed & self._current.keys())
        reason = "codec config changed" if is_change else f"{' and '.join(sorted(late))} came late"
        self._break_off(reason, coded.now_ms, events)
        self._open_window(tracks, reason, reanchors=False)

    # ── frame rates ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _lasting_steps(self) -> dict[int, FrameStep]:
        """The distances between video frames in the range so far, where they are still to be expected."""
        if self._range is None:
            return {}
        return {track_id: step for track_id, step in self._range.steps.items() if self._keeps_rate(track_id)}

    def _keeps_rate(self, track_id: int) -> bool:
        """Whether a video track claims the frame rate that it did."""
        before, now = self._current[track_id].config, self._tracks[track_id].config
        return isinstance(before, VideoConfig) and isinstance(now, VideoConfig) and before.frame_rate == now.frame_rate
