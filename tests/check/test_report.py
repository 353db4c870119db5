from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.check.report import SHOWN_PER_RULE, Measurements, Report
from rapidrtmp.m3u8.rules import Rule, Severity, Violation


class ReportTests(SynchronousTestCase):
    def test_many_violations_are_counted(self) -> None:
        """The first few violations of a rule are shown in full, the rest are counted; the same one counts once."""
        report = Report("http://x/")
        for number in range(SHOWN_PER_RULE + 3):
            report.add("a.m3u8", [Violation(Rule.PARTS, f"part {number}")] * 2)
        text = report.render()
        self.assertIn(f"part {SHOWN_PER_RULE - 1}\n", text)
        self.assertNotIn(f"part {SHOWN_PER_RULE}\n", text)
        self.assertIn("a.m3u8: 3 more of error [parts]", text)
        self.assertTrue(text.endswith(f"{SHOWN_PER_RULE + 3} errors, 0 warnings"))

    def test_exit_status_ignores_warnings(self) -> None:
        """Warnings alone are no failure."""
        report = Report("http://x/")
        report.add("a.m3u8", [Violation(Rule.HTTP, "no gzip", Severity.WARNING)])
        self.assertEqual(0, report.exit_status)
        report.add("a.m3u8", [Violation(Rule.HTTP, "gone")])
        self.assertEqual(1, report.exit_status)

    def test_measurements_are_all_shown(self) -> None:
        """What was measured is shown, and that dates lie in the future."""
        report = Report("http://x/")
        report.measured["a.m3u8"] = Measurements(
            versions=3, segments=2, parts=6, hints_kept=5, peak=2_500_999, latencies_us=[-50_000, 250_000, 100_000]
        )
        report.note("something aside")
        report.note("something aside")
        self.assertEqual(
            [
                "http://x/",
                "a.m3u8:",
                "  3 versions (0 delta updates), 2 segments, 6 parts",
                "  5 parts came by their preload hint",
                "  latency by the dates: -0.05 s to 0.25 s, 0.1 s in the median",
                "  its dates are ahead of this machine's clock",
                "  peak bitrate of a segment: 2500 kbit/s",
                "something aside",
                "clean",
            ],
            report.render().splitlines(),
        )
