"""
Leases in a bucket: one small object for each name, and one for each process that holds any.

A name's object says which process holds it. A process's object is written anew again and again, and as long as it is,
all that the process holds is alive: renewing costs one write, however many streams there are. Both are replaced and
deleted only as the generation that was seen.

Whether a process is alive is decided by Google's clock alone: its object's time is compared with that of ours, written
just before. One that is late is *struck off*: its object is deleted, as the generation that was late. So if it is not
dead but was only stopped or cut off, its next renewal fails; then it writes each of its names anew, and what it cannot,
because another process has done that, is lost. A process that ran on the same machine and is not there any more need
not be late.

The fence of a lease is the generation of the name's object, and those only rise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock

from rapidrtmp.errors import LeaseHeldError, StorageError
from rapidrtmp.interfaces import Lease
from rapidrtmp.storage.bucket import Bucket, Mark
from rapidrtmp.storage.generations import ABSENT
from rapidrtmp.storage.process import ProcessPlace

__all__ = ["FOLDER", "LEASE_S", "RENEW_INTERVAL_S", "BucketLeases"]

#: No key may hold a backslash.
FOLDER = "\\leases"
_NAMES, _PROCESSES = f"{FOLDER}/names/", f"{FOLDER}/processes/"
#: A process that has not renewed its leases for so long is taken for dead.
LEASE_S = 15.0
RENEW_INTERVAL_S = 5.0
#: How often a claim is begun again because the name's object has changed meanwhile.
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class _Beat:
    """
    The last renewal of this process.

    :ivar generation: of its object.
    :ivar utc_s: when that was, by Google's clock.
    :ivar at_s: when that was known here, by ours.
    """

    generation: int
    utc_s: float
    at_s: float


class BucketLeases:
    """
    The blocking half: every method belongs in a thread, and may run in many at once, but not for one name.

    :param holder: the name of this process.
    :param now_s: a clock that is never set, in seconds.
    """

    def __init__(self, bucket: Bucket, holder: str, now_s: Callable[[], float] = time.monotonic) -> None:
        self._bucket = bucket
        self._holder = holder
        self._now_s = now_s
        self._held: dict[str, Lease] = {}
        self._beat: _Beat | None = None
        self._lock = Lock()  # of the last two
        self._beating = Lock()

    def claim(self, name: str) -> Lease:
        """
        Take a name.

        :raises LeaseHeldError: another process has it.
        :raises StorageError: the bucket could not be asked.
        """
        with self._lock:
            if name in self._held:
                return self._held[name]
        self._be_known()
        lease = self._take(name)
        with self._lock:
            self._held[name] = lease
        return lease

    def renew(self) -> list[Lease]:
        """
        Say that this process is alive, if it holds anything.

        :returns: what another process has taken because this one was late.
        :raises StorageError: the bucket could not be asked.
        """
        with self._lock:
            if not self._held:
                return []
        with self._beating:
            return self._renew()

    def release(self, lease: Lease) -> None:
        """Give a name back. :raises StorageError: the bucket could not be asked; then it ends with this process."""
        with self._lock:
            held = self._held.get(lease.name)
            if held is None:
                return
            del self._held[lease.name]
        self._bucket.unmark(_NAMES + held.name, held.fence)

    def find(self, prefix: str) -> list[Lease]:
        """All names that begin with ``prefix`` and are held; what the dead left is deleted."""
        self._be_known()
        names = self._bucket.marks(_NAMES + prefix)
        processes = {mark.key.removeprefix(_PROCESSES): mark for mark in self._bucket.marks(_PROCESSES)}
        alive = {self._holder} | {name for name, mark in processes.items() if self._is_alive(mark)}
        found = []
        for mark in names:
            holder = mark.metadata.get("holder", "")
            if holder in alive:
                found.append(Lease(mark.key.removeprefix(_NAMES), holder, mark.generation))
            else:
                self._bucket.unmark(mark.key, mark.generation)
        return sorted(found, key=lambda lease: lease.name)

    def close(self) -> None:
        """Give everything back, and be known no more."""
        with suppress(StorageError):
            for lease in list(self._held.values()):
                self.release(lease)
            with self._beating:
                beat, self._beat = self._beat, None
                if beat is not None:
                    self._bucket.unmark(_PROCESSES + self._holder, beat.generation)

    # ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _take(self, name: str) -> Lease:
        key, over = _NAMES + name, ABSENT
        for _ in range(_ATTEMPTS):
            if mark := self._bucket.mark(key, {"holder": self._holder}, over):
                return Lease(name, self._holder, mark.generation)
            there = self._bucket.find_mark(key)
            if there is not None and there.metadata.get("holder") == self._holder:
                return Lease(name, self._holder, there.generation)  # written by a call whose answer was lost
            if there is not None:
                self._check_dead(name, there.metadata.get("holder", ""))
            over = ABSENT if there is None else there.generation
        raise StorageError(f"claiming {name}: several processes claim it all the time")

    def _check_dead(self, name: str, holder: str) -> None:
        mark = self._bucket.find_mark(_PROCESSES + holder)
        if mark is not None and self._is_alive(mark):
            raise LeaseHeldError(f"{_place(mark.metadata)} writes {name} into this storage")

    # ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _is_alive(self, mark: Mark) -> bool:
        """Whether a process is alive; one that is not is struck off."""
        beat = self._beat
        assert beat is not None  # we are known
        now_s = beat.utc_s + self._now_s() - beat.at_s
        late = now_s - mark.updated_s > LEASE_S
        return not (late or _place(mark.metadata).is_gone) or not self._bucket.unmark(mark.key, mark.generation)

    def _be_known(self) -> None:
        """See that this process is alive as far as others can tell."""
        with self._beating:
            if self._beat is None or self._now_s() - self._beat.at_s > RENEW_INTERVAL_S:
                self._renew()

    def _renew(self) -> list[Lease]:
        """Write the object of this process anew; the names as well if it was struck off."""
        key = _PROCESSES + self._holder
        known = self._beat.generation if self._beat else ABSENT
        mark = self._write_beat(key, known)
        if mark is None and (there := self._bucket.find_mark(key)):  # a write whose answer was lost
            mark = self._write_beat(key, there.generation)
        if mark is not None:
            return []
        if self._write_beat(key, ABSENT) is None:
            raise StorageError("renewing leases: the object of this process changes all the time")
        return self._take_again()

    def _write_beat(self, key: str, over: int) -> Mark | None:
        mark = self._bucket.mark(key, {"place": ProcessPlace.here().render()}, over)
        if mark is not None:
            with self._lock:
                self._beat = _Beat(mark.generation, mark.updated_s, self._now_s())
        return mark

    def _take_again(self) -> list[Lease]:
        """After this process was struck off: write each of its names anew, before another process can."""
        lost = []
        with self._lock:
            held = list(self._held.values())
        for lease in held:
            again = self._bucket.mark(_NAMES + lease.name, {"holder": self._holder}, lease.fence)
            with self._lock:
                if again is not None:
                    self._held[lease.name] = Lease(lease.name, self._holder, again.generation)
                elif self._held.pop(lease.name, None):
                    lost.append(lease)
        return lost


def _place(metadata: Mapping[str, str]) -> ProcessPlace:
    return ProcessPlace.parse(metadata.get("place", ""))
