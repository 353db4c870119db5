"""The contract of sink factories: it passes one that is right and fails one that is not."""

from __future__ import annotations

import unittest
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides, implementer

from rapidrtmp.interfaces import (
    IRecoveringSinkFactory,
    ISinkFactory,
    IStoringSinkFactory,
    Purpose,
    RecoveryContext,
    SinkContext,
)
from rapidrtmp.names import StreamName
from rapidrtmp.testing.sink_factories import SinkFactoryContract
from rapidrtmp.testing.sinks import FrameCollector, FrameCollectorFactory


class CollectorFactoryTests(SinkFactoryContract, SynchronousTestCase):
    def make_factory(self) -> ISinkFactory:
        return FrameCollectorFactory()


@implementer(ISinkFactory, IStoringSinkFactory, IRecoveringSinkFactory)
class _Faulty:
    """A factory with one fault."""

    purpose: Any = Purpose.RECORDINGS

    def __init__(self, fault: str) -> None:
        self._fault = fault
        self._sink = FrameCollector()
        if fault == "unknown purpose":
            self.purpose = "archive"

    def create(self, context: SinkContext) -> FrameCollector:
        return self._sink if self._fault == "one sink" else FrameCollector()

    def recover(self, context: RecoveryContext) -> Deferred[None]:
        if self._fault == "finds what is not there":
            context.resume(StreamName("live", "k"), {})
        return Deferred() if self._fault == "looks for ever" else succeed(None)


class _Unsaid(FrameCollectorFactory):
    """Has a purpose that does not exist."""

    purpose = Purpose.RECORDINGS


class _Empty(FrameCollectorFactory):
    """Says that it has a purpose, and has none."""

    def __init__(self) -> None:
        super().__init__()
        alsoProvides(self, IStoringSinkFactory)


class ContractTests(SynchronousTestCase):
    """The suite finds what it is for."""

    def failures_of(self, factory: Any) -> set[str]:
        """The tests that a factory does not pass."""

        class Case(SinkFactoryContract, SynchronousTestCase):
            def make_factory(self) -> ISinkFactory:
                return factory

        result = unittest.TestResult()
        for name in (name for name in dir(Case) if name.startswith("test_")):
            Case(name).run(result)
        return {str(case).split()[0] for case, _ in result.failures + result.errors}

    def test_faults_fail_the_factory_contract(self) -> None:
        """A factory that is right passes; each fault fails the test it should."""
        self.assertEqual(set(), self.failures_of(_Faulty("none")))
        self.assertEqual({"test_purpose"}, self.failures_of(_Faulty("unknown purpose")))
        self.assertEqual({"test_purpose"}, self.failures_of(_Unsaid()))
        self.assertEqual({"test_interfaces"}, self.failures_of(_Empty()))
        self.assertEqual({"test_sinks"}, self.failures_of(_Faulty("one sink")))
        self.assertEqual({"test_nothing_to_recover"}, self.failures_of(_Faulty("looks for ever")))
        self.assertEqual({"test_nothing_to_recover"}, self.failures_of(_Faulty("finds what is not there")))
