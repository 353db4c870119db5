"""
For the author of a transcoder: doubles for what one is given, a transcoder that codes nothing, and a contract for all.

:class:`TranscoderContract` holds what a live stream expects of any transcoder as tests. A transcoder takes them all by
naming its factory::

    class MyTranscoderTests(TranscoderContract, SynchronousTestCase):
        def make_factory(self) -> ITranscoderFactory:
            return MyTranscoderFactory()
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.task import Clock
from twisted.logger import Logger
from zope.interface import implementer
from zope.interface.verify import verifyObject

from rapidrtmp.codec.table import AVC
from rapidrtmp.interfaces import (
    EventType,
    ILadder,
    ITranscoder,
    ITranscoderFactory,
    Rung,
    TranscoderContext,
)
from rapidrtmp.media import Frame, MediaKind, Track, VideoConfig
from rapidrtmp.names import StreamName
from rapidrtmp.testing.frames import FrameSource, make_audio_track, make_video_track
from rapidrtmp.testing.sinks import RecordingMetrics, feed

__all__ = [
    "FakeTranscoder",
    "FakeTranscoderFactory",
    "RecordingLadder",
    "ReturnedPicture",
    "Said",
    "TranscoderContract",
    "make_transcoder_context",
]

if TYPE_CHECKING:
    from unittest import TestCase as _Base  # typed, as trial's is not
else:
    _Base = object

#: The rungs of a fake transcoder where a test does not say: name, width, height, bits a second.
RUNGS = (("480p", 854, 480, 1_200_000), ("360p", 640, 360, 700_000))


@dataclass(frozen=True, slots=True)
class ReturnedPicture:
    """A picture that a transcoder brought: see ``ILadder.frame``."""

    pts: int
    data: bytes
    keyframe: bool
    arrived_ms: int
    turn: int


@implementer(ILadder)
class RecordingLadder:
    """
    A ladder that remembers.

    :ivar announced: those of the last call of ``announce``.
    :ivar begun: the rungs of each call of ``begin``.
    :ivar pictures: those of each rung; likewise ``configs``.
    :ivar coded: the tracks of each call of ``audio_coded``; ``audio``: the frames of audio.
    :ivar calls: the names of all other calls.
    """

    def __init__(self) -> None:
        self.announced: tuple[str, ...] = ()
        self.begun: list[tuple[Rung, ...]] = []
        self.pictures: dict[str, list[ReturnedPicture]] = {}
        self.configs: dict[str, list[VideoConfig]] = {}
        self.coded: list[tuple[int, ...]] = []
        self.audio: list[Frame] = []
        self.calls: list[str] = []

    def announce(self, names: Collection[str]) -> None:
        """Remember it."""
        self.announced = tuple(names)

    def begin(self, rungs: Sequence[Rung]) -> None:
        """Remember it."""
        self.begun.append(tuple(rungs))

    def pause(self) -> None:
        """Remember it."""
        self.calls.append("pause")

    def configured(self, rung: str, codec: str, config: VideoConfig) -> None:  # noqa: ARG002 - the contract's
        """Remember it."""
        self.configs.setdefault(rung, []).append(config)

    def frame(
        self, rung: str, pts: int, data: bytes, *, keyframe: bool, arrived_ms: int, turn: int | None = None
    ) -> None:
        """Remember it."""
        returned = ReturnedPicture(pts, data, keyframe, arrived_ms, pts if turn is None else turn)
        self.pictures.setdefault(rung, []).append(returned)

    def audio_coded(self, track_ids: Collection[int]) -> None:
        """Remember it."""
        self.coded.append(tuple(track_ids))

    def audio_frame(self, frame: Frame) -> None:
        """Remember it."""
        self.audio.append(frame)

    def restarted(self) -> None:
        """Remember it."""
        self.calls.append("restarted")

    def drained(self) -> None:
        """Remember it."""
        self.calls.append("drained")


def _no_process(*_arguments: object, **_options: object) -> IProcessTransport:
    raise OSError("this context starts no processes")


@dataclass
class Said:
    """What a transcoder has recorded and advised, in order."""

    events: list[tuple[EventType, Mapping[str, object]]] = field(default_factory=list)
    advice: dict[str, str] = field(default_factory=dict)


def make_transcoder_context(
    ladder: Any = None,
    *,
    clock: Any = None,
    metrics: Any = None,
    spawn_process: Any = _no_process,
    said: Said | None = None,
    is_watched: Callable[[], bool] = lambda: True,
) -> TranscoderContext:
    """A context for one transcoder; what is not given is a fresh double, and processes cannot be started."""
    kept = Said() if said is None else said
    return TranscoderContext(
        stream=StreamName("live", "test"),
        ladder=RecordingLadder() if ladder is None else ladder,
        clock=Clock() if clock is None else clock,
        log=Logger("rapidrtmp.testing.transcoders"),
        metrics=RecordingMetrics() if metrics is None else metrics,
        spawn_process=spawn_process,
        in_thread=_at_once,
        record=lambda type, data: kept.events.append((type, data)),
        advise=kept.advice.__setitem__,
        is_watched=is_watched,
    )


def _at_once(call: Any, *arguments: Any, **options: Any) -> Deferred[Any]:
    done: Deferred[Any] = Deferred()
    try:
        done.callback(call(*arguments, **options))
    except Exception:
        done.errback()
    return done


@implementer(ITranscoder)
class FakeTranscoder:
    """
    Codes nothing: the rungs it claims have the source's own pictures, in the order of presentation.

    :param rungs: name, width, height and bits a second of each.
    :ivar named_rungs: they as a ladder knows them.
    :ivar lag: so many pictures more are fed before one comes back.
    :ivar b_frames: so many in a row come back behind the picture that is shown after them.
    :ivar dead: the names of rungs that bring nothing.
    :ivar missed: the names given to ``segment_missed``.
    """

    def __init__(self, context: TranscoderContext, rungs: Sequence[tuple[str, int, int, int]] = RUNGS) -> None:
        self.lag = 0
        self.b_frames = 0
        self.dead: set[str] = set()
        self.missed: list[str] = []
        self._ladder = context.ladder
        self._rungs = tuple(rungs)
        self.named_rungs = tuple(Rung(name, bitrate) for name, _, _, bitrate in rungs)
        self._leading: Track | None = None
        self._waiting: list[Frame] = []
        self._group: list[Frame] = []  # pictures of which the last is brought first

    def tracks_changed(self, tracks: tuple[Track, ...]) -> None:
        """See :class:`ISink <rapidrtmp.interfaces.ISink>`; likewise the others."""
        self._leading = tracks[0] if tracks[0].kind is MediaKind.VIDEO else None
        self._ladder.begin(self.named_rungs if self._leading is not None else ())

    def frame_received(self, frame: Frame) -> None:
        """Take a picture, and bring those whose turn it is."""
        if self._leading is None or frame.track.id != self._leading.id:
            return
        self._waiting.append(frame)
        self._waiting.sort(key=lambda each: each.pts)
        while len(self._waiting) > self.lag and self._waiting[0].pts <= frame.pts and self._is_next(frame):
            self._bring(self._waiting.pop(0))

    def _is_next(self, newest: Frame) -> bool:
        return self._waiting[0].pts <= newest.dts + min(newest.composition_offset, 0) or newest.composition_offset == 0

    def _bring(self, frame: Frame) -> None:
        if frame.keyframe:
            self._bring_group()
        self._group.append(frame)
        if frame.keyframe or len(self._group) > self.b_frames:
            self._bring_group()

    def _bring_group(self) -> None:
        group, self._group = self._group, []
        for frame, due in zip([*group[-1:], *group[:-1]], group, strict=True):
            self._bring_picture(frame, due.pts)

    def _bring_picture(self, frame: Frame, turn: int) -> None:
        for name, width, height, _ in self._rungs:
            if name in self.dead:
                continue
            config = make_video_track(width, height).config
            assert isinstance(config, VideoConfig)
            self._ladder.configured(name, AVC.fourcc, config)
            self._ladder.frame(
                name, frame.pts, frame.data, keyframe=frame.keyframe, arrived_ms=frame.arrived_ms, turn=turn
            )

    def _drain(self) -> None:
        while self._waiting:
            self._bring(self._waiting.pop(0))
        self._bring_group()
        self._ladder.drained()

    def discontinuity(self) -> None:
        """What follows does not join on."""
        self._drain()

    def interrupted(self) -> None:
        """The publisher may return."""
        self._drain()

    def finish(self) -> None:
        """Bring what is left."""
        self._drain()

    def segment_missed(self, rung: str) -> None:
        """Remember it."""
        self.missed.append(rung)

    def asked_for(self) -> None:
        """There is always all that there will be."""


@implementer(ITranscoderFactory)
class FakeTranscoderFactory:
    """
    Makes one for each stream.

    :ivar made: those it has made, by the stream's name.
    """

    def __init__(self) -> None:
        self.made: dict[StreamName, FakeTranscoder] = {}

    def create(self, context: TranscoderContext) -> FakeTranscoder:
        """Make one."""
        made = self.made[context.stream] = FakeTranscoder(context)
        return made


class TranscoderContract(_Base):
    """
    What a live stream expects of a transcoder, one test each; mix into a trial ``SynchronousTestCase``.

    No process can be started here: a transcoder that cannot work leaves the stream as it is, without raising.
    """

    def make_factory(self) -> ITranscoderFactory:
        """Return a new factory."""
        raise NotImplementedError

    def new_transcoder(self) -> tuple[Any, TranscoderContext]:
        """A transcoder under test, and its context."""
        context = make_transcoder_context()
        return self.make_factory().create(context), context

    def finish(self, transcoder: Any, context: TranscoderContext) -> None:
        """Finish it; check that this is done before long, and leaves no timer."""
        result: Any = transcoder.finish()
        clock: Any = context.clock
        if result is not None:
            done: list[object] = []
            result.addBoth(done.append)
            clock.pump([0.1] * 100)
            self.assertEqual([None], done, "finish must be done before long, without an error")
        self.assertEqual([], clock.getDelayedCalls(), "a timer was left behind")

    def test_interfaces(self) -> None:
        """Factory and transcoder provide what they should, name by name."""
        factory: Any = self.make_factory()
        verifyObject(ITranscoderFactory, factory)
        transcoder, context = self.new_transcoder()
        verifyObject(ITranscoder, transcoder)
        self.finish(transcoder, context)

    def test_each_stream_has_its_own(self) -> None:
        """Each stream gets a transcoder of its own."""
        factory = self.make_factory()
        contexts = [make_transcoder_context() for _ in range(2)]
        made = [factory.create(context) for context in contexts]
        self.assertIsNot(made[0], made[1])
        for transcoder, context in zip(made, contexts, strict=True):
            self.finish(transcoder, context)

    def test_says_what_there_will_be(self) -> None:
        """Players wait for the rungs: of a stream with a picture and of one without it says which there are."""
        for video in (make_video_track(), None):
            transcoder, context = self.new_transcoder()
            source = FrameSource(video, make_audio_track(), gop=30)
            transcoder.tracks_changed(source.tracks)
            feed(transcoder, source.take(6))
            ladder: Any = context.ladder
            self.assertTrue(ladder.begun, "begin() was not called")
            if video is None:
                self.assertEqual((), ladder.begun[-1])
            self.finish(transcoder, context)

    def test_presentation_times_of_the_source(self) -> None:
        """What it brings has presentation times of the source's pictures, turns that rise, and is configured before."""
        transcoder, context = self.new_transcoder()
        source = FrameSource(make_video_track(), None, gop=30, b_frames=2)
        transcoder.tracks_changed(source.tracks)
        frames = source.take(4)
        feed(transcoder, frames)
        self.finish(transcoder, context)
        times = {frame.pts for frame in frames}
        ladder: Any = context.ladder
        for rung, pictures in ladder.pictures.items():
            shown, turns = [picture.pts for picture in pictures], [picture.turn for picture in pictures]
            self.assertEqual(sorted(shown), sorted(set(shown) & times))
            self.assertEqual(turns, sorted(set(turns)))
            self.assertIn(rung, ladder.configs)

    def test_interruptions_and_discontinuities(self) -> None:
        """The publisher may leave, return with other tracks, and leave for good, at any time."""
        video, other, audio = make_video_track(), make_video_track(640, 360), make_audio_track()
        for gops in (0, 3):
            transcoder, context = self.new_transcoder()
            for tracks in ((video, audio), (other, audio), (None, audio)):
                source = FrameSource(*tracks, gop=10)
                transcoder.tracks_changed(source.tracks)
                feed(transcoder, source.take(gops))
                transcoder.interrupted()
                transcoder.discontinuity()
            self.finish(transcoder, context)
