"""
The tests of one of the processes of ``python -m tests``, as trial takes them: class by class, each claimed from a pipe.

All processes know the same classes in the same order. The pipe holds the number of each class once, in two bytes, which
are read at one go: what one process has claimed no other gets, and none waits while there is something to do.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Iterator
from typing import Any

from twisted.trial.itrial import ITestCase
from twisted.trial.runner import TestLoader, TestSuite
from zope.interface import implementer

from tests.slow import is_slow

__all__ = ["CLAIMS", "NAMES", "SPEED", "ClaimedTests", "chosen_tests", "every_test", "test_suite", "write_claims"]

#: Variables of the environment: the descriptor to claim from, which modules and packages, and which tests of those.
CLAIMS, NAMES, SPEED = "TESTS_CLAIMS", "TESTS_NAMES", "TESTS_SPEED"
_CLAIM_BYTES = 2
#: A pipe holds as many without a reader.
_MOST_CLASSES = 20_000


def every_test(names: Iterable[str]) -> Iterator[Any]:
    """All tests in modules and packages, and in the packages in those."""
    return _flat(TestLoader().loadByNames(list(names), recurse=True))


def _flat(suite: Any) -> Iterator[Any]:
    if not hasattr(suite, "_tests"):
        yield suite
        return
    for each in suite:
        yield from _flat(each)


def chosen_tests(names: Iterable[str], speed: str) -> list[Any]:
    """The ``"quick"`` or the ``"slow"`` tests in modules and packages, or ``"any"``; what cannot be loaded is quick."""
    return [test for test in every_test(names) if speed in ("any", "slow" if is_slow(test) else "quick")]


def _classes_of(tests: Iterable[Any]) -> list[list[Any]]:
    """Tests by their class, in the order in which the classes come first."""
    classes: dict[str, list[Any]] = {}
    for test in tests:
        classes.setdefault(test.id().rpartition(".")[0], []).append(test)
    return list(classes.values())


def write_claims() -> int:
    """A pipe with more numbers than there are classes; where to read them, up to its end."""
    reading, writing = os.pipe()
    os.write(writing, b"".join(number.to_bytes(_CLAIM_BYTES, "big") for number in range(_MOST_CLASSES)))
    os.close(writing)
    return reading


@implementer(ITestCase)
class ClaimedTests:
    """Runs the classes that it can claim; to trial it is one test, and each test in it reports for itself."""

    skip = None
    failureException = AssertionError

    def __init__(self, tests: Iterable[Any], claims: int) -> None:
        self._classes = _classes_of(tests)
        self._claims = claims

    def __call__(self, result: Any) -> None:
        self.run(result)

    def countTestCases(self) -> int:
        return sum(map(len, self._classes))

    def id(self) -> str:
        return __name__

    def shortDescription(self) -> str:
        return "claimed tests"

    def run(self, result: Any) -> None:
        while claimed := os.read(self._claims, _CLAIM_BYTES):
            number = int.from_bytes(claimed, "big")
            if number >= len(self._classes) or result.shouldStop:
                return
            TestSuite(map(ITestCase, self._classes[number])).run(result)


def test_suite() -> ClaimedTests:
    """What trial runs when it is given this module."""
    chosen = chosen_tests(os.environ[NAMES].split(","), os.environ[SPEED])
    gc.freeze()  # what was imported stays: no collection need look at it again
    return ClaimedTests(chosen, int(os.environ[CLAIMS]))
