from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rapidrtmp.app import plugins
from rapidrtmp.app.plugins import choose_plugins, purpose_of
from rapidrtmp.auth.any_of import AnyOfAuthenticatorFactory
from rapidrtmp.auth.open import OpenAuthenticatorFactory
from rapidrtmp.auth.token import TokenAuthenticatorFactory
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.hls.sink import HlsSinkFactory
from rapidrtmp.interfaces import IStoringSinkFactory, Purpose, PushTarget
from rapidrtmp.relay.settings import RelaySettings
from rapidrtmp.settings.model import AppSettings, HlsSettings, Settings, StorageSettings, TokenSettings
from rapidrtmp.storage.filesystem import LocalStorageFactory
from rapidrtmp.storage.memory import MemoryStorageFactory
from rapidrtmp.testing.sinks import FrameCollectorFactory


class ChoosingTests(SynchronousTestCase):
    def test_defaults_of_live_streams(self) -> None:
        """By default `live` is packaged as HLS, asks for tokens, and is kept on disk."""
        choice = choose_plugins(Settings())
        self.assertEqual(["live"], list(choice.apps))
        storages = set(choice.apps["live"].storages.values())
        self.assertEqual([LocalStorageFactory], [type(storage.factory) for storage in storages])
        self.assertEqual(["hls"], list(choice.apps["live"].sinks))
        self.assertIsInstance(choice.apps["live"].sinks["hls"], HlsSinkFactory)
        self.assertIsInstance(choice.apps["live"].authenticator, TokenAuthenticatorFactory)

    def test_every_application_has_its_own(self) -> None:
        """Each application gets the sinks and the authenticator that its settings name."""
        sinks = ("hls", "hls:window=5", "hls:window=6")
        radio = AppSettings(sinks=sinks, auth=("open",), storage="memory:", recordings="memory:")
        both = AppSettings(auth=("open", "token"))
        settings = Settings(apps={"radio": radio, "both": both})
        choice = choose_plugins(settings)
        storages = [each.storages[Purpose.LIVE].factory for each in choice.apps.values()]
        self.assertEqual([MemoryStorageFactory, LocalStorageFactory], [type(each) for each in storages])
        self.assertEqual(["hls", "hls-2", "hls-3"], list(choice.apps["radio"].sinks))
        self.assertEqual([10, 5, 6], [each.window for each in choice.apps["radio"].sinks.values()])
        self.assertIsInstance(choice.apps["radio"].authenticator, OpenAuthenticatorFactory)
        self.assertIsInstance(choice.apps["both"].authenticator, AnyOfAuthenticatorFactory)

    def test_section_defaults_fill_the_spec(self) -> None:
        """What a spec of `hls` does not say, the section [hls] does."""
        settings = Settings(
            hls=HlsSettings(segment_ms=4000, window=7, part_ms=0), apps={"live": AppSettings(sinks=("hls:window=8",))}
        )
        sink = choose_plugins(settings).apps["live"].sinks["hls"]
        self.assertEqual((4000, 0, 8), (sink.cutting.segment_ms, sink.cutting.part_ms, sink.window))

    def test_storages_are_shared_by_spec(self) -> None:
        """One spec is one storage, whatever names it; each is called after the setting that chose it first."""
        apps = {
            "live": AppSettings(storage="local:a", recordings="local:b"),
            "radio": AppSettings(storage="local:c", recordings="local:b"),
            "tv": AppSettings(storage="local:c", recordings="local:d"),
        }
        choice = choose_plugins(Settings(storage=StorageSettings("local:a", "local:b"), apps=apps)).apps
        names = {app: [storage.name for storage in plugins.storages.values()] for app, plugins in choice.items()}
        self.assertEqual(
            {
                "live": ["storage", "recordings"],
                "radio": ["apps.radio.storage", "recordings"],
                "tv": ["apps.radio.storage", "apps.tv.recordings"],
            },
            names,
        )
        self.assertIs(choice["radio"].storages[Purpose.LIVE], choice["tv"].storages[Purpose.LIVE])
        self.assertEqual(4, len({storage for plugins in choice.values() for storage in plugins.storages.values()}))

    def test_bad_storage_stops_the_start(self) -> None:
        """A storage that no one has, or that refuses its arguments, stops the start, and the setting is named."""
        for spec, said in (("lcoal:a", "did you mean local?"), ("local:a:b=1", "has no argument b")):
            for app in (AppSettings(storage=spec), AppSettings(recordings=spec)):
                error = self.assertRaises(ConfigurationError, choose_plugins, Settings(apps={"radio": app}))
                self.assertRegex(str(error), r"\Aapps\.radio\.(storage|recordings): [^\n]+\Z")
                self.assertIn(said, str(error))

    def test_unknown_plugin_stops_the_start(self) -> None:
        """A plugin that no one has stops the start."""
        settings = Settings(apps={"live": AppSettings(sinks=("hsl",))})
        self.assertIn("did you mean hls?", str(self.assertRaises(ConfigurationError, choose_plugins, settings)))


@implementer(IStoringSinkFactory)
class Archiver(FrameCollectorFactory):
    """A sink factory of a third party that says what its sinks store things for."""

    purpose: Any = "recordings"


class PurposeTests(SynchronousTestCase):
    def test_said_purpose_chooses_the_storage(self) -> None:
        """Sinks store live streams' files, unless their factory says that it is recordings."""
        live, archiver = FrameCollectorFactory(), Archiver()
        self.assertEqual((Purpose.LIVE, Purpose.RECORDINGS), (purpose_of(live), purpose_of(archiver)))
        sinks = choose_plugins(Settings(apps={"live": AppSettings(sinks=("hls", "record"))})).apps["live"].sinks
        self.assertEqual([Purpose.LIVE, Purpose.RECORDINGS], [purpose_of(factory) for factory in sinks.values()])

    def test_unknown_purpose_stops_the_start(self) -> None:
        """A purpose that no storage is for stops the start."""
        archiver = Archiver()
        archiver.purpose = "archive"
        self.patch(plugins, "make_sink_factory", lambda _spec, _defaults: archiver)
        error = self.assertRaises(ConfigurationError, choose_plugins, Settings())
        self.assertEqual("sink hls: its purpose 'archive' is not live or recordings", str(error))


class SecretTests(SynchronousTestCase):
    def test_not_among_served_objects(self) -> None:
        """A token secret within the storage directory stops the start, however its path is spelled."""
        folder = self.mktemp()
        Path(folder).mkdir()
        inside = str(Path(folder).resolve() / "x" / ".." / "token.key")
        named_in_spec = AppSettings(storage=f"local:{folder}", auth=(f"token:secret-file={inside}",))
        named_by_default = Settings(
            apps={"live": AppSettings(), "radio": AppSettings(recordings=f"local:directory={folder}")},
            tokens=TokenSettings(secret_file=inside),
        )
        for settings in (Settings(apps={"live": named_in_spec}), named_by_default):
            self.assertIn("served", str(self.assertRaises(ConfigurationError, choose_plugins, settings)))
        choose_plugins(replace(named_by_default, apps={"live": AppSettings()}))
        choose_plugins(replace(named_by_default, tokens=TokenSettings(secret_file=self.mktemp())))

    def test_relays_keys_are_not_served(self) -> None:
        """Nor may the file with the relays that were added, or a file with the key of one, lie there."""
        folder = Path(self.mktemp())
        folder.mkdir()
        app = AppSettings(storage=f"local:{folder}")
        pushed = replace(app, push=(PushTarget("rtmp://127.0.0.1/app", key_file=str(folder / "key")),))
        added = {"relays": RelaySettings(file=str(folder / "relays.json"))}
        for settings, named in (
            (Settings(apps={"live": app}, sections=added), "relays.file"),
            (Settings(apps={"live": pushed}), "key_file"),
        ):
            self.assertIn(named, str(self.assertRaises(ConfigurationError, choose_plugins, settings)))
        choose_plugins(Settings(apps={"live": app}, sections={"relays": RelaySettings()}))
