"""
Whether this server should be sent clients now, and if not, why not.

Each check has a name, a yes or no, and a reason in words. Some are told from outside (it listens; it is draining),
two watch by themselves: how late the reactor runs its timers, and whether the storage takes, knows and deletes a tiny
object. All of that happens outside any request: asking costs nothing and waits for nothing.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from rapidrtmp.errors import StorageError
from rapidrtmp.interfaces import IStorage

__all__ = ["Check", "Readiness"]

LAG_INTERVAL_S = 1.0
LAG_LIMIT_MS = 500
#: So many measurements in a row must be late: one long garbage collection is no reason to move traffic away.
LAG_SUSTAINED = 3
PROBE_INTERVAL_S = 15.0
PROBE_TIMEOUT_S = 10.0
#: What the keys of probes begin with: no application's name begins with a dot.
PROBE_PREFIX = ".readiness/"
#: So many probes in a row must fail, once one has succeeded: backends fail now and then and are retried.
PROBE_FAILURES = 2


@dataclass(frozen=True, slots=True)
class Check:
    """
    One reason to be ready, or not.

    :ivar reason: for an operator; says nothing that a stranger must not know.
    """

    name: str
    ok: bool
    reason: str


class Readiness:
    """
    The checks of one server.

    :param probe_key: where probes are written; no two servers on one storage may share it.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, probe_key: str = "") -> None:
        self._clock = clock
        self._probe_key = probe_key or f"{PROBE_PREFIX}{uuid.uuid4().hex}"
        self._checks: dict[str, Check] = {}
        self._lags_ms: deque[int] = deque([0], maxlen=LAG_SUSTAINED)
        self._probes_failed = PROBE_FAILURES
        self._probing: Deferred[None] | None = None
        self._timers: dict[str, IDelayedCall] = {}
        self.set("listening", False, "not listening yet")
        self.set("draining", True, "not shutting down")

    @property
    def is_ready(self) -> bool:
        """Whether every check is a yes."""
        return all(check.ok for check in self.checks())

    def checks(self) -> tuple[Check, ...]:
        """Every check as it stands now."""
        return (*self._checks.values(), self._check_lag())

    @property
    def lag_ms(self) -> int:
        """How late the last timer of the reactor ran, in milliseconds."""
        return self._lags_ms[-1]

    # ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────────

    def set(self, name: str, ok: bool, reason: str) -> None:
        """Say how the check of that name stands; a new name is a new check."""
        self._checks[name] = Check(name, ok, reason)

    def listening(self) -> None:
        """Every port is open."""
        self.set("listening", True, "listening")

    def drain(self) -> None:
        """The server is about to stop: send nobody here any more."""
        self.set("draining", False, "shutting down")

    # ── what is watched ──────────────────────────────────────────────────────────────────────────────────────────────

    def start(self, storage: IStorage | None = None) -> None:
        """Begin to watch the reactor, and the storage if there is one."""
        self._await_timer()
        if storage is not None:
            self.set("storage", False, "not tried yet")
            self._probe(storage)

    def stop(self) -> None:
        """Watch no more; a probe under way is given up."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self._probing is not None:
            self._probing.cancel()

    def _after(self, seconds: float, call: Callable[..., None], *arguments: object) -> None:
        self._timers[call.__name__] = self._clock.callLater(seconds, call, *arguments)

    # the reactor

    def _await_timer(self) -> None:
        self._after(LAG_INTERVAL_S, self._timer_ran, self._clock.seconds() + LAG_INTERVAL_S)

    def _timer_ran(self, due_s: float) -> None:
        self._lags_ms.append(max(round((self._clock.seconds() - due_s) * 1000), 0))
        self._await_timer()

    def _check_lag(self) -> Check:
        least_ms = min(self._lags_ms)
        if len(self._lags_ms) == LAG_SUSTAINED and least_ms > LAG_LIMIT_MS:
            return Check("reactor", False, f"timers run {least_ms} ms late or more, limit {LAG_LIMIT_MS} ms")
        return Check("reactor", True, f"the last timer ran {self.lag_ms} ms late")

    # the storage

    def _probe(self, storage: IStorage) -> None:
        self._probing = Deferred.fromCoroutine(self._try(storage)).addTimeout(PROBE_TIMEOUT_S, self._clock)
        self._probing.addCallbacks(self._probe_succeeded, self._probe_failed)
        self._probing.addCallback(self._probe_again, storage)
        self._probing.addErrback(lambda failure: failure.trap(CancelledError))

    async def _try(self, storage: IStorage) -> None:
        body = b"ready?"
        await storage.put(self._probe_key, body, "text/plain", "no-store")
        info = await storage.stat(self._probe_key)
        if info.size != len(body):
            raise StorageError(f"{self._probe_key}: {info.size} bytes, {len(body)} were put")
        await storage.delete(self._probe_key)

    def _probe_succeeded(self, _: None) -> None:
        self._probes_failed = 0
        self.set("storage", True, "takes, knows and deletes objects")

    def _probe_failed(self, failure: Failure) -> Failure | None:
        if failure.check(CancelledError):
            return failure
        self._probes_failed += 1
        late = failure.check(TimeoutError) is not None
        reason = f"does not answer within {PROBE_TIMEOUT_S:g} s" if late else "fails"
        if self._probes_failed >= PROBE_FAILURES:
            if self._checks["storage"].reason != reason:
                self._log.error("the storage {reason}: {error}", reason=reason, error=failure.value)
            self.set("storage", False, reason)
        return None

    def _probe_again(self, _: None, storage: IStorage) -> None:
        self._after(PROBE_INTERVAL_S, self._probe, storage)
