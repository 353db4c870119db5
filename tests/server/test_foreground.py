import contextlib
from io import StringIO
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp import cli, tap
from rapidrtmp.cli import main
from rapidrtmp.server import foreground
from rapidrtmp.tap import Options, makeService


class ServeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.configs: list[Any] = []
        self.patch(foreground, "runApp", self.configs.append)
        self.patch(tap, "search_working_folder", lambda: None)  # is for good, and for a whole process
        self.patch(cli, "prepare_signals", lambda: None)  # signals belong to the process of the test runner

    def test_options_are_those_of_twistd(self) -> None:
        """`rapidrtmp serve` runs what twistd's plugin runs, with its options, in the foreground, without a pid file."""
        self.assertEqual(0, main(["serve", "--storage", "memory:", "--sink", "hls:window=5"]))
        (config,) = self.configs
        self.assertEqual((1, ""), (config["nodaemon"], config["pidfile"]))
        self.assertIsInstance(config.subOptions, Options)
        self.assertEqual(("hls:window=5",), config.subOptions.loaded.settings.server.sinks)
        self.assertIs(makeService, config.loadedPlugins[config.subCommand].makeService)

    def test_refusal_is_one_line(self) -> None:
        """An option that there is not is one line on standard error and exit status 1; nothing runs."""
        with contextlib.redirect_stderr(StringIO()) as err:
            self.assertEqual(1, self.assertRaises(SystemExit, main, ["serve", "--rtpm", "tcp:1"]).code)
        self.assertRegex(err.getvalue(), r"\Arapidrtmp: [^\n]*did you mean --rtmp\?\n\Z")
        self.assertEqual([], self.configs)

    def test_help_is_that_of_serve(self) -> None:
        """The help is that of the server, and begins with the command as it is typed."""
        with contextlib.redirect_stdout(StringIO()) as out:
            self.assertEqual(0, self.assertRaises(SystemExit, main, ["serve", "--help"]).code)
        self.assertTrue(out.getvalue().startswith("Usage: rapidrtmp serve [options]"))
        self.assertIn("--check-config", out.getvalue())
