"""
The values that travel from the codec layer through a live stream to every sink.

All are immutable: ten sinks may keep one frame without a copy. Times are integers in ticks of the track's timescale.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from rapidrtmp.support.frozen import filled_by_slot

__all__ = [
    "AudioConfig",
    "CodecConfig",
    "Colour",
    "ContentLight",
    "Frame",
    "MasteringDisplay",
    "MediaKind",
    "Rhythm",
    "TimedMetadata",
    "Track",
    "VideoConfig",
]

#: Every video track counts in 1/90000 s: exact for milliseconds, and for the frames of 29.97 Hz and its like.
VIDEO_TIMESCALE = 90_000
#: What an ID3 tag in an event message is (Carriage of ID3 Timed Metadata in CMAF, 2).
ID3_SCHEME = "https://aomedia.org/emsg/ID3"


class MediaKind(enum.Enum):
    """What a track carries."""

    VIDEO = "video"
    AUDIO = "audio"


@dataclass(frozen=True, slots=True)
class Colour:
    """Colour description as code points of ITU-T H.273, and whether samples use the full range."""

    primaries: int
    transfer: int
    matrix: int
    full_range: bool


@dataclass(frozen=True, slots=True)
class MasteringDisplay:
    """
    The display that pictures were mastered on (SMPTE ST 2086).

    :ivar green: where this primary lies in CIE 1931, x and y in steps of 0.00002; likewise ``blue``, ``red`` and the
        ``white`` point.
    :ivar max_luminance: in steps of 0.0001 cd/m2; likewise ``min_luminance``.
    """

    green: tuple[int, int]
    blue: tuple[int, int]
    red: tuple[int, int]
    white: tuple[int, int]
    max_luminance: int
    min_luminance: int


@dataclass(frozen=True, slots=True)
class ContentLight:
    """How bright pictures are (CTA-861.3): ``max_content`` of a pixel, ``max_average`` of a frame, both in cd/m2."""

    max_content: int
    max_average: int


@dataclass(frozen=True, slots=True)
class VideoConfig:
    """
    How to decode a video track; the facts come from the bitstream.

    :ivar record: the codec's own configuration record.
    :ivar codec_string: as in RFC 6381, ``avc1.64001f``.
    :ivar width: coded width in pixels after cropping; likewise ``height``.
    :ivar pixel_aspect: sample aspect ratio, horizontal to vertical.
    :ivar frame_rate: what the bitstream claims, in frames a second; encoders lie, so measure before relying on it.
    :ivar colour: the colour description, if there is one.
    :ivar skips_leading: whether decoders that begin at a keyframe leave out by themselves what is decoded after it,
        shown before it, and needs others from before.
    :ivar mastering: the display it was mastered on, if that is said; likewise how bright it is, ``light``.
    """

    record: bytes
    codec_string: str
    width: int
    height: int
    pixel_aspect: tuple[int, int] = (1, 1)
    frame_rate: Fraction | None = None
    colour: Colour | None = None
    mastering: MasteringDisplay | None = None
    light: ContentLight | None = None
    skips_leading: bool = False


@dataclass(frozen=True, slots=True)
class AudioConfig:
    """
    How to decode an audio track.

    :ivar record: the codec's own configuration.
    :ivar codec_string: as in RFC 6381, ``mp4a.40.2``.
    :ivar sample_rate: samples a second in the clock the track's times count in (the output rate for explicitly
        signalled SBR, else the core rate).
    :ivar channels: output channels.
    :ivar samples_per_frame: what frames last as a rule, in samples at ``sample_rate``; each says what it lasts itself.
    """

    record: bytes
    codec_string: str
    sample_rate: int
    channels: int
    samples_per_frame: int


CodecConfig = VideoConfig | AudioConfig


@dataclass(frozen=True)
class Track:
    """
    One elementary stream of a live stream.

    :ivar id: what tells it from the stream's other tracks, in MP4 boxes too: 1 or more, the same over the life of the
        stream. It says nothing of what the track carries.
    :ivar kind: whether it is video or audio.
    :ivar codec: the FourCC by which the codec table lists its codec.
    :ivar config: how to decode it.
    :ivar language: as in ISO 639-2, ``und`` for unknown.
    :ivar name: for people who choose between tracks; empty where it has none.
    """

    id: int
    kind: MediaKind
    codec: str
    config: CodecConfig
    language: str = "und"
    name: str = ""

    @cached_property
    def timescale(self) -> int:
        """Ticks a second of this track's times."""
        return self.config.sample_rate if isinstance(self.config, AudioConfig) else VIDEO_TIMESCALE

    @property
    def rendition_name(self) -> str:
        """The folder of a rendition of it: its kind, and the number that the publisher gave it."""
        return f"{self.kind.value}-{(self.id - 1) // 2}"


@dataclass(frozen=True, slots=True)
class Rhythm:
    """
    What has been measured of a track, up to a frame. Times are in ticks of the track's timescale.

    :ivar frame_rate: frames a second over the last GOPs; ``None`` until that is known.
    :ivar keyframe_interval: between the last two keyframes; 0 until there were two.
    :ivar longest_interval: the longest of late: how far away the next keyframe may be.
    :ivar is_steady: whether the last intervals were of one length, so that the next one should be.
    """

    frame_rate: Fraction | None = None
    keyframe_interval: int = 0
    longest_interval: int = 0
    is_steady: bool = False


@filled_by_slot
@dataclass(frozen=True, slots=True)
class Frame:
    """
    One access unit of video, or one frame of audio, on the live stream's own timeline.

    :ivar track: the track it belongs to: the very object last given to ``tracks_changed``.
    :ivar dts: decode time in ticks of the track's timescale, 0 or more, rising strictly within the track.
    :ivar composition_offset: presentation time minus ``dts``, in the same ticks; may be negative.
    :ivar duration: in the same ticks. Exact for audio; for video what is to be expected: the true duration is the
        distance to the next frame's ``dts``, and this stands in for it where no next frame comes.
    :ivar keyframe: decoding may start here (a sync sample); true for all audio.
    :ivar data: the sample as MP4 stores it: length-prefixed NAL units, one raw AAC frame.
    :ivar arrived_ms: when its last byte reached this server, in milliseconds of the reactor's clock.
    :ivar rhythm: what has been measured of its track so far, this frame included.
    """

    track: Track
    dts: int
    composition_offset: int
    duration: int
    keyframe: bool
    data: bytes
    arrived_ms: int
    rhythm: Rhythm = Rhythm()

    @property
    def pts(self) -> int:
        """Presentation time in ticks of the track's timescale."""
        return self.dts + self.composition_offset


@dataclass(frozen=True, slots=True)
class TimedMetadata:
    """
    Something said about one moment of a live stream, for players to show or act on at that moment.

    :ivar time_ms: that moment on the live stream's own timeline, as presentation times are, in milliseconds.
    :ivar data: what is said, in the form of ``scheme``.
    :ivar scheme: a URI; by default ``data`` is an ID3 tag (version 2).
    :ivar name: of the message that an encoder said it with, ``onCuePoint`` for example; empty for what a sink says.
    :ivar values: those of that message, as AMF has them: texts, numbers, and mappings and sequences of such.
    """

    time_ms: int
    data: bytes
    scheme: str = ID3_SCHEME
    name: str = ""
    values: tuple[object, ...] = ()
