"""
The queue between sinks, which may not wait, and a storage, which may be slow, broken or full.

Every sink of a stream has a lane: a first-in, first-out queue, of which the first job alone is being carried out, so
that a segment can be read before the playlist that names it. Lanes advance side by side, as many as the concurrency
allows, in turns. A job that fails in a way that may pass is tried again after a growing delay, during which its lane
waits and the others take its place. A call that does not answer in time counts as failed whether or not it heeds being
cancelled; the bytes of one that does not heed stay counted until it answers, because the call still holds them.

A storage may ask for time between two puts of one key (:class:`~rapidrtmp.interfaces.IPacedStorage`). A put
that comes too early waits, the newest in place of older ones, and so does what is behind it, but for immutable objects.

The lanes of a stream, which is what their names begin with, can be withheld while it is not sure that this process may
write it, and *revoked* when it is sure that it may not: what waits there is dropped, and so is what comes later. So can
all lanes at once be withheld; see :mod:`rapidrtmp.storage.leases`.

What waits is bounded in bytes over all lanes. An object that does not fit is lost at once, and so is one whose
attempts are used up: its Deferred fails, it is counted, and of a run of losses the first and the end are logged.
"""

from __future__ import annotations

import random as random_module
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rapidrtmp.errors import StorageError
from rapidrtmp.interfaces import IMMUTABLE, IGatheringStorage, IPacedStorage, IStorage, IStorageWriter
from rapidrtmp.storage.lanes import Attempt, Job, LaneQueue
from rapidrtmp.storage.loss_log import LossLog

__all__ = ["WriteBehind"]


@implementer(IStorageWriter)
class _Lane:
    """What a stream's sinks write with; holds nothing but its name."""

    __slots__ = ("_name", "_writer")

    def __init__(self, writer: WriteBehind, name: str) -> None:
        self._writer = writer
        self._name = name

    @property
    def persistent(self) -> bool:
        """Whether what is written outlives the process."""
        return self._writer.persistent

    @property
    def storage(self) -> IStorage:
        """Where to."""
        return self._writer.storage

    def put(self, key: str, data: Sequence[bytes], content_type: str, cache_control: str = IMMUTABLE) -> Deferred[None]:
        """Queue an object."""
        return self._writer.put_in_lane(self._name, key, data, content_type, cache_control)

    def delete(self, key: str) -> None:
        """Queue a deletion."""
        self._writer.delete_in_lane(self._name, key)


@implementer(IStorageWriter)
class WriteBehind:
    """
    Writes behind; itself the writer of a lane without a name.

    :param storage: where to.
    :param clock: time and timers.
    :param persistent: whether what ``storage`` keeps outlives the process.
    :param max_bytes: how much may wait; each job counts its bytes and :data:`JOB_BYTES`.
    :param concurrency: how many calls of the storage may be waited for at once.
    :param attempts: how often a job is tried before it is lost.
    :param first_delay_s: the longest wait before the second attempt; doubles with each one after, up to
        ``max_delay_s``. What is waited is between half of that and all of it.
    :param timeout_s: how long a call of the storage is waited for.
    :param random: 0 up to 1, for the delays.
    :param tell: called when objects begin to be lost, and when that is over, with what an event says of it.

    :ivar clock: as given; likewise ``storage``.
    :ivar pending_objects: how many jobs wait or are being carried out.
    :ivar pending_bytes: what of ``max_bytes`` is taken.
    :ivar written_total: objects put; ``written_bytes_total`` is their size.
    :ivar deleted_total: deletions done.
    :ivar retried_total: attempts made after a first one.
    :ivar lost_total: objects lost; ``lost_bytes_total`` is their size.
    :ivar undeleted_total: deletions given up.
    """

    def __init__(
        self,
        storage: IStorage,
        clock: IReactorTime,
        *,
        persistent: bool = True,
        max_bytes: int = 256 * 1024 * 1024,
        concurrency: int = 8,
        attempts: int = 6,
        first_delay_s: float = 0.25,
        max_delay_s: float = 8.0,
        timeout_s: float = 30.0,
        random: Callable[[], float] = random_module.random,
        log: Logger | None = None,
        tell: Callable[[Mapping[str, object]], object] = lambda _said: None,
    ) -> None:
        self.persistent = persistent
        self.storage = storage
        self.clock = clock
        self._max_bytes = max_bytes
        self._concurrency = concurrency
        self._attempts = attempts
        self._first_delay_s = first_delay_s
        self._max_delay_s = max_delay_s
        self._timeout_s = timeout_s
        self._random = random
        self._gathering = IGatheringStorage(storage, None)
        paced = IPacedStorage(storage, None)
        self._replace_interval_s = paced.replace_interval_s if paced is not None else 0.0
        self._put_at: OrderedDict[str, float] = OrderedDict()  # the keys whose next put may have to wait
        self._log = log or Logger()
        self._loss_log = LossLog(clock, self._log, tell)
        self._queues: dict[str, LaneQueue] = {}
        self._ready: deque[LaneQueue] = deque()  # those whose first job can start
        self._withheld: set[str] = set()  # streams; likewise _revoked
        self._revoked: set[str] = set()
        self._is_paused = False
        self._kept_back: list[LaneQueue] = []  # that could start if they were not withheld
        self._unwritten: list[tuple[str, Deferred[None]]] = []  # streams, and who waits until they are written
        self._running = 0
        self._starting = False
        self._draining: list[tuple[Deferred[bool], IDelayedCall]] = []
        self._closed = False
        self.pending_objects = self.pending_bytes = 0
        self.written_total = self.written_bytes_total = self.deleted_total = self.retried_total = 0
        self.lost_total = self.lost_bytes_total = self.undeleted_total = 0

    # ── what sinks call

    def lane(self, name: str) -> IStorageWriter:
        """The writer whose operations are carried out in the order given, among those of the same ``name``."""
        return _Lane(self, name)

    def put(self, key: str, data: Sequence[bytes], content_type: str, cache_control: str = IMMUTABLE) -> Deferred[None]:
        """Queue an object in the lane without a name."""
        return self.put_in_lane("", key, data, content_type, cache_control)

    def delete(self, key: str) -> None:
        """Queue a deletion in the lane without a name."""
        self.delete_in_lane("", key)

    def put_in_lane(
        self, lane: str, key: str, data: Sequence[bytes], content_type: str, cache_control: str
    ) -> Deferred[None]:
        """Queue an object; see :meth:`~rapidrtmp.interfaces.IStorageWriter.put`."""
        now = self.clock.seconds()
        job = Job(key, data, content_type, cache_control, sum(map(len, data)), now)
        older = self._queues[lane].replaceable(key, now) if lane in self._queues else None
        if stream_of(lane) in self._revoked:
            return fail(_revocation(job))
        if error := self._refusal(job, older):
            self._count_loss(job, error)
            return fail(error)
        if older:
            job.waiters, job.since = older.waiters, older.since
            self._queues[lane].remove(older)
            self._finish(older)
        waiter: Deferred[None] = Deferred()
        job.waiters.append(waiter)
        self._enqueue(lane, job)
        return waiter

    def delete_in_lane(self, lane: str, key: str) -> None:
        """Queue a deletion; see :meth:`~rapidrtmp.interfaces.IStorageWriter.delete`."""
        job = Job(key, None, "", "", 0, self.clock.seconds())
        if stream_of(lane) in self._revoked:
            return
        if error := self._refusal(job, None):
            self._count_loss(job, error)
        else:
            self._enqueue(lane, job)

    # ── whose streams these are

    def pause(self, paused: bool) -> None:
        """Write nothing until it is allowed again; what is under way continues."""
        self._is_paused = paused
        self._start_kept_back()

    def withhold(self, stream: str) -> None:
        """Write nothing of a stream until :meth:`allow`."""
        self._withheld.add(stream)

    def allow(self, stream: str) -> None:
        """Write a stream, whatever was said of it before."""
        self._withheld.discard(stream)
        self._revoked.discard(stream)
        self._start_kept_back()

    def revoke(self, stream: str) -> None:
        """Drop what waits of a stream, and all that follows: it is for another process to write."""
        self._withheld.discard(stream)
        self._revoked.add(stream)
        for queue in [queue for queue in self._queues.values() if stream_of(queue.name) == stream]:
            self._take_out(queue)
            for job in queue.jobs:
                self._drop(job, _revocation(job))
        self._note_written()

    def when_written(self, stream: str) -> Deferred[None]:
        """A Deferred of the caller's own, fired when nothing of a stream waits any more."""
        written: Deferred[None] = Deferred()
        self._unwritten.append((stream, written))
        self._note_written()
        return written

    def _start_kept_back(self) -> None:
        self._ready.extend(self._kept_back)
        self._kept_back.clear()
        self._start_ready()

    def _note_written(self) -> None:
        if self._unwritten:
            left = {stream_of(lane) for lane in self._queues}
            written = [each for each in self._unwritten if each[0] not in left]
            self._unwritten = [each for each in self._unwritten if each[0] in left]
            for _, waiter in written:
                waiter.callback(None)

    def drain(self, timeout_s: float) -> Deferred[bool]:
        """
        Wait until everything is written, ``timeout_s`` seconds at most; then nothing is accepted any more.

        :returns: a Deferred of whether it all was; what was not is lost, and the storage is not called again.
        """
        drained: Deferred[bool] = Deferred()
        self._draining.append((drained, self.clock.callLater(timeout_s, self._abandon)))
        if not self._queues:
            self._close(True)
        return drained

    # ── the queue

    def _refusal(self, job: Job, older: Job | None) -> StorageError | None:
        """Why a job cannot be queued in place of ``older``, if it cannot."""
        if self._closed:
            return StorageError(f"{job.key}: the server is stopping", retryable=False)
        taken = self.pending_bytes - (older.weight if older and not older.unanswered else 0)
        if taken + job.weight > self._max_bytes:
            return StorageError(f"{job.key}: {job.size} bytes, and {taken} of {self._max_bytes} wait already")
        return None

    def _enqueue(self, lane: str, job: Job) -> None:
        self.pending_objects += 1
        self.pending_bytes += job.weight
        if (queue := self._queues.get(lane)) is None:
            queue = self._queues[lane] = LaneQueue(lane)
            self._ready.append(queue)
        queue.add(job)
        if queue.held and job.is_immutable:
            queue.held.cancel()
            queue.held = None
            self._ready.append(queue)
        self._start_ready()

    def _start_ready(self) -> None:
        """Start what can start. A storage that answers at once must not pile up calls: one loop takes them all."""
        if self._starting:
            return
        self._starting = True
        try:
            while self._ready and self._running < self._concurrency:
                queue = self._ready.popleft()
                if self._is_paused or stream_of(queue.name) in self._withheld:
                    self._kept_back.append(queue)
                else:
                    self._start(queue)
        finally:
            self._starting = False

    def _start(self, queue: LaneQueue) -> None:
        job = queue.next(lambda job: self._wait_s(job) <= 0)
        if job is None:
            queue.held = self.clock.callLater(self._wait_s(queue.first), self._delay_over, queue)
        else:
            self._attempt(queue, job)

    def _wait_s(self, job: Job) -> float:
        """How long the storage wants to be left alone with what ``job`` replaces."""
        if job.data is None or job.is_immutable or job.key not in self._put_at:
            return 0.0
        return self._put_at[job.key] + self._replace_interval_s - self.clock.seconds()

    def _note_put(self, job: Job) -> None:
        """Remember when a key was put that may be put again, and forget those for which that is long ago."""
        if self._replace_interval_s and not job.is_immutable and job.data is not None:
            now = self._put_at[job.key] = self.clock.seconds()
            self._put_at.move_to_end(job.key)
            while self._put_at[oldest := next(iter(self._put_at))] <= now - self._replace_interval_s:
                del self._put_at[oldest]

    def _attempt(self, queue: LaneQueue, job: Job) -> None:
        self._note_put(job)
        self.retried_total += job.attempts > 0
        job.attempts += 1
        job.unanswered += 1
        self._running += 1
        attempt = queue.attempt = Attempt(job)
        attempt.timeout = self.clock.callLater(self._timeout_s, self._timed_out, queue)
        attempt.call = maybeDeferred(job.carry_out, self.storage, self._gathering)
        attempt.call.addBoth(self._answered, queue, attempt)

    def _answered(self, result: object, queue: LaneQueue, attempt: Attempt) -> None:
        """Take the storage's answer, which may come when no job waits for it any more."""
        job = attempt.job
        job.unanswered -= 1
        if queue.attempt is not attempt:
            self._release(job)
            return
        self._end_attempt(queue)
        if isinstance(result, Failure):
            self._failed(queue, job, result.value)
        else:
            self._succeeded(queue, job)

    def _timed_out(self, queue: LaneQueue) -> None:
        attempt = self._end_attempt(queue)
        self._cancel(attempt)
        self._failed(queue, attempt.job, StorageError(f"no answer in {self._timeout_s:g} s"))

    def _end_attempt(self, queue: LaneQueue) -> Attempt:
        attempt, queue.attempt = queue.attempt, None
        assert attempt and attempt.timeout  # the caller has seen that one is under way
        if attempt.timeout.active():
            attempt.timeout.cancel()
        self._running -= 1
        self._note_put(attempt.job)
        return attempt

    def _cancel(self, attempt: Attempt) -> None:
        with self._log.failuresHandled("cancelling a call of the storage"):
            if attempt.call:
                attempt.call.cancel()

    def _succeeded(self, queue: LaneQueue, job: Job) -> None:
        queue.remove(job)
        if job.data is None:
            self.deleted_total += 1
        else:
            self.written_total += 1
            self.written_bytes_total += job.size
        self._loss_log.ease()
        self._finish(job)
        for waiter in job.waiters:  # before the queue may close: what they put now belongs to what was asked for
            waiter.callback(None)
        self._leave_job(queue)

    def _failed(self, queue: LaneQueue, job: Job, error: BaseException | None) -> None:
        if getattr(error, "retryable", True) and job.attempts < self._attempts:
            longest = min(self._max_delay_s, self._first_delay_s * 2.0 ** (job.attempts - 1))
            queue.delay = self.clock.callLater(longest * (1 + self._random()) / 2, self._delay_over, queue)
            self._start_ready()
        else:
            queue.remove(job)
            self._lose(job, error)
            self._leave_job(queue)

    def _delay_over(self, queue: LaneQueue) -> None:
        queue.delay = queue.held = None
        self._ready.append(queue)
        self._start_ready()

    def _leave_job(self, queue: LaneQueue) -> None:
        """Turn to the lane's next job, or close the lane."""
        if queue.jobs:
            self._ready.append(queue)
        elif self._queues.pop(queue.name):
            self._note_written()
            if not self._queues and self._draining:
                self._close(True)
        self._start_ready()

    def _lose(self, job: Job, error: BaseException | None) -> None:
        retryable = getattr(error, "retryable", True)
        lost = StorageError(f"{job.key}: lost after {job.attempts} attempts: {error}", retryable=retryable)
        lost.__cause__ = error
        self._count_loss(job, lost)
        self._drop(job, lost)

    def _drop(self, job: Job, error: StorageError) -> None:
        self._finish(job)
        for waiter in job.waiters:
            waiter.errback(error)

    def _count_loss(self, job: Job, error: StorageError) -> None:
        if job.data is None:
            self.undeleted_total += 1
        else:
            self.lost_total += 1
            self.lost_bytes_total += job.size
        self._loss_log.add(job, error)

    def _finish(self, job: Job) -> None:
        job.finished = True
        self.pending_objects -= 1
        self._release(job)

    def _release(self, job: Job) -> None:
        """Give its room back, once neither the queue nor the storage holds it."""
        if job.finished and not job.unanswered:
            self.pending_bytes -= job.weight

    # ── the end

    def _abandon(self) -> None:
        """Lose all that is left; :meth:`drain` has waited long enough."""
        self._closed = True
        for queue in list(self._queues.values()):
            self._take_out(queue)
            for job in queue.jobs:
                self._lose(job, StorageError("the server is stopping"))
        self._note_written()
        self._close(False)

    def _take_out(self, queue: LaneQueue) -> None:
        """Have nothing more to do with a lane; its jobs are the caller's."""
        del self._queues[queue.name]
        for waiting in (self._ready, self._kept_back):
            if queue in waiting:
                waiting.remove(queue)
        for timer in filter(None, (queue.delay, queue.held)):
            timer.cancel()
        if queue.attempt:
            self._cancel(self._end_attempt(queue))

    def _close(self, complete: bool) -> None:
        self._closed = True
        self._loss_log.close()
        draining, self._draining = self._draining, []
        for drained, timeout in draining:
            if timeout.active():
                timeout.cancel()
            drained.callback(complete)


def stream_of(lane: str) -> str:
    """The stream that a lane belongs to: its name up to the last slash."""
    return lane.rpartition("/")[0]


def _revocation(job: Job) -> StorageError:
    return StorageError(f"{job.key}: another server writes this stream now", retryable=False)
