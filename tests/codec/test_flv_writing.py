"""Tests of `rapidrtmp.codec.flv_writing`, `flv_capabilities` and `flv_file`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.codec.flv_capabilities import (
    ANYTHING,
    CLASSIC,
    FIRST_TRACKS,
    WEB,
    FlvCapabilities,
    read_flv_capabilities,
)
from rapidrtmp.codec.flv_file import write_file_header, write_tag
from rapidrtmp.codec.flv_writing import AUDIO_TAG, DATA_TAG, VIDEO_TAG, FlvMessage, FlvWriter
from rapidrtmp.codec.table import CODECS
from rapidrtmp.errors import MisuseError
from rapidrtmp.live.announced_tracks import Label, read_track_labels
from rapidrtmp.live.demuxer import Demuxer, MediaEvent, TracksChanged
from rapidrtmp.media import AudioConfig, Colour, ContentLight, Frame, MasteringDisplay, MediaKind, Track, VideoConfig
from rapidrtmp.rtmp.command import read_data
from rapidrtmp.testing.frames import audio_frames, make_audio_track, make_video_track, measured, video_frames
from tests.test_captures import replay

DATA = Path(__file__).parent.parent / "data"
VIDEO, AUDIO = MediaKind.VIDEO, MediaKind.AUDIO


def written(events: Iterable[MediaEvent], capabilities: FlvCapabilities) -> list[tuple[FlvMessage, int]]:
    """The messages of a stream, each with when its frame arrived."""
    writer, messages = FlvWriter(capabilities), []
    for event in events:
        if isinstance(event, TracksChanged):
            writer.tracks_changed(event.tracks)
        elif isinstance(event, Frame):
            messages += [(message, event.arrived_ms) for message in writer.write(event)]
    return messages


def read_back(messages: Iterable[tuple[FlvMessage, int]]) -> list[Frame]:
    """The frames that a server makes of messages."""
    demuxer, events = Demuxer(), []
    for message, arrived_ms in messages:
        if message.type_id == VIDEO_TAG:
            events += demuxer.video_received(message.timestamp, message.body, arrived_ms)
        elif message.type_id == AUDIO_TAG:
            events += demuxer.audio_received(message.timestamp, message.body, arrived_ms)
        else:
            demuxer.metadata_received(metadata_of(message))
    events += demuxer.finish()
    return [replace(event, arrived_ms=0) for event in events if isinstance(event, Frame)]


def metadata_of(message: FlvMessage) -> dict[str, object]:
    name, values = read_data(message.body)
    assert name == "onMetaData"
    (described,) = values
    assert isinstance(described, dict)
    return described


def by_track(frames: Iterable[MediaEvent]) -> dict[int, list[Frame]]:
    found: dict[int, list[Frame]] = {}
    for frame in frames:
        if isinstance(frame, Frame):
            found.setdefault(frame.track.id, []).append(replace(frame, arrived_ms=0))
    return found


def make_track(codec: str, config: VideoConfig | AudioConfig, id: int) -> Track:
    return CODECS[codec].make_track(id, config)


def make_frame(track: Track, dts: int = 0, offset: int = 0, *, keyframe: bool = True, data: bytes = b"data") -> Frame:
    return Frame(track, dts, offset, 0, keyframe, data, 0)


def heads(capabilities: FlvCapabilities, *frames: Frame) -> list[str]:
    """The heads of media messages in hex, configurations included."""
    writer = FlvWriter(capabilities)
    writer.tracks_changed(dict.fromkeys(frame.track for frame in frames))
    messages = [message for frame in frames for message in writer.write(frame)]
    return [message.head.hex() for message in messages if message.type_id != DATA_TAG]


HEVC_CONFIG = VideoConfig(b"hvcC", "hvc1.1.6.L60.90", 320, 180)
OPUS_CONFIG = AudioConfig(b"OpusHead", "opus", 48_000, 2, 960)
AC3_CONFIG = AudioConfig(b"dac3", "ac-3", 48_000, 6, 1536)


class RoundTripTests(SynchronousTestCase):
    def test_captures_are_read_back(self) -> None:
        """What real encoders sent in every codec is the same stream when it is written and read back."""
        for name in ("av1-svt", "av1-rav1e", "vp9", "hevc-hdr", "opus", "flac", "ac3", "eac3", "mp3", "multitrack"):
            media = replay([(DATA / f"ffmpeg-9.0-{name}.rtmp").read_bytes()], 14).media
            frames = by_track(media)
            self.assertEqual(frames, by_track(read_back(written(media, ANYTHING))), name)
            first = {track_id: frames[track_id] for track_id in frames if track_id <= 2}
            self.assertEqual(first, by_track(read_back(written(media, FIRST_TRACKS))), name)

    @given(
        rate=st.sampled_from([Fraction(25), Fraction(30), Fraction(30_000, 1001), Fraction(60)]),
        b_frames=st.integers(0, 2),
        capabilities=st.sampled_from([CLASSIC, FIRST_TRACKS, ANYTHING]),
        start_ms=st.sampled_from([0, 0xFFFFFF - 300, 2**31 - 300, 2**32 - 300]),
    )
    @settings(max_examples=5)
    def test_streams_are_read_back(
        self, rate: Fraction, b_frames: int, capabilities: FlvCapabilities, start_ms: int
    ) -> None:
        """Streams of all frame rates, with B-frames and without, are the same when written and read back."""
        video, audio = make_video_track(), make_audio_track()
        frames = sorted(
            [
                *video_frames(video, 0.5, frame_rate=rate, gop=15, b_frames=b_frames, start=start_ms * 90),
                *audio_frames(audio, 0.5, start=start_ms * 48),
            ],
            key=lambda frame: frame.arrived_ms,
        )
        found = by_track(read_back(written([TracksChanged((video, audio)), *frames], capabilities)))
        for track_id, expected in by_track(frames).items():
            read = found[track_id]
            expected = expected[-len(read) :]  # audio in front of the first picture is not taken
            self.assertLessEqual(
                expected[0].dts, expected[0].track.timescale // 10 + start_ms * expected[0].track.timescale // 1000
            )
            first = expected[0].dts
            self.assertEqual([each.data for each in expected], [each.data for each in read])
            self.assertEqual([each.keyframe for each in expected], [each.keyframe for each in read])
            scale = expected[0].track.timescale
            for before, after in zip(expected, read, strict=True):
                self.assertEqual(before.track.config, after.track.config)
                self.assertLessEqual(abs(before.dts - first - (after.dts - read[0].dts)) * 1000, scale)
                self.assertLessEqual(abs(before.composition_offset - after.composition_offset) * 1000, scale)

    def test_times_do_not_drift(self) -> None:
        """After hours, decode and presentation times are right to half a millisecond."""
        track = make_video_track()
        writer = FlvWriter()
        writer.tracks_changed([track])
        for dts in (3003, 90_000 * 3600 * 5 + 1501, 90_000 * 86_400 * 60 + 44):
            *_, message = writer.write(make_frame(track, dts, 3003))
            offset = int.from_bytes(message.head[2:5], "big", signed=True)
            self.assertLessEqual(abs(message.timestamp * 90 - dts), 45)
            self.assertLessEqual(abs((message.timestamp + offset) * 90 - dts - 3003), 45)


class FormTests(SynchronousTestCase):
    def test_classic_codecs_stay_classic(self) -> None:
        """H.264, AAC and MP3 are in the classic form, whatever else the receiver takes."""
        video, audio = make_video_track(), make_audio_track()
        mp3 = make_track(".mp3", AudioConfig(b"", "mp4a.40.34", 44_100, 2, 1152), 2)
        for capabilities in (CLASSIC, FIRST_TRACKS, WEB):
            self.assertEqual(
                ["1700000000", "af00", "1701000000", "27010000 2b".replace(" ", ""), "af01"],
                heads(capabilities, make_frame(video), make_frame(video, 0, 3900, keyframe=False), make_frame(audio)),
            )
            self.assertEqual(["2f"], heads(capabilities, make_frame(mp3)))

    def test_other_codecs_have_fourccs(self) -> None:
        """Other codecs have FourCCs; a composition time of zero is left out."""
        video, audio = make_track("hvc1", HEVC_CONFIG, 1), make_track("Opus", OPUS_CONFIG, 2)
        self.assertEqual(
            ["9068766331", "904f707573", "9368766331", "a168766331ffffdf", "914f707573"],
            heads(
                FIRST_TRACKS,
                make_frame(video),
                make_frame(video, 90_000, -2970, keyframe=False),
                make_frame(audio),
            ),
        )

    def test_configurations_may_be_empty(self) -> None:
        """AC-3 starts with nothing, as its readers insist."""
        track = make_track("ac-3", AC3_CONFIG, 2)
        writer = FlvWriter()
        writer.tracks_changed([track])
        self.assertEqual(
            [b"\x90ac-3", b"\x91ac-3data"], [message.body for message in writer.write(make_frame(track))[1:]]
        )

    def test_further_tracks_are_wrapped(self) -> None:
        """Further tracks are in the multitrack form, for receivers that take it, and left out for others."""
        video, other = make_video_track(), make_track("hvc1", HEVC_CONFIG, 3)
        audio, second = make_audio_track(), make_audio_track(id=4)
        frames = [make_frame(track) for track in (video, other, audio, second)]
        several = FlvCapabilities(codecs=frozenset({"hvc1", "mp4a"}), multitrack=True)
        self.assertEqual(
            (
                *("1700000000", "96006876633101", "af00", "95006d70346101"),
                *("1701000000", "96036876633101", "af01", "95016d70346101"),
            ),
            tuple(heads(several, *frames)),
        )
        writer = FlvWriter(FIRST_TRACKS)
        writer.tracks_changed([video, other, audio, second])
        self.assertEqual(((video, audio), (other, second)), (writer.tracks, writer.left_out))
        self.assertEqual((), writer.write(frames[1]))

    def test_codecs_that_are_not_taken(self) -> None:
        """A track in a codec that the receiver does not take is left out, and the next one takes its place."""
        hevc, avc = make_track("hvc1", HEVC_CONFIG, 1), make_video_track(id=3)
        writer = FlvWriter(CLASSIC)
        writer.tracks_changed([hevc, avc])
        self.assertEqual(((avc,), (hevc,)), (writer.tracks, writer.left_out))

    def test_fine_timestamps_lead_messages(self) -> None:
        """What milliseconds do not hold of a time is in front, for receivers that take it."""
        video, audio = make_track("hvc1", HEVC_CONFIG, 1), make_audio_track()
        fine = FlvCapabilities(codecs=None, nanoseconds=True)
        self.assertEqual(
            ["9068766331", "af00", "97020516150368766331", "9702051615016d703461"],
            heads(fine, make_frame(video, 3000), make_frame(audio, 1600)),
        )

    def test_fine_timestamps_give_way_to_composition_times(self) -> None:
        """Where composition times are no whole milliseconds, decode times are none that are finer."""
        video = make_track("hvc1", HEVC_CONFIG, 1)
        fine = FlvCapabilities(codecs=None, nanoseconds=True)
        frames = make_frame(video, 3000, 3000), make_frame(video, 6003, 0, keyframe=False)
        self.assertEqual(["9068766331", "9168766331000022", "a368766331"], heads(fine, *frames))

    def test_colour_is_described(self) -> None:
        """Colour and brightness are sent to receivers that take it."""
        point = (8_500, 39_850)
        display = MasteringDisplay(point, point, point, point, 10_000_000, 50)
        config = replace(
            HEVC_CONFIG, colour=Colour(9, 16, 9, full_range=False), light=ContentLight(1000, 400), mastering=display
        )
        track = make_track("hvc1", config, 1)
        for capabilities in (ANYTHING, FIRST_TRACKS):
            writer = FlvWriter(capabilities)
            writer.tracks_changed([track])
            bodies = [message.body for message in writer.write(make_frame(track))]
            colours = [body for body in bodies if body.startswith(b"\x84hvc1")]
            if capabilities is FIRST_TRACKS:
                self.assertEqual([], colours)
                continue
            name, (info,) = read_data(colours[0][5:])
            assert isinstance(info, dict)
            self.assertEqual("colorInfo", name)
            self.assertEqual({"maxFall": 400.0, "maxCLL": 1000.0}, info["hdrCll"])
            self.assertEqual(
                {"colorPrimaries": 9.0, "transferCharacteristics": 16.0, "matrixCoefficients": 9.0}, info["colorConfig"]
            )
            assert isinstance(info["hdrMdcv"], dict)
            self.assertEqual((0.17, 1000.0), (info["hdrMdcv"]["redX"], info["hdrMdcv"]["maxLuminance"]))

    def test_channels_are_described(self) -> None:
        """Receivers that say what they take learn how many channels there are, and which where that is clear."""
        for channels, said in ((1, "01 01 00000004"), (2, "01 02 00000003"), (6, "00 06")):
            track = make_track("Opus", replace(OPUS_CONFIG, channels=channels), 2)
            for capabilities, expected in ((ANYTHING, [bytes.fromhex(said)]), (FIRST_TRACKS, []), (WEB, [])):
                writer = FlvWriter(capabilities)
                writer.tracks_changed([track])
                bodies = [message.body for message in writer.write(make_frame(track))]
                self.assertEqual(expected, [body[5:] for body in bodies if body.startswith(b"\x94Opus")])

    def test_ends_of_tracks_are_said(self) -> None:
        """Receivers that say what they take learn the end of each track in the enhanced form; others do not."""
        tracks = make_track("hvc1", HEVC_CONFIG, 1), make_track("Opus", OPUS_CONFIG, 2), make_audio_track(id=4)
        for capabilities, expected in (
            (ANYTHING, [b"\x92hvc1", b"\x92Opus", b"\x95\x02mp4a\x01"]),
            (FIRST_TRACKS, []),
            (WEB, []),
        ):
            writer = FlvWriter(capabilities)
            writer.tracks_changed(tracks)
            ends = writer.write_end(7_000)
            self.assertEqual(expected, [end.body for end in ends])
            self.assertLessEqual({end.timestamp for end in ends}, {7_000})


class DescriptionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.video, self.audio = make_video_track(1280, 720, Fraction(30)), make_audio_track()
        self.writer = FlvWriter(ANYTHING)

    def said(self, frame: Frame) -> list[str]:
        """What goes in front of a frame: ``data``, and the kind of each configuration."""
        names = {DATA_TAG: "data", VIDEO_TAG: "video", AUDIO_TAG: "audio"}
        return [names[message.type_id] for message in self.writer.write(frame)[:-1]]

    def test_metadata_describes_tracks(self) -> None:
        """Metadata describes the tracks that come, and no others."""
        self.writer.tracks_changed([self.video])
        message, *_ = self.writer.write(make_frame(self.video))
        self.assertEqual(
            {
                "hasVideo": True,
                "hasAudio": False,
                "videocodecid": 7.0,
                "width": 1280.0,
                "height": 720.0,
                "framerate": 30.0,
            },
            metadata_of(message),
        )
        self.writer.tracks_changed([make_track("Opus", OPUS_CONFIG, 2)])
        message, *_ = self.writer.write_start(0)
        self.assertEqual(
            {
                "hasVideo": False,
                "hasAudio": True,
                "audiocodecid": float(0x4F707573),
                "audiosamplerate": 48_000.0,
                "audiochannels": 2.0,
                "stereo": True,
            },
            metadata_of(message),
        )

    def test_further_tracks_are_named(self) -> None:
        """Metadata tells further tracks' languages and names, as the reader of publishers' metadata takes them."""
        second = make_audio_track(id=4, language="deu", name="Kommentar")
        self.writer.tracks_changed([self.audio, second])
        message, *_ = self.writer.write_start(0)
        self.assertEqual({(AUDIO, 1): Label("deu", "Kommentar")}, read_track_labels(metadata_of(message)))

    def test_frame_rate_is_measured(self) -> None:
        """The frame rate that metadata tells is the one that was measured."""
        frames = measured(video_frames(make_video_track(frame_rate=Fraction(50)), 4, gop=30))
        self.writer.tracks_changed([frames[0].track])
        for frame in frames:
            self.writer.write(frame)
        message, *_ = self.writer.write_start(0)
        self.assertEqual(30.0, metadata_of(message)["framerate"])

    def test_configurations_precede_frames(self) -> None:
        """A stream begins with metadata, and configurations at the time of the frame behind them; once."""
        self.writer.tracks_changed([self.video, self.audio])
        messages = self.writer.write(make_frame(self.video, 180_000))
        self.assertEqual([DATA_TAG, VIDEO_TAG, AUDIO_TAG, VIDEO_TAG], [message.type_id for message in messages])
        self.assertEqual([0, 2000, 2000, 2000], [message.timestamp for message in messages])
        self.assertEqual([], self.said(make_frame(self.audio)))

    def test_changes_are_sent_first(self) -> None:
        """A configuration that changes is sent in front of the next frame, and those that do not are not."""
        self.writer.tracks_changed([self.video, self.audio])
        self.writer.write(make_frame(self.video))
        other = make_video_track(640, 360)
        self.writer.tracks_changed([other, self.audio])
        self.assertEqual(["data", "video"], self.said(make_frame(self.audio)))
        self.writer.tracks_changed([other])
        self.writer.tracks_changed([other, self.audio])
        self.assertEqual(["data", "audio"], self.said(make_frame(other)))
        self.writer.tracks_changed([other, self.audio])
        self.assertEqual([], self.said(make_frame(other)))

    def test_late_receivers_begin_likewise(self) -> None:
        """What describes the stream can be had again, for the time of any frame."""
        self.writer.tracks_changed([self.audio, self.video])
        self.writer.write(make_frame(self.video))
        messages = self.writer.write_start(777)
        self.assertEqual([DATA_TAG, VIDEO_TAG, AUDIO_TAG], [message.type_id for message in messages])
        self.assertEqual([0, 777, 777], [message.timestamp for message in messages])


class CapabilitiesTests(SynchronousTestCase):
    def test_silence_is_interpreted(self) -> None:
        """A peer that says nothing is taken for what the caller says."""
        for properties in ({}, {"app": "live", "videoFunction": 1.0, "capsEx": 15.0}, {"fourCcList": "avc1"}):
            self.assertEqual(FIRST_TRACKS, read_flv_capabilities(properties))
            self.assertEqual(CLASSIC, read_flv_capabilities(properties, CLASSIC))

    def test_lists_and_maps(self) -> None:
        """Codecs are those of lists and maps, where these say that the peer decodes them or hands them on."""
        self.assertEqual(
            FlvCapabilities(frozenset({"hvc1", "Opus"}), metadata=True, is_declared=True),
            read_flv_capabilities({"fourCcList": ["hvc1", 7.0, "Opus"]}),
        )
        maps = {"videoFourCcInfoMap": {"av01": 1.0, "hvc1": 2.0, "vp09": 4.0}, "audioFourCcInfoMap": {"fLaC": 5.0}}
        self.assertEqual(frozenset({"av01", "vp09", "fLaC"}), read_flv_capabilities(maps).codecs)
        self.assertEqual(frozenset({"hvc1"}), read_flv_capabilities({"fourCcList": {"0": "hvc1"}}).codecs)
        self.assertIsNone(read_flv_capabilities({"fourCcList": ["*"]}).codecs)
        self.assertIsNone(read_flv_capabilities({"videoFourCcInfoMap": {"*": 1.0}}).codecs)

    def test_nonsense_says_nothing(self) -> None:
        """Values of other types say nothing."""
        properties = {
            "fourCcList": [None, {}, []],
            "videoFourCcInfoMap": {"av01": "1", "hvc1": -1.0},
            "capsEx": "15",
            "videoFunction": float("inf"),
        }
        self.assertEqual(CLASSIC, read_flv_capabilities(properties))

    def test_flags_are_read(self) -> None:
        """Several tracks, metadata and fine times go to those who say that they take them."""
        for caps, multitrack, nanoseconds in ((2.0, True, False), (12.0, False, True), (8.0, False, False)):
            found = read_flv_capabilities({"fourCcList": ["*"], "capsEx": caps, "videoFunction": 1.0})
            self.assertEqual(FlvCapabilities(None, multitrack, False, nanoseconds, is_declared=True), found)
        self.assertTrue(read_flv_capabilities({"fourCcList": [], "videoFunction": 4.0}).metadata)

    def test_classic_codecs_are_played_by_all(self) -> None:
        """H.264, AAC and MP3 are played by all receivers, as the first track."""
        self.assertEqual([True, True, True, False], [CLASSIC.plays(each) for each in ("avc1", "mp4a", ".mp3", "Opus")])
        self.assertTrue(WEB.plays("Opus"))
        self.assertFalse(WEB.plays("av01"))


class FileTests(SynchronousTestCase):
    def test_header_is_truthful(self) -> None:
        """The header tells what is there, and is followed by the size of no tag."""
        for has_video, has_audio, flags in ((True, True, "05"), (True, False, "01"), (False, True, "04")):
            expected = bytes.fromhex(f"464c5601{flags}0000000900000000")
            self.assertEqual(expected, write_file_header(has_video=has_video, has_audio=has_audio))

    def test_tag_is_laid_out(self) -> None:
        """A tag has its size, its time with the highest byte last, its body, and its whole size behind it."""
        message = FlvMessage(VIDEO_TAG, 0x1_12345678, b"\x17\x01\0\0\0", b"\xaa\xbb")
        expected = bytes.fromhex("09 000007 345678 12 000000 1701000000 aabb 00000012")
        self.assertEqual(expected, write_tag(message))

    def test_longest_tag_is_bounded(self) -> None:
        """A body that no tag can hold is refused."""
        self.assertRaises(MisuseError, write_tag, FlvMessage(VIDEO_TAG, 0, b"", bytes(0x1000000)))
