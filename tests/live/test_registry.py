"""Which names are live: who gets one, who keeps it, and when it is free."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.interfaces import AppLimits, Playlist
from rapidrtmp.live.registry import LimitReachedError, NameTakenError, Registry
from rapidrtmp.live.shelf import Shelf
from rapidrtmp.live.stream import LiveStream, StreamState
from rapidrtmp.live.viewers import Viewers
from rapidrtmp.names import StreamName
from rapidrtmp.testing.frames import make_video_track, video_frames
from rapidrtmp.testing.sinks import FrameCollector
from tests.applications import FakeApplication
from tests.slow import slow

VIDEO = make_video_track()
NAME, OTHER = StreamName("live", "a"), StreamName("live", "b")


class FakePublisher:
    """
    A publisher; ``releases`` says whether it gives its name up by itself when it is disconnected, as real ones do.

    :ivar reasons: why it was disconnected.
    :ivar leaves_within_ms: how long it may take to its next keyframe; ``None`` if it need not go.
    """

    def __init__(self, credential: str = "c", silent_ms: int = 0) -> None:
        self.peer = "192.0.2.1"
        self.credential = credential
        self.silence_ms = silent_ms
        self.reasons: list[str] = []
        self.leaves_within_ms: int | None = None
        self.releases: Any = lambda: None

    def silent_ms(self) -> int:
        return self.silence_ms

    def disconnect(self, reason: str) -> None:
        self.reasons.append(reason)
        self.releases()

    def disconnect_at_keyframe(self, reason: str, within_ms: int) -> None:
        self.reasons.append(reason)
        self.leaves_within_ms = within_ms


class RegistryCase(SynchronousTestCase):
    limits = AppLimits(grace_ms=6_000, linger_ms=60_000, takeover_silence_ms=1_000, max_streams=0)
    max_streams = 0

    def setUp(self) -> None:
        self.clock = Clock()
        self.sinks: dict[LiveStream, FrameCollector] = {}
        self.registry = Registry(
            self.clock,
            {
                "live": FakeApplication("live", self.make_stream, self.limits),
                "other": FakeApplication("other", self.make_stream),
            },
            lambda stream: 2_000,
            max_streams=self.max_streams,
        )

    def make_stream(self, name: StreamName) -> LiveStream:
        stream = LiveStream(name, Shelf(), Viewers(b""), started_at_ms=0)
        sink = self.sinks[stream] = FrameCollector()
        stream.attach("collector", sink)
        return stream

    def publish(
        self, name: StreamName = NAME, publisher: FakePublisher | None = None
    ) -> tuple[LiveStream, FakePublisher]:
        """Claim a name and send a little."""
        publisher = publisher or FakePublisher()
        stream = self.registry.claim(name, publisher)
        stream.tracks_changed((VIDEO,))
        for frame in video_frames(VIDEO, 0.1):
            stream.frame_received(frame)
        return stream, publisher


class LifeTests(RegistryCase):
    def test_life_of_a_stream(self) -> None:
        """A stream is live, waits for its publisher, ends, stays to be seen, and is forgotten."""
        stream, publisher = self.publish()
        self.assertIs(stream, self.registry.find(NAME))
        self.assertEqual(([stream], 1), (list(self.registry), self.registry.live()))
        self.registry.release(stream, publisher)
        self.assertIs(StreamState.INTERRUPTED, stream.state)
        self.clock.advance(5.9)
        self.assertIs(StreamState.INTERRUPTED, stream.state)
        self.clock.advance(0.2)
        self.assertIs(StreamState.ENDED, stream.state)
        self.assertEqual((0, 1), (self.registry.live(), self.registry.ended))
        stream.shelf.put("x", [b""], "")
        self.clock.advance(59)
        self.assertIs(stream, self.registry.find(NAME))
        self.clock.advance(2)
        self.assertIsNone(self.registry.find(NAME))
        self.assertIsNone(stream.shelf.find("x"))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_return_in_grace(self) -> None:
        """Who returns in time continues with the same stream, whatever its credential; nothing ends it later."""
        stream, publisher = self.publish()
        self.registry.release(stream, publisher)
        self.clock.advance(5)
        again = FakePublisher("another")
        self.assertIs(stream, self.registry.claim(NAME, again))
        self.clock.advance(100)
        self.assertIs(again, stream.publisher)
        self.assertIsNot(StreamState.ENDED, stream.state)

    def test_return_after_the_end(self) -> None:
        """Who returns after the end gets a new stream; the old one's shelf is cleared at once."""
        stream, publisher = self.publish()
        self.registry.release(stream, publisher)
        self.clock.advance(7)
        waiter = stream.shelf.wait_for_playlist("index.m3u8", 0, None)
        other, _ = self.publish()
        self.assertIsNot(stream, other)
        self.assertIsNone(self.successResultOf(waiter))
        self.clock.advance(100)
        self.assertIs(other, self.registry.find(NAME))

    def test_grace_by_target(self) -> None:
        """Where no grace is set it is three target durations."""
        stream, publisher = self.publish(StreamName("other", "a"))
        self.registry.release(stream, publisher)
        self.clock.advance(5.9)
        self.assertIs(StreamState.INTERRUPTED, stream.state)
        self.clock.advance(0.2)
        self.assertIs(StreamState.ENDED, stream.state)

    def test_nothing_was_seen(self) -> None:
        """A stream that never had a frame does not wait for anyone."""
        publisher = FakePublisher()
        stream = self.registry.claim(NAME, publisher)
        self.registry.release(stream, publisher)
        self.clock.advance(0)
        self.assertIs(StreamState.ENDED, stream.state)

    def test_end_with_a_reason(self) -> None:
        """A stream can be ended: its publisher gets the reason, its sinks finish, and ending it again is no error."""
        stream, publisher = self.publish()
        publisher.releases = lambda: self.registry.release(stream, publisher)
        self.successResultOf(self.registry.end(stream, "stopped by the operator"))
        self.successResultOf(self.registry.end(stream))
        self.assertEqual(["stopped by the operator"], publisher.reasons)
        self.assertEqual("finish", self.sinks[stream].call_names[-1])
        self.assertEqual(1, self.registry.ended)

    def test_shut_down_ends_all(self) -> None:
        """All are ended when the server stops: it is done when every sink is, no timer is left, none is admitted."""
        stream, _ = self.publish()
        self.publish(OTHER)
        slow: Deferred[None] = Deferred()
        self.patch(self.sinks[stream], "finish", lambda: slow)
        done = self.registry.shut_down("shutting down")
        self.assertNoResult(done)
        self.assertRaises(LimitReachedError, self.registry.claim, NAME, FakePublisher())
        slow.callback(None)
        self.successResultOf(done)
        self.assertEqual({StreamState.ENDED}, {stream.state for stream in self.registry})
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_suspend_leaves_streams_open(self) -> None:
        """A stream that the next server resumes is left open, as soon as its publisher has gone at a keyframe."""
        stream, publisher = self.publish()
        ended, _ = self.publish(StreamName("other", "a"))
        done = self.registry.shut_down("shutting down", lambda name: name.app == "live", 2_000)
        self.assertEqual((["shutting down; connect again"], 2_000), (publisher.reasons, publisher.leaves_within_ms))
        self.assertRaises(LimitReachedError, self.registry.claim, OTHER, FakePublisher())
        self.assertNoResult(done)
        self.assertNotIn("interrupted", self.sinks[stream].call_names)
        self.registry.release(stream, publisher)
        self.successResultOf(done)
        self.assertEqual(["interrupted", "finish"], self.sinks[stream].call_names[-2:])
        self.assertEqual((StreamState.INTERRUPTED, StreamState.ENDED), (stream.state, ended.state))
        self.assertEqual([], self.clock.getDelayedCalls())
        self.successResultOf(self.registry.end(stream))
        self.assertIs(StreamState.INTERRUPTED, stream.state)

    def test_suspend_without_publisher(self) -> None:
        """One that waits for its publisher is left at once; one of which there was nothing to see is ended."""
        stream, publisher = self.publish()
        self.registry.release(stream, publisher)
        unseen = self.registry.claim(OTHER, FakePublisher())
        self.successResultOf(self.registry.shut_down("shutting down", lambda _name: True, 2_000))
        self.assertEqual((StreamState.INTERRUPTED, StreamState.ENDED), (stream.state, unseen.state))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_end_while_leaving(self) -> None:
        """One that is stopped while its publisher is still to leave ends like any other."""
        stream, publisher = self.publish()
        done = self.registry.shut_down("shutting down", lambda _name: True, 2_000)
        self.registry.end(stream, "stopped by the operator")
        self.successResultOf(done)
        self.assertEqual((StreamState.ENDED, "stopped by the operator"), (stream.state, publisher.reasons[-1]))

    def test_totals_include_the_forgotten(self) -> None:
        """What streams received is counted over all there ever were, the forgotten ones too."""
        for _ in range(3):
            stream, publisher = self.publish()
            stream.discontinuity("test")
            self.registry.release(stream, publisher)
            self.clock.advance(100)
        self.publish()
        totals = self.registry.totals()
        self.assertEqual((12, 4, 3), (totals.frames, totals.keyframes, totals.discontinuities))
        self.assertEqual(totals.byte_count, self.registry.totals().byte_count)


class TakeoverTests(RegistryCase):
    def test_rules_of_giving_way(self) -> None:
        """Only a silent publisher gives way, and only to the same credential."""
        for silent_ms, credential, gives_way in ((1_000, "c", True), (999, "c", False), (60_000, "d", False)):
            self.setUp()
            stream, old = self.publish(publisher=FakePublisher("c", silent_ms))
            new = FakePublisher(credential)
            if gives_way:
                self.assertIs(stream, self.registry.claim(NAME, new))
                self.assertIs(new, stream.publisher)
                self.assertIn("took over", old.reasons[0])
                self.assertEqual(1, self.registry.takeovers)
            else:
                self.assertRaises(NameTakenError, self.registry.claim, NAME, new)
                self.assertEqual([], old.reasons)
                self.assertIs(old, stream.publisher)

    def test_order_of_a_takeover(self) -> None:
        """What the old one still held comes before the interruption, and its leaving ends nothing."""
        stream, old = self.publish(publisher=FakePublisher(silent_ms=5_000))
        last = video_frames(VIDEO, 0.2)[-1]

        def leave() -> None:
            stream.frame_received(last)
            self.registry.release(stream, old)

        old.releases = leave
        new = FakePublisher()
        self.registry.claim(NAME, new)
        sink = self.sinks[stream]
        self.assertEqual(["tracks_changed", "frame_received", "interrupted"], sink.call_names)
        self.assertIs(last, sink.frames[-1])
        self.clock.advance(100)
        self.assertIs(new, stream.publisher)
        self.assertIsNot(StreamState.ENDED, stream.state)

    def test_late_release_changes_nothing(self) -> None:
        """One who has lost the name changes nothing by leaving."""
        stream, old = self.publish(publisher=FakePublisher(silent_ms=5_000))
        new = FakePublisher()
        self.registry.claim(NAME, new)
        self.registry.release(stream, old)
        self.assertIs(new, stream.publisher)

    @slow
    @given(st.lists(st.tuples(st.sampled_from(["claim", "release", "wait", "end"]), st.integers(0, 2)), max_size=30))
    def test_races_leave_one_publisher(self, steps: list[tuple[str, int]]) -> None:
        """However publishers race, a name has one of them at most, and every timer leads somewhere."""
        self.setUp()
        publishers = [FakePublisher(credential, silent_ms=2_000) for credential in "ccd"]
        held: dict[int, LiveStream] = {}
        for step, number in steps:
            publisher = publishers[number]
            if step == "claim" and number not in held:
                try:
                    stream = self.registry.claim(NAME, publisher)
                except NameTakenError:
                    continue
                held = {number: stream}
                stream.tracks_changed((VIDEO,))
            elif step == "release" and number in held:
                self.registry.release(held.pop(number), publisher)
            elif step == "wait":
                self.clock.advance(7)
            elif step == "end" and (found := self.registry.find(NAME)):
                self.registry.end(found)
                held.clear()
            current = self.registry.find(NAME)
            owner = current.publisher if current else None
            assert owner is (publishers[next(iter(held))] if held else None)
        for number, stream in held.items():
            self.registry.release(stream, publishers[number])
        self.clock.pump([10] * 10)
        assert self.registry.find(NAME) is None
        assert not self.clock.getDelayedCalls()


class LimitTests(RegistryCase):
    limits = AppLimits(grace_ms=6_000, max_streams=1)
    max_streams = 2

    def test_limits_of_live_streams(self) -> None:
        """An application, and the server, take so many streams and no more; ended ones do not count."""
        stream, publisher = self.publish()
        self.assertRaises(LimitReachedError, self.registry.claim, OTHER, FakePublisher())
        self.publish(StreamName("other", "a"))
        refusal = self.assertRaises(LimitReachedError, self.registry.claim, StreamName("other", "b"), FakePublisher())
        self.assertIn("2 streams", str(refusal))
        self.registry.release(stream, publisher)
        self.assertRaises(LimitReachedError, self.registry.claim, OTHER, FakePublisher())
        self.assertIs(stream, self.registry.claim(NAME, publisher))
        self.registry.end(stream)
        self.publish(OTHER)
        self.assertIsNone(self.registry.find(StreamName("other", "b")))


class ResumeTests(RegistryCase):
    """Streams of an earlier process."""

    def make_stream(self, name: StreamName) -> LiveStream:
        stream = super().make_stream(name)
        if name == NAME:  # what its sink found of it
            stream.shelf.put_playlist("index.m3u8", Playlist(b"", None, 41, 0, 0, 2_000, 0, ended=False))
        return stream

    def test_publisher_returns_in_grace(self) -> None:
        """It waits for its publisher in grace, also for one that comes and goes without a word."""
        stream = self.registry.resume(NAME)
        self.assertIs(StreamState.INTERRUPTED, stream.state)
        publisher = FakePublisher()
        self.clock.advance(5)
        self.assertIs(stream, self.registry.claim(NAME, publisher))
        self.clock.advance(60)
        self.registry.release(stream, publisher)
        self.clock.advance(5)
        self.assertIs(stream, self.publish()[0])
        self.assertEqual(["tracks_changed", "frame_received"], self.sinks[stream].call_names)

    def test_stream_ends_without_publisher(self) -> None:
        """Without a publisher it ends, is still seen for a while, and is forgotten."""
        stream = self.registry.resume(NAME)
        self.clock.advance(6)
        self.assertIs(StreamState.ENDED, stream.state)
        self.assertEqual(["finish"], self.sinks[stream].call_names)
        self.clock.advance(60)
        self.assertIsNone(self.registry.find(NAME))

    def test_nothing_to_show(self) -> None:
        """If no sink has anything of it, it ends at once."""
        stream = self.registry.resume(OTHER)
        self.clock.advance(0)
        self.assertIs(StreamState.ENDED, stream.state)

    def test_forgetting_keeps_the_numbers(self) -> None:
        """Where its numbers stood is known when it is forgotten, and before another of its name is made."""
        reached: list[int] = []

        def make(name: StreamName) -> LiveStream:
            reached.append(-1)
            return self.make_stream(name)

        registry = Registry(
            self.clock,
            {"live": FakeApplication("live", make, self.limits)},
            lambda _stream: 2_000,
            forgetting=lambda stream: reached.append(stream.shelf.reached),
        )
        registry.end(registry.resume(NAME))
        registry.claim(NAME, FakePublisher())
        self.assertEqual([-1, 43, -1], reached)


class RoomTests(RegistryCase):
    limits = AppLimits(max_connections_per_ip=2)

    def test_one_address_has_a_limit(self) -> None:
        """One address publishes as many streams of an application as the limit says, and another one has its own."""
        self.publish(NAME)
        self.publish(OTHER)
        third = StreamName("live", "c")
        with self.assertRaises(LimitReachedError) as caught:
            self.registry.claim(third, FakePublisher())
        self.assertIn("one address may publish 2 streams", str(caught.exception))
        elsewhere = FakePublisher()
        elsewhere.peer = "192.0.2.2"
        self.registry.claim(third, elsewhere)
        self.registry.claim(StreamName("other", "c"), FakePublisher())

    def test_returns_are_no_new_streams(self) -> None:
        """A publisher that returns is no new stream: neither that limit nor a lack of room keeps it out."""
        stream, publisher = self.publish(NAME)
        self.publish(OTHER)
        self.registry.release(stream, publisher)
        self.registry._find_no_room = lambda: "too busy"
        self.assertIs(stream, self.registry.claim(NAME, FakePublisher()))

    def test_no_room_refuses_new_streams(self) -> None:
        """A new stream is refused with the reason while there is no room."""
        self.registry._find_no_room = lambda: "too busy"
        with self.assertRaises(LimitReachedError) as caught:
            self.registry.claim(NAME, FakePublisher())
        self.assertEqual("too busy", str(caught.exception))
        self.registry._find_no_room = lambda: ""
        self.registry.claim(NAME, FakePublisher())
