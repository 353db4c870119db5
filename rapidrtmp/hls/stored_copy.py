"""
The stream as a plain web server or a CDN can serve it: its files in the storage, written behind.

A segment is listed here only once the storage says that it can be read; one that was lost is listed as a gap. So
whoever serves the directory never serves a playlist that names what is not there.

Beside them lies the state, for a server that has to go on where this one was killed: see
``rapidrtmp.hls.resume.state``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from rapidrtmp.errors import StorageError
from rapidrtmp.hls.names import MEDIA_PLAYLIST, STATE, running_key
from rapidrtmp.hls.playlist import PlaylistWindow
from rapidrtmp.hls.resume.reopen import named_media
from rapidrtmp.hls.resume.state import (
    MOST_RESERVED,
    RENEW_BELOW,
    RESERVED_AHEAD,
    RESERVED_PER_WAITING,
    STATE_TYPE,
    MirrorState,
)
from rapidrtmp.hls.rewind.rewind import DELETIONS_PER_SEGMENT, Rewind
from rapidrtmp.hls.segment import ListedSegment
from rapidrtmp.interfaces import PLAYLIST_TYPE, IStorageWriter
from rapidrtmp.m3u8.write import PlaylistWriter

__all__ = ["Mirror"]

MEDIA_TYPE = "video/mp4"
SEGMENT_TYPE = "video/iso.segment"
MARK_TYPE = "application/octet-stream"


@dataclass(slots=True, eq=False)
class _Pending:
    segment: ListedSegment
    size: int
    settled: bool = False


class Mirror:
    """
    Writes one stream's files under ``prefix``.

    :param window: empty, or what the storage already lists.
    :param keep_for: how many segments stay in the storage after they left its playlist.
    :param leftovers: names of media of an earlier presentation, to be deleted when nothing names them any more.
    :param rewind: is told of every segment that is listed here, and keeps them for longer.
    """

    def __init__(
        self,
        storage: IStorageWriter,
        prefix: str,
        window: PlaylistWindow,
        keep_for: int,
        leftovers: Iterable[str] = (),
        rewind: Rewind | None = None,
    ) -> None:
        self._storage = storage
        self._prefix = prefix
        self._window = window
        self._keep_for = keep_for
        self._inits: dict[str, bytes] = {}  # those that are not stored yet
        self._lost_inits: set[str] = set()
        self._multivariant: tuple[str, bytes] | None = None
        self._pending: deque[_Pending] = deque()
        self._retired: deque[ListedSegment] = deque()
        self._leftovers = list(leftovers)
        self._rewind = rewind
        self._writer = PlaylistWriter()
        self._is_marked = False
        self._discontinuity = window.last_discontinuity
        self._reserved = 0
        self._reserve(window.next_sequence)

    @property
    def media(self) -> set[str]:
        """The names of all media that are stored, or about to be."""
        names = {*self._leftovers, *self._inits, *named_media(self._window)}
        if self._rewind is not None:
            names |= self._rewind.names
        for segment in (*self._retired, *(pending.segment for pending in self._pending)):
            names |= {segment.map_uri} if segment.gap else {segment.map_uri, segment.uri}
        return names

    def _reserve(self, next_sequence: int) -> None:
        """See to it that the storage knows of the numbers that come next before they are used."""
        if self._reserved - next_sequence < RENEW_BELOW:
            ahead = RESERVED_AHEAD + RESERVED_PER_WAITING * len(self._pending)
            self._reserved = next_sequence + min(ahead, MOST_RESERVED)
            self._put_state()

    def begin_discontinuity(self, number: int) -> None:
        """Have the storage know of a discontinuity sequence number, which may be lost with its segment."""
        self._discontinuity = number
        self._put_state()

    def _mark(self) -> None:
        """Say that the stream is running, before anything else of it is stored."""

        def lost(failure: Failure) -> None:
            failure.trap(StorageError)
            self._is_marked = False

        self._is_marked = True
        self._storage.put(self._running, [b""], MARK_TYPE, "no-store").addErrback(lost)

    def _put_state(self) -> None:
        def lost(failure: Failure) -> None:
            failure.trap(StorageError)
            self._reserved = 0  # again with the next segment

        if not self._is_marked:
            self._mark()
        state = MirrorState(self._window.constants, self._reserved, self._window.ended, self._discontinuity)
        written = self._storage.put(f"{self._prefix}/{STATE}", [state.render()], STATE_TYPE, "no-store")
        written.addErrback(lost)

    @property
    def _running(self) -> str:
        return running_key(*self._prefix.split("/"))

    def put_init(self, name: str, data: bytes) -> None:
        """Write an init segment; should it be lost, again with each segment that needs it."""
        self._inits[name] = data
        self._put_init(name)

    def _put_init(self, name: str) -> None:
        def lost(failure: Failure) -> None:
            failure.trap(StorageError)
            self._lost_inits.add(name)

        self._lost_inits.discard(name)
        written = self._storage.put(f"{self._prefix}/{name}", [self._inits[name]], MEDIA_TYPE)
        written.addCallbacks(lambda _: self._inits.pop(name, None), lost)

    def put_multivariant(self, name: str, data: bytes) -> None:
        """Write the multivariant playlist, once there is the media playlist that it names."""
        self._multivariant = (name, data)
        if self._window.segments:
            self._put_multivariant()

    def put_segment(self, segment: ListedSegment, pieces: Sequence[bytes]) -> None:
        """Write a complete segment, and the playlist when that is done."""
        self._reserve(segment.sequence + 1)
        pending = _Pending(segment.bare(), sum(map(len, pieces)))
        self._pending.append(pending)
        if segment.gap:
            self._settle(pending)
            return
        if segment.map_uri in self._lost_inits:
            self._put_init(segment.map_uri)
        written = self._put_watched(segment.uri, pieces)
        written.addCallbacks(lambda _: self._stored(pending), lambda failure: self._lost(pending, failure))

    def end(self) -> None:
        """Nothing follows: the playlist becomes final when all that was written before it is."""
        self._window.ended = True
        if not self._pending:
            self._put_playlist()

    def _stored(self, pending: _Pending) -> None:
        if pending.segment.map_uri in self._inits:  # without which nobody can play it
            pending.segment = pending.segment.as_gap()
        self._settle(pending)

    def _lost(self, pending: _Pending, failure: Failure) -> None:
        failure.trap(StorageError)  # counted and said by the queue
        pending.segment = pending.segment.as_gap()
        self._settle(pending)

    def _settle(self, pending: _Pending) -> None:
        pending.settled = True
        listed = False
        while self._pending and self._pending[0].settled:
            first = self._pending.popleft()
            self._retired.extend(self._window.append(first.segment))
            if self._rewind is not None:
                self._rewind.add(first.segment, first.size)
            listed = True
        if listed and not (self._window.ended and self._pending):
            self._put_playlist()
            self._delete_retired()

    def _delete_retired(self) -> None:
        """Queue the deletion of what is long gone, behind the playlist that does not name it any more."""
        for name in self._leftovers[-DELETIONS_PER_SEGMENT:]:
            self._storage.delete(f"{self._prefix}/{name}")
        del self._leftovers[-DELETIONS_PER_SEGMENT:]
        while len(self._retired) > self._keep_for:
            segment = self._retired.popleft()
            is_kept = self._rewind is not None and self._rewind.keeps(segment.sequence)
            if not segment.gap and not is_kept:
                self._storage.delete(f"{self._prefix}/{segment.uri}")
            listed = (*self._retired, *self._window.segments, *(pending.segment for pending in self._pending))
            if all(other.map_uri != segment.map_uri for other in listed):
                self._inits.pop(segment.map_uri, None)
                self._lost_inits.discard(segment.map_uri)
                if not is_kept:
                    self._storage.delete(f"{self._prefix}/{segment.map_uri}")

    def _put_playlist(self) -> None:
        cache = "max-age=60" if self._window.ended else "max-age=1"
        self._put(MEDIA_PLAYLIST, [self._writer.render(self._window.plain()).encode()], PLAYLIST_TYPE, cache)
        if self._window.ended:
            self._put_state()
            self._storage.delete(self._running)
            if self._rewind is not None:
                self._rewind.end()
        self._put_multivariant()

    def _put_multivariant(self) -> None:
        if self._multivariant is not None:
            name, data = self._multivariant
            self._multivariant = None
            self._put(name, [data], PLAYLIST_TYPE, f"max-age={self._window.constants.target_s}")

    def _put(self, name: str, data: Sequence[bytes], content_type: str, *cache_control: str) -> None:
        written = self._storage.put(f"{self._prefix}/{name}", data, content_type, *cache_control)
        written.addErrback(Failure.trap, StorageError)

    def _put_watched(self, name: str, data: Sequence[bytes]) -> Deferred[None]:
        return self._storage.put(f"{self._prefix}/{name}", data, SEGMENT_TYPE)
