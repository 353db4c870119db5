import configparser
import json
import os
import re
import runpy
import subprocess
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import TestResult

import setuptools
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from rapidrtmp.http import hlsjs
from tests.__main__ import unit_tests
from tests.claimed import ClaimedTests, chosen_tests, every_test, write_claims

ROOT = Path(__file__).parent.parent


class MetadataTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.metadata: dict[str, Any] = {}
        self.patch(setuptools, "setup", lambda **said: self.metadata.update(said))
        runpy.run_path(str(ROOT / "setup.py"))

    def test_packages_are_all_installed(self) -> None:
        """Every package of ours is installed, and `twisted.plugins` with it, or twistd would not know us."""
        here = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "rapidrtmp").rglob("__init__.py")}
        self.assertEqual({*here, "twisted.plugins"}, set(self.metadata["packages"]))

    def test_twisted_is_left_alone(self) -> None:
        """There is no `__init__.py` beside the twistd plugin: it would hide Twisted itself."""
        self.assertEqual([], list((ROOT / "twisted").rglob("__init__.py")))

    def test_python_versions_agree(self) -> None:
        """The oldest Python is the same in the metadata and for the tools."""
        self.assertEqual(">=3.11", self.metadata["python_requires"])
        tools = (ROOT / "pyproject.toml").read_text()
        self.assertIn('target-version = "py311"', tools)
        self.assertIn('python_version = "3.11"', tools)

    def test_extras_of_tox_exist(self) -> None:
        """What tox installs besides is an extra that exists."""
        tox = configparser.ConfigParser(interpolation=None)
        tox.read(ROOT / "tox.ini")
        wanted = {extra for section in tox.sections() for extra in tox[section].get("extras", "").split()}
        self.assertLessEqual(wanted | {"gcs", "transcode", "http2", "dev"}, set(self.metadata["extras_require"]))

    def test_console_script_leads_somewhere(self) -> None:
        """The command `rapidrtmp` leads to a function that is there."""
        (script,) = self.metadata["entry_points"]["console_scripts"]
        name, module, function = re.fullmatch(r"(\w+) = ([\w.]+):(\w+)", script).groups()
        self.assertEqual("rapidrtmp", name)
        self.assertTrue(callable(getattr(__import__(module, fromlist=[function]), function)))


class PlayerLibraryTests(SynchronousTestCase):
    def test_one_version_of_the_library(self) -> None:
        """package.json, its lock and the page name one and the same version of hls.js, exactly."""
        package = json.loads((ROOT / "package.json").read_text())
        lock = json.loads((ROOT / "package-lock.json").read_text())
        self.assertEqual(hlsjs.VERSION, package["dependencies"]["hls.js"])
        self.assertEqual(hlsjs.VERSION, lock["packages"]["node_modules/hls.js"]["version"])
        self.assertIn(f"@{hlsjs.VERSION}/", hlsjs.CDN_URL)

    def test_copy_is_the_pinned_file(self) -> None:
        """The copy of the library, where a build has put one, is the file whose hash browsers get."""
        self.patch(setuptools, "setup", lambda **said: None)
        copy = ROOT / "rapidrtmp" / "web" / "static" / hlsjs.FILE_NAME
        if not copy.exists():
            raise SkipTest("no build has put the library there")
        is_pinned = runpy.run_path(str(ROOT / "setup.py"))["_is_pinned"]
        self.assertTrue(is_pinned(copy))

    def test_gives_up_after_seconds(self) -> None:
        """Where no registry answers the build gives npm up after seconds, and continues without the library."""
        self.patch(setuptools, "setup", lambda **said: None)
        fetch = runpy.run_path(str(ROOT / "setup.py"))["_fetch"]
        self.assertLessEqual(fetch.__globals__["NETWORK_TIMEOUT_S"], 10)
        fetch.__globals__["NETWORK_TIMEOUT_S"] = 0.1
        fetch.__globals__["ROOT"] = self._without_node_modules()
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "npm").write_text("#!/bin/sh\nexec sleep 60\n")
        (folder / "npm").chmod(0o755)
        self.patch(os, "environ", {**os.environ, "PATH": f"{folder.absolute()}:{os.environ['PATH']}"})
        self.assertRaises(subprocess.TimeoutExpired, fetch, folder / "hls.min.js")

    def _without_node_modules(self) -> Path:
        folder = Path(self.mktemp())
        folder.mkdir()
        for name in ("package.json", "package-lock.json"):
            (folder / name).write_bytes((ROOT / name).read_bytes())
        return folder


class TestSelectionTests(SynchronousTestCase):
    def test_nothing_is_left_out(self) -> None:
        """`python -m tests` runs tests of every test module but the end-to-end ones, and none of them twice."""
        tests = list(every_test(unit_tests()))
        self.assertEqual(len(tests), len({test.id() for test in tests}))
        modules = {type(test).__module__ for test in tests}
        for path in (ROOT / "tests").rglob("test_*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            self.assertEqual(not name.startswith("tests.e2e."), name in modules, name)

    def test_quick_and_slow_are_apart(self) -> None:
        """Each test of a module is quick or slow, by its mark or that of its class; what cannot be loaded is quick."""
        modules = ["tests.codec.test_bits", "tests.net.test_connection"]
        quick, slow = ([test.id() for test in chosen_tests(modules, each)] for each in ("quick", "slow"))
        classes = [{name.rpartition(".")[0] for name in names} for names in (quick, slow)]
        self.assertIn("tests.codec.test_bits.FixedWidthTests.test_reads_what_was_written", slow)
        self.assertIn("tests.codec.test_bits.FixedWidthTests", classes[0])
        self.assertIn("tests.net.test_connection.AnyBytesTests", classes[1] - classes[0])
        self.assertFalse({*quick} & {*slow})
        self.assertEqual(["tests.test_absent"], [test.id() for test in chosen_tests(["tests.test_absent"], "quick")])

    def test_claims_cover_all_classes(self) -> None:
        """The processes share the classes among them: none is left out, none runs twice, none is torn apart."""
        ran: list[str] = []

        class One(SynchronousTestCase):
            def test_a(self) -> None:
                ran.append(self.id())

            test_b = test_a

        class Other(One):
            pass

        claims = write_claims()
        self.addCleanup(os.close, claims)
        tests = [One("test_a"), Other("test_a"), One("test_b"), Other("test_b")]
        first, second, late = (ClaimedTests(tests, claims) for _ in range(3))
        seen = TestResult()
        seen.startTest = lambda _: second.run(seen) if not ran else None  # type: ignore[method-assign]
        first.run(seen)
        self.assertEqual(sorted(test.id() for test in tests), sorted(ran))
        self.assertEqual(1, sum(one.rpartition(".")[0] != two.rpartition(".")[0] for one, two in pairwise(ran)))
        late.run(seen)
        self.assertEqual(len(tests), len(ran))

    def test_environments_run_all_tests(self) -> None:
        """`tox` runs the quick tests, the slow ones and the end-to-end ones."""
        tox = configparser.ConfigParser(interpolation=None)
        tox.read(ROOT / "tox.ini")
        environments = tox["tox"]["env_list"].split(", ")
        self.assertEqual(["lint", "types", "docs", "py", "slow", "compiled", "e2e"], environments)
        self.assertLessEqual({f"testenv:{name}" for name in environments}, set(tox.sections()))


class ChangelogTests(SynchronousTestCase):
    def test_every_piece_of_news_has_a_type(self) -> None:
        """Each file of news is of a type that the changelog has a heading for, and says something."""
        towncrier = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]
        types = {each["directory"] for each in towncrier["type"]}
        self.assertEqual({"removal", "feature", "bugfix", "doc", "misc"}, types)
        for path in (ROOT / "changelog.d").glob("*.rst"):
            self.assertIn(path.name.split(".")[1], types, path.name)
            self.assertEqual(3, len(path.name.split(".")), path.name)
            self.assertTrue(path.read_text().strip(), path.name)

    def test_changelog_has_its_place(self) -> None:
        """A release finds the place in the changelog where its news goes."""
        towncrier = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]
        self.assertEqual(1, (ROOT / towncrier["filename"]).read_text().count(towncrier["start_string"]))
        self.assertTrue((ROOT / towncrier["template"]).is_file())


class LicenceTests(SynchronousTestCase):
    def test_license_is_the_one_named(self) -> None:
        """The licence that the metadata names is the one in the distribution."""
        metadata: dict[str, Any] = {}
        self.patch(setuptools, "setup", lambda **said: metadata.update(said))
        runpy.run_path(str(ROOT / "setup.py"))
        (name,) = metadata["license_files"]
        self.assertEqual("MIT", metadata["license"])
        self.assertIn("Permission is hereby granted, free of charge", (ROOT / name).read_text())
