import contextlib
import json
import runpy
import sys
from io import StringIO
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp import __version__, cli
from rapidrtmp.check import command
from rapidrtmp.check.fetch import FetchError
from rapidrtmp.check.report import Report
from rapidrtmp.cli import main
from rapidrtmp.m3u8.rules import Rule, Violation
from rapidrtmp.settings.model import all_settings, hook_rows


class CliTests(SynchronousTestCase):
    def run_tool(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, standard output and standard error."""
        with contextlib.redirect_stdout(StringIO()) as out, contextlib.redirect_stderr(StringIO()) as err:
            status = main(arguments)
        return status, out.getvalue(), err.getvalue()

    def test_inspect_shows_the_boxes(self) -> None:
        """`rapidrtmp inspect` shows the boxes of a file."""
        path = Path(self.mktemp())
        path.write_bytes(b"\x00\x00\x00\x18ftypiso5\x00\x00\x02\x00iso5iso6")
        status, out, err = self.run_tool("inspect", str(path))
        self.assertEqual((0, ""), (status, err))
        self.assertIn("ftyp", out)

    def test_inspect_nothing_is_fine(self) -> None:
        """An empty file has no boxes, and that is no error."""
        path = Path(self.mktemp())
        path.touch()
        self.assertEqual((0, "\n", ""), self.run_tool("inspect", str(path)))

    def test_inspect_missing_is_one_line(self) -> None:
        """A file that is not there is one line on standard error."""
        status, out, err = self.run_tool("inspect", "no/such/file")
        self.assertEqual((1, ""), (status, out))
        self.assertRegex(err, r"\Arapidrtmp: [^\n]*no/such/file[^\n]*\n\Z")

    def test_version_is_printed_alone(self) -> None:
        """`rapidrtmp --version` prints the version."""
        with contextlib.redirect_stdout(StringIO()) as out:
            self.assertEqual(0, self.assertRaises(SystemExit, main, ["--version"]).code)
        self.assertEqual(f"RapidRTMP {__version__}\n", out.getvalue())

    def test_as_a_module(self) -> None:
        """`python -m rapidrtmp` is the same command."""
        self.patch(sys, "argv", ["rapidrtmp", "--version"])
        with contextlib.redirect_stdout(StringIO()) as out:
            self.assertEqual(0, self.assertRaises(SystemExit, runpy.run_module, "rapidrtmp", run_name="__main__").code)
        self.assertEqual(f"RapidRTMP {__version__}\n", out.getvalue())

    def test_settings_show_every_name(self) -> None:
        """`rapidrtmp settings` shows every setting with all of its names and its default."""
        status, out, _ = self.run_tool("settings")
        self.assertEqual(0, status)
        for row in all_settings():
            value = f"{row.key} = {row.kind.render_toml(row.default)}"
            for words in (value, row.environment_name, row.help, *row.old_names):
                self.assertIn(words, out)
        hooks = out.partition("[[hooks]]")[2]
        for row in hook_rows():
            self.assertIn(f"{row.key} = ", hooks)
            self.assertIn(row.help, hooks)

    def test_diff_of_no_file(self) -> None:
        """A configuration that is missing, or no text, is one line on standard error; no server is asked."""
        path = Path(self.mktemp())
        path.write_bytes(b"\xff\xfe")
        for name in (str(path), "no/such/file"):
            status, out, err = self.run_tool("config", "diff", name)
            self.assertEqual((1, ""), (status, out))
            self.assertRegex(err, rf"\Arapidrtmp: [^\n]*{name}[^\n]*\n\Z")

    def test_check_prints_what_it_found(self) -> None:
        """`rapidrtmp check` prints what was found, in words or JSON, and its exit status says whether that is bad."""
        report = Report("http://x/")
        self.patch(command, "run_check", lambda url, seconds: report)
        self.assertEqual((0, "http://x/\nclean\n", ""), self.run_tool("check", "http://x/"))
        report.add("playlist", [Violation(Rule.FROZEN, "it moved")])
        status, out, _ = self.run_tool("check", "http://x/", "--seconds", "3")
        self.assertEqual((1, True), (status, "playlist: error [frozen] it moved\n" in out))
        status, out, _ = self.run_tool("check", "--json", "http://x/")
        self.assertEqual((1, 1), (status, json.loads(out)["errors"]))

    def test_check_impossible_is_one_line(self) -> None:
        """What cannot be checked is one line on standard error, and another status."""

        def refuse(url: str, seconds: float) -> Report:
            raise FetchError(f"{url}: 404")

        self.patch(command, "run_check", refuse)
        self.assertEqual((2, "", "rapidrtmp: http://x/: 404\n"), self.run_tool("check", "http://x/"))


class ReloadTests(SynchronousTestCase):
    """What `rapidrtmp config reload` prints."""

    def run_reload(self, *certificates: dict[str, object]) -> tuple[int, str, str]:
        """Exit status, standard output and standard error for an answer of the server."""
        outcomes: dict[str, list[str]] = {"applied": [], "forNewStreams": [], "needsRestart": []}
        self.patch(cli, "_ask", lambda *_: {**outcomes, "certificates": list(certificates)})
        out, err = StringIO(), StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(["config", "reload"])
        return status or 0, out.getvalue(), err.getvalue()

    def test_new_certificate_is_a_line(self) -> None:
        """A new certificate is a line; one that is refused is an error, and the exit status says so."""
        new = {"door": "http", "port": 443, "changed": True, "expiresAt": "2030-03-31T00:00:00.000Z"}
        line = "http at port 443: new certificate, valid until 2030-03-31T00:00:00.000Z\n"
        self.assertEqual((0, line, ""), self.run_reload(new))
        self.assertEqual((0, "nothing differs from what is in force\n", ""), self.run_reload({**new, "changed": False}))
        bad = {**new, "door": "rtmp", "port": 1936, "changed": False, "error": "k.pem is empty"}
        error = "rapidrtmp: rtmp at port 1936: the old certificate stays: k.pem is empty\n"
        self.assertEqual((1, line, error), self.run_reload(new, bad))
        self.assertEqual((1, "", error), self.run_reload(bad))
