"""Whether a storage takes, knows and deletes a tiny object, tried from time to time."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from rapidrtmp.errors import StorageError
from rapidrtmp.interfaces import IStorage

__all__ = ["PROBE_INTERVAL_S", "PROBE_PREFIX", "PROBE_TIMEOUT_S", "StorageProbe"]

PROBE_INTERVAL_S = 15.0
PROBE_TIMEOUT_S = 10.0
#: What the keys of probes begin with: no application's name begins with a dot.
PROBE_PREFIX = ".readiness/"
#: So many probes in a row must fail, once one has succeeded: backends fail now and then and are retried.
PROBE_FAILURES = 2


class StorageProbe:
    """
    Tries one storage, again and again.

    :param name: what the log calls the storage.
    :param key: where; no two servers on one storage may share it.
    :param tell: called with whether the storage is fit, and a reason that says nothing that a stranger must not know.
    """

    _log = Logger()

    def __init__(
        self, name: str, storage: IStorage, key: str, clock: IReactorTime, tell: Callable[[bool, str], None]
    ) -> None:
        self._name = name
        self._storage = storage
        self._key = key
        self._clock = clock
        self._tell = tell
        self._reason = ""
        self._failed_in_a_row = PROBE_FAILURES
        self._probing: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Try now, and :data:`PROBE_INTERVAL_S` after each try."""
        self._timer = None
        self._probing = Deferred.fromCoroutine(self._try()).addTimeout(PROBE_TIMEOUT_S, self._clock)
        self._probing.addCallbacks(self._succeeded, self._failed)
        self._probing.addCallback(self._again)
        self._probing.addErrback(lambda failure: failure.trap(CancelledError))

    def stop(self) -> None:
        """Try no more; what is under way is given up."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._probing is not None:
            self._probing.cancel()

    async def _try(self) -> None:
        body = b"ready?"
        await self._storage.put(self._key, body, "text/plain", "no-store")
        info = await self._storage.stat(self._key)
        if info.size != len(body):
            raise StorageError(f"{self._key}: {info.size} bytes, {len(body)} were put")
        await self._storage.delete(self._key)

    def _succeeded(self, _: None) -> None:
        self._failed_in_a_row = 0
        self._reason = ""
        self._tell(True, "takes, knows and deletes objects")

    def _failed(self, failure: Failure) -> Failure | None:
        if failure.check(CancelledError):
            return failure
        self._failed_in_a_row += 1
        late = failure.check(TimeoutError) is not None
        reason = f"does not answer within {PROBE_TIMEOUT_S:g} s" if late else "fails"
        if self._failed_in_a_row >= PROBE_FAILURES:
            if self._reason != reason:
                self._log.error(
                    "{name}: the storage {reason}: {error}", name=self._name, reason=reason, error=failure.value
                )
            self._reason = reason
            self._tell(False, reason)
        return None

    def _again(self, _: None) -> None:
        self._timer = self._clock.callLater(PROBE_INTERVAL_S, self.start)
