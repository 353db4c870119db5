"""
Every contract a third party can implement, and the values that pass through it.

A plugin is chosen by a spec such as ``hls:segment=2:window=10``. Its name leads, through an entry in
``rapidrtmp.plugins``, to a *factory class* that is called with the arguments of the spec (strings; ``-`` in a name
reads as ``_``). What that returns provides ``ISinkFactory``, ``IStorageFactory`` or ``IAuthenticatorFactory`` and
lives as long as the server does; it makes the working objects. A wrong argument raises ``ConfigurationError`` (a
``ValueError`` or ``TypeError`` serves too) and stops the start with one line.

All methods are called from the reactor thread unless they say otherwise.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from secrets import token_hex
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import Attribute, Interface

from rapidrtmp.media import Frame, Track
from rapidrtmp.names import StreamName

__all__ = [
    "AuthenticatorContext",
    "Counter",
    "Histogram",
    "IAuthenticator",
    "IAuthenticatorFactory",
    "ILeasingStorage",
    "IMetricsScope",
    "IRecoveringSinkFactory",
    "IShelf",
    "ISink",
    "ISinkFactory",
    "IStorage",
    "IStorageFactory",
    "IStorageSpace",
    "IStorageWriter",
    "IStoringSinkFactory",
    "ITokenIssuer",
    "Lease",
    "ObjectInfo",
    "Playlist",
    "PublishRequest",
    "Purpose",
    "RecoveryContext",
    "SinkContext",
    "StorageContext",
    "StoredObject",
    "Verdict",
]

#: ``Cache-Control`` of an object whose name is never used for other bytes: init segments, segments, parts.
IMMUTABLE = "public, max-age=31536000, immutable"


# ── sinks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


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

        At least one track, video first. After the first time, a ``discontinuity`` always precedes it, and the next
        video frame is a keyframe.
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


class ISinkFactory(Interface):
    """
    Makes one sink for each live stream.

    What its sinks store goes with the files of live streams, unless it also provides ``IStoringSinkFactory``.
    """

    def create(context: SinkContext) -> ISink:
        """Make the sink of one stream; called when its first frame is about to come. May raise: logged, no sink."""


class Purpose(StrEnum):
    """What something is stored for: an operator can choose a storage for each, and for each application."""

    LIVE = "live"  # what a live stream consists of now, for players, web servers and the next start: ``storage``
    RECORDINGS = "recordings"  # what is to stay when the stream is over: ``recordings``


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
        stream goes on with what an earlier process left, and nobody publishes it yet. Empty for a new presentation.
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


@dataclass(frozen=True)
class RecoveryContext:
    """
    What a sink factory is given to look after what an earlier process left.

    :ivar app: the application whose streams it shall look at.
    :ivar storage: the one that the factory's sinks write to: reads, and writes at once; the process that wrote there
        before is no more.
    :ivar utc_ms: the time of day in milliseconds since 1970.
    :ivar log: logs with the sink's name.
    :ivar reached: ``reached(number)`` says that numbers up to this one may have been seen: none below is ever given out
        as ``SinkContext.first_sequence``.
    :ivar resume: ``resume(stream, objects)`` makes the server treat the stream as interrupted: its sinks are made, with
        ``objects`` as the ``recovered`` of this factory's, and it ends if no publisher comes in its grace time.
    :ivar discard: ``discard(key)`` queues the deletion of an object.
    :ivar is_over: whether the server has begun: a stream that is not resumed by then may be published anew any moment,
        and belongs to that publisher's sinks.
    :ivar afterwards: ``afterwards(work)`` calls ``work`` when the sinks of all that was resumed are there and everybody
        is let in, one after the other: for what takes long. It is cancelled when the server stops.
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


class IRecoveringSinkFactory(Interface):
    """What a sink factory provides besides, if its streams can be gone on with after the server was killed."""

    def recover(context: RecoveryContext) -> Deferred[None]:
        """
        Put in order what an earlier process left, and say what can be gone on with.

        Called once, before anybody is let in, if the storage is persistent. The server waits some seconds, then it
        begins: of what was not resumed by then, nothing is. What is still to be put in order may go on meanwhile; it
        is cancelled when the server stops.
        """


# ── the shelf ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Playlist:
    """
    One version of a live media playlist, as text and as the facts that HTTP needs to hold requests for it.

    :ivar body: the whole playlist, UTF-8.
    :ivar delta: its delta update (``EXT-X-SKIP``), or ``None`` where nothing can be skipped.
    :ivar last_sequence: media sequence number of the last complete segment; ``first - 1`` if there is none yet.
    :ivar open_parts: how many parts of the segment after it are listed.
    :ivar last_segment_parts: how many parts the last complete segment had.
    :ivar target_ms: the target duration in milliseconds.
    :ivar part_target_ms: the part target, or 0 if there are no parts.
    :ivar ended: whether the playlist is final.
    """

    body: bytes
    delta: bytes | None
    last_sequence: int
    open_parts: int
    last_segment_parts: int
    target_ms: int
    part_target_ms: int
    ended: bool


class IShelf(Interface):
    """
    What one live stream serves over HTTP right now, by name; ``/APP/KEY/NAME`` reads it.

    Names are relative, without a slash. Nothing here blocks or waits.
    """

    def put(name: str, pieces: Sequence[bytes], content_type: str, cache_control: str = IMMUTABLE) -> None:
        """
        Put an object up, whole; ``pieces`` in order are its bytes (kept, not copied, until first asked for).

        Requests waiting for an announced ``name`` are answered. Putting a name again replaces the object: only for
        names whose ``cache_control`` allows it.
        """

    def put_playlist(name: str, playlist: Playlist) -> None:
        """Put up the next version of a media playlist and answer the requests that waited for what it holds."""

    def announce(name: str) -> None:
        """Promise that ``name`` will be put: requests for it wait, in bounds, instead of failing."""

    def withdraw(name: str) -> None:
        """Take an object down, or a promise back (whoever waits gets 404). An unknown name is no error."""


# ── storage ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """
    What a storage knows of an object without reading it.

    :ivar key: its key.
    :ivar size: in bytes.
    :ivar modified_ms: when it was last put, in milliseconds since 1970.
    :ivar content_type: as it was put, or guessed from the key.
    """

    key: str
    size: int
    modified_ms: int
    content_type: str


@dataclass(frozen=True)
class StoredObject:
    """
    An object being read.

    :ivar info: of the whole object.
    :ivar chunks: the bytes asked for, in order; iterate once. Stopping early releases what it holds.
    """

    info: ObjectInfo
    chunks: AsyncIterator[bytes]


class IStorage(Interface):
    """
    Objects by key.

    A key is ``/``-separated names, none of them empty, ``.`` or ``..``, without control characters or backslashes; at
    most 1024 bytes of UTF-8. A bad key fails with a ``StorageError`` that is not ``retryable`` and touches nothing.
    All methods are asynchronous, may be called again before they are done, and fail with ``StorageError`` when the
    backend does: ``retryable`` says whether the same call can succeed later.
    """

    def put(key: str, data: bytes, content_type: str, cache_control: str) -> Deferred[None]:
        """Store an object, replacing one of the same key. A reader sees the old bytes or the new, never a mixture."""

    def get(key: str, start: int = 0, length: int | None = None) -> Deferred[StoredObject]:
        """
        Open an object for reading from byte ``start``, ``length`` bytes or to its end (fewer if it is shorter).

        Fails with ``NotFoundError`` if there is none.
        """

    def stat(key: str) -> Deferred[ObjectInfo]:
        """What is known of an object. Fails with ``NotFoundError`` if there is none."""

    def list(prefix: str) -> Deferred[list[ObjectInfo]]:
        """All objects whose key begins with ``prefix``, sorted by key. ``""`` lists all."""

    def delete(key: str) -> Deferred[None]:
        """Delete an object; one that is not there is no error."""

    def close() -> Deferred[None]:
        """Release what is held; no call follows."""


class IStorageSpace(Interface):
    """What a storage provides besides, if there is an end to what it can hold and it can tell how far that is."""

    def free_bytes() -> Deferred[int]:
        """How many bytes can still be stored. Fails with ``StorageError``."""


@dataclass(frozen=True, slots=True)
class Lease:
    """
    A name in a storage that one process holds.

    :ivar name: of a stream, ``APP/KEY``, or whatever else processes must not do at the same time.
    :ivar holder: the process that holds it, by a name that no other process ever has.
    :ivar fence: rises with every change of the holder: of two processes that believe to hold a name, the one with the
        lower fence is wrong.
    """

    name: str
    holder: str
    fence: int


class ILeasingStorage(Interface):
    """
    What a storage provides besides, if several processes can use it at the same time.

    Who writes a stream, or a recording of it, holds the lease of its name ``APP/KEY`` in that storage, from before the
    first write until after the last one. What has a live lease of another process is not abandoned: recovery leaves it
    alone, and publishing it elsewhere is refused. A lease ends when it is released, or soon after its process does.

    A storage without this has one process at a time: all that an earlier one left in it is taken for abandoned.

    A name is what a key may be, of 300 bytes at most. Leases are no objects: ``list`` does not show them. All methods
    fail with ``StorageError`` when the backend does; a lease stays held until ``renew`` says that it is lost.
    """

    lease_s: float = Attribute(
        """
        How many seconds after the last renewal another process may take a lease; nothing is written later than that
        until it is renewed. 0 if a lease lasts as long as its process, and needs no renewal to be kept.
        """
    )
    renew_interval_s: float = Attribute("How many seconds pass between two calls of ``renew``.")

    def claim(name: str) -> Deferred[Lease]:
        """
        Take the lease of a name for this process, unless another one that is alive holds it: then it fails with
        ``LeaseHeldError``. What this process holds already is returned.
        """

    def renew() -> Deferred[Sequence[Lease]]:
        """
        Renew all leases that were claimed here and not released, with as few requests as there can be.

        :returns: those that another process has taken meanwhile, and this one holds no more.
        """

    def release(lease: Lease) -> Deferred[None]:
        """Give a lease back; one that is not held any more is no error, and stays with whom it is."""

    def find_leases(prefix: str) -> Deferred[Sequence[Lease]]:
        """All leases, of this process and of others that are alive, whose name begins with ``prefix``, by name."""


InThread = Callable[..., Deferred[Any]]


def _in_no_thread(*_args: Any, **_kwargs: Any) -> Deferred[Any]:
    raise NotImplementedError


@dataclass(frozen=True)
class StorageContext:
    """
    What a storage is given to work with.

    :ivar in_thread: ``in_thread(callable, *args, **kwargs)`` runs a blocking call in the storage's own thread pool and
        returns a ``Deferred`` of its result.
    :ivar clock: time and timers.
    :ivar log: logs with the storage's name.
    :ivar process: this process, by a name that no other ever has: the holder of its leases.
    :ivar in_read_thread: as ``in_thread``, for what only reads, in threads of their own: however many viewers read,
        writes do not wait for them.
    :ivar in_lease_thread: likewise for leases, which are lost if they wait.
    """

    in_thread: InThread
    clock: IReactorTime
    log: Logger
    process: str = field(default_factory=partial(token_hex, 8))
    in_read_thread: InThread = _in_no_thread
    in_lease_thread: InThread = _in_no_thread

    def __post_init__(self) -> None:
        for name in ("in_read_thread", "in_lease_thread"):
            if getattr(self, name) is _in_no_thread:
                object.__setattr__(self, name, self.in_thread)


class IStorageFactory(Interface):
    """Makes the one storage behind a spec."""

    persistent: bool = Attribute("Whether objects outlive the process.")

    def create(context: StorageContext) -> IStorage:
        """Make the storage. Raises ``ConfigurationError`` if it can never work."""


class IStorageWriter(Interface):
    """
    The sinks' side of a storage: a bounded queue that writes behind.

    Operations are carried out in the order they were given for one stream, with retries; a slow or failing backend
    delays nobody. When the queue is full, or retries are exhausted, the object is lost: its Deferred fails, the loss
    is counted, and said once.
    """

    persistent: bool = Attribute("Whether what is written outlives the process: else there is no need to mirror.")

    def put(key: str, data: Sequence[bytes], content_type: str, cache_control: str = IMMUTABLE) -> Deferred[None]:
        """
        Queue an object. The Deferred fires when it can be read, or fails with ``StorageError`` when it is lost.

        A newer ``put`` of a key whose older one still waits takes its place: both Deferreds fire with the newer.
        The Deferred's owner is the caller: handle its failure.
        """

    def delete(key: str) -> None:
        """Queue a deletion. Failing is logged and counted, no more."""


# ── authentication ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class PublishRequest:
    """
    Somebody who wants to publish.

    :ivar stream: the name asked for.
    :ivar token: the secret given under any of its usual names (``token``, ``key``, ``auth``, ``pass``), or ``""``.
    :ivar parameters: everything the URL's queries held, the token included.
    :ivar peer: the network address, without the port.
    """

    stream: StreamName
    token: str = field(repr=False)
    parameters: Mapping[str, str] = field(repr=False)
    peer: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    An authenticator's answer.

    :ivar allowed: yes or no.
    :ivar reason: for a refusal: one sentence for the publisher and the log; never a secret.
    :ivar credential: for consent: the same for the same credential, different for another; never the secret itself.
        A connection with the same credential may take over a silent one.
    :ivar expires_ms: when consent ends, in milliseconds since 1970: the publisher is then told and disconnected.
        ``None`` for never.
    """

    allowed: bool
    reason: str = ""
    credential: str = field(default="", repr=False)
    expires_ms: int | None = None


class IAuthenticator(Interface):
    """Decides who may publish a name."""

    def authorize_publish(request: PublishRequest) -> Verdict | Deferred[Verdict]:
        """
        Decide. A Deferred that fails, or takes longer than the server's limit, refuses the publisher with a neutral
        reason; only that publisher waits.
        """


class ITokenIssuer(Interface):
    """What an authenticator provides besides, if the publish API can ask it for tokens."""

    def issue_token(stream: StreamName, lifetime_s: int) -> str:
        """A new token for publishing ``stream``: URL-safe, at most 128 characters, valid for ``lifetime_s`` seconds."""


@dataclass(frozen=True)
class AuthenticatorContext:
    """
    What an authenticator is given to work with.

    :ivar clock: timers.
    :ivar utc_ms: the time of day in milliseconds since 1970.
    :ivar log: logs with the authenticator's name.
    """

    clock: IReactorTime
    utc_ms: Callable[[], int]
    log: Logger


class IAuthenticatorFactory(Interface):
    """Makes the one authenticator behind a spec."""

    def create(context: AuthenticatorContext) -> IAuthenticator:
        """Make the authenticator. Raises ``ConfigurationError`` if it can never work."""
