"""What is done for recordings in the background: recovery when the server starts, then retention from time to time."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from rapidrtmp.archive.layout import NAMES, StartNames
from rapidrtmp.errors import StorageError
from rapidrtmp.recording.library import Library
from rapidrtmp.recording.recovery import recover_all
from rapidrtmp.recording.retention import Retention

__all__ = ["SWEEP_S", "RecordingsService"]

SWEEP_S = 60.0


class RecordingsService(Service):
    """
    Recovers, once, beside everything else that starts; then sweeps, once a minute.

    :param clock: timers.
    :param names: learn what recordings there are, long before the first part of a new one is complete.
    """

    _log = Logger()

    def __init__(self, library: Library, retention: Retention, clock: IReactorTime, names: StartNames = NAMES) -> None:
        self._library = library
        self._retention = retention
        self._names = names
        self._sweeping = LoopingCall(self._sweep)
        self._sweeping.clock = clock
        self._work: Deferred[None] | None = None

    def startService(self) -> None:
        """Begin; returns at once."""
        super().startService()  # type: ignore[no-untyped-call]
        work = self._work = Deferred.fromCoroutine(self._recover())
        work.addErrback(self._failed, "recovering recordings")

    def stopService(self) -> None:
        """Drop what is under way: all of it can be resumed at the next start."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._sweeping.running:
            self._sweeping.stop()
        work, self._work = self._work, None
        if work is not None:
            work.cancel()

    async def _recover(self) -> None:
        try:
            found = await self._library.find()
            self._names.learn(found)
            recovered = await recover_all(self._library.storage, found)
            if recovered:
                self._log.info("{count} recordings that a dead server left unfinished are closed", count=len(recovered))
        except StorageError as error:
            self._log.error("recordings cannot be recovered now: {error}", error=error)
        if self.running:  # also without limits: new settings may set some
            self._sweeping.start(SWEEP_S).addErrback(self._failed, "the timer of retention")

    def _sweep(self) -> Deferred[None]:
        work = self._work = Deferred.fromCoroutine(self._retention.sweep())
        return work.addErrback(self._failed, "deleting recordings")

    def _failed(self, failure: Failure, what: str) -> None:
        if failure.check(CancelledError):
            return
        if failure.check(StorageError):
            self._log.error("{what}: {error}", what=what, error=failure.value)
        else:
            self._log.failure("internal error in {what}", failure, what=what)
