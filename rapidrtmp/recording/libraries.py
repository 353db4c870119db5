"""The recordings of all applications, each of which has them in a storage that it may share with others."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rapidrtmp.archive.layout import RecordingId
from rapidrtmp.errors import NotFoundError
from rapidrtmp.recording.library import Library, Listed

__all__ = ["Libraries"]


class Libraries:
    """
    Every library there is.

    :param by_app: where the recordings of each application are; one or more.
    :param others: where those are looked for that belong to no application there is now.
    """

    def __init__(self, by_app: Mapping[str, Library], others: Library) -> None:
        self._by_app = by_app
        self._others = others

    def of(self, app: str) -> Library:
        """Where the recordings of an application are."""
        return self._by_app.get(app, self._others)

    async def page(
        self, prefix: str, chosen: Callable[[RecordingId], bool], number: int, size: int
    ) -> tuple[list[Listed], int]:
        """
        One page of the recordings whose ``APP/KEY/START`` begins with ``prefix`` and that are ``chosen``, the newest
        first.

        :param prefix: empty, or at least ``APP/``.
        :param number: of the page, from 0.
        :returns: the page, and how many there are on all pages.
        :raises StorageError: one of the storages failed.
        """
        found = await self._find(prefix)
        names = sorted(filter(chosen, found), key=lambda id: (id.start, id), reverse=True)
        listed = []
        for id in names[number * size : (number + 1) * size]:
            try:
                listed.append(Listed(await self.of(id.app).entry(id), found[id]))
            except NotFoundError:  # deleted meanwhile
                continue
        return listed, len(names)

    async def _find(self, prefix: str) -> dict[RecordingId, bool]:
        """What is where it belongs: an application's recordings in another library are not there for anybody."""
        app = prefix.partition("/")[0]
        found: dict[RecordingId, bool] = {}
        for library in [self.of(app)] if app else dict.fromkeys([*self._by_app.values(), self._others]):
            there = await library.find(prefix)
            found |= {id: protected for id, protected in there.items() if self.of(id.app) is library}
        return found
