"""
Whether this server should be sent clients now, and if not, why not.

Each check has a name, a yes or no, and a reason in words. Some are set from outside (it listens; it is draining),
the others watch by themselves: how late the reactor runs its timers, and whether each storage takes, knows and deletes
a tiny object. All of that happens outside any request: asking costs nothing and waits for nothing.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from rapidrtmp.interfaces import IStorage
from rapidrtmp.storage.probe import PROBE_PREFIX, StorageProbe

__all__ = ["Check", "Readiness"]

LAG_INTERVAL_S = 1.0
LAG_LIMIT_MS = 500
#: So many measurements in a row must be late: one long garbage collection is no reason to move traffic away.
LAG_SUSTAINED = 3


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

    :param probe_key: what the keys of probes begin with; no two servers on one storage may share it.
    """

    def __init__(self, clock: IReactorTime, probe_key: str = "") -> None:
        self._clock = clock
        self._probe_key = probe_key or f"{PROBE_PREFIX}{uuid.uuid4().hex}"
        self._probes: dict[str, StorageProbe] = {}
        self._probed = count()
        self._checks: dict[str, Check] = {}
        self._lags_ms: deque[int] = deque([0], maxlen=LAG_SUSTAINED)
        self._timer: IDelayedCall | None = None
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
    def has_started(self) -> bool:
        """Whether the server has come up and lets clients in, draining or not."""
        return self._checks["listening"].ok

    @property
    def lag_ms(self) -> int:
        """How late the last timer of the reactor ran, in milliseconds."""
        return self._lags_ms[-1]

    @property
    def lasting_lag_ms(self) -> int:
        """How late the reactor has been for some seconds, in milliseconds; 0 if that did not last."""
        return min(self._lags_ms) if len(self._lags_ms) == LAG_SUSTAINED else 0

    # ── what is set ─────────────────────────────────────────────────────────────────────────────────────────────────

    def set(self, name: str, ok: bool, reason: str) -> None:
        """Say how the check of that name stands; a new name is a new check."""
        self._checks[name] = Check(name, ok, reason)

    def listening(self) -> None:
        """Every port is open."""
        self.set("listening", True, "listening")

    def drain(self) -> None:
        """The server is about to stop: send no client here any more."""
        self.set("draining", False, "shutting down")

    # ── what is watched ──────────────────────────────────────────────────────────────────────────────────────────────

    def start(self, storages: Mapping[str, IStorage]) -> None:
        """Begin to watch the reactor and the storages; the name of each becomes that of its check."""
        self._await_timer()
        self.watch(storages)

    def watch(self, storages: Mapping[str, IStorage]) -> None:
        """Watch these storages, by name, and no others."""
        for name in self._probes.keys() - storages:
            self._probes.pop(name).stop()
            del self._checks[name]
        for name, storage in storages.items():
            if name not in self._probes:
                self.set(name, False, "not tried yet")
                key = f"{self._probe_key}-{next(self._probed)}"  # two may be one and the same place
                self._probes[name] = StorageProbe(name, storage, key, self._clock, partial(self.set, name))
                self._probes[name].start()

    def stop(self) -> None:
        """Watch no more; a probe under way is given up."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._probes:
            self._probes.popitem()[1].stop()

    def _await_timer(self) -> None:
        due_s = self._clock.seconds() + LAG_INTERVAL_S
        self._timer = self._clock.callLater(LAG_INTERVAL_S, self._timer_ran, due_s)

    def _timer_ran(self, due_s: float) -> None:
        self._lags_ms.append(max(round((self._clock.seconds() - due_s) * 1000), 0))
        self._await_timer()

    def _check_lag(self) -> Check:
        least_ms = self.lasting_lag_ms
        if least_ms > LAG_LIMIT_MS:
            return Check("reactor", False, f"timers run {least_ms} ms late or more, limit {LAG_LIMIT_MS} ms")
        return Check("reactor", True, f"the last timer ran {self.lag_ms} ms late")
