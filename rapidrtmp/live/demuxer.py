"""
From the audio and video messages of one publisher to frames on the live stream's timeline.

Tracks are those whose codec config has arrived and whose frames follow; what metadata says of them is a hint at most.
Which codecs there are, and how they are read, is the codec table's matter.
Every coded frame of a track that is packaged either comes out as a ``Frame`` or is accounted for by a ``MediaProblem``.
No clock is read here: each call is given the time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from rapidrtmp.codec.flv import Packet, PacketKind, read_audio, read_video
from rapidrtmp.codec.pieces import Moment, PieceReader, Unit
from rapidrtmp.codec.table import CODECS, Codec, ConfigSearch, GopCloser, SampleReader, display_name, names_carried
from rapidrtmp.errors import MediaError, UnsupportedCodecError
from rapidrtmp.live.announced_tracks import Label, read_track_labels
from rapidrtmp.live.channel_layout import read_channel_count
from rapidrtmp.live.colour_info import ColourInfo, coloured, read_colour_info
from rapidrtmp.media import CodecConfig, Frame, MediaKind, Track, VideoConfig
from rapidrtmp.timeline.events import Discontinuity, MediaEvent, MediaProblem, PublisherUnusable, TracksChanged
from rapidrtmp.timeline.health import HealthMonitor, PublishHealth
from rapidrtmp.timeline.policy import TimelinePolicy
from rapidrtmp.timeline.timeline import Timeline

__all__ = [
    "Demuxer",
    "Discontinuity",
    "LeftOut",
    "MediaEvent",
    "MediaProblem",
    "PublishHealth",
    "PublisherUnusable",
    "TimelinePolicy",
    "TracksChanged",
    "refusal_of",
]

_NO_LABEL = Label()
_CONFIG, _FRAMES, _METADATA, _UNKNOWN = (PacketKind.CONFIG, PacketKind.FRAMES, PacketKind.METADATA, PacketKind.UNKNOWN)
#: Tracks of one kind that are taken from one publisher.
MAX_TRACKS = 16
#: So often a codec that is not carried is reported to a publisher.
MAX_UNSUPPORTED = 32
#: Behind a longer pause of video it is seen whether pictures are missing.
PAUSE_MS = 500
#: The claims in ``onMetaData`` that a track will come.
_ANNOUNCEMENTS = {
    "hasVideo": MediaKind.VIDEO,
    "videocodecid": MediaKind.VIDEO,
    "hasAudio": MediaKind.AUDIO,
    "audiocodecid": MediaKind.AUDIO,
}


class LeftOut(NamedTuple):
    """
    A track that is not carried, because its codec is not.

    :ivar codec: for people: ``HEVC (hvc1)``.
    """

    kind: MediaKind
    codec: str

    def __str__(self) -> str:
        return f"{self.kind.value} codec {self.codec}"


class _Source:
    """
    One track as the publisher sends it.

    :ivar number: by which the publisher calls it.
    :ivar config: as it was configured last.
    :ivar track: with that, and what is said of it elsewhere.
    :ivar reader: reads its messages: whole frames, or ``pieces`` as long as that is needed.
    :ivar whole: reads whole frames.
    :ivar pieces: reads messages that are no whole frames, if the codec has such.
    :ivar timestamp: of its last frame; likewise ``data``, and ``earlier`` that of the one before.
    :ivar counts: whether the numbers of its pictures rose at the end of the last GOP; there are encoders whose do not.
    :ivar is_cut_off: whether pictures are missing in front of those that come, up to the next keyframe.
    """

    __slots__ = (
        "codec",
        "config",
        "counts",
        "data",
        "earlier",
        "fourcc",
        "is_cut_off",
        "is_video",
        "number",
        "pieces",
        "reader",
        "timestamp",
        "track",
        "whole",
    )

    def __init__(self, codec: Codec, number: int, track: Track, config: CodecConfig, before: _Source | None) -> None:
        assert codec.reader is not None
        self.codec = codec
        self.fourcc, self.is_video = codec.fourcc, codec.kind is MediaKind.VIDEO
        self.number = number
        self.config = config
        self.track = track
        self.whole = codec.reader(config)
        self.pieces: PieceReader | None = None
        if codec.pieces is not None:
            self.pieces = codec.pieces(self.whole, before.pieces if before and before.codec is codec else None)
        self.reader: SampleReader = self.whole
        self.timestamp, self.earlier, self.data, self.is_cut_off, self.counts = 0, b"", b"", False, True
        self.choose_reader()

    def choose_reader(self) -> None:
        """Read pieces where that is needed."""
        pieces = self.pieces
        self.reader = pieces if pieces is not None and pieces.is_needed else self.whole


class _Kind:
    """
    All tracks of one kind.

    :ivar sources: by the publisher's numbers.
    :ivar read: reads a message into packets.
    """

    __slots__ = ("kind", "read", "sources")

    def __init__(self, kind: MediaKind, read: Callable[[bytes], Sequence[Packet]]) -> None:
        self.kind = kind
        self.read = read
        self.sources: dict[int, _Source] = {}


def _counts(source: _Source) -> bool:
    """Whether the numbers of its last two pictures follow, as far as it has had so many."""
    follows = source.codec.follows
    return follows is None or not source.earlier or follows(source.config, source.earlier, source.data)


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
        self._policy = policy
        self._timeline = Timeline(policy, start_ms)
        self._health = HealthMonitor(policy, self._timeline.pace, self._timeline.meter)
        self._video, self._audio = _Kind(MediaKind.VIDEO, read_video), _Kind(MediaKind.AUDIO, read_audio)
        self._sources = {MediaKind.VIDEO: self._video.sources, MediaKind.AUDIO: self._audio.sources}
        self._searches: dict[tuple[MediaKind, int], ConfigSearch] = {}  # for tracks without a configuration
        self._labels: dict[tuple[MediaKind, int], Label] = {}
        self._extra: set[tuple[MediaKind, int]] = set()  # the tracks beyond the bound
        self._unsupported: dict[tuple[MediaKind, int], str] = {}  # the codecs of tracks that are not carried
        self._changes = 0  # of those
        self._colours: dict[tuple[str, int], ColourInfo] = {}  # by codec and number of video tracks
        self._channels: dict[tuple[str, int], int] = {}  # of audio tracks, likewise, as packets of that tell
        self._closers: dict[int, GopCloser] = {}  # of tracks that have had an open GOP, by id
        self._unsupported_ms: int | None = None  # since when there is one, and no frame that is carried

    @property
    def end_ms(self) -> int:
        """End of the latest frame on the stream's timeline, in milliseconds, rounded up."""
        return self._timeline.end_ms

    @property
    def _open_gops(self) -> int:
        """How many keyframes in a row, up to the last one, no decoder but a lenient one can start at."""
        return max(map(self._open_gops_of, self._video.sources.values()), default=0)

    def _open_gops_of(self, source: _Source) -> int:
        closer = self._closers.get(source.track.id)
        return getattr(source.whole, "open_gops", 0) if closer is None else closer.left_open

    @property
    def health(self) -> PublishHealth:
        """How well the publish goes, as of the latest call; made on demand, a few times a minute."""
        return self._health.report(self._timeline.missing, self._open_gops)

    @property
    def announced_tracks(self) -> frozenset[int]:
        """The ids in the stream of the tracks that metadata announces one by one, or that are configured."""
        announced = {_id_of(kind, number) for kind, number in self._labels}
        return frozenset(announced | {each.track.id for sources in self._sources.values() for each in sources.values()})

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """What is sent in a codec that is not carried, video first; each codec once."""
        tracks = sorted(self._unsupported, key=lambda track: (track[0] is not MediaKind.VIDEO, track[1]))
        each = (LeftOut(kind, display_name(kind, self._unsupported[kind, id])) for kind, id in tracks)
        return tuple(dict.fromkeys(each))

    def video_received(self, timestamp: int, payload: bytes, now_ms: int) -> list[MediaEvent]:
        """Take a video message (type 9); returns what came of it, in order."""
        return self._received(self._video, timestamp, payload, now_ms)

    def audio_received(self, timestamp: int, payload: bytes, now_ms: int) -> list[MediaEvent]:
        """Take an audio message (type 8); returns what came of it, in order."""
        return self._received(self._audio, timestamp, payload, now_ms)

    def _received(self, of: _Kind, timestamp: int, payload: bytes, now_ms: int) -> list[MediaEvent]:
        events: list[MediaEvent] = []
        packets: Sequence[Packet]
        try:
            packets = of.read(payload)
        except MediaError as error:
            packets = ()
            events.append(MediaProblem(error.problem, f"{of.kind.value}: {error}"))
        for packet in packets:
            try:
                if packet.kind is _FRAMES:
                    self._take_frame(of, packet, timestamp, now_ms, events)
                else:
                    self._take_other(of.kind, packet, now_ms, events)
            except UnsupportedCodecError as error:
                of.sources.pop(packet.track_id, None)
                self._leave_out((of.kind, packet.track_id), error.codec, now_ms, events)
            except MediaError as error:
                events.append(MediaProblem(error.problem, f"{of.kind.value}: {error}"))
        if len(events) != 1 or type(events[0]) is not Frame:  # that is nearly every message
            self._health.observe(events)
        return self._closed(events) if self._closers else events

    def metadata_received(self, values: Mapping[str, object]) -> None:
        """Take ``onMetaData``: tracks that it announces are waited for longer, its frame rate is tried first."""
        self._labels = read_track_labels(values)
        announced = {kind for name, kind in _ANNOUNCEMENTS.items() if values.get(name)}
        self._timeline.announced(announced, _read_rate(values.get("framerate")))

    def poll(self, now_ms: int) -> list[MediaEvent]:
        """Let time pass, a few times a second: the start is not delayed for ever by a publisher that stalls."""
        events: list[MediaEvent] = []
        self._settle(now_ms, events)
        self._timeline.poll(now_ms, events)
        if self._unsupported_ms is not None:
            self._check_left_out(now_ms, events)
        self._health.poll(now_ms, events)
        self._health.observe(events)
        return self._closed(events)

    def finish(self) -> list[MediaEvent]:
        """End the publish: what was still held comes out; no call follows."""
        events: list[MediaEvent] = []
        self._settle(None, events)
        self._timeline.finish(events)
        self._health.observe(events)
        return self._closed(events)

    def _take_other(self, kind: MediaKind, packet: Packet, now_ms: int, events: list[MediaEvent]) -> None:
        """Take a packet that is no frame."""
        if packet.kind is _CONFIG:
            self._take_config(kind, packet, now_ms, events)
        elif packet.kind is _METADATA:
            self._take_metadata(kind, packet)
        elif packet.kind is _UNKNOWN:
            events.append(MediaProblem("unknown_packet", f"{kind.value} message of a packet type not known"))

    def _take_frame(self, of: _Kind, packet: Packet, timestamp: int, now_ms: int, events: list[MediaEvent]) -> None:
        fourcc, _, track_id, _, composition_ms, nanoseconds, body = packet
        source = of.sources.get(track_id)
        if source is None or source.fourcc != fourcc:
            source = self._open_by_frame(of.kind, packet, now_ms, events)
            if source is None:
                return
        reader, track = source.reader, source.track
        data = reader.read(body)
        if not data:
            self._take_piece(source, body, Moment(timestamp, nanoseconds, composition_ms, now_ms), events)
            return
        if self._unsupported_ms is not None:
            self._unsupported_ms = None
        if reader.config is not source.config:
            track = self._configure(source, reader.config, now_ms, events)
        if source.is_video:
            if reader.keyframe:
                track = self._keyframe_came(source, now_ms, events)
            elif (source.is_cut_off or timestamp - source.timestamp > PAUSE_MS) and self._is_cut_off(
                source, data, events
            ):
                return
            source.timestamp, source.earlier, source.data = timestamp, source.data, data
        self._timeline.frame_received(
            track, timestamp, nanoseconds, composition_ms, reader.keyframe, reader.samples, data, now_ms, events
        )

    def _take_piece(self, source: _Source, body: bytes, moment: Moment, events: list[MediaEvent]) -> None:
        """Take a message that is no whole frame, but a piece of one, or several."""
        if source.pieces is not None:
            self._place(source, source.pieces.add(body, moment), events)

    def _settle(self, now_ms: int | None, events: list[MediaEvent]) -> None:
        """Let frames go that were not whole; ``None`` at the end."""
        for sources in self._sources.values():
            for source in sources.values():
                if source.pieces is not None and (units := source.pieces.settle(now_ms)):
                    self._place(source, units, events)

    def _place(self, source: _Source, units: Sequence[Unit], events: list[MediaEvent]) -> None:
        """Place frames that were put together or taken apart."""
        assert source.pieces is not None
        for kind, detail in source.pieces.problems:
            events.append(MediaProblem(kind, detail))
        source.pieces.problems.clear()
        source.choose_reader()
        if units:
            self._unsupported_ms = None
        for (timestamp, nanoseconds, composition_ms, now_ms), config, keyframe, samples, data in units:
            if config is not source.config:
                self._configure(source, config, now_ms, events)
            if source.is_video:
                may_miss = source.is_cut_off or timestamp - source.timestamp > PAUSE_MS
                if keyframe:
                    self._keyframe_came(source, now_ms, events)
                elif may_miss and self._is_cut_off(source, data, events):
                    continue
                source.timestamp, source.earlier, source.data = timestamp, source.data, data
            self._timeline.frame_received(
                source.track, timestamp, nanoseconds, composition_ms, keyframe, samples, data, now_ms, events
            )

    def _is_cut_off(self, source: _Source, data: bytes, events: list[MediaEvent]) -> bool:
        """Whether pictures that one is made from are missing, as of a camera that was off: it waits for a keyframe."""
        follows, config = source.codec.follows, source.config
        if follows is None or not source.earlier or not source.counts:
            return False
        if not source.is_cut_off:
            has_followed = follows(config, source.earlier, source.data)
            source.is_cut_off = has_followed and not follows(config, source.data, data)
        if source.is_cut_off:
            events.append(MediaProblem("waiting_for_keyframe", "video frame behind a pause, without what it refers to"))
        return source.is_cut_off

    def _open_by_frame(self, kind: MediaKind, packet: Packet, now_ms: int, events: list[MediaEvent]) -> _Source | None:
        """Begin a track whose codec config has not come with a frame, where that tells enough."""
        codec = self._codec_of(kind, packet, now_ms, events)
        if codec is None:
            return None
        config: CodecConfig | None = None
        if codec.config_of_frame is not None:
            config = self._config_of_channels(codec, packet.track_id) or codec.config_of_frame(packet.body)
        elif (search := self._search(kind, packet.track_id, codec)) is not None:
            config = search.look_at_frame(packet.body)
            if config is None and search.is_warm:
                return None
        if config is None:
            events.append(MediaProblem("no_config", f"{kind.value} frame before its codec config"))
            return None
        return self._open(kind, packet.track_id, codec, config, now_ms, events)

    def _config_of_channels(self, codec: Codec, track_id: int) -> CodecConfig | None:
        """The configuration of a track, where it takes what is said of its channels to know it."""
        channels = self._channels.get((codec.fourcc, track_id))
        return codec.config_of_channels(channels) if channels and codec.config_of_channels is not None else None

    def _search(self, kind: MediaKind, track_id: int, codec: Codec) -> ConfigSearch | None:
        """The search for the configuration of a track that has none."""
        search = self._searches.get((kind, track_id))
        if search is None and codec.search is not None and len(self._searches) < 2 * MAX_TRACKS:
            self._timeline.announced({kind}, None)  # its frames come: it is worth waiting for
            search = self._searches[kind, track_id] = codec.search()
        return search

    def _take_config(self, kind: MediaKind, packet: Packet, now_ms: int, events: list[MediaEvent]) -> None:
        codec = self._codec_of(kind, packet, now_ms, events)
        if codec is None or codec.read_config is None or not (packet.body or not codec.describes_itself):
            return
        config = self._read_config(kind, packet, codec, codec.read_config)
        if config is not None:
            self._open(kind, packet.track_id, codec, config, now_ms, events)

    def _read_config(
        self, kind: MediaKind, packet: Packet, codec: Codec, read: Callable[[bytes], CodecConfig]
    ) -> CodecConfig | None:
        """Read a codec config, or of a track without one what there is of it; ``None`` if that is not enough yet."""
        try:
            return read(packet.body)
        except MediaError as error:
            if isinstance(error, UnsupportedCodecError):
                raise
            search = None if packet.track_id in self._sources[kind] else self._search(kind, packet.track_id, codec)
            if search is None:
                raise
            return search.look_at_config(packet.body)

    def _open(
        self, kind: MediaKind, track_id: int, codec: Codec, config: CodecConfig, now_ms: int, events: list[MediaEvent]
    ) -> _Source:
        before = self._sources[kind].get(track_id)
        if before is not None:
            if before.codec is codec and codec.is_known(before.config, config):
                return before
            if before.pieces is not None:
                self._place(before, before.pieces.settle(), events)
        self._searches.pop((kind, track_id), None)
        language, name = self._labels.get((kind, track_id), _NO_LABEL)
        track = codec.make_track(
            _id_of(kind, track_id), self._coloured(codec, track_id, config), language=language, name=name
        )
        source = _Source(codec, track_id, track, config, before)
        self._sources[kind][track_id] = source
        self._timeline.configured(source.track, now_ms, events)
        return source

    def _configure(self, source: _Source, config: CodecConfig, now_ms: int, events: list[MediaEvent]) -> Track:
        """Let another configuration, or the same with what is said of it elsewhere now, be in force for a track."""
        source.config = config
        track = source.track
        source.track = source.codec.make_track(
            track.id, self._coloured(source.codec, source.number, config), language=track.language, name=track.name
        )
        self._timeline.configured(source.track, now_ms, events)
        return source.track

    # ── colour ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _take_metadata(self, kind: MediaKind, packet: Packet) -> None:
        """
        Take what a packet says of a video track's colour, or of an audio track's channels. It may come before the
        configuration; behind it, colour holds from the next keyframe on, and channels are what the configuration says.
        """
        key = (packet.codec, packet.track_id)
        if kind is MediaKind.AUDIO:
            channels = read_channel_count(packet.body)
            if channels is not None and (key in self._channels or len(self._channels) < MAX_TRACKS):
                self._channels[key] = channels
            return
        info = read_colour_info(packet.body)
        if info is not None and (key in self._colours or len(self._colours) < MAX_TRACKS):
            self._colours[key] = info

    def _coloured(self, codec: Codec, number: int, config: CodecConfig) -> CodecConfig:
        """
        A configuration with what metadata says of its colour.

        FFmpeg sends metadata of further tracks without their numbers: what has the codec of another track than the
        first one is of that other track.
        """
        if not self._colours or not isinstance(config, VideoConfig):
            return config
        info = self._colours.get((codec.fourcc, number))
        first = self._video.sources.get(0)
        if info is None and (first is None or first.codec is not codec):
            info = self._colours.get((codec.fourcc, 0))
        return coloured(config, info)

    def _codec_of(self, kind: MediaKind, packet: Packet, now_ms: int, events: list[MediaEvent]) -> Codec | None:
        """The codec of a packet, if its track is carried; one that is not is reported once for each codec."""
        codec, sources = CODECS.get(packet.codec), self._sources[kind]
        is_carried = codec is not None and codec.reader is not None and codec.kind is kind
        track = (kind, packet.track_id)
        if not is_carried:
            self._leave_out(track, packet.codec, now_ms, events)
            return None
        if packet.kind is _FRAMES and self._unsupported.get(track, "").startswith(f"{packet.codec}."):
            return None  # of a variant that is not carried
        self._unsupported.pop(track, None)
        if packet.track_id in sources or len(sources) < MAX_TRACKS:
            return codec
        if track not in self._extra:
            self._extra.add(track)
            detail = f"{kind.value} track {packet.track_id}, {MAX_TRACKS} are carried"
            events.append(MediaProblem("extra_track", detail))
        return None

    # ── open GOPs ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _keyframe_came(self, source: _Source, now_ms: int, events: list[MediaEvent]) -> Track:
        """
        Take note of what holds from a keyframe on: what metadata says of colour, and that GOPs have to be closed when
        one of them is open; returns the track.
        """
        source.is_cut_off = False
        source.counts = _counts(source)
        closer = source.codec.closer
        if closer is not None and getattr(source.whole, "open_gops", 0) > 0 and source.track.id not in self._closers:
            self._closers[source.track.id] = closer(source.track.config)
        if self._colours and self._coloured(source.codec, source.number, source.config) != source.track.config:
            self._configure(source, source.config, now_ms, events)
        return source.track

    def _closed(self, events: list[MediaEvent]) -> list[MediaEvent]:
        """The events with every GOP closed."""
        closed: list[MediaEvent] = []
        for event in events:
            if type(event) is Frame and (closer := self._closers.get(event.track.id)) is not None:
                closed += closer.close(event)
                continue
            if type(event) is Discontinuity or type(event) is TracksChanged:
                configs = {track.id: track.config for track in getattr(event, "tracks", ())}
                for track_id, closer in self._closers.items():
                    closer.begin(configs.get(track_id))
            closed.append(event)
        return closed

    # ── codecs that are not carried ──────────────────────────────────────────────────────────────────────────────────

    def _leave_out(self, track: tuple[MediaKind, int], codec: str, now_ms: int, events: list[MediaEvent]) -> None:
        """Drop a track; the others need not wait for it."""
        if self._unsupported.get(track) == codec or self._changes >= MAX_UNSUPPORTED:
            return
        self._changes += 1
        self._unsupported[track] = codec
        kind, number = track
        self._timeline.leave_out(kind, _id_of(kind, number))
        if self._unsupported_ms is None:
            self._unsupported_ms = now_ms
        events.append(MediaProblem("unsupported_codec", str(LeftOut(kind, display_name(kind, codec)))))

    def _check_left_out(self, now_ms: int, events: list[MediaEvent]) -> None:
        """Where for a while no frame comes that is carried there is nothing to watch."""
        assert self._unsupported_ms is not None
        policy, left_out = self._policy, self.left_out
        patience_ms = policy.announced_media_ms if self._timeline.promised else policy.left_out_ms
        if now_ms - self._unsupported_ms < patience_ms:
            return
        self._unsupported_ms = None
        if left_out:
            events.append(PublisherUnusable(refusal_of(left_out)))


def refusal_of(left_out: Sequence[LeftOut]) -> str:
    """What is not carried of a publish, and what may be published instead, in one sentence for the encoder."""
    verb = "is" if len(left_out) == 1 else "are"
    return f"The {' and the '.join(map(str, left_out))} {verb} not carried here: publish {names_carried()}."


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
