import json
from collections.abc import Callable
from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.check.fetch import Answer, FetchError
from rapidrtmp.check.report import Report
from rapidrtmp.check.stream import check_stream
from rapidrtmp.m3u8.rules import Rule, Severity
from tests.check.server import BASE, Origin, watch, with_body, with_header
from tests.slow import slow


class StreamTests(SynchronousTestCase):
    def check(self, name: str = "index.m3u8", *, start_s: float = 9, seconds: float = 5, **origin: object) -> Report:
        """Watch a stream of 30 s from ``start_s`` on."""
        self.clock = Clock()
        self.origin = Origin(self.clock, **origin)  # type: ignore[arg-type]
        for _ in range(int(start_s * 50)):
            self.clock.advance(0.02)
        watching = Deferred.fromCoroutine(
            check_stream(BASE + name, seconds, self.origin, self.clock, self.origin.utc_us)
        )
        watch(self.clock, watching)
        return self.successResultOf(watching)

    def spoiled(self, name: str, spoil: Callable[[Answer], Answer], **more: object) -> set[tuple[Severity, Rule]]:
        """What is found if the answers for ``name`` are spoiled."""
        report = self.check(spoil={name: spoil}, **more)  # type: ignore[arg-type]
        return {(one.severity, one.rule) for _, one in report.violations}

    @slow
    def test_clean_stream_is_clean(self) -> None:
        """A low-latency stream of ours is clean: by blocking reload, delta updates where offered, and hints."""
        report = self.check()
        self.assertEqual([], report.violations)
        self.assertEqual(0, report.exit_status)
        measured = report.measured["playlist"]
        self.assertGreater(measured.hints_kept, 10)
        self.assertGreater(measured.segments, 3)
        self.assertLess(max(measured.latencies_us), 1_000_000)
        self.assertIn("clean", report.render())
        asked = " ".join(self.origin.asked)
        for what in ("_HLS_msn=", "_HLS_part=", "_HLS_skip=YES", "HEAD segment_"):
            self.assertIn(what, asked)

    def test_plain_stream_goes_by_segments(self) -> None:
        """Without parts it goes by segments."""
        report = self.check(spec={"part": "0"})
        self.assertEqual([], report.violations)
        self.assertEqual(0, report.measured["playlist"].parts)

    @slow
    def test_delta_updates_are_merged(self) -> None:
        """With a long window delta updates are asked for, merged, and held to full versions in between."""
        report = self.check(spec={"window": "20"}, start_s=20)
        self.assertEqual([], report.violations)
        self.assertGreater(report.measured["playlist"].deltas, 5)

    @slow
    def test_ended_stream_is_read_at_once(self) -> None:
        """What has ended is fetched from its beginning, in no time."""
        report = self.check(start_s=31)
        self.assertEqual([], report.violations)
        self.assertEqual(10, report.measured["playlist"].segments)

    @slow
    def test_multivariant_leads_to_media_playlists(self) -> None:
        """A multivariant playlist leads to its media playlists, and its BANDWIDTH is held to what was fetched."""
        report = self.check("master.m3u8")
        self.assertEqual([], report.violations)
        self.assertEqual(["index.m3u8", "iframes.m3u8"], list(report.measured))
        self.assertGreater(report.measured["iframes.m3u8"].segments, 3)
        low = with_body(lambda body: body.replace(b"BANDWIDTH=", b"BANDWIDTH=1,X-WAS=", 1))
        report = self.check("master.m3u8", spoil={"master.m3u8": low})
        self.assertIn(Rule.BANDWIDTH, {one.rule for _, one in report.violations})
        self.assertEqual(1, report.exit_status)

    @slow
    def test_i_frames_are_pictures(self) -> None:
        """What is listed as an I-frame playlist must say so, and hold a whole keyframe in each segment."""
        unsaid = with_body(lambda body: body.replace(b"#EXT-X-I-FRAMES-ONLY\n", b""))
        cut = with_body(lambda body: body[:-1])
        report = self.check("master.m3u8", spoil={"iframes.m3u8": unsaid})
        self.assertIn("lacks EXT-X-I-FRAMES-ONLY", str(report.violations))
        number = next(name for name in self.origin.asked if name.startswith("GET iframe_1")).partition("_")[2]
        report = self.check("master.m3u8", spoil={f"iframe_{number}": cut})
        self.assertIn("and its picture ends at", str(report.violations))

    def test_json_report_is_the_same(self) -> None:
        """The report is the same for programs."""
        report = self.check(spoil={"index.m3u8": with_header("content-type", "text/plain")})
        told = json.loads(report.render_json())
        self.assertEqual((1, 0), (told["errors"], told["warnings"]))
        self.assertEqual({"playlist", "rule", "severity", "detail"}, set(told["violations"][0]))

    def test_can_not_be_checked(self) -> None:
        """Without a playlist there is nothing to check."""
        clock = Clock()
        origin = Origin(clock)
        for name, why in (("nothing", "404"), ("page", "not a playlist")):
            origin.shelf.put("page", [b"<html>"], "text/html")
            checking = Deferred.fromCoroutine(check_stream(BASE + name, 5, origin, clock, origin.utc_us))
            self.assertIn(why, str(self.failureResultOf(checking, FetchError).value))

    # ── what can be wrong ────────────────────────────────────────────────────────────────────────────────────────────

    @slow
    def test_playlist_violations_are_found(self) -> None:
        """What a version says wrongly is found, and so is what it changes."""
        longer = with_body(lambda body: body.replace(b"PART-TARGET=0.334", b"PART-TARGET=0.3"))
        self.assertEqual({(Severity.ERROR, Rule.PARTS)}, self.spoiled("index.m3u8", longer))

    @slow
    def test_headers_are_looked_at(self) -> None:
        """Content types, CORS, caching and compression are looked at."""
        error, warning = {(Severity.ERROR, Rule.HTTP)}, {(Severity.WARNING, Rule.HTTP)}
        for name, header, value, expected in (
            ("index.m3u8", "content-type", "text/plain", error),
            ("index.m3u8", "vary", None, error),
            ("index.m3u8", "cache-control", "max-age=60", error),
            ("index.m3u8", "cache-control", None, warning),
            ("index.m3u8", "content-encoding", None, warning),
            ("index.m3u8", "access-control-allow-origin", None, warning),
            ("init_1000.mp4", "content-type", "text/html", error),
            ("init_1000.mp4", "access-control-allow-origin", None, warning),
            ("init_1000.mp4", "cache-control", "no-store", warning),
            ("init_1000.mp4", "content-length", None, warning),
        ):
            found = self.spoiled(name, with_header(header, value), start_s=4, seconds=0.5)
            self.assertEqual(expected, found, (name, header, value))

    def test_missing_segment_is_found(self) -> None:
        """A segment that is listed and not there is found."""
        gone = lambda answer: replace(answer, status=404)  # noqa: E731  as short as it gets
        self.assertEqual({(Severity.ERROR, Rule.HTTP)}, self.spoiled("segment_1003.m4s", gone))

    @slow
    def test_segment_is_its_parts(self) -> None:
        """A segment that is not the bytes of its parts is found, and so is one that cannot be read."""
        cut = with_body(lambda body: body[:-1])
        self.assertEqual({(Severity.ERROR, Rule.MEDIA)}, self.spoiled("segment_1005.m4s", cut))

    def test_stale_answers_are_found(self) -> None:
        """A server that answers blocking reloads at once, with nothing new, is found."""
        kept: list[Answer] = []

        def stale(answer: Answer) -> Answer:
            kept.append(answer)
            return replace(kept[0], answered_s=answer.answered_s)

        self.assertIn((Severity.ERROR, Rule.TIMING), self.spoiled("index.m3u8", stale, seconds=9))
