"""
The live stream's own timeline: from coded frames on the publisher's clock to frames in ticks of their tracks.

The timeline consists of ranges. A new one begins where the publisher's clock is new or the tracks are: at the start,
where the clock has jumped, where a codec config has changed or a late track has come. No range begins before all of the
last one has ended, so decode times rise over the whole life of the stream.

``WireClock`` unwraps, ``JumpGuard`` says when the clock has jumped, ``StartWindow`` holds what a range begins with, and
``MediaRange`` puts frames in their place; this module is where they meet. Either a window is open or a range runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from rapidrtmp.media import CodecConfig, MediaKind, Track, VideoConfig
from rapidrtmp.timeline.events import Coded, Discontinuity, MediaEvent, MediaProblem, PublisherUnusable, TracksChanged
from rapidrtmp.timeline.frame_rate import FrameStep, claimed_rate
from rapidrtmp.timeline.jumps import Judged, JumpGuard, Step
from rapidrtmp.timeline.media_range import MediaRange, audio_frame_ns
from rapidrtmp.timeline.pace import Pace
from rapidrtmp.timeline.policy import TimelinePolicy
from rapidrtmp.timeline.start_window import StartWindow
from rapidrtmp.timeline.storm import StormWatch
from rapidrtmp.timeline.unwrap import WireClock
from rapidrtmp.timeline.video_clock import sane_composition

__all__ = ["Timeline"]

#: Which id each kind of track has in MP4 boxes, in the order in which sinks are told.
_TRACK_IDS = {MediaKind.VIDEO: 1, MediaKind.AUDIO: 2}
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
        self._storm = StormWatch(policy.storm_breaks, policy.storm_ms)
        self._configs: dict[MediaKind, CodecConfig] = {}
        self._told: dict[MediaKind, Track] = {}
        #: Kinds whose config is not the one told: late tracks, and changed ones until the next range.
        self._changed: set[MediaKind] = set()
        self._waiting_since_ns: int | None = None  # since when changed audio has been dropped for want of a keyframe
        self._announced: set[MediaKind] = set()
        self._claim: Fraction | None = None
        self._range: MediaRange | None = None
        self._window: StartWindow | None = StartWindow(policy, _TRACK_IDS)

    @property
    def end_ms(self) -> int:
        """Where the latest frame ends, in milliseconds, rounded up; ``start_ms`` before the first."""
        return self._start_ms if self._range is None else self._range.end_ms

    @property
    def missing(self) -> frozenset[MediaKind]:
        """The kinds of track that were announced or configured but are not there, once others are."""
        return frozenset(self._announced | self._configs.keys()) - self._told.keys() if self._told else frozenset()

    def pace(self, kind: MediaKind) -> Pace:
        """How a kind's frames keep pace with the server's clock; the same object for ever."""
        return self._jumps.pace(kind)

    def announced(self, kinds: Iterable[MediaKind], rate: Fraction | None) -> None:
        """Learn what metadata promises: tracks to wait for a little longer, and a frame rate to try."""
        self._announced.update(kinds)
        self._claim = rate or self._claim

    def configured(self, kind: MediaKind, config: CodecConfig, now_ms: int, events: list[MediaEvent]) -> None:
        """Learn how the frames of one kind that follow are to be decoded. A repeated config changes nothing."""
        before = self._configs.get(kind)
        if config == before:
            return
        self._take_judged(self._jumps.settle(kind), events)
        self._configs[kind] = config
        self._note_changes()
        if self._window is not None:
            self._window.opened(now_ms)
            for _ in range(self._window.forget(kind) if before is not None else 0):
                events.append(MediaProblem("config_replaced", f"{kind.value} config replaced before it was used"))

    def frame_received(
        self,
        kind: MediaKind,
        timestamp: int,
        nanoseconds: int,
        composition_ms: int,
        keyframe: bool,
        data: bytes,
        now_ms: int,
        events: list[MediaEvent],
    ) -> None:
        """
        Take the next coded frame of a kind that has a config.

        :param timestamp: of its message: 32 bits of milliseconds, which wrap.
        :param nanoseconds: to add to that.
        """
        if composition_ms and (sane := sane_composition(composition_ms, self._policy)) != composition_ms:
            detail = f"composition offset of {composition_ms} ms taken as {sane} ms"
            events.append(MediaProblem("clamped_composition", detail))
            composition_ms = sane
        time_ms = self._wire.unwrap(timestamp)
        coded = Coded(kind, time_ms * _NS_PER_MS + nanoseconds, composition_ms, keyframe, data, now_ms)
        judged = self._jumps.judge(coded, time_ms)
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
        for kind in _TRACK_IDS:
            self._take_judged(self._jumps.settle(kind), events)
        if self._window is not None and self._window.ready:
            self._begin_range(self._window, events)

    def _take_judged(self, judged: Iterable[Judged], events: list[MediaEvent]) -> None:
        for step, coded in judged:
            where = f"{coded.kind.value} at {coded.time_ns // _NS_PER_MS} ms"
            if step is Step.STRAGGLES:
                events.append(MediaProblem("timestamp_jump", f"{where} is on no clock that is still used"))
                continue
            if step is Step.JUMPED:
                self._jumped(coded.now_ms, events)
            elif step is Step.OUTLIER:
                events.append(MediaProblem("timestamp_repaired", f"{where}, estimated: its own was far off"))
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
        if not window.hold(coded, self._claims):
            events.append(MediaProblem("waiting_for_keyframe", "video frame before the first keyframe"))
        if window.is_over(coded.now_ms, self._announced):
            self._begin_range(window, events)

    def _begin_range(self, window: StartWindow, events: list[MediaEvent]) -> None:
        tracks = self._make_tracks(self._told.keys() | window.ready)
        start = window.take(audio_frame_ns(tracks), self._claims)
        for coded in start.dropped:
            events.append(MediaProblem("trimmed", f"{coded.kind.value} frame from before the keyframe to start at"))
        if window.reason is not None:
            events.append(Discontinuity(window.reason))
        if tracks != tuple(self._told.values()):
            events.append(TracksChanged(tracks))
        before = self._range
        self._range = MediaRange(
            tracks,
            start,
            self.end_ms,
            self._policy,
            least_offset_ns=None if window.reanchors or before is None else before.offset_ns,
            claims=self._claims,
        )
        self._told = {track.kind: track for track in tracks}
        self._window = self._waiting_since_ns = None
        self._note_changes()
        for coded in start.frames:
            self._range.place(coded, events)

    def _make_tracks(self, kinds: Iterable[MediaKind]) -> tuple[Track, ...]:
        """Tracks by the configs of now; one that has not changed stays the same object."""
        tracks = []
        for kind, track_id in _TRACK_IDS.items():
            if kind in kinds:
                told, config = self._told.get(kind), self._configs[kind]
                tracks.append(told if told is not None and told.config == config else Track(track_id, config))
        return tuple(tracks)

    def _jumped(self, now_ms: int, events: list[MediaEvent]) -> None:
        """Start anew where the publisher's clock does. What a window holds is on the old clock and can not be used."""
        self._break_off("timestamp jump", now_ms, events)
        if self._window is None:
            self._open_window(self._told, "timestamp jump", reanchors=True)
        else:
            for _ in range(self._window.forget()):
                events.append(MediaProblem("timestamp_jump", "frame held back at the start when the clock jumped"))
            self._window.reanchors = True
            self._window.opened(now_ms)

    def _break_off(self, reason: str, now_ms: int, events: list[MediaEvent]) -> None:
        storm = self._storm.broken(reason, now_ms)
        if storm is not None:
            events.append(PublisherUnusable(storm))

    def _open_window(self, kinds: Iterable[MediaKind], reason: str, *, reanchors: bool) -> None:
        self._window = StartWindow(
            self._policy, tuple(kinds), reason=reason, reanchors=reanchors, step=self._lasting_step()
        )

    # ── changes of tracks ────────────────────────────────────────────────────────────────────────────────────────────

    def _note_changes(self) -> None:
        self._changed = {
            kind
            for kind, config in self._configs.items()
            if kind not in self._told or self._told[kind].config != config
        }

    def _begins_new_tracks(self, coded: Coded) -> bool:
        """
        Whether the changed tracks can begin with this frame.

        With video that is at a keyframe: until there, what has not changed goes on, and no viewer misses it. Only when
        no keyframe comes for long, changed audio cuts it off.
        """
        if coded.kind is MediaKind.VIDEO:
            audio_is_here = MediaKind.AUDIO in self._changed and (
                MediaKind.AUDIO in self._told or self._waiting_since_ns is not None
            )
            return coded.keyframe and (MediaKind.VIDEO in self._changed or audio_is_here)
        if MediaKind.AUDIO not in self._changed:
            return False
        if self._waiting_since_ns is None:
            self._waiting_since_ns = coded.time_ns
        waited_ns = coded.time_ns - self._waiting_since_ns
        return MediaKind.VIDEO not in self._told or waited_ns >= self._policy.late_track_ms * _NS_PER_MS

    def _place_meanwhile(self, coded: Coded, running: MediaRange, events: list[MediaEvent]) -> None:
        if coded.kind in self._changed:
            detail = f"{coded.kind.value} frame of a new config, which takes effect with a keyframe"
            events.append(MediaProblem("waiting_for_keyframe", detail))
        else:
            running.place(coded, events)

    def _open_for_new_tracks(self, coded: Coded, events: list[MediaEvent]) -> None:
        kinds = {*self._told, coded.kind}
        if self._waiting_since_ns is not None:
            kinds.add(MediaKind.AUDIO)
        changed = self._changed & self._told.keys()
        late = " and ".join(sorted(kind.value for kind in kinds - self._told.keys()))
        reason = "codec config changed" if changed else f"{late} came late"
        self._break_off(reason, coded.now_ms, events)
        self._open_window(kinds, reason, reanchors=False)

    # ── frame rates ──────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _claims(self) -> tuple[Fraction, ...]:
        """The frame rates to try, the bitstream's before that of metadata."""
        config = self._configs.get(MediaKind.VIDEO)
        rates = (config.frame_rate if isinstance(config, VideoConfig) else None, self._claim)
        claims = (claimed_rate(rate) for rate in rates if rate)
        return tuple(dict.fromkeys(claim for claim in claims if claim))

    def _lasting_step(self) -> FrameStep | None:
        """The distance between video frames in the range so far, if it is still to be expected."""
        told, config = self._told.get(MediaKind.VIDEO), self._configs.get(MediaKind.VIDEO)
        if self._range is None or told is None:
            return None
        if not (isinstance(told.config, VideoConfig) and isinstance(config, VideoConfig)):
            return None
        return self._range.step if told.config.frame_rate == config.frame_rate else None
