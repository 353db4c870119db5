"""Players of streams that are not here, and are to be had elsewhere."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import NotFoundError
from rapidrtmp.names import StreamName
from rapidrtmp.play.players import Players
from tests.net.edge import NAME, Edge, media


class DemandTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.edge = Edge()
        self.addCleanup(self.edge.close)
        self.players = Players(self.edge.registry, self.edge.clock)
        self.asked: list[tuple[StreamName, tuple[str, ...]]] = []
        self.gone = 0
        self.coming: Deferred[None] = Deferred(self.cancelled)
        self.players.demand = self.demand

    def cancelled(self, _: object) -> None:
        self.gone += 1

    def demand(self, name: StreamName, via: tuple[str, ...]) -> Deferred[None]:
        self.asked.append((name, via))
        return self.coming

    def test_player_has_its_stream_fetched(self) -> None:
        """A player of a stream that is not here has it fetched, and plays when its tracks are known."""
        found = self.players.find(NAME, {}, ("edge",))
        self.assertEqual([(NAME, ("edge",))], self.asked)
        publisher = self.edge.publisher()
        self.coming.callback(None)
        self.assertNoResult(found)
        publisher.say(*media())
        self.edge.wait(1)
        self.assertIs(self.edge.registry.find(NAME), self.successResultOf(found))

    def test_stream_that_is_nowhere_is_said_at_once(self) -> None:
        """Where it cannot be had the player does not wait any longer."""
        found = self.players.find(NAME, {})
        self.coming.callback(None)
        self.failureResultOf(found, NotFoundError)

    def test_player_that_leaves_takes_it_back(self) -> None:
        """A player that does not wait any more wants nothing fetched, be it by its own will or by ours."""
        found = self.players.find(NAME, {})
        found.cancel()
        self.failureResultOf(found, CancelledError)
        self.assertEqual(1, self.gone)
        self.coming = Deferred(self.cancelled)
        found = self.players.find(NAME, {})
        self.edge.wait(12)
        self.failureResultOf(found, NotFoundError)
        self.assertEqual(2, self.gone)

    def test_stream_that_is_here_is_not_fetched(self) -> None:
        """A stream that is here, with or without tracks so far, is not asked for elsewhere."""
        self.edge.publisher()
        self.players.find(NAME, {}).addErrback(lambda _: None).cancel()
        self.assertEqual([], self.asked)
