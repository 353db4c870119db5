from __future__ import annotations

import gzip
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.archive import movie, playlist
from rapidrtmp.archive.clip import whole_recording
from rapidrtmp.archive.journal import Header, Journal, RecordedPart, RecordedSegment
from rapidrtmp.archive.movie import make_movie
from rapidrtmp.archive.playlist import render_recording
from rapidrtmp.http.long_work import LongWork
from rapidrtmp.recording.growing import GrowingRecordings
from tests.recording.recordings import ID
from tests.slow import slow

HEADER = Header("live", "test", 0, 90_000, 2, ("avc1.64001f",), 1280, 720, b"init")


def segment(number: int, kind: str) -> RecordedSegment:
    """A segment of two seconds: whole, behind a discontinuity, behind a hole in time, or lost."""
    part = RecordedPart(1000 + number, 90_000, keyframe=True, lost=kind == "lost")
    late = 90_000 if kind == "late" else 0
    return RecordedSegment(number, number * 2000, number * 180_000 + late, kind == "discontinuity", (part, part))


class GrowingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.growing = GrowingRecordings(LongWork(self.clock))

    def finish(self, coroutine: Any) -> Any:
        done = Deferred.fromCoroutine(coroutine)
        self.clock.pump([0] * 50)
        return self.successResultOf(done)

    def check(self, journal: Journal) -> None:
        """What is made of a journal is the same as if nothing had been kept."""
        body = self.finish(self.growing.playlist(ID, journal))
        expected = render_recording(journal, is_over=False)
        self.assertEqual((expected, expected), (body.plain, gzip.decompress(body.gzipped)))
        made, whole = (
            self.finish(self.growing.movie(ID, journal)),
            make_movie(ID, HEADER, whole_recording(journal), indexed=False),
        )
        self.assertEqual(
            (whole.size, whole.fingerprint, list(whole._pieces), whole._ends),
            (made.size, made.fingerprint, list(made._pieces), made._ends),
        )

    @slow
    @given(
        st.lists(st.sampled_from(["whole", "discontinuity", "late", "lost"]), max_size=12), st.sets(st.integers(0, 12))
    )
    def test_grows_into_the_whole(self, kinds: list[str], looks: set[int]) -> None:
        """However often it is asked for while it grows, the answer is that of the whole recording."""
        self.growing = GrowingRecordings(LongWork(Clock()))
        segments = [segment(number, kind) for number, kind in enumerate(kinds)]
        for count in sorted(looks | {len(segments)}):
            self.check(Journal(HEADER, segments[:count]))

    def test_only_the_end(self) -> None:
        """Of what was there before nothing is rendered again."""
        segments = [segment(number, "whole") for number in range(100)]
        self.check(Journal(HEADER, segments[:99]))
        rendered: list[int] = []
        lines, pieces = playlist.render_segment, movie._pieces
        self.patch(playlist, "render_segment", lambda each: rendered.append(each.sequence) or lines(each))
        self.patch(movie, "_pieces", lambda id, each: rendered.append(each.segment.number) or pieces(id, each))
        self.finish(self.growing.playlist(ID, Journal(HEADER, segments)))
        self.finish(self.growing.movie(ID, Journal(HEADER, segments)))
        self.assertEqual([99, 99], rendered)
        self.finish(self.growing.playlist(ID, Journal(HEADER, segments)))
        self.finish(self.growing.movie(ID, Journal(HEADER, segments)))
        self.assertEqual([99, 99], rendered)

    def test_another_journal_begins_anew(self) -> None:
        """A journal that is another one, or has lost its end, is begun anew."""
        segments = [segment(number, "whole") for number in range(9)]
        self.check(Journal(HEADER, segments))
        self.check(Journal(HEADER, segments[:4]))
        self.check(Journal(HEADER, [*segments[:3], *segments[5:]]))
        self.check(Journal(replace(HEADER, started_ms=5), segments))

    def test_broken_off_spoils_nothing(self) -> None:
        """A client that leaves while it is made spoils nothing for the next."""
        segments = [segment(number, "whole") for number in range(5000)]
        self.check(Journal(HEADER, segments[:10]))
        seconds = iter(range(10**6))
        self.patch(self.clock, "seconds", lambda: next(seconds))
        leaving = Deferred.fromCoroutine(self.growing.playlist(ID, Journal(HEADER, segments)))
        leaving.addErrback(lambda _: None)
        leaving.cancel()
        body = None

        def made(result: Any) -> None:
            nonlocal body
            body = result

        Deferred.fromCoroutine(self.growing.playlist(ID, Journal(HEADER, segments[:11]))).addCallback(made)
        while body is None:
            self.clock.advance(0)
        self.assertEqual(render_recording(Journal(HEADER, segments[:11]), is_over=False), body.plain)
