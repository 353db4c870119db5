"""Tests that no storage does blocking work in the reactor's thread: Python itself says who opens files and connects."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Coroutine
from functools import cache, partial
from typing import Any
from unittest import SkipTest
from unittest.mock import patch

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import TestCase

from rapidrtmp.interfaces import IMMUTABLE, StorageContext
from rapidrtmp.storage.filesystem import LocalStorageFactory
from rapidrtmp.storage.gcs import GcsStorageFactory
from rapidrtmp.testing.storage import read_all

try:
    from tests.storage.emulator import emulator_url
except ImportError as error:
    missing: str | None = f"needs google-cloud-storage and gcp-storage-emulator: {error}"
else:
    missing = None

BLOCKING = ("open", "os.", "shutil.", "fcntl.flock", "socket.", "http.", "subprocess.", "time.sleep")


class Watch:
    """
    Collects what one thread does that may block, while it is on.

    :ivar seen: the audit events, as ``name`` and the first argument.
    """

    def __init__(self) -> None:
        self.thread: int | None = None
        self.seen: list[str] = []

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        if self.thread == threading.get_ident() and event.startswith(BLOCKING):
            self.seen.append(f"{event} {args[:1]}")


@cache
def watch() -> Watch:
    """The one watch of this process: what watches Python cannot be taken away again."""
    made = Watch()
    sys.addaudithook(made)
    return made


class BlockingTests(TestCase):
    """Every operation of the storages that block, with threads and a reactor as in the server."""

    def setUp(self) -> None:
        self.threads = ThreadPool(0, 4, "storage")
        self.threads.start()
        self.addCleanup(self.threads.stop)
        self.context = StorageContext(partial(deferToThreadPool, reactor, self.threads), reactor, Logger())

    async def use(self, storage: Any) -> None:
        """Do all that can be done with a storage, with objects of several chunks and several pieces."""
        data = bytes(9 * 1024 * 1024)
        await storage.put("a/b.m4s", data, "video/mp4", IMMUTABLE)
        await storage.put("a/index.m3u8", b"#EXTM3U\n", "", "no-cache")
        await storage.put("a/index.m3u8", b"#EXTM3U 2\n", "", "no-cache")
        self.assertEqual(data, await read_all(await storage.get("a/b.m4s")))
        await storage.get("a/b.m4s", 5, 5)  # and never read
        await storage.stat("a/b.m4s")
        self.assertEqual(2, len(await storage.list("a/")))
        if hasattr(storage, "free_bytes"):
            await storage.free_bytes()
        if hasattr(storage, "redirect_url"):
            await storage.redirect_url("a/b.m4s")
        for key in ("a/b.m4s", "a/index.m3u8", "a/nothing"):
            await storage.delete(key)
        await storage.close()

    async def watched(self, work: Coroutine[Any, Any, None]) -> list[str]:
        watch().seen.clear()
        watch().thread = threading.get_ident()
        try:
            await Deferred.fromCoroutine(work)
        finally:
            watch().thread = None
        return watch().seen

    async def test_local_files_in_threads_alone(self) -> None:
        """Files are opened, listed and removed in threads alone."""
        storage = LocalStorageFactory(self.mktemp()).create(self.context)
        self.assertEqual([], await self.watched(self.use(storage)))

    async def test_gcs_client_in_threads_alone(self) -> None:
        """From the search for credentials on, Google's client works in threads alone."""
        if missing:
            raise SkipTest(missing)
        with patch.dict(os.environ, {"STORAGE_EMULATOR_HOST": emulator_url()}):
            factory = GcsStorageFactory("bucket", prefix=self.id(), read="redirect")
            factory.create(self.context)  # which imports the library: once, before the server serves anyone

            async def made_and_used() -> None:
                await self.use(factory.create(self.context))

            self.assertEqual([], await self.watched(made_and_used()))

    async def test_blocking_watch_sees_opened_files(self) -> None:
        """What opens a file in the reactor's thread is seen."""

        async def blocks() -> None:
            open(__file__).close()  # noqa: ASYNC230

        self.assertEqual([f"open ({__file__!r},)"], await self.watched(blocks()))
