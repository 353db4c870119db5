"""
Feeding a reader however a network may cut what it reads.

TCP keeps order and nothing else: a message may come whole, byte by byte, or with the next one already behind it. A
reader that passes in all three ways, and at cuts that Hypothesis picks, is right for every network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from unittest import TestCase

from hypothesis import strategies as st

__all__ = ["assert_read_three_ways", "cuts_of", "fed", "in_bytes", "in_pieces"]

Event = TypeVar("Event")
#: Takes some bytes and yields what they completed: a fresh reader's ``receive_data`` and ``events`` in one.
Feed = Callable[[bytes], Iterable[Event]]


def in_pieces(data: bytes, size: int) -> list[bytes]:
    """``data`` as a network with segments of ``size`` bytes delivers them."""
    return [data[start : start + size] for start in range(0, len(data), size)]


def in_bytes(data: bytes) -> list[bytes]:
    """``data`` one by one."""
    return in_pieces(data, 1)


def cuts_of(data: bytes, most: int = 12) -> st.SearchStrategy[list[bytes]]:
    """All ways of cutting ``data`` in at most ``most`` places, for Hypothesis; a piece may be empty."""
    places = st.lists(st.integers(0, len(data)), max_size=most).map(sorted)

    def cut(at: list[int]) -> list[bytes]:
        return [data[start:end] for start, end in zip([0, *at], [*at, len(data)], strict=True)]

    return places.map(cut)


def fed(feed: Feed[Event], pieces: Iterable[bytes]) -> list[Event]:
    """All events that ``pieces`` brought about, in order."""
    return [event for piece in pieces for event in feed(piece)]


def assert_read_three_ways(
    case: TestCase,
    new_feed: Callable[[], Feed[Any]],
    data: bytes,
    expected: list[Any],
    behind: bytes = b"",
    behind_expected: Iterable[Any] = (),
) -> None:
    """
    Hold a reader to the same events whole, byte by byte, and with something behind it.

    :param new_feed: makes a fresh reader and returns how to feed it.
    :param data: one or more complete units; all but the last event may come early, the last only at the end.
    :param expected: the events they mean, at least one.
    :param behind: bytes that follow; alone they mean ``behind_expected``.
    """
    case.assertEqual(expected, fed(new_feed(), [data]), "fed whole")
    slow = new_feed()
    early = fed(slow, in_bytes(data[:-1]))
    case.assertEqual(expected[:-1], early, "fed byte by byte, without the last")
    case.assertEqual(expected, early + fed(slow, [data[-1:]]), "fed byte by byte")
    case.assertEqual([*expected, *behind_expected], fed(new_feed(), [data + behind]), "fed with more behind")
