"""The recordings of all applications, each of which has them in a storage that it may share with others."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge

from rapidrtmp.archive.layout import RecordingId
from rapidrtmp.errors import NotFoundError
from rapidrtmp.http.long_work import LongWork
from rapidrtmp.recording.library import Library, Listed
from rapidrtmp.recording.listing import Listing
from rapidrtmp.support.steps import Steps

__all__ = ["Libraries", "View"]


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
        One page of the recordings; see :meth:`view` and :meth:`View.page`.

        :raises StorageError: one of the storages failed.
        """
        return await (await self.view(prefix)).page(chosen, number, size)

    async def view(self, prefix: str = "") -> View:
        """
        The recordings, as their catalogues have them, whose ``APP/KEY/START`` begins with ``prefix``.

        :param prefix: empty, or at least ``APP/``.
        :raises StorageError: one of the storages failed.
        """
        app = prefix.partition("/")[0]
        libraries = [self.of(app)] if app else dict.fromkeys([*self._by_app.values(), self._others])
        return View(self, prefix, {library: await library.listing() for library in libraries})


@dataclass(frozen=True, slots=True)
class View:
    """
    Some recordings at one moment.

    :ivar prefix: their ``APP/KEY/START`` begins with this.
    """

    libraries: Libraries
    prefix: str
    listings: Mapping[Library, Listing]

    @property
    def change(self) -> Hashable:
        """Another value with each change of a catalogue; recordings that grow change besides."""
        return tuple(listing.change for listing in self.listings.values())

    def title(self, id: RecordingId) -> str:
        """What people call one of them; empty if it has no title."""
        return self.listings[self.libraries.of(id.app)].titles.get(id, "")

    async def page(
        self, chosen: Callable[[RecordingId], bool] | None, number: int, size: int
    ) -> tuple[list[Listed], int]:
        """
        One page of those that are ``chosen``, or of all, the newest first.

        :param number: of the page, from 0.
        :returns: the page, and how many there are on all pages.
        :raises StorageError: one of the storages failed.
        """
        if len(self.listings) == 1 and chosen is None:
            names: Sequence[RecordingId] = next(iter(self.listings.values())).under(self.prefix)
        else:
            names = await self.libraries.work.do(self._choose(chosen))
        listed = []
        for id in names[number * size : (number + 1) * size]:
            library = self.libraries.of(id.app)
            try:
                listed.append(await library.listed(self.listings[library], id))
            except NotFoundError:  # deleted meanwhile
                continue
        return listed, len(names)

    def _choose(self, chosen: Callable[[RecordingId], bool] | None) -> Steps[list[RecordingId]]:
        """Of what is where it belongs: an application's recordings in another library are not there for any client."""
        names = []
        libraries = [[(id, library) for id in listing.under(self.prefix)] for library, listing in self.listings.items()]
        for id, library in merge(*libraries, key=lambda each: (each[0].start, each[0]), reverse=True):
            if self.libraries.of(id.app) is library and (chosen is None or chosen(id)):
                names.append(id)
            yield
        return names
