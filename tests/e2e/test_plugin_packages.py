"""The documented plugin, as it is written there: saved in the working folder, and installed by pip, in both ways."""

from __future__ import annotations

import re
import subprocess
import sysconfig
import venv
from collections.abc import Sequence
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.e2e.harness import CHECKOUT, SERVE, TWISTD, new_folder, server_environment
from tests.third_party import install_archive, setup_script

PAGE = (CHECKOUT / "docs" / "plugins.md").read_text("utf-8")
RUN_S = 120
LISTED = re.compile(r"^  gop-meter  Warns of large GOPs$", re.MULTILINE)


def example(holding: str) -> str:
    """The page's Python block that holds some words."""
    (block,) = [each for each in re.findall(r"^```python\n(.*?)^```", PAGE, re.S | re.M) if holding in each]
    return block


def run(command: Sequence[str | Path], folder: Path, *, status: int = 0, **environment: str) -> str:
    """What a command prints, on standard error if it fails; it must end with ``status``."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env={**server_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=RUN_S,
    )
    if done.returncode != status:
        raise AssertionError(f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stderr if status else done.stdout


class SavedTests(SynchronousTestCase):
    def test_in_the_working_folder(self) -> None:
        """The two files, saved in the working folder, are found by `twistd` and by `rapidrtmp serve`."""
        folder = new_folder("saved")
        (folder / "rapidrtmp" / "plugins").mkdir(parents=True)
        (folder / "gop_meter.py").write_text(example("class GopMeterFactory"))
        (folder / "rapidrtmp" / "plugins" / "gop_meter_plugin.py").write_text(example("gop_meter = SinkPlugin"))
        for program in (TWISTD, SERVE):
            self.assertRegex(run([*program, "--list-plugins"], folder), LISTED)
            printed = run([*program, "--check-config", "--sink", "gop-meter:limit=3", "--storage", "memory:"], folder)
            self.assertIn('"gop-meter:limit=3"', printed)

    def test_section_in_the_working_folder(self) -> None:
        """A recorder saved there brings its section of settings to every program that reads settings."""
        folder = new_folder("saved")
        configuration = folder / "media.toml"
        configuration.write_text("[storage]\nspec = 'memory:'\n[archive]\nkeep_days = 9\n")
        check = [*TWISTD, "--check-config", "--config", configuration, "--sink", "archive"]
        refused = run(check, folder, status=1)
        self.assertRegex(
            refused,
            r"\Arapidrtmp: \S+media\.toml: there is no section \[archive\]; [^\n]+looked in the entry points[^\n]+\n\Z",
        )
        install_archive("shelves", folder, folder / "rapidrtmp" / "plugins" / "shelves_plugin.py")
        self.assertRegex(run(check, folder), rf"(?m)^keep_days = 9 +# {configuration}$")
        in_environment = run(check, folder, RAPIDRTMP_ARCHIVE_KEEP_DAYS="11")
        self.assertRegex(in_environment, r"(?m)^keep_days = 11 +# environment RAPIDRTMP_ARCHIVE_KEEP_DAYS$")
        self.assertIn("'x' is not a whole number", run(check, folder, status=1, RAPIDRTMP_ARCHIVE_KEEP_DAYS="x"))
        listed = run([*TWISTD, "--list-plugins"], folder)
        self.assertRegex(listed, r"archive +Records as .*\n +most=0  keep_days=0\n +\[archive\] keep_days=7  pause=")


class InstalledTests(SynchronousTestCase):
    """In a fresh environment, which sees what is installed in ours: nothing is fetched."""

    def setUp(self) -> None:
        self.environment = new_folder("environment")
        venv.create(self.environment, with_pip=False, symlinks=True)
        self.python = self.environment / "bin" / "python"
        packages = run([self.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], self.environment)
        ours = sysconfig.get_path("purelib")
        Path(packages.strip(), "ours.pth").write_text(f"{ours}\n{CHECKOUT}\n")
        try:
            run([self.python, "-m", "pip", "--version"], self.environment)
            run([self.python, "-c", "import setuptools.command.bdist_wheel"], self.environment)
        except AssertionError as error:
            raise SkipTest(f"pip cannot build without a network here: {error}") from error
        self.source = new_folder("gop-meter")
        (self.source / "setup.py").write_text(example('name="rapidrtmp-gop-meter"'))
        (self.source / "gop_meter.py").write_text(example("class GopMeterFactory"))
        (self.source / "gop_meter_plugin.py").write_text(example("gop_meter = SinkPlugin"))

    def installed(self, *how: str) -> str:
        """The plugins that a server lists elsewhere, once the package is installed."""
        pip = [self.python, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
        run([*pip, *how, self.source], self.source)
        return run([self.python, "-m", "rapidrtmp", "serve", "--list-plugins"], new_folder("elsewhere"))

    def test_install_makes_it_known(self) -> None:
        """`pip install .` makes it known."""
        self.assertRegex(self.installed(), LISTED)

    def test_editable_install_makes_it_known(self) -> None:
        """So does `pip install -e .`."""
        self.assertRegex(self.installed("-e"), LISTED)

    def test_section_reaches_server_and_tools(self) -> None:
        """A package with a section of settings brings it to the server and to the tools."""
        source, folder = new_folder("shelves"), new_folder("elsewhere")
        install_archive("shelves", source, source / "shelves_plugin.py")
        (source / "setup.py").write_text(setup_script("shelves", "shelves_plugin"))
        pip = [self.python, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
        run([*pip, source], source)
        configuration = folder / "media.toml"
        door = "[server]\nhttp = ['unix:nothing-listens.sock']\n"
        configuration.write_text(f"{door}[archive]\nkeep_days = 9\nplace = 'vault'\npassword = 'hidden'\n")
        rapidrtmp = [self.python, "-m", "rapidrtmp"]
        printed = run([*rapidrtmp, "serve", "--check-config", "--config", configuration, "--sink", "archive"], folder)
        self.assertRegex(printed, rf"(?m)^keep_days = 9 +# {configuration}$")
        self.assertNotIn("hidden", printed)
        reference = run([*rapidrtmp, "settings"], folder)
        self.assertRegex(
            reference,
            r"(?m)^\[archive\]\nkeep_days = 7 +# a whole number, 0 or more\n"
            r" +Days that recordings are kept; 0 for ever\.\n"
            r" +RAPIDRTMP_ARCHIVE_KEEP_DAYS\npause = \"500ms\" +# a duration such as",
        )
        unanswered = run([*rapidrtmp, "token", "show", "--config", configuration], folder, status=1)
        self.assertIn("no server answers (unix:nothing-listens.sock)", unanswered)
        configuration.write_text(f"{door}[archive]\nkeep_day = 9\n")
        refused = run([*rapidrtmp, "token", "show", "--config", configuration], folder, status=1)
        self.assertIn("[archive] has no key keep_day; did you mean keep_days?", refused)
