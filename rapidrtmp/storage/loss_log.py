"""How the loss of objects is logged: once when it begins, and once, with its extent, when it is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from rapidrtmp.errors import StorageError
from rapidrtmp.storage.lanes import Job

__all__ = ["QUIET_S", "LossLog"]

#: A run of losses is over when none came for so long and a write has succeeded since.
QUIET_S = 10.0


class LossLog:
    """
    Says once that objects are being lost, and once that they no longer are.

    :param tell: called with the same for the log of events.
    """

    def __init__(
        self,
        clock: IReactorTime,
        log: Logger,
        tell: Callable[[Mapping[str, object]], object] = lambda _said: None,
    ) -> None:
        self._tell = tell
        self._clock = clock
        self._log = log
        self._objects = self._bytes = self._deletions = 0
        self._eased = False
        self._quiet: IDelayedCall | None = None

    def add(self, job: Job, error: StorageError) -> None:
        """Count a loss; log the first one."""
        if not self._objects and not self._deletions:
            self._log.error(
                "storage writes fail: {error}; objects are lost until they succeed: "
                "check that the storage can be reached, allows writing, and is not full",
                error=error,
            )
            self._tell({"state": "failing", "error": str(error)})
        if job.data is None:
            self._deletions += 1
        else:
            self._objects += 1
            self._bytes += job.size
        self._eased = False
        if self._quiet and self._quiet.active():
            self._quiet.reset(QUIET_S)
        else:
            self._quiet = self._clock.callLater(QUIET_S, self._end_if_over)

    def ease(self) -> None:
        """A write succeeded."""
        if self._objects or self._deletions:
            self._eased = True
            self._end_if_over()

    def close(self) -> None:
        """Log what was lost, unless that was done: nothing more is written."""
        if self._quiet and self._quiet.active():
            self._quiet.cancel()
        if self._objects or self._deletions:
            self._say("stopped")

    def _end_if_over(self) -> None:
        if self._eased and self._quiet and not self._quiet.active():
            self._say("writing again")

    def _say(self, what: str) -> None:
        self._log.info(
            "{what}, {objects} objects, {bytes} bytes lost, {deletions} deletions not done",
            what=what,
            objects=self._objects,
            bytes=self._bytes,
            deletions=self._deletions,
        )
        lost = {"objectsLost": self._objects, "bytesLost": self._bytes, "deletionsNotDone": self._deletions}
        self._tell({"state": "working" if what == "writing again" else "stopped", **lost})
        self._objects = self._bytes = self._deletions = 0
        self._eased, self._quiet = False, None
