import io
import json
import re
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.logger import Logger, LogPublisher
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.names import StreamName
from rapidrtmp.server.logs import ServerLog, component, render_time, server_log_observer


def logger(out: Any, log_format: str = "text", level: str = "debug") -> Logger:
    return Logger("here", observer=LogPublisher(server_log_observer(out, log_format, level)))


class FormTests(SynchronousTestCase):
    def test_text_line_with_milliseconds(self) -> None:
        """A line of text has the time with milliseconds, the place and the level, and the sentence."""
        out = StringIO()
        logger(out).info("{stream} published", stream=StreamName("live", "camera"))
        self.assertRegex(
            out.getvalue(),
            r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d{4} \[here#info\] live/camera published\n\Z",
        )

    def test_places_name_the_part(self) -> None:
        """A line of text names the part of the server, not the class; a plugin's own name stays."""
        for namespace, place in (
            ("rapidrtmp.net.waiting.Waiting", "rapidrtmp.net"),
            ("rapidrtmp.demo", "rapidrtmp.demo"),
            ("rapidrtmp.sinks.hls", "rapidrtmp.sinks.hls"),
            ("twisted.scripts._twistd_unix.UnixAppLogger", "twisted"),
            ("acme.archive.Archiver", "acme.archive.Archiver"),
        ):
            self.assertEqual(place, component(namespace))
        out = StringIO()
        Logger("rapidrtmp.net.waiting.Waiting", observer=LogPublisher(server_log_observer(out, "text"))).info("here")
        self.assertIn(" [rapidrtmp.net#info] here\n", out.getvalue())

    def test_json_line_with_fields(self) -> None:
        """Each event is one line of JSON, with the sentence and the fields it was made of."""
        out = StringIO()
        log = logger(out, "json")
        log.info("{stream} published\nby {peer}", stream=StreamName("live", "camera"), peer="192.0.2.1", other=object())
        try:
            raise ZeroDivisionError("never mind")
        except ZeroDivisionError:
            log.failure("again")
        first, second = (json.loads(line) for line in out.getvalue().splitlines())
        self.assertRegex(first.pop("time"), r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d{4}\Z")
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

    def test_level_hides_what_is_below(self) -> None:
        """What is below the level is not written."""
        for log_format in ("text", "json"):
            out = StringIO()
            log = logger(out, log_format, "warn")
            for write in (log.debug, log.info, log.warn, log.error, log.critical):
                write(f"{write.__name__} line")
            self.assertEqual(["warn line", "error line", "critical line"], re.findall(r"\w+ line", out.getvalue()))

    def test_encodings_lose_no_line(self) -> None:
        """Whatever the encoding of the stream lacks is written in escapes, and the line is not lost."""
        for encoding, written in (
            ("ascii", r"caf\xe9 \u20ac \U0001f3a5 \udcff"),
            ("latin-1", "caf\xe9 \\u20ac \\U0001f3a5 \\udcff"),
            ("utf-8", "caf\xe9 \u20ac \U0001f3a5 \\udcff"),
        ):
            raw = io.BytesIO()
            logger(io.TextIOWrapper(raw, encoding, errors="strict")).warn("{name}", name="café € 🎥 \udcff")
            self.assertTrue(raw.getvalue().endswith(f"{written}\n".encode(encoding)), raw.getvalue())

    def test_missing_time_is_a_dash(self) -> None:
        """An event without a time has a dash for it."""
        self.assertEqual("-", render_time(None))


class FileTests(SynchronousTestCase):
    def log_to(self, path: str | None) -> tuple[ServerLog, Logger]:
        log = ServerLog(lambda out: server_log_observer(out, "text"), path)
        return log, Logger("here", observer=LogPublisher(log.observer))

    def test_reopen_writes_a_new_file(self) -> None:
        """After the file was moved away and is opened anew, lines go into a new one of its name."""
        path = Path(self.mktemp())
        log, here = self.log_to(str(path))
        here.info("one é \udcff")
        moved = path.rename(f"{path}.1")
        here.info("two")
        self.assertTrue(log.reopen())
        here.info("three")
        self.assertEqual(["one é \\udcff", "two"], [line.partition("] ")[2] for line in moved.read_text().splitlines()])
        self.assertEqual(["three"], [line.partition("] ")[2] for line in path.read_text().splitlines()])

    def test_failed_reopen_keeps_the_file(self) -> None:
        """Where it cannot be opened anew, the one that is open stays."""
        folder = Path(self.mktemp())
        folder.mkdir()
        log, here = self.log_to(str(folder / "log"))
        moved = folder.rename(f"{folder}-moved")
        self.assertRaises(OSError, log.reopen)
        here.info("still")
        self.assertIn("still", (moved / "log").read_text())

    def test_no_file_to_reopen(self) -> None:
        """Standard output is nothing that could be opened anew."""
        log, _ = self.log_to(None)
        self.assertFalse(log.reopen())

    def test_refused_file_stops_the_start(self) -> None:
        """A file that cannot be made stops the start with one line."""
        line = str(self.assertRaises(ConfigurationError, self.log_to, "no/such/folder/log"))
        self.assertIn("no/such/folder/log: No such file", line)
