import json
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.application.service import IService, IServiceMaker
from twisted.logger import Logger, LogPublisher, textFileLogObserver
from twisted.plugin import IPlugin
from twisted.python.reflect import namedAny
from twisted.python.usage import Options as UsageOptions
from twisted.scripts.twistd import ServerOptions
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from rapidrtmp import tap
from rapidrtmp.names import StreamName
from rapidrtmp.tap import Options, json_log_observer, makeService


class CommandLineTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.environment: dict[str, str] = {}
        self.patch(tap.os, "environ", self.environment)
        self.out, self.err = StringIO(), StringIO()
        self.patch(tap.sys, "stdout", self.out)
        self.patch(tap.sys, "stderr", self.err)

    def parse(self, *arguments: str, parent: Any = None) -> Options:
        """The options that a command line means."""
        options = Options()
        options.parent = parent
        options.parseOptions(arguments)
        return options

    def refusal(self, *arguments: str, parent: Any = None) -> str:
        """The one line on standard error, at exit status 1."""
        self.assertEqual(1, self.assertRaises(SystemExit, self.parse, *arguments, parent=parent).code)
        return self.one_line()

    def one_line(self) -> str:
        line = self.err.getvalue()
        self.assertRegex(line, r"\Arapidrtmp: [^\n]+\n\Z")
        self.err.truncate(0)
        self.err.seek(0)
        return line

    def answer(self, *arguments: str) -> str:
        """What is printed before exit status 0."""
        self.assertEqual(0, self.assertRaises(SystemExit, self.parse, *arguments).code)
        return self.out.getvalue()


class OptionsTests(CommandLineTestCase):
    def test_every_option_acts(self) -> None:
        """Every option reaches its setting; those that repeat accumulate."""
        file = self.mktemp()
        Path(file).write_text("[hls]\nwindow = 7\n")
        settings = self.parse(
            "--config", file, "--rtmp", "tcp:1", "--rtmp=tcp:2", "--http", "tcp:3", "--storage", "memory:",
            "--sink", "hls:window=5", "--sink", "hls:window=6", "--auth", "open", "--api-token", "s",
            "--log-format", "json",
        ).loaded.settings  # fmt: skip
        self.assertEqual((("tcp:1", "tcp:2"), ("tcp:3",)), (settings.server.rtmp, settings.server.http))
        self.assertEqual(("hls:window=5", "hls:window=6"), settings.apps["live"].sinks)
        self.assertEqual((("open",), "memory:"), (settings.apps["live"].auth, settings.storage.spec))
        self.assertEqual(("s", "json", 7), (settings.server.api_token, settings.server.log_format, settings.hls.window))

    def test_two_parsers_share_nothing(self) -> None:
        """What one command line repeats, the next does not remember."""
        self.parse("--sink", "hls:window=5")
        self.assertEqual(("hls",), self.parse().loaded.settings.server.sinks)

    def test_environment(self) -> None:
        """The environment counts, and gives way to the command line."""
        self.environment["RTMP_ADDR"] = ":7"
        self.assertEqual(("tcp:7",), self.parse().loaded.settings.server.rtmp)
        self.assertEqual(("tcp:8",), self.parse("--rtmp", "tcp:8").loaded.settings.server.rtmp)

    def test_refusals(self) -> None:
        """Whatever is wrong is one line on standard error that says what would be right, and exit status 1."""
        self.assertIn("did you mean --rtmp?", self.refusal("--rtpm", "tcp:1"))
        self.assertIn("tcp:1 is not an option", self.refusal("tcp:1"))
        self.assertIn("--sink", self.refusal("--sink"))
        self.assertIn(
            "server.log_format (--log-format): 'xml' is not text or json", self.refusal("--log-format", "xml")
        )
        self.assertIn("no/such/file", self.refusal("--config", "no/such/file"))
        self.environment["RAPIDRTMP_HLS_SEGMNT"] = "2s"
        self.assertIn("RAPIDRTMP_HLS_SEGMENT?", self.refusal())

    def test_help_mentions_every_option(self) -> None:
        """The help lists every option of the command line."""
        helped = str(Options())
        for name in ("config", "rtmp", "http", "storage", "sink", "auth", "api-token", "demo", "list-plugins",
                     "check-config", "log-format"):  # fmt: skip
            self.assertIn(f"--{name}", helped)


class AnswerTests(CommandLineTestCase):
    def test_list_plugins(self) -> None:
        """--list-plugins prints what is installed and exits."""
        self.assertIn("hls", self.answer("--list-plugins"))

    def test_version(self) -> None:
        """--version prints our version, not Twisted's."""
        self.assertIn("RapidRTMP", self.answer("--version"))

    def test_check_config(self) -> None:
        """--check-config prints each value with its source, without secrets, and exits."""
        printed = self.answer("--check-config", "--api-token", "hidden", "--http", "tcp:3")
        self.assertRegex(printed, r'(?m)^http = \["tcp:3"\] +# --http$')
        self.assertNotIn("hidden", printed)

    def test_check_config_makes_nothing(self) -> None:
        """--check-config leaves no trace: no secret is made, no directory."""
        folder = Path(self.mktemp())
        self.answer("--check-config", "--auth", f"token:secret-file={folder}/key", "--storage", f"local:{folder}/data")
        self.assertFalse(folder.exists())

    def test_check_config_checks_everything(self) -> None:
        """--check-config finds what would stop the start: endpoints, plugins and their arguments."""
        self.assertIn("Unknown endpoint type: 'tpc'", self.refusal("--check-config", "--rtmp", "tpc:1"))
        self.assertIn("ssl:1:privateKey=no.pem", self.refusal("--check-config", "--rtmp", "ssl:1:privateKey=no.pem"))
        self.assertIn("no argument windw", self.refusal("--check-config", "--sink", "hls:windw=5"))


class ServiceTests(CommandLineTestCase):
    def test_make_service(self) -> None:
        """A command line makes a service, without listening yet."""
        folder = self.mktemp()
        options = self.parse("--storage", "memory:", "--auth", f"token:secret-file={folder}/key", "--rtmp", "tcp:0")
        service = makeService(options)
        self.assertTrue(verifyObject(IService, service))
        self.assertFalse(service.running)

    def test_refusal(self) -> None:
        """A plugin that can not be had stops the start with one line."""
        options = self.parse("--sink", "hsl")
        self.assertEqual(1, self.assertRaises(SystemExit, makeService, options).code)
        self.assertIn("did you mean hls?", self.one_line())

    def test_refusal_while_making(self) -> None:
        """So does one that finds out only when it is made."""
        file = Path(self.mktemp())
        file.write_text("short")
        options = self.parse("--storage", "memory:", "--auth", f"token:secret-file={file}")
        self.assertEqual(1, self.assertRaises(SystemExit, makeService, options).code)
        self.assertIn("5 octets", self.one_line())

    def test_twistd_plugin(self) -> None:
        """The twistd plugin leads to this module."""
        path = Path(__file__).parent.parent / "twisted" / "plugins" / "rapidrtmp_plugin.py"
        scope: dict[str, Any] = {}
        exec(compile(path.read_text(), str(path), "exec"), scope)
        maker = scope["rapidrtmp"]
        self.assertTrue(IServiceMaker.providedBy(maker) and IPlugin.providedBy(maker))
        self.assertEqual("rapidrtmp", maker.tapname)
        self.assertIs(Options, maker.options)
        self.assertIs(makeService, maker.makeService)


class Parent(UsageOptions):
    """Stands for the options of ``twistd``, as far as they concern the log."""

    def __init__(self, **values: Any) -> None:
        super().__init__()
        self.update(values)


class Twistd(ServerOptions):
    """The options of ``twistd``, with us as the one subcommand."""

    subCommands = (("rapidrtmp", None, Options, ""),)


class PidFileTests(CommandLineTestCase):
    def pid_file(self, *arguments: str) -> str:
        """Where twistd, with such arguments of its own, would keep the number of the process; empty for nowhere."""
        program = Twistd()
        program.parseOptions([*arguments, "rapidrtmp", "--storage", "memory:"])
        found: str = program["pidfile"]
        return found

    def test_none(self) -> None:
        """twistd is told to keep no pid file, whether it stays in the foreground or not."""
        self.assertEqual(["", ""], [self.pid_file("-n"), self.pid_file()])

    def test_asked_for(self) -> None:
        """One that twistd's own command line names is kept, also where it is called as twistd would have called it."""
        for arguments in (("--pidfile", "twistd.pid"), ("--pidfile=twistd.pid",), ("--pidfile", "our.pid")):
            name = arguments[-1].rpartition("=")[2]
            self.assertEqual(str(Path(name).absolute()), self.pid_file("-n", *arguments))

    def test_other_program(self) -> None:
        """`twist` knows no pid file, and is asked for nothing."""
        parent = Parent(fileLogObserverFactory=None)
        self.parse(parent=parent)
        self.assertNotIn("pidfile", parent)


class LogTests(CommandLineTestCase):
    def twistd(self, **values: Any) -> Parent:
        return Parent(**{"logger": None, "logfile": None, "nodaemon": True, **values})

    def test_twistd(self) -> None:
        """With --log-format json twistd is given our observer, by its name; with text it keeps its own."""
        parent = self.twistd()
        self.parse("--log-format", "json", parent=parent)
        self.assertIs(json_log_observer, namedAny(parent["logger"]))
        parent = self.twistd()
        self.parse(parent=parent)
        self.assertIsNone(parent["logger"])

    def test_chosen_logger(self) -> None:
        """A logger chosen on twistd's own command line stays."""
        parent = self.twistd(logger="some.thing")
        self.parse("--log-format", "json", parent=parent)
        self.assertEqual("some.thing", parent["logger"])

    def test_where_there_is_no_standard_output(self) -> None:
        """JSON goes to standard output: asking for a log file or a daemon besides stops the start."""
        for values in ({"logfile": "x.log"}, {"nodaemon": False}):
            line = self.refusal("--log-format", "json", parent=self.twistd(**values))
            self.assertIn("standard output", line)

    def test_twist(self) -> None:
        """Under `twist`, which has a default of its own, the observer is the one asked for, if any is."""
        for arguments, expected in (
            ((), "twist's"),
            (("--log-format", "json"), json_log_observer),
            (("--log-format", "text"), textFileLogObserver),
        ):
            parent = Parent(fileLogObserverFactory="twist's")
            self.parse(*arguments, parent=parent)
            self.assertEqual(expected, parent["fileLogObserverFactory"])

    def test_lines(self) -> None:
        """Each event is one line of JSON, with the sentence and the fields it was made of."""
        out = StringIO()
        log = Logger("here", observer=LogPublisher(json_log_observer(out)))
        log.info("{stream} published\nby {peer}", stream=StreamName("live", "camera"), peer="192.0.2.1", other=object())
        try:
            raise ZeroDivisionError("never mind")
        except ZeroDivisionError:
            log.failure("again")
        first, second = (json.loads(line) for line in out.getvalue().splitlines())
        self.assertRegex(first.pop("time"), r"\A\d{4}-\d\d-\d\dT")
        self.assertEqual(
            {
                "level": "info",
                "namespace": "here",
                "text": "live/camera published\nby 192.0.2.1",
                "stream": ["live", "camera"],
                "peer": "192.0.2.1",
            },
            first,
        )
        self.assertEqual(("critical", "again"), (second["level"], second["text"]))
        self.assertIn("ZeroDivisionError: never mind", second["traceback"])
