"""Where a live stream's frames go, and what a sink is given to work with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Protocol

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IProcessProtocol, IProcessTransport, IReactorTime
from twisted.logger import Logger
from zope.interface import Attribute, Interface, implementer

from rapidrtmp.errors import MisuseError
from rapidrtmp.interfaces.captions import Caption, ICaptions
from rapidrtmp.interfaces.events import EventType
from rapidrtmp.interfaces.packaging import IPartSink
from rapidrtmp.interfaces.playback import IShelf, Playlist
from rapidrtmp.interfaces.storage import InThread, IStorage, IStorageWriter
from rapidrtmp.media import Frame, TimedMetadata, Track
from rapidrtmp.names import StreamName

__all__ = [
    "Counter",
    "Histogram",
    "IFrameQueue",
    "IMetadataSink",
    "IMetricsScope",
    "IMovingSink",
    "IMovingSinkFactory",
    "IRecoveringSinkFactory",
    "IReplacingSinkFactory",
    "IResumableSink",
    "ISink",
    "ISinkFactory",
    "IStoringSinkFactory",
    "Purpose",
    "RecoveryContext",
    "SinkContext",
    "SpawnProcess",
]


class ISink(Interface):
    """
    Where a live stream's frames go: a packager, a recorder, a relay, a probe.

    Called from the reactor thread in this order: ``tracks_changed``, then ``frame_received`` per frame, each track in
    decode order and the tracks interleaved roughly by time, with ``tracks_changed``, ``discontinuity`` and
    ``interrupted`` wherever they happen; ``finish`` once. Every call must return at once (well under a millisecond per
    frame): slow work belongs in the sink's own bounded queue. A sink that raises is detached, counted and logged once;
    the stream and its other sinks never notice.
    """

    def tracks_changed(tracks: tuple[Track, ...]) -> None:
        """
        Learn what the frames that follow are: before the first frame, and whenever a codec config changes.

        At least one track, video first; there may be several of each kind, with ids of their own. The first one
        leads: a stream begins with its keyframe. After the first time, a ``discontinuity`` always precedes it, and the
        next frame of each video track is a keyframe.
        """

    def frame_received(frame: Frame) -> None:
        """
        Take one frame and return at once; it is immutable, so keep it as long as you like.

        A sink attached late is first given the frames since the last keyframe, then the live ones.
        """

    def discontinuity() -> None:
        """
        Learn that what follows does not join on to what came before (the publisher's clock jumped, another publisher
        took over, the codec changed): finish open samples with their ``duration``. Decode times still rise.
        """

    def interrupted() -> None:
        """
        Learn that the publisher is gone but may return: write out what is held, but end nothing. Either
        ``discontinuity`` and frames follow, or ``finish``.
        """

    def finish() -> Deferred[None] | None:
        """
        End: no call follows. Write out what is held; return a Deferred if that takes time.

        The server waits for it a few seconds at most when it shuts down, not at all otherwise.
        """


class IResumableSink(Interface):
    """
    What a sink provides besides, if a later server continues what it makes (see ``IRecoveringSinkFactory``).

    An ``ISink`` or an ``IPartSink`` may. Without it a sink is finished when the server stops.
    """

    def suspend() -> Deferred[None] | None:
        """
        Stop with the server, in place of ``finish``: the next server resumes the stream. Called when the publisher is
        gone (``interrupted``). Write out what is held, and leave what viewers have open; no call follows. Return a
        Deferred if that takes time.
        """


class IMetadataSink(ISink):
    """What a sink provides besides, if it takes what is said about moments of the stream."""

    def metadata_received(metadata: TimedMetadata) -> None:
        """Take it: between two frames, about when its moment is."""


class IMovingSink(Interface):
    """
    What a sink provides besides, if another process continues what it makes while it is live: the publisher has come
    back to another node, and the stream moves there.

    An ``ISink`` or an ``IPartSink`` may. Without it a sink is finished when its stream moves, and made anew there.
    """

    def leave() -> Mapping[str, bytes | None]:
        """
        Stop, in place of ``finish``; called when the publisher is gone (``interrupted``). Leave what viewers have as it
        is; no call follows.

        :returns: what the sink of the same name needs in the other process, by name; ``None`` for what the shelf has
            under that name. It is what its factory's ``arrive`` is given there. Empty if there is nothing to continue.
        """


class ISinkFactory(Interface):
    """
    Makes one sink for each live stream.

    What its sinks store goes with the files of live streams, unless it also provides ``IStoringSinkFactory``.
    """

    def create(context: SinkContext) -> ISink | IPartSink:
        """Make the sink of one stream; called when its first frame is about to come. May raise: logged, no sink."""


class Purpose(StrEnum):
    """What something is stored for: an operator can choose a storage for each, and for each application."""

    LIVE = "live"  # what a live stream consists of now, for players, web servers and the next start: ``storage``
    RECORDINGS = "recordings"  # what is to stay when the stream is over: ``recordings``


class IReplacingSinkFactory(Interface):
    """What a sink factory provides besides, if it takes over from the one before when settings change."""

    def take_over(former: Any) -> None:
        """
        Take over what the former factory of the same sink remembers; it may be of another kind. Sinks that it has made
        live on. Called before any sink is asked for.
        """


class IStoringSinkFactory(Interface):
    """What a sink factory provides besides, to say what its sinks store things for."""

    purpose: Purpose = Attribute(
        """
        Says which of the application's storages is ``SinkContext.storage``, and ``RecoveryContext.storage`` if it
        recovers. One of ``Purpose``, or its text; asked when the server starts, which another value stops.
        """
    )


class Counter(Protocol):
    """A number that only grows, shown at ``/metrics``."""

    def inc(self, amount: float = 1) -> None:
        """Add ``amount``, 0 or more."""


class Histogram(Protocol):
    """A distribution, shown at ``/metrics``."""

    def observe(self, amount: float) -> None:
        """Count one observation."""


class IMetricsScope(Interface):
    """Metrics of one sink: named by the sink, summed over all streams, shown at ``/metrics``."""

    def counter(name: str, documentation: str) -> Counter:
        """The counter ``rapidrtmp_NAME``; the same one for every stream. ``name`` ends in ``_total``."""

    def histogram(name: str, documentation: str, buckets: Sequence[float]) -> Histogram:
        """The histogram ``rapidrtmp_NAME``; the same one for every stream. ``name`` ends in its unit."""


class IFrameQueue(Interface):
    """
    A bounded queue of frames, between a sink and work that takes longer than a sink may.

    Full, it drops up to the leading video track's next keyframe (of a stream without video, what does not fit), so that
    what comes out can be decoded.
    """

    dropped: int = Attribute("How many frames did not fit, in all.")

    def tracks_changed(tracks: tuple[Track, ...]) -> None:
        """Learn the tracks of the frames that follow: to be called from the sink's own ``tracks_changed``."""

    def put(frame: Frame) -> bool:
        """Add a frame; whether it was taken. Never waits."""

    def get() -> Deferred[Frame | None]:
        """
        The next frame, when there is one; ``None`` when the queue is closed and empty. One reader at a time: a second
        one raises ``MisuseError``. Cancel the Deferred to stop waiting.
        """

    def close() -> None:
        """Take no more frames; what is in it can still be read."""

    def __len__() -> int:
        """How many frames wait."""


class SpawnProcess(Protocol):
    """As ``IReactorProcess.spawnProcess``, without what only root may do."""

    def __call__(
        self,
        protocol: IProcessProtocol,
        executable: str,
        args: Sequence[str],
        env: Mapping[str, str] | None = ...,
        path: str | None = ...,
        *,
        childFDs: Mapping[int, int | str] | None = ...,
    ) -> IProcessTransport:
        """Start a process; the caller ends it at ``finish``."""


def _no_queue(*_arguments: object, **_options: object) -> IFrameQueue:
    raise MisuseError("this context makes no frame queues")


def _no_process(*_arguments: object, **_options: object) -> IProcessTransport:
    raise MisuseError("this context starts no processes")


@implementer(ICaptions)
class _NoCaptions:
    """The captions of a context that has none."""

    tracks: Mapping[str, str] = MappingProxyType({})

    def announce(self, language: str, name: str) -> None:
        """See :meth:`ICaptions.announce`; likewise the others."""

    def add(self, caption: Caption) -> None:
        raise MisuseError(f"this context takes no captions: {caption}")

    def since(self, number: int) -> tuple[int, Sequence[Caption]]:
        return number, ()


@dataclass(frozen=True)
class SinkContext:
    """
    What a sink is given to work with.

    :ivar stream: the stream's public name.
    :ivar shelf: where to put what HTTP serves now.
    :ivar storage: where to write what is to be kept; never blocks. That of the application for the factory's purpose.
    :ivar clock: time and timers; a ``task.Clock`` in tests.
    :ivar log: logs with the stream's and the sink's name.
    :ivar metrics: counters and histograms.
    :ivar utc_ms: wall-clock time of a moment of the stream: from ``(ticks, timescale)`` to milliseconds since 1970.
        Ask for it when the moment is written down: the mapping is corrected now and then.
    :ivar first_sequence: where the numbers and names of segments must begin: above every one this stream ever used.
        It is large; a number that players use as an index (that of a discontinuity) begins at 0 instead.
    :ivar recovered: what the sink's factory handed to ``RecoveryContext.resume`` for this stream, by name; then the
        stream continues what an earlier process left, and has no publisher yet. Empty for a new presentation.
    :ivar in_thread: ``in_thread(callable, *args, **kwargs)`` runs a blocking call in a thread that plugins share, and
        returns a ``Deferred`` of its result.
    :ivar spawn_process: starts a process.
    :ivar record: ``record(type, data)`` records an event of the stream: see ``IEventLog``.
    :ivar expected_tracks: the ids of tracks that the publisher has announced, and that are not here: they may come yet.
    :ivar advise: ``advise(topic, advice)`` says in one sentence to the person at the encoder, and in the API, what the
        sink leaves out of the stream, and what would help; an empty one takes back what was said on that topic.
    :ivar captions: the captions of the stream, for sinks that make them and sinks that publish them.
    :ivar add_metadata: gives the stream timed metadata, for its players; see ``TimedMetadata``.
    :ivar frame_queue: ``frame_queue(max_frames=300, max_bytes=16 MiB)`` makes a bounded queue for work that takes long.
    """

    stream: StreamName
    shelf: IShelf
    storage: IStorageWriter
    clock: IReactorTime
    log: Logger
    metrics: IMetricsScope
    utc_ms: Callable[[int, int], int]
    first_sequence: int
    recovered: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    in_thread: InThread = maybeDeferred
    spawn_process: SpawnProcess = _no_process
    frame_queue: Callable[..., IFrameQueue] = _no_queue
    record: Callable[[EventType, Mapping[str, object]], None] = lambda _type, _data: None
    expected_tracks: Callable[[], frozenset[int]] = frozenset
    advise: Callable[[str, str], None] = lambda _topic, _advice: None
    captions: ICaptions = field(default_factory=_NoCaptions)
    add_metadata: Callable[[TimedMetadata], None] = lambda _metadata: None


@dataclass(frozen=True)
class RecoveryContext:
    """
    What a sink factory is given to look after what an earlier process left.

    :ivar app: the application whose streams it shall look at.
    :ivar storage: the one that the factory's sinks write to: reads, and writes at once.
    :ivar utc_ms: the time of day in milliseconds since 1970.
    :ivar log: logs with the sink's name.
    :ivar reached: ``reached(number)`` says that numbers up to this one may have been seen: none below is ever given out
        as ``SinkContext.first_sequence``.
    :ivar resume: ``resume(stream, objects)`` makes the server treat the stream as interrupted: its sinks are made, with
        ``objects`` as the ``recovered`` of this factory's, and it ends if no publisher comes in its grace time.
    :ivar discard: ``discard(key)`` queues the deletion of an object.
    :ivar is_over: whether the server has begun: a stream that is not resumed by then may be published anew any moment,
        and belongs to that publisher's sinks.
    :ivar afterwards: ``afterwards(work)`` calls ``work`` when the sinks of all that was resumed are there and clients
        are let in, one after the other: for what takes long. It is cancelled when the server stops.
    :ivar claim: ``claim(stream)`` says whether the stream is this process's to look after, and keeps it so until the
        recovery is over, or the stream is, if it is resumed. It is asked before anything of the stream is changed, or
        read to be changed. Where it is not, another process that is alive writes the stream: leave it alone.
    :ivar is_stored: whether the storage keeps what is written.
    """

    app: str
    storage: IStorage
    utc_ms: Callable[[], int]
    log: Logger
    reached: Callable[[int], None]
    resume: Callable[[StreamName, Mapping[str, bytes]], None]
    discard: Callable[[str], None]
    is_over: Callable[[], bool]
    afterwards: Callable[[Callable[[], Awaitable[None]]], None]
    claim: Callable[[StreamName], Awaitable[bool]] = field(default=lambda _stream: succeed(True))
    is_stored: bool = True


class IMovingSinkFactory(Interface):
    """What a sink factory provides besides, if another process can continue its streams (see ``IMovingSink``)."""

    def arrive(context: RecoveryContext, stream: StreamName, left: Mapping[str, bytes]) -> Deferred[None]:
        """
        Continue one stream: say what its sink resumes, by ``RecoveryContext.resume``, or leave it to begin anew.

        :param left: what the sink in the process before has left; or what ``salvage`` made; or empty, if that process
            is no more and nothing is known of the stream but what is stored.
        """

    def salvage(
        playlists: Mapping[str, Playlist], find: Callable[[str], bytes | None], utc_ms: int
    ) -> Mapping[str, bytes]:
        """
        Make, of what viewers of this process saw of a stream whose process is no more, what ``leave`` would have left:
        numbers that they may have seen are used up.

        :param playlists: the newest versions, by name.
        :param find: finds the bytes of an object.
        :returns: nothing if there is nothing to continue.
        """


class IRecoveringSinkFactory(Interface):
    """What a sink factory provides besides, if its streams can be resumed after the server was killed."""

    def recover(context: RecoveryContext) -> Deferred[None]:
        """
        Put in order what an earlier process left, and say what can be resumed. Other processes may be at work in
        the storage: see ``RecoveryContext.claim``.

        Called once, before any client is let in, if the storage is persistent. The server waits some seconds, then it
        begins: of what was not resumed by then, nothing is. What is still to be put in order may continue meanwhile; it
        is cancelled when the server stops.
        """
