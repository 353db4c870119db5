"""The server does no more for each message and request than the table says, and this check can fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import SkipTest

from twisted.python.runtime import platform
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rapidrtmp.auth.keys import FixedKeys
from rapidrtmp.auth.token import TokenAuthenticator
from rapidrtmp.interfaces import Action, ISink, TokenTerms
from rapidrtmp.media import Frame, Track
from tests.work.meter import unavailable

if platform.isLinux():
    from tests.work.budget import TABLE, VERSION, excesses, read_table, write_table
    from tests.work.counts import (
        BYTES_HELD,
        CYCLES,
        INSTRUCTIONS,
        PYTHON_CALLS,
        SYSTEM_CALLS,
        Counts,
        count_all,
        count_memory,
        count_steps,
        memory_traced,
    )
    from tests.work.meter import MemoryMeter, StepMeter
    from tests.work.scenes import MESSAGE, PART_REQUEST, PLAYLIST_REQUEST, play, play_with_tokens
    from tests.work.world import NAME, STARTED_AT_S, World


@implementer(ISink)
class IdleSink:
    """Does something with each frame that no one needs."""

    def __init__(self, work: Callable[[Frame], object]) -> None:
        self.work = work

    def tracks_changed(self, tracks: tuple[Track, ...]) -> None: ...

    def frame_received(self, frame: Frame) -> None:
        self.work(frame)

    def discontinuity(self) -> None: ...

    def interrupted(self) -> None: ...

    def finish(self) -> None: ...


def nothing() -> None: ...


def call_nothing(times: int) -> Callable[[Frame], object]:
    def work(frame: Frame) -> None:
        for _ in range(times):
            nothing()

    return work


def leave_a_cycle(frame: Frame) -> None:
    cycle: list[Any] = [frame]
    cycle.append(cycle)


class WorkTests(SynchronousTestCase):
    if not platform.isLinux():
        skip = "epoll is Linux's"

    def setUp(self) -> None:
        reason = unavailable()
        if reason:
            raise SkipTest(reason)
        self.table = read_table(TABLE.read_text()).get(VERSION, {})
        if not self.table:
            raise SkipTest(f"python -m tests.work --write has not been run under Python {VERSION} yet")

    def steps(self, work: Callable[[Frame], object]) -> Counts:
        """What is counted with a sink that does this with each frame."""
        return count_steps(play(StepMeter, self.attach(work)))

    def memory(self, work: Callable[[Frame], object]) -> Counts:
        """Likewise."""
        with memory_traced():
            return count_memory(play(MemoryMeter, self.attach(work)))

    def attach(self, work: Callable[[Frame], object]) -> Callable[[World], object]:
        return lambda world: world.stream.attach("idle", IdleSink(work))

    def test_budget_of_every_request(self) -> None:
        """For a message, a playlist, a part, a reload that is held: no more steps, memory or garbage than allowed."""
        found = [str(excess) for excess in excesses(count_all(), self.table)]
        if found:
            self.fail(
                "\n".join([*found, "How to find what made the difference: docs/performance.md, How it stays fast"])
            )

    def test_to_the_last_instruction(self) -> None:
        """One call more for each frame is one call more in the count; what it does not touch stays exactly the same."""
        without, with_one = self.steps(call_nothing(0)), self.steps(call_nothing(1))
        more = {row: with_one.rows[row] - count for row, count in without.rows.items()}
        self.assertEqual(1.0, round(more[MESSAGE, PYTHON_CALLS], 9))
        untouched = {row: change for row, change in more.items() if row[0] in (PLAYLIST_REQUEST, PART_REQUEST)}
        self.assertEqual({0.0}, set(untouched.values()))
        changed = set(
            with_one.functions[MESSAGE, INSTRUCTIONS].items() ^ without.functions[MESSAGE, INSTRUCTIONS].items()
        )
        self.assertEqual({"nothing", "call_nothing.<locals>.work"}, {name.rpartition(":")[2] for name, _ in changed})

    def test_tokens_cost_few_instructions(self) -> None:
        """A viewer's token costs less than a hundred instructions a request, some two microseconds."""
        key = b"the key of the server"
        tokens = TokenAuthenticator(FixedKeys([key]), lambda: int(STARTED_AT_S * 1000))
        token = tokens.issue_token(NAME, 86_400, TokenTerms(Action.PLAY))
        counts = [
            count_steps({PLAYLIST_REQUEST: play_with_tokens(StepMeter, play, shown)}).rows
            for play, shown in ((("open",), ""), ((f"token:secret={key.decode()}",), token))
        ]
        more = {row: counts[1][row] - count for row, count in counts[0].items()}
        self.assertLess(more[PLAYLIST_REQUEST, INSTRUCTIONS], 100)
        self.assertLessEqual(more[PLAYLIST_REQUEST, PYTHON_CALLS], 4)
        self.assertEqual(0, more[PLAYLIST_REQUEST, SYSTEM_CALLS])

    def test_steps_in_excess(self) -> None:
        """Forty calls more for each frame are too many, and whose they are is said."""
        calls, *others = excesses(self.steps(call_nothing(40)), self.table)
        self.assertEqual((MESSAGE, PYTHON_CALLS), calls.row)
        self.assertIn((MESSAGE, INSTRUCTIONS), [excess.row for excess in others])
        text = str(calls)
        self.assertIn(f"message: Python calls rose from {calls.allowed:.2f} to {calls.counted:.2f}", text)
        self.assertRegex(text, r"\n {6}40\.0  tests.work.test_work\.py:nothing\n")

    def test_memory_in_excess(self) -> None:
        """A number kept of each frame is too much, and so is a cycle left behind by each."""
        kept: list[int] = []
        (held,) = excesses(self.memory(lambda frame: kept.append(frame.dts)), self.table)
        self.assertEqual((MESSAGE, BYTES_HELD), held.row)
        self.assertIn((MESSAGE, CYCLES), [each.row for each in excesses(self.memory(leave_a_cycle), self.table)])

    def test_table_reads_as_written(self) -> None:
        """The table is written as it is read."""
        text = TABLE.read_text()
        self.assertEqual(text, write_table(read_table(text)))
