"""
The stream as a plain web server or a CDN can serve it: its files in the storage, written behind.

A segment is listed here only once the storage says that it can be read; one that was lost is listed as a gap. So
a web server of the directory never serves a playlist that names what is not there.

Beside them lies the state, for a server that has to continue where this one was killed: see
``rapidrtmp.hls.resume.state``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from rapidrtmp.errors import StorageError
from rapidrtmp.hls.names import MEDIA_PLAYLIST, STATE, running_key
from rapidrtmp.hls.playlist import PlaylistWindow
from rapidrtmp.hls.resume.state import (
    MOST_RESERVED,
    RENEW_BELOW,
    RESERVED_AHEAD,
    RESERVED_PER_WAITING,
    STATE_TYPE,
    StoredState,
)
from rapidrtmp.hls.rewind.rewind import DELETIONS_PER_SEGMENT, Rewind
from rapidrtmp.hls.segment import ListedSegment
from rapidrtmp.hls.stored_window import StoredWindow
from rapidrtmp.interfaces import PLAYLIST_TYPE, IStorageWriter
from rapidrtmp.m3u8.write import PlaylistWriter

__all__ = ["StoredCopy"]

MEDIA_TYPE = "video/mp4"
SEGMENT_TYPE = "video/iso.segment"
MARK_TYPE = "application/byte-stream"


class StoredCopy:
    """
    Writes one stream's files under ``prefix``.

    :param live: what players see; what it lists is stored already.
    :param keep_for: how many segments stay in the storage after they left its playlist.
    :param orphans: names of media of an earlier presentation, to be deleted when nothing names them any more.
    :param rewind: takes every segment that is listed here, and keeps them for longer.
    :ivar deleted: the media sequence number of the oldest segment that is not deleted from the storage.
    """

    def __init__(
        self,
        storage: IStorageWriter,
        prefix: str,
        live: PlaylistWindow,
        keep_for: int,
        orphans: Iterable[str] = (),
        rewind: Rewind | None = None,
    ) -> None:
        self._storage = storage
        self._prefix = prefix
        self._list = live.list
        self._window = StoredWindow(live)
        self.deleted = live.first
        self._settled: set[int] = set()  # the numbers of those that wait for one before them
        self._keep_for = keep_for
        self._inits: dict[str, bytes] = {}  # those that are not stored yet
        self._lost_inits: set[str] = set()
        self._multivariant: tuple[str, bytes] | None = None
        self._orphans = list(orphans)
        self._rewind = rewind
        self._writer = PlaylistWriter()
        self._is_marked = False
        self._discontinuity = live.last_discontinuity
        self._reserved = 0
        self._reserve(live.next_sequence)

    @property
    def media(self) -> set[str]:
        """The names of all media that are stored, or about to be."""
        names = {*self._orphans, *self._inits}
        if self._rewind is not None:
            names |= self._rewind.names
        for segment in map(self._window.stored, range(self.deleted, self._list.end)):
            names |= {segment.map_uri} if segment.gap else {segment.map_uri, segment.uri}
        return names

    def _reserve(self, next_sequence: int) -> None:
        """See to it that the storage knows of the numbers that come next before they are used."""
        if self._reserved - next_sequence < RENEW_BELOW:
            ahead = RESERVED_AHEAD + RESERVED_PER_WAITING * max(next_sequence - 1 - self._window.end, 0)
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
        state = StoredState(self._window.constants, self._reserved, self._window.ended, self._discontinuity)
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
        """Write the newest segment of the list, and the playlist when that is done."""
        sequence = segment.sequence
        self._reserve(sequence + 1)
        if segment.gap:
            self._settle(sequence)
            return
        if segment.map_uri in self._lost_inits:
            self._put_init(segment.map_uri)
        written = self._put_watched(segment.uri, pieces)
        written.addCallbacks(lambda _: self._stored(sequence), lambda failure: self._lost(sequence, failure))

    def end(self) -> None:
        """Nothing follows: the playlist becomes final when all that was written before it is."""
        self._window.ended = True
        if not self._is_behind:
            self._put_playlist()

    def suspend(self) -> None:
        """
        Nothing follows from this process, and the next one continues: no number beyond the one that players have
        seen last is used, so that fewer are lost to gaps.
        """
        self._reserved = self._list.end + 1
        self._put_state()

    @property
    def _is_behind(self) -> bool:
        """Whether there are segments that the storage has not confirmed."""
        return self._window.end < self._list.end

    def _stored(self, sequence: int) -> None:
        if self._list[sequence].map_uri in self._inits:  # without which no player can use it
            self._window.lost.add(sequence)
        self._settle(sequence)

    def _lost(self, sequence: int, failure: Failure) -> None:
        failure.trap(StorageError)  # counted and said by the queue
        self._window.lost.add(sequence)
        self._settle(sequence)

    def _settle(self, sequence: int) -> None:
        """List the segment, unless one before it is not settled, and those behind it that have waited for it."""
        self._settled.add(sequence)
        window = self._window
        before = window.end
        while window.end in self._settled:
            self._settled.remove(window.end)
            window.advance()
            if self._rewind is not None:
                self._rewind.add(window.stored(window.end - 1))
        if window.end > before and not (window.ended and self._is_behind):
            self._put_playlist()
            self._delete_old()

    def _delete_old(self) -> None:
        """Queue the deletion of what is long gone, behind the playlist that does not name it any more."""
        for name in self._orphans[-DELETIONS_PER_SEGMENT:]:
            self._storage.delete(f"{self._prefix}/{name}")
        del self._orphans[-DELETIONS_PER_SEGMENT:]
        while self._window.first - self.deleted > self._keep_for:
            self._delete(self.deleted)
            self.deleted += 1

    def _delete(self, sequence: int) -> None:
        segment = self._window.stored(sequence)
        self._window.lost.discard(sequence)
        is_kept = self._rewind is not None and self._rewind.keeps(sequence)
        if not segment.gap and not is_kept:
            self._storage.delete(f"{self._prefix}/{segment.uri}")
        if self._list.is_last_of_init(sequence):
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
