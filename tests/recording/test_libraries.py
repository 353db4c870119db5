from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import NotFoundError, StorageError
from rapidrtmp.names import StreamName
from rapidrtmp.recording.libraries import Libraries
from rapidrtmp.recording.library import Library
from rapidrtmp.storage.memory import MemoryStorage
from tests.recording.recordings import record, store


def recordings(*streams: tuple[str, str]) -> MemoryStorage:
    """A storage in which a recording of each of these streams lies."""
    return store(*(record(1, stream=StreamName(*stream)) for stream in streams))


class LibrariesTests(SynchronousTestCase):
    def setUp(self) -> None:
        storages = (
            recordings(("live", "a"), ("live", "b"), ("radio", "moved"), ("gone", "d")),
            recordings(("radio", "c"), ("gone", "unseen")),
        )
        self.live, self.radio = (Library(storage, Clock()) for storage in storages)
        self.libraries = Libraries({"live": self.live, "radio": self.radio, "tv": self.live}, self.live)

    def finish(self, coroutine: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def keys(self, prefix: str, number: int = 0, size: int = 9) -> tuple[list[str], int]:
        listed, total = self.finish(self.libraries.page(prefix, lambda _: True, number, size))
        return [each.entry.id.key for each in listed], total

    def test_library_of_each_application(self) -> None:
        """Each application's are in its own library, those of applications that are no more in the general one."""
        found = [self.libraries.of(app) for app in ("live", "radio", "tv", "gone")]
        self.assertEqual([self.live, self.radio, self.live, self.live], found)

    def test_all_libraries_make_one_list(self) -> None:
        """All libraries make one list, the newest first and each recording once, from where it belongs, in pages."""
        self.assertEqual((["c", "b", "a", "d"], 4), self.keys(""))
        self.assertEqual((["c", "b"], 4), self.keys("", 0, 2))
        self.assertEqual((["a", "d"], 4), self.keys("", 1, 2))

    def test_some_recordings_are_asked_for(self) -> None:
        """Those of one application or one key can be asked for, and any of them be left out."""
        self.assertEqual((["c"], 1), self.keys("radio/"))
        self.assertEqual((["b"], 1), self.keys("live/b/"))
        self.assertEqual((["d"], 1), self.keys("gone/"))
        self.assertEqual(([], 0), self.finish(self.libraries.page("", lambda _: False, 0, 9)))

    def test_one_place_twice(self) -> None:
        """Two libraries that are the same place, under two names, show nothing twice."""
        again = Library(self.live.storage, Clock())
        self.libraries = Libraries({"live": self.live, "radio": again}, self.live)
        self.assertEqual((["moved", "b", "a", "d"], 4), self.keys(""))

    def test_recordings_deleted_meanwhile_are_left_out(self) -> None:
        """One that is gone before it could be described is left out of the page."""
        listed = self.live.listed

        async def without_a(listing: Any, id: Any) -> Any:
            if id.key == "a":
                raise NotFoundError("gone")
            return await listed(listing, id)

        self.patch(self.live, "listed", without_a)
        self.assertEqual((["c", "b", "d"], 4), self.keys(""))

    def test_failure_of_one_storage(self) -> None:
        """Where one storage fails there is no list of all, but still one of the applications of the other."""
        self.patch(self.radio.storage, "list", lambda _prefix: fail(StorageError("away")))
        page = self.libraries.page("", lambda _: True, 0, 9)
        self.failureResultOf(Deferred.fromCoroutine(page), StorageError)
        self.assertEqual((["b", "a"], 2), self.keys("live/"))
