"""
What real encoders sent, byte for byte (tests/data), through session and demuxer: every oddity by its name.

``tests/data/README.md`` tells where each capture comes from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.codec.avc import AVC_SYNTAX
from rapidrtmp.codec.avc_nal import IDR_SLICE, nal_type
from rapidrtmp.codec.flv import PacketKind, read_audio, read_video
from rapidrtmp.codec.nal import split_nals
from rapidrtmp.live.demuxer import Demuxer, Discontinuity, LeftOut, MediaEvent, PublishHealth, TracksChanged
from rapidrtmp.live.health import diagnose, diagnose_codecs, diagnose_tracks
from rapidrtmp.media import AudioConfig, Colour, ContentLight, Frame, MediaKind, VideoConfig
from rapidrtmp.rtmp.events import (
    AudioReceived,
    CommandIgnored,
    ConnectRequested,
    Event,
    MessageApplied,
    MessageIgnored,
    MetadataReceived,
    PublishEnded,
    PublishRequested,
    VideoReceived,
)
from rapidrtmp.rtmp.session import ServerSession
from tests.codec.builders import frames_of, problems_of, steps, track_frames
from tests.cutting import in_bytes, in_pieces
from tests.live.test_demuxer import DROPPING

DATA = Path(__file__).parent / "data"
VIDEO, AUDIO = MediaKind.VIDEO, MediaKind.AUDIO
#: Messages of sound and picture together come about so far apart.
MESSAGE_MS = 14


@dataclass
class Publish:
    """
    What became of a capture.

    :ivar said: the session's events but for media; ``timestamps`` of that by kind, ``media`` what the demuxer made.
    :ivar sent: how many coded frames the messages held; ``health`` at the end, and what was ``left_out``.
    """

    said: list[Event] = field(default_factory=list)
    timestamps: dict[MediaKind, list[int]] = field(default_factory=lambda: {VIDEO: [], AUDIO: []})
    media: list[MediaEvent] = field(default_factory=list)
    sent: int = 0
    health: PublishHealth | None = None
    left_out: Sequence[LeftOut] = ()

    @property
    def names(self) -> list[str]:
        """The kinds of the session's events."""
        return [type(event).__name__ for event in self.said]


def replay(pieces: Iterable[bytes], message_ms: int) -> Publish:
    """Play a capture to a new session that accepts every publish; media messages arrive ``message_ms`` apart."""
    session, demuxer, publish, now_ms = ServerSession(bytes), Demuxer(), Publish(), 0
    for piece in pieces:
        session.receive_data(piece)
        for event in session.events():
            if isinstance(event, VideoReceived | AudioReceived):
                now_ms += message_ms
                is_video = isinstance(event, VideoReceived)
                receive = demuxer.video_received if is_video else demuxer.audio_received
                publish.timestamps[VIDEO if is_video else AUDIO].append(event.timestamp)
                publish.media += receive(event.timestamp, event.payload, now_ms)
                packets = (read_video if is_video else read_audio)(event.payload)
                publish.sent += sum(packet.kind is PacketKind.FRAMES and len(packet.body) > 0 for packet in packets)
                continue
            if not isinstance(event, MessageApplied):
                publish.said.append(event)
            if isinstance(event, ConnectRequested):
                session.accept_connect()
            elif isinstance(event, PublishRequested):
                session.accept_publish(event.msid)
            elif isinstance(event, MetadataReceived):
                demuxer.metadata_received(event.values)
    publish.media += demuxer.finish()
    publish.health, publish.left_out = demuxer.health, demuxer.left_out
    return publish


def _config(frame: Frame) -> VideoConfig:
    config = frame.track.config
    assert isinstance(config, VideoConfig)
    return config


def _units(frame: Frame) -> list[bytes]:
    """The NAL units of a sample."""
    units, at = [], 0
    while at < len(frame.data):
        end = at + 4 + int.from_bytes(frame.data[at : at + 4], "big")
        units.append(frame.data[at + 4 : end])
        at = end
    return units


class CaptureTests(SynchronousTestCase):
    def replay(self, name: str, message_ms: int = MESSAGE_MS) -> Publish:
        """A capture's publish, which is the same however the network cuts it."""
        capture = (DATA / f"{name}.rtmp").read_bytes()
        publish = replay([capture], message_ms)
        self.assertEqual(publish, replay(in_bytes(capture), message_ms), "byte by byte")
        self.assertEqual(publish, replay(in_pieces(capture, 1448), message_ms), "in segments")
        for event in publish.said:
            self.assertNotIsInstance(event, CommandIgnored | MessageIgnored)
        request = next(event for event in publish.said if isinstance(event, PublishRequested))
        self.assertEqual(("live", name, "live"), (request.app, request.key, request.kind))
        return publish

    def check_clip(self, publish: Publish) -> None:
        """The clip that most captures hold comes out whole, on its grids, with the sound where it was."""
        self.assertEqual([], problems_of(publish.media))
        self.assertEqual([], [event for event in publish.media if isinstance(event, Discontinuity)])
        pictures, sounds = frames_of(publish.media, VIDEO), frames_of(publish.media, AUDIO)
        self.assertEqual((40, 76), (len(pictures), len(sounds)))
        self.assertEqual([0, 15, 30], [at for at, frame in enumerate(pictures) if frame.keyframe])
        self.assertEqual([3600] * 39, steps(pictures))
        self.assertEqual([1024] * 75, steps(sounds))
        # Sent 59 ms apart: the picture shown first waits 80 ms for its B-frames, and the encoder fills 21 ms of sound.
        self.assertEqual((0, 59), (pictures[0].dts, sounds[0].dts * 1000 // 48_000))
        self.assertEqual({7200 + at * 3600 for at in range(40)}, {frame.pts for frame in pictures})

    def test_extended_timestamps_in_each_chunk(self) -> None:
        """FFmpeg: timestamps that outgrow their field, repeated in each chunk of 128 bytes, are continuous."""
        publish = self.replay("ffmpeg-5.1-extended-timestamps")
        self.assertGreater(max(publish.timestamps[VIDEO]), 0xFFFFFF)
        self.check_clip(publish)

    def test_wrap_at_31_bits(self) -> None:
        """FFmpeg: a clock that has lost its top bit in FLV, and begins anew at 0, continues."""
        publish = self.replay("ffmpeg-9.0-wrap-at-31-bits")
        self.assertEqual([0, 2147482789], publish.timestamps[VIDEO][:2])
        self.assertLess(publish.timestamps[VIDEO][-1], 1000)
        self.check_clip(publish)

    def test_wrap_at_32_bits(self) -> None:
        """librtmp: so does one that wraps where RTMP's does, by deltas, of which the last one goes back."""
        publish = self.replay("librtmp-2.4-wrap-at-32-bits")
        self.assertEqual(2**32 - 800, publish.timestamps[VIDEO][0])
        self.assertEqual(publish.timestamps[VIDEO][-1] + 99, publish.timestamps[AUDIO][-1])
        self.check_clip(publish)

    def test_multitrack_of_ffmpeg_is_taken(self) -> None:
        """FFmpeg: every track is taken, classic and enhanced, each with its own frames."""
        publish = self.replay("ffmpeg-9.0-multitrack")
        self.assertEqual([], problems_of(publish.media))
        for track_id in (1, 3):
            self.assertEqual([3600] * 14, steps(track_frames(publish.media, track_id)))
        for track_id in (2, 4):
            self.assertEqual([1024] * 29, steps(track_frames(publish.media, track_id)))

    def test_open_gops_of_ffmpeg(self) -> None:
        """FFmpeg: of open GOPs every picture comes out, each keyframe again as an IDR picture behind what leads it."""
        publish = self.replay("ffmpeg-5.1-open-gop")
        self.assertEqual([], problems_of(publish.media))
        frames = frames_of(publish.media, VIDEO)
        self.assertEqual(43, len(frames))
        self.assertEqual([0, 11, 22, 33], [at for at, frame in enumerate(frames) if frame.keyframe])
        self.assertTrue(all(step > 0 for step in steps(frames)))
        once = []
        for at, frame in enumerate(frames):
            nals = split_nals(AVC_SYNTAX, frame.data, 4)
            self.assertEqual(frame.keyframe, any(nal_type(nal) == IDR_SLICE for nal in nals))
            if not at or not frame.keyframe:
                once.append(frame)
                continue
            open_one = next(each for each in once if each.pts == frame.pts - 1)
            self.assertEqual(open_one.data[-40:], frame.data[-40:])
            self.assertTrue(all(later.pts > frame.pts for later in frames[at + 1 :]))
        self.assertEqual({7200 + at * 3600 for at in range(40)}, {frame.pts for frame in once})

    def test_hevc_of_ffmpeg_comes_whole(self) -> None:
        """FFmpeg: HEVC comes out whole, open GOPs and pictures that lead their keyframe among them."""
        publish = self.replay("ffmpeg-9.0-hevc-open-gops")
        self.assertEqual([], problems_of(publish.media))
        pictures, sounds = frames_of(publish.media, VIDEO), frames_of(publish.media, AUDIO)
        self.assertEqual((40, 76), (len(pictures), len(sounds)))
        self.assertEqual([3600] * 39, steps(pictures))
        keyframes = [at for at, frame in enumerate(pictures) if frame.keyframe]
        self.assertEqual(3, len(keyframes))
        leading = [frame for frame in pictures[keyframes[1] :] if frame.pts < pictures[keyframes[1]].pts]
        self.assertTrue(leading)
        self.assertEqual({"hvc1.1.6.L30.90"}, {_config(frame).codec_string for frame in pictures})
        self.assertEqual(40, len({frame.pts for frame in pictures}))

    def test_hevc_of_high_dynamic_range(self) -> None:
        """FFmpeg: parameter sets and brightness that come again with each keyframe are no change."""
        publish = self.replay("ffmpeg-9.0-hevc-hdr")
        self.assertEqual([], problems_of(publish.media))
        told = [event.tracks for event in publish.media if isinstance(event, TracksChanged)]
        self.assertEqual(1, len(told))
        config = told[0][0].config
        assert isinstance(config, VideoConfig) and config.mastering is not None
        self.assertEqual((Colour(9, 16, 9, False), ContentLight(1000, 400)), (config.colour, config.light))
        self.assertEqual(10_000_000, config.mastering.max_luminance)
        types = {nal[0] >> 1 for frame in frames_of(publish.media, VIDEO) for nal in _units(frame)}
        self.assertFalse({32, 33, 34} & types)

    def test_av1_of_three_encoders(self) -> None:
        """FFmpeg: AV1 of three encoders, announced in full, by a level alone, and at first with nothing."""
        for name, size, pictures in (
            ("ffmpeg-9.0-av1-svt", (64, 64), 40),
            ("ffmpeg-9.0-av1-rav1e", (64, 48), 25),
            ("ffmpeg-9.0-av1-aom", (64, 48), 40),
        ):
            publish = self.replay(name)
            self.assertEqual([], problems_of(publish.media))
            self.assertEqual(1, sum(isinstance(event, TracksChanged) for event in publish.media))
            frames = frames_of(publish.media, VIDEO)
            self.assertEqual([3600] * (pictures - 1), steps(frames))
            config = _config(frames[0])
            self.assertEqual((*size, "av01.0.00M.08"), (config.width, config.height, config.codec_string))
            for at, frame in enumerate(frames):
                self.assertEqual((at % 15 == 0, 0), (frame.keyframe, frame.composition_offset))
                self.assertEqual(frame.keyframe, frame.data.startswith(config.record[4:]))
                self.assertFalse(frame.data.startswith(b"\x12\0"))

    def test_vp9_of_ffmpeg_comes_whole(self) -> None:
        """FFmpeg: VP9 comes out whole; its size is that of the first keyframe."""
        publish = self.replay("ffmpeg-9.0-vp9")
        self.assertEqual([], problems_of(publish.media))
        self.assertEqual(1, sum(isinstance(event, TracksChanged) for event in publish.media))
        frames = frames_of(publish.media, VIDEO)
        self.assertEqual([3600] * 39, steps(frames))
        self.assertEqual([at % 15 == 0 for at in range(40)], [frame.keyframe for frame in frames])
        config = _config(frames[0])
        self.assertEqual((64, 48, "vp09.00.10.08"), (config.width, config.height, config.codec_string))

    def test_sounds_come_out_whole(self) -> None:
        """FFmpeg: every codec of audio comes out frame by frame, without a gap, as one track of what was encoded."""
        for name, string, frame, count in (
            ("opus", "opus", 960, 51),
            ("flac", "fLaC", 1024, 47),
            ("ac3", "ac-3", 1536, 32),
            ("eac3", "ec-3", 1536, 32),
            ("mp3", "mp4a.40.34", 1152, 43),
        ):
            publish = self.replay(f"ffmpeg-9.0-{name}")
            self.assertEqual([], problems_of(publish.media), name)
            (tracks,) = (event.tracks for event in publish.media if isinstance(event, TracksChanged))
            config = tracks[0].config
            assert isinstance(config, AudioConfig)
            self.assertEqual((string, 48_000, 1), (config.codec_string, config.sample_rate, config.channels))
            frames = frames_of(publish.media, AUDIO)
            self.assertEqual(count, len(frames), name)
            self.assertEqual({frame}, set(steps(frames)), name)
            self.assertEqual(48_000 % 1024 if name == "flac" else frame, frames[-1].duration)

    def test_connect_arguments_of_others(self) -> None:
        """FFmpeg and librtmp: what users let them say to other servers when they connect changes nothing."""
        for name, client, pictures in (
            ("ffmpeg-5.1-connect-arguments", "FMLE/3.0 (compatible; Lavf59.27.100)", 7),
            ("librtmp-2.4-connect-arguments", "", 2),
        ):
            publish = self.replay(name)
            self.assertEqual(ConnectRequested("live", "127.0.0.1", client), publish.said[0])
            self.assertEqual(pictures, len(frames_of(publish.media, VIDEO)))

    def test_negative_decode_times(self) -> None:
        """GStreamer: of the first pictures all decode at 0; the others are on their grid, and all are shown on it."""
        publish = self.replay("gstreamer-1.22-b-frames")
        self.assertEqual([0, 0, 0, 33, 66], publish.timestamps[VIDEO][1:6])
        pictures = frames_of(publish.media, VIDEO)
        self.assertEqual(["timestamp_clamped"] * 2, problems_of(publish.media))
        self.assertEqual([1, 1, 2998, *[3000] * 56], steps(pictures))
        self.assertEqual({at * 3000 for at in range(60)}, {frame.pts for frame in pictures})

    def test_parameter_sets_in_band(self) -> None:
        """GStreamer: parameter sets in front of every keyframe are taken out, and change nothing when they repeat."""
        publish = self.replay("gstreamer-1.22-b-frames")
        self.assertEqual([], [event for event in publish.media if isinstance(event, Discontinuity)])
        for frame in frames_of(publish.media, VIDEO):
            self.assertNotIn(frame.data[4] & 0x1F, (7, 8))

    def test_farewell_of_gstreamer(self) -> None:
        """GStreamer: a farewell by the stream's name, wanting no answer, ends the publish once."""
        publish = self.replay("gstreamer-1.22-b-frames")
        self.assertEqual(1, publish.names.count("PublishEnded"))
        self.assertGreater(publish.names.count("MetadataReceived"), 1)
        self.assertEqual(PublishEnded(1, "FCUnpublish"), publish.said[-1])

    def test_late_video_of_gstreamer(self) -> None:
        """GStreamer: pictures that its muxer gives one and the same time all come out, in order."""
        publish = self.replay("gstreamer-1.22-late-video")
        sent, pictures = publish.timestamps[VIDEO], frames_of(publish.media, VIDEO)
        self.assertLess(len(set(sent)), 40)
        self.assertEqual(60, len(pictures))
        self.assertTrue(all(step > 0 for step in steps(pictures)))
        self.assertEqual({"timestamp_repaired"}, set(problems_of(publish.media)))
        self.assertEqual([1024] * 46, steps(frames_of(publish.media, AUDIO)))

    def test_clock_that_stands_still(self) -> None:
        """GStreamer: pictures all come out though their clock stands still at first; the sound of that time is lost."""
        publish = self.replay("gstreamer-1.22-top-bit", message_ms=0)  # as it was: all of it at once
        self.assertGreater(publish.timestamps[VIDEO].count(0), 20)
        pictures, sounds = frames_of(publish.media, VIDEO), frames_of(publish.media, AUDIO)
        self.assertEqual((40, 38), (len(pictures), len(sounds)))
        problems = set(problems_of(publish.media))
        self.assertEqual({"trimmed", "timestamp_clamped", "timestamp_repaired"}, problems)
        self.assertEqual([3600] * 18, steps(pictures)[-18:])
        apart = Fraction(sounds[-1].dts, 48_000) - Fraction(pictures[-1].dts, 90_000)
        sent = Fraction(publish.timestamps[AUDIO][-1] - publish.timestamps[VIDEO][-1], 1000)
        self.assertLess(abs(apart - sent), Fraction(2, 1000))

    def test_killed_librtmp_within_a_message(self) -> None:
        """librtmp: what came before an end within a message comes out; nothing says that it has ended."""
        publish = self.replay("librtmp-2.4-killed")
        self.assertNotIn("PublishEnded", publish.names)
        self.assertEqual([3600] * 8, steps(frames_of(publish.media, VIDEO)))
        self.assertEqual([1024] * 15, steps(frames_of(publish.media, AUDIO)))


#: What comes to nothing of a capture, and cannot be carried. Of all others every frame comes out.
LOST: Mapping[str, Mapping[str, int]] = {
    # The clock stands still up to its wrap: sound of that time has no place of its own before the first picture.
    "gstreamer-1.22-top-bit": {"trimmed": 38},
}
#: What is found in a capture: codecs that not all browsers play, clocks that are not what they should be. In all others
#: there is nothing to find.
FOUND: Mapping[str, set[str]] = {
    "ffmpeg-9.0-ac3": {"unplayable_codec"},
    "ffmpeg-9.0-av1-aom": {"unplayable_codec"},
    "ffmpeg-9.0-av1-rav1e": {"unplayable_codec"},
    "ffmpeg-9.0-av1-svt": {"unplayable_codec"},
    "ffmpeg-9.0-eac3": {"unplayable_codec"},
    "ffmpeg-9.0-hevc-hdr": {"unplayable_codec"},
    "ffmpeg-9.0-hevc-open-gops": {"unplayable_codec"},
    "ffmpeg-9.0-mp3": {"unplayable_codec"},
    "ffmpeg-9.0-vp9": {"unplayable_codec"},
    # x264 takes its test picture as it is, in 4:4:4.
    "gstreamer-1.22-b-frames": {"unplayable_codec"},
    "gstreamer-1.22-late-video": {"unplayable_codec", "repaired_timestamps"},
    "librtmp-2.4-connect-arguments": {"unplayable_codec"},
    "librtmp-2.4-killed": {"unplayable_codec"},
    # Its clock stands still.
    "gstreamer-1.22-top-bit": {"repaired_timestamps"},
}


class EveryCaptureTests(SynchronousTestCase):
    """What holds of all captures, those that come later too."""

    def publishes(self) -> Iterator[tuple[str, Publish]]:
        for path in sorted(DATA.glob("*.rtmp")):
            yield path.stem, replay([path.read_bytes()], 0 if "top-bit" in path.stem else MESSAGE_MS)

    def test_nothing_is_lost(self) -> None:
        """Every frame that was sent comes out once, or is counted as one that cannot be carried."""
        for name, publish in self.publishes():
            lost = Counter(kind for kind in problems_of(publish.media) if kind in DROPPING)
            self.assertEqual(LOST.get(name, {}), lost, name)
            frames = [event for event in publish.media if isinstance(event, Frame)]
            shown = {(frame.track.id, frame.pts) for frame in frames}
            again = [frame for frame in frames if frame.keyframe and (frame.track.id, frame.pts - 1) in shown]
            self.assertEqual(publish.sent, len(frames) - len(again) + lost.total(), name)

    def test_findings_are_the_true_ones(self) -> None:
        """No finding is untrue, and none is missing."""
        for name, publish in self.publishes():
            assert publish.health is not None
            tracks = next(event.tracks for event in publish.media if isinstance(event, TracksChanged))
            findings = [*diagnose(publish.health, None), *diagnose_codecs(publish.left_out), *diagnose_tracks(tracks)]
            self.assertEqual(FOUND.get(name, set()), {finding.kind.value for finding in findings}, (name, findings))
