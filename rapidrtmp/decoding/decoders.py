"""Tracks decoded with PyAV: pictures at the rate that is asked for, and sound in chunks."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from rapidrtmp.codec.table import CODECS
from rapidrtmp.decoding.wire import FrameHeader, TrackDescription

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["PictureDecoder", "SoundDecoder"]

_MS = Fraction(1, 1000)


def _open(track: TrackDescription) -> Any:
    context = av.CodecContext.create(CODECS[track.codec].decoder, "r")
    if track.extradata:
        context.extradata = bytes.fromhex(track.extradata)
    context.thread_count = 1
    return context


def _packet(header: FrameHeader, data: bytes) -> Any:  # generic in some versions of PyAV
    packet = av.Packet(data)
    packet.pts, packet.dts, packet.time_base = header.pts_ms, header.dts_ms, _MS
    packet.is_keyframe = header.keyframe
    return packet


class PictureDecoder:
    """
    One video track.

    :param every_ms: how far apart pictures are, at least, on average; 0 for all.
    """

    def __init__(self, track: TrackDescription, every_ms: int) -> None:
        self._context: VideoCodecContext = _open(track)
        self._every_ms = every_ms
        self._due_ms = -every_ms - 1
        self._has_begun = False

    def decode(self, header: FrameHeader, data: bytes) -> Iterator[tuple[npt.NDArray[np.uint8], int]]:
        """
        The pictures that are whole with this frame and are due: red, green and blue, and when they were live.

        Nothing before a keyframe, nor of a frame that is damaged.
        """
        self._has_begun = self._has_begun or header.keyframe
        if not self._has_begun:
            return
        yield from self._due(self._decoded(_packet(header, data)))
        if header.alone:
            yield from self._due(self._decoded(None))
            self._context.flush_buffers()

    def drain(self) -> Iterator[tuple[npt.NDArray[np.uint8], int]]:
        """The pictures that are still held; nothing follows."""
        yield from self._due(self._decoded(None))

    def _decoded(self, packet: Any) -> list[VideoFrame]:
        try:
            return self._context.decode(packet)
        except av.FFmpegError:
            return []

    def _due(self, frames: list[VideoFrame]) -> Iterator[tuple[npt.NDArray[np.uint8], int]]:
        for frame in frames:
            time_ms = frame.pts or 0
            if time_ms >= self._due_ms:
                is_late = time_ms - self._due_ms > self._every_ms  # and so is the first
                self._due_ms = (time_ms if is_late else self._due_ms) + self._every_ms
                yield cast("npt.NDArray[np.uint8]", frame.to_ndarray(format="rgb24")), time_ms


class SoundDecoder:
    """
    One audio track.

    :param chunk_ms: how much is given at a time, about.
    :ivar sample_rate: of what was given last.
    """

    def __init__(self, track: TrackDescription, chunk_ms: int) -> None:
        self._context: AudioCodecContext = _open(track)
        self._chunk_ms = chunk_ms
        self._planes: list[npt.NDArray[np.float32]] = []
        self._began_ms = 0
        self.sample_rate = 0

    def decode(self, header: FrameHeader, data: bytes) -> Iterator[tuple[npt.NDArray[np.float32], int]]:
        """The chunks that are whole with this frame: channels x samples, and when the first one was live."""
        try:
            frames = self._context.decode(_packet(header, data))
        except av.FFmpegError:
            return
        for frame in frames:
            yield from self._add(frame)

    def drain(self) -> Iterator[tuple[npt.NDArray[np.float32], int]]:
        """What is less than a chunk; nothing follows."""
        if self._planes:
            yield np.concatenate(self._planes, axis=1), self._began_ms
            self._planes = []

    def _add(self, frame: AudioFrame) -> Iterator[tuple[npt.NDArray[np.float32], int]]:
        plane = _as_floats(frame)
        held = sum(each.shape[1] for each in self._planes)
        other_form = self._planes and plane.shape[0] != self._planes[0].shape[0]
        jumped = self._planes and abs(self._began_ms + held * 1000 // self.sample_rate - (frame.pts or 0)) > 100
        if other_form or jumped or (self._planes and frame.sample_rate != self.sample_rate):
            yield from self.drain()
        if not self._planes:
            self._began_ms, self.sample_rate, held = frame.pts or 0, frame.sample_rate, 0
        self._planes.append(plane)
        if (held + plane.shape[1]) * 1000 >= self._chunk_ms * self.sample_rate:
            yield from self.drain()


def _as_floats(frame: AudioFrame) -> npt.NDArray[np.float32]:
    """The samples, -1 to 1, channels x samples."""
    resampler = AudioResampler(format="fltp", layout=frame.layout, rate=frame.sample_rate)
    pieces = [piece.to_ndarray() for piece in (*resampler.resample(frame), *resampler.resample(None))]
    return np.concatenate(pieces, axis=1).astype(np.float32, copy=False)
