import os
import sys
from importlib.metadata import EntryPoint, entry_points
from io import StringIO
from pathlib import Path

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

import rapidrtmp.plugins
from rapidrtmp.discovery import AuthenticatorPlugin, SinkPlugin, list_plugins, make_sink_factory, search
from rapidrtmp.discovery.search import search_working_folder, searched_places
from rapidrtmp.errors import ConfigurationError

meter = SinkPlugin("meter", "Named by an entry point", "rapidrtmp.testing.sinks.FrameCollectorFactory")
door = AuthenticatorPlugin("door", "Named by an entry point", "rapidrtmp.auth.open.OpenAuthenticatorFactory")
no_plugin = object()


class SearchCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.err = StringIO()
        self.patch(sys, "stderr", self.err)
        self.patch(sys, "path", [*sys.path])
        self.patch(rapidrtmp.plugins, "__path__", [*rapidrtmp.plugins.__path__])
        self.patch(search, "_broken", {})
        self.patch(search, "_unsafe", set())

    def install(self, **points: str) -> None:
        """Let a package with such entry points be installed."""
        found = [EntryPoint(name, value, "rapidrtmp") for name, value in points.items()]
        self.patch(search, "entry_points", lambda group: found if group == "rapidrtmp" else [])

    def refusal(self, spec: str) -> str:
        return str(self.assertRaises(ConfigurationError, make_sink_factory, spec))


class EntryPointTests(SearchCase):
    def test_entry_point_is_found(self) -> None:
        """What an entry point of the group `rapidrtmp` names is a plugin like any other, by the name it has itself."""
        self.install(a=f"{__name__}:meter", b=f"{__name__}:door")
        self.assertEqual("FrameCollectorFactory", type(make_sink_factory("meter")).__name__)
        self.assertRegex(list_plugins(), r"meter +Named by an entry point")
        self.assertRegex(list_plugins(), r"door +Named by an entry point")

    def test_found_both_ways_is_one(self) -> None:
        """A plugin that is found in both ways is one."""
        self.install(a="rapidrtmp.plugins.builtin:hls")
        self.assertEqual("HlsSinkFactory", type(make_sink_factory("hls")).__name__)

    def test_installed_meanwhile_is_found(self) -> None:
        """What is installed while the process runs is found, and all that is installed is read only when it changes."""
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        sys.path.append(str(folder))
        self.assertNotIn("Named by an entry point", list_plugins())
        read: list[str] = []

        def counted(group: str) -> list[EntryPoint]:
            read.append(group)
            return list(entry_points(group=group))

        self.patch(search, "entry_points", counted)
        list_plugins()
        self.assertEqual(1, len(read))
        info = folder / "meters-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Name: meters\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[rapidrtmp]\nmeter = {__name__}:meter\n")
        self.assertRegex(list_plugins(), r"meter +Named by an entry point")
        self.assertEqual(2, len(read))

    def test_broken_entry_has_one_traceback(self) -> None:
        """One that cannot be imported has one traceback, however often plugins are looked for, and hinders no other."""
        self.install(
            a="no_such_module:meter", b=f"{__name__}:missing", c=f"{__name__}:meter", d=f"{__name__}:no_plugin"
        )
        listed = list_plugins()
        make_sink_factory("meter")
        self.assertEqual(2, self.err.getvalue().count("Traceback"))
        for words in (
            "the entry point a = no_such_module:meter: ModuleNotFoundError: No module named",
            f"the entry point b = {__name__}:missing: AttributeError",
            f"the entry point d = {__name__}:no_plugin: it names no plugin",
        ):
            self.assertIn(words, listed)
        self.assertIn("no_such_module:meter is broken: ModuleNotFoundError", self.refusal("metre"))


class FolderTests(SearchCase):
    def working_folder(self) -> Path:
        """A working folder with a sink and the module that tells of it, as the page about plugins has them."""
        folder = Path(self.mktemp()).absolute()
        (folder / "rapidrtmp" / "plugins").mkdir(parents=True)
        name = f"saved_here_{folder.name}".replace("-", "_").replace(".", "_")
        (folder / f"{name}.py").write_text("from rapidrtmp.testing.sinks import FrameCollectorFactory as Factory")
        entry = f"saved = SinkPlugin('saved', 'Here', '{name}.Factory')"
        module = folder / "rapidrtmp" / "plugins" / f"{name}_plugin.py"
        module.write_text(f"from rapidrtmp.discovery import SinkPlugin\n{entry}\n")
        self.addCleanup(sys.modules.pop, f"rapidrtmp.plugins.{name}_plugin", None)
        self.addCleanup(sys.modules.pop, name, None)
        before = os.getcwd()
        os.chdir(folder)
        self.addCleanup(os.chdir, before)
        return folder

    def test_working_folder_comes_last(self) -> None:
        """What is saved in the working folder is found, behind all that is installed."""
        folder = self.working_folder()
        search_working_folder()
        search_working_folder()
        self.assertEqual("FrameCollectorFactory", type(make_sink_factory("saved")).__name__)
        self.assertEqual([str(folder)], [path for path in sys.path if path == str(folder)])
        self.assertEqual(str(folder), sys.path[-1])
        self.assertIn(str(folder / "rapidrtmp" / "plugins"), searched_places())

    def test_nothing_is_written(self) -> None:
        """Looking for plugins writes no cache."""
        folder = self.working_folder()
        search_working_folder()
        list_plugins()
        self.assertEqual([], list(folder.rglob("dropin.cache")))

    def test_open_to_others(self) -> None:
        """A folder that others can write to is not searched, and an unknown name is refused with the reason."""
        folder = self.working_folder()
        folder.chmod(0o777)
        search_working_folder()
        self.assertNotIn(str(folder), sys.path)
        self.assertIn(f"not in {folder}, which others can write to", self.refusal("saved"))

    def test_broken_module_has_one_traceback(self) -> None:
        """A module that cannot be imported has one traceback and one line in the log, and hinders no other."""
        folder = self.working_folder()
        broken = folder / "rapidrtmp" / "plugins" / "broken_here_plugin.py"
        broken.write_text("import no_such_module")
        search_working_folder()
        with capturedLogs() as events:
            listed = list_plugins()
            make_sink_factory("saved")
        self.assertEqual(1, self.err.getvalue().count("Traceback"))
        self.assertEqual(["rapidrtmp.plugins.broken_here_plugin"], [each["title"].split()[-1] for each in events])
        self.assertIn("Not usable: the module rapidrtmp.plugins.broken_here_plugin: ModuleNotFoundError", listed)

    def test_exiting_module_is_left_out(self) -> None:
        """A module that would end the process is left out likewise."""
        folder = self.working_folder()
        (folder / "rapidrtmp" / "plugins" / "exiting_here_plugin.py").write_text("raise SystemExit(3)")
        search_working_folder()
        self.assertIn("exiting_here_plugin: SystemExit: 3", list_plugins())
