"""Tests of `rapidrtmp.codec.flv`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.codec.flv import Packet, PacketKind, read_audio, read_video
from rapidrtmp.errors import MediaError

CONFIG, FRAMES, END = PacketKind.CONFIG, PacketKind.FRAMES, PacketKind.END
METADATA, IGNORED, UNKNOWN = PacketKind.METADATA, PacketKind.IGNORED, PacketKind.UNKNOWN


def audio_packet(codec: str, kind: PacketKind, track_id: int, nanoseconds: int, body: bytes) -> Packet:
    """A packet of audio, which has no composition time."""
    return Packet(codec, kind, track_id, True, 0, nanoseconds, body)


def video(text: str) -> list[Packet]:
    return list(read_video(bytes.fromhex(text)))


def audio(text: str) -> list[Packet]:
    return list(read_audio(bytes.fromhex(text)))


def hexed(text: str) -> str:
    """ASCII as hex digits."""
    return text.encode().hex()


class ClassicVideoTests(SynchronousTestCase):
    def test_avc_packets_are_distinguished(self) -> None:
        """Config, frames and end of sequence of AVC are distinguished, with their composition times."""
        for text, expected in (
            ("17 00 000000 0164001f", Packet("avc1", CONFIG, 0, True, 0, 0, b"\x01\x64\x00\x1f")),
            ("17 01 000043 0000000165", Packet("avc1", FRAMES, 0, True, 67, 0, b"\0\0\0\1\x65")),
            ("27 01 FFFFDF 0000000141", Packet("avc1", FRAMES, 0, False, -33, 0, b"\0\0\0\1\x41")),
            ("37 01 7FFFFF", Packet("avc1", FRAMES, 0, False, 8_388_607, 0, b"")),
            ("47 01 800000", Packet("avc1", FRAMES, 0, True, -8_388_608, 0, b"")),
            ("17 02 000000", Packet("avc1", END, 0, True, 0, 0, b"")),
        ):
            self.assertEqual([expected], video(text))

    def test_unofficial_numbers_have_avc_layout(self) -> None:
        """The unofficial numbers of HEVC and AV1 have the layout of AVC."""
        self.assertEqual([Packet("hvc1", FRAMES, 0, True, 1, 0, b"\xaa")], video("1c 01 000001 aa"))
        self.assertEqual([Packet("av01", CONFIG, 0, True, 0, 0, b"\x81")], video("1d 00 000000 81"))

    def test_other_codecs_by_number(self) -> None:
        """Codecs of Flash's own are named by number, their bodies untouched."""
        self.assertEqual([Packet("flv:2", FRAMES, 0, True, 0, 0, b"\0\x84")], video("12 0084"))
        self.assertEqual([Packet("flv:4", FRAMES, 0, False, 0, 0, b"")], video("24"))

    def test_commands_are_ignored_here(self) -> None:
        """Commands to the player are ignored; undefined packet types are not known."""
        for text in ("57 00", "57 01 000000 aa", "52 01"):
            self.assertEqual([IGNORED], [packet.kind for packet in video(text)])
        for text in ("17 03 000000 aa", "27 ff 000000"):
            self.assertEqual([UNKNOWN], [packet.kind for packet in video(text)])

    def test_cut_short_video_is_refused(self) -> None:
        """A message that ends within its header is refused with its size."""
        for text in ("", "17", "17 01", "17 01 0000", "27 07 00", "1c 00 00"):
            self.assertRaises(MediaError, video, text)
        self.assertEqual(
            "4 bytes wanted at 1 of a message of 3 bytes", str(self.assertRaises(MediaError, video, "17 01 00"))
        )


class ClassicAudioTests(SynchronousTestCase):
    def test_aac_packets_are_distinguished(self) -> None:
        """Config and frames of AAC are distinguished, whatever the bits for rate and channels claim."""
        self.assertEqual([audio_packet("mp4a", CONFIG, 0, 0, b"\x12\x10")], audio("af 00 1210"))
        self.assertEqual([audio_packet("mp4a", FRAMES, 0, 0, b"\x21\x10")], audio("af 01 2110"))
        self.assertEqual([audio_packet("mp4a", FRAMES, 0, 0, b"\x21")], audio("a2 01 21"))

    def test_nothing_makes_no_packets(self) -> None:
        """An empty message or frame (silence), and an AAC config that is empty, are no packets."""
        self.assertEqual([], audio(""))
        self.assertEqual([], audio("af 01"))
        self.assertEqual([], audio("af 00"))

    def test_undefined_type_is_unknown(self) -> None:
        """An undefined packet type of AAC is not known."""
        self.assertEqual([UNKNOWN], [packet.kind for packet in audio("af 02 00")])

    def test_other_codecs_by_name(self) -> None:
        """MP3 has its FourCC, other formats are named by number."""
        self.assertEqual([audio_packet(".mp3", FRAMES, 0, 0, b"\xff\xfb")], audio("2f fffb"))
        self.assertEqual([audio_packet(".mp3", FRAMES, 0, 0, b"\xff\xfb")], audio("ef fffb"))
        self.assertEqual([audio_packet("flv:11", FRAMES, 0, 0, b"\1")], audio("b2 01"))

    def test_cut_short_audio_is_refused(self) -> None:
        """An AAC message without its packet type is refused."""
        self.assertRaises(MediaError, audio, "af")


class EnhancedVideoTests(SynchronousTestCase):
    def test_one_track_of_each_kind(self) -> None:
        """Each packet type has its kind; CodedFrames of reordering codecs begin with a composition time."""
        avc, hevc, av1, vp9 = map(hexed, ("avc1", "hvc1", "av01", "vp09"))
        for text, expected in (
            (f"90 {hevc} 0102", Packet("hvc1", CONFIG, 0, True, 0, 0, b"\1\2")),
            (f"91 {hevc} 000021 aa", Packet("hvc1", FRAMES, 0, True, 33, 0, b"\xaa")),
            (f"a1 {avc} ffffdf aa", Packet("avc1", FRAMES, 0, False, -33, 0, b"\xaa")),
            (f"a3 {hevc} ffffdf aa", Packet("hvc1", FRAMES, 0, False, 0, 0, b"\xff\xff\xdf\xaa")),
            (f"91 {hexed('vvc1')} 000001 aa", Packet("vvc1", FRAMES, 0, True, 1, 0, b"\xaa")),
            (f"91 {av1} 0a0b", Packet("av01", FRAMES, 0, True, 0, 0, b"\x0a\x0b")),
            (f"b3 {vp9} 83", Packet("vp09", FRAMES, 0, False, 0, 0, b"\x83")),
            (f"92 {hevc}", Packet("hvc1", END, 0, True, 0, 0, b"")),
            (f"a2 {av1}", Packet("av01", END, 0, False, 0, 0, b"")),
            (f"95 {av1} 800481040c00", Packet("av01", CONFIG, 0, True, 0, 0, bytes.fromhex("800481040c00"))),
            ("90 00ff00ff 01", Packet("\0\xff\0\xff", CONFIG, 0, True, 0, 0, b"\1")),
        ):
            self.assertEqual([expected], video(text))

    def test_nothing_coded_makes_no_packets(self) -> None:
        """Coded frames of no bytes, with a composition time or without it, are no packets."""
        self.assertEqual([], video(f"91 {hexed('hvc1')} 000001"))
        self.assertEqual([], video(f"91 {hexed('hvc1')}"))
        self.assertEqual([], video(f"a3 {hexed('hvc1')}"))

    def test_metadata_whatever_the_frame_type(self) -> None:
        """Metadata is read whatever its frame type claims: OBS says 0, FFmpeg says it were a command."""
        hevc = hexed("hvc1")
        for text, track in ((f"84 {hevc} 0200", 0), (f"d4 {hevc} 0200", 0), (f"d6 04 {hevc} 07 0200", 7)):
            self.assertEqual([Packet("hvc1", METADATA, track, False, 0, 0, b"\2\0")], video(text))

    def test_ignored_and_unknown_packets(self) -> None:
        """Commands are ignored, reserved packet types are not known, alone and within multitrack messages."""
        for text in ("d0 00", "d1 01", "d6 00"):
            self.assertEqual([IGNORED], [packet.kind for packet in video(text)])
        for text in ("98", "9f 01020304", "96 0f 68766331 01", "97 00 ff f8"):
            self.assertEqual([UNKNOWN], [packet.kind for packet in video(text)])

    def test_one_of_many(self) -> None:
        """OneTrack gives a track an id; its body goes to the end of the message."""
        self.assertEqual([Packet("avc1", CONFIG, 1, True, 0, 0, b"\1\x64")], video(f"96 00 {hexed('avc1')} 01 0164"))
        self.assertEqual(
            [Packet("avc1", FRAMES, 255, False, -33, 0, b"\xaa")], video(f"a6 01 {hexed('avc1')} ff ffffdf aa")
        )

    def test_many_tracks_share_a_codec(self) -> None:
        """ManyTracks shares a codec; sizes count the composition time, and a track of no bytes is left out."""
        packets = video(f"a6 11 {hexed('hvc1')} 01 000005 000021 aabb 03 000000 02 000004 ffffff cc")
        self.assertEqual(
            [
                Packet("hvc1", FRAMES, 1, False, 33, 0, b"\xaa\xbb"),
                Packet("hvc1", FRAMES, 2, False, -1, 0, b"\xcc"),
            ],
            packets,
        )

    def test_many_tracks_end(self) -> None:
        """Ends of many tracks have no bytes, and are events."""
        packets = video(f"92 {hexed('hvc1')}") + video(f"96 12 {hexed('hvc1')} 01 000000 02 000000")
        self.assertEqual([(END, 0), (END, 1), (END, 2)], [(packet.kind, packet.track_id) for packet in packets])

    def test_many_codecs_of_tracks(self) -> None:
        """ManyTracksManyCodecs gives each track its own codec."""
        packets = video(f"96 21 {hexed('avc1')} 00 000004 000001 aa {hexed('av01')} 01 000002 bbcc")
        self.assertEqual(
            [
                Packet("avc1", FRAMES, 0, True, 1, 0, b"\xaa"),
                Packet("av01", FRAMES, 1, True, 0, 0, b"\xbb\xcc"),
            ],
            packets,
        )

    def test_nanoseconds_of_a_block(self) -> None:
        """A ModEx block adds nanoseconds; what is more than a millisecond is cut to just less."""
        hevc = hexed("hvc1")
        for text, nanoseconds in (
            (f"97 02 0f423f 01 {hevc} 000000 aa", 999_999),
            (f"97 02 000001 03 {hevc} aa", 1),
            (f"97 04 000002 ffff 03 {hevc} aa", 2),
            (f"97 02 0f4240 03 {hevc} aa", 999_999),
            (f"97 02 000003 06 03 {hevc} 01 aa", 3),
        ):
            self.assertEqual([(nanoseconds, b"\xaa")], [(packet.nanoseconds, packet.body) for packet in video(text)])

    def test_mod_ex_chain(self) -> None:
        """ModEx blocks form chains; those of unknown types are passed over, also with their size in the long form."""
        hevc = hexed("hvc1")
        expected = [Packet("hvc1", FRAMES, 0, True, 0, 5, b"\xaa")]
        self.assertEqual(expected, video(f"97 00 ff 17 02 000005 07 01 eeee f3 {hevc} aa"))
        for size in (256, 257, 65_536):
            block = f"ff {size - 1:04x} {'ab' * size} 17"
            self.assertEqual(expected, video(f"97 {block} 02 000005 03 {hevc} aa"))

    def test_malformed_video_is_refused(self) -> None:
        """What contradicts itself is refused, and the message says how."""
        avc = hexed("avc1")
        for text, reason in (
            ("91 617663", "4 bytes wanted at 1 of a message of 4 bytes"),
            (f"91 {avc} 0000", "track 0: 2 bytes of avc1"),
            (f"96 11 {avc} 01 000002 0000", "track 1: 2 bytes of avc1"),
            ("96", "1 bytes wanted"),
            ("d6", "1 bytes wanted"),
            (f"96 06 {avc} 01", "packet type 6 inside a multitrack message"),
            (f"96 07 {avc} 01", "packet type 7 inside a multitrack message"),
            (f"96 31 {avc} 01", "multitrack type 3"),
            (f"96 01 {avc}", "1 bytes wanted"),
            (f"96 11 {avc}", "1 bytes wanted"),
            (f"96 11 {avc} 01 0000", "3 bytes wanted"),
            (f"96 11 {avc} 01 000005 00000001", "5 bytes wanted at 10 of a message of 14 bytes"),
            (f"96 11 {avc} 01 000004 000000aa 01 000004 000000aa", "track 1 twice"),
            (f"96 21 {avc} 01 000004 000000aa 6176", "4 bytes wanted"),
            ("97", "1 bytes wanted"),
            ("97 02 0000", "3 bytes wanted"),
            ("97 ff 00", "2 bytes wanted"),
            (f"97 01 0000 03 {avc} aa", "nanosecond offset of 2 bytes"),
            (f"97 {'00 ff 17' * 9} 03 {avc} aa", "more than 8 ModEx blocks"),
        ):
            error = self.assertRaises(MediaError, video, text)
            self.assertIn(reason, str(error))

    def test_eight_mod_ex_blocks(self) -> None:
        """Eight ModEx blocks are not too many."""
        self.assertEqual(1, len(video(f"97 {'00 ff 17' * 7} 00 ff 13 {hexed('avc1')} aa")))


class EnhancedAudioTests(SynchronousTestCase):
    def test_one_audio_track_of_each_kind(self) -> None:
        """Each packet type has its kind; audio bodies are untouched."""
        for text, expected in (
            (f"90 {hexed('Opus')} {hexed('OpusHead')}", audio_packet("Opus", CONFIG, 0, 0, b"OpusHead")),
            (f"91 {hexed('Opus')} fc", audio_packet("Opus", FRAMES, 0, 0, b"\xfc")),
            (f"92 {hexed('fLaC')}", audio_packet("fLaC", END, 0, 0, b"")),
            (f"90 {hexed('ac-3')}", audio_packet("ac-3", CONFIG, 0, 0, b"")),
            (f"94 {hexed('mp4a')} 01060000060f", audio_packet("mp4a", METADATA, 0, 0, b"\1\6\0\0\6\x0f")),
            (f"97 02 000009 01 {hexed('.mp3')} ff", audio_packet(".mp3", FRAMES, 0, 9, b"\xff")),
        ):
            self.assertEqual([expected], audio(text))

    def test_nothing_heard_makes_no_packets(self) -> None:
        """Frames of no bytes, and an empty AAC config, are no packets."""
        self.assertEqual([], audio(f"91 {hexed('Opus')}"))
        self.assertEqual([], audio(f"90 {hexed('mp4a')}"))

    def test_multitrack_forms_of_audio(self) -> None:
        """Audio has the three multitrack forms too, under packet type 5."""
        mp4a, opus = hexed("mp4a"), hexed("Opus")
        first, second = audio_packet("mp4a", FRAMES, 1, 0, b"\x21"), audio_packet("mp4a", FRAMES, 2, 0, b"\x22\x23")
        self.assertEqual([first], audio(f"95 01 {mp4a} 01 21"))
        self.assertEqual([first, second], audio(f"95 11 {mp4a} 01 000001 21 02 000002 2223"))
        self.assertEqual(
            [first, audio_packet("Opus", FRAMES, 0, 0, b"\xfc")],
            audio(f"95 21 {mp4a} 01 000001 21 {opus} 00 000001 fc"),
        )

    def test_ignored_and_unknown_audio(self) -> None:
        """Reserved packet types are not known; video's number of multitrack is one of them."""
        for text in ("93", "96 01", "98", "9f", "95 03 6d703461 01"):
            self.assertEqual([UNKNOWN], [packet.kind for packet in audio(text)])

    def test_malformed_audio_is_refused(self) -> None:
        """What contradicts itself is refused."""
        for text in ("90", "91 4f70", "95", "95 05 6d703461 01", "95 11 6d703461 01 000002 21", "97 00"):
            self.assertRaises(MediaError, audio, text)


VALID_VIDEO = tuple(
    bytes.fromhex(text)
    for text in (
        "17 01 000043 0000000165",
        f"97 02 0f423f 07 00 ff 11 {hexed('hvc1')} 000000 aabb",
        f"a6 11 {hexed('hvc1')} 01 000005 000021 aabb 02 000004 ffffff cc",
        f"96 21 {hexed('avc1')} 00 000004 000001 aa {hexed('av01')} 01 000002 bbcc",
    )
)
VALID_AUDIO = tuple(
    bytes.fromhex(text)
    for text in (
        "af 01 2110",
        f"90 {hexed('Opus')} {hexed('OpusHead')}",
        f"97 02 000009 05 11 {hexed('mp4a')} 01 000001 21 02 000002 2223",
        f"95 21 {hexed('mp4a')} 01 000001 21 {hexed('Opus')} 00 000001 fc",
    )
)


def damaged(messages: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Good messages, cut off somewhere, with one byte changed."""
    return st.builds(
        lambda message, at, byte, end: (message[:at] + bytes([byte]) + message[at + 1 :])[:end],
        st.sampled_from(messages),
        st.integers(0, 40),
        st.integers(0, 255),
        st.integers(0, 40),
    )


class AnyBytesTests(SynchronousTestCase):
    def _check(self, read: Callable[[bytes], Sequence[Packet]], payload: bytes) -> None:
        try:
            packets = read(payload)
        except MediaError:
            return
        self.assertEqual(len(packets), len({packet.track_id for packet in packets}))
        for packet in packets:
            self.assertIsInstance(packet.body, bytes)
            self.assertLessEqual(len(packet.body), len(payload))
            self.assertIn(packet.track_id, range(256))
            self.assertIn(packet.nanoseconds, range(1_000_000))

    @given(st.one_of(st.binary(max_size=40), damaged(VALID_VIDEO)))
    def test_video_of_any_bytes(self, payload: bytes) -> None:
        """Any bytes are packets of sound fields, or refused as media."""
        self._check(read_video, payload)

    @given(st.one_of(st.binary(max_size=40), damaged(VALID_AUDIO)))
    def test_audio_of_any_bytes(self, payload: bytes) -> None:
        """Any bytes are packets of sound fields, or refused as media."""
        self._check(read_audio, payload)

    def test_every_cut_never_lengthens(self) -> None:
        """A message cut anywhere is refused, or its packets are cut, but never made longer."""
        for read, messages in ((read_video, VALID_VIDEO), (read_audio, VALID_AUDIO)):
            for message in messages:
                whole = sum(len(packet.body) for packet in read(message))
                for end in range(len(message)):
                    try:
                        packets = read(message[:end])
                    except MediaError:
                        continue
                    self.assertLess(sum(len(packet.body) for packet in packets), whole)

    @given(st.lists(st.tuples(st.sampled_from(["avc1", "av01"]), st.binary(min_size=1, max_size=9)), max_size=5))
    def test_reads_what_was_written(self, tracks: list[tuple[str, bytes]]) -> None:
        """Any tracks put into one message come out of it again."""
        message = b"\xa6\x23"
        for track_id, (codec, body) in enumerate(tracks):
            message += codec.encode() + bytes([track_id]) + len(body).to_bytes(3, "big") + body
        if tracks:
            packets = read_video(message)
            self.assertEqual(tracks, [(packet.codec, packet.body) for packet in packets])
            self.assertEqual(list(range(len(tracks))), [packet.track_id for packet in packets])
        else:
            self.assertRaises(MediaError, read_video, message)
