"""A shelf that other nodes can follow: it has one observer, who hears of everything that is done to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from rapidrtmp.interfaces import IMMUTABLE, Playlist
from rapidrtmp.live.shelf import Shelf, ShelfObject

__all__ = ["FollowedShelf", "ShelfObserver", "always"]


class ShelfObserver(Protocol):
    """Hears what is done to a shelf, after it is done."""

    def put(self, name: str, put: ShelfObject) -> None:
        """An object was put up."""

    def put_playlist(self, name: str, playlist: Playlist) -> None:
        """A version of a playlist was."""

    def announced(self, name: str) -> None:
        """A name was promised."""

    def withdrawn(self, name: str) -> None:
        """A name was taken down."""


def always() -> bool:
    """Whether the shelf of a stream may change whose owner is another node: that one says what is on it."""
    return True


class FollowedShelf(Shelf):
    """
    See :class:`~rapidrtmp.live.shelf.Shelf`.

    :ivar observer: while there is one.
    :ivar may_change: whether this node still owns what is put up here; else nothing is.
    """

    observer: ShelfObserver | None = None
    may_change: Callable[[], bool] = staticmethod(always)

    @property
    def is_followed(self) -> bool:
        """See :class:`~rapidrtmp.live.shelf.Shelf`."""
        return self.observer is not None

    def put(self, name: str, pieces: Sequence[bytes], content_type: str, cache_control: str = IMMUTABLE) -> None:
        """See :meth:`IShelf.put <rapidrtmp.interfaces.IShelf.put>`."""
        if not self.may_change():
            return
        super().put(name, pieces, content_type, cache_control)
        if self.observer is not None:
            self.observer.put(name, self._objects[name])

    def put_object(self, name: str, stored: ShelfObject) -> None:
        """Put up an object as it is; as :meth:`put`."""
        before = self._objects.get(name)
        self._objects[name] = stored
        self.size += stored.size - (before.size if before is not None else 0)
        self._fire(self._expected.pop(name, set()), stored)

    def put_playlist(self, name: str, playlist: Playlist) -> None:
        """See :meth:`IShelf.put_playlist <rapidrtmp.interfaces.IShelf.put_playlist>`."""
        if not self.may_change():
            return
        super().put_playlist(name, playlist)
        if self.observer is not None:
            self.observer.put_playlist(name, playlist)

    def announce(self, name: str) -> None:
        """See :meth:`IShelf.announce <rapidrtmp.interfaces.IShelf.announce>`."""
        super().announce(name)
        if self.observer is not None and name in self._expected:
            self.observer.announced(name)

    def withdraw(self, name: str) -> None:
        """See :meth:`IShelf.withdraw <rapidrtmp.interfaces.IShelf.withdraw>`."""
        super().withdraw(name)
        if self.observer is not None:
            self.observer.withdrawn(name)

    # ── what is on it ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def objects(self) -> Iterator[tuple[str, ShelfObject]]:
        """Every object that is up, with its name."""
        return iter(list(self._objects.items()))

    @property
    def playlists(self) -> Iterator[tuple[str, Playlist]]:
        """The newest version of every playlist, with its name."""
        return iter([(name, version.facts) for name, version in self._playlists.items()])

    @property
    def promised(self) -> Iterator[str]:
        """Every name that is promised."""
        return iter(list(self._expected))
