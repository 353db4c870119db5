"""The recordings of all applications, each of which has them in a storage that it may share with others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from heapq import merge

from rapidrtmp.archive.layout import RecordingId
from rapidrtmp.errors import NotFoundError
from rapidrtmp.http.long_work import LongWork
from rapidrtmp.recording.library import Library, Listed
from rapidrtmp.recording.listing import Listing
from rapidrtmp.support.steps import Steps

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

    @property
    def work(self) -> LongWork:
        """Where what takes long is done for all of them."""
        return self._others.work

    def of(self, app: str) -> Library:
        """Where the recordings of an application are."""
        return self._by_app.get(app, self._others)

    async def page(
        self, prefix: str, chosen: Callable[[RecordingId], bool] | None, number: int, size: int
    ) -> tuple[list[Listed], int]:
        """
        One page of the recordings whose ``APP/KEY/START`` begins with ``prefix`` and that are ``chosen``, or
        all of them, the newest first.

        :param prefix: empty, or at least ``APP/``.
        :param number: of the page, from 0.
        :returns: the page, and how many there are on all pages.
        :raises StorageError: one of the storages failed.
        """
        listings = await self._listings(prefix)
        if len(listings) == 1 and chosen is None:
            names: Sequence[RecordingId] = next(iter(listings.values())).under(prefix)
        else:
            names = await self.work.do(self._choose(listings, prefix, chosen))
        listed = []
        for id in names[number * size : (number + 1) * size]:
            library = self.of(id.app)
            try:
                listed.append(Listed(await library.entry(id), id in listings[library].protected))
            except NotFoundError:  # deleted meanwhile
                continue
        return listed, len(names)

    async def _listings(self, prefix: str) -> dict[Library, Listing]:
        app = prefix.partition("/")[0]
        libraries = [self.of(app)] if app else dict.fromkeys([*self._by_app.values(), self._others])
        return {library: await library.listing() for library in libraries}

    def _choose(
        self, listings: Mapping[Library, Listing], prefix: str, chosen: Callable[[RecordingId], bool] | None
    ) -> Steps[list[RecordingId]]:
        """Of what is where it belongs: an application's recordings in another library are not there for any client."""
        names = []
        libraries = [[(id, library) for id in listing.under(prefix)] for library, listing in listings.items()]
        for id, library in merge(*libraries, key=lambda each: (each[0].start, each[0]), reverse=True):
            if self.of(id.app) is library and (chosen is None or chosen(id)):
                names.append(id)
            yield
        return names
