"""
One FFmpeg at work: fragments into its standard input, the pictures of each rung out of a file descriptor of its own.

All that it writes is read at all times, whatever becomes of it: one pipe that nothing is read from would stop it. What
it does not take waits here, up to a bound. Its presentation times lead back to the frames that were fed.
"""

from __future__ import annotations

import os
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from rapidrtmp.cmaf.fragment import write_fragment
from rapidrtmp.cmaf.init_segment import write_init_segment
from rapidrtmp.codec.flv import PacketKind
from rapidrtmp.codec.table import AVC, SampleReader
from rapidrtmp.errors import MediaError, RapidRTMPError
from rapidrtmp.interfaces import Rung, Sample, SpawnProcess, TrackRun
from rapidrtmp.media import VIDEO_TIMESCALE, Frame, Track, VideoConfig
from rapidrtmp.transcode.command import FIRST_OUTPUT
from rapidrtmp.transcode.flv_reader import FlvReader, VideoTag
from rapidrtmp.transcode.mp4_reader import Mp4Config, Mp4Reader, Mp4Sample

__all__ = ["Child", "Outcome"]

STDIN, STDOUT, STDERR = 0, 1, 2
#: So much may wait for its standard input, and so many frames may be inside.
MOST_QUEUED_BYTES = 16 << 20
MOST_INSIDE = 2_000
#: So many of its last lines are kept, each up to so long.
KEPT_LINES, LONGEST_LINE = 5, 300
_TICKS = VIDEO_TIMESCALE // 1000
_WRAP = 0x7FFFFFFF


class Outcome:
    """
    What a child did.

    :ivar is_good: whether it ended by itself, without an error.
    :ivar why: in words.
    :ivar lines: the last that it said.
    """

    def __init__(self, why: str, lines: Sequence[str], *, is_good: bool) -> None:
        self.why = why
        self.lines = list(lines)
        self.is_good = is_good


@implementer(IPushProducer)
class Child(ProcessProtocol):
    """
    One child.

    :param track: of the frames that are fed.
    :param rungs: those that come back, in the order of the outputs.
    :param configured: called with a rung's name and its configuration; likewise ``returned``, with the picture, whether
        it is a keyframe, the frame that it was made of, and its turn to be decoded (see ``ILadder.frame``); and
        ``ended``, once, with the outcome.
    :param reorders: whether rungs have B-frames, and so come back as fragmented MP4 instead of FLV.
    :ivar fed: how many frames it was given; ``back``: how many pictures came back, of each rung.
    :ivar strays: pictures whose presentation time is that of no frame.
    """

    def __init__(
        self,
        track: Track,
        rungs: Sequence[Rung],
        *,
        configured: Callable[[str, VideoConfig], None],
        returned: Callable[[str, bytes, bool, Frame, int], None],
        ended: Callable[[Child, Outcome], None],
        reorders: bool = False,
    ) -> None:
        self.fed = 0
        self.strays = 0
        self.back = {rung.name: 0 for rung in rungs}
        self._track = track
        outputs = [_Output(rung.name, Mp4Reader() if reorders else FlvReader()) for rung in rungs]
        self._outputs = dict(enumerate(outputs, FIRST_OUTPUT))
        self._reorders = reorders
        self._configured = configured
        self._returned = returned
        self._ended = ended
        self._inside: dict[int, Frame] = {}  # by their time of presentation, as outputs say it
        self._shown: list[int] = []  # the times of presentation of them, in order; of frames fed, where that matters
        self._newest_fed: Frame | None = None
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._is_paused = False
        self._is_closing = False
        self._has_input = True
        self._has_ended = False
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._line = b""
        self._why = ""

    def start(self, spawn: SpawnProcess, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """
        Start it.

        :raises OSError: it cannot be started.
        """
        descriptors: dict[int, int | str] = {STDIN: "w", STDOUT: "r", STDERR: "r", **dict.fromkeys(self._outputs, "r")}
        spawn(self, command[0], command, environment, childFDs=descriptors)

    # ── in ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    def connectionMade(self) -> None:
        """It runs: tell it what the frames are."""
        self._process.registerProducer(self, True)
        self._write(write_init_segment((self._track,)))

    @property
    def _process(self) -> Any:
        return self.transport

    def feed(self, frame: Frame) -> None:
        """Give it the next frame; the first one is a keyframe."""
        if self._is_closing or self._has_ended:
            return
        self.fed += 1
        self._inside[frame.pts if self._reorders else _key(frame.pts)] = frame
        if self._reorders:
            insort(self._shown, frame.pts)
        if len(self._inside) > MOST_INSIDE:
            self._forget_first()
        self._newest_fed = frame
        run = TrackRun(self._track, [Sample(frame, frame.duration)])
        self._write(b"".join(write_fragment(self.fed, [run])))

    def _write(self, data: bytes) -> None:
        if self._is_paused:
            self._queue.append(data)
            self._queued += len(data)
            if self._queued > MOST_QUEUED_BYTES:
                self.kill("it takes nothing any more")
        elif self._has_input:
            self._process.writeToChild(STDIN, data)

    def pauseProducing(self) -> None:
        """Write no more for now: what it was given before still waits."""
        self._is_paused = True

    def resumeProducing(self) -> None:
        """Write what waits."""
        self._is_paused = False
        while self._queue and not self._is_paused:
            data = self._queue.popleft()
            self._queued -= len(data)
            self._write(data)
        if self._is_closing and not self._queue and not self._is_paused:
            self._close_input()

    def stopProducing(self) -> None:
        """Its standard input is closed."""
        self._queue.clear()

    @property
    def cpu_seconds(self) -> float:
        """The processor time that it has taken, as the system says; 0 where that is not known."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (AttributeError, IndexError, OSError, ValueError):
            return 0.0

    @property
    def lag(self) -> int:
        """How far the rung that is furthest behind is behind the newest frame fed, in ticks; 0 before there is one."""
        if self._newest_fed is None or not self._outputs:
            return 0
        first = next(iter(self._inside.values()), self._newest_fed)
        turns = [first.pts if each.turn is None else each.turn for each in self._outputs.values()]
        return max(0, self._newest_fed.pts - min(turns))

    def close(self) -> None:
        """Nothing follows: it ends when it has brought the rest."""
        if not self._is_closing:
            self._is_closing = True
            if not self._queue:
                self._close_input()

    def _close_input(self) -> None:
        if not self._has_ended:
            self._process.unregisterProducer()
            self._process.closeChildFD(STDIN)

    def kill(self, why: str) -> None:
        """End it at once."""
        self._why = self._why or why
        self._queue.clear()
        try:
            self._process.signalProcess("KILL")
        except ProcessExitedAlready:
            pass

    # ── out ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Read what it writes."""
        if childFD == STDERR:
            self._hear(data)
        output = self._outputs.get(childFD)
        if output is None or self._why:
            return
        try:
            output.reader.receive_data(data)
            for event in output.reader.events():
                self._read(output, event)
        except RapidRTMPError as error:
            self.kill(f"{output.rung}: it does not write what it should: {error}")

    def _read(self, output: _Output, event: VideoTag | Mp4Config | Mp4Sample) -> None:
        if isinstance(event, Mp4Config):
            if (event.fourcc, event.timescale) != (AVC.fourcc, VIDEO_TIMESCALE):
                raise MediaError(f"a track of {event.fourcc or 'an unknown codec'} in 1/{event.timescale} s")
            self._configure(output, event.record)
        elif isinstance(event, Mp4Sample):
            self._take(output, event.pts, event.data)
        elif event.packet.kind is PacketKind.CONFIG:
            self._configure(output, event.packet.body)
        elif event.packet.kind is PacketKind.FRAMES:
            self._take(output, event.timestamp_ms + event.packet.composition_ms & _WRAP, event.packet.body)

    def _configure(self, output: _Output, record: bytes) -> None:
        assert AVC.read_config is not None
        assert AVC.reader is not None
        config = AVC.read_config(record)
        assert isinstance(config, VideoConfig)
        output.samples = AVC.reader(config)
        self._configured(output.rung, config)

    def _take(self, output: _Output, time: int, body: bytes) -> None:
        """
        Take a picture.

        :param time: of its presentation, as the output says it.
        """
        if output.samples is None:
            return
        frame = self._inside.get(time)
        data = output.samples.read(body)
        if frame is None:
            self.strays += 1
        elif data is not None:
            output.turn = self._turn(output, frame, keyframe=output.samples.keyframe)
            self.back[output.rung] += 1
            self._forget_old()
            self._returned(output.rung, data, output.samples.keyframe, frame, output.turn)

    def _turn(self, output: _Output, frame: Frame, *, keyframe: bool) -> int:
        """
        When a picture is decoded, as presentation times: pictures behind a keyframe are decoded at the times at which
        pictures are shown behind it, but in another order.
        """
        if not self._reorders or keyframe or output.turn is None:
            return frame.pts
        index = bisect_right(self._shown, output.turn)
        return self._shown[index] if index < len(self._shown) else output.turn + 1

    def _forget_old(self) -> None:
        """Forget frames that all rungs are past, and would not come back to."""
        turns = [each.turn for each in self._outputs.values() if each.turn is not None]
        if len(turns) == len(self._outputs):
            past = min(turns) - VIDEO_TIMESCALE
            while self._inside and next(iter(self._inside.values())).pts < past:
                self._forget_first()

    def _forget_first(self) -> None:
        frame = self._inside.pop(next(iter(self._inside)))
        if self._reorders:
            del self._shown[: bisect_right(self._shown, frame.pts)]

    def _hear(self, data: bytes) -> None:
        *lines, rest = (self._line + data).split(b"\n")
        self._line = rest[-LONGEST_LINE:]
        for line in lines:
            text = line[:LONGEST_LINE].decode("utf-8", "replace").strip()
            if text:
                self._lines.append("".join(char for char in text if char.isprintable()))

    def childConnectionLost(self, childFD: int) -> None:
        """It has closed one of its descriptors, or ended: nothing is written to one that takes nothing."""
        if childFD == STDIN:
            self._has_input = False
            self._queue.clear()

    def processEnded(self, reason: Failure) -> None:
        """It is gone, and all that it wrote has been read."""
        self._has_ended = True
        self._queue.clear()
        self._inside.clear()
        is_good = bool(reason.check(ProcessDone)) and not self._why
        why = self._why or ("it has ended" if is_good else str(reason.value))
        self._ended(self, Outcome(why, tuple(self._lines), is_good=is_good))


class _Output:
    """One output: what has been read of it."""

    def __init__(self, rung: str, reader: FlvReader | Mp4Reader) -> None:
        self.rung = rung
        self.reader = reader
        self.samples: SampleReader | None = None
        self.turn: int | None = None  # that of the newest picture


def _key(pts: int) -> int:
    """The milliseconds of a presentation time, as FLV has them: rounded, and of 31 bits."""
    return (pts + _TICKS // 2) // _TICKS & _WRAP
