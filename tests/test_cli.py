import contextlib
from io import StringIO
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cli import main
from rapidrtmp.config import all_settings


class CliTests(SynchronousTestCase):
    def run_tool(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, standard output and standard error."""
        with contextlib.redirect_stdout(StringIO()) as out, contextlib.redirect_stderr(StringIO()) as err:
            status = main(arguments)
        return status, out.getvalue(), err.getvalue()

    def test_inspect(self) -> None:
        """`rapidrtmp inspect` shows the boxes of a file."""
        path = Path(self.mktemp())
        path.write_bytes(b"\x00\x00\x00\x18ftypiso5\x00\x00\x02\x00iso5iso6")
        status, out, err = self.run_tool("inspect", str(path))
        self.assertEqual((0, ""), (status, err))
        self.assertIn("ftyp", out)

    def test_inspect_nothing(self) -> None:
        """An empty file has no boxes, and that is no error."""
        path = Path(self.mktemp())
        path.touch()
        self.assertEqual((0, "\n", ""), self.run_tool("inspect", str(path)))

    def test_inspect_missing(self) -> None:
        """A file that is not there is one line on standard error."""
        status, out, err = self.run_tool("inspect", "no/such/file")
        self.assertEqual((1, ""), (status, out))
        self.assertRegex(err, r"\Arapidrtmp: [^\n]*no/such/file[^\n]*\n\Z")

    def test_settings(self) -> None:
        """`rapidrtmp settings` shows every setting with all of its names and its default."""
        status, out, _ = self.run_tool("settings")
        self.assertEqual(0, status)
        for row in all_settings():
            for words in (f"{row.key} = {row.render(row.default)}", row.environment_name, row.help, *row.old_names):
                self.assertIn(words, out)
