from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.hls.playlist import write_version
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.m3u8.read_multivariant import parse_multivariant_playlist
from rapidrtmp.m3u8.rules import Rule, Severity, multivariant_violations
from rapidrtmp.m3u8.transitions import PlaylistChecker, delta_violations
from rapidrtmp.m3u8.write import PlaylistWriter
from rapidrtmp.testing.playlists import assert_valid_delta, assert_valid_playlist, assert_valid_playlists
from tests.hls.versions import text_of, versions
from tests.slow import slow

STREAM = [text_of(version) for version in versions(14, breaks=(5, 9))]
HEAD = "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n"
LOW_LATENCY = (
    HEAD + "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.5\n#EXT-X-PART-INF:PART-TARGET=0.5\n"
    '#EXT-X-MAP:URI="i.mp4"\n#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00Z\n'
)
HINT = '#EXT-X-PRELOAD-HINT:TYPE=PART,URI="next.m4s"\n'


def sliding(first: int, count: int, *, target: int = 2, breaks: tuple[int, ...] = (), passed: int = 0) -> str:
    """A plain window of segments of 2 s."""
    lines = [f"#EXTM3U\n#EXT-X-TARGETDURATION:{target}\n#EXT-X-MEDIA-SEQUENCE:{first}\n"]
    lines += [f"#EXT-X-DISCONTINUITY-SEQUENCE:{passed}\n"] if passed else []
    for number in range(first, first + count):
        lines.append("#EXT-X-DISCONTINUITY\n" if number in breaks else "")
        lines.append(f"#EXTINF:2.0,\n{number}.ts\n")
    return "".join(lines)


def parts(*durations: str, tail: str = "") -> str:
    """A low-latency playlist of one segment with parts of these durations, each with attributes perhaps."""
    lines = []
    for number, told in enumerate(durations):
        duration, _, more = told.partition(",")
        lines.append(f'#EXT-X-PART:DURATION={duration},URI="{number}.m4s"{more and "," + more}\n')
    return LOW_LATENCY + "".join(lines) + tail + HINT


class CheckerTests(SynchronousTestCase):
    def assert_rules(self, expected: set[Rule], *texts: str, severity: Severity = Severity.ERROR) -> None:
        """The last of successive versions breaks exactly these rules, and those before it none."""
        checker = PlaylistChecker()
        for text in texts[:-1]:
            self.assertEqual([], [one for one in checker.check(text) if one.severity is Severity.ERROR])
        found = checker.check(texts[-1])
        self.assertEqual(expected, {one.rule for one in found if one.severity is severity}, found)

    # ── one version ──────────────────────────────────────────────────────────────────────────────────────────────────

    def test_syntax_with_its_line(self) -> None:
        """What cannot be read is reported with its line."""
        (found,) = PlaylistChecker().check(HEAD + "#EXTINF:2.0\na.ts\n")
        self.assertEqual("error [syntax] line 4: #EXTINF: no comma after the duration", str(found))

    def test_target_duration_is_held(self) -> None:
        """EXTINF rounds to the target duration or less."""
        self.assert_rules(set(), HEAD + "#EXTINF:2.499,\na.ts\n")
        self.assert_rules({Rule.TARGET_DURATION}, HEAD + "#EXTINF:2.5,\na.ts\n")

    def test_wrong_segment_counts_once(self) -> None:
        """A wrong segment is one violation, however many versions list it."""
        checker = PlaylistChecker()
        text = HEAD + "#EXTINF:3.0,\na.ts\n"
        self.assertEqual(1, len(checker.check(text)))
        self.assertEqual([], checker.check(text + "#EXTINF:2.0,\nb.ts\n"))

    def test_part_target_is_held(self) -> None:
        """No part is longer than PART-TARGET, be it by a millisecond, be it the last."""
        self.assert_rules(set(), parts("0.5", "0.5"))
        self.assert_rules({Rule.PARTS}, parts("0.5", "0.501"))

    def test_short_parts_are_found(self) -> None:
        """Parts last 85 % of the target: but for the last of a segment, gaps and what goes before one, INDEPENDENT."""
        self.assert_rules({Rule.PARTS}, parts("0.42", "0.5"))
        self.assert_rules(set(), parts("0.425", "0.42"))
        self.assert_rules(set(), parts("0.1,INDEPENDENT=YES", "0.1,GAP=YES", "0.5", "0.1", "0.1,GAP=YES", "0.3"))

    def test_short_part_is_seen_when_another_follows(self) -> None:
        """A short part may be the last of its segment until the next one of the same segment is listed."""
        grown = parts("0.5", "0.2", "0.5").replace("next.m4s", "after.m4s").replace("2.m4s", "next.m4s")
        self.assert_rules({Rule.PARTS}, parts("0.5", "0.2"), grown)
        self.assert_rules(set(), parts("0.5", "0.2"), parts("0.5", "0.2", tail="#EXTINF:0.7,\ns.m4s\n"))

    def test_sum_of_parts(self) -> None:
        """The parts of a segment last as long as its EXTINF says, but for rounding."""
        self.assert_rules(set(), parts("0.5", "0.4999", tail="#EXTINF:1.0,\ns.m4s\n"))
        self.assert_rules({Rule.PARTS}, parts("0.5", "0.45", tail="#EXTINF:1.0,\ns.m4s\n"))

    def test_parts_without_target(self) -> None:
        """Parts need EXT-X-PART-INF."""
        self.assert_rules({Rule.PARTS}, HEAD + '#EXT-X-MAP:URI="i"\n#EXT-X-PART:DURATION=1.0,URI="p"\n')

    def test_hold_backs_are_held(self) -> None:
        """Hold-backs and the skip boundary are as far from the edge as they must be."""
        good = parts("0.5")
        self.assert_rules({Rule.HOLD_BACK}, good.replace("PART-HOLD-BACK=1.5", "PART-HOLD-BACK=0.999"))
        self.assert_rules({Rule.HOLD_BACK}, good.replace(",PART-HOLD-BACK=1.5", ""))
        self.assert_rules({Rule.HOLD_BACK}, good.replace("YES,", "YES,HOLD-BACK=5.9,"))
        self.assert_rules({Rule.HOLD_BACK}, good.replace("YES,", "YES,CAN-SKIP-UNTIL=11.9,"))
        self.assert_rules(
            {Rule.HOLD_BACK}, good.replace("PART-HOLD-BACK=1.5", "PART-HOLD-BACK=1.4"), severity=Severity.WARNING
        )

    def test_hint_is_exactly_one(self) -> None:
        """Exactly one part is hinted at, and it is not listed yet."""
        good = parts("0.5")
        self.assert_rules({Rule.HINT}, good.replace(HINT, ""))
        self.assert_rules({Rule.HINT}, good + HINT)
        self.assert_rules({Rule.HINT}, good.replace("next.m4s", "0.m4s"))
        self.assert_rules({Rule.HINT}, good + "#EXT-X-ENDLIST\n")

    def test_init_segment_needs_its_version(self) -> None:
        """Fragmented MP4 needs EXT-X-MAP, which needs version 6; another one should come with a discontinuity."""
        self.assert_rules({Rule.INIT}, HEAD + "#EXTINF:2.0,\na.m4s\n")
        self.assert_rules({Rule.VERSION}, '#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MAP:URI="i"\n#EXTINF:2,\na.m4s\n')
        text = HEAD + '#EXT-X-MAP:URI="i"\n#EXTINF:2.0,\na.m4s\n#EXT-X-MAP:URI="j"\n#EXTINF:2.0,\nb.m4s\n'
        self.assert_rules({Rule.INIT}, text, severity=Severity.WARNING)

    def test_dates_follow_one_another(self) -> None:
        """Dates follow from one another and from EXTINF; going back, or a second off, is wrong; after a break not."""
        first = HEAD + "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:10Z\n#EXTINF:2.0,\na.ts\n"
        second = "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:{}Z\n#EXTINF:2.0,\nb.ts\n"
        self.assert_rules(set(), first + second.format("12.05"))
        self.assert_rules(set(), first + second.format("12.05"), severity=Severity.WARNING)
        self.assert_rules({Rule.DATE}, first + second.format("12.5"), severity=Severity.WARNING)
        self.assert_rules({Rule.DATE}, first + second.format("13.01"))
        self.assert_rules({Rule.DATE}, first + second.format("10"))
        self.assert_rules(set(), first + "#EXT-X-DISCONTINUITY\n" + second.format("05"))

    def test_repeated_uri_is_wrong(self) -> None:
        """Two segments have two names, unless they are ranges of one."""
        self.assert_rules({Rule.FINAL}, HEAD + "#EXTINF:2.0,\na.ts\n#EXTINF:2.0,\na.ts\n")
        ranges = "#EXTINF:2.0,\n#EXT-X-BYTERANGE:9@0\na.ts\n#EXTINF:2.0,\n#EXT-X-BYTERANGE:9\na.ts\n"
        self.assert_rules(set(), HEAD + ranges)

    # ── from version to version ──────────────────────────────────────────────────────────────────────────────────────

    def test_good_stream_breaks_no_rule(self) -> None:
        """A stream of our packager breaks no rule, and gives no reason for a warning."""
        assert_valid_playlists(STREAM, warnings=True)

    def test_frozen_values_stay_constant(self) -> None:
        """What players take for constant stays as it is."""
        for old, new in (
            ("TARGETDURATION:2", "TARGETDURATION:1"),
            ("PART-TARGET=0.334", "PART-TARGET=0.335"),
            ("HOLD-BACK=6.0", "HOLD-BACK=6.5"),
            ("VERSION:9", "VERSION:10"),
        ):
            self.assert_rules({Rule.FROZEN}, STREAM[7], STREAM[8].replace(old, new))

    def test_sequence_never_goes_back(self) -> None:
        """The media sequence number never goes back; behind all that was listed it may only have been missed."""
        self.assert_rules({Rule.SEQUENCE}, sliding(5, 5), sliding(4, 7))
        self.assert_rules({Rule.SEQUENCE}, sliding(5, 5), sliding(11, 5), severity=Severity.WARNING)
        self.assert_rules(set(), sliding(5, 5), sliding(10, 5), severity=Severity.WARNING)

    def test_discontinuity_sequence_counts_gone(self) -> None:
        """It counts the discontinuities that are gone, no more and no less."""
        before = sliding(5, 5, breaks=(6, 7))
        self.assert_rules(set(), before, sliding(6, 5, breaks=(6, 7)))
        self.assert_rules(set(), before, sliding(8, 5, passed=2))
        self.assert_rules({Rule.SEQUENCE}, before, sliding(8, 5))
        self.assert_rules({Rule.SEQUENCE}, before, sliding(7, 5, breaks=(7,), passed=2))
        self.assert_rules({Rule.SEQUENCE}, before, sliding(5, 5, breaks=(6, 7), passed=1))

    def test_window_keeps_three_targets(self) -> None:
        """What remains is never less than three target durations."""
        self.assert_rules(set(), sliding(5, 4), sliding(7, 3))
        self.assert_rules({Rule.WINDOW}, sliding(5, 4), sliding(7, 2))

    def test_final_segments_stay_listed(self) -> None:
        """What was listed is listed as it was: name, duration, date, discontinuity, init segment, gap."""
        before = STREAM[50]
        for old, new in (
            ("segment_10.m4s", "segment_10b.m4s"),
            ("#EXTINF:2.00000,\nsegment_10", "#EXTINF:1.99500,\nsegment_10"),
            ("2023-11-14T22:13:30.000Z", "2023-11-14T22:13:30.010Z"),
            ('init_1.mp4"', 'init_x.mp4"'),
            ("#EXTINF:2.00000,\nsegment_10", "#EXT-X-GAP\n#EXTINF:2.00000,\nsegment_10"),
            ("part_12.2.m4s", "part_12.2x.m4s"),
        ):
            self.assertIn(old, STREAM[51])
            self.assert_rules({Rule.FINAL}, before, STREAM[51].replace(old, new))
        self.assert_rules({Rule.FINAL}, sliding(5, 4, breaks=(6,)), sliding(5, 5), severity=Severity.ERROR)

    def test_taken_back_segments_are_found(self) -> None:
        """Nothing is taken back at the end: no segment, no part."""
        self.assert_rules({Rule.FINAL}, sliding(5, 5), sliding(5, 4))
        self.assert_rules({Rule.FINAL}, STREAM[9], STREAM[8])

    def test_parts_go_when_old(self) -> None:
        """Parts may go when three target durations follow them; before that it is worth a warning."""
        listed = STREAM[5]
        bare = "".join(line for line in listed.splitlines(keepends=True) if "EXT-X-PART:" not in line)
        self.assert_rules({Rule.PARTS}, listed, bare, severity=Severity.WARNING)

    def test_hint_is_kept(self) -> None:
        """The next part has the name that was hinted at, unless a discontinuity changed the plan."""
        self.assert_rules({Rule.HINT}, parts("0.5"), parts("0.5", "0.5"))
        self.assert_rules(
            set(),
            parts("0.5"),
            parts("0.5", "0.5").replace("1.m4s", "next.m4s", 1).replace(HINT, HINT.replace("next", "after")),
        )
        text = parts("0.5", tail="#EXTINF:0.5,\ns.m4s\n")
        part = '#EXT-X-PART:DURATION=0.5,URI="x.m4s"\n'
        other = text.replace(HINT, "#EXT-X-DISCONTINUITY\n" + part + HINT)
        self.assert_rules(set(), text, other)
        self.assert_rules({Rule.HINT}, text, text.replace(HINT, part + HINT))

    def test_end_changes_nothing_after(self) -> None:
        """After EXT-X-ENDLIST nothing changes; with it, what only matters live may go."""
        ended = sliding(5, 4) + "#EXT-X-ENDLIST\n"
        self.assert_rules(set(), sliding(5, 4), ended, ended)
        self.assert_rules({Rule.FINAL}, ended, sliding(5, 5))
        self.assert_rules({Rule.FINAL}, ended, sliding(5, 5) + "#EXT-X-ENDLIST\n")
        self.assert_rules(
            set(),
            parts("0.5", tail="#EXTINF:0.5,\ns.m4s\n"),
            HEAD + '#EXT-X-MAP:URI="i.mp4"\n#EXTINF:0.5,\ns.m4s\n#EXT-X-ENDLIST\n',
        )

    def test_event_playlist_keeps_everything(self) -> None:
        """An EVENT playlist keeps everything."""
        kind = "#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-MEDIA"
        texts = [sliding(first, 5).replace("#EXT-X-MEDIA", kind) for first in (5, 6)]
        self.assert_rules({Rule.FINAL}, *texts)

    # ── delta updates ────────────────────────────────────────────────────────────────────────────────────────────────

    @slow
    def test_delta_merges_to_the_full(self) -> None:
        """Every delta update of our packager merges to the full version, and a checker can live on them alone."""
        writer = PlaylistWriter()
        published = [write_version(version, writer) for version in versions(24, size=16, breaks=(5, 9))]
        deltas = 0
        for before, after in pairwise(published):
            if after.delta is not None:
                deltas += 1
                assert_valid_delta(before.body, after.body, after.delta)
        self.assertGreater(deltas, 50)
        assert_valid_playlists([published[0].body, *(one.delta or one.body for one in published[1:])])

    def test_wrong_delta_is_found(self) -> None:
        """It skips nothing behind the boundary, and what it does not skip is what the full version says."""
        writer = PlaylistWriter()
        *_, before, after = [write_version(version, writer) for version in versions(24, size=16)]
        full, previous = parse_media_playlist(after.body), parse_media_playlist(before.body)
        assert after.delta is not None
        for old, new in ((b"SEGMENTS=10", b"SEGMENTS=9"), (b"segment_25", b"segment_y"), (b"part_28.1", b"part_28.y")):
            self.assertIn(old, after.delta)
            delta = parse_media_playlist(after.delta.replace(old, new))
            self.assertEqual({Rule.DELTA}, {found.rule for found in delta_violations(previous, full, delta)})
        text = after.body.replace(b"#EXT-X-MAP", b"#EXT-X-SKIP:SKIPPED-SEGMENTS=11\n#EXT-X-MAP", 1)
        end = text.index(b"#EXT-X-MAP")
        greedy = text[:end] + text[text.index(b"segment_23.m4s\n") + len(b"segment_23.m4s\n") :]
        found = list(delta_violations(previous, full, parse_media_playlist(greedy)))
        self.assertRegex(found[0].detail, "the boundary is 12 s")

    def test_delta_without_full(self) -> None:
        """A delta update is nothing without a full version before it that has what is skipped."""
        *_, after = versions(24, size=16)
        delta = PlaylistWriter().render_delta(after.playlist, after.skipped)
        checker = PlaylistChecker()
        self.assertEqual([Rule.DELTA], [found.rule for found in checker.check(delta)])
        self.assertIsNone(checker.previous)


class MultivariantTests(SynchronousTestCase):
    def test_violations_of_variants(self) -> None:
        """Variants need a BANDWIDTH and should have CODECS; AVERAGE-BANDWIDTH is not more."""
        for line, expected in (
            ('BANDWIDTH=10,CODECS="a"', []),
            ("BANDWIDTH=10", [Rule.SYNTAX]),
            ('BANDWIDTH=0,CODECS="a"', [Rule.BANDWIDTH]),
            ('BANDWIDTH=10,AVERAGE-BANDWIDTH=11,CODECS="a"', [Rule.BANDWIDTH]),
        ):
            text = f"#EXTM3U\n#EXT-X-STREAM-INF:{line}\nv.m3u8\n"
            found = multivariant_violations(parse_multivariant_playlist(text))
            self.assertEqual(expected, [one.rule for one in found])
        (found,) = multivariant_violations(parse_multivariant_playlist("#EXTM3U\n"))
        self.assertEqual("no variants", found.detail)


class AssertionTests(SynchronousTestCase):
    def test_good_playlists_pass_assertion(self) -> None:
        """Good playlists pass, bytes or text."""
        assert_valid_playlist(STREAM[3])
        assert_valid_playlists([text.encode() for text in STREAM])

    def test_bad_playlists_fail_assertion(self) -> None:
        """A bad one fails with its number, what it breaks, and its text."""
        bad = STREAM[4].replace("TARGETDURATION:2", "TARGETDURATION:3")
        with self.assertRaisesRegex(AssertionError, r"(?s)version 1 breaks.*error \[frozen\].*#EXTM3U"):
            assert_valid_playlists([STREAM[3], bad])

    def test_warnings_fail_when_asked(self) -> None:
        """What is only advised against fails only if asked to."""
        text = STREAM[3].replace("PART-HOLD-BACK=1.002", "PART-HOLD-BACK=0.9")
        assert_valid_playlist(text)
        with self.assertRaisesRegex(AssertionError, r"warning \[hold_back\]"):
            assert_valid_playlist(text, warnings=True)
