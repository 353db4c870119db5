"""
Ladders by FFmpeg: one child process for all rungs of a stream, supervised.

The child is fed with the stream's own frames, from a keyframe on, and brings each rung's pictures with the presentation
times of those. It begins when the first GOP is whole, for by then it is known what the source takes. Behind a
discontinuity, and when the publisher is gone, it is left to bring the rest, and another begins with what follows: a
decoder that is given other parameters would bring garbage. One that dies, hangs or writes nonsense is replaced, after
pauses that grow, and fed from the last keyframe on; one that never works is left alone until the next publish.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from zope.interface import implementer

from rapidrtmp.codec.table import AVC
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import EventType, ITranscoder, ITranscoderFactory, Rung, TranscoderContext
from rapidrtmp.media import VIDEO_TIMESCALE, Frame, MediaKind, Track, VideoConfig
from rapidrtmp.transcode.audio import AudioCoder
from rapidrtmp.transcode.child import Child, Outcome
from rapidrtmp.transcode.command import make_command, make_environment
from rapidrtmp.transcode.encoders import ENCODERS, LIBX264, Encoder, find_encoder
from rapidrtmp.transcode.program import usable_ffmpeg
from rapidrtmp.transcode.room import CODING, ROOM, estimated_cores
from rapidrtmp.transcode.rungs import RungSize, hdr_transfer, is_common, parse_rungs, suitable_rungs
from rapidrtmp.transcode.watching import Watching

__all__ = ["FfmpegTranscoder", "FfmpegTranscoderFactory"]

#: As many B-frames in a row are of use.
MOST_B_FRAMES = 3
DEFAULT_RUNGS = {"720p": "3000k", "480p": "1200k", "360p": "700k"}

#: So much of a source is looked at before the rungs are chosen, if its second keyframe does not come before.
LONGEST_LOOK = 8 * VIDEO_TIMESCALE
#: No more is kept of what came since the last keyframe.
MOST_GOP_BYTES = 32 << 20
#: A child that is so far behind is stuck.
LONGEST_LAG = 6 * VIDEO_TIMESCALE
CHECK_S = 1.0
#: One that is so far behind, so many checks in a row, is said to be.
LATE, LATE_CHECKS = VIDEO_TIMESCALE, 5
#: The pause before another child begins: it doubles, and is short again after a good run.
FIRST_PAUSE_S, LONGEST_PAUSE_S, GOOD_RUN_S = 1.0, 30.0, 20.0
#: After so many restarts in so long the ladder is off until the next publish; a child that ends within a second, this
#: many times in a row, was given something that it cannot do.
MOST_RESTARTS, RESTARTS_WITHIN_S = 3, 600.0
HOPELESS_RUN_S, HOPELESS_RUNS = 1.0, 2
#: After so many missed segments in so long there is one rung less.
MOST_MISSED, MISSED_WITHIN_S = 3, 60.0
#: Where there was no room, it is looked for again after so long.
RETRY_S = 10.0
#: What a child takes is known after so long. One that is given nothing for so long is not needed.
MEASURED_S, IDLE_S = 10.0, 30.0
#: How long a child may take to bring the rest.
LONGEST_DRAIN_S = 2.0


@implementer(ITranscoderFactory)
class FfmpegTranscoderFactory:
    """
    ``ffmpeg:720p=3000k:480p=1200k:360p=700k:preset=veryfast:encoder=auto``

    :param preset: of libx264: ``ultrafast`` costs about half of ``veryfast``.
    :param encoder: ``libx264``, one on hardware, or ``auto``: the first on hardware that works, else libx264.
    :param bframes: so many B-frames in a row, at most: a better picture at the same rate, and later by some frames.
    :param when: ``always``, or ``watched``: from the first viewer of ``master.m3u8`` to a minute after the last viewer.
    :param hdr: ``off``: there are no rungs of HDR; or ``tonemap``: they are shown as an ordinary picture.
    :param audio: ``copy``: rungs have the source's audio; or ``aac``: coded as AAC where it is not that.
    :param program: path of FFmpeg; empty for the one that is found.
    :param rungs: bits a second by height. What is not clearly smaller than the source is left out.
    """

    def __init__(
        self,
        *,
        preset: str = "veryfast",
        encoder: str = "auto",
        bframes: str = "0",
        when: str = "always",
        hdr: str = "off",
        audio: str = "copy",
        program: str = "",
        **rungs: str,
    ) -> None:
        for name, value, known in (
            ("preset", preset, list(CODING)),
            ("encoder", encoder, ["auto", *ENCODERS]),
            ("bframes", bframes, [str(count) for count in range(MOST_B_FRAMES + 1)]),
            ("when", when, ["always", "watched"]),
            ("hdr", hdr, ["off", "tonemap"]),
            ("audio", audio, ["copy", "aac"]),
        ):
            if value not in known:
                raise ConfigurationError(f"{name}={value}: {' or '.join(known)}")
        self.rungs = parse_rungs(rungs or DEFAULT_RUNGS)
        if encoder != "auto" and int(bframes) and not ENCODERS[encoder].reordered:
            raise ConfigurationError(f"bframes={bframes}: {encoder} has none")
        maps_tones = hdr == "tonemap"
        self._codes_audio = audio == "aac"
        self._is_for_viewers = when == "watched"
        self._tool = Tool(
            usable_ffmpeg(program, maps_tones=maps_tones), preset, encoder, int(bframes), maps_tones=maps_tones
        )

    def create(self, context: TranscoderContext) -> FfmpegTranscoder:
        """See :meth:`ITranscoderFactory.create <rapidrtmp.interfaces.ITranscoderFactory.create>`."""
        self._tool.look_for_encoder(context)
        return FfmpegTranscoder(
            context,
            self.rungs,
            self._tool,
            is_for_viewers=self._is_for_viewers,
            codes_audio=self._codes_audio,
        )


class Tool:
    """
    The FFmpeg of a factory.

    :param preset: of libx264.
    :param wanted: the name of an encoder, or ``auto``.
    :ivar ffmpeg: its path.
    :ivar encoder: the one to use, as far as it is known by now.
    :ivar b_frames: so many in a row, at most.
    :ivar maps_tones: whether it makes rungs of HDR.
    """

    def __init__(self, ffmpeg: str, preset: str, wanted: str, b_frames: int = 0, *, maps_tones: bool = False) -> None:
        self.maps_tones = maps_tones
        self.encoder = LIBX264
        self.preset = preset
        self.b_frames = b_frames
        self.ffmpeg = ffmpeg
        self._wanted = wanted
        self._has_looked = wanted == LIBX264.name

    def look_for_encoder(self, context: TranscoderContext) -> None:
        """Try the encoders, once, in a thread; until that is done ``libx264`` is used."""
        if self._has_looked:
            return
        self._has_looked = True
        found = context.in_thread(find_encoder, self.ffmpeg, self._wanted, self.b_frames)
        found.addCallbacks(
            lambda encoder: self._take(encoder, context),
            lambda failure: context.log.failure("encoders cannot be tried", failure),
        )

    def _take(self, encoder: Encoder, context: TranscoderContext) -> None:
        self.encoder = encoder
        if self._wanted not in ("auto", encoder.name):
            context.log.warn("{wanted} does not work here: rungs are coded by libx264", wanted=self._wanted)
            context.record(EventType.LADDER, {"state": "fallback", "encoder": self._wanted, "instead": encoder.name})
        else:
            context.log.info("rungs are coded by {encoder}", encoder=encoder.name)

    def command(self, config: VideoConfig, sizes: Sequence[RungSize], encoder: Encoder) -> list[str]:
        """The command line for some rungs of a source."""
        transfer = hdr_transfer(config)
        return make_command(self.ffmpeg, sizes, self.preset, encoder, self.b_frames, transfer=transfer)


@implementer(ITranscoder)
class FfmpegTranscoder:
    """
    One stream's.

    :param rungs: those that are wanted, the largest first.
    :param is_for_viewers: whether there is a child only while there are viewers.
    :param codes_audio: whether audio that is not AAC is coded anew, by a child of its own.
    """

    def __init__(
        self,
        context: TranscoderContext,
        rungs: Sequence[Rung],
        tool: Tool,
        *,
        is_for_viewers: bool = False,
        codes_audio: bool = False,
    ) -> None:
        self._context = context
        self._ladder = context.ladder
        self._wanted = list(rungs)
        self._tool = tool
        self._encoder: Encoder | None = None  # that of the child; none before there was one
        self._track: Track | None = None  # the leading one, if that is video alone
        self._bitrate = 0  # of the source, as measured; 0 while that is not known
        self._suitable: Sequence[RungSize] = ()
        self._sizes: Sequence[RungSize] = ()  # those of them that there is room for
        self._gop: list[Frame] = []  # since the last keyframe, or the first one while the rungs are not chosen
        self._gop_bytes = 0
        self._child: Child | None = None
        self._is_draining = False
        self._is_off = False
        self._late_checks = 0
        self._is_behind = False  # whether that was said
        self._has_range = False  # whether frames come that are to be coded
        self._began_s = 0.0  # when the child did
        self._fed_s = 0.0  # when a frame came last
        self._cpu_s = 0.0  # what the child has taken, as far as it is counted
        self._pause_s = FIRST_PAUSE_S
        self._hopeless = 0
        self._restarts: deque[float] = deque()
        self._missed: deque[float] = deque()
        self._timers: dict[str, IDelayedCall] = {}
        self._audio = AudioCoder(context, tool.ffmpeg, self._audio_failed, self._child_is_gone) if codes_audio else None
        self._watching: Watching | None = None
        self._is_gone = False  # whether the publisher is, who may return
        self._done: Deferred[None] | None = None
        self._finishes = False
        self._count_restart = context.metrics.counter(
            "ladder_restarts_total", "Children that had to be replaced, because they failed or were stuck"
        )
        self._count_frames = context.metrics.counter("ladder_frames_total", "Pictures of rungs that came back")
        self._count_strays = context.metrics.counter("ladder_strays_total", "Pictures of rungs that belong to no frame")
        self._count_cpu = context.metrics.counter("ladder_cpu_seconds_total", "Processor time of the children")
        self._count_missed = context.metrics.counter("ladder_gaps_total", "Segments of rungs that were not in time")
        self._ladder.announce([rung.name for rung in rungs])
        if is_for_viewers:
            self._watching = Watching(context.clock, context.is_watched, self._viewers_changed)
            self._ladder.pause()

    # ── ISink ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def tracks_changed(self, tracks: tuple[Track, ...]) -> None:
        """See :meth:`ISink.tracks_changed <rapidrtmp.interfaces.ISink.tracks_changed>`; likewise the others."""
        self._end_range()
        self._is_gone = False
        if self._audio is not None:
            self._audio.tracks_changed(tracks)
        videos = [track for track in tracks if track.kind is MediaKind.VIDEO]
        if len(videos) == 1:
            if self._track is None or self._track.config != videos[0].config:
                self._suitable = self._sizes = ()
                self._bitrate = 0 if self._is_off else self._bitrate
                self._is_off = False
            self._track, self._has_range = videos[0], True
            if not self._is_wanted:
                self._ladder.pause()
        else:  # nothing to be seen, or the publisher brings the rungs itself
            self._track, self._has_range = None, False
            self._sizes = ()
            self._ladder.begin(())

    def frame_received(self, frame: Frame) -> None:
        """Keep the frames since the last keyframe, and feed them."""
        if not self._has_range or self._is_off or self._track is None:
            return
        if frame.track.id != self._track.id:
            if self._audio is not None:
                self._audio.frame_received(frame)
            return
        is_chosen = bool(self._suitable)
        self._fed_s = self._context.clock.seconds()
        if frame.keyframe and (is_chosen or not self._gop):
            self._gop.clear()
            self._gop_bytes = 0
            if self._audio is not None:
                self._audio.keyframe(frame)
        elif not self._gop:
            return
        self._gop.append(frame)
        self._gop_bytes += len(frame.data)
        if not is_chosen and not self._choose(frame):
            return
        if self._child is not None and not self._is_draining:
            self._child.feed(frame)
        elif self._child is None and self._is_wanted and not self._timers.keys() & {"restart", "room"}:
            self._start()
        if self._gop_bytes > MOST_GOP_BYTES:
            self._gop.clear()

    def discontinuity(self) -> None:
        """What follows does not join on."""
        self._end_range()

    def interrupted(self) -> None:
        """The publisher may return: then all is tried anew."""
        self._end_range()
        self._is_off = False
        self._is_gone = True
        self._hopeless, self._pause_s = 0, FIRST_PAUSE_S
        self._restarts.clear()

    def finish(self) -> Deferred[None] | None:
        """Let the child bring the rest."""
        self._finishes = True
        if self._watching is not None:
            self._watching.stop()
        self._end_range()
        if not self._has_children:
            return None
        self._done = Deferred()
        return self._done

    def segment_missed(self, rung: str) -> None:
        """See :meth:`ITranscoder.segment_missed <rapidrtmp.interfaces.ITranscoder.segment_missed>`."""
        self._count_missed.inc()
        now = self._context.clock.seconds()
        self._missed.append(now)
        while now - self._missed[0] > MISSED_WITHIN_S:
            self._missed.popleft()
        if len(self._missed) > MOST_MISSED * len(self._sizes) and self._child is not None and not self._is_draining:
            self._missed.clear()
            self._shed(rung)

    # ── whether there are viewers ────────────────────────────────────────────────────────────────────────────────────

    def asked_for(self) -> None:
        """See :meth:`ITranscoder.asked_for <rapidrtmp.interfaces.ITranscoder.asked_for>`."""
        if self._watching is None or self._finishes:
            return
        if self._is_gone and not self._is_wanted:  # nothing comes for now: there is the source to choose
            self._ladder.begin(())
        self._watching.asked_for()

    @property
    def _is_wanted(self) -> bool:
        return self._watching is None or self._watching.is_wanted

    def _viewers_changed(self) -> None:
        """Begin for the first viewer, and end after the last."""
        if self._is_off:
            return
        if self._is_wanted:
            if self._suitable and self._gop and self._child is None:
                self._start()
            return
        self._say("unwatched", {})
        self._sizes = ()
        self._ladder.pause()
        self._cancel("restart")
        self._cancel("room")
        if self._child is None:
            ROOM.leave(self)
        elif not self._is_draining:
            self._drain(self._child)

    # ── which rungs ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _choose(self, newest: Frame) -> bool:
        """Choose the rungs, when enough of the source has been seen; whether there are some."""
        assert self._track is not None
        first, config = self._gop[0], self._track.config
        seen = newest.dts - first.dts
        if not self._bitrate:
            if len(self._gop) < 2 or not (newest.keyframe or seen >= LONGEST_LOOK):
                return False
            size = self._gop_bytes - (len(newest.data) if newest.keyframe else 0)
            self._bitrate = size * 8 * VIDEO_TIMESCALE // max(seen, 1)
        assert isinstance(config, VideoConfig)
        self._suitable = suitable_rungs(
            self._wanted,
            config,
            self._bitrate,
            common=is_common(self._track),
            maps_tones=self._tool.maps_tones,
        )
        if not self._suitable and hdr_transfer(config) and not self._tool.maps_tones:
            self._turn_off("its picture is HDR, of which there are rungs with hdr=tonemap alone")
        elif not self._suitable:
            self._turn_off(
                f"no rung is clearly smaller than its {config.width}x{config.height} at {self._bitrate // 1000} kbit/s"
            )
        return bool(self._suitable)

    def _find_room(self) -> None:
        """Take as many rungs as the processors have room for, the smaller ones rather than the larger."""
        assert self._track is not None
        config, rate = self._track.config, self._gop[-1].rhythm.frame_rate
        assert isinstance(config, VideoConfig)
        on_hardware = self._tool.encoder is not LIBX264
        sizes, before = list(self._suitable), self._sizes
        maps_tones, preset = bool(hdr_transfer(config)), self._tool.preset
        while sizes and not ROOM.take(
            self,
            estimated_cores(
                config,
                rate,
                sizes,
                preset,
                on_hardware=on_hardware,
                maps_tones=maps_tones,
                has_b_frames=bool(self._tool.b_frames),
            ),
        ):
            sizes.pop(0)
        self._sizes = sizes
        if sizes != before:
            self._ladder.begin([size.rung for size in sizes])
        left_out = [size.rung.name for size in self._suitable[: len(self._suitable) - len(sizes)]]
        if left_out and sizes != before:
            advice = f"there is no processor room for {' and '.join(left_out)}"
            self._advise_room(f"The ladder is off: {advice}." if not sizes else f"Rungs are left out: {advice}.")
            self._say("left out" if sizes else "off", {"rungs": left_out, "reason": advice})
        elif not left_out:
            self._advise_room("")
        if not sizes:
            self._ladder.begin(())
            self._set_timer("room", RETRY_S, self._restart)

    def _advise_room(self, advice: str) -> None:
        self._context.advise("ladder-room", advice)
        if advice:
            self._context.log.warn("{stream}: {advice}", stream=self._context.stream, advice=advice)

    def _shed(self, rung: str) -> None:
        """Work with one rung less: what there is of the processor does not do for all."""
        if len(self._sizes) > 1:
            name = self._sizes[0].rung.name
            self._sizes = self._suitable = self._sizes[1:]
            self._wanted = [each for each in self._wanted if each.name != name]
            self._ladder.begin([size.rung for size in self._sizes])
            self._say("left out", {"rung": name})
            self._context.advise("ladder", f"Viewers do not get {name}: this machine is too slow for so many rungs.")
        assert self._child is not None
        self._child.kill(f"{rung} does not come back in time")

    # ── the child ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self) -> None:
        """Start a child, and feed it from the last keyframe on."""
        assert self._track is not None
        self._find_room()
        if not self._sizes:
            return
        self._encoder = self._encoder or self._tool.encoder
        self._began_s, self._cpu_s = self._context.clock.seconds(), 0.0
        child = Child(
            self._track,
            [size.rung for size in self._sizes],
            configured=lambda rung, config: self._ladder.configured(rung, AVC.fourcc, config),
            returned=self._returned,
            ended=self._child_ended,
            reorders=bool(self._tool.b_frames),
        )
        try:
            assert isinstance(self._track.config, VideoConfig)
            command = self._tool.command(self._track.config, self._sizes, self._encoder)
            child.start(self._context.spawn_process, command, make_environment(os.environ))
        except Exception as error:
            self._turn_off(f"FFmpeg cannot be started: {error}")
            return
        self._child, self._is_draining = child, False
        self._late_checks = 0
        rungs = [size.rung.name for size in self._sizes]
        self._say("started", {"rungs": rungs, "encoder": self._encoder.name})
        for frame in self._gop:
            child.feed(frame)
        if self._audio is not None:
            self._audio.begin()
        self._set_timer("check", CHECK_S, self._check)

    def _returned(self, rung: str, data: bytes, keyframe: bool, frame: Frame, turn: int) -> None:
        self._count_frames.inc()
        self._ladder.frame(rung, frame.pts, data, keyframe=keyframe, arrived_ms=frame.arrived_ms, turn=turn)

    def _check(self) -> None:
        """See that the child is alive."""
        child = self._child
        if child is None or self._is_draining:
            return
        self._count_time(child)
        now = self._context.clock.seconds()
        if now - self._began_s > MEASURED_S and self._cpu_s:
            ROOM.measured(self, self._cpu_s / (now - self._began_s))
        if now - self._fed_s > IDLE_S:
            self._gop.clear()
            self._drain(child)
        elif child.lag > LONGEST_LAG:
            child.kill(f"it is {child.lag // VIDEO_TIMESCALE} s behind")
        elif self._audio is not None and self._audio.lag > LONGEST_LAG:
            self._audio.kill(f"its audio is {self._audio.lag // VIDEO_TIMESCALE} s behind")
        else:
            self._watch_lag(child.lag)
        if not self._is_draining:
            self._set_timer("check", CHECK_S, self._check)

    def _watch_lag(self, lag: int) -> None:
        """Say once when pictures have come late for a while, and when they come in time again."""
        self._late_checks = self._late_checks + 1 if lag > LATE else 0
        if self._late_checks == LATE_CHECKS:
            self._is_behind = True
            self._say("behind", {"lag": round(lag / VIDEO_TIMESCALE, 1)})
        elif not self._late_checks and self._is_behind:
            self._is_behind = False
            self._say("in time", {})

    def _count_time(self, child: Child) -> None:
        """Count the processor time that the child has taken since it was counted last."""
        seconds = child.cpu_seconds
        self._count_cpu.inc(max(0.0, seconds - self._cpu_s))
        self._cpu_s = max(seconds, self._cpu_s)

    def _drain(self, child: Child) -> None:
        """Let the child bring the rest."""
        self._is_draining = True
        if self._audio is not None:
            self._audio.close(forget=False)
        child.close()
        self._cancel("check")
        self._set_timer("drain", LONGEST_DRAIN_S, child.kill, "it does not end")

    def _end_range(self) -> None:
        """Nothing follows that joins on: let the child bring the rest."""
        self._has_range = False
        self._gop.clear()
        self._gop_bytes = 0
        self._cancel("restart")
        self._cancel("room")
        if self._audio is not None:
            self._audio.close(forget=True)
        if self._child is None:
            ROOM.leave(self)
            if not self._has_children:
                self._ladder.drained()
        elif not self._is_draining:
            self._drain(self._child)

    @property
    def _has_children(self) -> bool:
        return self._child is not None or (self._audio is not None and self._audio.is_running)

    def _child_is_gone(self) -> None:
        """See whether that was the last one, where nothing follows."""
        if self._has_children:
            return
        if not self._has_range:
            self._ladder.drained()
        if self._finishes and self._done is not None:
            done, self._done = self._done, None
            done.callback(None)

    def _audio_failed(self, outcome: Outcome) -> None:
        """The child for audio is replaced, or there is no hope."""
        now = self._context.clock.seconds()
        self._count_restart.inc()
        self._restarts.append(now)
        while now - self._restarts[0] > RESTARTS_WITHIN_S:
            self._restarts.popleft()
        said = f"; it said: {' / '.join(outcome.lines)}" if outcome.lines else ""
        if len(self._restarts) > MOST_RESTARTS:
            self._turn_off(f"FFmpeg fails again and again over the audio: {outcome.why}{said}")
            return
        self._context.log.warn(
            "{stream}: FFmpeg failed over the audio: {why}{said}",
            stream=self._context.stream,
            why=outcome.why,
            said=said,
        )
        self._say("failed", {"reason": f"audio: {outcome.why}"})

    def _child_ended(self, child: Child, outcome: Outcome) -> None:
        self._child = None
        self._count_strays.inc(child.strays)
        was_draining, self._is_draining = self._is_draining, False
        self._cancel("check")
        self._cancel("drain")
        if was_draining:
            ROOM.leave(self)
            if self._has_range and self._gop and self._suitable and self._is_wanted and not self._is_off:
                self._start()
        elif not self._is_off:
            self._replace(outcome)
        if was_draining or self._finishes:
            self._child_is_gone()

    def _replace(self, outcome: Outcome) -> None:
        """Have another child begin, if there is hope."""
        now = self._context.clock.seconds()
        ran_s = now - self._began_s
        self._count_restart.inc()
        self._hopeless = self._hopeless + 1 if ran_s < HOPELESS_RUN_S else 0
        self._pause_s = FIRST_PAUSE_S if ran_s >= GOOD_RUN_S else self._pause_s
        self._restarts.append(now)
        while now - self._restarts[0] > RESTARTS_WITHIN_S:
            self._restarts.popleft()
        said = f"; it said: {' / '.join(outcome.lines)}" if outcome.lines else ""
        if self._encoder not in (None, LIBX264):  # hardware has a limited number of sessions
            self._say("fallback", {"encoder": self._encoder.name, "instead": LIBX264.name})
            self._encoder, self._hopeless = LIBX264, 0
        if self._hopeless >= HOPELESS_RUNS or len(self._restarts) > MOST_RESTARTS:
            self._turn_off(f"FFmpeg fails again and again: {outcome.why}{said}")
            return
        self._context.log.warn(
            "{stream}: FFmpeg failed after {ran_s:.1f} s, the next one begins in {pause_s:.0f} s: {why}{said}",
            stream=self._context.stream,
            ran_s=ran_s,
            pause_s=self._pause_s,
            why=outcome.why,
            said=said,
        )
        self._say("failed", {"reason": outcome.why})
        self._ladder.restarted()
        self._set_timer("restart", self._pause_s, self._restart)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def _restart(self) -> None:
        if self._gop and self._child is None and self._has_range and self._is_wanted:
            self._start()

    def _turn_off(self, reason: str) -> None:
        """Make no ladder until the next publish."""
        self._is_off = True
        ROOM.leave(self)
        if self._audio is not None:
            self._audio.close(forget=True)
        if self._child is not None and not self._is_draining:
            self._drain(self._child)
        self._gop.clear()
        self._ladder.begin(())
        self._context.log.warn("{stream}: no ladder: {reason}", stream=self._context.stream, reason=reason)
        self._context.advise("ladder", f"The ladder is off: {reason}.")
        self._say("off", {"reason": reason})

    def _say(self, state: str, more: dict[str, object]) -> None:
        self._context.record(EventType.LADDER, {"state": state, **more})

    # ── timers ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _set_timer(self, name: str, delay_s: float, call: Callable[..., object], *arguments: object) -> None:
        def fire() -> None:
            self._timers.pop(name, None)
            call(*arguments)

        self._cancel(name)
        self._timers[name] = self._context.clock.callLater(delay_s, fire)

    def _cancel(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None and timer.active():
            timer.cancel()
