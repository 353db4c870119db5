"""
The ladder of one stream: a part sink beside the others, between them and a transcoder.

It takes the calls that every part sink of the source gets, keeps them for each rung until that has the pictures for
them (:mod:`rapidrtmp.transcode.rung_cutter`), and makes them again to sinks that publish rungs. The source never waits
for it. What a rung has not brought one target duration after the source's segment was complete is a gap.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from rapidrtmp.cmaf.segmenter import main_tracks
from rapidrtmp.codec.table import CODECS
from rapidrtmp.errors import MisuseError
from rapidrtmp.interfaces import (
    Constants,
    Cutting,
    EventType,
    IAllTracksSink,
    ILadder,
    ILateRenditionsSink,
    IPartSink,
    IRenditionsSink,
    IResumableSink,
    Part,
    Rung,
    RungReport,
)
from rapidrtmp.media import Frame, MediaKind, Track, VideoConfig
from rapidrtmp.names import RENDITION_PATTERN, StreamName
from rapidrtmp.support.clock import now_ms
from rapidrtmp.transcode.rung_cutter import (
    AudioCoded,
    Call,
    Discontinuity,
    Finished,
    Picture,
    RungCutter,
    SegmentEnded,
    TracksChanged,
    Waiting,
)

__all__ = ["Ladder"]

#: The bit rate and the frames of a rung are those of so long.
RATE_WINDOW_MS = 10_000
#: At the end of a stream, rungs are waited for no longer.
LONGEST_END_S = 6.0
#: So many frames of audio that is coded anew are kept for a rung that begins: some seconds.
RECENT_AUDIO = 600
_FOLDER = re.compile(RENDITION_PATTERN)


@dataclass(eq=False)
class _State:
    """What is known of one rung."""

    rung: Rung
    cutter: RungCutter
    track: Track | None = None
    newest: int | None = None  # the turn of the newest picture
    frames: int = 0
    lag_ms: int = 0
    gaps: int = 0
    restarts: int = 0
    latest: deque[tuple[int, int]] = field(default_factory=deque)  # arrival and size of the pictures of late

    def count(self, picture: Picture, now: int) -> None:
        self.frames += 1
        self.newest = picture.turn
        self.lag_ms = max(0, now - picture.arrived_ms)
        self.latest.append((now, len(picture.data)))
        self.forget_old(now)

    def forget_old(self, now: int) -> None:
        while self.latest and now - self.latest[0][0] > RATE_WINDOW_MS:
            self.latest.popleft()

    @property
    def bitrate(self) -> int:
        elapsed = self.latest[-1][0] - self.latest[0][0] if len(self.latest) > 1 else 0
        return sum(size for _, size in list(self.latest)[1:]) * 8000 // elapsed if elapsed else 0


@implementer(IAllTracksSink, ILadder, IResumableSink)
class Ladder:
    """
    One stream's.

    :param sinks: asked for the sinks of the stream, when a rung begins.
    :param record: records what happens to it.
    :ivar transcoder: what brings the pictures; is set once it is made.
    """

    leads = False
    cutting = Cutting(part_ms=0)
    _log = Logger()

    def __init__(
        self,
        stream: StreamName,
        clock: IReactorTime,
        sinks: Callable[[], Sequence[Any]],
        record: Callable[[EventType, Mapping[str, object]], None] = lambda _type, _data: None,
    ) -> None:
        self.constants: Constants | None = None
        self.transcoder: Any = None
        self._stream = stream
        self._clock = clock
        self._sinks = sinks
        self._record = record
        self._rungs: dict[str, _State] = {}
        self._greeted: list[Any] = []  # sinks that take rungs late, and have been given those that there were
        self._present: frozenset[str] = frozenset()
        self._recent: list[Waiting] = []  # the calls since the last segment but one began
        self._coded_ids: frozenset[int] = frozenset()  # of the audio that is coded anew
        self._coded_track: Track | None = None  # as which it is
        self._recent_audio: deque[Frame] = deque(maxlen=RECENT_AUDIO)
        self._tracks: tuple[Track, ...] = ()
        self._target_s = 1
        self._deadlines: dict[SegmentEnded, IDelayedCall] = {}
        self._generation = 0
        self._is_finished = False
        self._done: Deferred[None] | None = None
        self._limit: IDelayedCall | None = None

    # ── what the source does (IPartSink) ─────────────────────────────────────────────────────────────────────────────

    def tracks_changed(self, tracks: tuple[Track, ...]) -> None:
        """See :meth:`IPartSink.tracks_changed <rapidrtmp.interfaces.IPartSink.tracks_changed>`; likewise the others."""
        self._tracks = tracks
        self._add(TracksChanged(tracks))

    def constants_chosen(self, constants: Constants) -> None:
        """Learn for how long rungs are waited for."""
        self._target_s = constants.target_s

    def frame_rate_measured(self, frame_rate: Fraction | None) -> None:
        """Pictures say it themselves."""

    def part_cut(self, part: Part) -> None:
        """Keep a part until the rungs have theirs."""
        if part.starts_segment:
            self._forget_old()
            self._greet_late_sinks()
        self._add(part)

    def segment_ended(self) -> None:
        """Wait no longer than a target duration for what is missing in it."""
        ended = SegmentEnded(lambda sink: sink.segment_ended())
        self._add(ended)
        if self._rungs:
            self._deadlines[ended] = self._clock.callLater(self._target_s, self._time_is_up, ended)

    def segment_continued(self) -> None:
        """See :class:`IPartSink <rapidrtmp.interfaces.IPartSink>`."""
        self._add(Call(lambda sink: sink.segment_continued()))

    def flushed(self) -> None:
        """See :class:`IPartSink <rapidrtmp.interfaces.IPartSink>`."""
        for state in self._rungs.values():
            self._advance(state)

    def discontinuity(self) -> None:
        """See :class:`IPartSink <rapidrtmp.interfaces.IPartSink>`."""
        self._add(Discontinuity(lambda sink: sink.discontinuity()))

    def interrupted(self) -> None:
        """See :class:`IPartSink <rapidrtmp.interfaces.IPartSink>`."""
        self._add(Call(lambda sink: sink.interrupted()))

    def finish(self) -> Deferred[None] | None:
        """End when the rungs have what is still to come, or some seconds later."""
        return self._end(Finished(lambda sink: sink.finish()))

    def suspend(self) -> Deferred[None] | None:
        """See :meth:`IResumableSink.suspend <rapidrtmp.interfaces.IResumableSink.suspend>`: the rungs do not end."""
        return self._end(Finished(lambda _sink: None))

    def _end(self, last: Finished) -> Deferred[None] | None:
        self._is_finished = True
        self._add(last)
        self.flushed()
        if self._is_done:
            self._stop_waiting()
            return None
        self._done = Deferred()
        self._limit = self._clock.callLater(LONGEST_END_S, self.drained)
        return self._done

    def _add(self, call: Waiting) -> None:
        self._recent.append(call)
        for state in self._rungs.values():
            state.cutter.add(call)

    def _forget_old(self) -> None:
        """Keep the last segment and what follows it: a rung that begins, begins there."""
        starts = [index for index, call in enumerate(self._recent) if isinstance(call, Part) and call.starts_segment]
        if len(starts) > 1:
            del self._recent[: starts[-1]]
            self._recent[:0] = [TracksChanged(self._tracks), AudioCoded(self._coded_ids)]

    # ── what the transcoder does (ILadder) ───────────────────────────────────────────────────────────────────────────

    def announce(self, names: Collection[str]) -> None:
        """See :meth:`ILadder.announce <rapidrtmp.interfaces.ILadder.announce>`."""
        self._each_sink(lambda sink: sink.announce_renditions(names))

    def begin(self, rungs: Sequence[Rung]) -> None:
        """See :meth:`ILadder.begin <rapidrtmp.interfaces.ILadder.begin>`; likewise the others."""
        unfit = [rung.name for rung in rungs if _FOLDER.fullmatch(rung.name) is None]
        if unfit:
            raise MisuseError(f"rungs are called like 720p or 720p-low, not {', '.join(unfit)}")
        self._present = frozenset(rung.name for rung in rungs)
        if not self._is_finished:
            for rung in rungs:
                if rung.name not in self._rungs:
                    self._open(rung)
        self._each_sink(lambda sink: sink.expect_renditions(self._present))
        self._see_who_is_off()

    def pause(self) -> None:
        """See :meth:`ILadder.pause <rapidrtmp.interfaces.ILadder.pause>`."""
        self._present = frozenset()
        self._each_sink(lambda sink: sink.pause_renditions())
        self._see_who_is_off()

    def _see_who_is_off(self) -> None:
        for name, state in self._rungs.items():
            state.cutter.is_off = name not in self._present
            self._advance(state)

    def _open(self, rung: Rung) -> None:
        sinks: list[Any] = []
        self._greet_late_sinks()
        self._each_sink(lambda sink: sinks.append(_Isolated(sink.open_rendition(rung), self._failed)))
        cutter = RungCutter(tuple(sinks), partial(self._missed, rung.name))
        for call in self._recent:
            cutter.add(call)
        for frame in self._recent_audio:
            cutter.put_audio(frame)
        self._rungs[rung.name] = _State(rung, cutter)

    def _greet_late_sinks(self) -> None:
        """Let sinks that came behind the beginning of rungs have those as well, if they want that."""
        late = [sink for sink in self._sinks() if ILateRenditionsSink.providedBy(sink) and sink not in self._greeted]
        for sink in late:
            self._greeted.append(sink)
            for state in self._rungs.values():
                try:
                    state.cutter.attach(_Isolated(sink.open_rendition(state.rung), self._failed))  # type: ignore[arg-type]
                except Exception:
                    self._failed()

    def _each_sink(self, call: Callable[[Any], object]) -> None:
        """Call each sink that publishes rungs; what one raises is logged, and the others never notice."""
        for sink in self._sinks():
            if IRenditionsSink.providedBy(sink) and sink.has_renditions:
                try:
                    call(sink)
                except Exception:
                    self._failed()

    def _failed(self) -> None:
        self._log.failure("{stream}: a sink failed over a rung; the stream continues", stream=self._stream)

    def await_rungs(self) -> None:
        """Have sinks wait a little for a ladder that should come."""
        self._each_sink(lambda sink: sink.expect_renditions(None))

    def configured(self, rung: str, codec: str, config: VideoConfig) -> None:
        """See :meth:`ILadder.configured <rapidrtmp.interfaces.ILadder.configured>`."""
        state = self._rungs.get(rung)
        if state is None or not self._tracks:
            return
        track = CODECS[codec].make_track(self._tracks[0].id, config)
        if track != state.track:
            state.track = track

    def frame(
        self, rung: str, pts: int, data: bytes, *, keyframe: bool, arrived_ms: int, turn: int | None = None
    ) -> None:
        """See :meth:`ILadder.frame <rapidrtmp.interfaces.ILadder.frame>`."""
        state = self._rungs.get(rung)
        turn = pts if turn is None else turn
        if state is None or state.track is None or (state.newest is not None and turn <= state.newest):
            return
        picture = Picture(state.track, pts, turn, data, keyframe, arrived_ms, self._generation)
        state.count(picture, now_ms(self._clock))
        state.cutter.put(picture)
        self._advance(state)

    def audio_coded(self, track_ids: Collection[int]) -> None:
        """See :meth:`ILadder.audio_coded <rapidrtmp.interfaces.ILadder.audio_coded>`."""
        if self._coded_ids or track_ids:
            self._coded_ids = frozenset(track_ids)
            self._coded_track = None
            self._add(AudioCoded(self._coded_ids))

    def audio_frame(self, frame: Frame) -> None:
        """See :meth:`ILadder.audio_frame <rapidrtmp.interfaces.ILadder.audio_frame>`."""
        self._coded_track = frame.track
        for state in self._rungs.values():
            state.cutter.put_audio(frame)
            self._advance(state)
        self._recent_audio.append(frame)

    def restarted(self) -> None:
        """See :meth:`ILadder.restarted <rapidrtmp.interfaces.ILadder.restarted>`."""
        self._generation += 1
        for state in self._rungs.values():
            state.restarts += 1
            state.newest = None
            state.cutter.forget()

    def drained(self) -> None:
        """See :meth:`ILadder.drained <rapidrtmp.interfaces.ILadder.drained>`."""
        for state in self._rungs.values():
            state.cutter.give_up(None)
        self._end_if_done()

    # ── what becomes of it ───────────────────────────────────────────────────────────────────────────────────────────

    def _advance(self, state: _State) -> None:
        state.cutter.advance()
        self._end_if_done()

    def _time_is_up(self, ended: SegmentEnded) -> None:
        self._deadlines.pop(ended, None)
        for state in self._rungs.values():
            state.cutter.give_up(ended)
        self._end_if_done()

    def _missed(self, name: str) -> None:
        state = self._rungs[name]
        state.gaps += 1
        if self.transcoder is not None and name in self._present:
            self.transcoder.segment_missed(name)

    @property
    def _is_done(self) -> bool:
        return all(state.cutter.is_done for state in self._rungs.values())

    def _end_if_done(self) -> None:
        if self._is_finished and self._is_done:
            self._stop_waiting()
            if self._done is not None:
                done, self._done = self._done, None
                done.callback(None)

    def _stop_waiting(self) -> None:
        timers = [*self._deadlines.values(), *([self._limit] if self._limit is not None else [])]
        self._deadlines.clear()
        self._limit = None
        for timer in timers:
            if timer.active():
                timer.cancel()

    # ── what is seen of it ───────────────────────────────────────────────────────────────────────────────────────────

    @property
    def reports(self) -> list[RungReport]:
        """How each rung does that there ever was."""
        now = now_ms(self._clock)
        return [self._report(name, state, now) for name, state in self._rungs.items()]

    def tracks_of(self, name: str) -> tuple[Track, ...]:
        """What a rung consists of; empty for one that is not there, or not yet described."""
        state = self._rungs.get(name)
        if state is None or state.track is None:
            return ()
        audio = [track for track in main_tracks(self._tracks) if track.kind is MediaKind.AUDIO]
        return (state.track, *(self._coded_track or each if each.id in self._coded_ids else each for each in audio))

    def _report(self, name: str, state: _State, now: int) -> RungReport:
        state.forget_old(now)
        config = state.track.config if state.track is not None else None
        width, height = (config.width, config.height) if isinstance(config, VideoConfig) else (0, 0)
        return RungReport(
            name=name,
            state=self._state_of(name, state),
            codec=config.codec_string if config is not None else "",
            width=width,
            height=height,
            bitrate=state.bitrate,
            frames=state.frames,
            lag_ms=state.lag_ms,
            gaps=state.gaps,
            restarts=state.restarts,
        )

    def _state_of(self, name: str, state: _State) -> str:
        if name not in self._present:
            return "off"
        if state.cutter.has_missed:
            return "behind"
        return "running" if state.frames else "starting"


class _Isolated:
    """A part sink of a rung: one that raises gets no more calls."""

    def __init__(self, sink: IPartSink, failed: Callable[[], None]) -> None:
        self._sink: Any = sink
        self._failed = failed

    def __getattr__(self, name: str) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            if self._sink is None:
                return None
            try:
                return getattr(self._sink, name)(*arguments)
            except Exception:
                self._sink = None
                self._failed()
                return None

        return call
