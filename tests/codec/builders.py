"""
Publishers in miniature: FLV tags with codec configs and pictures that look real, in the classic form.

Nothing here is read from a file, so a test can ask for the frame rate, the picture size or the clock it needs.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from typing import NamedTuple

from rapidrtmp.live.demuxer import Demuxer, MediaEvent, MediaProblem
from rapidrtmp.media import Frame, MediaKind

PPS = bytes.fromhex("68ce3c80")
#: AAC LC, 48 kHz and 44.1 kHz, stereo.
ASC_48K = bytes.fromhex("1190")
ASC_44K = bytes.fromhex("1210")


def _golomb(value: int) -> str:
    """Unsigned Exp-Golomb, as text of bits (H.264, 9.1)."""
    bits = f"{value + 1:b}"
    return "0" * (len(bits) - 1) + bits


def sps(width_mbs: int = 80, height_mbs: int = 45, rate: Fraction | None = None) -> bytes:
    """A sequence parameter set of the baseline profile, level 3.1; with a frame rate in its VUI if one is given."""
    ue = _golomb
    bits = "".join(ue(value) for value in (0, 0, 2, 1)) + "0" + ue(width_mbs - 1) + ue(height_mbs - 1) + "110"
    if rate is None:
        bits += "0"
    else:
        timing = f"{rate.denominator:032b}{2 * rate.numerator:032b}1"
        bits += "1" + "0000" + "1" + timing + "0000"  # no aspect, overscan, video signal or chroma; timing; no more
    bits += "1"
    bits += "0" * (-len(bits) % 8)
    raw = bytes([0x42, 0xC0, 0x1F]) + int(bits, 2).to_bytes(len(bits) // 8, "big")
    return b"\x67" + _prevent_emulation(raw)


def _prevent_emulation(raw: bytes) -> bytes:
    out = bytearray()
    for byte in raw:
        if out[-2:] == b"\0\0" and byte <= 3:
            out.append(3)
        out.append(byte)
    return bytes(out)


def avcc(sequence_set: bytes) -> bytes:
    """An AVC decoder configuration record with one SPS and one PPS, NAL unit lengths of four bytes."""
    head = bytes([1, *sequence_set[1:4], 0xFF, 0xE1])
    return head + struct.pack(">H", len(sequence_set)) + sequence_set + b"\x01" + struct.pack(">H", len(PPS)) + PPS


def video_config(rate: Fraction | None = None, width_mbs: int = 80) -> bytes:
    """The payload of a classic AVC sequence header."""
    return b"\x17\x00\x00\x00\x00" + avcc(sps(width_mbs, rate=rate))


def audio_config(config: bytes = ASC_48K) -> bytes:
    """The payload of a classic AAC sequence header."""
    return b"\xaf\x00" + config


#: What a mark is written with, for a NAL unit never holds what looks like a start code.
_NO_ZEROS = 0x55AA55AA


def picture(keyframe: bool, composition_ms: int = 0, mark: int = 0, nanoseconds: int | None = None) -> bytes:
    """The payload of one coded picture of one slice; with ``nanoseconds`` in the enhanced form, behind a ModEx."""
    nal = (b"\x65\x88" if keyframe else b"\x41\x9a") + struct.pack(">I", mark ^ _NO_ZEROS) + b"\x88\x84"
    body = struct.pack(">I", len(nal)) + nal
    offset = composition_ms.to_bytes(3, "big", signed=True)
    if nanoseconds is None:
        return bytes([0x17 if keyframe else 0x27, 1]) + offset + body
    frame_type = 0x10 if keyframe else 0x20
    return bytes([0x80 | frame_type | 7, 2]) + nanoseconds.to_bytes(3, "big") + b"\x01avc1" + offset + body


def sound(mark: int = 0) -> bytes:
    """The payload of one AAC frame."""
    return b"\xaf\x01\x21" + struct.pack(">I", mark)


def on_track(track_id: int, payload: bytes) -> bytes:
    """A classic AVC or AAC payload as the enhanced form has it for a further track (Enhanced RTMP v2, OneTrack)."""
    first, packet_type = payload[:2]
    if first == 0xAF:
        return b"\x95" + bytes([packet_type]) + b"mp4a" + bytes([track_id]) + payload[2:]
    body = payload[2:] if packet_type == 1 else payload[5:]
    return bytes([0x80 | first & 0x70 | 6, packet_type]) + b"avc1" + bytes([track_id]) + body


END_OF_VIDEO = b"\x17\x02\x00\x00\x00"


class Message(NamedTuple):
    """An audio or video message on its way to a demuxer."""

    kind: MediaKind
    timestamp: int
    payload: bytes


def video(timestamp: int, payload: bytes) -> Message:
    """A video message."""
    return Message(MediaKind.VIDEO, timestamp & 0xFFFF_FFFF, payload)


def audio(timestamp: int, payload: bytes) -> Message:
    """An audio message."""
    return Message(MediaKind.AUDIO, timestamp & 0xFFFF_FFFF, payload)


def video_messages(times: Iterable[int], gop: int = 30) -> Iterator[Message]:
    """Pictures with these timestamps, every ``gop``-th a keyframe."""
    return (video(time, picture(index % gop == 0, mark=index)) for index, time in enumerate(times))


def audio_messages(times: Iterable[int]) -> Iterator[Message]:
    """Audio frames with these timestamps."""
    return (audio(time, sound(index)) for index, time in enumerate(times))


def every(rate: Fraction | int, count: int, start_ms: int = 0) -> list[int]:
    """``count`` timestamps at ``rate`` frames a second, rounded to milliseconds as encoders do."""
    return [start_ms + (2 * index * 1000 + rate) // (2 * rate) for index in range(count)]


def aac_48k(count: int, start_ms: int = 0) -> list[int]:
    """Timestamps of ``count`` AAC frames at 48 kHz."""
    return every(Fraction(48_000, 1024), count, start_ms)


def interleaved(*tracks: Iterable[Message]) -> list[Message]:
    """The messages of all tracks by timestamp, as a muxer sends them."""
    return sorted((message for track in tracks for message in track), key=lambda message: message.timestamp)


def shifted(messages: Iterable[Message], by_ms: int, modulus: int = 1 << 32) -> list[Message]:
    """The messages of a publisher whose clock is ahead by ``by_ms`` and wraps at ``modulus``."""
    return [message._replace(timestamp=(message.timestamp + by_ms) % modulus) for message in messages]


def configs(rate: Fraction | None = None, asc: bytes | None = ASC_48K, *, has_video: bool = True) -> list[Message]:
    """The sequence headers that open a publish, at timestamp 0."""
    opening = [video(0, video_config(rate))] if has_video else []
    return opening + ([audio(0, audio_config(asc))] if asc else [])


def demux(
    messages: Iterable[Message],
    demuxer: Demuxer | None = None,
    *,
    metadata: Mapping[str, object] | None = None,
    now_ms: Callable[[int], int] = lambda index: index * 14,
) -> list[MediaEvent]:
    """
    Everything that a publish of these messages turns into, its end included.

    :param now_ms: when the message of an index arrives; as two tracks together do in real time, unless given.
    """
    demuxer = demuxer or Demuxer()
    if metadata is not None:
        demuxer.metadata_received(metadata)
    events: list[MediaEvent] = []
    for index, message in enumerate(messages):
        receive = demuxer.video_received if message.kind is MediaKind.VIDEO else demuxer.audio_received
        events += receive(message.timestamp, message.payload, now_ms(index))
    return events + demuxer.finish()


def mark_of(frame: Frame) -> int:
    """The ``mark`` that the frame's picture or sound was made with."""
    if frame.track.kind is MediaKind.VIDEO:
        return int.from_bytes(frame.data[6:10], "big") ^ _NO_ZEROS
    return int.from_bytes(frame.data[1:5], "big")


def problems_of(events: Iterable[MediaEvent]) -> list[str]:
    """The kinds of the problems among events, in order."""
    return [event.kind for event in events if isinstance(event, MediaProblem)]


def track_frames(events: Iterable[MediaEvent], track_id: int) -> list[Frame]:
    """The frames of one track, by its id in the stream."""
    return [event for event in events if isinstance(event, Frame) and event.track.id == track_id]


def frames_of(events: Iterable[MediaEvent], kind: MediaKind) -> list[Frame]:
    """The frames of one kind of track."""
    return [event for event in events if isinstance(event, Frame) and event.track.kind is kind]


def steps(frames: list[Frame]) -> list[int]:
    """The distances between the decode times of frames."""
    return [after.dts - before.dts for before, after in itertools.pairwise(frames)]
