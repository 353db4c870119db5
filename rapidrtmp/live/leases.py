"""
Who may write a stream: the leases of its name in every storage that its application writes to.

A stream holds them from its beginning until it has ended and all of it is written. A publisher that is being admitted,
and a recovery that looks at what is stored, hold them as well for as long as that takes, so nothing is given back
between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure

from rapidrtmp.errors import DirectoryError, LeaseHeldError
from rapidrtmp.names import StreamName
from rapidrtmp.storage.store import Store

__all__ = ["IStreamNames", "StreamLeases"]


class IStreamNames(Protocol):
    """The names of streams that this process owns, of several that serve the same."""

    def claim(self, name: StreamName) -> Deferred[None]:
        """Own a name. Fails with ``LeaseHeldError`` if another process does."""

    def release(self, name: StreamName) -> Deferred[None]:
        """Own it no more."""


def _no_stores(_app: str) -> Sequence[Store]:
    return ()


class StreamLeases:
    """
    The leases of all streams of this process.

    :param stores_of: the stores that an application writes to, each once.
    :param names: what has to be owned besides, where several processes serve the same streams.
    :ivar lost: called with a stream that another process writes now, once for each storage.
    """

    _log = Logger()

    def __init__(
        self,
        stores_of: Callable[[str], Sequence[Store]] = _no_stores,
        stores: Iterable[Store] = (),
        names: IStreamNames | None = None,
    ) -> None:
        self._stores_of = stores_of
        self._names = names
        self._stores: dict[StreamName, Sequence[Store]] = {}  # of those that are used
        self._uses: Counter[StreamName] = Counter()
        self.lost: Callable[[StreamName], None] = lambda _name: None
        self.watch(stores)

    def watch(self, stores: Iterable[Store]) -> None:
        """Learn which leases of these stores are lost."""
        for store in stores:
            store.leases.lost = self._lost

    def claim(self, name: StreamName) -> Deferred[None]:
        """
        Hold a stream's leases, until :meth:`release`.

        The Deferred is the caller's own and fires within seconds. If it fails, with ``LeaseHeldError``, another process
        writes the stream, and there is nothing to release.
        """
        self._uses[name] += 1
        if name not in self._stores:
            self._stores[name] = self._stores_of(name.app)
        claims = [store.leases.claim(str(name)) for store in self._stores[name]]
        if self._names is not None:
            claims.append(self._names.claim(name))

        def failed(failure: Failure) -> Failure:
            self.release(name)
            first = failure.value
            return first.subFailure if isinstance(first, FirstError) else failure

        return gatherResults(claims, consumeErrors=True).addCallbacks(lambda _: None, failed)

    def hold(self, name: StreamName) -> None:
        """As :meth:`claim`, where the caller cannot wait: mostly it is held already; if it is not, it is lost."""

        def held(failure: Failure) -> None:
            failure.trap(LeaseHeldError)
            self._uses[name] += 1  # its stream releases it
            self._log.error("{stream}: {error}", stream=name, error=failure.value)
            for store in self._stores.setdefault(name, self._stores_of(name.app)):
                store.writer.revoke(str(name))
            self.lost(name)

        self.claim(name).addErrback(held)

    def revoke(self, name: StreamName) -> None:
        """Write nothing more of a stream: another process may write it by now."""
        for store in self._stores.get(name, ()):
            store.writer.revoke(str(name))

    def release(self, name: StreamName) -> None:
        """Give the leases back, when no other stream holds them and all that waits is written."""
        self._uses[name] -= 1
        if self._uses[name] > 0:
            return
        del self._uses[name]
        written = [
            store.writer.when_written(str(name)).addCallback(self._written, store, name)
            for store in self._stores.pop(name)
        ]
        if self._names is not None:
            gatherResults(written).addCallback(self._let_go, self._names, name)

    def _written(self, _: None, store: Store, name: StreamName) -> None:
        if not self._uses[name]:
            store.leases.release(str(name))

    def _let_go(self, _: object, names: IStreamNames, name: StreamName) -> None:
        if not self._uses[name]:
            names.release(name).addErrback(Failure.trap, DirectoryError)

    def _lost(self, name: str) -> None:
        self.lost(StreamName(*name.split("/", 1)))
