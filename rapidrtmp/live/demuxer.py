"""
From the audio and video messages of one publisher to frames on the live stream's timeline.

Tracks are those whose codec config has arrived and whose frames follow; what metadata says of them is a hint at most.
Which codecs there are, and how they are read, is the codec table's matter.
Every coded frame of a track that is packaged either comes out as a ``Frame`` or is accounted for by a ``MediaProblem``.
No clock is read here: each call is told the time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from rapidrtmp.codec.flv import Packet, PacketKind, read_audio, read_video
from rapidrtmp.codec.table import CODECS, Codec, SampleReader
from rapidrtmp.errors import MediaError
from rapidrtmp.media import CodecConfig, Frame, MediaKind, Track
from rapidrtmp.timeline.events import Discontinuity, MediaEvent, MediaProblem, PublisherUnusable, TracksChanged
from rapidrtmp.timeline.health import HealthMonitor, PublishHealth
from rapidrtmp.timeline.policy import TimelinePolicy
from rapidrtmp.timeline.timeline import Timeline

__all__ = [
    "Demuxer",
    "Discontinuity",
    "MediaEvent",
    "MediaProblem",
    "PublishHealth",
    "PublisherUnusable",
    "TimelinePolicy",
    "TracksChanged",
]

_CONFIG, _FRAMES = PacketKind.CONFIG, PacketKind.FRAMES
#: Tracks of one kind that are taken from one publisher.
MAX_TRACKS = 16
#: The claims in ``onMetaData`` that a track will come.
_ANNOUNCEMENTS = {
    "hasVideo": MediaKind.VIDEO,
    "videocodecid": MediaKind.VIDEO,
    "hasAudio": MediaKind.AUDIO,
    "audiocodecid": MediaKind.AUDIO,
}


class _Source:
    """
    One track as the publisher sends it.

    :ivar track: as it was configured last.
    :ivar reader: reads its frames.
    """

    __slots__ = ("codec", "reader", "track")

    def __init__(self, codec: Codec, track: Track, reader: SampleReader) -> None:
        self.codec = codec
        self.track = track
        self.reader = reader


class Demuxer:
    """
    Demultiplexes one publish.

    All times passed in as ``now_ms`` are milliseconds of one monotonic clock; ``timestamp`` is the message's, 32 bits
    of milliseconds. Nothing raises over what a publisher sends.

    :param policy: the thresholds of the timeline.
    :param start_ms: where on the stream's timeline the first frame lands; a later publisher of the same stream
        continues at the ``end_ms`` of the one before.
    """

    def __init__(self, policy: TimelinePolicy = TimelinePolicy(), start_ms: int = 0) -> None:  # noqa: B008  it is frozen
        self._timeline = Timeline(policy, start_ms)
        self._health = HealthMonitor(policy, self._timeline.pace, self._timeline.meter)
        self._video: dict[int, _Source] = {}  # by the publisher's numbers; likewise audio
        self._audio: dict[int, _Source] = {}
        self._sources = {MediaKind.VIDEO: self._video, MediaKind.AUDIO: self._audio}
        self._left_out: set[tuple[MediaKind, int]] = set()  # the tracks that are known to be

    @property
    def end_ms(self) -> int:
        """End of the latest frame on the stream's timeline, in milliseconds, rounded up."""
        return self._timeline.end_ms

    @property
    def health(self) -> PublishHealth:
        """How well the publish goes, as of the latest call; made on demand, a few times a minute."""
        return self._health.report(self._timeline.missing)

    def video_received(self, timestamp: int, payload: bytes, now_ms: int) -> list[MediaEvent]:
        """Take a video message (type 9); returns what came of it, in order."""
        return self._received(MediaKind.VIDEO, self._video, read_video, timestamp, payload, now_ms)

    def audio_received(self, timestamp: int, payload: bytes, now_ms: int) -> list[MediaEvent]:
        """Take an audio message (type 8); returns what came of it, in order."""
        return self._received(MediaKind.AUDIO, self._audio, read_audio, timestamp, payload, now_ms)

    def _received(
        self,
        kind: MediaKind,
        sources: dict[int, _Source],
        read: Callable[[bytes], Sequence[Packet]],
        timestamp: int,
        payload: bytes,
        now_ms: int,
    ) -> list[MediaEvent]:
        events: list[MediaEvent] = []
        packets: Sequence[Packet] = ()
        try:
            packets = read(payload)
        except MediaError as error:
            events.append(MediaProblem("malformed", f"{kind.value}: {error}"))
        for packet in packets:
            try:
                if packet.kind is _FRAMES:
                    self._take_frame(kind, sources.get(packet.track_id), packet, timestamp, now_ms, events)
                elif packet.kind is _CONFIG:
                    self._take_config(kind, packet, now_ms, events)
            except MediaError as error:
                events.append(MediaProblem("malformed", f"{kind.value}: {error}"))
        if len(events) != 1 or type(events[0]) is not Frame:  # that is nearly every message
            self._health.observe(events)
        return events

    def metadata_received(self, values: Mapping[str, object]) -> None:
        """Take ``onMetaData``: tracks that it announces are waited for longer, its frame rate is tried first."""
        announced = {kind for name, kind in _ANNOUNCEMENTS.items() if values.get(name)}
        self._timeline.announced(announced, _read_rate(values.get("framerate")))

    def poll(self, now_ms: int) -> list[MediaEvent]:
        """Let time pass, a few times a second: the start is not delayed for ever by a publisher that stalls."""
        events: list[MediaEvent] = []
        self._timeline.poll(now_ms, events)
        self._health.poll(now_ms, events)
        self._health.observe(events)
        return events

    def finish(self) -> list[MediaEvent]:
        """End the publish: what was still held comes out; no call follows."""
        events: list[MediaEvent] = []
        self._timeline.finish(events)
        self._health.observe(events)
        return events

    def _take_frame(
        self,
        kind: MediaKind,
        source: _Source | None,
        packet: Packet,
        timestamp: int,
        now_ms: int,
        events: list[MediaEvent],
    ) -> None:
        codec, _, _, _, composition_ms, nanoseconds, body = packet
        if source is None or source.codec.fourcc != codec:
            source = self._open_by_frame(kind, packet, now_ms, events)
            if source is None:
                return
        reader, track = source.reader, source.track
        data = reader.read(body)
        if not data:
            return
        if reader.config is not track.config:
            track = source.track = source.codec.make_track(track.id, reader.config)
            self._timeline.configured(track, now_ms, events)
        self._timeline.frame_received(
            track, timestamp, nanoseconds, composition_ms, reader.keyframe, reader.samples, data, now_ms, events
        )

    def _open_by_frame(self, kind: MediaKind, packet: Packet, now_ms: int, events: list[MediaEvent]) -> _Source | None:
        """Begin a track whose codec config has not come with a frame, where that tells enough."""
        codec = self._codec_of(kind, packet, events)
        if codec is None:
            return None
        if codec.config_of_frame is None:
            events.append(MediaProblem("no_config", f"{kind.value} frame before its codec config"))
            return None
        return self._open(kind, packet.track_id, codec, codec.config_of_frame(packet.body), now_ms, events)

    def _take_config(self, kind: MediaKind, packet: Packet, now_ms: int, events: list[MediaEvent]) -> None:
        codec = self._codec_of(kind, packet, events)
        if codec is not None and codec.read_config is not None and (packet.body or not codec.describes_itself):
            self._open(kind, packet.track_id, codec, codec.read_config(packet.body), now_ms, events)

    def _open(
        self, kind: MediaKind, track_id: int, codec: Codec, config: CodecConfig, now_ms: int, events: list[MediaEvent]
    ) -> _Source:
        assert codec.reader is not None
        source = _Source(codec, codec.make_track(_id_of(kind, track_id), config), codec.reader(config))
        self._sources[kind][track_id] = source
        self._timeline.configured(source.track, now_ms, events)
        return source

    def _codec_of(self, kind: MediaKind, packet: Packet, events: list[MediaEvent]) -> Codec | None:
        """The codec of a packet, if its track is carried; a track that is not is told once."""
        codec, sources = CODECS.get(packet.codec), self._sources[kind]
        is_carried = codec is not None and codec.reader is not None and codec.kind is kind
        is_extra = packet.track_id not in sources and len(sources) >= MAX_TRACKS
        if is_carried and not is_extra:
            return codec
        if (kind, packet.track_id) not in self._left_out:
            self._left_out.add((kind, packet.track_id))
            if is_carried:
                problem = MediaProblem("extra_track", f"{kind.value} track {packet.track_id}, {MAX_TRACKS} are carried")
            else:
                name = f"{codec.name} ({packet.codec})" if codec is not None else repr(packet.codec)
                problem = MediaProblem("unsupported_codec", f"{kind.value} codec {name}")
            events.append(problem)
        return None


def _id_of(kind: MediaKind, track_id: int) -> int:
    """
    The id in the stream of the publisher's track: the same for every publisher that takes over.

    Publishers number video and audio apart, each from 0.
    """
    return 2 * track_id + (1 if kind is MediaKind.VIDEO else 2)


def _read_rate(value: object) -> Fraction | None:
    """A frame rate from metadata, where it is a double and may be anything."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 300:
        return None
    return Fraction(value).limit_denominator(1001)
