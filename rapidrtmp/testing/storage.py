"""
For the author of a storage, or of code that must live with a bad one.

:class:`StorageContract` holds every promise of :class:`~rapidrtmp.interfaces.IStorage` as a test. A storage takes them
all by naming itself::

    class MyStorageTests(StorageContract, TestCase):
        def make_storage(self) -> IStorage:
            return MyStorage(...)

:class:`UnreliableStorage` puts latency, errors and stalls in front of any storage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from zope.interface import implementer
from zope.interface.verify import verifyObject

from rapidrtmp.errors import NotFoundError, StorageError
from rapidrtmp.interfaces import IMMUTABLE, IGatheringStorage, IStorage, ObjectInfo, StoredObject

__all__ = ["StorageContract", "UnreliableStorage", "read_all"]

_Result = TypeVar("_Result")
if TYPE_CHECKING:
    from unittest import TestCase as _Base  # typed, as trial's is not
else:
    _Base = object

#: One of each way a key can be wrong.
BAD_KEYS = (
    "",
    "/",
    "/rooted",
    "folder/",
    "two//slashes",
    ".",
    "..",
    "../outside",
    "a/../b",
    "a/./b",
    "a/..",
    "nul\0",
    "line\nfeed",
    "delete\x7f",
    "c1\x85control",
    "back\\slash",
    "..\\outside",
    "lone\ud800surrogate",
    "x" * 1025,
    "é" * 513,
)
#: Keys that look wrong somewhere and are not.
ODD_KEYS = (
    "...",
    "..a/b..",
    ".hidden/.file",
    "with space/and  two ",
    "percent%2F%00",
    "q?a=b&c#d",
    "plus+tilde~colon:star*",
    "Zürich/東京/🎬.m4s",
    "-dash/--double",
    "/".join(["n" * 127] * 8),
)


async def read_all(stored: StoredObject) -> bytes:
    """All the bytes of an object being read."""
    return b"".join([chunk async for chunk in stored.chunks])


class StorageContract(_Base):
    """
    The promises of ``IStorage``, one test each; mix into a ``twisted.trial.unittest.TestCase``.

    Every test makes a storage of its own, which must be empty, and closes it.
    """

    def make_storage(self) -> Deferred[IStorage] | IStorage:
        """Return an empty storage, or a Deferred of one."""
        raise NotImplementedError

    async def new_storage(self) -> Any:
        """The storage under test, closed when the test ends."""
        storage: Any = await maybeDeferred(self.make_storage)
        self.addCleanup(storage.close)
        return storage

    async def assert_refused(self, call: Deferred[Any]) -> None:
        """Check that ``call`` fails with a ``StorageError`` that no retry can mend."""
        try:
            await call
        except StorageError as error:
            self.assertFalse(error.retryable, str(error))
        else:
            self.fail("it was not refused")

    async def assert_absent(self, storage: Any, key: str) -> None:
        """Check that ``storage`` knows no object ``key``."""
        for call in (storage.get, storage.stat):
            try:
                await call(key)
            except NotFoundError:
                continue
            self.fail(f"{key} is there")

    async def keys(self, storage: Any, prefix: str = "") -> list[str]:
        """The keys that ``storage`` lists."""
        return [info.key for info in await storage.list(prefix)]

    async def test_interface(self) -> None:
        """It provides IStorage, method by method."""
        verifyObject(IStorage, await self.new_storage())

    async def test_round_trip(self) -> None:
        """What was put is what is got; putting and deleting answer nothing."""
        storage = await self.new_storage()
        self.assertIsNone(await storage.put("live/a/segment_1.m4s", b"bytes \0\r\n\xff\n", "video/mp4", IMMUTABLE))
        self.assertEqual(b"bytes \0\r\n\xff\n", await read_all(await storage.get("live/a/segment_1.m4s")))
        self.assertIsNone(await storage.delete("live/a/segment_1.m4s"))

    async def test_empty_object(self) -> None:
        """An object of no bytes is an object."""
        storage = await self.new_storage()
        await storage.put("empty", b"", "text/plain", "no-cache")
        stored = await storage.get("empty")
        self.assertEqual((0, b""), (stored.info.size, await read_all(stored)))
        self.assertEqual(["empty"], await self.keys(storage))

    async def test_large_object(self) -> None:
        """An object of megabytes comes back whole, in chunks that are bytes and never empty."""
        storage = await self.new_storage()
        data = bytes(range(251)) * 12_001
        await storage.put("large", data, "video/mp4", IMMUTABLE)
        chunks = [chunk async for chunk in (await storage.get("large")).chunks]
        self.assertEqual(data, b"".join(chunks))
        self.assertTrue(all(type(chunk) is bytes and chunk for chunk in chunks))

    async def test_pieces(self) -> None:
        """An object that a gathering storage is given in pieces, however many, is one object like any other."""
        storage = await self.new_storage()
        gathering: Any = IGatheringStorage(storage, None)
        if gathering is None:
            return
        verifyObject(IGatheringStorage, gathering)
        for key, pieces in (
            ("a/none", ()),
            ("a/some", [b"one", b"", b" and ", b"another"]),
            ("a/many", [bytes([number % 251]) * (number % 7) for number in range(3000)]),
            ("a/large", [bytes(range(256)) * 4096, b"end"]),
        ):
            await storage.put(key, b"before", "video/mp4", IMMUTABLE)
            self.assertIsNone(await gathering.put_pieces(key, pieces, "video/mp4", IMMUTABLE))
            self.assertEqual(b"".join(pieces), await read_all(await storage.get(key)))

    async def test_ranges(self) -> None:
        """A range gives its bytes, fewer where the object ends; the info stays that of the whole object."""
        storage = await self.new_storage()
        data = bytes(range(200)) * 3000
        await storage.put("object", data, "video/mp4", IMMUTABLE)
        size = len(data)
        for start, length in (
            (0, None),
            (0, 0),
            (0, 1),
            (1, 1),
            (262_143, 2),
            (1000, 500_000),
            (5, None),
            (size - 1, 5),
            (size - 1, None),
            (size, None),
            (size, 10),
            (size + 7, 3),
            (0, size),
            (0, size + 1),
        ):
            stored = await storage.get("object", start, length)
            expected = data[start:] if length is None else data[start : start + length]
            self.assertEqual(expected, await read_all(stored), f"{start}, {length}")
            self.assertEqual(size, stored.info.size)

    async def test_info(self) -> None:
        """Get, stat and list tell the same of an object: key, size, time and content type."""
        storage = await self.new_storage()
        await storage.put("a/init.mp4", b"12345", "video/mp4", IMMUTABLE)
        info = await storage.stat("a/init.mp4")
        self.assertEqual(("a/init.mp4", 5, "video/mp4"), (info.key, info.size, info.content_type))
        self.assertIs(int, type(info.modified_ms))
        self.assertGreaterEqual(info.modified_ms, 0)
        self.assertEqual(info, (await storage.get("a/init.mp4", 1, 2)).info)
        self.assertEqual([info], await storage.list(""))

    async def test_replace(self) -> None:
        """Putting a key again replaces the object, also by a shorter one."""
        storage = await self.new_storage()
        await storage.put("playlist.m3u8", b"#EXTM3U long\n", "application/vnd.apple.mpegurl", "no-cache")
        await storage.put("playlist.m3u8", b"#EXTM3U\n", "application/vnd.apple.mpegurl", "no-cache")
        self.assertEqual(b"#EXTM3U\n", await read_all(await storage.get("playlist.m3u8")))
        self.assertEqual([8], [info.size for info in await storage.list("")])

    async def test_replaced_while_read(self) -> None:
        """A reader who began before an object was replaced never gets a mixture: one version, or an error."""
        storage = await self.new_storage()
        old, new = b"o" * 1_000_000, b"n" * 1_000_000
        await storage.put("object", old, "video/mp4", "no-cache")
        chunks = (await storage.get("object")).chunks
        seen = await anext(chunks)
        await storage.put("object", new, "video/mp4", "no-cache")
        try:
            seen += b"".join([chunk async for chunk in chunks])
        except StorageError:
            return
        self.assertIn(seen, (old, new))

    async def test_absent(self) -> None:
        """Reading what is not there fails with NotFoundError."""
        storage = await self.new_storage()
        await self.assert_absent(storage, "absent")
        await self.assert_absent(storage, "absent/as/well.m4s")

    async def test_folder_is_no_object(self) -> None:
        """The first half of a key is no object; deleting it deletes nothing."""
        storage = await self.new_storage()
        await storage.put("live/key/a", b"a", "text/plain", "no-cache")
        await self.assert_absent(storage, "live")
        await self.assert_absent(storage, "live/key")
        await self.assert_absent(storage, "live/key/a/b")
        await storage.delete("live/key")
        self.assertEqual(["live/key/a"], await self.keys(storage))

    async def test_delete(self) -> None:
        """A deleted object is gone, its neighbours stay, and its key can be used again."""
        storage = await self.new_storage()
        for key in ("live/a/1", "live/a/2", "live/a0", "live/b/1"):
            await storage.put(key, b"x", "text/plain", "no-cache")
        await storage.delete("live/a/1")
        await self.assert_absent(storage, "live/a/1")
        await storage.delete("live/a/2")
        self.assertEqual(["live/a0", "live/b/1"], await self.keys(storage))
        await storage.put("live/a/1", b"again", "text/plain", "no-cache")
        self.assertEqual(b"again", await read_all(await storage.get("live/a/1")))

    async def test_delete_absent(self) -> None:
        """Deleting what is not there is no error, once or twice."""
        storage = await self.new_storage()
        self.assertIsNone(await storage.delete("live/a/nothing"))
        self.assertIsNone(await storage.delete("live/a/nothing"))

    async def test_list(self) -> None:
        """A prefix selects keys by their first characters, wherever it ends, and they come sorted by key."""
        storage = await self.new_storage()
        keys = ["live/b/2", "live/a/10", "live/a/2", "lively", "other", "live/a.json", "live/aa/1", "live-x/1"]
        for key in keys:
            await storage.put(key, b"x", "text/plain", "no-cache")
        for prefix in ("", "l", "live", "live/", "live/a", "live/a/", "live/a/1", "other", "o", "none", "live/a/2/"):
            expected = sorted(key for key in keys if key.startswith(prefix))
            self.assertEqual(expected, await self.keys(storage, prefix), prefix)

    async def test_list_of_impossible_prefix(self) -> None:
        """A prefix that no key can begin with lists nothing, and nothing from elsewhere."""
        storage = await self.new_storage()
        await storage.put("a/b", b"x", "text/plain", "no-cache")
        for prefix in ("/", "..", "../", "./", "a//", "a/../", "a/./b", "\\", "\0", "a\0/", "/etc/"):
            self.assertEqual([], await self.keys(storage, prefix), repr(prefix))

    async def test_bad_keys(self) -> None:
        """A bad key is refused for good by every method, and nothing is touched."""
        storage = await self.new_storage()
        await storage.put("a/b", b"kept", "text/plain", "no-cache")
        for key in BAD_KEYS:
            await self.assert_refused(storage.put(key, b"x", "text/plain", "no-cache"))
            await self.assert_refused(storage.get(key))
            await self.assert_refused(storage.stat(key))
            await self.assert_refused(storage.delete(key))
        self.assertEqual(["a/b"], await self.keys(storage))

    async def test_odd_keys(self) -> None:
        """A key may hold whatever is not forbidden, up to 1024 bytes, and means no other key."""
        storage = await self.new_storage()
        for key in ODD_KEYS:
            await storage.put(key, key.encode(), "application/byte-stream", "no-cache")
        self.assertEqual(sorted(ODD_KEYS), await self.keys(storage))
        for key in ODD_KEYS:
            self.assertEqual(key.encode(), await read_all(await storage.get(key)))
            await storage.delete(key)
        self.assertEqual([], await self.keys(storage))

    async def test_calls_at_once(self) -> None:
        """Calls need not wait for each other: all of them succeed."""
        storage = await self.new_storage()
        keys = [f"live/{number % 3}/{number:02}" for number in range(24)]
        await gatherResults([storage.put(key, key.encode(), "text/plain", "no-cache") for key in keys])
        stored = await gatherResults([storage.get(key) for key in keys])
        self.assertEqual(keys, [(await read_all(one)).decode() for one in stored])
        await gatherResults([storage.delete(key) for key in keys[::2]])
        self.assertEqual(sorted(keys[1::2]), await self.keys(storage))

    async def test_same_key_at_once(self) -> None:
        """Of puts to one key at once, one wins whole."""
        storage = await self.new_storage()
        versions = [bytes([letter]) * 100_000 for letter in b"abcdefgh"]
        await gatherResults([storage.put("object", data, "text/plain", "no-cache") for data in versions])
        self.assertIn(await read_all(await storage.get("object")), versions)

    async def test_put_and_delete_at_once(self) -> None:
        """Deleting the last object of a folder does not disturb a put into the same folder."""
        storage = await self.new_storage()
        await storage.put("a/b/0", b"0", "text/plain", "no-cache")
        for number in range(20):
            put = storage.put(f"a/b/{number + 1}", b"x", "text/plain", "no-cache")
            await gatherResults([storage.delete(f"a/b/{number}"), put])
            self.assertEqual([f"a/b/{number + 1}"], await self.keys(storage))

    async def test_reading_stopped_early(self) -> None:
        """A reader who leaves in the middle, or before the first byte, leaves nothing locked."""
        storage = await self.new_storage()
        await storage.put("object", b"x" * 1_000_000, "video/mp4", "no-cache")
        await storage.get("object")
        async for _ in (await storage.get("object")).chunks:
            break
        await storage.put("object", b"y", "video/mp4", "no-cache")
        self.assertEqual(b"y", await read_all(await storage.get("object")))
        await storage.delete("object")
        self.assertEqual([], await self.keys(storage))

    async def test_two_readers(self) -> None:
        """Readers of one object do not take chunks from each other."""
        storage = await self.new_storage()
        data = bytes(range(256)) * 4000
        await storage.put("object", data, "video/mp4", IMMUTABLE)
        one, other = await storage.get("object"), await storage.get("object", 100_000)
        first = await anext(one.chunks)
        self.assertEqual(data[100_000:], await read_all(other))
        self.assertEqual(data, first + await read_all(one))


def _never(operation: str, key: str) -> StorageError | None:
    del operation, key
    return None


@implementer(IStorage)
class UnreliableStorage:
    """
    A storage as it is on a bad day: it waits, then fails or does what was asked of the storage behind it.

    :param storage: does the work.
    :param clock: a ``task.Clock`` in tests.
    :param latency: seconds before anything happens, or a callable that gives them for each call.
    :param failures: called with ``("put" | "get" | "stat" | "list" | "delete", key or prefix)`` after the latency;
        what it returns is raised and the storage behind is not asked; ``None`` lets the call through. So 5 % errors are
        ``lambda operation, key: StorageError("no") if random() < 0.05 else None``.
    :param deaf: whether calls continue when they are cancelled, as work in a thread does.
    :ivar begun: every call so far, as ``(operation, key or prefix)``.
    :ivar done: those that came through, in the order they did.
    :ivar under_way: how many calls have begun and not ended.
    """

    def __init__(
        self,
        storage: Any,
        clock: IReactorTime,
        latency: float | Callable[[], float] = 0.0,
        failures: Callable[[str, str], Exception | None] = _never,
        *,
        deaf: bool = False,
    ) -> None:
        self._storage = storage
        self._clock = clock
        self._latency = latency if callable(latency) else lambda: latency
        self._failures = failures
        self._deaf = deaf
        self._stalled = False
        self._held: list[Deferred[None]] = []
        self.begun: list[tuple[str, str]] = []
        self.done: list[tuple[str, str]] = []
        self.under_way = 0

    def stall(self) -> None:
        """Let no call come to its end from now on."""
        self._stalled = True

    def resume(self) -> None:
        """Let the calls held back continue, in their order, and those to come."""
        self._stalled = False
        held, self._held = self._held, []
        for gate in held:
            if not gate.called:
                gate.callback(None)

    def put(self, key: str, data: bytes, content_type: str, cache_control: str) -> Deferred[None]:
        """Put, late or not at all."""
        return self._call("put", key, lambda: self._storage.put(key, data, content_type, cache_control))

    def get(self, key: str, start: int = 0, length: int | None = None) -> Deferred[StoredObject]:
        """Get, late or not at all; once open, the object is read without trouble."""
        return self._call("get", key, lambda: self._storage.get(key, start, length))

    def stat(self, key: str) -> Deferred[ObjectInfo]:
        """Stat, late or not at all."""
        return self._call("stat", key, lambda: self._storage.stat(key))

    def list(self, prefix: str) -> Deferred[list[ObjectInfo]]:
        """List, late or not at all."""
        return self._call("list", prefix, lambda: self._storage.list(prefix))

    def delete(self, key: str) -> Deferred[None]:
        """Delete, late or not at all."""
        return self._call("delete", key, lambda: self._storage.delete(key))

    def close(self) -> Deferred[None]:
        """Close the storage behind, at once and without trouble."""
        closed: Deferred[None] = self._storage.close()
        return closed

    def _call(self, operation: str, key: str, work: Callable[[], Deferred[_Result]]) -> Deferred[_Result]:
        async def carry_out() -> _Result:
            self.begun.append((operation, key))
            self.under_way += 1
            try:
                await self._wait()
                if error := self._failures(operation, key):
                    raise error
                result = await work()
            finally:
                self.under_way -= 1
            self.done.append((operation, key))
            return result

        return Deferred.fromCoroutine(carry_out())

    async def _wait(self) -> None:
        """The latency, then as long as everything is stalled."""
        until = self._clock.seconds() + self._latency()
        while (left := until - self._clock.seconds()) > 0:
            await self._unless_deaf(deferLater(self._clock, left))
        while self._stalled:
            gate: Deferred[None] = Deferred()
            self._held.append(gate)
            await self._unless_deaf(gate)

    async def _unless_deaf(self, event: Deferred[None]) -> None:
        try:
            await event
        except CancelledError:
            if not self._deaf:
                raise
