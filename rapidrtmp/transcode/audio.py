"""
The audio of rungs coded anew: one further FFmpeg for a stream whose audio not all players can play.

It is fed as the one for pictures is, from about the same keyframe on, and brings AAC with exact times, in samples.
While it is replaced the rungs have silence, and are late.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IDelayedCall

from rapidrtmp.codec.table import AAC
from rapidrtmp.errors import MediaError
from rapidrtmp.interfaces import Rung, TranscoderContext
from rapidrtmp.media import VIDEO_TIMESCALE, AudioConfig, Frame, MediaKind, Track
from rapidrtmp.transcode.child import Child, Outcome
from rapidrtmp.transcode.command import make_audio_command, make_environment
from rapidrtmp.transcode.flv_reader import VideoTag
from rapidrtmp.transcode.mp4_reader import Mp4Config, Mp4Sample

__all__ = ["AudioChild", "AudioCoder"]

#: A child that is to begin is fed from so much before the pictures.
HEAD_START_S = 0.5
RESTART_S, LONGEST_DRAIN_S = 1.0, 2.0


class AudioChild(Child):
    """
    One child, for audio.

    :param returned: called with each frame of AAC.
    """

    def __init__(
        self, track: Track, *, returned: Callable[[Frame], None], ended: Callable[[Child, Outcome], None]
    ) -> None:
        super().__init__(
            track,
            [Rung("audio", 0)],
            configured=lambda _rung, _config: None,
            returned=lambda *_picture: None,
            ended=ended,
            reorders=True,
        )
        self._frame_returned = returned
        self._coded: Track | None = None
        self._newest_s: float | None = None  # when the newest frame begins

    @property
    def lag(self) -> int:
        """See :class:`Child`."""
        if self._newest_fed is None:
            return 0
        first = next(iter(self._inside.values()), self._newest_fed)
        newest_s = first.pts / self._track.timescale if self._newest_s is None else self._newest_s
        return max(0, round((self._newest_fed.pts / self._track.timescale - newest_s) * VIDEO_TIMESCALE))

    def _read(self, output: object, event: VideoTag | Mp4Config | Mp4Sample) -> None:  # noqa: ARG002 - there is one
        if isinstance(event, Mp4Config):
            read_config = AAC.read_config if event.fourcc == AAC.fourcc else None
            config = read_config(event.record) if read_config is not None else None
            if not isinstance(config, AudioConfig) or config.sample_rate != event.timescale:
                raise MediaError(f"a track of {event.fourcc or 'an unknown codec'} in 1/{event.timescale} s")
            self._coded = AAC.make_track(self._track.id, config, self._track.language, self._track.name)
        elif isinstance(event, Mp4Sample) and self._coded is not None and self._newest_fed is not None:
            self._newest_s = event.pts / self._coded.timescale
            duration = self._coded.config.samples_per_frame if isinstance(self._coded.config, AudioConfig) else 0
            arrived_ms = self._newest_fed.arrived_ms
            if event.pts >= 0:
                self._frame_returned(Frame(self._coded, event.pts, 0, duration, True, event.data, arrived_ms))


class AudioCoder:
    """
    What codes the audio of one stream.

    :param ffmpeg: its path.
    :param failed: called with the outcome of a child that has to be replaced.
    :param ended: called when a child has ended that was to.
    :ivar is_running: whether there is a child.
    """

    def __init__(
        self,
        context: TranscoderContext,
        ffmpeg: str,
        failed: Callable[[Outcome], None],
        ended: Callable[[], None],
    ) -> None:
        self._context = context
        self._ffmpeg = ffmpeg
        self._failed = failed
        self._ended = ended
        self._track: Track | None = None  # what is coded; none where that is not needed
        self._recent: deque[Frame] = deque()  # since somewhat before the last keyframe
        self._child: AudioChild | None = None
        self._is_wanted = self._is_closing = False
        self._timer: IDelayedCall | None = None

    @property
    def is_running(self) -> bool:
        """See the class."""
        return self._child is not None

    @property
    def lag(self) -> int:
        """How far it is behind, in 1/90000 s."""
        return 0 if self._child is None or self._is_closing else self._child.lag

    def tracks_changed(self, tracks: Sequence[Track]) -> bool:
        """Learn of which tracks the frames that follow are; whether there is audio that is coded anew."""
        audio = [track for track in tracks if track.kind is MediaKind.AUDIO]
        is_needed = len(audio) == 1 and audio[0].codec != AAC.fourcc
        self._track = audio[0] if is_needed else None
        self._context.ladder.audio_coded([audio[0].id] if is_needed else [])
        return is_needed

    def frame_received(self, frame: Frame) -> None:
        """Keep a frame of audio for a child that begins, and feed the one there is."""
        if self._track is not None and frame.track.id == self._track.id:
            self._recent.append(frame)
            if self._child is not None and not self._is_closing:
                self._child.feed(frame)

    def keyframe(self, frame: Frame) -> None:
        """Forget what no child would be fed with any more."""
        until_s = frame.dts / frame.track.timescale - HEAD_START_S
        while self._recent and self._recent[0].dts / self._recent[0].track.timescale < until_s:
            self._recent.popleft()

    def begin(self) -> None:
        """Have a child, now or when the one before has brought the rest."""
        self._is_wanted = self._track is not None
        if self._is_wanted and self._child is None and self._timer is None:
            self._start()

    def _start(self) -> None:
        self._timer = None
        if not self._is_wanted or self._track is None:
            return
        child = AudioChild(self._track, returned=self._context.ladder.audio_frame, ended=self._child_ended)
        try:
            command = make_audio_command(self._ffmpeg, self._track)
            child.start(self._context.spawn_process, command, make_environment(os.environ))
        except Exception as error:
            self._failed(Outcome(f"FFmpeg cannot be started: {error}", (), is_good=False))
            return
        self._child, self._is_closing = child, False
        for frame in self._recent:
            child.feed(frame)

    def kill(self, why: str) -> None:
        """End the child at once; another one begins."""
        if self._child is not None:
            self._child.kill(why)

    def close(self, *, forget: bool) -> None:
        """
        Let the child bring the rest.

        :param forget: whether what was kept does not belong to what follows.
        """
        self._is_wanted = False
        if forget:
            self._recent.clear()
        self._stop_timer()
        if self._child is not None and not self._is_closing:
            self._is_closing = True
            self._child.close()
            self._timer = self._context.clock.callLater(LONGEST_DRAIN_S, self.kill, "it does not end")

    def _child_ended(self, _child: Child, outcome: Outcome) -> None:
        was_closing, self._child, self._is_closing = self._is_closing, None, False
        self._stop_timer()
        if not was_closing:
            self._timer = self._context.clock.callLater(RESTART_S, self._start)
            self._failed(outcome)
            return
        if self._is_wanted:
            self._start()
        self._ended()

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
