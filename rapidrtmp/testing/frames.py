"""
Where frames come from in a test: tracks whose configs look real, and frames with the times that encoders give them.

Everything is a plain list of :class:`~rapidrtmp.media.Frame`, so that pieces can be put together as a test needs them::

    video, audio = make_video_track(frame_rate=Fraction(30000, 1001)), make_audio_track()
    frames = interleaved(video_frames(video, 8, gop=60, b_frames=2), audio_frames(audio, 8))

:class:`FrameSource` makes an ordinary stream, one piece after another. Frames arrive as a live encoder sends them:
in decode order, each when it would have been encoded. Their payloads are no pictures: they have the form of NAL units
and of AAC frames, about the size asked for, and differ from each other.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from rapidrtmp.codec.aac import read_audio_config
from rapidrtmp.codec.avc import read_avc_config
from rapidrtmp.codec.table import AAC, AVC
from rapidrtmp.media import VIDEO_TIMESCALE, AudioConfig, Frame, Rhythm, Track, VideoConfig
from rapidrtmp.timeline.rhythm import RhythmMeter

__all__ = [
    "FrameSource",
    "audio_frames",
    "delayed",
    "interleaved",
    "make_audio_track",
    "make_video_track",
    "measured",
    "video_frames",
    "video_frames_at",
]

_PPS = bytes.fromhex("68ce3c80")
#: AAC sampling frequencies by index (ISO/IEC 14496-3, 1.6.3.4).
_FREQUENCIES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)
_IDR, _SLICE, _DISPOSABLE_SLICE = 0x65, 0x41, 0x01


# ── tracks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def make_video_track(width: int = 1280, height: int = 720, frame_rate: Fraction | None = None, *, id: int = 1) -> Track:
    """
    A video track: H.264, Baseline profile, level 3.1, with parameter sets that decoders accept.

    :param width: in pixels, even; likewise ``height``.
    :param frame_rate: what the bitstream claims; ``None`` to claim nothing.
    :param id: what tells it from the stream's other tracks.
    """
    sps = _write_sps(width, height, frame_rate)
    record = bytes([1, *sps[1:4], 0xFF, 0xE1]) + struct.pack(">H", len(sps)) + sps
    record += b"\x01" + struct.pack(">H", len(_PPS)) + _PPS
    return AVC.make_track(id, read_avc_config(record))


def make_audio_track(
    sample_rate: int = 48_000, channels: int = 2, *, id: int = 2, language: str = "und", name: str = ""
) -> Track:
    """
    An audio track: AAC-LC, 1024 samples a frame.

    :param sample_rate: one of AAC's own, 7350 to 96000.
    :param channels: 1 to 6.
    :param id: what tells it from the stream's other tracks; ``language`` and ``name`` what people choose it by.
    """
    config = 2 << 11 | _FREQUENCIES.index(sample_rate) << 7 | channels << 3
    return AAC.make_track(id, read_audio_config(config.to_bytes(2, "big")), language, name)


def _write_sps(width: int, height: int, frame_rate: Fraction | None) -> bytes:
    """A sequence parameter set (H.264, 7.3.2.1.1): progressive, one reference frame, cropped to the size."""
    columns, rows = -(-width // 16), -(-height // 16)
    bits = "".join(map(_golomb, (0, 0, 2, 1))) + "0" + _golomb(columns - 1) + _golomb(rows - 1) + "11"
    right, bottom = (columns * 16 - width) // 2, (rows * 16 - height) // 2
    cropping = "".join(map(_golomb, (0, right, 0, bottom)))
    bits += f"1{cropping}" if right or bottom else "0"
    if frame_rate is None:
        bits += "0"
    else:  # timing alone (E.1.1): no aspect, overscan, video signal or chroma before it, nothing behind it
        bits += f"1{'0000'}1{frame_rate.denominator:032b}{2 * frame_rate.numerator:032b}1{'0000'}"
    bits += "1"
    bits += "0" * (-len(bits) % 8)
    raw = bytes([0x42, 0xC0, 0x1F]) + int(bits, 2).to_bytes(len(bits) // 8, "big")
    return b"\x67" + _prevent_emulation(raw)


def _golomb(value: int) -> str:
    """Unsigned Exp-Golomb as text of bits (H.264, 9.1)."""
    bits = f"{value + 1:b}"
    return "0" * (len(bits) - 1) + bits


def _prevent_emulation(raw: bytes) -> bytes:
    out = bytearray()
    for byte in raw:
        if out[-2:] == b"\0\0" and byte <= 3:
            out.append(3)
        out.append(byte)
    return bytes(out)


# ── frames ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def video_frames(
    track: Track,
    seconds: float,
    *,
    frame_rate: Fraction = Fraction(30),
    gop: int = 60,
    b_frames: int = 0,
    start: int = 0,
    first: int = 0,
    dropped: Collection[int] = (),
    size: int = 1_000,
) -> list[Frame]:
    """
    Video on a frame grid.

    :param gop: frames from keyframe to keyframe.
    :param b_frames: so many pictures between two reference pictures, which all GOPs begin and end with.
    :param start: decode time of frame 0 in ticks.
    :param first: the number of the first frame: those before it are left out, but their time has passed.
    :param dropped: numbers of frames, from 0, that the encoder left out; their time passes. Never keyframes.
    :param size: bytes of a frame, about; keyframes have eight times as many.
    """
    grid = _VideoGrid(track, frame_rate, gop, b_frames, start=start, dropped=dropped, size=size)
    grid.pass_by(first)
    return grid.take(round(seconds * frame_rate))


class _VideoGrid:
    """Video on a frame grid, a piece at a time; see :func:`video_frames`."""

    def __init__(
        self,
        track: Track,
        frame_rate: Fraction,
        gop: int,
        b_frames: int,
        *,
        start: int = 0,
        dropped: Collection[int] = (),
        size: int = 1_000,
    ) -> None:
        self._track, self._gop, self._size = track, gop, size
        self._start, self._dropped = start, dropped
        step = VIDEO_TIMESCALE / frame_rate
        self._step: int | Fraction = step.numerator if step.denominator == 1 else step  # whole numbers are far quicker
        self._shown = _presentation_order(gop, b_frames)
        self._delay = 1 if b_frames else 0
        self._meter = _meter_of(track)
        self._next = 0

    def take(self, count: int) -> list[Frame]:
        """The next frames, but those that were dropped."""
        return [self._frame(*each) for each in self._measured(count)]

    def pass_by(self, count: int) -> None:
        """Leave the next frames out; their time passes."""
        for _ in self._measured(count):
            pass

    def _measured(self, count: int) -> Iterator[tuple[int, int, int, Rhythm]]:
        """Number, decode time, duration and rhythm of each."""
        first, self._next = self._next, self._next + count
        following = self._time_of(first)
        for number in range(first, first + count):
            dts, following = following, self._time_of(number + 1)
            keyframe = number % self._gop == 0
            if keyframe or number not in self._dropped:
                yield number, dts, following - dts, self._meter.saw(dts, following - dts, keyframe=keyframe)

    def _time_of(self, number: int) -> int:
        return self._start + round(number * self._step)

    def _frame(self, number: int, dts: int, duration: int, rhythm: Rhythm) -> Frame:
        place = number % self._gop
        shown = self._shown[place]
        head = _IDR if not place else _DISPOSABLE_SLICE if shown < place else _SLICE
        data = _slice(head, number, self._size * 8 if not place else self._size)
        offset = self._time_of(number - place + shown + self._delay) - dts
        arrived_ms = _arrived_ms(self._track, dts, duration)
        return Frame(self._track, dts, offset, duration, not place, data, arrived_ms, rhythm)


def video_frames_at(
    track: Track, times: Sequence[int], keyframes: Collection[int] = (0,), *, duration: int = 3_000, size: int = 1_000
) -> list[Frame]:
    """
    Video without a grid.

    :param times: decode times in ticks, rising.
    :param keyframes: the numbers of those that are keyframes, from 0.
    :param duration: what a frame's successor is expected after.
    """
    frames = []
    for number, time in enumerate(times):
        keyframe = number in keyframes
        data = _slice(_IDR if keyframe else _SLICE, number, size)
        frames.append(Frame(track, time, 0, duration, keyframe, data, _arrived_ms(track, time, duration)))
    return measured(frames)


def audio_frames(track: Track, seconds: float, *, start: int = 0, first: int = 0, size: int = 340) -> list[Frame]:
    """
    Audio without a gap.

    :param start: decode time of frame 0 in samples.
    :param first: the number of the first frame, as in :func:`video_frames`.
    :param size: bytes of a frame.
    """
    config = track.config
    assert isinstance(config, AudioConfig)
    step = config.samples_per_frame
    count = round(seconds * config.sample_rate / step)
    rhythm = Rhythm(Fraction(config.sample_rate, step), step, step, is_steady=True)
    frames = []
    for number in range(first, first + count):
        dts, data = start + number * step, b"\x21" + _filling(number, size - 1)
        frames.append(Frame(track, dts, 0, step, True, data, _arrived_ms(track, dts, step), rhythm))
    return frames


def _presentation_order(gop: int, b_frames: int) -> list[int]:
    """For each picture of a closed GOP in decode order, its place in the order of presentation."""
    order, reference = [0], 0
    while len(order) < gop:
        following = min(reference + b_frames + 1, gop - 1)
        order += [following, *range(reference + 1, following)]
        reference = following
    return order


def _slice(head: int, number: int, size: int) -> bytes:
    header = b"\x88" if head == _IDR else b"\x9a"  # the picture's first macroblock, slices of type I or P
    nal = bytes([head]) + header + _filling(number, size - 6)
    return struct.pack(">I", len(nal)) + nal


def _filling(number: int, size: int) -> bytes:
    """Bytes that tell frames apart and hold no start code; ten at least."""
    mark = b"%010d" % number
    return (mark * (size // 10 + 1))[: max(size, 10)]


def _arrived_ms(track: Track, dts: int, duration: int) -> int:
    """The millisecond in which a frame is complete, and arrives."""
    return (dts + duration) * 1000 // track.timescale


# ── putting together ─────────────────────────────────────────────────────────────────────────────────────────────────


def measured(frames: Iterable[Frame]) -> list[Frame]:
    """The same frames, of one video track, each with the rhythm that they have from the first of them on."""
    meter: RhythmMeter | None = None
    found: list[Frame] = []
    for frame in frames:
        meter = meter or _meter_of(frame.track)
        found.append(replace(frame, rhythm=meter.saw(frame.dts, frame.duration, keyframe=frame.keyframe)))
    return found


def _meter_of(track: Track) -> RhythmMeter:
    """Measures a track that claims what its configuration does."""
    meter, config = RhythmMeter(), track.config
    if isinstance(config, VideoConfig) and config.frame_rate is not None:
        meter.begin((config.frame_rate,))
    return meter


def delayed(frames: Iterable[Frame], by_ms: int) -> list[Frame]:
    """The same frames, arriving later (or, with less than 0, earlier); their own times stay."""
    return [replace(frame, arrived_ms=frame.arrived_ms + by_ms) for frame in frames]


def interleaved(*tracks: Iterable[Frame]) -> list[Frame]:
    """The frames of several tracks in the order in which they arrive; of two at one time, the one of the first."""
    return list(heapq.merge(*tracks, key=lambda frame: frame.arrived_ms))


class FrameSource:
    """
    An ordinary stream, a piece at a time.

    :param video: its video track, or ``None``; likewise ``audio``.
    :param frame_rate: frames a second of the video.
    :param gop: frames from keyframe to keyframe; pieces are whole GOPs.
    :param b_frames: pictures between two reference pictures.
    """

    def __init__(
        self,
        video: Track | None,
        audio: Track | None,
        *,
        frame_rate: Fraction = Fraction(30),
        gop: int = 60,
        b_frames: int = 0,
    ) -> None:
        self.tracks = tuple(track for track in (video, audio) if track is not None)
        self._video = _VideoGrid(video, frame_rate, gop, b_frames) if video is not None else None
        self._audio = audio
        self._frame_rate, self._gop = frame_rate, gop
        self._gops = 0
        self._audio_frames = 0

    def take(self, gops: int = 1) -> list[Frame]:
        """The frames of so many more GOPs, all tracks, as they arrive. Audio alone counts by the same time."""
        self._gops += gops
        until_s = self._gops * self._gop / self._frame_rate
        tracks = []
        if self._video is not None:
            tracks.append(self._video.take(round(gops * self._gop)))
        if self._audio is not None:
            tracks.append(self._take_audio(self._audio, until_s))
        return interleaved(*tracks)

    def _take_audio(self, track: Track, until_s: Fraction) -> list[Frame]:
        config = track.config
        assert isinstance(config, AudioConfig)
        first, self._audio_frames = self._audio_frames, int(until_s * config.sample_rate / config.samples_per_frame)
        seconds = (self._audio_frames - first) * config.samples_per_frame / config.sample_rate
        return audio_frames(track, seconds, first=first)

    def __iter__(self) -> Iterator[Frame]:
        """Frames without end."""
        while True:
            yield from self.take()
