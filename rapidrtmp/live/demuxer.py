"""
From the audio and video messages of one publisher to frames on the live stream's timeline.

Tracks are those whose codec config has arrived and whose frames follow; what metadata says of them is a hint at most.
Every coded frame of a track that is packaged either comes out as a ``Frame`` or is accounted for by a ``MediaProblem``.
No clock is read here: each call is told the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from rapidrtmp.codec.aac import read_audio_config, read_frame
from rapidrtmp.codec.avc import read_access_unit, read_avc_config
from rapidrtmp.codec.flv import AudioPacket, PacketKind, VideoPacket, read_audio, read_video
from rapidrtmp.errors import MediaError
from rapidrtmp.media import AudioConfig, MediaKind, VideoConfig
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

_VIDEO_CODEC, _AUDIO_CODEC = "avc1", "mp4a"
_MEDIA = (PacketKind.CONFIG, PacketKind.FRAMES)
#: The claims in ``onMetaData`` that a track will come.
_ANNOUNCEMENTS = {
    "hasVideo": MediaKind.VIDEO,
    "videocodecid": MediaKind.VIDEO,
    "hasAudio": MediaKind.AUDIO,
    "audiocodecid": MediaKind.AUDIO,
}


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
        self._timeline = timeline = Timeline(policy, start_ms)
        self._health = HealthMonitor(policy, timeline.pace(MediaKind.VIDEO), timeline.pace(MediaKind.AUDIO))
        self._video: VideoConfig | None = None
        self._audio: AudioConfig | None = None
        self._told: set[tuple[MediaKind, int]] = set()  # the tracks that are known to be left out

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
        events: list[MediaEvent] = []
        try:
            for packet in read_video(payload):
                if packet.kind in _MEDIA and self._is_packaged(packet, MediaKind.VIDEO, _VIDEO_CODEC, events):
                    self._read_video(packet, timestamp, now_ms, events)
        except MediaError as error:
            events.append(MediaProblem("malformed", f"video: {error}"))
        self._health.observe(events)
        return events

    def audio_received(self, timestamp: int, payload: bytes, now_ms: int) -> list[MediaEvent]:
        """Take an audio message (type 8); returns what came of it, in order."""
        events: list[MediaEvent] = []
        try:
            for packet in read_audio(payload):
                if packet.kind in _MEDIA and self._is_packaged(packet, MediaKind.AUDIO, _AUDIO_CODEC, events):
                    self._read_audio(packet, timestamp, now_ms, events)
        except MediaError as error:
            events.append(MediaProblem("malformed", f"audio: {error}"))
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

    def _is_packaged(
        self, packet: VideoPacket | AudioPacket, kind: MediaKind, codec: str, events: list[MediaEvent]
    ) -> bool:
        """Whether a packet belongs to a track that is packaged; a track that is not is told once."""
        if packet.track_id == 0 and packet.codec == codec:
            return True
        if (kind, packet.track_id) not in self._told:
            self._told.add((kind, packet.track_id))
            if packet.track_id:
                problem = MediaProblem("extra_track", f"{kind.value} track {packet.track_id}, only 0 is packaged")
            else:
                problem = MediaProblem("unsupported_codec", f"{kind.value} codec {packet.codec!r}")
            events.append(problem)
        return False

    def _read_video(self, packet: VideoPacket, timestamp: int, now_ms: int, events: list[MediaEvent]) -> None:
        if packet.kind is PacketKind.CONFIG:
            self._video = read_avc_config(packet.body)
            self._timeline.configured(MediaKind.VIDEO, self._video, now_ms, events)
            return
        if self._video is None:
            events.append(MediaProblem("no_config", "video frame before its codec config"))
            return
        unit = read_access_unit(packet.body, self._video)
        if unit is None:
            return
        if unit.config is not None:
            self._video = unit.config
            self._timeline.configured(MediaKind.VIDEO, unit.config, now_ms, events)
        self._timeline.frame_received(
            MediaKind.VIDEO,
            timestamp,
            packet.nanoseconds,
            packet.composition_ms,
            unit.is_idr,
            unit.data,
            now_ms,
            events,
        )

    def _read_audio(self, packet: AudioPacket, timestamp: int, now_ms: int, events: list[MediaEvent]) -> None:
        if packet.kind is PacketKind.CONFIG:
            self._audio = read_audio_config(packet.body)
            self._timeline.configured(MediaKind.AUDIO, self._audio, now_ms, events)
            return
        if self._audio is None:
            events.append(MediaProblem("no_config", "audio frame before its codec config"))
            return
        data = read_frame(packet.body)
        if not data:
            return
        self._timeline.frame_received(MediaKind.AUDIO, timestamp, packet.nanoseconds, 0, True, data, now_ms, events)


def _read_rate(value: object) -> Fraction | None:
    """A frame rate from metadata, where it is a double and may be anything."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 300:
        return None
    return Fraction(value).limit_denominator(1001)
