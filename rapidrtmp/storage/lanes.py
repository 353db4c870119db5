"""What waits to be written: the jobs of :class:`~rapidrtmp.storage.write_behind.WriteBehind`, lane by lane."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from rapidrtmp.interfaces import IMMUTABLE, IGatheringStorage, IStorage

__all__ = ["JOB_BYTES", "REPLACE_FOR_S", "Attempt", "Job", "LaneQueue"]

#: What a job counts beside its object's bytes, so that deletions and empty objects are bounded as well.
JOB_BYTES = 512
#: A put is replaced by newer ones of its key for so long; then it keeps its place. Else, where the storage is just
#: too slow, a playlist would be put off behind one more segment for ever.
REPLACE_FOR_S = 10.0


@dataclass(eq=False, slots=True)
class Job:
    """
    One put, or one deletion (``data`` is ``None``).

    :ivar size: of the object in bytes.
    :ivar since: when it, or the first that it replaces, was queued; in seconds of the clock.
    :ivar waiters: one for each put that it answers.
    :ivar unanswered: calls of the storage that were made for it and hold its bytes.
    :ivar finished: out of the queue: done or lost.
    """

    key: str
    data: Sequence[bytes] | None = field(repr=False)
    content_type: str
    cache_control: str
    size: int
    since: float
    waiters: list[Deferred[None]] = field(default_factory=list)
    attempts: int = 0
    unanswered: int = 0
    finished: bool = False

    @property
    def weight(self) -> int:
        """What it counts against the bound of the queue, in bytes."""
        return self.size + JOB_BYTES

    @property
    def is_immutable(self) -> bool:
        """Whether it puts an object that is never replaced."""
        return self.data is not None and self.cache_control == IMMUTABLE

    def carry_out(self, storage: IStorage, gathering: IGatheringStorage | None = None) -> Deferred[None]:
        """
        Ask the storage.

        :param gathering: the same, if it takes pieces; for any other they are joined the first time.
        """
        if self.data is None:
            return storage.delete(self.key)
        if gathering is not None:
            return gathering.put_pieces(self.key, self.data, self.content_type, self.cache_control)
        if len(self.data) != 1:
            self.data = (b"".join(self.data),)
        return storage.put(self.key, self.data[0], self.content_type, self.cache_control)


@dataclass(eq=False, slots=True)
class Attempt:
    """A call of the storage that is waited for."""

    job: Job
    call: Deferred[None] | None = None
    timeout: IDelayedCall | None = None


@dataclass(eq=False, slots=True)
class LaneQueue:
    """
    The jobs of a lane that has some. While ``attempt`` is set, the lane does nothing else.

    :ivar delay: ends the wait for the next attempt after a failure.
    :ivar held: ends the wait for the moment when the first job may be carried out; meanwhile others may come.
    :ivar newest: the last put of each key behind which no deletion was queued: what that deletes may still be named by
        the object as it was, so that must be written first.
    """

    name: str
    jobs: OrderedDict[Job, None] = field(default_factory=OrderedDict, repr=False)
    newest: dict[str, Job] = field(default_factory=dict, repr=False)
    attempt: Attempt | None = None
    delay: IDelayedCall | None = None
    held: IDelayedCall | None = None

    @property
    def first(self) -> Job:
        """The job that was queued before all others."""
        return next(iter(self.jobs))

    def next(self, may_start: Callable[[Job], bool]) -> Job | None:
        """
        The first job, or if that may not start yet, the first object behind it that is never replaced.

        Such an object can overtake: what was written before cannot name it. All else keeps its order.
        """
        if may_start(self.first):
            return self.first
        return next((job for job in self.jobs if job.is_immutable), None)

    def add(self, job: Job) -> None:
        """Put a job behind the others."""
        self.jobs[job] = None
        if job.data is None:
            self.newest.clear()
        else:
            self.newest[job.key] = job

    def remove(self, job: Job) -> None:
        """Take a job out, wherever it is."""
        del self.jobs[job]
        if self.newest.get(job.key) is job:
            del self.newest[job.key]

    def replaceable(self, key: str, now: float) -> Job | None:
        """The waiting put that a newer one of ``key`` takes the place of."""
        job = self.newest.get(key)
        if job is None or (self.attempt and job is self.attempt.job) or now - job.since >= REPLACE_FOR_S:
            return None
        return job
