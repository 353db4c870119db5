import json
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.application.service import Application, IService, IServiceMaker
from twisted.logger import ILogObserver, Logger, LogLevel, LogPublisher, capturedLogs, formatEvent, textFileLogObserver
from twisted.plugin import IPlugin
from twisted.python.usage import Options as UsageOptions
from twisted.scripts.twistd import ServerOptions
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from rapidrtmp import tap
from rapidrtmp.server import signals
from rapidrtmp.tap import Options, makeService


class CommandLineTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.environment: dict[str, str] = {}
        self.patch(tap.os, "environ", self.environment)
        self.out, self.err = StringIO(), StringIO()
        self.patch(tap.sys, "stdout", self.out)
        self.patch(tap.sys, "stderr", self.err)
        self.patch(tap, "search_working_folder", lambda: None)  # is for good, and for a whole process
        self.patch(signals, "prepare_signals", lambda: None)  # signals belong to the process of the test runner
        self.patch(signals.Signals, "install", lambda _: None)

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
            "--log-format", "json", "--log-level", "warn",
        ).loaded.settings  # fmt: skip
        self.assertEqual((("tcp:1", "tcp:2"), ("tcp:3",)), (settings.server.rtmp, settings.server.http))
        self.assertEqual(("hls:window=5", "hls:window=6"), settings.apps["live"].sinks)
        self.assertEqual((("open",), "memory:"), (settings.apps["live"].auth, settings.storage.spec))
        self.assertEqual(("s", 7), (settings.server.api_token, settings.hls.window))
        self.assertEqual(("json", "warn"), (settings.server.log_format, settings.server.log_level))

    def test_two_parsers_share_nothing(self) -> None:
        """What one command line repeats, the next does not remember."""
        self.parse("--sink", "hls:window=5")
        self.assertEqual(("hls",), self.parse().loaded.settings.server.sinks)

    def test_environment_gives_way(self) -> None:
        """The environment counts, and gives way to the command line."""
        self.environment["RTMP_ADDR"] = ":7"
        self.assertEqual(("tcp:7",), self.parse().loaded.settings.server.rtmp)
        self.assertEqual(("tcp:8",), self.parse("--rtmp", "tcp:8").loaded.settings.server.rtmp)

    def test_refusals_are_one_line(self) -> None:
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

    def test_settings_without_an_option(self) -> None:
        """An option for what has none is refused with the places where that is set."""
        for option, place in (
            (
                "--max-viewers-per-stream",
                "max_viewers_per_stream of [server] in the --config file or RAPIDRTMP_",
            ),
            ("--max_concurrent_streams", "by max_streams of [server]"),
            ("--hls-segment", "RAPIDRTMP_HLS_SEGMENT in the environment"),
            ("--idle-timeout=3s", "RAPIDRTMP_RTMP_IDLE_TIMEOUT in the environment, or idle_timeout of [http]"),
            ("--max-viewers", "did you mean max_viewers_per_stream of [server]"),
        ):
            self.assertIn(place, self.refusal(option))
        self.assertEqual("rapidrtmp: option --bogus not recognized\n", self.refusal("--bogus"))

    def test_help_mentions_every_option(self) -> None:
        """The help lists every option of the command line."""
        helped = str(Options())
        for name in ("config", "rtmp", "http", "manage", "storage", "sink", "auth", "api-token", "api-token-file",
                     "demo", "list-plugins", "check-config", "log-format", "log-level"):  # fmt: skip
            self.assertIn(f"--{name}", helped)


class AnswerTests(CommandLineTestCase):
    def test_list_plugins_prints_and_exits(self) -> None:
        """--list-plugins prints what is installed and exits."""
        self.assertIn("hls", self.answer("--list-plugins"))

    def test_version_is_our_own(self) -> None:
        """--version prints our version, not Twisted's."""
        self.assertIn("RapidRTMP", self.answer("--version"))

    def test_check_config_shows_sources(self) -> None:
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
    def test_make_service_without_listening(self) -> None:
        """A command line makes a service, without listening yet."""
        folder = self.mktemp()
        options = self.parse("--storage", "memory:", "--auth", f"token:secret-file={folder}/key", "--rtmp", "tcp:0")
        service = makeService(options)
        self.assertTrue(verifyObject(IService, service))
        self.assertFalse(service.running)

    def test_secret_on_the_command_line(self) -> None:
        """A secret that every user sees in the process list is used, and warned of without showing it."""
        folder = self.mktemp()
        quiet = ("--storage", "memory:", "--auth", f"token:secret-file={folder}/key", "--rtmp", "tcp:0")
        with capturedLogs() as events:
            makeService(self.parse(*quiet, "--api-token", "hidden-hidden-hidden"))
        said = " ".join(str(formatEvent(event)) for event in events)
        self.assertIn("process list", said)
        self.assertNotIn("hidden", said)
        self.environment["RAPIDRTMP_SERVER_API_TOKEN"] = "hidden-hidden-hidden"
        with capturedLogs() as events:
            makeService(self.parse(*quiet))
        self.assertNotIn("process list", " ".join(str(formatEvent(event)) for event in events))

    def test_refusal_stops_the_start(self) -> None:
        """A plugin that cannot be had stops the start with one line."""
        options = self.parse("--sink", "hsl")
        self.assertEqual(1, self.assertRaises(SystemExit, makeService, options).code)
        self.assertIn("did you mean hls?", self.one_line())

    def test_refusal_while_making(self) -> None:
        """So does one that finds out only when it is made."""
        file = Path(self.mktemp())
        file.write_text("short")
        options = self.parse("--storage", "memory:", "--auth", f"token:secret-file={file}")
        self.assertEqual(1, self.assertRaises(SystemExit, makeService, options).code)
        self.assertIn("5 bytes", self.one_line())

    def test_twistd_plugin_leads_here(self) -> None:
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

    def test_no_pid_file_is_kept(self) -> None:
        """twistd is asked to keep no pid file, whether it stays in the foreground or not."""
        self.assertEqual(["", ""], [self.pid_file("-n"), self.pid_file()])

    def test_pid_file_asked_for_is_kept(self) -> None:
        """One that twistd's own command line names is kept, also where it is called as twistd would have called it."""
        for arguments in (("--pidfile", "twistd.pid"), ("--pidfile=twistd.pid",), ("--pidfile", "our.pid")):
            name = arguments[-1].rpartition("=")[2]
            self.assertEqual(str(Path(name).absolute()), self.pid_file("-n", *arguments))

    def test_other_program_is_not_asked(self) -> None:
        """`twist` knows no pid file, and is asked for nothing."""
        parent = Parent(fileLogObserverFactory=None)
        self.parse(parent=parent)
        self.assertNotIn("pidfile", parent)


class LogTests(CommandLineTestCase):
    def application(self, *arguments: str, **values: Any) -> Any:
        """The application that twistd, with such options, makes of a command line."""
        parent = Parent(**{"logger": None, "logfile": None, "nodaemon": True, "syslog": False, **values})
        options = self.parse("--storage", "memory:", "--auth", "open", *arguments, parent=parent)
        application = Application("rapidrtmp")
        makeService(options).setServiceParent(application)
        return application

    def observer(self, *arguments: str, **values: Any) -> Any:
        """The log observer that twistd finds there."""
        return self.application(*arguments, **values).getComponent(ILogObserver, None)

    def lines(self, *arguments: str) -> list[str]:
        """What two events are written as on standard output."""
        observer = self.observer(*arguments)
        log = Logger("here", observer=LogPublisher(observer))
        log.debug("debug line")
        log.info("info line")
        return self.out.getvalue().splitlines()

    def test_twistd_log_has_our_form(self) -> None:
        """Under twistd the log has the form and the level that are asked for: text and info unless another is."""
        (line,) = self.lines()
        self.assertRegex(line, r"\.\d{3}\+\d{4} \[here#info\] info line\Z")
        self.assertIn("debug line", self.lines("--log-level", "debug")[1])
        self.assertEqual("info line", json.loads(self.lines("--log-format", "json")[-1])["text"])

    def test_chosen_logger_stays_chosen(self) -> None:
        """A logger or syslog chosen on twistd's own command line stays."""
        self.assertIsNone(self.observer("--log-format", "json", logger=object()))
        self.assertIsNone(self.observer(syslog=True))

    def test_file_gets_the_form(self) -> None:
        """A log file of twistd gets the form that is asked for; a server in the background logs to one by itself."""
        path = Path(self.mktemp())
        observer = self.observer("--log-format", "json", logfile=str(path))
        Logger("here", observer=LogPublisher(observer)).info("a line")
        self.assertEqual("a line", json.loads(path.read_text())["text"])
        self.observer(nodaemon=False)
        self.assertTrue(Path("twistd.log").exists())
        self.addCleanup(Path("twistd.log").unlink)

    def test_where_there_is_no_standard_output(self) -> None:
        """A background server cannot log to standard output, nor any to a file that cannot be made."""
        for values, words in (({"logfile": "-", "nodaemon": False}, "standard output"), ({"logfile": "no/x"}, "no/x")):
            self.assertEqual(1, self.assertRaises(SystemExit, self.application, **values).code)
            self.assertIn(words, self.one_line())

    def test_twist_log_has_our_times(self) -> None:
        """Under `twist` the form and level are those asked for, if any is; its text has our times."""
        for arguments, before, kind in (
            ((), "twist's", None),
            ((), textFileLogObserver, "text"),
            (("--log-format", "json"), "twist's", "json"),
            (("--log-format", "text"), "twist's", "text"),
        ):
            parent = Parent(fileLogObserverFactory=before, logLevel=LogLevel.info)
            self.parse(*arguments, parent=parent)
            after = parent["fileLogObserverFactory"]
            self.assertEqual(before if kind is None else kind, after if kind is None else after.keywords["log_format"])
            self.assertIs(LogLevel.info, parent["logLevel"])
        parent = Parent(fileLogObserverFactory="twist's", logLevel=LogLevel.info)
        self.parse("--log-level", "warn", parent=parent)
        self.assertIs(LogLevel.warn, parent["logLevel"])
