"""Which recordings there are in one storage, as the catalogue has them, sorted for those who look through them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from itertools import count

from rapidrtmp.archive.layout import RecordingId
from rapidrtmp.interfaces import ObjectInfo
from rapidrtmp.support.steps import Steps

__all__ = ["Listing", "listing_steps"]

#: Numbers the changes of all catalogues there are.
_changes = count()

#: So many are sorted in one step.
SORTED_AT_A_TIME = 500


def _newest_first(id: RecordingId) -> tuple[str, RecordingId]:
    return id.start, id


class Listing:
    """
    The recordings at one moment.

    :param versions: for each recording what tells its entry from an earlier or later one.
    :ivar newest_first: all of them.
    :ivar protected: those that may not be deleted.
    :ivar titles: what people call those that have a title.
    :ivar change: another number with each change of the catalogue that is known of.
    """

    def __init__(
        self, newest_first: list[RecordingId], protected: set[RecordingId], versions: dict[RecordingId, ObjectInfo]
    ) -> None:
        self.newest_first = newest_first
        self.protected = protected
        self.titles: dict[RecordingId, str] = {}
        self.change = next(_changes)
        self._versions = versions
        self._of_stream: dict[str, list[RecordingId]] = {}
        for id in newest_first:
            self._of_stream.setdefault(f"{id.app}/{id.key}/", []).append(id)

    def version(self, id: RecordingId) -> ObjectInfo | None:
        """What tells the entry of a recording from an earlier or later one; ``None`` if it is not listed."""
        return self._versions.get(id)

    def under(self, prefix: str) -> Sequence[RecordingId]:
        """Those whose ``APP/KEY/START`` begins with ``prefix``: empty, ``APP/`` or ``APP/KEY/``; the newest first."""
        if not prefix:
            return self.newest_first
        if prefix.count("/") > 1:
            return self._of_stream.get(prefix, ())
        return [id for id in self.newest_first if id.app == prefix[:-1]]

    def protect(self, id: RecordingId, protected: bool) -> None:
        """It may not be deleted from now on, or may again."""
        self.change = next(_changes)
        (self.protected.add if protected else self.protected.discard)(id)

    def rename(self, id: RecordingId, title: str) -> None:
        """It has that title from now on; none if that is empty."""
        self.change = next(_changes)
        self.titles.pop(id, None)
        if title:
            self.titles[id] = title

    def forget(self, id: RecordingId) -> None:
        """It is deleted."""
        self.change = next(_changes)
        self._versions.pop(id, None)
        self.protected.discard(id)
        for ids in (self.newest_first, self._of_stream.get(f"{id.app}/{id.key}/", [])):
            if id in ids:
                ids.remove(id)


def listing_steps(entries: Iterable[tuple[RecordingId, bool, ObjectInfo] | None]) -> Steps[Listing]:
    """
    Sort what the catalogue has.

    :param entries: each recording, whether this says that it is protected, and the object that does; ``None`` for one
        of another kind.
    """
    found: dict[RecordingId, ObjectInfo] = {}
    protected: set[RecordingId] = set()
    for each in entries:
        if each is not None:
            id, is_protection, info = each
            if not is_protection:
                found[id] = info
            elif id in found:  # it sorts behind the entry
                protected.add(id)
        yield
    ids = list(found)
    runs: list[Iterator[RecordingId]] = []
    for at in range(0, len(ids), SORTED_AT_A_TIME):
        runs.append(iter(sorted(ids[at : at + SORTED_AT_A_TIME], key=_newest_first, reverse=True)))
        yield
    newest_first = []
    for id in merge(*runs, key=_newest_first, reverse=True):
        newest_first.append(id)
        yield
    return Listing(newest_first, protected, found)
