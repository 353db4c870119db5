"""Streams that are called otherwise than by the keys they are published with."""

from __future__ import annotations

import json
from pathlib import Path

from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.app.public_names import PublicNames
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.names import StreamName
from rapidrtmp.settings.sources import load_settings


class NameTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.file = str(Path(self.mktemp()) / "names.key")

    def names(self, text: str, app: str = "live") -> PublicNames:
        return PublicNames(app, text, self.file, Logger())

    def test_same_name_without_a_setting(self) -> None:
        """Where nothing is said a stream is called by its key, and no file is made."""
        names = self.names("")
        self.assertEqual((False, "k"), (names.are_others, names.find("k")))
        self.assertFalse(Path(self.file).exists())

    def test_hashed_name_is_stable(self) -> None:
        """A hashed name is the same at each start, and that of no other key, application or server."""
        name = self.names("hashed").find("secret")
        assert name is not None
        self.assertEqual(StreamName("live", name), StreamName.checked("live", name))
        self.assertNotIn("secret", name)
        self.assertEqual(name, self.names("hashed").find("secret"))
        others = {self.names("hashed").find(name), self.names("hashed", "radio").find("secret")}
        Path(self.file).unlink()
        others.add(self.names("hashed").find("secret"))
        self.assertEqual(3, len(others - {name, None}))

    def test_table_names_the_streams(self) -> None:
        """A table names the streams of its keys; others, and the public names, publish nothing."""
        names = self.names(json.dumps({"s3cret": "show", "other": "show"}))
        found = [names.find(key) for key in ("s3cret", "other", "show", "S3cret", "")]
        self.assertEqual(["show", "show", None, None, None], found)

    def test_bad_file_stops_the_start(self) -> None:
        """A file that cannot be made, or is empty, stops the start."""
        Path(self.file).parent.mkdir()
        Path(self.file).write_text("")
        self.assertRaises(ConfigurationError, self.names, "hashed")


class SettingTests(SynchronousTestCase):
    def load(self, text: str) -> str:
        path = Path(self.mktemp())
        path.write_text(text)
        loaded = load_settings({}, {}, path)
        self.shown = loaded.render()
        return loaded.settings.apps["live"].public_names

    def test_values_of_the_setting(self) -> None:
        """It is hashed, a table, or true for the keys themselves; a table is not shown."""
        self.assertEqual("hashed", self.load('[apps.live]\npublic_names = "hashed"'))
        self.assertEqual("hashed", self.load('[server]\npublic_names = "hashed"'))
        self.assertEqual("", self.load("[apps.live]\npublic_names = true"))
        self.assertEqual("", self.load(""))
        text = self.load('[apps.live.public_names]\ns3cret = "show"')
        self.assertEqual({"s3cret": "show"}, json.loads(text))
        self.assertNotIn("s3cret", self.shown)

    def test_wrong_values_show_no_key(self) -> None:
        """What is wrong is said without the key."""
        for text in (
            '"s3cret"',
            '{"s3cret" = "a/b"}',
            '{"s3 cret" = "show"}',
            '{"s3cret" = 3}',
            '{"s3cret" = "s3cret"}',
            '{"s3cret" = "a", "b" = "s3cret"}',
            "{}",
            '["s3cret"]',
        ):
            with self.assertRaises(ConfigurationError) as caught:
                self.load(f"[apps.live]\npublic_names = {text}")
            if "public name" not in str(caught.exception):
                self.assertNotIn("s3", str(caught.exception), text)
