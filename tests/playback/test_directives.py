from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.interfaces import BadRequestError
from rapidrtmp.playback.directives import NOTHING, Directives, read_directives
from tests.web.kit import playlist

#: Of a playlist whose last complete segment is 9, of 6 parts, with parts 0 and 1 of segment 10 listed.
UNDERSTOOD = (
    ("", NOTHING),
    ("token=abc&x=_HLS_msn", NOTHING),
    ("_HLS_msn=9", Directives(9)),
    ("_HLS_msn=0", Directives(0)),
    ("_HLS_msn=10", Directives(10)),
    ("_HLS_msn=11", Directives(11)),
    ("_HLS_msn=%31%30", Directives(10)),
    ("_HLS_msn=10&_HLS_part=2", Directives(10, 2)),
    ("_HLS_part=2&_HLS_msn=10", Directives(10, 2)),
    ("_HLS_msn=9&_HLS_part=99999", Directives(9, 99999)),
    ("_HLS_msn=10&_HLS_part=10", Directives(10, 10)),
    ("_HLS_msn=11&_HLS_part=8", Directives(11, 8)),
    ("_HLS_msn=10&_HLS_pathway=x&_HLS_start_offset=-3", Directives(10)),
    ("_HLS_skip=YES", Directives(skip=True)),
    ("_HLS_skip=v2", Directives(skip=True)),
    ("_HLS_skip=NO", NOTHING),
    ("_HLS_msn=10&_HLS_part=2&_HLS_skip=YES", Directives(10, 2, skip=True)),
)
REFUSED = (
    ("_HLS_part=1", "needs _HLS_msn"),
    ("_HLS_msn=", "_HLS_msn is not a whole number"),
    ("_HLS_msn=-1", "_HLS_msn is not a whole number"),
    ("_HLS_msn=+1", "_HLS_msn is not a whole number"),
    ("_HLS_msn=1.0", "_HLS_msn is not a whole number"),
    ("_HLS_msn=%D9%A1", "_HLS_msn is not a whole number"),
    ("_HLS_msn=" + "9" * 21, "_HLS_msn is not a whole number"),
    ("_HLS_msn=10&_HLS_part=x", "_HLS_part is not a whole number"),
    ("_HLS_msn=10&_HLS_msn=10", "_HLS_msn is given more than once"),
    ("_HLS_msn=10&_HLS_part=1&_HLS_part=1", "_HLS_part is given more than once"),
    ("_HLS_skip=YES&_HLS_skip=YES", "_HLS_skip is given more than once"),
    ("_HLS_msn=12", "too far ahead"),
    ("_HLS_msn=10&_HLS_part=11", "too far ahead"),
    ("_HLS_msn=11&_HLS_part=9", "too far ahead"),
    ("_HLS_msn=1&" + "&".join(["a=1"] * 100), "more than 100 fields"),
)


class ReadDirectivesTests(SynchronousTestCase):
    def test_understood_directives_are_read(self) -> None:
        """What a playlist promises can be asked for; everything else in the query is ignored."""
        facts = playlist(9, 2, delta=b"#EXTM3U delta")
        for query, expected in UNDERSTOOD:
            self.assertEqual(expected, read_directives(facts, query), query)

    def test_bad_directives_are_refused(self) -> None:
        """A directive that is not a number, given twice, or too far ahead is refused with its name."""
        facts = playlist(9, 2, delta=b"#EXTM3U delta")
        for query, words in REFUSED:
            error = self.assertRaises(BadRequestError, read_directives, facts, query)
            self.assertIn(words, str(error), query)

    def test_directives_among_other_fields(self) -> None:
        """Directives mean the same by themselves, as players send them, and among other fields."""
        facts = playlist(9, 2, delta=b"#EXTM3U delta")
        for query, expected in UNDERSTOOD:
            self.assertEqual(expected, read_directives(facts, f"{query}&token=abc"), query)
        for query, words in REFUSED:
            error = self.assertRaises(BadRequestError, read_directives, facts, f"token=abc&{query}")
            self.assertIn(words, str(error), query)

    def test_final_playlist_ignores_directives(self) -> None:
        """A final playlist is what it is, whatever is asked of it."""
        facts = playlist(9, 0, ended=True, delta=b"#EXTM3U delta")
        for query in ("_HLS_msn=99", "_HLS_part=1", "_HLS_msn=x", "_HLS_skip=YES&_HLS_skip=YES"):
            self.assertEqual(NOTHING, read_directives(facts, query), query)

    def test_no_blocking_reload(self) -> None:
        """A playlist that does not promise blocking reload ignores what asks for it, right or wrong."""
        facts = playlist(9, 2, control=b"#EXT-X-VERSION:9", delta=b"#EXTM3U delta")
        for query in ("_HLS_msn=10", "_HLS_msn=x", "_HLS_part=1"):
            self.assertEqual(NOTHING, read_directives(facts, query), query)
        self.assertEqual(Directives(skip=True), read_directives(facts, "_HLS_msn=10&_HLS_skip=YES"))

    def test_no_parts_means_whole_segments(self) -> None:
        """Where there are no parts, a blocking reload asks for whole segments."""
        facts = playlist(9, 0, parts=0, part_target_ms=0)
        self.assertEqual(Directives(10), read_directives(facts, "_HLS_msn=10&_HLS_part=3"))

    def test_no_delta_means_the_whole(self) -> None:
        """Where nothing can be skipped, the whole playlist is what is asked for."""
        self.assertEqual(NOTHING, read_directives(playlist(9, 2), "_HLS_skip=YES"))

    def test_advance_limit_of_parts(self) -> None:
        """How far ahead a part may be is three seconds' worth, three parts if they are long, or a whole segment."""
        cases = (  # part target, target duration, parts of the last segment, listed: the last part that may be asked
            (334, 2000, 6, 2, 10),
            (200, 2000, 10, 0, 14),
            (1000, 4000, 4, 2, 4),
            (1000, 2000, 2, 1, 3),
            (334, 6000, 6, 0, 18),
            (334, 2000, 30, 0, 30),
        )
        for part_target_ms, target_ms, parts, listed, limit in cases:
            facts = playlist(9, listed, parts=parts, target_ms=target_ms, part_target_ms=part_target_ms)
            self.assertEqual(Directives(10, limit), read_directives(facts, f"_HLS_msn=10&_HLS_part={limit}"))
            self.assertRaises(BadRequestError, read_directives, facts, f"_HLS_msn=10&_HLS_part={limit + 1}")
