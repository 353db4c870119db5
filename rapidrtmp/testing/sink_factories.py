"""
For the author of a sink factory: a contract, as tests to inherit.

:class:`SinkFactoryContract` holds what the server expects of what a sink plugin's spec is made into; its sinks are the
business of :class:`~rapidrtmp.testing.sinks.SinkContract`::

    class MySinkFactoryTests(SinkFactoryContract, SynchronousTestCase):
        def make_factory(self) -> ISinkFactory:
            return MySinkFactory(limit="5")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface.verify import verifyObject

from rapidrtmp.interfaces import (
    IPartSink,
    IRecoveringSinkFactory,
    ISink,
    ISinkFactory,
    IStoringSinkFactory,
    Purpose,
    RecoveryContext,
)
from rapidrtmp.names import StreamName
from rapidrtmp.storage.memory import MemoryStorage
from rapidrtmp.testing.sinks import STARTED_AT_MS, make_sink_context

__all__ = ["SinkFactoryContract"]

if TYPE_CHECKING:
    from unittest import TestCase as _Base  # typed, as trial's is not
else:
    _Base = object


class SinkFactoryContract(_Base):
    """What the server expects of a sink factory, one test each; mix into a trial ``SynchronousTestCase``."""

    def make_factory(self) -> ISinkFactory:
        """Return a new factory."""
        raise NotImplementedError

    def test_interfaces(self) -> None:
        """It provides ISinkFactory, and whatever it says it provides besides, name by name."""
        factory: Any = self.make_factory()
        verifyObject(ISinkFactory, factory)
        for besides in (IRecoveringSinkFactory, IStoringSinkFactory):
            if besides.providedBy(factory):
                verifyObject(besides, factory)

    def test_purpose(self) -> None:
        """What its sinks store things for is a purpose that there is, and is said so that the server asks for it."""
        factory: Any = self.make_factory()
        if hasattr(factory, "purpose"):
            self.assertTrue(IStoringSinkFactory.providedBy(factory), "purpose says nothing without IStoringSinkFactory")
            self.assertIn(factory.purpose, list(Purpose))

    def test_sinks(self) -> None:
        """Each stream gets a sink of its own, also one that begins anew."""
        factory: Any = self.make_factory()
        names = [StreamName("live", key) for key in ("one", "other", "one")]
        contexts = [make_sink_context(stream=name) for name in names]
        sinks = [factory.create(context) for context in contexts]
        self.assertEqual(len(sinks), len(set(map(id, sinks))), "a sink was handed out twice")
        for sink, context in zip(sinks, contexts, strict=True):
            self.assertTrue(ISink.providedBy(sink) or IPartSink.providedBy(sink))
            done: list[object] = []
            result = sink.finish()
            if isinstance(result, Deferred):
                result.addBoth(done.append)
                clock: Any = context.clock
                clock.pump([0.1] * 100)
                self.assertEqual([None], done, "finish must be done before long, without an error")

    def test_nothing_to_recover(self) -> None:
        """In an empty storage that answers at once, one that recovers finds nothing and is done at once."""
        factory: Any = self.make_factory()
        if not IRecoveringSinkFactory.providedBy(factory):
            return
        resumed: list[StreamName] = []
        done: list[object] = []
        context = RecoveryContext(
            app="live",
            storage=MemoryStorage(),
            utc_ms=lambda: STARTED_AT_MS,
            log=Logger("rapidrtmp.testing.sink_factories"),
            reached=lambda _number: None,
            resume=lambda stream, _objects: resumed.append(stream),
            discard=lambda _key: None,
            is_over=lambda: False,
            afterwards=lambda _work: None,
        )
        factory.recover(context).addBoth(done.append)
        self.assertEqual(([None], []), (done, resumed))
