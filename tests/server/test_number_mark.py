"""The mark above all numbers that are used, over restarts with any clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.live.numbering import EPOCH_MS, Numbering
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.server.number_mark import EVERY_S, NumberMark
from tests.net.edge import media
from tests.serving import ServerCase, loopback_settings


class NumberMarkTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "data" / "numbers"
        self.clock = Clock()
        self.utc_ms = EPOCH_MS + 10_000_000
        self.used = 0

    def start(self, in_thread: Any = None) -> tuple[Numbering, NumberMark]:
        numbering = Numbering(lambda: self.utc_ms)

        def at_once(call: Any, *args: Any) -> Deferred[Any]:
            return succeed(call(*args))

        mark = NumberMark(self.path, numbering, self.clock, in_thread or at_once, lambda: self.used)
        mark.start()
        return numbering, mark

    def test_killed_server_numbers_begin_above(self) -> None:
        """After a kill numbers begin above all that a stream can have used, however early the clock is."""
        numbering, _ = self.start()
        first = numbering.first()
        for _ in range(100):
            self.clock.advance(EVERY_S)
            self.utc_ms += EVERY_S * 1000
        used = first + 100 * EVERY_S * 2
        for back_ms in (1_000, 3_600_000, self.utc_ms):
            self.utc_ms -= back_ms
            self.assertGreater(self.start()[0].first(), used)
            self.utc_ms += back_ms

    def test_stopped_server_numbers_continue(self) -> None:
        """After a stop in order numbers continue from where the clock was."""
        numbering, mark = self.start()
        numbering.first()
        self.successResultOf(mark.stop())
        self.utc_ms -= 5_000_000
        self.assertEqual(20_001, self.start()[0].first())

    def test_set_back_while_it_runs(self) -> None:
        """A clock that was set back while streams were there does not bring the mark down."""
        numbering, mark = self.start()
        numbering.first()
        self.utc_ms -= 9_000_000
        self.successResultOf(mark.stop())
        self.assertGreater(self.start()[0].first(), 20_000)

    def test_faster_than_the_clock(self) -> None:
        """What a publisher faster than real time has used is below the mark, after a kill and a stop in order."""
        numbering, mark = self.start()
        numbering.first()
        self.used = 90_000
        self.clock.advance(EVERY_S)
        self.assertGreater(self.start()[0].first(), 90_000)
        self.successResultOf(mark.stop())
        self.assertEqual(90_002, self.start()[0].first())

    def test_no_streams_write_nothing(self) -> None:
        """A server without streams writes nothing."""
        _, mark = self.start()
        self.clock.advance(EVERY_S)
        self.successResultOf(mark.stop())
        self.assertFalse(self.path.exists())

    def test_what_is_no_mark(self) -> None:
        """A file that holds something else counts as none."""
        self.path.parent.mkdir(parents=True)
        for text in ("", "-5", "x", "9" * 100, "\xff"):
            self.path.write_text(text, "latin-1")
            self.assertEqual(20_000, self.start()[0].first())

    def test_cannot_be_written(self) -> None:
        """Where it cannot be written that is said once, and streams continue."""
        numbering, mark = self.start(lambda *_: fail(OSError(30, "Read-only file system")))
        with capturedLogs() as logs:
            numbering.first()
            numbering.first()
        self.assertEqual(1, len(logs))
        self.successResultOf(mark.stop())


class RestartTests(ServerCase):
    async def test_memory_streams_leave_a_mark(self) -> None:
        """A server with streams in memory alone leaves its mark, so that the next one begins above them."""
        settings = loopback_settings()
        service = self.start(settings)
        await self.publish(service, b"".join(media(5)))
        _, body = await self.get(service, "/live/k/index.m3u8")
        used = parse_media_playlist(body).next_sequence
        await service.stopService()
        self.assertGreater(int(read_file(settings.server.numbers_file)), used)


def read_file(path: str) -> bytes:
    return Path(path).read_bytes()
