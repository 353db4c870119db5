"""Progress of long commands on a terminal."""

from __future__ import annotations

from io import StringIO

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.support.progress import Progress


class Terminal(StringIO):
    """Text that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class ProgressTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now_s = 0.0
        self.terminal = Terminal()
        self.progress = Progress(self.terminal, lambda: self.now_s)

    def test_line_is_written_over(self) -> None:
        """The line says how much is done, replaces the one before, and goes at the end."""
        self.progress("live/show", 1, 3)
        self.now_s = 1.0
        self.progress("live/show", 2, 3)
        self.progress.clear()
        self.assertEqual("\r\x1b[K 33 %  live/show\r\x1b[K 66 %  live/show\r\x1b[K", self.terminal.getvalue())

    def test_not_more_than_ten_a_second(self) -> None:
        """However often it is called, it writes ten times a second at most."""
        for step in range(100):
            self.now_s = step / 100
            self.progress("x", step, 100)
        self.assertLessEqual(self.terminal.getvalue().count("\r"), 10)

    def test_nothing_where_no_terminal_is(self) -> None:
        """Where standard error is a file or a pipe nothing is written."""
        out = StringIO()
        progress = Progress(out)
        progress("live/show", 1, 3)
        progress.clear()
        self.assertEqual("", out.getvalue())

    def test_whole_need_not_be_known(self) -> None:
        """Without a whole there is no share, and a long line is cut to the terminal."""
        self.progress("x" * 1000)
        line = self.terminal.getvalue().removeprefix("\r\x1b[K")
        self.assertEqual({"x"}, set(line))
        self.assertLess(len(line), 1000)

    def test_clearing_nothing_writes_nothing(self) -> None:
        """Where nothing was shown nothing is taken away."""
        self.progress.clear()
        self.assertEqual("", self.terminal.getvalue())
