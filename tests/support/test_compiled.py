import os
import runpy
import shutil
import sysconfig
from pathlib import Path

import setuptools
from twisted.trial.unittest import SkipTest, SynchronousTestCase

import rapidrtmp
from rapidrtmp.support.compiled import is_compiled, modules

ROOT = Path(__file__).parents[2]


class CompiledTests(SynchronousTestCase):
    def test_build_asked_for_is_compiled(self) -> None:
        """Where a compiled build is asked for, and there is a compiler, it is one."""
        if os.environ.get("RAPIDRTMP_COMPILE") != "1" or shutil.which("gcc") is None:
            raise SkipTest("it is not asked for, or there is no compiler")
        self.assertTrue(is_compiled())

    def test_modules_write_no_log(self) -> None:
        """What may be compiled is there; it declares no interfaces and makes no logger, which C has no place for."""
        package = Path(rapidrtmp.__file__).parent
        for path in modules(package):
            text = path.read_text("utf-8")
            for word in ("zope.interface", "twisted.logger"):
                self.assertNotIn(word, text, path)
        self.assertIn(package / "rtmp" / "session" / "server.py", modules(package))


class SetupTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.metadata: dict[str, object] = {}
        self.patch(setuptools, "setup", lambda **said: self.metadata.update(said))

    def test_plain_unless_asked(self) -> None:
        """A build asks for no compiler, and is good for every machine, unless it is to be compiled."""
        self.patch(os, "environ", {**os.environ, "RAPIDRTMP_COMPILE": "0"})
        names = runpy.run_path(str(ROOT / "setup.py"))
        self.assertEqual([], self.metadata["setup_requires"])
        self.assertFalse(names["MaybeCompiled"]().has_ext_modules())

    def test_plain_without_a_compiler(self) -> None:
        """Likewise where it is to be compiled and there is no compiler."""
        self.patch(os, "environ", {**os.environ, "RAPIDRTMP_COMPILE": "1"})
        self.patch(sysconfig, "get_config_var", lambda _name: "no-such-compiler -pthread")
        names = runpy.run_path(str(ROOT / "setup.py"))
        self.assertEqual([], self.metadata["setup_requires"])
        self.assertFalse(names["MaybeCompiled"]().has_ext_modules())
