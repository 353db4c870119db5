from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.m3u8.model import (
    Hint,
    InitSegment,
    MediaPlaylist,
    MergeError,
    Part,
    Problem,
    Rendition,
    Report,
    Segment,
    Variant,
    merge_delta,
)
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.m3u8.read_multivariant import is_multivariant, parse_multivariant_playlist

EXAMPLE = """\
#EXTM3U
#EXT-X-VERSION:9
#EXT-X-TARGETDURATION:4
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=3.0,CAN-SKIP-UNTIL=24.0
#EXT-X-PART-INF:PART-TARGET=1.0
#EXT-X-MEDIA-SEQUENCE:264
#EXT-X-DISCONTINUITY-SEQUENCE:2
#EXT-X-MAP:URI="init-3.mp4"
#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:01.500Z
#EXTINF:4.00001,title, with commas
s264.m4s
#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI="init-4.mp4",BYTERANGE="600@8"
#EXT-X-UNHEARD-OF:1
#EXT-X-PART:DURATION=1,URI="p265.0.m4s",INDEPENDENT=YES
#EXT-X-PART:DURATION=1.,URI="p265.1.m4s",GAP=YES
#EXT-X-GAP
#EXTINF:2,
s265.m4s
#EXT-X-PART:DURATION=0.999999,URI="all.m4s",BYTERANGE="100@0"
#EXT-X-PART:DURATION=1.0,URI="all.m4s",BYTERANGE="50"
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="all.m4s",BYTERANGE-START=150
#EXT-X-RENDITION-REPORT:URI="../a/live.m3u8",LAST-MSN=266,LAST-PART=1
"""
FIRST, SECOND = InitSegment("init-3.mp4"), InitSegment("init-4.mp4", (600, 8))
HEAD = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n"
VALUE = MediaPlaylist(
    version=9,
    target_s=4,
    sequence=264,
    discontinuity_sequence=2,
    control={"CAN-BLOCK-RELOAD": "YES", "PART-HOLD-BACK": "3.0", "CAN-SKIP-UNTIL": "24.0"},
    part_target_us=1_000_000,
    segments=(
        Segment(264, "s264.m4s", 4_000_010, date_us=1_500_000, init=FIRST),
        Segment(
            265,
            "s265.m4s",
            2_000_000,
            discontinuity=True,
            init=SECOND,
            gap=True,
            parts=(Part("p265.0.m4s", 1_000_000, independent=True), Part("p265.1.m4s", 1_000_000, gap=True)),
        ),
    ),
    open=Segment(
        266,
        init=SECOND,
        parts=(
            Part("all.m4s", 999_999, byte_range=(100, 0)),
            Part("all.m4s", 1_000_000, byte_range=(50, 100)),
        ),
    ),
    hints=(Hint("PART", "all.m4s", 150),),
    reports=(Report("../a/live.m3u8", 266, 1),),
)


def problems(text: str | bytes) -> list[tuple[int, str]]:
    return [(problem.line, problem.detail) for problem in parse_media_playlist(text).problems]


class MediaPlaylistTests(SynchronousTestCase):
    def test_everything_in_a_playlist(self) -> None:
        """A low-latency playlist reads as what it says, to the last attribute."""
        playlist = parse_media_playlist(EXAMPLE)
        self.assertEqual((VALUE, ()), (playlist, playlist.problems))
        self.assertEqual((266, 2), playlist.edge)

    def test_carriage_returns_end_lines(self) -> None:
        """Lines may end in CR LF, and the last one in nothing."""
        self.assertEqual(VALUE, parse_media_playlist(EXAMPLE.replace("\n", "\r\n").encode()))
        self.assertEqual(VALUE, parse_media_playlist(EXAMPLE.rstrip("\n")))

    def test_wrong_lines_are_numbered(self) -> None:
        """Each wrong line is a problem with its number, and the rest is read all the same."""
        for line, detail in (
            ("#EXTINF:2", "#EXTINF: no comma after the duration"),
            ("#EXTINF:-2,", "#EXTINF: '-2' is no decimal number of seconds"),
            ("#EXTINF:1e3,", "#EXTINF: '1e3' is no decimal number of seconds"),
            ("uri.m4s", "URI: no EXTINF before it"),
            ("#EXT-X-PROGRAM-DATE-TIME:2026-01-01", "'2026-01-01' names no time zone"),
            ("#EXT-X-PROGRAM-DATE-TIME:today", "'today' is no date and time"),
            ("#EXT-X-TARGETDURATION:4", "#EXT-X-TARGETDURATION: twice"),
            ('#EXT-X-PART:DURATION=1.0, URI="p"', "is no attribute list"),
            ('#EXT-X-PART:DURATION=1.0,URI="p",', "the attribute list ends in a comma"),
            ('#EXT-X-PART:URI="p"', "DURATION is missing"),
            ("#EXT-X-PART:DURATION=1.0,URI=p", "URI is not quoted"),
            ('#EXT-X-PART:DURATION=1.0,URI=""', "the URI is empty"),
            ('#EXT-X-PART:DURATION="1.0",URI="p"', "DURATION is quoted"),
            ('#EXT-X-PART:DURATION=1.0,URI="p",GAP=TRUE', "GAP is 'TRUE', not YES or NO"),
            ('#EXT-X-PART:URI="p",DURATION=1.0,URI="q"', "an attribute is there twice"),
            ('#EXT-X-PRELOAD-HINT:TYPE=ALL,URI="p"', "TYPE is 'ALL', not PART or MAP"),
            ("#EXT-X-PLAYLIST-TYPE:LIVE", "'LIVE' is not VOD or EVENT"),
            ("#EXT-X-SKIP:SKIPPED-SEGMENTS=0", "skips no segments"),
            ("#EXT-X-SKIP:SKIPPED-SEGMENTS=3", "before EXT-X-MEDIA-SEQUENCE"),
            ("#EXT-X-MAP:URI", "is no attribute list"),
            (" #EXT-X-GAP", "URI: no EXTINF before it"),
        ):
            found = parse_media_playlist(f"{HEAD}{line}\n#EXTINF:2.5,\na.ts\n")
            self.assertEqual([3], [problem.line for problem in found.problems][:1], line)
            self.assertIn(detail, found.problems[0].detail)
            self.assertEqual("a.ts", found.segments[-1].uri)

    def test_misplaced_lines_are_problems(self) -> None:
        """What belongs before the first segment, before its segment's parts, or last, is a problem elsewhere."""
        part = '#EXT-X-PART:DURATION=1.0,URI="p"\n'
        for text, line in (
            (f"{HEAD}#EXTINF:2,\na.ts\n#EXT-X-MEDIA-SEQUENCE:4\n", 5),
            (f"{HEAD}{part}#EXT-X-DISCONTINUITY\n", 4),
            (f'{HEAD}{part}#EXT-X-MAP:URI="i"\n', 4),
            (f"{HEAD}{part}#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00Z\n", 4),
            (f"{HEAD}#EXTINF:2,\n{part}a.ts\n", 4),
            (f'{HEAD}#EXT-X-PRELOAD-HINT:TYPE=PART,URI="q"\n{part}', 4),
            (f"{HEAD}#EXT-X-ENDLIST\n{part}", 4),
            (f"{HEAD}#EXTINF:2,\na.ts\n#EXTINF:2,\n", 5),
            ("#EXT-X-TARGETDURATION:4\n", 1),
            ("#EXTM3U\n", 0),
            ("", 1),
        ):
            self.assertEqual(line, problems(text)[0][0], text)

    def test_bytes_that_are_no_text(self) -> None:
        """What is not UTF-8, or begins with a byte order mark, is a problem."""
        self.assertEqual([(3, "not UTF-8")], problems(HEAD.encode() + b"#\xff\n"))
        self.assertEqual([(1, "begins with a byte order mark")], problems("\ufeff" + HEAD))

    @given(st.text(alphabet='#EXT-INF:PART,MAP="@0123.\n\r ') | st.binary())
    def test_anything_reads_as_playlist(self, text: str | bytes) -> None:
        """Whatever the text is, it reads as a playlist, with problems perhaps; nothing is raised."""
        parse_media_playlist(text)
        parse_multivariant_playlist(text)
        parse_media_playlist(EXAMPLE.encode() + (text if isinstance(text, bytes) else text.encode()))


class MergeTests(SynchronousTestCase):
    FULL = (
        HEAD
        + '#EXT-X-MEDIA-SEQUENCE:5\n#EXT-X-MAP:URI="i"\n'
        + "".join(f"#EXTINF:2.0,\n{number}.m4s\n" for number in range(5, 9))
    )
    DELTA = (
        HEAD
        + "#EXT-X-MEDIA-SEQUENCE:6\n#EXT-X-SKIP:SKIPPED-SEGMENTS=2\n"
        + "".join(f"#EXTINF:2.0,\n{number}.m4s\n" for number in (8, 9))
    )

    def test_merge_takes_skipped_segments(self) -> None:
        """A delta update takes what it skips, and the init segment that was set there, from the version before."""
        merged = merge_delta(parse_media_playlist(self.FULL), parse_media_playlist(self.DELTA))
        self.assertEqual((6, 0, 10), (merged.sequence, merged.skipped, merged.next_sequence))
        self.assertEqual([f"{number}.m4s" for number in range(6, 10)], [segment.uri for segment in merged.segments])
        self.assertEqual({InitSegment("i")}, {segment.init for segment in merged.segments})

    def test_too_old_to_be_merged(self) -> None:
        """A version that never listed what is skipped cannot be merged with."""
        old = parse_media_playlist(self.FULL.replace("SEQUENCE:5", "SEQUENCE:3"))
        with self.assertRaisesRegex(MergeError, "6 to 7 are skipped, but the version before listed 3 to 6"):
            merge_delta(old, parse_media_playlist(self.DELTA))
        new = parse_media_playlist(self.FULL.replace("SEQUENCE:5", "SEQUENCE:7"))
        with self.assertRaisesRegex(MergeError, "listed 7 to 10"):
            merge_delta(new, parse_media_playlist(self.DELTA))


class MultivariantTests(SynchronousTestCase):
    TEXT = """\
#EXTM3U
#EXT-X-VERSION:9
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="main",DEFAULT=YES,AUTOSELECT=YES,URI="a.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=5200000,CODECS="avc1.640028,mp4a.40.2",RESOLUTION=1920x1080,AUDIO="a"
v.m3u8
"""

    def test_everything_in_a_multivariant(self) -> None:
        """Variants and renditions read as what they say."""
        playlist = parse_multivariant_playlist(self.TEXT)
        variant = Variant("v.m3u8", 5_200_000, 0, "avc1.640028,mp4a.40.2", "1920x1080", {"AUDIO": "a"})
        self.assertEqual((variant,), playlist.variants)
        self.assertEqual((Rendition("AUDIO", "a", "main", "a.m3u8"),), playlist.renditions)
        self.assertEqual((), playlist.problems)
        self.assertTrue(is_multivariant(self.TEXT))
        self.assertFalse(is_multivariant(EXAMPLE))

    def test_wrong_multivariants_are_problems(self) -> None:
        """Missing URIs, groups and attributes, and media playlist tags, are problems."""
        for old, new, line in (
            ("v.m3u8\n", "", 4),
            ("BANDWIDTH=5200000,", "", 4),
            ("TYPE=AUDIO", 'TYPE="AUDIO"', 3),
            ('GROUP-ID="a"', 'GROUP-ID="b"', 0),
            ("#EXT-X-VERSION:9", "#EXT-X-TARGETDURATION:9", 2),
            ("#EXT-X-VERSION:9", "w.m3u8", 2),
        ):
            found = parse_multivariant_playlist(self.TEXT.replace(old, new)).problems
            self.assertEqual(line, found[0].line, (old, found))
            self.assertIsInstance(found[0], Problem)
