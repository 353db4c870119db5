"""The doubles around a sink, and the contract: it passes a sink that is right and fails one that is not."""

from __future__ import annotations

import gc
import unittest
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from rapidrtmp.errors import StorageError
from rapidrtmp.interfaces import IMetricsScope, ISink, ISinkFactory, IStorageWriter, SinkContext
from rapidrtmp.media import Frame
from rapidrtmp.testing.frames import FrameSource, make_audio_track, make_video_track
from rapidrtmp.testing.sinks import (
    FrameCollector,
    FrameCollectorFactory,
    RecordingMetrics,
    RecordingWriter,
    SinkContract,
    feed,
    make_sink_context,
)
from tests.slow import slow


class FrameCollectorTests(SinkContract, SynchronousTestCase):
    """It keeps the contract, and remembers."""

    def make_sink(self, context: SinkContext) -> ISink:
        return FrameCollectorFactory().create(context)

    def test_collector_remembers_its_calls(self) -> None:
        """It remembers its calls, in order."""
        source, sink = FrameSource(make_video_track(), make_audio_track(), gop=10), FrameCollector()
        frames = source.take()
        sink.tracks_changed(source.tracks)
        feed(sink, frames)
        sink.interrupted()
        sink.discontinuity()
        feed(sink, frames[:1])
        sink.finish()
        self.assertEqual([*frames, frames[0]], sink.frames)
        told = ["tracks_changed", "frame_received", "interrupted", "discontinuity", "frame_received", "finish"]
        self.assertEqual(told, sink.call_names)
        self.assertEqual(("tracks_changed", source.tracks), sink.calls[0])

    def test_factory_keeps_its_collectors(self) -> None:
        """The factory keeps the collector of each stream."""
        factory = FrameCollectorFactory()
        verifyObject(ISinkFactory, factory)
        context = make_sink_context()
        self.assertIs(factory.create(context), factory.collectors[context.stream])


class RecordingWriterTests(SynchronousTestCase):
    def test_objects_kept_at_once(self) -> None:
        """By default it keeps and forgets objects at once."""
        writer = RecordingWriter(persistent=False)
        verifyObject(IStorageWriter, writer)
        self.assertFalse(writer.persistent)
        self.successResultOf(writer.put("a", [b"1", b"2"], "text/plain"))
        self.assertEqual({"a": b"12"}, writer.objects)
        writer.delete("a")
        writer.delete("b")
        self.assertEqual({}, writer.objects)
        self.assertEqual([("put", "a"), ("delete", "a"), ("delete", "b")], writer.operations)

    def test_objects_held_and_lost(self) -> None:
        """It can hold what it is given, in order, and lose it."""
        writer = RecordingWriter(holds=True)
        first, second = writer.put("a", [b"1"], ""), writer.put("b", [b"2"], "")
        self.assertNoResult(first)
        self.assertEqual(["a", "b"], writer.waiting)
        writer.settle(lost=True)
        self.failureResultOf(first, StorageError)
        writer.settle_all()
        self.successResultOf(second)
        self.assertEqual({"b": b"2"}, writer.objects)


class RecordingMetricsTests(SynchronousTestCase):
    def test_metrics_remember_what_they_saw(self) -> None:
        """Counters and histograms are the same each time they are asked for, and remember what they observed."""
        metrics = RecordingMetrics()
        verifyObject(IMetricsScope, metrics)
        metrics.counter("things_total", "").inc()
        metrics.counter("things_total", "").inc(2)
        metrics.histogram("size_bytes", "", (1, 2)).observe(1.5)
        self.assertEqual(
            (3, [1.5], []), (metrics.total("things_total"), metrics.observed("size_bytes"), metrics.observed("x"))
        )


@implementer(ISink)
class _Faulty(FrameCollector):
    """A sink with faults that the contract must find."""

    def __init__(self, context: SinkContext, fault: str) -> None:
        super().__init__()
        self._context = context
        self._fault = fault

    def frame_received(self, frame: Frame) -> None:
        super().frame_received(frame)
        if self._fault == "video only" and frame.track.id == 2:
            raise ValueError("I did not expect sound")
        if self._fault == "forgets errors":
            self._context.storage.put("k", [frame.data], "").addErrback(lambda failure: failure.trap(KeyError))

    def interrupted(self) -> None:
        if self._fault == "needs frames":
            self.frames[0]

    def finish(self) -> Any:
        if self._fault == "never done":
            return Deferred()
        if self._fault == "leaves a timer":
            self._context.clock.callLater(1, lambda: None)
        return None


class ContractTests(SynchronousTestCase):
    """The suite finds what it is for."""

    def failures_of(self, fault: str) -> set[str]:
        """The tests that a sink with ``fault`` does not pass."""

        class Case(SinkContract, SynchronousTestCase):
            def make_sink(self, context: SinkContext) -> ISink:
                return _Faulty(context, fault)

        result = unittest.TestResult()
        for name in (name for name in dir(Case) if name.startswith("test_")):
            Case(name).run(result)
        gc.collect()  # unhandled errors are logged here, and not in some other test
        self.flushLoggedErrors()
        return {str(case).split()[0] for case, _ in result.failures + result.errors}

    @slow
    def test_faults_fail_the_sink_contract(self) -> None:
        """A sink that is right passes; each fault fails the tests it should."""
        self.assertEqual(set(), self.failures_of("none"))
        self.assertIn("test_ordinary_streams", self.failures_of("video only"))
        self.assertEqual({"test_interrupted"}, self.failures_of("needs frames"))
        self.assertIn("test_nothing_came", self.failures_of("never done"))
        self.assertIn("test_nothing_came", self.failures_of("leaves a timer"))
        self.assertIn("test_storage_fails", self.failures_of("forgets errors"))
