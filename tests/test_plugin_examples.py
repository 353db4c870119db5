"""The examples of the page about plugins do what it says, as they are written there."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from unittest import mock

from twisted.internet.defer import maybeDeferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from rapidrtmp.discovery import SinkPlugin
from rapidrtmp.interfaces import (
    IAuthenticator,
    IAuthenticatorFactory,
    ISink,
    ISinkFactory,
    IStorage,
    IStorageFactory,
    PublishRequest,
    SinkContext,
)
from rapidrtmp.names import StreamName
from rapidrtmp.settings.sources import PluginSections, load_settings
from rapidrtmp.testing.frames import make_video_track, video_frames
from rapidrtmp.testing.sink_factories import SinkFactoryContract
from rapidrtmp.testing.sinks import SinkContract
from rapidrtmp.testing.storage import StorageContract

PAGE = (Path(__file__).parent.parent / "docs" / "plugins.md").read_text("utf-8")


def example(defining: str) -> types.ModuleType:
    """The page's Python block that defines a name, as a module."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (source,) = [block for block in blocks if re.search(rf"^(class )?{defining}\b", block, re.MULTILINE)]
    module = types.ModuleType(f"example_{defining}")
    with mock.patch.dict(sys.modules, {module.__name__: module}):  # where dataclasses look for their module
        exec(compile(source, f"plugins.md ({defining})", "exec"), module.__dict__)
    return module


class SqliteStorageTests(StorageContract, TestCase):
    """The storage of the page keeps every promise of the interface."""

    def make_storage(self) -> IStorage:
        factory = example("SqliteStorageFactory").SqliteStorageFactory(self.mktemp())
        verifyObject(IStorageFactory, factory)
        return factory.create(types.SimpleNamespace(in_thread=maybeDeferred))


class GopMeterFactoryTests(SinkFactoryContract, SynchronousTestCase):
    """So does its factory."""

    def make_factory(self) -> ISinkFactory:
        return example("GopMeterFactory").GopMeterFactory("10")


class GopMeterTests(SinkContract, SynchronousTestCase):
    """The sink of the page keeps every promise of the interface, and does what it is for."""

    def make_sink(self, context: SinkContext) -> ISink:
        return example("GopMeterFactory").GopMeterFactory("10").create(context)

    def test_warns_of_long_gops(self) -> None:
        """A GOP over the limit is warned of, when it is over."""
        video = make_video_track()
        sink, _ = self.new_sink()
        sink.tracks_changed((video,))
        with capturedLogs() as events:
            for frame in video_frames(video, 2.5, gop=30):
                sink.frame_received(frame)
        self.assertEqual(2, len([event for event in events if "a GOP of" in event.get("log_format", "")]))


class NetworkAuthenticatorTests(SynchronousTestCase):
    """The authenticator of the page lets one network publish."""

    def test_only_the_network_may_publish(self) -> None:
        """A peer inside of the network may publish, one outside of it, or without an address, may not."""
        factory = example("NetworkFactory").NetworkFactory("10.0.0.0/8")
        verifyObject(IAuthenticatorFactory, factory)
        authenticator = factory.create(None)
        verifyObject(IAuthenticator, authenticator)
        for peer, allowed in (("10.1.2.3", True), ("192.0.2.7", False), ("unix", False)):
            verdict = authenticator.authorize_publish(PublishRequest(StreamName("live", "show"), "", {}, peer))
            self.assertIs(allowed, verdict.allowed)

    def test_wrong_network_stops_the_start(self) -> None:
        """A network that is none stops the start, with one line."""
        self.assertRaises(ValueError, example("NetworkFactory").NetworkFactory, "10.0.0.0/33")


class PluginEntryTests(SynchronousTestCase):
    def test_entry_of_the_page(self) -> None:
        """The entry that the page shows is one that discovery understands."""
        entry = example("gop_meter").gop_meter
        self.assertIsInstance(entry, SinkPlugin)
        self.assertEqual(("gop-meter", "gop_meter.GopMeterFactory"), (entry.name, entry.factory_path))

    def test_section_of_the_page(self) -> None:
        """The section of settings that the page shows is one, and means what the page says."""
        plugins = PluginSections({"gop-meter": example("GopMeterSettings").GopMeterSettings})
        path = Path(self.mktemp())
        path.write_text("[gop-meter]\nlimit = 500000\n")
        for environment, limit in (({}, 500_000), ({"RAPIDRTMP_GOP_METER_LIMIT": "7"}, 7)):
            settings = load_settings({}, environment, path, plugins).settings
            self.assertEqual(limit, settings.section("gop-meter").limit)
