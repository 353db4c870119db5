import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

import rapidrtmp.plugins
from rapidrtmp.discovery import (
    AuthenticatorPlugin,
    IAuthenticatorPlugin,
    ISinkPlugin,
    IStoragePlugin,
    ListenerPlugin,
    SinkPlugin,
    StoragePlugin,
    factories,
    list_plugins,
    make_authenticator_factory,
    make_listeners,
    make_sink_factory,
    make_storage_factory,
)
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import Event, IEventListener, ISinkFactory, SinkContext

HERE = f"{__name__}."


@implementer(ISinkFactory)
class ProbeFactory:
    """Remembers what it was made with."""

    def __init__(self, target: str, part: str = "1s", *, note: str = "", limit_ms: str | None = None) -> None:
        if part == "bad":
            raise ValueError("part is bad")
        if part == "worse":
            raise KeyError("nothing of\nthat name")
        self.made_with = {"target": target, "part": part, "note": note, "limit_ms": limit_ms}

    def create(self, context: SinkContext) -> Any:
        raise NotImplementedError


class Stranger:
    """Provides nothing."""


class PluginTestCase(SynchronousTestCase):
    def install(self, *entries: Any) -> None:
        """Let exactly ``entries`` be installed."""

        def found(interface: Any, package: object) -> Iterator[Any]:
            self.assertIs(rapidrtmp.plugins, package)
            return (entry for entry in entries if interface.providedBy(entry))

        self.patch(factories, "getPlugins", found)

    def refusal(self, spec: str) -> str:
        """The one line that a sink's spec is refused with."""
        line = str(self.assertRaises(ConfigurationError, make_sink_factory, spec))
        self.assertNotIn("\n", line)
        return line


class MakingTests(PluginTestCase):
    def setUp(self) -> None:
        self.install(
            SinkPlugin("probe", "Remembers", HERE + "ProbeFactory"),
            SinkPlugin("stranger", "Provides nothing", HERE + "Stranger"),
            SinkPlugin("gone", "Cannot load", "rapidrtmp_gone.sink.Factory"),
            SinkPlugin("renamed", "Cannot load", HERE + "Renamed"),
        )

    def made_with(self, spec: str, **defaults: str) -> dict[str, str | None]:
        made_with: dict[str, str | None] = make_sink_factory(spec, defaults).made_with
        return made_with

    def test_arguments_fill_parameters_in_order(self) -> None:
        """Arguments without a key fill parameters in order, those with one by name, a dash reading as an underscore."""
        self.assertEqual(
            {"target": "t", "part": "2s", "note": "n", "limit_ms": "5"},
            self.made_with("probe:t:2s:limit-ms=5:note=n"),
        )
        self.assertEqual("2s", self.made_with("probe:part=2s:target=t")["part"])

    def test_empty_argument_says_nothing(self) -> None:
        """An empty argument says nothing."""
        self.assertEqual("1s", self.made_with("probe:t:")["part"])
        self.assertEqual("1s", self.made_with("probe::target=t")["part"])

    def test_defaults_fill_the_spec(self) -> None:
        """Defaults fill what the spec leaves out, as far as the plugin has such arguments."""
        self.assertEqual("3s", self.made_with("probe:t", part="3s", window="4")["part"])
        self.assertEqual("2s", self.made_with("probe:t:2s", part="3s")["part"])

    def test_unknown_name_stops_the_start(self) -> None:
        """An unknown plugin stops the start, with the nearest and all the known ones."""
        line = self.refusal("prob:t")
        self.assertIn("'prob'", line)
        self.assertIn("did you mean probe?", line)
        self.assertIn("gone, probe, renamed, stranger", line)

    def test_where_was_looked(self) -> None:
        """An unknown name is refused with the places where plugins were looked for."""
        line = self.refusal("prob:t")
        self.assertIn("looked in the entry points of the group rapidrtmp and in ", line)
        self.assertIn(str(Path(rapidrtmp.plugins.__file__).parent), line)

    def test_unknown_argument_stops_the_start(self) -> None:
        """An unknown argument stops the start, with the nearest and all the known ones, without any value."""
        line = self.refusal("probe:t:parts=hidden")
        self.assertIn("sink probe has no argument parts; did you mean part?", line)
        self.assertIn("target, part, note, limit_ms", line)
        self.assertNotIn("hidden", line)

    def test_wrong_arguments_stop_the_start(self) -> None:
        """One argument too many, one missing, or one given twice stops the start."""
        self.assertIn("takes 2 arguments", self.refusal("probe:a:b:c"))
        self.assertIn(r"\:", self.refusal("probe:http://h/:x:y"))
        self.assertIn("needs target", self.refusal("probe"))
        self.assertIn("needs target", self.refusal("probe:target="))
        self.assertIn("target is given twice", self.refusal("probe:t:target=u"))
        self.assertIn("sink spec", self.refusal(":"))

    def test_refused_by_the_factory(self) -> None:
        """What a factory objects to stops the start with the plugin's name."""
        self.assertIn("sink probe: part is bad (given target, part)", self.refusal("probe:t:bad"))

    def test_raising_factory_is_one_line(self) -> None:
        """Whatever a factory raises is one line with the plugin, the names of its arguments and the reason."""
        line = self.refusal("probe:t:part=worse")
        self.assertRegex(line, r"\Asink probe: KeyError: .*that name.* \(given target, part\)\Z")

    def test_can_not_load(self) -> None:
        """A plugin whose import fails stops the start with what is missing, if it is chosen."""
        self.assertIn("No module named 'rapidrtmp_gone'", self.refusal("gone"))
        self.assertIn("Renamed", self.refusal("renamed"))

    def test_factory_that_provides_nothing(self) -> None:
        """A factory that does not say what it provides stops the start."""
        self.assertIn("does not provide ISinkFactory", self.refusal("stranger"))

    def test_list_shows_every_plugin(self) -> None:
        """The list has every plugin with its line, its arguments and their defaults, or why it cannot be used."""
        listed = list_plugins()
        for words in ("Sinks (--sink)", "Storages (--storage)", "Authenticators (--auth)"):
            self.assertIn(words, listed)
        self.assertRegex(listed, r"probe +Remembers\n +TARGET  part=1s  note=  limit_ms=\n")
        self.assertRegex(listed, r"gone +Cannot load\n +not usable: .*rapidrtmp_gone")


class TwoOfOneNameTests(PluginTestCase):
    def test_stops_the_start(self) -> None:
        """Two plugins of one kind and name stop the start, with both."""
        self.install(SinkPlugin("x", "", HERE + "ProbeFactory"), SinkPlugin("x", "", HERE + "Stranger"))
        line = self.refusal("x")
        self.assertIn("ProbeFactory", line)
        self.assertIn("Stranger", line)

    def test_other_kinds_share_a_name(self) -> None:
        """A sink and a storage may share a name."""
        self.install(SinkPlugin("x", "", HERE + "ProbeFactory"), StoragePlugin("x", "", HERE + "Stranger"))
        self.assertEqual("t", make_sink_factory("x:t").made_with["target"])
        line = str(self.assertRaises(ConfigurationError, make_storage_factory, "x"))
        self.assertIn("storage x: its factory does not provide IStorageFactory", line)


class BuiltinTests(SynchronousTestCase):
    def test_own_entries_are_declared_alike(self) -> None:
        """Our own plugins are declared as those of others are."""
        from rapidrtmp.plugins import builtin

        entries = [each for each in vars(builtin).values() if hasattr(each, "factory_path")]
        for interface, entry_class, names in (
            (ISinkPlugin, SinkPlugin, {"hls"}),
            (IStoragePlugin, StoragePlugin, {"memory", "local", "gcs"}),
            (IAuthenticatorPlugin, AuthenticatorPlugin, {"token", "open"}),
        ):
            of_kind = [each for each in entries if isinstance(each, entry_class)]
            for each in of_kind:
                verifyObject(interface, each)
                self.assertTrue(each.summary)
            self.assertLessEqual(names, {each.name for each in of_kind})

    def test_own_plugins_are_found(self) -> None:
        """They are found by name, and nothing else is imported for it."""
        self.assertEqual("OpenAuthenticatorFactory", type(make_authenticator_factory("open")).__name__)
        self.assertEqual("MemoryStorageFactory", type(make_storage_factory("memory:")).__name__)
        self.assertIn("gcs", list_plugins())


class ThirdPartyTests(SynchronousTestCase):
    def test_third_party_module_is_found(self) -> None:
        """A module in a directory `rapidrtmp/plugins` anywhere on the path is found, and works like ours."""
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "thirdparty.py").write_text(
            "from rapidrtmp.discovery import SinkPlugin\n"
            f"probe = SinkPlugin('thirdparty', 'From elsewhere', '{HERE}ProbeFactory')\n"
        )
        paths = rapidrtmp.plugins.__path__
        self.patch(rapidrtmp.plugins, "__path__", [*paths, str(folder)])
        self.addCleanup(sys.modules.pop, "rapidrtmp.plugins.thirdparty", None)
        self.assertEqual("t", make_sink_factory("thirdparty:t").made_with["target"])


@implementer(IEventListener)
class ProbeListener:
    """Hears of events."""

    def event_recorded(self, event: Event) -> None:
        raise NotImplementedError


class ListenerTests(PluginTestCase):
    def test_listeners_are_made_and_listed(self) -> None:
        """Every listener that is installed is made, and listed; what is none stops the start in one line."""
        self.install(ListenerPlugin("probe", "Hears of events", f"{HERE}ProbeListener"))
        (listener,) = make_listeners()
        self.assertTrue(verifyObject(IEventListener, listener))
        self.assertIn("probe      Hears of events", list_plugins())
        self.install(ListenerPlugin("stranger", "None", f"{HERE}Stranger"))
        error = self.assertRaises(ConfigurationError, make_listeners)
        self.assertIn("does not provide IEventListener", str(error))
