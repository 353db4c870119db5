"""Which recordings there are in one storage, as the catalogue has them, sorted for those who look through them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import merge

from rapidrtmp.archive.layout import RecordingId
from rapidrtmp.support.steps import Steps

__all__ = ["Listing", "listing_steps"]

#: So many are sorted in one step.
SORTED_AT_A_TIME = 500


def _newest_first(id: RecordingId) -> tuple[str, RecordingId]:
    return id.start, id


class Listing:
    """
    The recordings at one moment.

    :ivar newest_first: all of them.
    :ivar protected: those that may not be deleted.
    """

    def __init__(self, newest_first: list[RecordingId], protected: set[RecordingId]) -> None:
        self.newest_first = newest_first
        self.protected = protected
        self._of_stream: dict[str, list[RecordingId]] = {}
        for id in newest_first:
            self._of_stream.setdefault(f"{id.app}/{id.key}/", []).append(id)

    def under(self, prefix: str) -> Sequence[RecordingId]:
        """Those whose ``APP/KEY/START`` begins with ``prefix``: empty, ``APP/`` or ``APP/KEY/``; the newest first."""
        if not prefix:
            return self.newest_first
        if prefix.count("/") > 1:
            return self._of_stream.get(prefix, ())
        return [id for id in self.newest_first if id.app == prefix[:-1]]

    def forget(self, id: RecordingId) -> None:
        """It is deleted."""
        self.protected.discard(id)
        for ids in (self.newest_first, self._of_stream.get(f"{id.app}/{id.key}/", [])):
            if id in ids:
                ids.remove(id)


def listing_steps(keys: Iterable[tuple[RecordingId, bool] | None]) -> Steps[Listing]:
    """
    Sort what the catalogue has.

    :param keys: each recording, and whether this says that it is protected; ``None`` for an object of another kind.
    """
    found: dict[RecordingId, bool] = {}
    for each in keys:
        if each is not None:
            id, protected = each
            if not protected:
                found[id] = False
            elif id in found:  # it sorts behind the entry
                found[id] = True
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
    return Listing(newest_first, {id for id, protected in found.items() if protected})
