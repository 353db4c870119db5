from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from rapidrtmp.events.formats import json_body
from rapidrtmp.events.http import _render
from rapidrtmp.events.log import EventLog
from rapidrtmp.events.values import EventFilter, describe_event
from rapidrtmp.interfaces import BadRequestError, Event, EventType, IEventLog
from rapidrtmp.metrics import Metrics
from rapidrtmp.names import StreamName
from tests.events.sse import read_events

NAME = StreamName("live", "k")


class LogCase(SynchronousTestCase):
    kept = 6

    def setUp(self) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        self.now_ms = 1_700_000_000_000
        self.log = EventLog(self.clock, lambda: self.now_ms, self.kept, self.metrics.events_total)

    def record(self, *types: EventType) -> None:
        for type in types:
            self.log.record(type, NAME, "192.0.2.1", {"a": 1})

    def types_after(self, id: int) -> list[str]:
        return [event.type.value for event in self.log.after(id)]


class LogTests(LogCase):
    def test_log_provides_the_interface(self) -> None:
        """It is what plugins are promised."""
        self.assertTrue(verifyObject(IEventLog, self.log))

    def test_order_in_which_it_happened(self) -> None:
        """Events come in the order in which they happened, whatever their kind, from any of them on."""
        first = self.log.last_id
        self.record(EventType.PUBLISH, EventType.PLAY, EventType.TRACKS, EventType.PLAY)
        self.assertEqual(["publish", "play", "tracks", "play"], self.types_after(first))
        self.assertEqual(["tracks", "play"], self.types_after(first + 2))
        self.assertEqual([], self.types_after(self.log.last_id))
        self.assertEqual(first, self.log.oldest_gone)

    def test_bound_on_kept_events(self) -> None:
        """What is kept is bounded, and what strangers cause pushes out nothing else."""
        self.record(EventType.PUBLISH, *[EventType.PLAY] * 50, EventType.UNPUBLISH)
        self.assertEqual(["publish", *["play"] * 3, "unpublish"], self.types_after(0))
        self.assertEqual(self.log.last_id - 4, self.log.oldest_gone)
        self.record(*[EventType.TRACKS] * 3)
        self.assertEqual([*["play"] * 3, *["tracks"] * 3], self.types_after(0))

    def test_ids_rise_over_restarts(self) -> None:
        """A server that starts later continues with higher ids, and knows that it does not have the earlier events."""
        self.record(*[EventType.TRACKS] * 900)
        self.now_ms += 1
        later = EventLog(self.clock, lambda: self.now_ms, 10, Metrics().events_total)
        self.assertGreater(later.last_id, self.log.last_id)
        self.assertGreaterEqual(later.oldest_gone, self.log.last_id)
        self.assertLess(later.last_id, 2**53)

    def test_wrong_type_is_a_bug(self) -> None:
        """A plugin's event of a type that there is not is a bug of the plugin's, and logged; its caller lives on."""
        self.log.record("relay", NAME)  # type: ignore[arg-type]
        self.log.record("nonsense", NAME)  # type: ignore[arg-type]
        self.assertEqual(["relay"], self.types_after(0))
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))

    def test_events_counted_by_type(self) -> None:
        """Each is counted by its type."""
        self.record(EventType.PUBLISH, EventType.PUBLISH)
        self.assertEqual(2, self.metrics.registry.get_sample_value("rapidrtmp_events_total", {"type": "publish"}))


class FollowerTests(LogCase):
    kept = 1000

    def setUp(self) -> None:
        super().setUp()
        self.heard: list[Event] = []
        self.portions: list[int] = []

    def follow(self, events: Sequence[Event]) -> None:
        self.heard += events
        self.portions.append(len(events))

    def test_later_in_their_own_turn(self) -> None:
        """A follower is called in a turn of its own, in order and in portions, of what came since it follows."""
        self.record(EventType.PUBLISH)
        self.log.follow(self.follow)
        self.record(*[EventType.TRACKS] * 450)
        self.assertEqual([], self.heard)
        self.clock.advance(0)
        self.assertEqual([200, 200, 50], self.portions)
        self.assertEqual(self.log.after(self.log.last_id - 450), self.heard)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_ended_follower_hears_nothing(self) -> None:
        """One that follows no more hears nothing, and one that fails keeps nothing from the others."""

        def fail(_events: Sequence[Event]) -> None:
            raise RuntimeError("no")

        stop = self.log.follow(fail)
        self.log.follow(self.follow)
        self.record(EventType.PUBLISH)
        self.clock.advance(0)
        self.assertEqual((1, 1), (len(self.heard), len(self.flushLoggedErrors(RuntimeError))))
        stop()
        self.record(EventType.PUBLISH)
        self.clock.advance(0)
        self.assertEqual(2, len(self.heard))

    def test_stop_delivers_what_is_left(self) -> None:
        """When the log stops, all that is left is delivered first."""
        self.log.follow(self.follow)
        self.record(*[EventType.TRACKS] * 450)
        self.log.stop()
        self.assertEqual(450, len(self.heard))
        self.assertEqual([], self.clock.getDelayedCalls())


class ValueTests(SynchronousTestCase):
    def test_json_has_the_known_names(self) -> None:
        """An event is shown with the names that clients rely on; what there is not is null."""
        event = Event(7, 1_700_000_000_123, EventType.PUBLISH, NAME, "192.0.2.1", {"client": "x"})
        self.assertEqual(
            {
                "id": 7,
                "time": "2023-11-14T22:13:20.123Z",
                "type": "publish",
                "app": "live",
                "stream": "k",
                "peer": "192.0.2.1",
                "data": {"client": "x"},
            },
            describe_event(event),
        )
        bare = describe_event(Event(8, 0, EventType.STORAGE, None))
        self.assertEqual((None, None, None, {}), (bare["app"], bare["stream"], bare["peer"], bare["data"]))

    def test_json_leaves_out_what_it_cannot_say(self) -> None:
        """Whatever a plugin puts into an event, it is JSON that others can read."""
        for data, expected in (
            ({"at": NAME, "path": Path("x")}, {"at": ["live", "k"], "path": "x"}),
            ({"rate": float("nan")}, {}),
            ({(1, 2): 3}, {}),
            ({"text": "line\nline \ud800"}, {"text": "line\nline ?"}),
        ):
            event = Event(7, 0, EventType.RELAY, NAME, "", data)  # type: ignore[arg-type]
            for text in (json_body(event).data.decode(), read_events(_render(event).decode())):
                said = json.loads(text) if isinstance(text, str) else text[0].data
                self.assertEqual(expected, said["data"])

    def test_filters_by_type_and_stream(self) -> None:
        """Types and streams can be chosen; a key alone is one of ``live``, and patterns may be given."""
        event = Event(7, 0, EventType.PUBLISH, StreamName("live", "cam-1"))
        for types, pattern, expected in (
            ("", "", True),
            ("publish", "", True),
            ("unpublish,publish", "", True),
            ("unpublish", "", False),
            ("", "cam-1", True),
            ("", "cam-*", True),
            ("", "live/cam-1", True),
            ("", "*/cam-1", True),
            ("", "radio/cam-1", False),
            ("", "cam", False),
        ):
            wanted = EventFilter.of_texts(types, pattern)
            self.assertEqual(expected, wanted.wants(event), (types, pattern))
        self.assertFalse(EventFilter.of_texts("", "cam-1").wants(Event(8, 0, EventType.STORAGE, None)))
        error = self.assertRaises(BadRequestError, EventFilter.of_texts, "publish,nonsense", "")
        self.assertIn("first_segment", str(error))
