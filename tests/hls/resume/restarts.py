"""
A server's HLS side that can be killed and started again on the same storage, and players that live through it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.python.failure import Failure

from rapidrtmp.cmaf.packager import Packager
from rapidrtmp.hls.names import MEDIA_PLAYLIST, MULTIVARIANT_PLAYLIST, REWIND_PLAYLIST
from rapidrtmp.hls.sink import HlsSinkFactory
from rapidrtmp.interfaces import Playlist, RecoveryContext
from rapidrtmp.live.numbering import Numbering
from rapidrtmp.live.shelf import Shelf
from rapidrtmp.m3u8.model import MediaPlaylist
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.m3u8.rules import Rule, Severity
from rapidrtmp.m3u8.transitions import PlaylistChecker
from rapidrtmp.media import Frame, Track
from rapidrtmp.names import StreamName
from rapidrtmp.storage.memory import MemoryStorage
from rapidrtmp.testing.sinks import RecordingMetrics, RecordingWriter, make_sink_context

__all__ = [
    "STREAM",
    "Moment",
    "Players",
    "Server",
    "contents",
    "inits_by_discontinuity",
    "named",
    "now",
    "stored_playlist",
]

T = TypeVar("T")
STREAM = StreamName("live", "test")


class SeenShelf(Shelf):
    """
    A shelf that remembers all that was ever on it.

    :ivar bodies: objects by name; ``versions`` are those of the media playlist, ``rewound`` of the long one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bodies: dict[str, bytes] = {}
        self.versions: list[bytes] = []
        self.rewound: list[Playlist] = []

    def put(self, name: str, pieces: Sequence[bytes], *rest: str) -> None:
        super().put(name, pieces, *rest)
        self.bodies[name] = b"".join(pieces)

    def put_playlist(self, name: str, playlist: Playlist) -> None:
        super().put_playlist(name, playlist)
        if name == REWIND_PLAYLIST:
            self.rewound.append(playlist)
        else:
            self.versions.append(playlist.body)


@dataclass(frozen=True)
class Moment:
    """
    One at which the server may be killed.

    :ivar stored: what the storage holds by then.
    :ivar versions: of the media playlist that players have been given by then; ``bodies`` is all else.
    :ivar rewound: how many versions of the long playlist there were by then.
    """

    stored: Mapping[str, bytes]
    versions: Sequence[bytes]
    bodies: Mapping[str, bytes]
    rewound: int = 0


@dataclass(eq=False)
class Server:
    """
    One life of a server, as far as one stream is concerned.

    :param stored: what an earlier life left.
    :param now_ms: milliseconds since 1970; also where its timeline begins.
    :param lag: how many operations of the storage may wait.
    :param wrap: puts something between the recovery and the storage.
    :param hurried: whether :meth:`go_on` is left to the test.
    :param held: streams that other processes write.
    :ivar claimed: streams that were claimed.
    :ivar resumed: whether the stream is resumed.
    """

    stored: Mapping[str, bytes]
    now_ms: int
    lag: int = 0
    spec: Mapping[str, str] = field(default_factory=lambda: {"segment": "1s", "window": "4"})
    wrap: Callable[[MemoryStorage], Any] = lambda storage: storage
    resumed: bool = False
    hurried: bool = False
    held: Container[StreamName] = ()
    claimed: list[StreamName] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.shelf = SeenShelf()
        self.writer = RecordingWriter(holds=True)
        self.metrics = RecordingMetrics()
        self.numbering = Numbering(lambda: self.now_ms)
        self.factory = HlsSinkFactory(**self.spec)
        self.moments: list[Moment] = []
        self.afterwards: list[Callable[[], Awaitable[None]]] = []
        self.sink: Packager | None = None
        self._recovered: dict[StreamName, Mapping[str, bytes]] = {}
        self._recover()

    def _recover(self) -> None:
        self.storage = MemoryStorage(lambda: self.now_ms)
        for key, data in self.stored.items():
            self.storage.put(key, data, "", "")
        discarded: list[str] = []
        context = RecoveryContext(
            app=STREAM.app,
            storage=self.wrap(self.storage),
            utc_ms=lambda: self.now_ms,
            log=Logger("tests.hls"),
            reached=self.numbering.reached,
            resume=self._recovered.__setitem__,
            discard=discarded.append,
            is_over=lambda: False,
            afterwards=self.afterwards.append,
            claim=self._claim,
        )
        now(self.factory.recover(context))
        self.resumed = STREAM in self._recovered
        if self.resumed:
            self.sink = self._make_sink()
        if not self.hurried:
            self.go_on()
        for key in discarded:
            now(self.storage.delete(key))
        self.writer.objects = contents(self.storage)

    async def _claim(self, stream: StreamName) -> bool:
        self.claimed.append(stream)
        return stream not in self.held

    def go_on(self) -> None:
        """Do what was put off until publishers are let in."""
        for work in self.afterwards:
            now(Deferred.fromCoroutine(awaited(work)))

    def _make_sink(self) -> Packager:
        context = make_sink_context(
            stream=STREAM,
            shelf=self.shelf,
            storage=self.writer,
            clock=Clock(),
            utc_ms=lambda ticks, timescale: self.now_ms + ticks * 1000 // timescale,
            first_sequence=self.numbering.first(),
            metrics=self.metrics,
            recovered=self._recovered.pop(STREAM, {}),
        )
        return Packager(self.factory.create(context))

    def publish(self, tracks: tuple[Track, ...], frames: Sequence[Frame]) -> None:
        """A publisher comes and sends these; each moment in between is kept."""
        self.sink = self.sink or self._make_sink()
        self.sink.tracks_changed(tracks)
        for frame in frames:
            self.sink.frame_received(frame)
            self._settle(self.lag)

    def finish(self) -> None:
        """The stream ends; the storage takes all of it."""
        assert self.sink is not None
        self.sink.finish()
        self._settle(0)

    def _settle(self, lag: int) -> None:
        self._remember()
        while len(self.writer.waiting) > lag:
            self.writer.settle()
            self._remember()

    def _remember(self) -> None:
        last = self.moments[-1] if self.moments else None
        if last is None or (last.stored, len(last.versions)) != (self.writer.objects, len(self.shelf.versions)):
            shelf = self.shelf
            stored, bodies = dict(self.writer.objects), dict(shelf.bodies)
            self.moments.append(Moment(stored, tuple(shelf.versions), bodies, len(shelf.rewound)))


@dataclass(eq=False)
class Players:
    """
    Players who live through all lives of a server, and hold it to its word.

    :ivar checker: has seen all versions of the media playlist.
    :ivar bodies: all that they were ever given, by name.
    """

    checker: PlaylistChecker = field(default_factory=PlaylistChecker)
    bodies: dict[str, bytes] = field(default_factory=dict)
    restarts: int = 0

    def follow(self, versions: Sequence[bytes], bodies: Mapping[str, bytes], *, stored: int) -> None:
        """
        Look at what one life, up to its end, has given out.

        :param stored: the number of the segment after the last that was stored when the life before was ended. What
            was listed from there on is lost: it may be a gap now, of another duration, and nothing else.
        """
        for name in (self.bodies.keys() & bodies.keys()) - {MULTIVARIANT_PLAYLIST}:
            assert self.bodies[name] == bodies[name], f"{name} is not what it was"
        self.bodies |= bodies
        for version in versions:
            playlist = parse_media_playlist(version)
            before = self.checker.previous
            assert before is None or playlist.discontinuity_sequence >= before.discontinuity_sequence
            lost = {f"segment {segment.sequence}:" for segment in playlist.segments if segment.gap}
            for violation in self.checker.check(playlist):
                name = " ".join(violation.detail.split(" ")[:2])
                is_lost = name in lost and int(name[8:-1]) >= stored and violation.rule is Rule.FINAL
                assert violation.severity is Severity.WARNING or is_lost, violation


def stored_playlist(stored: Mapping[str, bytes]) -> MediaPlaylist | None:
    """The stored playlist, if there is one."""
    body = stored.get(f"{STREAM}/{MEDIA_PLAYLIST}")
    return None if body is None else parse_media_playlist(body)


def named(playlist: MediaPlaylist) -> set[str]:
    """All media that a playlist names, gaps aside."""
    inits = {segment.init.uri for segment in playlist.segments if segment.init}
    return inits | {segment.uri for segment in playlist.segments if not segment.gap}


def inits_by_discontinuity(playlist: MediaPlaylist) -> Iterator[tuple[int, str]]:
    """The discontinuity sequence number of each segment that is no gap, and its init segment."""
    number = playlist.discontinuity_sequence
    for segment in (*playlist.segments, *filter(None, [playlist.open])):
        number += segment.discontinuity
        if segment.init is not None and not segment.gap:
            yield number, segment.init.uri


def now(done: Deferred[T]) -> T:
    """The result of what is done already; raises its failure."""
    results: list[T] = []
    failures: list[Failure] = []
    done.addCallbacks(results.append, failures.append)
    for failure in failures:
        failure.raiseException()
    return results[0]


async def awaited(work: Callable[[], Awaitable[None]]) -> None:
    await work()


def contents(storage: MemoryStorage) -> dict[str, bytes]:
    """All objects of a storage."""

    async def read(key: str) -> bytes:
        return b"".join([chunk async for chunk in (await storage.get(key)).chunks])

    return {info.key: now(Deferred.fromCoroutine(read(info.key))) for info in now(storage.list(""))}
