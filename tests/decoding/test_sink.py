"""The server's side of sinks that decode: what a process is fed, and what becomes of its answers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from unittest import mock

from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.decoding import DecodingSink, DecodingSinkFactory, Note, Upload
from rapidrtmp.decoding.process import MOST_LINES, PATIENCE_S
from rapidrtmp.decoding.thumbnail import ThumbnailFactory
from rapidrtmp.decoding.wire import Kind, MessageReader, TrackDescription, pack, pack_result, unpack_frame
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import EventType, ISink, ISinkFactory, SinkContext
from rapidrtmp.media import Frame
from rapidrtmp.testing.frames import audio_frames, make_audio_track, make_video_track, measured, video_frames
from rapidrtmp.testing.sink_factories import SinkFactoryContract
from rapidrtmp.testing.sinks import SinkContract, feed, make_sink_context

VIDEO, AUDIO = make_video_track(), make_audio_track()


class Pictures(DecodingSink):
    def picture(self, image: Any, utc_ms: int) -> None:
        """See pictures alone."""


class Sounds(DecodingSink):
    def audio(self, samples: Any, utc_ms: int) -> None:
        """Hear sound alone."""


def factory_of(sink: type[DecodingSink], **arguments: Any) -> DecodingSinkFactory:
    return type("Factory", (DecodingSinkFactory,), {"sink": sink})(**arguments)


class FakeProcess:
    """A process that remembers what it was fed."""

    def __init__(self, protocol: Any, arguments: list[str], environment: Mapping[str, str]) -> None:
        self.protocol = protocol
        self.arguments = arguments
        self.environment = environment
        self.fed = b""
        self.signals: list[str] = []
        self.producer: Any = None
        self.is_closed = False
        protocol.makeConnection(self)

    def writeToChild(self, number: int, data: bytes) -> None:
        self.fed += data

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def closeStdin(self) -> None:
        self.is_closed = True

    def signalProcess(self, signal: str) -> None:
        self.signals.append(signal)

    def end(self, reason: Exception | None = None) -> None:
        self.protocol.inConnectionLost()
        self.protocol.processEnded(Failure(reason or ProcessDone(0)))

    def messages(self) -> list[tuple[int, bytes]]:
        return list(MessageReader().feed(self.fed))

    def frames(self) -> list[tuple[int, bool, bool]]:
        """When the frames were live, and whether they are keyframes that stand alone."""
        headers = [unpack_frame(body)[0] for kind, body in self.messages() if kind == Kind.FRAME]
        return [(header.pts_ms, header.keyframe, header.alone) for header in headers]


class FakeProcesses:
    """Starts processes that are none; the first ones fail if ``fails`` says so."""

    def __init__(self, fails: int = 0) -> None:
        self.fails = fails
        self.all: list[FakeProcess] = []

    def spawn(self, protocol: Any, executable: str, arguments: Any, environment: Any, childFDs: Any = None) -> Any:
        if self.fails:
            self.fails -= 1
            raise OSError("no such program")
        self.all.append(FakeProcess(protocol, list(arguments), environment))


class StreamCase(SynchronousTestCase):
    def make(self, factory: DecodingSinkFactory, fails: int = 0) -> Any:
        self.processes = FakeProcesses(fails)
        self.events: list[tuple[EventType, Mapping[str, object]]] = []
        self.context = replace(
            make_sink_context(),
            spawn_process=self.processes.spawn,
            record=lambda type, data: self.events.append((type, data)),
        )
        self.clock: Any = self.context.clock
        return factory.create(self.context)

    @property
    def process(self) -> FakeProcess:
        return self.processes.all[-1]

    def video(self, seconds: float, start: float = 0.0) -> list[Frame]:
        """Pictures that have just arrived, of a stream with a keyframe a second: from ``start`` on."""
        now_ms = int(self.clock.seconds() * 1000)
        made = list(measured(video_frames(VIDEO, start + seconds, gop=30)))
        return [replace(frame, arrived_ms=now_ms) for frame in made[round(start * 30) :]]


class PictureSinkContractTests(SinkContract, SynchronousTestCase):
    """A sink that decodes keeps every promise of the interface."""

    def make_sink(self, context: SinkContext) -> ISink:
        processes = FakeProcesses()
        sink = factory_of(Pictures, fps="all").create(replace(context, spawn_process=processes.spawn))
        finish: Any = sink.finish

        def finish_at_once() -> Any:
            done = finish()
            for process in processes.all:
                process.end()
            return done

        sink.finish = finish_at_once  # type: ignore[method-assign]
        return sink


class ThumbnailFactoryTests(SinkFactoryContract, SynchronousTestCase):
    """So does the factory of thumbnails."""

    def make_factory(self) -> ISinkFactory:
        return ThumbnailFactory()

    def test_arguments_are_checked(self) -> None:
        """What is no width or no duration stops the start."""
        for arguments in ({"width": "8"}, {"width": "x"}, {"every": "soon"}):
            with self.assertRaises(ConfigurationError):
                ThumbnailFactory(**arguments)


class RateTests(StreamCase):
    def test_rates_are_checked(self) -> None:
        """One of the two says how many pictures, in words that can be read."""
        for arguments in ({}, {"every": "1s", "fps": "5"}, {"fps": "0"}, {"fps": "many"}, {"fps": "-1"}):
            with self.assertRaises(ConfigurationError):
                factory_of(Pictures, **arguments)

    def test_all_frames_are_sent(self) -> None:
        """For pictures closer than keyframes everything is sent, behind what describes the track."""
        sink = self.make(factory_of(Pictures, fps="5"))
        sink.tracks_changed((VIDEO, AUDIO))
        feed(sink, [*self.video(1), *audio_frames(AUDIO, 1)])
        self.assertEqual(30, len(self.process.frames()))
        kind, body = self.process.messages()[0]
        self.assertEqual((Kind.TRACK, "avc1"), (kind, TrackDescription.read(body).codec))
        self.assertIn('"everyMs": 200', self.process.arguments[-1])

    def test_keyframes_alone_are_sent(self) -> None:
        """For keyframes alone nothing else is sent, and each says that it stands alone."""
        sink = self.make(factory_of(Pictures, every="keyframes"))
        sink.tracks_changed((VIDEO,))
        feed(sink, self.video(3))
        self.assertEqual([(True, True)] * 3, [frame[1:] for frame in self.process.frames()])

    def test_distant_pictures_need_keyframes_alone(self) -> None:
        """Where pictures are wanted further apart than keyframes are, once that is known the rest is not sent."""
        sink = self.make(factory_of(Pictures, every="10s"))
        sink.tracks_changed((VIDEO,))
        feed(sink, self.video(4))
        sent = [alone for _, _, alone in self.process.frames()]
        self.assertIn(True, sent)
        self.assertLess(len(sent), 90)

    def test_times_are_of_the_day(self) -> None:
        """Frames are named by when they were live."""
        sink = self.make(factory_of(Pictures, every="keyframes"))
        sink.tracks_changed((VIDEO,))
        feed(sink, self.video(2))
        self.assertEqual(
            [self.context.utc_ms(0, 90_000), self.context.utc_ms(90_000, 90_000)],
            [frame[0] for frame in self.process.frames()],
        )

    def test_unwanted_kinds_start_nothing(self) -> None:
        """A sink for sound has no process while there are pictures alone."""
        sink = self.make(factory_of(Sounds, fps="all"))
        sink.tracks_changed((VIDEO,))
        feed(sink, self.video(1))
        self.assertEqual([], self.processes.all)
        sink.tracks_changed((VIDEO, AUDIO))
        feed(sink, list(audio_frames(AUDIO, 1)))
        self.assertEqual(47, len(self.process.frames()))
        self.assertIsNot(None, sink.finish())


class SlownessTests(StreamCase):
    def test_full_pipe_is_waited_for(self) -> None:
        """What does not fit waits, and is sent when the process reads again."""
        sink = self.make(factory_of(Pictures, fps="all"))
        sink.tracks_changed((VIDEO,))
        feed(sink, self.video(0.1))
        self.process.producer.pauseProducing()
        feed(sink, self.video(1, start=0.1)[:10])
        before = len(self.process.frames())
        self.process.producer.resumeProducing()
        self.assertEqual((3, 13), (before, len(self.process.frames())))

    def test_old_frames_are_left_out(self) -> None:
        """What has waited for too long is left out up to a keyframe, and counted."""
        sink = self.make(factory_of(Pictures, fps="all"))
        sink.tracks_changed((VIDEO,))
        self.process.producer.pauseProducing()
        feed(sink, self.video(1.5))
        self.clock.advance(10)
        feed(sink, self.video(1, start=1.5))  # its first keyframe comes half a second later
        self.process.producer.resumeProducing()
        first, *_ = self.process.frames()
        self.assertEqual((self.context.utc_ms(2 * 90_000, 90_000), True), first[:2])
        metrics: Any = self.context.metrics
        self.assertEqual(60, metrics.total("decoding_left_out_frames_total"))

    def test_memory_is_bounded(self) -> None:
        """However long a process does not read, no more waits than the queue holds."""
        sink = self.make(factory_of(Pictures, fps="all"))
        sink.tracks_changed((VIDEO,))
        self.process.producer.pauseProducing()
        feed(sink, self.video(60))
        self.process.producer.resumeProducing()
        self.assertLessEqual(len(self.process.frames()), 301)


class LifeTests(StreamCase):
    def started(self, fails: int = 0) -> Any:
        sink = self.make(factory_of(Pictures, fps="all"), fails)
        sink.tracks_changed((VIDEO,))
        return sink

    def test_secrets_stay_here(self) -> None:
        """The process gets none of the server's settings with its environment."""
        with mock.patch.dict(os.environ, {"RAPIDRTMP_SERVER_API_TOKEN": "secret"}):
            self.started()
        self.assertNotIn("RAPIDRTMP_SERVER_API_TOKEN", self.process.environment)

    def test_death_is_followed_by_another_process(self) -> None:
        """A process that dies is logged and followed by another, which begins with a keyframe."""
        sink = self.started()
        feed(sink, self.video(0.5))
        with capturedLogs() as events:
            self.process.end(ProcessTerminated(signal=9))
        self.assertEqual(1, len([event for event in events if "the next one begins" in event["log_format"]]))
        feed(sink, self.video(1, start=0.5))
        self.clock.advance(1)
        self.assertEqual(2, len(self.processes.all))
        self.assertEqual((self.context.utc_ms(90_000, 90_000), True), self.process.frames()[0][:2])

    def test_pauses_grow_up_to_a_minute(self) -> None:
        """One that dies again and again is started less and less often."""
        self.started()
        pauses = []
        for _ in range(8):
            self.process.end(ProcessTerminated(1))
            count, begun = len(self.processes.all), self.clock.seconds()
            while len(self.processes.all) == count:
                self.clock.advance(1)
            pauses.append(self.clock.seconds() - begun)
        self.assertEqual([1, 2, 4, 8, 16, 32, 60, 60], pauses)

    def test_start_that_fails_is_tried_again(self) -> None:
        """Without a process the stream loses nothing, and another start is tried."""
        self.started(fails=1)
        self.clock.advance(1)
        self.assertEqual(1, len(self.processes.all))

    def test_end_closes_the_input(self) -> None:
        """At the end the process gets what waits and then the end; the sink is done when it is gone."""
        sink = self.started()
        feed(sink, self.video(0.5))
        done = sink.finish()
        self.assertTrue(self.process.is_closed)
        self.assertNoResult(done)
        self.process.end()
        self.assertIsNone(self.successResultOf(done))

    def test_end_is_not_waited_for_forever(self) -> None:
        """A process that hangs is killed, whatever still waits for it."""
        sink = self.started()
        self.process.producer.pauseProducing()
        feed(sink, self.video(0.5))
        done = sink.finish()
        self.clock.advance(PATIENCE_S)
        self.assertEqual(["KILL"], self.process.signals)
        self.process.end(ProcessTerminated(signal=9))
        self.assertIsNone(self.successResultOf(done))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_end_between_two_processes(self) -> None:
        """A stream that ends while there is no process ends at once, and none begins."""
        sink = self.started()
        self.process.end(ProcessTerminated(1))
        self.assertIsNone(self.successResultOf(sink.finish()))
        self.clock.advance(10)
        self.assertEqual(1, len(self.processes.all))


class AnswerTests(StreamCase):
    def setUp(self) -> None:
        self.sink = self.make(factory_of(Pictures, fps="all"))
        self.sink.tracks_changed((VIDEO,))

    def test_notes_become_events(self) -> None:
        """A note is an event of the stream."""
        self.process.protocol.outReceived(pack_result(Note({"people": 3})))
        self.assertEqual([(EventType.NOTE, {"people": 3})], self.events)

    def test_uploads_are_served(self) -> None:
        """An upload is put on the shelf; it may change."""
        self.process.protocol.outReceived(pack_result(Upload("a.jpg", b"one", "image/jpeg")))
        found: Any = self.context.shelf.find("a.jpg")
        self.assertEqual((b"one", "image/jpeg", "no-cache"), (found.body, found.content_type, found.cache_control))

    def test_names_with_slashes_are_refused(self) -> None:
        """An upload cannot leave the stream's own folder."""
        with capturedLogs() as events:
            self.process.protocol.outReceived(pack_result(Upload("../a.jpg", b"one", "image/jpeg")))
        self.assertEqual(1, len(events))

    def test_nonsense_ends_the_process(self) -> None:
        """What is no message has the process killed; another one follows."""
        with capturedLogs() as events:
            self.process.protocol.outReceived(pack(Kind.NOTE, b"["))
        self.assertEqual((["KILL"], 1), (self.process.signals, len(events)))

    def test_words_are_logged_in_bounds(self) -> None:
        """What the process prints is logged, so many lines a minute."""
        with capturedLogs() as events:
            self.process.protocol.errReceived(b"hello\n" * 1000)
            self.clock.advance(60)
            self.process.protocol.errReceived(b"again\n")
        lines = [event.get("line") for event in events]
        self.assertEqual((MOST_LINES, 1), (lines.count("hello"), lines.count("again")))
