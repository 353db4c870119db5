"""The secret of the management API: where it comes from, and what is said of it."""

from __future__ import annotations

import os
import stat
from io import StringIO
from pathlib import Path

from twisted.logger import LogEvent, Logger, LogLevel, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.server import api_secret
from rapidrtmp.server.api_secret import find_api_secret
from rapidrtmp.settings.model import ServerSettings


class ApiSecretTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.path = self.folder / "data" / "api.key"
        self.events: list[LogEvent] = []
        self.out = StringIO()

    def find(self, token: str | None = None, path: Path | None = None) -> bytes:
        settings = ServerSettings(api_token=token, api_token_file=str(path or self.path))
        return find_api_secret(settings, Logger(observer=self.events.append), self.out)

    def said(self) -> str:
        return "\n".join(str(formatEvent(event)) for event in self.events)

    def warnings(self) -> int:
        return sum(event["log_level"] is LogLevel.warn for event in self.events)

    def test_made_by_the_first_start(self) -> None:
        """The first start makes it, random and for the server's own eyes; its place is logged, its content never."""
        secret = self.find()
        self.assertGreaterEqual(len(secret), 32)
        self.assertEqual(0o600, stat.S_IMODE(self.path.stat().st_mode))
        self.assertEqual([self.path], list(self.path.parent.iterdir()))
        self.assertIn(str(self.path.absolute()), self.said())
        self.assertNotIn(secret.decode(), self.said() + self.out.getvalue())
        self.assertEqual(0, self.warnings())

    def test_kept_by_the_next_start(self) -> None:
        """The next start finds it, whatever wrote it; the space around it does not count."""
        self.assertEqual(self.find(), self.find())
        self.path.write_text("  a secret of the operator's\n")
        self.assertEqual(b"a secret of the operator's", self.find())

    def test_each_start_names_its_place_once(self) -> None:
        """One log line of each start names the file, the line of the first start as a new one."""
        for said in ("a new management secret is in ", "the management secret is in "):
            self.events.clear()
            self.find()
            self.assertEqual(said + str(self.path.absolute()), self.said())

    def test_given_secret_makes_no_file(self) -> None:
        """One that is given is used, and no file is made."""
        self.assertEqual(b"a secret that is given", self.find("a secret that is given"))
        self.assertFalse(self.folder.exists())
        self.assertNotIn("a secret that is given", self.said())

    def test_short_secret_is_warned_of(self) -> None:
        """One that can be guessed is used, with a warning that does not show it."""
        self.assertEqual(b"hidden", self.find("hidden"))
        self.assertEqual(1, self.warnings())
        self.assertNotIn("hidden", self.said())

    def test_readable_by_others(self) -> None:
        """A file that others may read is used, with a warning."""
        self.find()
        self.path.chmod(0o644)
        self.find()
        self.assertIn("others may read it", self.said())

    def test_bad_file_stops_the_start(self) -> None:
        """A file that the operator chose and that holds nothing, or cannot be a file, stops the start with its name."""
        self.find()
        self.path.write_text(" \n")
        self.assertIn(str(self.path), str(self.assertRaises(ConfigurationError, self.find)))
        below = self.path / "api.key"
        self.assertIn(str(below), str(self.assertRaises(ConfigurationError, self.find, path=below)))

    def test_nowhere_to_write(self) -> None:
        """Where nothing can be written, each start makes another one, printed once and not logged."""
        self.folder.mkdir()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        Path("data").write_text("in the way")
        secrets = [self.find(path=Path("data/api.key")) for _ in range(2)]
        self.assertNotEqual(*secrets)
        self.assertEqual([secret.decode() for secret in secrets], [line.split()[-1] for line in self.lines()])
        self.assertEqual(2, self.warnings())
        self.assertFalse({secret.decode() for secret in secrets} & set(self.said().split()))

    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()

    def test_flushed_before_it_is_used(self) -> None:
        """The file and its name are flushed to the disk before the server relies on them."""
        flushed: list[bool] = []
        self.patch(os, "fsync", lambda descriptor: flushed.append(stat.S_ISDIR(os.fstat(descriptor).st_mode)))
        self.find()
        self.assertEqual([False, True], flushed)
        self.assertEqual(16, api_secret.SHORT)
