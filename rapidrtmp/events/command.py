"""Events given to a command of the operator's: a process each, with the event as JSON on its standard input."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from rapidrtmp.events.delivery import DeliveryError
from rapidrtmp.events.formats import json_body
from rapidrtmp.interfaces import Event, SpawnProcess

__all__ = ["Command", "command_environment"]

#: Variables that begin so are ours, and may hold secrets.
_OURS = "RAPIDRTMP_"
#: So much of what a command says on its standard error is read, to log the end of it.
MOST_SAID_BYTES = 4096


def command_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of commands: our own, but for our settings."""
    return {name: value for name, value in environment.items() if not name.startswith(_OURS)}


class Command:
    """
    One command.

    :param words: the program, looked for on the PATH, and its arguments; there is no shell.
    :param timeout_s: how long it may take before it is killed.
    """

    def __init__(self, words: Sequence[str], timeout_s: float, *, clock: IReactorTime, spawn: SpawnProcess) -> None:
        self._words = words
        self._timeout_s = timeout_s
        self._clock = clock
        self._spawn = spawn

    def send(self, event: Event) -> Deferred[None]:
        """Run it; fails with ``DeliveryError`` if it does not exit with 0."""
        running = _Running(json_body(event).data + b"\n", self._timeout_s, self._clock)
        environment = {
            **command_environment(os.environ),
            "RAPIDRTMP_EVENT": event.type.value,
            "RAPIDRTMP_EVENT_ID": str(event.id),  # the same in each attempt
        }
        try:
            self._spawn(running, self._words[0], list(self._words), environment, childFDs={0: "w", 1: "r", 2: "r"})
        except OSError as error:
            raise DeliveryError(f"cannot be started: {error.strerror or error}") from error
        return running.done


class _Running(ProcessProtocol):
    """A process, from its start to its end."""

    transport: Any

    def __init__(self, given: bytes, timeout_s: float, clock: IReactorTime) -> None:
        self.done: Deferred[None] = Deferred(lambda _: self._kill())
        self._given = given
        self._timeout_s = timeout_s
        self._clock = clock
        self._said = b""
        self._is_late = False
        self._deadline: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Give it the event."""
        self._deadline = self._clock.callLater(self._timeout_s, self._time_out)
        self.transport.write(self._given)
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        """What it says is not for us."""

    def errReceived(self, data: bytes) -> None:
        """Keep the end of what it complains of."""
        self._said = (self._said + data)[-MOST_SAID_BYTES:]

    def processEnded(self, reason: Failure) -> None:
        """See how it went."""
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        if self.done.called:
            return
        if reason.check(ProcessDone):
            self.done.callback(None)
        else:
            self.done.errback(DeliveryError(self._why(reason)))

    def _why(self, reason: Failure) -> str:
        if self._is_late:
            return f"was killed: it took longer than {self._timeout_s:g} s"
        ended = reason.value
        code, signal = getattr(ended, "exitCode", None), getattr(ended, "signal", None)
        how = f"exit status {code}" if code is not None else f"signal {signal}"
        lines = self._said.decode("utf-8", "replace").strip().splitlines()
        return f"{how}: {lines[-1][:200]}" if lines else how

    def _time_out(self) -> None:
        self._is_late = True
        self._kill()

    def _kill(self) -> None:
        try:
            self.transport.signalProcess("KILL")
        except Exception:  # it has ended already
            return
