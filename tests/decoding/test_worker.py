"""What the process that decodes makes of real encoders' frames, and thumbnails of a real server."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import struct
from itertools import pairwise
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.codec.table import CODECS
from rapidrtmp.decoding import DecodingSink, Note, Upload
from rapidrtmp.decoding.wire import FrameHeader, MessageReader, TrackDescription, pack_frame, read_result
from rapidrtmp.media import Frame, MediaKind
from tests.serving import ServerCase, loopback_settings, open_app
from tests.slow import slow
from tests.test_captures import DATA, replay

needs_av = None if importlib.util.find_spec("av") else "PyAV is not installed (the extra av)"
#: The clip of most captures: 40 pictures with B-frames, a keyframe every 15, and sound.
CLIP = "ffmpeg-9.0-wrap-at-31-bits"


class Witness(DecodingSink):
    """Remembers what it was given."""

    audio_chunk_ms = 200

    def __init__(self) -> None:
        self.pictures: list[tuple[Any, int]] = []
        self.sounds: list[tuple[Any, int, int]] = []

    def picture(self, image: Any, utc_ms: int) -> Note:
        self.pictures.append((image, utc_ms))
        return Note({"mean": float(image.mean())})

    def audio(self, samples: Any, utc_ms: int) -> None:
        self.sounds.append((samples, utc_ms, self.sample_rate))


class Faulty(Witness):
    def picture(self, image: Any, utc_ms: int) -> Any:
        super().picture(image, utc_ms)
        if len(self.pictures) == 1:
            raise ValueError("no such picture")
        return [Note({"number": 1}), Upload("a", b"b", "text/plain")]


def frames_in(name: str) -> list[Frame]:
    """The frames of a capture, in the order in which they came."""
    publish = replay([(DATA / f"{name}.rtmp").read_bytes()], 14)
    return [event for event in publish.media if isinstance(event, Frame)]


@slow
class WorkerTests(SynchronousTestCase):
    skip = needs_av

    def decode(self, sink: Witness, frames: list[Frame], every_ms: int = 0, *, alone: bool = False) -> list[Any]:
        """What comes back; the time of day is the stream's own."""
        from rapidrtmp.decoding.worker import Worker

        answers: list[bytes] = []
        worker, known = Worker(sink, every_ms, answers.append), set()
        reader = MessageReader()
        for frame in frames:
            track = frame.track
            if track.id not in known:
                known.add(track.id)
                extradata = CODECS[track.codec].sequence_start(track.config.record).hex()
                self._give(worker, reader, TrackDescription(track.id, track.kind.value, track.codec, extradata).pack())
            times = (frame.pts * 1000 // track.timescale, frame.dts * 1000 // track.timescale)
            header = FrameHeader(track.id, *times, frame.keyframe, alone)
            self._give(worker, reader, pack_frame(header, frame.data))
        worker.finish()
        return [read_result(kind, body) for kind, body in MessageReader().feed(b"".join(answers))]

    def _give(self, worker: Any, reader: MessageReader, data: bytes) -> None:
        for kind, body in reader.feed(data):
            worker.take(kind, body)

    def test_every_video_codec_is_decoded(self) -> None:
        """Every picture of every codec is seen once, at its time, and is one."""
        for name in ("ffmpeg-5.1-connect-arguments", "ffmpeg-9.0-hevc-hdr", "ffmpeg-9.0-av1-aom", "ffmpeg-9.0-vp9"):
            pictures = [frame for frame in frames_in(name) if frame.track.kind is MediaKind.VIDEO]
            sink = Witness()
            self.decode(sink, pictures)
            times = sorted(frame.pts * 1000 // frame.track.timescale for frame in pictures)
            self.assertEqual(times, [time for _, time in sink.pictures], name)
            self.assertEqual({(48, 64, 3)}, {image.shape for image, _ in sink.pictures}, name)
            self.assertGreater(sink.pictures[-1][0].std(), 20, name)

    def test_every_audio_codec_is_decoded(self) -> None:
        """The sound of every codec comes in chunks of the length that was asked for, and is none too quiet."""
        for name in ("wrap-at-31-bits", "mp3", "opus", "flac", "ac3", "eac3"):
            sounds = [frame for frame in frames_in(f"ffmpeg-9.0-{name}") if frame.track.kind is MediaKind.AUDIO]
            sink = Witness()
            self.decode(sink, sounds)
            rate = sink.sounds[0][2]
            heard_s = sum(samples.shape[1] for samples, _, _ in sink.sounds) / rate
            self.assertApproximates(len(sounds) * sounds[0].duration / rate, heard_s, 0.1, name)
            self.assertGreaterEqual(sink.sounds[0][0].shape[1], rate // 5, name)
            self.assertGreater(max(abs(samples).max() for samples, _, _ in sink.sounds), 0.05, name)

    def test_rate_is_kept(self) -> None:
        """Pictures are as far apart as was asked for, and no further."""
        sink = Witness()
        self.decode(sink, frames_in(CLIP), 400)
        times = [time for _, time in sink.pictures]
        self.assertEqual(4, len(times))
        self.assertEqual({400}, {after - before for before, after in pairwise(times)})

    def test_lone_keyframes_are_seen_at_once(self) -> None:
        """A keyframe that stands alone is seen when it comes, though the codec reorders."""
        keyframes = [frame for frame in frames_in(CLIP) if frame.keyframe]
        keyframes = [frame for frame in keyframes if frame.track.kind is MediaKind.VIDEO]
        sink = Witness()
        self.decode(sink, keyframes, alone=True)
        self.assertEqual(len(keyframes), len(sink.pictures))

    def test_nothing_before_a_keyframe(self) -> None:
        """What comes before the first keyframe is not shown, and damaged frames are left out."""
        frames = [frame for frame in frames_in(CLIP) if frame.track.kind is MediaKind.VIDEO]
        sink = Witness()
        self.decode(sink, frames[1:15])
        self.assertEqual([], sink.pictures)

    def test_sinks_that_raise_continue(self) -> None:
        """What a sink raises costs that answer alone."""
        with contextlib.redirect_stderr(io.StringIO()) as said:
            answers = self.decode(Faulty(), frames_in(CLIP), 900)
        self.assertIn("no such picture", said.getvalue())
        self.assertEqual([Note({"number": 1}), Upload("a", b"b", "text/plain")], answers)

    def test_jpegs_have_the_right_size(self) -> None:
        """A thumbnail is as wide as was asked for, but never wider than the picture."""
        from rapidrtmp.decoding.thumbnail import ThumbnailSink

        sink = Witness()
        self.decode(sink, frames_in("ffmpeg-5.1-connect-arguments")[:20])
        image, time = sink.pictures[0]
        sizes = [jpeg_size(ThumbnailSink(width).picture(image, time).data) for width in (32, 640)]
        self.assertEqual([(32, 24), (64, 48)], sizes)


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height, from the frame header (ITU-T T.81, B.2.2)."""
    at = 2
    while not 0xC0 <= data[at + 1] <= 0xC2:
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    height, width = struct.unpack_from(">HH", data, at + 5)
    return width, height


@slow
class ThumbnailTests(ServerCase):
    """A real server, a real process."""

    skip = needs_av

    async def thumbnail(self, service: Any) -> bytes:
        """The thumbnail, when there is one."""
        while True:
            status, body = await self.get(service, f"/live/{CLIP}/thumbnail.jpg")
            if status == 200:
                return body
            await deferLater(reactor, 0.05)

    def test_thumbnail_of_a_live_stream(self) -> Deferred[None]:
        """A stream with the sink ``thumbnail`` has a JPEG beside its playlist."""

        async def scenario() -> None:
            settings = loopback_settings(live=open_app("hls", "thumbnail:every=keyframes:width=32"))
            service = self.start(settings)
            encoder = await self.encoder(service)
            encoder.transport.write((DATA / f"{CLIP}.rtmp").read_bytes())
            self.assertEqual((32, 24), jpeg_size(await self.thumbnail(service)))
            await service.stopService()

        return Deferred.fromCoroutine(scenario())
