import ast
import os
import runpy
import shutil
import sysconfig
from collections.abc import Iterator
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

    def test_nothing_derives_from_them(self) -> None:
        """No class of what stays plain derives from one of a module that may be compiled: Python refuses to."""
        package = Path(rapidrtmp.__file__).parent
        compiled = {_name_of(path, package): path for path in modules(package)}
        for path in package.rglob("*.py"):
            if path not in compiled.values():
                for base, module in _bases(ast.parse(path.read_text("utf-8"))):
                    self.assertNotIn(module, compiled, f"{path.relative_to(package)}: {base}; see support/compiled.py")


def _name_of(path: Path, package: Path) -> str:
    return ".".join(("rapidrtmp", *path.relative_to(package).with_suffix("").parts))


def _bases(module: ast.Module) -> Iterator[tuple[str, str]]:
    """The imported names that classes of a module derive from, and where each is imported from."""
    nodes = list(ast.walk(module))
    origins = {
        name.asname or name.name: node.module or ""
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    for node in nodes:
        if isinstance(node, ast.ClassDef):
            for base in node.bases:
                if isinstance(base, ast.Name) and base.id in origins:
                    yield base.id, origins[base.id]


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
