"""
From frames to FLV messages: the bodies of RTMP's audio, video and data messages, and of the tags of an FLV file.

One :class:`FlvWriter` renders a stream for all receivers of the same capabilities. Give it the tracks and the frames as
a sink gets them, and send what it returns::

    writer = FlvWriter(FIRST_TRACKS)
    writer.tracks_changed(tracks)
    for frame in frames:
        for message in writer.write(frame):
            session.send(message.type_id, message.timestamp, message.body)

What describes a track (``onMetaData``, and its configuration) goes in front of the first frame behind a change. For a
receiver that comes later, :meth:`FlvWriter.write_start` makes the same again, for the time of the frame that it begins
with. :mod:`~rapidrtmp.codec.flv_file` makes tags of messages, and ``rtmp`` chunks.

Times are those of the stream's timeline in milliseconds: decode times rounded, and presentation times likewise, so that
neither drifts. Messages of one track come in the order of their decode times; two may have the same millisecond.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from rapidrtmp.codec.flv_capabilities import FIRST_TRACKS, FlvCapabilities
from rapidrtmp.codec.table import AAC, CODECS
from rapidrtmp.media import AudioConfig, Colour, Frame, MediaKind, Track, VideoConfig
from rapidrtmp.rtmp.amf import Value
from rapidrtmp.rtmp.amf0 import write_values

__all__ = ["AUDIO_TAG", "DATA_TAG", "VIDEO_TAG", "FlvMessage", "FlvWriter", "describe_tracks", "write_data"]

#: Types of tags, which RTMP has as types of messages.
AUDIO_TAG, VIDEO_TAG, DATA_TAG = 8, 9, 18

_KEY, _INTER = 0x10, 0x20
_ENHANCED_VIDEO, _ENHANCED_AUDIO = 0x80, 0x90
_START, _CODED_FRAMES, _END, _CODED_FRAMES_X, _METADATA, _MOD_EX = 0, 1, 2, 3, 4, 7
#: Of audio the packet that tells of channels has the number of video's metadata; the orders that it can name.
_MULTICHANNEL, _UNSPECIFIED_ORDER, _NATIVE_ORDER = 4, 0, 1
#: The channels that are meant where there are one or two: the centre; left and right.
_NATIVE_CHANNELS = {1: 4, 2: 3}
_VIDEO_MULTITRACK, _AUDIO_MULTITRACK = 6, 5
#: AAC's first byte is always the same; MP3's tells a sampling frequency, of which there are few.
_AAC_HEAD = 0xAF
_MP3, _MP3_8K = 2, 14
_MP3_RATES = {11_025: 1, 12_000: 1, 22_050: 2, 24_000: 2, 16_000: 2}
_MP3_USUAL_RATE = 3
_VIDEO, _AUDIO = MediaKind.VIDEO, MediaKind.AUDIO
#: By which metadata names the codecs of the classic form; the others by their FourCC, read as a number.
_NUMBERS = {"avc1": 7, AAC.fourcc: 10, ".mp3": 2}


class FlvMessage(NamedTuple):
    """
    A message, or the tag of a file.

    :ivar type_id: ``AUDIO_TAG``, ``VIDEO_TAG`` or ``DATA_TAG``.
    :ivar timestamp: in milliseconds of the stream's timeline; not wrapped.
    :ivar head: the body begins with this; ``data`` is the rest of it, the very bytes of a frame.
    """

    type_id: int
    timestamp: int
    head: bytes
    data: bytes

    @property
    def body(self) -> bytes:
        """All of it, in one piece."""
        return self.head + self.data


def write_data(name: str, values: Sequence[Any], timestamp: int) -> FlvMessage | None:
    """
    A data message: what an encoder or a sink says of a moment; ``None`` for what AMF0 cannot say.

    :param timestamp: that moment, in milliseconds.
    """
    try:
        return FlvMessage(DATA_TAG, timestamp, b"", write_values(name, *values))
    except (TypeError, ValueError, RecursionError):
        return None


class FlvWriter:
    """
    Renders one stream; see the module.

    :param capabilities: what the receivers take. Tracks that they do not are left out.
    :ivar tracks: those that are rendered, video first. The first of each kind is the receiver's default track (0 on the
        wire); further ones are numbered in the order in which they stand here.
    :ivar left_out: those that are not.
    """

    def __init__(self, capabilities: FlvCapabilities = FIRST_TRACKS) -> None:
        self.tracks: tuple[Track, ...] = ()
        self.left_out: tuple[Track, ...] = ()
        self._capabilities = capabilities
        self._lanes: dict[int, _Lane] = {}
        self._rates: dict[int, Fraction] = {}
        self._due: tuple[_Lane, ...] = ()  # the configurations to be sent in front of the next frame

    def tracks_changed(self, tracks: Iterable[Track]) -> None:
        """Learn the tracks of the frames that follow, in the stream's order; they may be any part of its tracks."""
        before = self._lanes
        self._lanes = {}
        left_out = []
        numbers = {_VIDEO: 0, _AUDIO: 0}
        for track in tracks:
            number = numbers[track.kind]
            if self._takes(track, number):
                numbers[track.kind] += 1
                self._lanes[track.id] = _Lane(track, number, self._capabilities)
            else:
                left_out.append(track)
        lanes = sorted(self._lanes.values(), key=lambda lane: lane.track.kind is _AUDIO)
        self.tracks = tuple(lane.track for lane in lanes)
        self.left_out = tuple(left_out)
        due = {lane.track.id for lane in self._due}
        self._due = tuple(
            lane for lane in lanes if lane.track.id in due or not lane.is_described_by(before.get(lane.track.id))
        )

    def _takes(self, track: Track, number: int) -> bool:
        if number:
            return self._capabilities.multitrack and self._capabilities.takes(track.codec)
        return self._capabilities.plays(track.codec)

    def write(self, frame: Frame) -> Sequence[FlvMessage]:
        """One frame, behind what has to be said before it; nothing for one of a track that is left out."""
        lane = self._lanes.get(frame.track.id)
        if lane is None:
            return ()
        if frame.keyframe and frame.rhythm.frame_rate is not None:
            self._rates[frame.track.id] = frame.rhythm.frame_rate
        message = lane.write(frame)
        if not self._due:
            return (message,)
        due, self._due = self._due, ()
        return (*self._describe(due, message.timestamp), message)

    def write_start(self, timestamp: int) -> Sequence[FlvMessage]:
        """
        What a receiver has to have before its first frame.

        :param timestamp: of that frame, in milliseconds of the stream's timeline.
        """
        return self._describe(tuple(self._lanes[track.id] for track in self.tracks), timestamp)

    def write_end(self, timestamp: int) -> Sequence[FlvMessage]:
        """
        What a receiver gets behind the last frame; nothing for one that has not said that it knows such packets.

        :param timestamp: of that frame, in milliseconds of the stream's timeline.
        """
        ends = (self._lanes[track.id].write_end(timestamp) for track in self.tracks)
        return [end for end in ends if end is not None]

    def timestamp_of(self, frame: Frame) -> int:
        """The timestamp that a frame has, in milliseconds, whether or not it is left out."""
        return _milliseconds(frame.dts, frame.track.timescale)

    def _describe(self, lanes: tuple[_Lane, ...], timestamp: int) -> Sequence[FlvMessage]:
        values = describe_tracks(self.tracks, self._rates)
        # At any other time FFmpeg takes it for subtitles, and shows one more stream.
        metadata = FlvMessage(DATA_TAG, 0, b"", write_values("onMetaData", values))
        return (metadata, *(message for lane in lanes for message in lane.write_start(timestamp)))


def describe_tracks(tracks: Iterable[Track], frame_rates: Mapping[int, Fraction] | None = None) -> dict[str, Value]:
    """
    The values of ``onMetaData`` for those tracks, and no others: players wait for what it announces.

    :param frame_rates: as measured, by the track's id; where it is not in there, what the bitstream claims counts.
    """
    kinds: dict[MediaKind, list[Track]] = {_VIDEO: [], _AUDIO: []}
    for track in tracks:
        kinds[track.kind].append(track)
    values: dict[str, Value] = {"hasVideo": bool(kinds[_VIDEO]), "hasAudio": bool(kinds[_AUDIO])}
    rates = frame_rates or {}
    for kind, (first, *others) in ((kind, tracks) for kind, tracks in kinds.items() if tracks):
        values |= _facts(first, rates)
        if others:
            values[f"{kind.value}TrackIdInfoMap"] = {
                str(number): {**_facts(track, rates), **_label(track)} for number, track in enumerate(others, 1)
            }
    return values


def _facts(track: Track, rates: Mapping[int, Fraction]) -> dict[str, Value]:
    """What metadata says of one track."""
    config = track.config
    codec = _NUMBERS.get(track.codec) or int.from_bytes(track.codec.encode("latin-1"), "big")
    facts: dict[str, Value] = {f"{track.kind.value}codecid": codec}
    if isinstance(config, AudioConfig):
        channels = config.channels
        return {**facts, "audiosamplerate": config.sample_rate, "audiochannels": channels, "stereo": channels == 2}
    if config.width and config.height:
        facts |= {"width": config.width, "height": config.height}
    rate = rates.get(track.id) or config.frame_rate
    return {**facts, "framerate": round(float(rate), 3)} if rate else facts


def _label(track: Track) -> dict[str, Value]:
    """What a further track is called."""
    label: dict[str, Value] = {} if track.language == "und" else {"language": track.language}
    return {**label, "name": track.name} if track.name else label


def _milliseconds(ticks: int, timescale: int) -> int:
    """Ticks in milliseconds, rounded."""
    return (ticks * 2000 + timescale) // (2 * timescale)


class _Lane:
    """
    One track on its way to the receivers.

    :ivar number: what it is called on the wire.
    """

    __slots__ = (
        "_classic",
        "_declares",
        "_enhanced",
        "_fine",
        "_fourcc",
        "_heads",
        "_reorders",
        "_tells_colour",
        "number",
        "track",
    )

    def __init__(self, track: Track, number: int, capabilities: FlvCapabilities) -> None:
        self.track = track
        self.number = number
        self._tells_colour = capabilities.metadata and capabilities.takes(track.codec)
        self._declares = capabilities.is_declared and capabilities.takes(track.codec)
        codec = CODECS[track.codec]
        self._fourcc = track.codec.encode("ascii")
        self._reorders = codec.reorders
        self._classic = None if number else _classic_head(track)
        self._fine = capabilities.nanoseconds and capabilities.takes(track.codec)
        self._enhanced = _ENHANCED_VIDEO if track.kind is _VIDEO else _ENHANCED_AUDIO
        self._heads: dict[tuple[int, int], bytes] = {}

    def is_described_by(self, other: _Lane | None) -> bool:
        """Whether what another one has said of its track holds for this one, to the receiver."""
        if other is None:
            return False
        mine, theirs = self.track, other.track
        return (self.number, mine.id, mine.codec, mine.config) == (other.number, theirs.id, theirs.codec, theirs.config)

    # ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def write(self, frame: Frame) -> FlvMessage:
        """One frame."""
        timescale = self.track.timescale
        if self._fine and frame.composition_offset * 1000 % timescale:
            self._fine = (
                False  # composition times are whole milliseconds: with finer decode times they would be less true
            )
        if self._fine:
            timestamp, rest = divmod(frame.dts * 1000, timescale)
            if rest:
                return self._write_fine(frame, timestamp, (rest * 1_000_000 + timescale // 2) // timescale)
        else:
            timestamp = _milliseconds(frame.dts, timescale)
        if self._enhanced == _ENHANCED_AUDIO:
            return FlvMessage(AUDIO_TAG, timestamp, self._audio_head(), frame.data)
        offset = _milliseconds(frame.pts, timescale) - timestamp
        return FlvMessage(VIDEO_TAG, timestamp, self._video_head(frame.keyframe, offset), frame.data)

    def _audio_head(self) -> bytes:
        if self._classic is None:
            return self._head(0, _CODED_FRAMES)
        return bytes([self._classic, 1]) if self._classic == _AAC_HEAD else bytes([self._classic])

    def _video_head(self, keyframe: bool, offset: int) -> bytes:
        frame_type = _KEY if keyframe else _INTER
        if self._classic is not None:
            return bytes([frame_type | self._classic, 1]) + _signed(offset)
        if not self._reorders:
            return self._head(frame_type, _CODED_FRAMES)
        if not offset:
            return self._head(frame_type, _CODED_FRAMES_X)
        return self._head(frame_type, _CODED_FRAMES) + _signed(offset)

    def _write_fine(self, frame: Frame, timestamp: int, nanoseconds: int) -> FlvMessage:
        """One frame, behind the part of its time that milliseconds do not hold (Enhanced RTMP v2, "ModEx")."""
        is_video = self._enhanced == _ENHANCED_VIDEO
        frame_type = (_KEY if frame.keyframe else _INTER) if is_video else 0
        offset = _milliseconds(frame.composition_offset, self.track.timescale)
        plain = is_video and self._reorders and not offset
        head = self._head(frame_type, _CODED_FRAMES_X if plain else _CODED_FRAMES)
        fine = bytes([head[0] | _MOD_EX, 2]) + nanoseconds.to_bytes(3, "big") + bytes([head[0] & 0x0F]) + head[1:]
        if is_video and self._reorders and not plain:
            fine += _signed(offset)
        return FlvMessage(VIDEO_TAG if is_video else AUDIO_TAG, timestamp, fine, frame.data)

    def write_start(self, timestamp: int) -> Sequence[FlvMessage]:
        """What describes the track: its configuration, and its colour."""
        is_video, config, messages = self.track.kind is _VIDEO, self.track.config, []
        type_id = VIDEO_TAG if is_video else AUDIO_TAG
        head = self._start_head(is_video)
        if head:
            record = CODECS[self.track.codec].sequence_start(config.record)
            messages.append(FlvMessage(type_id, timestamp, head, record))
        info = _colour_info(config) if self._tells_colour and isinstance(config, VideoConfig) else None
        if info:
            body = write_values("colorInfo", info)
            messages.append(FlvMessage(type_id, timestamp, self._head(0, _METADATA), body))
        if self._declares and self._classic is None and isinstance(config, AudioConfig):
            messages.append(FlvMessage(type_id, timestamp, self._head(0, _MULTICHANNEL), _channels(config.channels)))
        return messages

    def write_end(self, timestamp: int) -> FlvMessage | None:
        """The end of the track, for receivers that know of it."""
        if not self._declares or self._classic is not None:
            return None
        is_video = self.track.kind is _VIDEO
        type_id = VIDEO_TAG if is_video else AUDIO_TAG
        return FlvMessage(type_id, timestamp, self._head(_KEY if is_video else 0, _END), b"")

    def _start_head(self, is_video: bool) -> bytes:
        """What is in front of the configuration; empty for MP3 in the classic form, which has none."""
        if self._classic is None:
            return self._head(_KEY if is_video else 0, _START)
        if is_video:
            return bytes([_KEY | self._classic, 0, 0, 0, 0])
        return bytes([_AAC_HEAD, 0]) if self._classic == _AAC_HEAD else b""

    def _head(self, frame_type: int, packet_type: int) -> bytes:
        """What is in front of the body in the enhanced form."""
        head = self._heads.get((frame_type, packet_type))
        if head is None:
            first = self._enhanced | frame_type
            if self.number:
                multitrack = _VIDEO_MULTITRACK if self._enhanced == _ENHANCED_VIDEO else _AUDIO_MULTITRACK
                head = bytes([first | multitrack, packet_type]) + self._fourcc + bytes([self.number])
            else:
                head = bytes([first | packet_type]) + self._fourcc
            self._heads[frame_type, packet_type] = head
        return head


def _channels(count: int) -> bytes:
    """How many channels there are, and which if no one can doubt it (Enhanced RTMP v2, "MultichannelConfig")."""
    flags = _NATIVE_CHANNELS.get(count)
    if flags is None:
        return bytes([_UNSPECIFIED_ORDER, count])
    return bytes([_NATIVE_ORDER, count]) + flags.to_bytes(4, "big")


def _classic_head(track: Track) -> int | None:
    """What the classic form says of a codec in the first byte, the type of frame apart; ``None`` if it has none."""
    config = track.config
    if track.codec == "avc1":
        return 7
    if track.codec == AAC.fourcc:
        return _AAC_HEAD
    if track.codec == ".mp3" and isinstance(config, AudioConfig):
        stereo = config.channels == 2
        if config.sample_rate == 8_000:
            return _MP3_8K << 4 | 0x02 | stereo
        return _MP3 << 4 | _MP3_RATES.get(config.sample_rate, _MP3_USUAL_RATE) << 2 | 0x02 | stereo
    return None


def _signed(offset: int) -> bytes:
    """A composition time: SI24; what it cannot hold, two hours, is no picture's."""
    return max(-0x800000, min(offset, 0x7FFFFF)).to_bytes(3, "big", signed=True)


# ── colour ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _colour_info(config: VideoConfig) -> dict[str, Value]:
    """What is known of colour and brightness (Enhanced RTMP v2, "Metadata Frame"); empty for ordinary pictures."""
    info: dict[str, Value] = {}
    if config.colour is not None:
        info["colorConfig"] = _colour_config(config.colour)
    light, display = config.light, config.mastering
    if light is not None:
        info["hdrCll"] = {"maxFall": light.max_average, "maxCLL": light.max_content}
    if display is not None:
        points = {"red": display.red, "green": display.green, "blue": display.blue, "whitePoint": display.white}
        info["hdrMdcv"] = {
            **{
                f"{name}{axis}": value / 50_000
                for name, point in points.items()
                for axis, value in zip("XY", point, strict=True)
            },
            "maxLuminance": display.max_luminance / 10_000,
            "minLuminance": display.min_luminance / 10_000,
        }
    return info


def _colour_config(colour: Colour) -> dict[str, Value]:
    return {
        "colorPrimaries": colour.primaries,
        "transferCharacteristics": colour.transfer,
        "matrixCoefficients": colour.matrix,
    }
