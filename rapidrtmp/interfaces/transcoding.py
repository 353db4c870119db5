"""
A transcoder: a live stream's frames in, the frames of a ladder's rungs out.

A *rung* is another size or rate of the picture. The source is published as if there were no ladder; whatever comes back
is found again by its presentation time, cut where the source was cut, and published beside it with the same numbers.
So a transcoder does nothing but code pictures: when it is late, or fails, its rungs have gaps, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import Attribute, Interface

from rapidrtmp.interfaces.events import EventType
from rapidrtmp.interfaces.packaging import IPartSink
from rapidrtmp.interfaces.sinks import IMetricsScope, ISink, SpawnProcess
from rapidrtmp.interfaces.storage import InThread
from rapidrtmp.media import Frame, VideoConfig
from rapidrtmp.names import StreamName

__all__ = [
    "ILadder",
    "ILateRenditionsSink",
    "IRenditionsSink",
    "ITranscoder",
    "ITranscoderFactory",
    "Rung",
    "RungReport",
    "TranscoderContext",
]


@dataclass(frozen=True, slots=True)
class Rung:
    """
    One rung.

    :ivar name: what it is called by, as a folder of the stream: its lines, as in ``720p``, and what tells it from
        others with as many, as in ``720p-low``.
    :ivar bitrate: what its pictures should take, in bits a second.
    """

    name: str
    bitrate: int


@dataclass(frozen=True, slots=True)
class RungReport:
    """
    How a rung does.

    :ivar state: ``starting``, ``running``, ``behind`` (its last segment was a gap) or ``off`` (no frames come).
    :ivar bitrate: of its pictures over the last seconds, in bits a second; likewise ``frames`` in all.
    :ivar lag_ms: how long the newest picture took, from its arrival at the server until it came back.
    :ivar gaps: how many of its segments are gaps; ``restarts``: how often it began anew.
    """

    name: str
    state: str
    codec: str
    width: int
    height: int
    bitrate: int
    frames: int
    lag_ms: int
    gaps: int
    restarts: int


class ILadder(Interface):
    """Where a transcoder puts what comes out of it. Nothing here waits, or raises for what a child process did."""

    def announce(names: Collection[str]) -> None:
        """
        Say which rungs there may be, before it is known which suit the source: players that had one before the server
        was restarted wait for it.
        """

    def begin(rungs: Sequence[Rung]) -> None:
        """
        Say which rungs there are from now on: once it is known what suits the source, and whenever that changes. Those
        left out get gaps at once; no rungs at all are an answer too, for players wait for one.
        """

    def pause() -> None:
        """
        Say that there are no rungs until viewers want some (``ITranscoder.asked_for``): who asks for what there is to
        choose from waits until ``begin`` is called.
        """

    def configured(rung: str, codec: str, config: VideoConfig) -> None:
        """
        Say how the frames of a rung that follow are to be decoded, before the first one.

        :param codec: the FourCC by which the codec table lists it.
        """

    def frame(rung: str, pts: int, data: bytes, *, keyframe: bool, arrived_ms: int, turn: int | None = None) -> None:
        """
        Take one picture of a rung, in the order of decoding.

        :param pts: its presentation time, which is that of a frame of the source, in 1/90000 s.
        :param data: the sample as MP4 stores it.
        :param keyframe: whether decoding may start there; wherever the source's segments begin it must be so.
        :param arrived_ms: that of the source's frame.
        :param turn: when it is decoded, rising within a rung, as presentation times: the third picture behind a
            keyframe is decoded when the third one is shown, whichever that is. ``None``: in the order of presentation.
        """

    def audio_coded(track_ids: Collection[int]) -> None:
        """Say which audio tracks of the source come coded anew from now on, by ``audio_frame``; none to begin with."""

    def audio_frame(frame: Frame) -> None:
        """
        Take one frame of audio that is coded anew.

        :param frame: in the order of its times, which are those of the source; its track has the id of the source's.
            What has not come in time is silence.
        """

    def restarted() -> None:
        """Say that frames which follow do not continue those before: decoding begins with the next keyframe."""

    def drained() -> None:
        """Say that nothing more comes of the frames that were fed so far: what is missing now is a gap."""


class ITranscoder(ISink):
    """
    Codes the pictures of one stream.

    It is called as any sink is: see ``ISink``. ``finish`` ends its work within some seconds; the Deferred fires when
    nothing more comes. What is fed first is a keyframe.
    """

    def segment_missed(rung: str) -> None:
        """Learn that a segment of a rung had to be published as a gap, because its frames have not come in time."""

    def asked_for() -> None:
        """Learn that a viewer waits for what there is to choose from, or has come for a rung."""


@dataclass(frozen=True)
class TranscoderContext:
    """
    What a transcoder is given to work with: some of ``SinkContext``, and where its frames go.

    :ivar ladder: takes what comes out of it.
    :ivar advise: as ``SinkContext.advise``; likewise ``record``, ``in_thread`` and ``spawn_process``.
    :ivar is_watched: tells whether the stream has viewers now.
    """

    stream: StreamName
    ladder: ILadder
    clock: IReactorTime
    log: Logger
    metrics: IMetricsScope
    spawn_process: SpawnProcess
    in_thread: InThread
    record: Callable[[EventType, Mapping[str, object]], None] = lambda _type, _data: None
    advise: Callable[[str, str], None] = lambda _topic, _advice: None
    is_watched: Callable[[], bool] = lambda: True


class ITranscoderFactory(Interface):
    """What a transcoder plugin's spec is made into; lives as long as the server does."""

    def create(context: TranscoderContext) -> ITranscoder:
        """Make the transcoder of one stream; called when the stream begins. What it raises leaves that without."""


class IRenditionsSink(IPartSink):
    """
    A part sink that publishes rungs as well.

    A rung's parts come as the stream's own do, later, to a part sink of its own; for each of the source's parts one,
    with the same times and the same audio, of every track that the source has. A part without runs is a gap.
    """

    has_renditions: bool = Attribute("Whether it wants any.")

    def announce_renditions(names: Collection[str]) -> None:
        """Learn which there may be, by name; those that are not expected later do not come."""

    def expect_renditions(names: Collection[str] | None) -> None:
        """Learn which rungs come, or are there, by name; ``None`` while it is open which there will be."""

    def pause_renditions() -> None:
        """Learn that there are none until viewers ask for what there is to choose from; then some are expected."""

    def open_rendition(rung: Rung) -> IPartSink:
        """Make the part sink of a rung; called once for each that there ever is."""


class ILateRenditionsSink(IRenditionsSink):
    """A sink that also wants rungs which began before it was attached: their parts from somewhere in a segment on."""
