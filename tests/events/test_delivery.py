from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.events import delivery as delivery_module
from rapidrtmp.events.delivery import Delivery, DeliveryError
from rapidrtmp.interfaces import Event, EventType
from rapidrtmp.names import StreamName


def event(number: int, key: str = "k", type: EventType = EventType.PUBLISH) -> Event:
    return Event(number, 0, type, StreamName("live", key) if key else None)


class DeliveryTests(SynchronousTestCase):
    """A hook that answers as the test says."""

    attempts = 4

    def setUp(self) -> None:
        self.clock = Clock()
        self.sent: list[tuple[int, Deferred[None]]] = []
        self.delivery = self.make(None)

    def make(self, types: frozenset[EventType] | None) -> Delivery:
        return Delivery(
            "hook 1",
            types,
            self.send,
            attempts=self.attempts,
            clock=self.clock,
            utc_ms=lambda: 5,
            random=lambda: 1.0,
        )

    def send(self, event: Event) -> Deferred[None]:
        answer: Deferred[None] = Deferred()
        self.sent.append((event.id, answer))
        return answer

    @property
    def ids(self) -> list[int]:
        return [id for id, _ in self.sent]

    def answer(self, id: int, error: Exception | None = None) -> None:
        """Answer the latest attempt to deliver an event."""
        deferred = next(deferred for sent, deferred in reversed(self.sent) if sent == id)
        if error is None:
            deferred.callback(None)
        else:
            deferred.errback(error)

    def test_order_of_a_stream(self) -> None:
        """The events of one stream come one after the other; those of others do not wait for them."""
        for number, key in ((1, "a"), (2, "a"), (3, "b"), (4, ""), (5, "a")):
            self.delivery.take(event(number, key))
        self.assertEqual([1, 3, 4], self.ids)
        self.answer(3)
        self.answer(1)
        self.assertEqual([1, 3, 4, 2], self.ids)
        self.answer(2)
        self.answer(5)
        self.answer(4)
        self.assertEqual((5, 0, 0), (self.delivery.delivered, self.delivery.waiting, self.delivery.retried))

    def test_again_later_each_time(self) -> None:
        """What is not taken is tried again, later each time, and what follows of its stream waits for that."""
        self.delivery.take(event(1))
        self.delivery.take(event(2))
        for delay_s in (1, 2, 4):
            self.answer(1, DeliveryError("answered 500"))
            attempts = len(self.sent)
            self.clock.advance(delay_s - 0.01)
            self.assertEqual(attempts, len(self.sent))
            self.clock.advance(0.01)
            self.assertEqual(attempts + 1, len(self.sent))
        self.assertEqual("answered 500", self.delivery.last_error)
        self.answer(1)
        self.answer(2)
        self.assertEqual([1, 1, 1, 1, 2], self.ids)
        self.assertEqual((2, 3, ""), (self.delivery.delivered, self.delivery.retried, self.delivery.last_error))

    def test_dead_letter_after_attempts(self) -> None:
        """After a number of attempts an event is given up, counted and listed, and the next has its turn."""
        self.delivery.take(event(1))
        self.delivery.take(event(2))
        with capturedLogs() as logs:
            for _ in range(4):
                self.answer(1, DeliveryError("answered 500"))
                self.clock.advance(60)
        self.assertEqual([1, 1, 1, 1, 2], self.ids)
        (letter,) = self.delivery.dead_letters
        self.assertEqual((1, 4, "answered 500", 5), (letter.event.id, letter.attempts, letter.error, letter.time_ms))
        self.assertEqual((1, 1), (self.delivery.dead, self.delivery.waiting))
        self.assertEqual(2, len(logs), "when it begins to fail, and when it gives up")

    def test_retry_after_is_kept(self) -> None:
        """A server that says when to come back is left alone until then, in bounds."""
        self.delivery.take(event(1))
        for asked_s, waits_s in ((30.0, 30), (10_000.0, 60)):
            self.answer(1, DeliveryError("answered 503", asked_s))
            attempts = len(self.sent)
            self.clock.advance(waits_s - 1)
            self.assertEqual(attempts, len(self.sent))
            self.clock.advance(1)
            self.assertEqual(attempts + 1, len(self.sent))

    def test_types_choose_the_events(self) -> None:
        """A hook gets what it wants alone."""
        delivery = self.make(frozenset({EventType.UNPUBLISH}))
        delivery.take(event(1))
        delivery.take(event(2, type=EventType.UNPUBLISH))
        self.assertEqual([2], self.ids)

    def test_bounds_on_waiting_events(self) -> None:
        """So many are under way at a time, and so many wait; what there is no room for is a dead letter at once."""
        self.patch(delivery_module, "MOST_WAITING", 20)
        for number in range(25):
            self.delivery.take(event(number, f"k{number}"))
        self.assertEqual(list(range(8)), self.ids)
        self.assertEqual((20, 5), (self.delivery.waiting, self.delivery.dead))
        self.assertEqual([0] * 5, [letter.attempts for letter in self.delivery.dead_letters])
        for number in range(20):
            self.answer(number)
        self.assertEqual(20, self.delivery.delivered)

    def test_stream_that_fails_holds_up_no_other(self) -> None:
        """While one stream waits to be tried again, others have all the room there is."""
        for number in range(8):
            self.delivery.take(event(number, f"bad{number}"))
            self.answer(number, DeliveryError("no"))
        self.delivery.take(event(99, "good"))
        self.answer(99)
        self.assertEqual(1, self.delivery.delivered)

    def test_drain_delivers_what_waits(self) -> None:
        """When the server stops, what waits is delivered or tried once more, and nothing more is taken."""
        for number, key in ((1, "a"), (2, "a"), (3, "b")):
            self.delivery.take(event(number, key))
        self.answer(3, DeliveryError("no"))
        done = self.delivery.drain()
        self.delivery.take(event(4))
        self.answer(3, DeliveryError("no"))
        self.answer(1)
        self.assertNoResult(done)
        self.answer(2)
        self.successResultOf(done)
        self.assertEqual((2, 1, 0), (self.delivery.delivered, self.delivery.dead, self.delivery.waiting))
        self.assertEqual([], self.clock.getDelayedCalls())
        self.successResultOf(self.delivery.drain())

    def test_stop_leaves_nothing_behind(self) -> None:
        """One that is stopped gives up what waits, and leaves nothing behind."""
        for number, key in ((1, "a"), (2, "b"), (3, "a")):
            self.delivery.take(event(number, key))
        self.answer(2, DeliveryError("no"))
        with capturedLogs() as logs:
            self.delivery.stop()
        self.assertIn(3, [each.get("count") for each in logs])
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual([1, 2], self.ids)

    def test_raising_is_failing_too(self) -> None:
        """What raises at once has failed like any other."""

        def send(_event: Event) -> Deferred[None]:
            raise DeliveryError("cannot be started")

        self.patch(self.delivery, "_send", send)
        self.delivery.take(event(1))
        self.clock.pump([1, 2, 4])
        self.assertEqual(1, self.delivery.dead)
