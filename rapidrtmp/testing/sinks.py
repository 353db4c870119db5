"""
For the author of a sink: doubles for what a sink is given, a sink that remembers, and a contract for all sinks.

:class:`SinkContract` holds what a live stream expects of any sink as tests. A sink takes them all by naming itself::

    class MySinkTests(SinkContract, SynchronousTestCase):
        def make_sink(self, context: SinkContext) -> ISink:
            return MySink(context)

:func:`make_sink_context` makes a context of a real shelf, a clock that stands still until a test advances it, and a
storage writer and metrics that remember; all of them are at hand in the context's own fields.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from time import process_time
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger
from zope.interface import implementer
from zope.interface.verify import verifyObject

from rapidrtmp.cmaf.packager import Packager
from rapidrtmp.errors import StorageError
from rapidrtmp.interfaces import (
    IMMUTABLE,
    IMetricsScope,
    IPartSink,
    ISink,
    ISinkFactory,
    IStorage,
    IStorageWriter,
    SinkContext,
)
from rapidrtmp.live.captions import Captions
from rapidrtmp.live.fan_out import SLOW_MS
from rapidrtmp.live.frame_queue import FrameQueue
from rapidrtmp.live.shelf import Shelf
from rapidrtmp.media import Frame, MediaKind, Track
from rapidrtmp.names import StreamName
from rapidrtmp.testing.frames import (
    FrameSource,
    audio_frames,
    interleaved,
    make_audio_track,
    make_video_track,
    video_frames,
    video_frames_at,
)

__all__ = [
    "FrameCollector",
    "FrameCollectorFactory",
    "RecordingMetrics",
    "RecordingWriter",
    "SinkContract",
    "feed",
    "make_sink_context",
    "packaged",
]

if TYPE_CHECKING:
    from unittest import TestCase as _Base  # typed, as trial's is not
else:
    _Base = object

#: The wall-clock time at which the streams of these contexts begin: 1 January 2026.
STARTED_AT_MS = 1_767_225_600_000


# ── a sink that remembers ────────────────────────────────────────────────────────────────────────────────────────────


@implementer(ISink)
class FrameCollector:
    """
    Remembers every call.

    :ivar calls: all of them in order: the name of the method, then its argument if it has one.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def tracks_changed(self, tracks: tuple[Track, ...]) -> None:
        """Remember it."""
        self.calls.append(("tracks_changed", tracks))

    def frame_received(self, frame: Frame) -> None:
        """Remember it."""
        self.calls.append(("frame_received", frame))

    def discontinuity(self) -> None:
        """Remember it."""
        self.calls.append(("discontinuity",))

    def interrupted(self) -> None:
        """Remember it."""
        self.calls.append(("interrupted",))

    def finish(self) -> None:
        """Remember it."""
        self.calls.append(("finish",))

    @property
    def frames(self) -> list[Frame]:
        """Every frame there was."""
        return [call[1] for call in self.calls if call[0] == "frame_received"]

    @property
    def call_names(self) -> list[str]:
        """The names of the calls, each run of frames as one."""
        names = [call[0] for call in self.calls]
        return [
            name
            for index, name in enumerate(names)
            if name != "frame_received" or not index or names[index - 1] != "frame_received"
        ]


@implementer(ISinkFactory)
class FrameCollectorFactory:
    """
    Makes a collector for each stream.

    :ivar collectors: those it has made, by the stream's name.
    """

    def __init__(self) -> None:
        self.collectors: dict[StreamName, FrameCollector] = {}

    def create(self, context: SinkContext) -> FrameCollector:
        """Make one."""
        collector = self.collectors[context.stream] = FrameCollector()
        return collector


# ── what a sink is given ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(eq=False)
class _Operation:
    key: str
    data: bytes | None  # None to delete
    done: Deferred[None] = field(default_factory=Deferred)


@implementer(IStorageWriter)
class RecordingWriter:
    """
    A storage writer that keeps everything in memory, in the order of the calls.

    :param holds: whether an operation waits until :meth:`settle` says what became of it, instead of being done at
        once.
    :ivar operations: ``("put", key)`` and ``("delete", key)`` in the order in which they were asked for.
    :ivar objects: what can be read now, by key.
    """

    def __init__(self, *, persistent: bool = True, holds: bool = False) -> None:
        self.persistent = persistent
        self.storage: IStorage | None = None
        self.holds = holds
        self.operations: list[tuple[str, str]] = []
        self.objects: dict[str, bytes] = {}
        self._waiting: list[_Operation] = []

    def put(
        self,
        key: str,
        data: Sequence[bytes],
        content_type: str,  # noqa: ARG002 - the contract's
        cache_control: str = IMMUTABLE,  # noqa: ARG002 - the contract's
    ) -> Deferred[None]:
        """Keep an object, now or when it is settled."""
        return self._add("put", _Operation(key, b"".join(data)))

    def delete(self, key: str) -> None:
        """Forget an object, now or when it is settled."""
        self._add("delete", _Operation(key, None))

    def _add(self, what: str, operation: _Operation) -> Deferred[None]:
        self.operations.append((what, operation.key))
        self._waiting.append(operation)
        if not self.holds:
            self.settle_all()
        return operation.done

    @property
    def waiting(self) -> list[str]:
        """The keys of what waits, the oldest first."""
        return [operation.key for operation in self._waiting]

    def settle(self, *, lost: bool = False) -> None:
        """Carry out the oldest operation that waits, or lose it; the loss of a deletion does not matter."""
        operation = self._waiting.pop(0)
        if operation.data is None:
            if not lost:
                self.objects.pop(operation.key, None)
        elif lost:
            operation.done.errback(StorageError(f"{operation.key}: lost on purpose"))
        else:
            self.objects[operation.key] = operation.data
            operation.done.callback(None)

    def settle_all(self, loses: Callable[[str], bool] = lambda _key: False) -> None:
        """Carry out all that waits, in order, and lose the keys for which ``loses`` says so."""
        while self._waiting:
            self.settle(lost=loses(self._waiting[0].key))


class _Amounts:
    """A counter and a histogram in one; ``seen`` holds all amounts."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def inc(self, amount: float = 1) -> None:
        self.seen.append(amount)

    def observe(self, amount: float) -> None:
        self.seen.append(amount)


@implementer(IMetricsScope)
class RecordingMetrics:
    """Metrics that remember; :meth:`total` and :meth:`observed` tell."""

    def __init__(self) -> None:
        self._amounts: dict[str, _Amounts] = {}

    def counter(self, name: str, documentation: str) -> _Amounts:  # noqa: ARG002 - the contract's
        """The counter of that name."""
        return self._amounts.setdefault(name, _Amounts())

    def histogram(self, name: str, documentation: str, buckets: Sequence[float]) -> _Amounts:  # noqa: ARG002 - likewise
        """The histogram of that name."""
        return self._amounts.setdefault(name, _Amounts())

    def total(self, name: str) -> float:
        """How far a counter has come."""
        return sum(self.observed(name))

    def observed(self, name: str) -> list[float]:
        """Every observation of a histogram, or every amount that a counter was raised by."""
        return self._amounts[name].seen if name in self._amounts else []


def _utc_ms(ticks: int, timescale: int) -> int:
    return STARTED_AT_MS + ticks * 1000 // timescale


def make_sink_context(
    *,
    stream: StreamName = StreamName("live", "test"),  # noqa: B008  it is immutable
    shelf: Any = None,
    storage: Any = None,
    clock: Any = None,
    metrics: Any = None,
    utc_ms: Callable[[int, int], int] = _utc_ms,
    first_sequence: int = 1_000,
    recovered: Mapping[str, bytes] | None = None,
    captions: Any = None,
) -> SinkContext:
    """A context for one sink; what is not given is a fresh double, and the shelf is real."""
    return SinkContext(
        stream=stream,
        shelf=Shelf() if shelf is None else shelf,
        storage=RecordingWriter() if storage is None else storage,
        clock=Clock() if clock is None else clock,
        log=Logger("rapidrtmp.testing.sinks"),
        metrics=RecordingMetrics() if metrics is None else metrics,
        utc_ms=utc_ms,
        first_sequence=first_sequence,
        recovered=recovered or {},
        frame_queue=FrameQueue,
        captions=Captions() if captions is None else captions,
    )


def packaged(sink: Any) -> Any:
    """The ``ISink`` that a stream feeds: a sink itself, or a packager in front of one that takes parts."""
    return Packager(sink) if IPartSink.providedBy(sink) else sink


def feed(sink: Any, frames: Sequence[Frame]) -> None:
    """Give a sink frames, one by one."""
    for frame in frames:
        sink.frame_received(frame)


# ── the contract ─────────────────────────────────────────────────────────────────────────────────────────────────────


class SinkContract(_Base):
    """
    What a live stream expects of a sink, one test each; mix into a trial ``SynchronousTestCase``.

    That a sink does something useful is for its own tests. These say that nothing which may legally happen to it makes
    it raise, that it can always be finished, and that it leaves nothing behind.
    """

    def make_sink(self, context: SinkContext) -> ISink | IPartSink:
        """Return a new sink for ``context``."""
        raise NotImplementedError

    def new_sink(self, **context: Any) -> tuple[Any, SinkContext]:
        """A sink under test, as a stream feeds it, and its context."""
        made = make_sink_context(**context)
        return packaged(self.make_sink(made)), made

    def finish(self, sink: Any, context: SinkContext) -> None:
        """Finish a sink; check that it is done at once or before long, and leaves no timer."""
        result: Any = sink.finish()
        clock: Any = context.clock
        if result is not None:
            self.assertIsInstance(result, Deferred)
            done: list[object] = []
            result.addBoth(done.append)
            clock.pump([0.1] * 100)
            self.assertEqual([None], done, "finish must be done before long, without an error")
        self.assertEqual([], clock.getDelayedCalls(), "a timer was left behind")

    def test_interface(self) -> None:
        """It provides ISink or IPartSink, method by method."""
        context = make_sink_context()
        sink = self.make_sink(context)
        verifyObject(IPartSink if IPartSink.providedBy(sink) else ISink, sink)
        self.finish(packaged(sink), context)

    def test_nothing_came(self) -> None:
        """It can be finished before anything has come, and when tracks but no frames have."""
        self.finish(*self.new_sink())
        sink, context = self.new_sink()
        sink.tracks_changed((make_video_track(), make_audio_track()))
        self.finish(sink, context)

    def test_ordinary_streams(self) -> None:
        """It takes video and audio, video alone and audio alone."""
        video, audio = make_video_track(), make_audio_track()
        for each in ((video, audio), (video, None), (None, audio)):
            sink, context = self.new_sink()
            source = FrameSource(*each, gop=30)
            sink.tracks_changed(source.tracks)
            feed(sink, source.take(8))
            self.finish(sink, context)

    def test_quick(self) -> None:
        """
        It takes frames within the time that a stream grants, of processor time: a sink that works for longer needs a
        thread, a process, and the context's ``frame_queue`` before them.
        """
        sink, context = self.new_sink()
        source = FrameSource(make_video_track(), make_audio_track(), gop=30)
        sink.tracks_changed(source.tracks)
        frames = source.take(20)
        started = process_time()
        feed(sink, frames)
        ms_per_frame = (process_time() - started) * 1000 / len(frames)
        self.assertTrue(ms_per_frame < SLOW_MS, f"{ms_per_frame:.1f} ms per frame")
        self.finish(sink, context)

    def test_attached_late(self) -> None:
        """It takes a stream that has been running for a day."""
        video, audio = make_video_track(), make_audio_track()
        day_s = 86_400
        frames = interleaved(
            video_frames(video, 5, gop=30, start=day_s * video.timescale),
            audio_frames(audio, 5, start=day_s * audio.timescale),
        )
        sink, context = self.new_sink()
        sink.tracks_changed((video, audio))
        feed(sink, frames)
        self.finish(sink, context)

    def test_one_frame(self) -> None:
        """A stream may consist of a single frame."""
        for track, frames in self._single_frames():
            sink, context = self.new_sink()
            sink.tracks_changed((track,))
            feed(sink, frames)
            self.finish(sink, context)

    def _single_frames(self) -> list[tuple[Track, list[Frame]]]:
        video, audio = make_video_track(), make_audio_track()
        return [(video, video_frames(video, 0.04)), (audio, audio_frames(audio, 0.03))]

    def test_one_track_is_silent(self) -> None:
        """A track that was promised may never come, or cease."""
        video, audio = make_video_track(), make_audio_track()
        for frames in (
            video_frames(video, 6, gop=30),
            interleaved(video_frames(video, 6, gop=30), audio_frames(audio, 2)),
            interleaved(video_frames(video, 2, gop=30), audio_frames(audio, 20)),
        ):
            sink, context = self.new_sink()
            sink.tracks_changed((video, audio))
            feed(sink, frames)
            self.finish(sink, context)

    def test_odd_times(self) -> None:
        """It takes B-frames, negative composition offsets, long freezes, ticks of one, and GOPs without an end."""
        video = make_video_track()
        early = [
            Frame(video, number * 3_000, -2_000 if number % 3 else 0, 3_000, not number % 30, b"\0\0\0\1\x41", 0)
            for number in range(90)
        ]
        for frames in (
            video_frames(video, 6, gop=50, b_frames=3),
            early,
            video_frames_at(video, [0, 3_000, 900_000, 903_000, 2_700_000]),
            video_frames_at(video, list(range(300))),
            video_frames_at(video, [number * 900_000 for number in range(5)], range(5)),
            video_frames(video, 40, frame_rate=Fraction(10), gop=1_000),
        ):
            sink, context = self.new_sink()
            sink.tracks_changed((video,))
            feed(sink, frames)
            self.finish(sink, context)

    def test_empty_frames(self) -> None:
        """A frame may be without bytes."""
        audio = make_audio_track()
        sink, context = self.new_sink()
        sink.tracks_changed((audio,))
        feed(sink, [Frame(audio, number * 1_024, 0, 1_024, True, b"", 0) for number in range(300)])
        self.finish(sink, context)

    def test_further_tracks(self) -> None:
        """A stream may have several tracks of a kind, and gain and lose them; a sink need not use them all."""
        video, rung = make_video_track(), make_video_track(640, 360, id=3)
        audio, comment = make_audio_track(), make_audio_track(44_100, id=4, language="eng", name="Comment")
        for tracks in ((video, rung, audio, comment), (video, rung), (audio, comment)):
            sink, context = self.new_sink()
            for start_s, present in ((0, tracks), (10, tracks[:1]), (20, tracks)):
                sink.discontinuity()
                sink.tracks_changed(present)
                pieces = [
                    video_frames(track, 3, gop=30, start=start_s * track.timescale)
                    if track.kind is MediaKind.VIDEO
                    else audio_frames(track, 3, start=start_s * track.timescale)
                    for track in present
                ]
                feed(sink, interleaved(*pieces))
            self.finish(sink, context)

    def test_discontinuities(self) -> None:
        """What follows need not join on: with the same tracks, with others, and with nothing in between."""
        video, other, audio = make_video_track(), make_video_track(640, 360), make_audio_track()
        sink, context = self.new_sink()
        start_s = 0
        for tracks in ((video, audio), (video, audio), (other, audio), (audio,), (other,)):
            sink.discontinuity()
            sink.discontinuity()
            sink.tracks_changed(tracks)
            pieces = [
                video_frames(track, 3, gop=30, start=start_s * track.timescale)
                if track.kind is MediaKind.VIDEO
                else audio_frames(track, 3, start=start_s * track.timescale)
                for track in tracks
            ]
            feed(sink, interleaved(*pieces))
            start_s += 10
        self.finish(sink, context)

    def test_interrupted(self) -> None:
        """The publisher may leave and return, or leave for good, at any time."""
        for seconds in (0, 0.5, 2.5):
            sink, context = self.new_sink()
            video = make_video_track()
            sink.tracks_changed((video,))
            feed(sink, video_frames(video, seconds, gop=30))
            sink.interrupted()
            sink.discontinuity()
            sink.tracks_changed((video,))
            feed(sink, video_frames(video, 2.5, gop=30, start=900_000))
            sink.interrupted()
            self.finish(sink, context)

    def test_storage_fails(self) -> None:
        """A storage that loses everything is no reason to raise, nor to leave an error unhandled."""
        writer = RecordingWriter(holds=True)
        sink, context = self.new_sink(storage=writer)
        source = FrameSource(make_video_track(), make_audio_track(), gop=30)
        sink.tracks_changed(source.tracks)
        feed(sink, source.take(8))
        writer.settle_all(loses=lambda _key: True)
        feed(sink, source.take(8))
        writer.settle_all(loses=lambda _key: True)
        writer.holds = False
        self.finish(sink, context)
        del sink, context, writer
        gc.collect()  # which logs unhandled errors, and trial fails the test over them

    def test_storage_stalls(self) -> None:
        """A storage that does not answer holds no frame back."""
        writer = RecordingWriter(holds=True)
        sink, context = self.new_sink(storage=writer)
        source = FrameSource(make_video_track(), make_audio_track(), gop=30)
        sink.tracks_changed(source.tracks)
        feed(sink, source.take(20))
        writer.settle_all()
        writer.holds = False
        self.finish(sink, context)
