"""The checks of a playlist's values: each fault is found, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.hls.invariants import version_violations
from rapidrtmp.hls.playlist import Version, write_version
from rapidrtmp.m3u8.model import Hint, MediaPlaylist, Part, Segment
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.m3u8.rules import Severity
from rapidrtmp.m3u8.transitions import PlaylistChecker, delta_violations
from rapidrtmp.m3u8.write import PlaylistWriter, render_media_playlist
from tests.hls.versions import versions
from tests.slow import slow

STREAM = list(versions(16, breaks=(5, 9)))
LONG = list(versions(24, size=16, breaks=(5, 9), gaps=(3,), ended=True))
PLAIN = list(versions(14, parts=0, gaps=(4,), ended=True))
AHEAD = list(versions(14, breaks=(5, 9), ahead=True))
#: A version of LONG with a delta update, in which a third part of its segment comes.
THIRD = next(at for at, one in enumerate(LONG) if one.skipped == 6 and one.playlist.edge[1] == 3)
#: The first version of the segment that begins with the second discontinuity; the one that completes it.
BROKEN = next(at for at, one in enumerate(LONG) if one.playlist.open and one.playlist.open.sequence == 14)
COMPLETED = next(at for at, one in enumerate(LONG) if one.playlist.next_sequence == 15)

Edit = Callable[[MediaPlaylist], MediaPlaylist]


def with_segment(index: int, **changes: object) -> Edit:
    """Change one complete segment."""

    def edit(playlist: MediaPlaylist) -> MediaPlaylist:
        segments = list(playlist.segments)
        segments[index] = replace(segments[index], **changes)  # type: ignore[arg-type]
        return replace(playlist, segments=tuple(segments))

    return edit


def with_open(change: Callable[[Segment], Segment]) -> Edit:
    """Change the open segment."""

    def edit(playlist: MediaPlaylist) -> MediaPlaylist:
        assert playlist.open is not None
        return replace(playlist, open=change(playlist.open))

    return edit


def with_parts(change: Callable[[tuple[Part, ...]], tuple[Part, ...]]) -> Edit:
    """Change the parts of the open segment."""
    return with_open(lambda segment: replace(segment, parts=change(segment.parts)))


def with_duration(index: int, duration_us: int) -> Callable[[tuple[Part, ...]], tuple[Part, ...]]:
    """Change how long one part lasts."""

    def change(parts: tuple[Part, ...]) -> tuple[Part, ...]:
        return tuple(
            replace(part, duration_us=duration_us) if at == index % len(parts) else part
            for at, part in enumerate(parts)
        )

    return change


def longer(segment: Segment) -> dict[str, object]:
    """Twice as long, as are its parts."""
    parts = tuple(replace(part, duration_us=2 * part.duration_us) for part in segment.parts)
    return {"duration_us": 2 * segment.duration_us, "parts": parts}


#: What is done to which version of LONG, and a word of what is found.
FAULTS: dict[str, tuple[int, Edit, str]] = {
    "target changes": (THIRD, lambda one: replace(one, target_s=3), "promises"),
    "part target changes": (THIRD, lambda one: replace(one, part_target_us=335_000), "promises"),
    "hold-back changes": (THIRD, lambda one: replace(one, control={**one.control, "HOLD-BACK": "9.0"}), "promises"),
    "version changes": (THIRD, lambda one: replace(one, version=10), "promises"),
    "sequence falls": (THIRD, lambda one: replace(one, sequence=one.sequence - 1), "falls"),
    "sequence jumps": (COMPLETED, lambda one: replace(one, sequence=one.sequence + 99), "stands in the place"),
    "a segment is taken back": (THIRD, lambda one: replace(one, segments=one.segments[:-1]), "was listed before"),
    "duration changes after listing": (THIRD, with_segment(3, duration_us=1_990_000), "changes"),
    "name changes after listing": (THIRD, with_segment(3, uri="segment_9.mp4"), "changes"),
    "a gap appears after listing": (THIRD, with_segment(4, gap=True), "changes"),
    "parts change after listing": (THIRD, with_segment(-1, parts=LONG[0].playlist.open.parts), "parts change"),  # type: ignore[union-attr]
    "parts go early": (COMPLETED, with_segment(-2, parts=()), "parts go"),
    "part too long": (THIRD, with_parts(with_duration(-1, 334_010)), "lasts"),
    "part too short": (THIRD, with_parts(with_duration(-2, 280_000)), "parts change"),
    "hint is not the next part": (THIRD, lambda one: replace(one, hints=(Hint("PART", "part_1.0.m4s"),)), "next"),
    "no hint": (THIRD, lambda one: replace(one, hints=()), "next"),
    "hint is listed": (THIRD, lambda one: replace(one, hints=(Hint("PART", one.open.parts[-1].uri),)), "next"),  # type: ignore[union-attr]
    "discontinuity lost when complete": (COMPLETED, with_segment(-1, discontinuity=False), "changes while"),
    "discontinuity lost at once": (BROKEN, with_open(lambda one: replace(one, discontinuity=False)), "without"),
    "discontinuity lost after listing": (THIRD, with_segment(9, discontinuity=False), "changes"),
    "discontinuity sequence moves": (THIRD, lambda one: replace(one, discontinuity_sequence=9), "sequence"),
    "gap with media": (COMPLETED, with_segment(-1, gap=True), "gap"),
    "date moves after listing": (THIRD, with_segment(3, date_us=1_700_000_000_000_000), "changes"),
    "date moves while open": (THIRD, with_open(lambda one: replace(one, date_us=one.date_us + 10_000)), "while"),  # type: ignore[operator]
    "date is missing": (BROKEN, with_open(lambda one: replace(one, date_us=None)), "no date"),
    "init segment missing": (BROKEN, with_open(lambda one: replace(one, init=None)), "init segment"),
    "init segment lost": (THIRD, with_open(lambda one: replace(one, init=None)), "changes while"),
    "parts swapped": (THIRD, with_parts(lambda parts: (*parts[:-2], parts[-1], parts[-2])), "called"),
    "a part is missing": (THIRD, with_parts(lambda parts: parts[1:]), "parts change"),
    "target exceeded": (COMPLETED, lambda one: with_segment(-1, **longer(one.segments[-1]))(one), "the target is"),
    "shorter than its parts": (COMPLETED, with_segment(-1, duration_us=1_990_000), "its parts"),
    "open segment is not the next": (BROKEN, with_open(lambda one: replace(one, sequence=15)), "is the next"),
    "open segment vanishes": (THIRD, lambda one: replace(one, open=None), "is not listed"),
}


def found_in(after: Version, before: Version | None, *, gapless: bool = True) -> list[str]:
    return list(version_violations(after, before, gapless=gapless))


class FaultTests(SynchronousTestCase):
    def test_every_fault_is_found(self) -> None:
        """Each fault is found in the version that has it."""
        for name, (number, edit, word) in FAULTS.items():
            before, after = LONG[number - 1], LONG[number]
            found = found_in(replace(after, playlist=edit(after.playlist)), before)
            self.assertTrue(any(word in line for line in found), f"{name}: {found}")

    def test_short_part_is_found_when_another_follows(self) -> None:
        """A part may be short as the last one of its segment alone."""
        number = THIRD
        short = with_parts(with_duration(2, 280_000))
        first = replace(LONG[number], playlist=short(LONG[number].playlist))
        then = replace(LONG[number + 1], playlist=short(LONG[number + 1].playlist))
        self.assertEqual([], found_in(first, LONG[number - 1]))
        self.assertTrue(any("too short" in line for line in found_in(then, first)))

    def test_claim_is_not_made_again(self) -> None:
        """That every segment can be decoded alone is not claimed again once it was not true."""
        before = replace(LONG[THIRD - 1], playlist=replace(LONG[THIRD - 1].playlist, independent_segments=False))
        self.assertTrue(any("claimed again" in line for line in found_in(LONG[THIRD], before)))

    def test_nothing_follows_the_end(self) -> None:
        """A final playlist stays final."""
        self.assertTrue(any("after its end" in line for line in found_in(LONG[-2], LONG[-1])))

    def test_delta_skips_what_was_never_listed(self) -> None:
        """A delta update skips nothing that a player with the version before does not have."""
        stale = next(at for at, one in enumerate(LONG) if one.skipped == 2)
        after = LONG[-2]
        before = LONG[stale]
        shorter = replace(before, playlist=replace(before.playlist, segments=before.playlist.segments[:2], open=None))
        self.assertTrue(any("not all were listed" in line for line in found_in(after, shorter)))
        self.assertFalse(any("skipped" in line for line in found_in(after, shorter, gapless=False)))

    def test_delta_skips_too_much(self) -> None:
        """A delta update skips nothing that ends behind the skip boundary, and not all there is."""
        for skipped, word in ((LONG[THIRD].skipped + 1, "only"), (99, "of")):
            found = found_in(replace(LONG[THIRD], skipped=skipped), LONG[THIRD - 1])
            self.assertTrue(any(word in line for line in found), found)

    def test_removal_leaves_too_little(self) -> None:
        """Segments are not removed where less than three target durations remain."""
        after = STREAM[-1].playlist
        short = replace(after, sequence=after.sequence + 4, segments=after.segments[4:], discontinuity_sequence=2)
        self.assertTrue(any("remain" in line for line in found_in(Version(short), STREAM[-2])))


class NoFalseAlarmTests(SynchronousTestCase):
    def test_good_streams_are_good(self) -> None:
        """In a good stream nothing is found, from its first version to its end."""
        for stream in (STREAM, LONG, PLAIN, AHEAD):
            self.assertEqual([], found_in(stream[0], None))
            for before, after in pairwise(stream):
                self.assertEqual([], found_in(after, before))

    def test_values_are_judged_not_objects(self) -> None:
        """Equal values of other objects are as good."""
        for before, after in pairwise(LONG):
            segments = tuple(replace(segment) for segment in after.playlist.segments)
            copied = replace(after, playlist=replace(after.playlist, segments=segments))
            self.assertEqual([], found_in(copied, before))

    def test_versions_may_be_left_out(self) -> None:
        """When versions were held back, the next may have left behind all that the last good one listed."""
        for stream in (STREAM, LONG, AHEAD):
            for step in (2, 7, 20, 60, 120):
                shown = stream[::step]
                for before, after in pairwise(shown):
                    self.assertEqual([], found_in(after, before, gapless=False))

    @slow
    @settings(max_examples=25)
    @given(
        st.integers(1, 12),
        st.integers(3, 20),
        st.integers(0, 9),
        st.sets(st.integers(1, 30)),
        st.sets(st.integers(0, 30)),
        st.booleans(),
    )
    def test_oracle_agrees_with_checks(
        self, segments: int, size: int, parts: int, breaks: set[int], gaps: set[int], ahead: bool
    ) -> None:
        """Whatever good stream it is, neither these checks nor the rules for any server's text find anything."""
        checker = PlaylistChecker()
        writer = PlaylistWriter()
        before: Version | None = None
        stream = versions(
            2 * segments, size=size, parts=parts and 6, breaks=tuple(breaks), gaps=tuple(gaps), ahead=ahead, ended=True
        )
        for version in stream:
            self.assertEqual([], found_in(version, before))
            written = write_version(version, writer)
            self.assertEqual(render_media_playlist(version.playlist).encode(), written.body)
            errors = [found for found in checker.check(written.body) if found.severity is Severity.ERROR]
            self.assertEqual([], errors)
            if written.delta is not None and before is not None:
                previous = parse_media_playlist(render_media_playlist(before.playlist))
                full = parse_media_playlist(written.body)
                self.assertEqual([], list(delta_violations(previous, full, parse_media_playlist(written.delta))))
            before = version


class OracleTests(SynchronousTestCase):
    def test_rules_find_the_faults_in_the_text(self) -> None:
        """The rules for any server's playlists find these faults in the text, too, but for those that it hides."""
        unseen = set()
        for name, (number, edit, _) in FAULTS.items():
            checker = PlaylistChecker()
            checker.check(render_media_playlist(LONG[number - 1].playlist))
            if not checker.check(render_media_playlist(edit(LONG[number].playlist))):
                unseen.add(name)
        not_in_text = {"init segment missing", "init segment lost", "open segment is not the next"}
        self.assertEqual({"hint is not the next part", "gap with media", *not_in_text}, unseen)
