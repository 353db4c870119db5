from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rapidrtmp import chosen
from rapidrtmp.auth.any_of import AnyOfAuthenticatorFactory
from rapidrtmp.auth.open import OpenAuthenticatorFactory
from rapidrtmp.auth.token import TokenAuthenticatorFactory
from rapidrtmp.chosen import choose_plugins, purpose_of
from rapidrtmp.config import AppSettings, HlsSettings, Settings, StorageSettings, TokenSettings
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.hls.sink import HlsSinkFactory
from rapidrtmp.interfaces import IStoringSinkFactory, Purpose
from rapidrtmp.storage.filesystem import LocalStorageFactory
from rapidrtmp.storage.memory import MemoryStorageFactory
from rapidrtmp.testing.sinks import FrameCollectorFactory


class ChoosingTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        """By default `live` is packaged as HLS, asks for tokens, and is kept on disk."""
        choice = choose_plugins(Settings())
        self.assertIsInstance(choice.storage, LocalStorageFactory)
        self.assertEqual(["live"], list(choice.apps))
        self.assertEqual(["hls"], list(choice.apps["live"].sinks))
        self.assertIsInstance(choice.apps["live"].sinks["hls"], HlsSinkFactory)
        self.assertIsInstance(choice.apps["live"].authenticator, TokenAuthenticatorFactory)

    def test_every_application_has_its_own(self) -> None:
        """Each application gets the sinks and the authenticator that its settings name."""
        radio = AppSettings(sinks=("hls", "hls:window=5", "hls:window=6"), auth=("open",))
        both = AppSettings(auth=("open", "token"))
        settings = Settings(storage=StorageSettings("memory:"), apps={"radio": radio, "both": both})
        choice = choose_plugins(settings)
        self.assertIsInstance(choice.storage, MemoryStorageFactory)
        self.assertEqual(["hls", "hls-2", "hls-3"], list(choice.apps["radio"].sinks))
        self.assertEqual([10, 5, 6], [each.window for each in choice.apps["radio"].sinks.values()])
        self.assertIsInstance(choice.apps["radio"].authenticator, OpenAuthenticatorFactory)
        self.assertIsInstance(choice.apps["both"].authenticator, AnyOfAuthenticatorFactory)

    def test_section_defaults(self) -> None:
        """What a spec of `hls` does not say, the section [hls] does."""
        settings = Settings(
            hls=HlsSettings(segment_ms=4000, window=7, part_ms=0), apps={"live": AppSettings(sinks=("hls:window=8",))}
        )
        sink = choose_plugins(settings).apps["live"].sinks["hls"]
        self.assertEqual((4000, 0, 8), (sink.cutting.segment_ms, sink.cutting.part_ms, sink.window))

    def test_recordings_apart(self) -> None:
        """Recordings can have a storage of their own; the same spec, or none, is the same storage."""
        for recordings, kind in (("memory:", MemoryStorageFactory), ("", None), ("local:data/streams", None)):
            settings = Settings(storage=StorageSettings("local:data/streams", recordings))
            choice = choose_plugins(settings)
            self.assertIsInstance(choice.storage, LocalStorageFactory)
            self.assertIs(kind, choice.recordings and type(choice.recordings))

    def test_unknown(self) -> None:
        """A plugin that nobody has stops the start."""
        settings = Settings(apps={"live": AppSettings(sinks=("hsl",))})
        self.assertIn("did you mean hls?", str(self.assertRaises(ConfigurationError, choose_plugins, settings)))


@implementer(IStoringSinkFactory)
class Archiver(FrameCollectorFactory):
    """A sink factory of a third party that says what its sinks store things for."""

    purpose: Any = "recordings"


class PurposeTests(SynchronousTestCase):
    def test_said(self) -> None:
        """Sinks store live streams' files, unless their factory says that it is recordings."""
        live, archiver = FrameCollectorFactory(), Archiver()
        self.assertEqual((Purpose.LIVE, Purpose.RECORDINGS), (purpose_of(live), purpose_of(archiver)))
        sinks = choose_plugins(Settings(apps={"live": AppSettings(sinks=("hls", "record"))})).apps["live"].sinks
        self.assertEqual([Purpose.LIVE, Purpose.RECORDINGS], [purpose_of(factory) for factory in sinks.values()])

    def test_unknown(self) -> None:
        """A purpose that no storage is for stops the start."""
        archiver = Archiver()
        archiver.purpose = "archive"
        self.patch(chosen, "make_sink_factory", lambda _spec, _defaults: archiver)
        error = self.assertRaises(ConfigurationError, choose_plugins, Settings())
        self.assertEqual("sink hls: its purpose 'archive' is not live or recordings", str(error))


class SecretTests(SynchronousTestCase):
    def test_not_among_served_objects(self) -> None:
        """A token secret within the storage directory stops the start, however its path is spelled."""
        folder = self.mktemp()
        Path(folder).mkdir()
        inside = str(Path(folder).resolve() / "x" / ".." / "token.key")
        named_in_spec = Settings(
            storage=StorageSettings(f"local:{folder}"),
            apps={"live": AppSettings(auth=(f"token:secret-file={inside}",))},
        )
        named_by_default = Settings(
            storage=StorageSettings(f"local:directory={folder}"), tokens=TokenSettings(secret_file=inside)
        )
        for settings in (named_in_spec, named_by_default):
            self.assertIn("served", str(self.assertRaises(ConfigurationError, choose_plugins, settings)))
        choose_plugins(replace(named_by_default, storage=StorageSettings("memory:")))
        choose_plugins(replace(named_by_default, tokens=TokenSettings(secret_file=self.mktemp())))
