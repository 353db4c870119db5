"""The threads that plugins share for their blocking calls: a database's, a model's."""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from rapidrtmp.interfaces.storage import InThread

__all__ = ["PluginThreads"]

#: So many calls run at a time; others wait.
MOST_THREADS = 8


class PluginThreads:
    """
    A pool of threads.

    :param reactor: where threads bring their results.
    :ivar in_thread: ``in_thread(callable, *args, **kwargs)`` returns a Deferred of the result. What is asked for before
        the start waits for it.
    """

    def __init__(self, reactor: Any) -> None:
        self._pool = ThreadPool(0, MOST_THREADS, "plugins")
        self.in_thread: InThread = partial(deferToThreadPool, reactor, self._pool)

    def start(self) -> None:
        """Let threads work."""
        self._pool.start()

    def stop(self) -> None:
        """End the threads, each when its call returns."""
        self._pool.stop()
