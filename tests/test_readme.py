"""The README's examples do what it says, as they are written there."""

from __future__ import annotations

import re
import types
from pathlib import Path

from twisted.internet.defer import maybeDeferred
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from rapidrtmp.discovery import SinkPlugin
from rapidrtmp.interfaces import ISinkFactory, IStorage, IStorageFactory
from rapidrtmp.testing.storage import StorageContract

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")


def example(defining: str) -> types.ModuleType:
    """The README's Python block that defines a name, as a module."""
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    (source,) = [block for block in blocks if re.search(rf"^(class )?{defining}\b", block, re.MULTILINE)]
    module = types.ModuleType(f"readme_{defining}")
    exec(compile(source, f"README.md ({defining})", "exec"), module.__dict__)
    return module


class SqliteStorageTests(StorageContract, TestCase):
    """The storage of the README keeps every promise of the interface."""

    def make_storage(self) -> IStorage:
        factory = example("SqliteStorageFactory").SqliteStorageFactory(self.mktemp())
        verifyObject(IStorageFactory, factory)
        return factory.create(types.SimpleNamespace(in_thread=maybeDeferred))


class PluginEntryTests(SynchronousTestCase):
    def test_entry(self) -> None:
        """The entry that the README shows is one that discovery understands."""
        entry = example("gop_meter").gop_meter
        self.assertIsInstance(entry, SinkPlugin)
        self.assertEqual(("gop-meter", "gop_meter.GopMeterFactory"), (entry.name, entry.factory_path))

    def test_factory(self) -> None:
        """The sink factory of the README is one."""
        verifyObject(ISinkFactory, example("GopMeterFactory").GopMeterFactory("10"))
