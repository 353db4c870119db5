"""The README's plugin, as it is written there: saved in the working folder, and installed by pip, in both ways."""

from __future__ import annotations

import re
import subprocess
import sysconfig
import venv
from collections.abc import Sequence
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.e2e.harness import CHECKOUT, SERVE, TWISTD, new_folder, server_environment

README = (CHECKOUT / "README.md").read_text("utf-8")
RUN_S = 120
LISTED = re.compile(r"^  gop-meter  Warns of large GOPs$", re.MULTILINE)


def example(holding: str) -> str:
    """The README's Python block that holds some words."""
    (block,) = [each for each in re.findall(r"^```python\n(.*?)^```", README, re.S | re.M) if holding in each]
    return block


def run(command: Sequence[str | Path], folder: Path) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=server_environment(), capture_output=True, text=True, timeout=RUN_S
    )
    if done.returncode:
        raise AssertionError(f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


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

    def test_install(self) -> None:
        """`pip install .` makes it known."""
        self.assertRegex(self.installed(), LISTED)

    def test_editable(self) -> None:
        """So does `pip install -e .`."""
        self.assertRegex(self.installed("-e"), LISTED)
